"""IKE SAs that we answered and whose peers have not authenticated yet: how many, whose, and when they are a flood."""

from __future__ import annotations

from collections import Counter

from appliance.ike.ike_sa import IkeSa
from appliance.ike.services import Services
from appliance.sa.selector import Address


class HalfOpen:
    """Half-open IKE SAs by the digest of the request that made them.

    From ``cookie_threshold`` of them on initiators have to return a cookie (RFC 7296 §2.6). That, and its end, when
    they are half as many, is told.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._by_request: dict[bytes, IkeSa] = {}
        self._by_peer: Counter[bytes] = Counter()
        self._flooded = False
        self._asked = 0

    def __len__(self) -> int:
        return len(self._by_request)

    def get(self, digest: bytes) -> IkeSa | None:
        """The IKE SA that answered a request."""
        return self._by_request.get(digest)

    def of_peer(self, address: Address) -> int:
        """How many there are of an address that returned cookies, in IPv6 of its network of 64 bits.

        The others do not count: anybody can write anybody's address into a request, and so take its room.
        """
        return self._by_peer[_peer(address)]

    def add(self, digest: bytes, sa: IkeSa, *, returned_cookie: bool) -> None:
        """One more."""
        self._by_request[digest] = sa
        sa.init_key = digest
        if returned_cookie:
            sa.half_open_peer = _peer(sa.remote.address)
            self._by_peer[sa.half_open_peer] += 1

    def remove(self, sa: IkeSa) -> None:
        """It was authenticated, or is gone."""
        if self._by_request.pop(sa.init_key, None) is None:
            return
        if sa.half_open_peer:
            self._by_peer[sa.half_open_peer] -= 1
            if not self._by_peer[sa.half_open_peer]:
                del self._by_peer[sa.half_open_peer]
        sa.init_key = sa.half_open_peer = b""
        if self._flooded and len(self) <= self._services.config.cookie_threshold // 2:
            self._flooded = False
            asked = self._services.counters["cookies-asked"] - self._asked
            self._services.notice(
                "info", f"{len(self)} half-open IKE SAs: the flood is over, {asked} cookies were asked"
            )

    def ask_cookie(self) -> None:
        """A cookie is asked of an initiator."""
        threshold = self._services.config.cookie_threshold
        if not self._flooded and threshold:  # with a threshold of 0 cookies are asked always, which tells nothing
            self._flooded = True
            self._asked = self._services.counters["cookies-asked"]
            text = (
                f"{len(self)} half-open IKE SAs: perhaps a flood of IKE_SA_INIT. Initiators must return a cookie until "
                f"there are fewer (ike.cookie_threshold = {threshold}); peers that answer are served"
            )
            self._services.notice("warning", text)
        self._services.counters["cookies-asked"] += 1


def _peer(address: Address) -> bytes:
    return address.packed if address.version == 4 else address.packed[:8]
