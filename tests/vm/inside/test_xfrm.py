"""tests/datapath/kernel/xfrm/test_kernel.py where the kernel has ESP: what it skips elsewhere has to run here."""

from __future__ import annotations

import pytest

from appliance.datapath.kernel.xfrm import XfrmSocket, requests
from tests.datapath.kernel.xfrm.test_kernel import *
from tests.datapath.kernel.xfrm.test_kernel import STATE

pytestmark = pytest.mark.essential


@pytest.fixture
def esp(xfrm: XfrmSocket) -> None:
    """In place of that module's, which skips."""
    xfrm.do(requests.new_state(STATE))
    xfrm.do(requests.flush_states())
