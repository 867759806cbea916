"""What a packet is in this room: contiguous octets, in whatever holds them."""

from __future__ import annotations

Octets = bytes | bytearray | memoryview
