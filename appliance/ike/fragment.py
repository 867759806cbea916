"""Putting IKE messages together from their fragments (RFC 7383 §2.6)."""

from __future__ import annotations

from appliance.ike.constants import PayloadType
from appliance.ike.errors import MalformedMessage
from appliance.ike.message import FRAGMENT_FIELDS, HEADER_LENGTH, Header
from appliance.ike.payloads.chain import GENERIC_HEADER, generic_header
from appliance.ike.sealing import Sealer

_FIELDS_END = HEADER_LENGTH + GENERIC_HEADER + FRAGMENT_FIELDS


def fragment_number(data: bytes, header: Header) -> tuple[int, int]:
    """(Fragment Number, Total Fragments) of a message with an SKF payload. Not authenticated.

    A retransmitted request is answered on its fragment number 1 only (RFC 7383 §2.6.1). Raises MalformedMessage.
    """
    if header.next_payload != PayloadType.SKF:
        raise MalformedMessage(f"payload type {header.next_payload} is not an Encrypted Fragment (RFC 7383 §2.5)")
    _, _, length = generic_header(data, HEADER_LENGTH)
    if HEADER_LENGTH + length != len(data):
        raise MalformedMessage("the Encrypted Fragment payload is not the last (RFC 7383 §2.5)")
    if len(data) < _FIELDS_END:
        raise MalformedMessage("the Encrypted Fragment payload has no fragment numbers (RFC 7383 §2.5)")
    number = int.from_bytes(data[_FIELDS_END - 4 : _FIELDS_END - 2], "big")
    total = int.from_bytes(data[_FIELDS_END - 2 : _FIELDS_END], "big")
    if not 1 <= number <= total:
        raise MalformedMessage(f"fragment {number} of {total} (RFC 7383 §2.5)")
    return number, total


class Reassembler:
    """The fragments of one message at a time. Only authentic fragments are kept, so nobody else can fill it.

    A fragment of another message (message ID, exchange or direction) that is authentic drops what was there: the caller
    has checked that its message ID is one to be expected.
    """

    __slots__ = ("_first", "_first_type", "_key", "_max_bytes", "_max_fragments", "_pieces", "_size", "_total")

    def __init__(self, max_fragments: int = 64, max_bytes: int = 65536) -> None:
        self._max_fragments = max_fragments
        self._max_bytes = max_bytes
        self._first = b""
        self.clear()

    def clear(self) -> None:
        """Forget what was collected."""
        self._key: tuple[int, int, bool] | None = None
        self._total = 0
        self._size = 0
        self._first_type = 0
        self._pieces: dict[int, bytes] = {}

    @property
    def held(self) -> int:
        """Bytes of plaintext that wait for their missing neighbours."""
        return self._size

    @property
    def first_fragment(self) -> bytes:
        """The datagram with fragment number 1, authentic, of the message that is collected or was completed last.

        By it a retransmission is known (RFC 7383 §2.6.1). What ``add`` ignored never gets here: nobody can replace it.
        """
        return self._first

    def add(self, data: bytes, header: Header, sealer: Sealer) -> tuple[int, bytes] | None:
        """Take one fragment; ``header`` is ``parse_header(data)``.

        Returns (type of the first payload, the chain's bytes) when the message is whole, else None. Fragments that are
        there already, or that have a smaller total than those there, are ignored; one with a greater total drops those
        with the smaller (the sender started again with smaller fragments, RFC 7383 §2.5.2, §2.6).

        Raises IntegrityFailure and MalformedMessage as ``open_message`` does, and MalformedMessage for more than the
        bounds allow.
        """
        number, total = fragment_number(data, header)
        if total > self._max_fragments:
            raise MalformedMessage(f"a message in {total} fragments, at most {self._max_fragments} are taken")
        key = header.message_id, header.exchange, header.response
        same = key == self._key
        if same and (total < self._total or (total == self._total and number in self._pieces)):
            return None
        piece = sealer.open(data[:_FIELDS_END], data[_FIELDS_END:])
        if not same or total > self._total:
            self.clear()
            self._key, self._total = key, total
        if self._size + len(piece) > self._max_bytes:
            self.clear()
            raise MalformedMessage(f"a message of more than {self._max_bytes} bytes in fragments")
        if number == 1:
            self._first_type = data[HEADER_LENGTH]
            self._first = data
        self._pieces[number] = piece
        self._size += len(piece)
        if len(self._pieces) < total:
            return None
        whole = self._first_type, b"".join(self._pieces[at] for at in range(1, total + 1))
        self.clear()
        return whole
