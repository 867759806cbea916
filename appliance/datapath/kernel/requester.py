"""Requests to the kernel from an event loop: one thread asks, in order, so that the loop never waits for a driver."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from appliance.datapath.kernel.xfrm import Answer, NoAnswer, Policy, State, XfrmError, XfrmSocket, wipe
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathRefusal

T = TypeVar("T")


class Requester:
    """One netlink socket and the thread that uses it, in the network namespace of the calling thread.

    Raises DatapathRefusal: NO_XFRM, NO_PRIVILEGE.
    """

    def __init__(self, socket: XfrmSocket | None = None) -> None:
        try:
            self._socket = XfrmSocket() if socket is None else socket
        except OSError as error:
            raise refusal_of(error, "opening its netlink socket") from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="xfrm")
        self._thread.submit(int).result()  # now, so that it is in this thread's namespace
        self._closed = False

    @property
    def port(self) -> int:
        """Which events came of our own requests."""
        return self._socket.port

    async def run(self, work: Callable[[XfrmSocket], T]) -> T:
        """Do something with the socket, after all that was asked before. Raises what it raises."""
        if self._closed:
            raise DatapathRefusal(Reason.DATAPATH_GONE, "it was closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._socket)

    async def batch(self, requests: Sequence[bytearray]) -> list[Answer]:
        """Send requests and wipe them, also if nobody waits any more: until then the thread reads them.

        Not for keys: what was never sent is not wiped. Raises OSError for a dead socket.
        """

        def work(socket: XfrmSocket) -> list[Answer]:
            try:
                return socket.batch(requests)
            finally:
                for request in requests:
                    wipe(request)

        return await self.run(work)

    async def states(self) -> list[State]:
        """All SAs there are. Raises OSError."""
        return await self.run(lambda socket: socket.states())

    async def policies(self) -> list[Policy]:
        """All policies there are. Raises OSError."""
        return await self.run(lambda socket: socket.policies())

    def close(self) -> None:
        """Close the socket after what was asked, which is not waited for. Idempotent."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._socket.close)
            self._thread.shutdown(wait=False)


def refusal_of(error: OSError, what: str, reason: Reason = Reason.KERNEL_REFUSED) -> DatapathRefusal:
    """The kernel's refusal in the words of the list; ``reason`` where its number says nothing better."""
    in_doubt = isinstance(error, NoAnswer)
    words = str(error) if isinstance(error, XfrmError) else (error.strerror or str(error))
    if in_doubt:
        return DatapathRefusal(Reason.DATAPATH_TIMEOUT, f"{what}: {words}", in_doubt=True)
    if reason is Reason.KERNEL_REFUSED:
        reason = _REASONS.get(error.errno or 0, reason)
    return DatapathRefusal(reason, f"{what}: {words}")


_REASONS = {
    errno.EPERM: Reason.NO_PRIVILEGE,
    errno.EACCES: Reason.NO_PRIVILEGE,
    errno.EEXIST: Reason.ALREADY_INSTALLED,
    errno.ESRCH: Reason.NOT_INSTALLED,
    errno.ENOENT: Reason.NOT_INSTALLED,
    errno.ENOSYS: Reason.ALGORITHM_UNSUPPORTED,
    errno.ENOBUFS: Reason.TABLE_FULL,
    errno.ENOMEM: Reason.TABLE_FULL,
    errno.ENOSPC: Reason.TABLE_FULL,
    errno.EPROTONOSUPPORT: Reason.NO_KERNEL_ESP,
}
