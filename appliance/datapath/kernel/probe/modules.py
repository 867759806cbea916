"""Kernel modules: whether one that is missing could be loaded."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/")


def why_not_loaded(name: str, root: Path = ROOT) -> str:
    """What can be said of a module that does not do its work, such as "esp4 is there: modprobe esp4"."""
    release = os.uname().release
    folder = root / "lib/modules" / release
    if (root / "sys/module" / name).is_dir():
        return f"the module {name} is loaded"
    try:
        if (root / "proc/sys/kernel/modules_disabled").read_text().strip() == "1":
            return f"{name} is not loaded and no module can be any more (kernel.modules_disabled)"
        listed = (folder / "modules.dep").read_text(errors="replace")
    except OSError:
        return f"it is not built in, and there are no modules for {release}"
    if f"/{name}.ko" in listed:
        return f"the module {name} is there and was not loaded: modprobe {name}"
    return f"there is no module {name} for {release}"
