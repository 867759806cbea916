"""One boot: a tree and a command go in, an exit status and files come out. QEMU without KVM, so it runs anywhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import ROOT, SBIN, STABLE, Kernel, image

ROOM = 256 << 20
"""Bytes of the disk for results; it is sparse."""


class MachineError(Exception):
    """The machine did not come to its end; the text has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back. ``files`` by name, without those of no size; ``seconds`` is for the whole boot."""

    status: int
    output: str
    files: dict[str, bytes]
    seconds: float


def run(command: str, *, kernel: Kernel = STABLE, timeout: float = 600.0, memory: int = 1536) -> Outcome:
    """Boot, run a shell command in a copy of this tree, power off. ``memory`` in MiB.

    Raises MachineError and ImageError.
    """
    booted = image(kernel)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="esplanade-vm-") as name:
        place = Path(name)
        tree, results, console = place / "tree", place / "results", place / "console"
        _pack(tree, command)
        with results.open("wb") as file:
            file.truncate(ROOM)
        # With a thread for each CPU the kernel fell now and then of an "int3" in code that the other one had just
        # patched (static keys), as soon as 1.3 s after power on; one thread for both takes no longer.
        acceleration = os.environ.get("ESPLANADE_VM_ACCEL", "tcg,thread=single")
        argv = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-accel", acceleration, "-cpu", "max" if acceleration.startswith("tcg") else "host",
            "-smp", "2", "-m", str(memory), "-serial", f"file:{console}", "-device", "virtio-rng-pci",
            "-kernel", str(booted.kernel), "-initrd", str(booted.initrd),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
            "-drive", f"file={booted.disk},format=raw,if=virtio,snapshot=on",
            "-drive", f"file={tree},format=raw,if=virtio,readonly=on",
            "-drive", f"file={results},format=raw,if=virtio,cache=unsafe",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
                env={"PATH": SBIN, "TMPDIR": name},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MachineError(f"not done within {timeout:.0f} s; it said:\n{_end(console)}") from None
        if done.returncode != 0:
            raise MachineError(f"QEMU ended with {done.returncode}: {done.stderr.strip()}")
        files = _unpack(results)
        if "status" not in files:
            raise MachineError(f"no results; it said:\n{_end(console)}")
    return Outcome(
        int(files.pop("status")), files.pop("output", b"").decode(errors="replace"), files, time.monotonic() - began
    )


def _pack(target: Path, command: str) -> None:
    """The files that git knows or would add, and the command."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(set(os.fsdecode(listed.stdout).split("\0"))):
            if name and (ROOT / name).is_file():
                archive.add(ROOT / name, name)
        data = command.encode() + b"\n"
        entry = tarfile.TarInfo(".vm-command")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    # Disks are of whole sectors.
    with target.open("ab") as file:
        file.truncate(-(-target.stat().st_size // 4096) * 4096)


def _unpack(results: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(results, "r:") as archive:
            for entry in archive:
                content = archive.extractfile(entry)
                if content is not None:
                    files[entry.name.removeprefix("./")] = content.read()
    except tarfile.ReadError:
        return {}
    return {name: data for name, data in files.items() if data}


def _end(console: Path) -> str:
    text = console.read_text(errors="replace") if console.exists() else ""
    lines = text.splitlines()
    # A kernel that fell tells why first, and then much else.
    fell = next((at for at, line in enumerate(lines) if "BUG:" in line or "Oops" in line), len(lines) - 21)
    return "\n".join(lines[max(0, fell - 4) : fell + 60])
