"""A flow of numbered UDP datagrams from one namespace to another, and the count of what became of them.

Both ends are processes of their own (this file, run as a script), so that the counting does not wait for the tests'
interpreter and the tests do not wait for the counting.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.namespace import Namespace
    from tests.lab.process import Process

MARKER = b"in the clear, no cipher touched this. "
HEADER = struct.Struct("!Qd")
SO_RCVBUFFORCE = 33


@dataclass(frozen=True, slots=True)
class FlowResult:
    """What became of a flow. ``longest_gap`` and ``slowest`` (one way) are in seconds."""

    sent: int
    received: int
    duplicates: int
    reordered: int
    longest_gap: float
    slowest: float
    refused: int

    @property
    def lost(self) -> int:
        """Sent and never received."""
        return self.sent - self.received


class Flow:
    """A running flow; a context manager. ``stop`` ends it and returns the count."""

    def __init__(
        self,
        source: Namespace,
        destination: Namespace,
        address: str,
        *,
        rate: int = 500,
        size: int = 200,
        port: int = 0,
    ) -> None:
        self._result: FlowResult | None = None
        chosen = port or next_port()
        self._receiver = self._start(destination, "recv", address, chosen, rate, size)
        self._receiver.wait_for("^ready")
        self._sender = self._start(source, "send", address, chosen, rate, size)
        self._sender.wait_for("^ready")

    @staticmethod
    def _start(namespace: Namespace, role: str, address: str, port: int, rate: int, size: int) -> Process:
        argv = [sys.executable, "-S", "-E", str(Path(__file__).resolve()), role, address, str(port)]
        argv += ["--rate", str(rate), "--size", str(size)]
        return namespace.spawn(argv, name=f"flow-{role}-{port}", stdin=subprocess.PIPE)

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @staticmethod
    def _end(process: Process) -> dict[str, float]:
        assert process.popen.stdin is not None
        if process.running:
            process.popen.stdin.close()
            process.wait(10)
        process.popen.stdin = None
        answer: dict[str, float] = json.loads(process.text().splitlines()[-1])
        return answer

    def stop(self) -> FlowResult:
        """Stops sending, waits until half a second brought nothing more, and counts."""
        if self._result is None:
            sent = self._end(self._sender)
            got = self._end(self._receiver)
            self._result = FlowResult(
                int(sent["sent"]),
                int(got["received"]),
                int(got["duplicates"]),
                int(got["reordered"]),
                got["longest_gap"],
                got["slowest"],
                int(sent["refused"]),
            )
        return self._result


_last_port = 20000


def next_port() -> int:
    """A UDP or TCP port no other probe of this process has."""
    global _last_port
    _last_port += 1
    return _last_port


def _closed(timeout: float) -> bool:
    """Whether standard input was closed, which is the other side saying "enough"."""
    return bool(select.select([0], [], [], max(timeout, 0.0))[0])


def _socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
            break
        except OSError:
            continue
    return sock


def _send(address: str, port: int, rate: int, size: int) -> dict[str, float]:
    sock = _socket(address)
    filler = (MARKER * (size // len(MARKER) + 1))[: max(size - HEADER.size, 0)]
    sent = refused = 0
    start = time.monotonic()
    print("ready", flush=True)
    while not _closed(start + sent / rate - time.monotonic()):
        if time.monotonic() < start + sent / rate:
            continue
        try:
            sock.sendto(HEADER.pack(sent, time.monotonic()) + filler, (address, port))
        except OSError:  # an ICMP error for an earlier datagram, or no route: counted as sent and lost
            refused += 1
        sent += 1
    return {"sent": sent, "refused": refused}


def _receive(address: str, port: int) -> dict[str, float]:
    sock = _socket(address)
    sock.bind((address, port))
    sock.settimeout(0.5)
    seen: set[int] = set()
    duplicates = reordered = 0
    highest = -1
    last = 0.0
    gap = slowest = 0.0
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([sock.fileno(), 0], [], [], 0.5)
        if sock.fileno() not in readable:
            if 0 in readable and not select.select([sock], [], [], 0.5)[0]:
                break
            continue
        data = sock.recv(65535)
        now = time.monotonic()
        if len(data) < HEADER.size:
            continue
        sequence, sent_at = HEADER.unpack_from(data)
        if sequence in seen:
            duplicates += 1
            continue
        seen.add(sequence)
        if sequence < highest:
            reordered += 1
        highest = max(highest, sequence)
        gap = max(gap, now - last) if last else 0.0
        slowest = max(slowest, now - sent_at)
        last = now
    return {
        "received": len(seen),
        "duplicates": duplicates,
        "reordered": reordered,
        "longest_gap": gap,
        "slowest": slowest,
    }


def main() -> None:
    """One end of a flow, until standard input is closed; prints its count as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["send", "recv"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--size", type=int, default=200)
    args = parser.parse_args()
    if args.role == "send":
        result = _send(args.address, args.port, args.rate, args.size)
    else:
        result = _receive(args.address, args.port)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
