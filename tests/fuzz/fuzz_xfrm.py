"""The netlink parser of XFRM under atheris (libFuzzer): ``python tests/fuzz/fuzz_xfrm.py [libFuzzer options]``.

Needs the package atheris, which the project itself does not. Starts from what iproute2 sends; what it finds on the way
is kept in build/fuzz/xfrm, and a failing input is written where libFuzzer says.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import atheris  # noqa: E402

with atheris.instrument_imports(include=["appliance.datapath.kernel.xfrm"]):
    from tests.fuzz.xfrm_target import one_input, seed


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    found = seed(ROOT / "build" / "fuzz" / "xfrm")
    atheris.Setup([*sys.argv, str(found)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
