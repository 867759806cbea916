"""iperf3 between two namespaces."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.lab.flow import next_port
from tests.lab.namespace import LabError, Namespace


@dataclass(frozen=True, slots=True)
class Throughput:
    """What arrived: bits a second and, for UDP, packets a second and the part that was lost (0 to 1)."""

    bits_per_second: float
    packets_per_second: float = 0.0
    lost: float = 0.0
    retransmits: int = 0


def _run(client: Namespace, server: Namespace, address: str, seconds: float, extra: list[str]) -> dict[str, Any]:
    port = str(next_port())
    listener = server.spawn(
        ["iperf3", "--server", "--one-off", "--forceflush", "--port", port, "--bind", address], name=f"iperf3-{port}"
    )
    try:
        listener.wait_for("Server listening")
        done = client.run(
            ["iperf3", "--client", address, "--port", port, "--time", f"{seconds:g}", "--json", *extra],
            check=False,
            timeout=seconds + 30,
        )
    finally:
        listener.stop()
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise LabError(f"iperf3 says nothing: {done.stderr.strip()}") from None
    if "error" in report:
        raise LabError(f"iperf3: {report['error']}")
    return report


def tcp(client: Namespace, server: Namespace, address: str, *, seconds: float = 3.0, streams: int = 1) -> Throughput:
    """TCP throughput from ``client`` to ``server``, as received. Raises LabError if it cannot be measured."""
    report = _run(client, server, address, seconds, ["--parallel", str(streams), "--omit", "0"])
    end = report["end"]
    return Throughput(end["sum_received"]["bits_per_second"], retransmits=int(end["sum_sent"].get("retransmits", 0)))


def udp(
    client: Namespace, server: Namespace, address: str, *, size: int, rate: float, seconds: float = 3.0
) -> Throughput:
    """UDP datagrams of ``size`` bytes at ``rate`` bits a second offered; what arrived."""
    extra = ["--udp", "--length", str(size), "--bitrate", f"{rate:.0f}", "--get-server-output"]
    total = _run(client, server, address, seconds, extra)["end"]["sum"]
    arrived = total["packets"] - total["lost_packets"]
    length = total["seconds"] or seconds
    return Throughput(arrived * size * 8 / length, arrived / length, total["lost_packets"] / max(total["packets"], 1))
