"""The IKE message parser under atheris (libFuzzer): ``python tests/fuzz/fuzz_message.py [libFuzzer options]``.

Needs the package atheris, which the project itself does not. Starts from the corpus in tests/ike/corpus; what it finds
on the way is kept in build/fuzz/message, and a failing input is written where libFuzzer says.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import atheris  # noqa: E402

with atheris.instrument_imports(include=["appliance.ike", "appliance.sa"]):
    from tests.fuzz.corpus import seed
    from tests.fuzz.message_targets import one_input


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    found = seed(ROOT / "build" / "fuzz" / "message")
    atheris.Setup([*sys.argv, str(found)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
