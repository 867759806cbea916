"""The cache of disks, and what says why there is no machine; no disk is built here."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import image


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image, "COMMANDS", {"sh": "dash"})
    image.why_not.cache_clear()
    (tmp_path / "esplanade").mkdir()
    yield tmp_path / "esplanade"
    image.why_not.cache_clear()


def made(path: Path, *, days: float) -> Path:
    path.mkdir()
    (path / "disk").write_bytes(b"disk")
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


def test_building_a_disk_removes_those_that_nobody_used_for_long(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_build", lambda place, kernel: (place / "disk").write_bytes(b"new"))
    old, recent, other = (
        made(cache / name, days=days) for name, days in (("vm-old", 20), ("vm-recent", 3), ("other", 99))
    )
    booted = image.image()
    assert booted.disk.read_bytes() == b"new"
    assert not old.exists() and recent.exists() and other.exists()


def test_a_disk_that_is_used_is_kept(cache: Path) -> None:
    used = made(image._place(image.STABLE), days=20)
    assert image.image().disk == used / "disk"
    image.prune(cache)
    assert used.exists()


def test_each_kernel_has_a_disk_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_build", lambda place, kernel: (place / "disk").write_text(kernel.suite))
    assert image.image(image.NEWER).disk.read_text() == "trixie-backports"
    assert image.image().disk.read_text() == "trixie"
    monkeypatch.setattr(image, "_is_root", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    shutil.rmtree(image._place(image.NEWER))
    assert image.why_not(image.STABLE) is None
    assert "kernel of trixie-backports" in (image.why_not(image.NEWER) or "")


def test_a_disk_that_cannot_be_built_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(place: Path, kernel: image.Kernel) -> None:
        (place / "half").write_bytes(b"")
        raise image.ImageError("no mirror")

    monkeypatch.setattr(image, "_build", fails)
    with pytest.raises(image.ImageError, match="no mirror"):
        image.image()
    assert list(cache.glob("vm-*")) == []


def test_the_reasons_for_no_machine_say_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(image, "_is_root", lambda: False)
    assert f"there is none in {cache}" in (image.why_not() or "")
    made(image._place(image.STABLE), days=0)
    image.why_not.cache_clear()
    assert image.why_not() is None
    monkeypatch.setattr(image, "COMMANDS", {"no-such-qemu": "qemu-system-x86"})
    image.why_not.cache_clear()
    assert "qemu-system-x86 (tools/setup.sh system vm)" in (image.why_not() or "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    image.why_not.cache_clear()
    assert "riscv64" in (image.why_not() or "")
