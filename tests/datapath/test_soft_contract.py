"""The soft datapath keeps the contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from tests.datapath.contract import DatapathContract
from tests.datapath.pair import Pair, pair
from tests.lab.namespace import why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class TestSoftDatapath(DatapathContract):
    def two(self) -> AbstractAsyncContextManager[Pair]:
        return pair()
