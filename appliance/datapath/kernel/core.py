"""What the parts of the kernel datapath share: its tables, the way to the kernel, and what the daemon is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.filters import Owner
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.sad import Reqids, Sad
from appliance.datapath.kernel.spd import Spd
from appliance.datapath.kernel.states import Features
from appliance.datapath.kernel.survivors import Survivors
from appliance.datapath.kernel.tasks import Tasks
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction, SaKey
from appliance.sa.datapath import Changed, DatapathEvent, DatapathRefusal, Failed


class Core:
    """Who changes claims, SAs or what the kernel has of them holds ``lock``.

    ``requester`` is there from the start on to the end; ``features``, ``reqids`` and ``survivors`` are what the start
    found.
    """

    def __init__(self, options: KernelOptions, demultiplexer: Demultiplexer | None) -> None:
        self.options = options
        self.lock = asyncio.Lock()
        self.sad = Sad()
        self.spd = Spd()
        self.features = Features()
        self.reqids = Reqids(0)
        self.survivors = Survivors((), ())
        self.requester: Requester | None = None
        self.events: asyncio.Queue[DatapathEvent | None] = asyncio.Queue()
        self.counted: dict[str, int] = {}
        self.tasks = Tasks(self._not_put_right, self.failed)
        self._demultiplexer = demultiplexer

    @property
    def asked(self) -> Requester:
        """Who asks the kernel. Raises DatapathRefusal(DATAPATH_GONE)."""
        if self.requester is None:
            raise DatapathRefusal(Reason.DATAPATH_GONE, "it was not started or has ended")
        return self.requester

    def alive(self) -> None:
        """Raise DatapathRefusal(DATAPATH_GONE) if it was not started or has ended."""
        self.asked  # noqa: B018 - the property raises

    # The daemon

    def tell(self, event: DatapathEvent) -> None:
        """An event of the contract."""
        self.events.put_nowait(event)

    def failed(self, error: OSError) -> None:
        """The kernel does not speak to us any more."""
        self.tell(Failed(Reason.DATAPATH_GONE, str(error)))
        self.tell_end()

    def tell_end(self) -> None:
        """No more events."""
        self.events.put_nowait(None)

    def _not_put_right(self, refusal: DatapathRefusal) -> None:
        self.tell(Changed(refusal.reason, f"not put right: {refusal.detail}"))

    # The packets of inbound SAs

    def open_demultiplexer(self) -> None:
        """Open the sockets by which the kernel gets ESP in UDP. Raises OSError, Refusal."""
        if self._demultiplexer is not None:
            self._demultiplexer.open_kernel()

    def close_demultiplexer(self) -> None:
        """Close them. Idempotent."""
        if self._demultiplexer is not None:
            self._demultiplexer.close_kernel()

    def claim_spis(self, spis: Sequence[int]) -> None:
        """Have packets be left to the kernel. Raises DatapathRefusal: TABLE_FULL."""
        if self._demultiplexer is not None:
            try:
                self._demultiplexer.claim(spis, Owner.KERNEL)
            except Refusal as refusal:
                raise DatapathRefusal(refusal.reason, refusal.detail) from refusal

    def release_spis(self, spis: Sequence[int]) -> None:
        """Claim them no more. What goes wrong is told, and keeps no SA from being removed: nothing comes for them."""
        if self._demultiplexer is not None:
            try:
                self._demultiplexer.release(spis)
            except (Refusal, OSError) as error:
                reason, words = Reason.KERNEL_REFUSED, str(error)
                if isinstance(error, Refusal):
                    reason, words = error.reason, error.detail
                self.tell(Changed(reason, f"packets of SAs that are gone still go to the kernel: {words}"))


def inbound_spis(keys: Iterable[SaKey]) -> list[int]:
    """Those of inbound SAs."""
    return [key.spi for key in keys if key.direction is Direction.IN]
