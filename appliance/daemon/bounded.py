"""Answers of datapaths, waited for so long and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from appliance.reasons import Reason
from appliance.sa.datapath import DatapathRefusal

ANSWER_SECONDS = 6.0
"""How long a datapath may take to answer; its client gives up a little earlier, and knows better why."""
_T = TypeVar("_T")


async def bounded(work: Awaitable[_T], what: str, *, in_doubt: bool = False, seconds: float = ANSWER_SECONDS) -> _T:
    """Await a datapath for so many seconds at most. Raises DatapathRefusal(DATAPATH_TIMEOUT)."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise DatapathRefusal(
            Reason.DATAPATH_TIMEOUT, f"no answer to {what} in {seconds:g} s", in_doubt=in_doubt
        ) from None
