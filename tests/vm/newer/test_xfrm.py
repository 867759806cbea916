"""The XFRM library once more, on a kernel that has all that it knows: nothing is skipped here."""

from __future__ import annotations

import pytest

from tests.vm.inside.test_xfrm import *


@pytest.fixture(autouse=True)
def nothing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came after 6.12 is what this kernel is for."""
    monkeypatch.setattr(pytest, "skip", pytest.fail)
