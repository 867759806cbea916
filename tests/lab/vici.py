"""charon's management protocol, as far as a test needs it: requests, and requests that stream events.

A packet is a 32-bit length, a type, for some types a name, and a message; a message is a flat list of tagged elements
that open and close sections and lists. (Described in strongSwan's libvici README.)
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = "str | bytes | Sequence[str | bytes] | Mapping[str, Value]"
Section: TypeAlias = "dict[str, str | list[str] | Section]"


class Packet(IntEnum):
    """Packet types."""

    CMD_REQUEST = 0
    CMD_RESPONSE = 1
    CMD_UNKNOWN = 2
    EVENT_REGISTER = 3
    EVENT_UNREGISTER = 4
    EVENT_CONFIRM = 5
    EVENT_UNKNOWN = 6
    EVENT = 7


class Element(IntEnum):
    """Tags of a message's elements."""

    SECTION_START = 1
    SECTION_END = 2
    KEY_VALUE = 3
    LIST_START = 4
    LIST_ITEM = 5
    LIST_END = 6


class ViciError(Exception):
    """charon refused; the text is its own."""


def _name(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def _data(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


def encode(message: Mapping[str, Value]) -> bytes:
    """A message from nested mappings, lists and strings."""
    out = bytearray()
    for key, value in message.items():
        if isinstance(value, Mapping):
            out += bytes([Element.SECTION_START]) + _name(key) + encode(value) + bytes([Element.SECTION_END])
        elif isinstance(value, str | bytes):
            out += bytes([Element.KEY_VALUE]) + _name(key) + _data(value)
        else:
            out += bytes([Element.LIST_START]) + _name(key)
            for item in value:
                out += bytes([Element.LIST_ITEM]) + _data(item)
            out.append(Element.LIST_END)
    return bytes(out)


def decode(data: bytes) -> Section:
    """The nested dictionaries of a message."""
    root: Section = {}
    stack: list[Section] = [root]
    items: list[str] = []
    offset = 0

    def name() -> str:
        nonlocal offset
        length = data[offset]
        offset += 1 + length
        return data[offset - length : offset].decode()

    def text() -> str:
        nonlocal offset
        (length,) = struct.unpack_from("!H", data, offset)
        offset += 2 + length
        return data[offset - length : offset].decode(errors="replace")

    while offset < len(data):
        tag = Element(data[offset])
        offset += 1
        match tag:
            case Element.SECTION_START:
                inner: Section = {}
                stack[-1][name()] = inner
                stack.append(inner)
            case Element.SECTION_END:
                stack.pop()
            case Element.KEY_VALUE:
                key = name()
                stack[-1][key] = text()
            case Element.LIST_START:
                items = []
                stack[-1][name()] = items
            case Element.LIST_ITEM:
                items.append(text())
            case Element.LIST_END:
                pass
    return root


class Vici:
    """One connection to charon."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _send(self, kind: Packet, name: str, message: bytes = b"") -> None:
        body = bytes([kind]) + _name(name) + message
        self._socket.sendall(struct.pack("!I", len(body)) + body)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ViciError("charon closed the connection")
            data += part
        return data

    def _receive(self) -> tuple[Packet, bytes]:
        (length,) = struct.unpack("!I", self._exactly(4))
        body = self._exactly(length)
        kind = Packet(body[0])
        return kind, body[2 + body[1] :] if kind is Packet.EVENT else body[1:]

    def request(self, command: str, message: Mapping[str, Value] | None = None) -> Section:
        """Calls a command. Raises :class:`ViciError` with charon's words if it answers ``success = no``."""
        *_, answer = self.stream(command, None, message)
        return answer

    def stream(self, command: str, event: str | None, message: Mapping[str, Value] | None = None) -> Iterator[Section]:
        """Calls a command and yields its events, then its answer."""
        if event is not None:
            self._send(Packet.EVENT_REGISTER, event)
            while self._receive()[0] is not Packet.EVENT_CONFIRM:
                pass
        self._send(Packet.CMD_REQUEST, command, encode(message or {}))
        while True:
            kind, data = self._receive()
            if kind is Packet.EVENT:
                yield decode(data)
                continue
            break
        if kind is not Packet.CMD_RESPONSE:
            raise ViciError(f"charon does not know the command {command}")
        answer = decode(data)
        if event is not None:
            self._send(Packet.EVENT_UNREGISTER, event)
            while self._receive()[0] is not Packet.EVENT_CONFIRM:
                pass
        if answer.get("success") == "no":
            raise ViciError(f"{command}: {answer.get('errmsg', 'failed')}")
        yield answer
