"""The kernel datapath keeps the contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tests.datapath.contract import DatapathContract
from tests.datapath.kernel.gateways import kernel_pair
from tests.datapath.pair import Pair


class TestKernelDatapath(DatapathContract):
    def two(self) -> AbstractAsyncContextManager[Pair]:
        return kernel_pair()
