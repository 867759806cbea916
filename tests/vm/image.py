"""The disks of the virtual machine: Debian 13 with one of its cloud kernels, built once for each recipe and kept.

What is in them is said here and nowhere else. The tree under test is not: it comes on a disk of its own at each boot.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import hashlib
import json
import lzma
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.vm.cpio import Archive

ROOT = Path(__file__).parents[2]
SUITE = "trixie"
PACKAGES = (
    "linux-image-cloud-amd64",
    "busybox-static",
    "charon-systemd",
    "ethtool",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libcharon-extra-plugins",
    "libstrongswan-extra-plugins",
    "libstrongswan-standard-plugins",
    "nftables",
    "procps",
    "python3",
    "strongswan-swanctl",
    "util-linux",
)
BUILDING = ("gcc", "linux-headers-cloud-amd64", "linux-source", "make", "patch")
"""What from-source.sh works with, and removes."""
PYTHON = "3.13"
"""Debian 13's."""
NOT_INSIDE = ("mypy", "ruff")
SIZE = "2G"
PLACE = "opt/python"
"""Where Python packages are, from the root."""
COMMANDS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
}
HERE = Path(__file__).parent
PARTS = ("image.py", "cpio.py", "initrd-init.sh", "from-source.sh", "netdevsim-lifted.patch")
"""Files of this folder that the disk, or the initial RAM disk, is made by."""
KEEP = 14 * 86400.0
"""Seconds that a disk of another recipe is kept for whoever still boots from it: it is half a gigabyte."""
SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class ImageError(Exception):
    """The machine's disk could not be built; the text has the command and the end of what it said."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One of Debian's kernels; the rest of its disk is the same."""

    suite: str
    """Where packages of the kernel are from; others are from SUITE."""
    lacks: tuple[str, ...]
    """What from-source.sh makes for it."""


STABLE = Kernel(SUITE, ("netdevsim", "selftests"))
NEWER = Kernel(f"{SUITE}-backports", ("iptfs",))
"""Whichever is the newest there when the disk is built."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine boots from."""

    kernel: Path
    initrd: Path
    disk: Path


@functools.cache
def why_not(kernel: Kernel = STABLE) -> str | None:
    """Why no virtual machine with that kernel can be had here, or None. Tests skip with these words.

    A disk that could be built and then is not, as without a Debian mirror in reach, is no reason but an ImageError.
    """
    if platform.machine() != "x86_64":
        return f"the virtual machine is x86-64, and this is {platform.machine()}"
    missing = [package for command, package in COMMANDS.items() if shutil.which(command, path=SBIN) is None]
    if missing:
        return f"missing for a virtual machine: {', '.join(missing)} (tools/setup.sh system vm)"
    place = _place(kernel)
    if not _is_root() and not place.exists():
        what = f"the virtual machine's disk with the kernel of {kernel.suite}"
        return f"only root builds {what}, and there is none in {place.parent}"
    return None


def image(kernel: Kernel = STABLE) -> Image:
    """The image of the recipe as it is now, from the cache or built. Raises ImageError."""
    place = _place(kernel)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.parent / "lock"):
        if not place.exists():
            building = place.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            try:
                _build(building, kernel)
                building.rename(place)
            finally:
                shutil.rmtree(building, ignore_errors=True)
            prune(place.parent)
        with suppress(PermissionError):  # it is somebody else's
            os.utime(place)
    return Image(place / "vmlinuz", place / "initrd", place / "disk")


def prune(cache: Path) -> None:
    """Remove what no machine booted from for long. The cache's lock is held: who gets an image has touched it."""
    for old in cache.glob("vm-*"):
        if old.stat().st_mtime < time.time() - KEEP:
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink()


def requirements() -> list[str]:
    """What the tests inside import, as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted: list[str] = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [line for line in wanted if not line.startswith(NOT_INSIDE)]


def _place(kernel: Kernel) -> Path:
    recipe = json.dumps([asdict(kernel), requirements(), *((HERE / part).read_text() for part in PARTS)])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "esplanade" / f"vm-{digest}"


def _is_root() -> bool:
    """Root that may own files as any user. In a user namespace of tools/with-net.sh there is but one user."""
    maps = Path("/proc/self/uid_map").read_text().splitlines()
    return os.geteuid() == 0 and sum(int(line.split()[2]) for line in maps) >= 1 << 16


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)  # it may be somebody else's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(place: Path, kernel: Kernel) -> None:
    root = place / "root"
    wanted = ",".join((*PACKAGES, *BUILDING))
    hooks = [f"--setup-hook={hook}" for hook in _hooks(kernel)]
    _run(["mmdebstrap", "--quiet", "--variant=apt", *hooks, f"--include={wanted}", SUITE, str(root)])
    # Wheels only: nothing of the machine's has to run, so the host's Python may be another.
    _run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
            "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", "--no-compile",
            "--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64", f"--target={root / PLACE}",
            *requirements(),
        ]
    )  # fmt: skip
    [vmlinuz] = (root / "boot").glob("vmlinuz-*")
    version = vmlinuz.name.removeprefix("vmlinuz-")
    shutil.copy(vmlinuz, place / "vmlinuz")
    for part in ("from-source.sh", "netdevsim-lifted.patch"):
        shutil.copy(HERE / part, root / "tmp")
    make = ["chroot", str(root), "sh", "/tmp/from-source.sh", version, " ".join(kernel.lacks), *PACKAGES]
    if kernel is not STABLE:  # since then objtool reads /proc; 6.12's does without, also where nothing may be mounted
        make = ["unshare", "--mount", "sh", "-c", 'mount -t proc proc "$0/proc" && exec "$@"', str(root), *make]
    _run(make)
    [block] = (root / "lib/modules" / version).rglob("virtio_blk.ko*")
    data = block.read_bytes()
    (place / "initrd").write_bytes(_initrd(root, lzma.decompress(data) if block.suffix == ".xz" else data))
    # Compiled here by nobody: done inside at the first boot it would be done at each.
    _run(["chroot", str(root), "python3", "-m", "compileall", "-q", f"/{PLACE}"], check=False)
    for waste in ("boot", "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / waste, ignore_errors=True)
    with (place / "disk").open("wb"):
        _run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", str(root), str(place / "disk"), SIZE])
    shutil.rmtree(root)


def _hooks(kernel: Kernel) -> Iterator[str]:
    """Have apt take the kernel's packages from its suite, at the mirror that mmdebstrap chose."""
    if kernel.suite != SUITE:
        lines = f"s/ {SUITE} / {kernel.suite} /p"
        yield f'sed -n "{lines}" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/{kernel.suite}.list"'
        pin = rf"Package: linux-*\nPin: release n={kernel.suite}\nPin-Priority: 600\n"
        yield f"""printf '{pin}' >"$1/etc/apt/preferences.d/kernel\""""


def _initrd(root: Path, block: bytes) -> bytes:
    """The one module that the kernel lacks for its disk, and a shell that loads it and goes on there."""
    archive = Archive()
    for folder in ("bin", "dev", "root"):
        archive.folder(folder)
    archive.file("bin/busybox", (root / "bin/busybox").read_bytes(), 0o755)
    archive.file("virtio_blk.ko", block, 0o644)
    archive.file("init", (HERE / "initrd-init.sh").read_bytes(), 0o755)
    return gzip.compress(archive.finish(), 1, mtime=0)


def _run(argv: list[str], *, check: bool = True) -> None:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**os.environ, "PATH": SBIN}
    )
    if check and done.returncode != 0:
        end = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        raise ImageError(f"{' '.join(argv[:6])} … ended with {done.returncode}:\n{end}")
