"""Putting together fragments that this host made: in transport mode ESP takes whole datagrams (RFC 4303 §3.3.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

from appliance.datapath.soft.packet import Flow, refresh_ipv4_checksum
from appliance.esp.drop import Drop
from appliance.reasons import Reason

MOST = 64
"""Datagrams that may be incomplete at a time; the oldest gives way."""
PIECES = 256
"""Fragments of one datagram: more than any link's MTU makes of it."""
LIFETIME = 15.0
"""Seconds that a datagram may take (RFC 791 §3.2)."""
_IPV6_FRAGMENT_END = 48  # an IPv6 header with nothing but the fragment header behind it
_U16 = Struct("!H")


@dataclass(slots=True)
class _Datagram:
    """``head`` is the first fragment's IP header, ``end`` the payload's length once the last fragment told it."""

    since: float
    head: bytes = b""
    end: int | None = None
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int = 0


class Reassembler:
    """Datagrams of which not all fragments are there yet."""

    def __init__(self) -> None:
        self._datagrams: dict[tuple[int, int, int, int], _Datagram] = {}

    def add(self, packet: bytes, flow: Flow, now: float) -> bytes | None:
        """Take a fragment; the whole packet once it is the last one that was missing.

        Raises Drop(ESP_FRAGMENT) for fragments that overlap, as RFC 5722 §4 and RFC 1858 §4 want, or make no datagram.
        """
        assert flow.fragment is not None
        piece = packet[flow.header :]
        if (flow.version == 6 and flow.header != _IPV6_FRAGMENT_END) or (flow.more and len(piece) % 8) or not piece:
            raise Drop(Reason.ESP_FRAGMENT)
        datagram = self._datagrams.get(flow.fragment)
        if datagram is None:
            if len(self._datagrams) >= MOST:
                del self._datagrams[next(iter(self._datagrams))]
            datagram = self._datagrams[flow.fragment] = _Datagram(now)
        if datagram.pieces.get(flow.offset) == piece:
            return None  # a duplicate
        end = flow.offset + len(piece)
        ends = datagram.end if flow.more else end
        overlaps = any(at < end and flow.offset < at + len(known) for at, known in datagram.pieces.items())
        beyond = ends is not None and max([end, *(at + len(known) for at, known in datagram.pieces.items())]) > ends
        many = len(datagram.pieces) >= PIECES
        if many or overlaps or beyond or (not flow.more and datagram.end not in (None, end)) or end > 65535:
            del self._datagrams[flow.fragment]
            raise Drop(Reason.ESP_FRAGMENT)
        datagram.end = ends
        datagram.pieces[flow.offset] = piece
        datagram.size += len(piece)
        if flow.offset == 0:
            datagram.head = packet[: flow.header]
        if datagram.end is None or datagram.size < datagram.end:
            return None
        del self._datagrams[flow.fragment]
        return _joined(datagram, flow.version)

    def expire(self, now: float) -> int:
        """Give up what took too long; how many fragments that were."""
        late = [key for key, datagram in self._datagrams.items() if now - datagram.since > LIFETIME]
        return sum(len(self._datagrams.pop(key).pieces) for key in late)


def _joined(datagram: _Datagram, version: int) -> bytes:
    head, payload = bytearray(datagram.head), b"".join(datagram.pieces[at] for at in sorted(datagram.pieces))
    if version == 4:
        length = len(head) + len(payload)
        if length > 65535:
            raise Drop(Reason.ESP_FRAGMENT)
        _U16.pack_into(head, 2, length)
        head[6:8] = bytes(2)
        refresh_ipv4_checksum(head)
        return bytes(head) + payload
    # The fragment header goes; what it says comes next is what the IPv6 header says now (RFC 8200 §4.5).
    head[6] = head[40]
    _U16.pack_into(head, 4, len(payload))
    return bytes(head[:40]) + payload
