"""Verilator has nothing to say about any module of the RTL."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.tb.lint import lint, modules


@pytest.mark.parametrize("module", modules(), ids=lambda path: path.stem)
def test_a_module_is_clean(module: Path) -> None:
    assert lint(module) == ""
