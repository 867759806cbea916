"""The kernel datapath keeps the contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from appliance.reasons import Reason
from tests.datapath.contract import DatapathContract
from tests.datapath.kernel.gateways import kernel_pair
from tests.datapath.pair import Pair


class TestKernelDatapath(DatapathContract):
    # The kernel forgets an SA whose time is over, and its policy blocks.
    after_hard_limit = (Reason.LIFETIME_EXPIRED, Reason.POLICY_DISCARD)

    def two(self) -> AbstractAsyncContextManager[Pair]:
        return kernel_pair()
