"""The IKE SAs that are up, by their peer and by their connection.

The engine's table has many more: half-open ones, and dead ones that only repeat their last responses. Every handshake
asks for those of one peer, and every child that goes for those of its connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from appliance.sa.identity import Identity

if TYPE_CHECKING:
    from appliance.ike.ike_sa import IkeSa

_Key = TypeVar("_Key")


class Established:
    """An IKE SA is entered when it is established, and leaves when it is dead. In between its state may be others."""

    __slots__ = ("_of_connection", "_of_peer")

    def __init__(self) -> None:
        self._of_peer: dict[Identity | None, dict[int, IkeSa]] = {}
        self._of_connection: dict[str | None, dict[int, IkeSa]] = {}

    def enter(self, sa: IkeSa) -> None:
        """It is authenticated: neither its peer nor the name of its connection changes any more."""
        self._of_peer.setdefault(sa.remote_id, {})[sa.ike_id] = sa
        self._of_connection.setdefault(sa.connection_name, {})[sa.ike_id] = sa

    def leave(self, sa: IkeSa) -> None:
        """It is dead. Idempotent, also for those that were never entered."""
        _leave(self._of_peer, sa.remote_id, sa.ike_id)
        _leave(self._of_connection, sa.connection_name, sa.ike_id)

    def of_peer(self, identity: Identity | None) -> Iterator[IkeSa]:
        """Those with this peer that are up."""
        return (sa for sa in self._of_peer.get(identity, {}).values() if sa.is_up)

    def of_connection(self, name: str | None) -> Iterator[IkeSa]:
        """Those of this connection that are up."""
        return (sa for sa in self._of_connection.get(name, {}).values() if sa.is_up)


def _leave(table: dict[_Key, dict[int, IkeSa]], key: _Key, ike_id: int) -> None:
    entries = table.get(key, {})
    entries.pop(ike_id, None)
    if not entries:
        table.pop(key, None)
