"""ESP told apart by SPI, in the kernel: each SA of a local address may be on another datapath.

ESP in UDP goes to the socket of the datapath that claimed its SPI, native ESP to the raw socket unless the kernel has
it. Nothing passes through a process that does not want it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping

from appliance.datapath import cbpf, filters
from appliance.datapath.filters import ALL_KERNEL, ALL_SOFT, DROP_ALL, Owner, Split
from appliance.datapath.ingress import Ingress
from appliance.reasons import Reason, Refusal

_BUCKETS = 8, 128


class Demultiplexer:
    """Who is given which inbound SA's packets, on all ingresses of a daemon.

    Without ``open_kernel`` everything is the soft datapath's, whatever is claimed. An SPI may be claimed before its SA
    is installed. What nobody claimed goes to the soft datapath, which tells of it; to the kernel only where ``readers``
    said that there is no soft one, or where the kernel has so many SAs that no program can list them.

    Whatever raises a Refusal has changed nothing.
    """

    def __init__(self, ingresses: Iterable[Ingress]) -> None:
        self._ingresses = tuple(ingresses)
        self._claims: Mapping[int, Owner] = {}
        self._kernel = False
        self._soft = True
        self._split = ALL_SOFT
        self._bucket = _BUCKETS[0]

    def open_kernel(self) -> None:
        """Have the kernel take in the ESP in UDP that is claimed for it. Idempotent.

        See ``Ingress.open_kernel``. Raises Refusal: NO_XFRM, NO_PRIVILEGE, TABLE_FULL.
        """
        if self._kernel:
            return
        try:
            for ingress in self._ingresses:
                ingress.open_kernel()
            self._apply(self._claims, kernel=True, soft=self._soft)
        except Refusal:
            self._close_sockets()
            raise

    def close_kernel(self) -> None:
        """Give all to the soft datapath, and forget what was claimed for the kernel. Idempotent."""
        claims = {spi: owner for spi, owner in self._claims.items() if owner is Owner.SOFT}
        self._apply(claims, kernel=False, soft=self._soft)
        self._close_sockets()

    def readers(self, *, soft: bool) -> None:
        """Say whether there is a soft datapath, as there is at first. Without one, its sockets are kept empty.

        Raises Refusal: TABLE_FULL.
        """
        self._apply(self._claims, kernel=self._kernel, soft=soft)
        if not soft:
            for ingress in self._ingresses:
                ingress.empty_esp()

    def claim(self, spis: Iterable[int], owner: Owner) -> None:
        """Give SAs' packets to a datapath from now on, whoever had them; none is lost. Raises Refusal: TABLE_FULL."""
        self._apply({**self._claims, **dict.fromkeys(spis, owner)}, kernel=self._kernel, soft=self._soft)

    def release(self, spis: Iterable[int]) -> None:
        """Forget whose SAs these are; it is no error if nobody claimed one. Raises Refusal: TABLE_FULL."""
        gone = frozenset(spis)
        claims = {spi: owner for spi, owner in self._claims.items() if spi not in gone}
        self._apply(claims, kernel=self._kernel, soft=self._soft)

    def owner(self, spi: int) -> Owner:
        """Who is given this SPI's packets now."""
        return self._split.owner(spi)

    def _apply(self, claims: Mapping[int, Owner], *, kernel: bool, soft: bool) -> None:
        splits = list(_splits(claims, kernel=kernel, soft=soft))
        if splits[0] != self._split or soft is not self._soft:
            self._split, self._bucket = self._first_that_fits(splits, soft)
        self._claims, self._kernel, self._soft = claims, kernel, soft

    def _first_that_fits(self, splits: list[Split], soft: bool) -> tuple[Split, int]:
        for split in splits:
            for bucket in _BUCKETS:
                try:
                    self._load(split, bucket, soft)
                except _TooLong:
                    continue
                return split, bucket
        self._load(self._split, self._bucket, self._soft)
        sizes = " or ".join(f"the {len(split.listed)} in {split.rest.other.value}" for split in splits)
        raise Refusal(
            Reason.TABLE_FULL,
            f"SAs are told apart by a list of {sizes}, and neither fits a socket filter: it has at most"
            f" {cbpf.MOST_INSTRUCTIONS} instructions, fewer where net.core.optmem_max is small",
        )

    def _load(self, split: Split, bucket: int, soft: bool) -> None:
        """Put the programs that say this into force: one at a time is replaced, each at once."""
        program = filters.encapsulated(split, bucket)
        if len(program) > cbpf.MOST_INSTRUCTIONS:
            raise _TooLong
        try:
            for ingress in self._ingresses:
                ingress.choose(program)
                if not soft:
                    ingress.screen(DROP_ALL)
                elif split == ALL_SOFT:
                    ingress.screen(None)
                else:
                    ingress.screen(filters.native(split, ingress.address.version, bucket))
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise _TooLong from error
            raise

    def _close_sockets(self) -> None:
        for ingress in self._ingresses:
            ingress.close_kernel()


class _TooLong(Exception):  # noqa: N818 - never leaves this file
    """A program that cannot be had here."""


def _splits(claims: Mapping[int, Owner], *, kernel: bool, soft: bool) -> Iterator[Split]:
    """Ways to say whose is what, the best first."""
    if not kernel:
        yield ALL_SOFT
    elif not soft:
        yield ALL_KERNEL
    else:
        for rest in (Owner.SOFT, Owner.KERNEL):
            yield Split(frozenset(spi for spi, owner in claims.items() if owner is not rest), rest)
