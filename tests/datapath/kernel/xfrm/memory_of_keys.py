"""A process that installs SAs with one key, wipes it, and looks for it in all its memory. Prints two numbers of copies.

Run by ``test_secrets.py`` in an interpreter of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address

from appliance.datapath.kernel.xfrm import Aead, State, XfrmSocket, requests, wipe

from .scripted import ScriptedKernel, ack

SIZE, SHOWN = 20, 8


class Deaf(ScriptedKernel):
    """Keeps nothing of what it is sent."""

    def sendmsg(self, buffers: Iterable[bytes | bytearray], /) -> int:
        for one in buffers:
            self.queue.append(ack(int.from_bytes(one[8:12], sys.byteorder)))
        return 1


def veil(part: bytes | bytearray | memoryview) -> bytes:
    """The search must not find what it searches with."""
    return bytes(byte ^ 0x55 for byte in part)


def copies(veiled: bytes) -> int:
    regions = []
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        for line in maps:
            where, mode = line.split()[:2]
            if "w" in mode and "[v" not in line:
                start, end = (int(part, 16) for part in where.split("-"))
                regions.append((start, end))
    buffer = bytearray(max(end - start for start, end in regions))
    found = 0
    with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        for start, end in regions:
            memory.seek(start)
            length = memory.readinto(memoryview(buffer)[: end - start]) or 0
            head = bytearray(veil(veiled[:SHOWN]))
            at = buffer.find(head, 0, length)
            while at >= 0:
                found += veil(buffer[at + SHOWN : at + SIZE]) == veiled[SHOWN:]
                at = buffer.find(head, at + 1, length)
            wipe(head)
            wipe(buffer)
    return found


def main() -> None:
    key = bytearray(os.urandom(SIZE))
    veiled = veil(key)
    address = IPv4Address("192.0.2.1")
    batch = [
        requests.new_state(State(source=address, destination=address, spi=spi, aead=Aead("rfc4106(gcm(aes))", key)))
        for spi in range(100)
    ]
    assert all(answer.error is None for answer in XfrmSocket(Deaf()).batch(batch))
    before = copies(veiled)
    for request in batch:
        wipe(request)
    wipe(key)
    print(before, copies(veiled))


if __name__ == "__main__":
    main()
