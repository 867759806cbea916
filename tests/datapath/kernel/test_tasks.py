"""What a datapath does by itself goes on after a refusal, and ends for good."""

from __future__ import annotations

import asyncio

from appliance.datapath.kernel.tasks import Tasks
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathRefusal


def test_what_is_done_again_and_again_goes_on_after_a_refusal_until_all_is_cancelled() -> None:
    refused: list[Reason] = []
    done: list[int] = []

    async def body() -> None:
        tasks = Tasks(lambda refusal: refused.append(refusal.reason), lambda error: None)
        enough = asyncio.Event()

        async def work() -> None:
            done.append(len(done))
            if len(done) == 5:
                enough.set()
            if len(done) % 2:
                raise DatapathRefusal(Reason.KERNEL_REFUSED, "")

        tasks.every(0.001, work)
        async with asyncio.timeout(5):
            await enough.wait()
        await asyncio.sleep(0)
        tasks.cancel()
        count = len(done)
        await asyncio.sleep(0.01)
        assert len(done) == count

    asyncio.run(body())
    assert refused[:2] == [Reason.KERNEL_REFUSED] * 2


def test_an_error_of_the_socket_is_told_apart() -> None:
    failed: list[OSError] = []

    async def body() -> None:
        tasks = Tasks(lambda refusal: None, failed.append)

        async def work() -> None:
            raise OSError("gone")

        tasks.start(work)
        await asyncio.sleep(0.01)

    asyncio.run(body())
    assert [str(error) for error in failed] == ["gone"]
