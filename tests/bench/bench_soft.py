"""Esplanade's soft datapath and IKE beside strongSwan's kernel-libipsec: same namespaces, same run, by turns.

Writes build/bench/soft.json (machine, versions, every raw number, medians, ratios) and a picture of it. All processes,
iperf3 included, share the machine's cores; so do the competitors'. Figures of other machines do not compare.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench import picture
from tests.bench.place import commit, machine
from tests.bench.rig import (
    Kind,
    Ours,
    Rig,
    Side,
    Theirs,
    add_many_networks,
    cpu,
    many_connection,
    many_text,
    sizes,
    used,
)
from tests.lab import iperf, namespace, strongswan
from tests.lab.lab import Lab
from tests.lab.namespace import LabError
from tests.lab.process import memory
from tests.lab.topology import HOST_B, SiteToSite

OUT = Path(__file__).parents[2] / "build" / "bench"
SIZES = (64, 512, 1400)
MOST_LOSS = 0.01
PARTS = ("tcp", "udp", "handshakes", "memory")


def say(text: str) -> None:
    print(text, flush=True)


def tcp(rig: Rig, kind: Kind, seconds: float) -> dict[str, Any]:
    """One TCP stream from host-a to host-b."""
    left, right = rig.pair(kind)
    try:
        before = cpu(left), cpu(right)
        result = iperf.tcp(rig.sites.host_a, rig.sites.host_b, HOST_B, seconds=seconds)
        row = {
            "mbit_per_second": round(result.bits_per_second / 1e6, 1),
            "retransmits": result.retransmits,
            "cpu_seconds": {"sender": used(before[0], cpu(left)), "receiver": used(before[1], cpu(right))},
            "seconds": seconds,
        }
    finally:
        left.stop()
        right.stop()
    say(f"  {kind.value:28} {row['mbit_per_second']:8.0f} Mbit/s   CPU {row['cpu_seconds']}")
    return row


def udp(rig: Rig, kind: Kind, size: int, seconds: float) -> dict[str, Any]:
    """The highest rate of ``size``-byte datagrams that arrives with less than one per cent of loss."""
    left, right = rig.pair(kind)
    tried: list[dict[str, float]] = []
    best = 0.0
    try:
        low, high = 0.0, 0.0
        offered = 20_000.0
        for _ in range(8):
            try:
                got = iperf.udp(
                    rig.sites.host_a, rig.sites.host_b, HOST_B, size=size, rate=offered * size * 8, seconds=seconds
                )
            except LabError as error:  # at full load iperf3 may lose its own control connection
                say(f"    at {offered:.0f} packets/s: {error}")
                got = iperf.Throughput(0.0, 0.0, 1.0)
            sent = got.packets_per_second / max(1 - got.lost, 1e-9)
            tried.append(
                {"offered": round(offered), "arrived": round(got.packets_per_second), "lost": round(got.lost, 4)}
            )
            if got.lost < MOST_LOSS:
                best = max(best, got.packets_per_second)
                low = offered
                # iperf3 itself may be the one that cannot go faster.
                if sent < 0.9 * offered:
                    break
            else:
                high = offered
            offered = (low + high) / 2 if high else offered * 2
            if high and high - low < 0.07 * high:
                break
    finally:
        left.stop()
        right.stop()
    say(f"  {kind.value:28} {best:8.0f} packets/s")
    return {"packets_per_second": round(best), "tried": tried}


def handshakes(rig: Rig, kind: Kind, count: int) -> dict[str, Any]:
    """``count`` times IKE_SA_INIT, IKE_AUTH and DELETE, one after the other, always started by strongSwan.

    The initiator is the same for both, so that what differs is the responder.
    """
    right: Side
    if kind is Kind.OURS:
        right = rig.ours("b", rig.site_text("b", kind))
    else:
        right = rig.theirs("b", stock=kind is Kind.STOCK)
        right.charon.load_connection("site", rig.site_connection("b"))
    left = rig.theirs("a", stock=kind is Kind.STOCK)
    try:
        left.charon.load_connection("site", rig.site_connection("a"))
        for _ in range(5):  # both have everything loaded and warm
            left.charon.initiate(child="net")
            left.charon.terminate(ike="site")
        before = cpu(right), cpu(left)
        began = time.monotonic()
        for _ in range(count):
            left.charon.initiate(child="net")
            left.charon.terminate(ike="site")
        took = time.monotonic() - began
        after = cpu(right), cpu(left)
    finally:
        left.stop()
        right.stop()
    responder, initiator = used(before[0], after[0]), used(before[1], after[1])
    row = {
        "per_second": round(count / took, 1),
        "responder_cpu_ms": round(1000 * sum(responder.values()) / count, 2),
        "responder_cpu_seconds": responder,
        "initiator_cpu_ms": round(1000 * sum(initiator.values()) / count, 2),
        "count": count,
    }
    say(
        f"  {kind.value:28} {row['per_second']:6.1f} a second, responder {row['responder_cpu_ms']} ms of CPU each "
        f"{responder}"
    )
    return row


def started_by_us(rig: Rig, count: int) -> dict[str, Any]:
    """The same with our daemon as the initiator and strongSwan as the responder."""
    right = rig.theirs("b", stock=True)
    right.charon.load_connection("site", rig.site_connection("b"))
    left = rig.ours("a", rig.site_text("a", Kind.OURS))
    try:
        before = cpu(left)
        began = time.monotonic()
        for _ in range(count):
            left.gateway.initiate("site-b")
            left.gateway.terminate("site-b")
        took = time.monotonic() - began
        spent = used(before, cpu(left))
    finally:
        left.stop()
        right.stop()
    row = {"per_second": round(count / took, 1), "initiator_cpu_ms": round(1000 * sum(spent.values()) / count, 2)}
    say(f"  esplanade as initiator       {row['per_second']:6.1f} a second, {row['initiator_cpu_ms']} ms of CPU each")
    return row


def tunnels(rig: Rig, kind: Kind, count: int) -> dict[str, Any]:
    """Memory of the responder with ``count`` tunnels, and before the first."""
    right: Ours | Theirs
    add_many_networks(rig.sites, count)
    began = time.monotonic()
    if kind is Kind.OURS:
        right = rig.ours("b", many_text(rig.sites, count))
    else:
        right = rig.theirs("b", stock=kind is Kind.STOCK)
        for number in range(count):
            right.charon.load_connection(f"t{number}", many_connection(rig.sites, "b", number))
    configured = sizes(right)
    left = rig.theirs("a", stock=False)
    try:
        for number in range(count):
            left.charon.load_connection(f"t{number}", many_connection(rig.sites, "a", number))
            left.charon.initiate(child=f"n{number}", ike=f"t{number}", timeout=20)
        up = len([sa for sa in left.charon.sas() if sa.state == "ESTABLISHED" and sa.installed])
        loaded = sizes(right)
        detail = {name: memory(pid) for name, pid in right.pids().items()}
    finally:
        left.stop()
        right.stop()
    if up != count:
        raise RuntimeError(f"{kind.value}: {up} of {count} tunnels are up")
    each = round((loaded["pss"] - configured["pss"]) / count)
    row = {
        "tunnels": count,
        "configured_bytes": configured,
        "loaded_bytes": loaded,
        "per_tunnel_pss": each,
        "processes": detail,
        "seconds": round(time.monotonic() - began, 1),
    }
    say(
        f"  {kind.value:28} {loaded['pss'] / 2**20:7.1f} MiB PSS, {loaded['rss'] / 2**20:.1f} MiB RSS "
        f"({configured['pss'] / 2**20:.1f} MiB PSS with the configuration alone, "
        f"{each / 1024:.1f} KiB a tunnel)"
    )
    return row


def versions(lab: Lab) -> dict[str, str]:
    """What ran."""
    found = {"python": platform.python_version()}
    for name in ("esplanade", "cryptography", "numpy"):
        found[name] = metadata.version(name)
    charon = strongswan.StrongSwan(lab.namespace("version"))
    found["strongswan"] = charon.start().version()
    charon.stop()
    iperf3 = subprocess.run(["iperf3", "--version"], capture_output=True, text=True, check=True)
    found["iperf3"] = iperf3.stdout.split()[1]
    found["commit"] = commit()
    return found


def median(rows: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(row[key] for row in rows)) if rows else 0.0


def summary(raw: dict[str, Any]) -> dict[str, Any]:
    """Medians, and ratios to strongSwan as its distribution runs it."""
    medians: dict[str, Any] = {}
    for kind, rows in raw.get("tcp", {}).items():
        medians.setdefault(kind, {})["tcp_mbit_per_second"] = median(rows, "mbit_per_second")
    for size, kinds in raw.get("udp", {}).items():
        for kind, rows in kinds.items():
            medians.setdefault(kind, {})[f"udp_{size}_packets_per_second"] = median(rows, "packets_per_second")
    for kind, rows in raw.get("handshakes", {}).items():
        medians.setdefault(kind, {})["handshakes_per_second"] = median(rows, "per_second")
        medians[kind]["responder_cpu_ms"] = median(rows, "responder_cpu_ms")
    for kind, row in raw.get("memory", {}).items():
        medians.setdefault(kind, {})["memory_pss_bytes"] = row["loaded_bytes"]["pss"]
        medians[kind]["memory_rss_bytes"] = row["loaded_bytes"]["rss"]
    ratios: dict[str, dict[str, float]] = {}
    for other in (Kind.STOCK.value, Kind.TUNED.value):
        for ours in (Kind.OURS.value, Kind.OURS_NATIVE.value):
            pairs = {
                key: round(value / medians[other][key], 2)
                for key, value in medians.get(ours, {}).items()
                if medians.get(other, {}).get(key)
            }
            if pairs:
                ratios[f"{ours} / {other}"] = pairs
    return {"medians": medians, "ratios": ratios}


def run(lab: Lab, args: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    kinds = [Kind(name) for name in args.kinds]
    raw: dict[str, Any] = {}
    report = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(lab),
    }
    rig = Rig(SiteToSite(lab))
    if "tcp" in args.only:
        for number in range(args.rounds):
            say(f"TCP, one stream, {args.seconds:g} s, round {number + 1} of {args.rounds}")
            for kind in kinds:
                raw.setdefault("tcp", {}).setdefault(kind.value, []).append(tcp(rig, kind, args.seconds))
    if "udp" in args.only:
        for size in SIZES:
            for number in range(args.rounds):
                say(f"UDP, {size} bytes, less than 1 % lost, round {number + 1} of {args.rounds}")
                for kind in kinds:
                    row = udp(rig, kind, size, min(args.seconds, 1.0))
                    raw.setdefault("udp", {}).setdefault(str(size), {}).setdefault(kind.value, []).append(row)
    ike_kinds = [kind for kind in kinds if kind is not Kind.OURS_NATIVE]
    if "handshakes" in args.only:
        for number in range(args.rounds):
            say(f"Handshakes (ECP-384, PSK, AES-256-GCM, with teardown), round {number + 1} of {args.rounds}")
            for kind in ike_kinds:
                row = handshakes(rig, kind, args.handshakes)
                raw.setdefault("handshakes", {}).setdefault(kind.value, []).append(row)
        if Kind.OURS in kinds:
            raw["initiator"] = started_by_us(rig, args.handshakes)
    if "memory" in args.only:
        say(f"Memory of the responder with {args.tunnels} tunnels")
        for kind in ike_kinds:
            raw.setdefault("memory", {})[kind.value] = tunnels(rig, kind, args.tunnels)
    return report | summary(raw) | {"raw": raw, "arguments": vars(args)}


def main() -> int:
    """Runs it; exit status 0 if everything could be measured."""
    parser = argparse.ArgumentParser(prog="bench_soft")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--handshakes", type=int, default=100)
    parser.add_argument("--tunnels", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kinds", nargs="+", choices=[kind.value for kind in Kind], default=[k.value for k in Kind])
    args = parser.parse_args()
    missing = namespace.why_not() or strongswan.why_not()
    if missing is not None:
        say(f"The benchmark cannot run here: {missing}")
        return 1
    with Lab() as lab:
        report = run(lab, args)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "soft.json").write_text(json.dumps(report, indent=1) + "\n")
    say(json.dumps({"medians": report["medians"], "ratios": report["ratios"]}, indent=1))
    drawn = picture.draw(report, OUT / "soft")
    say(f"written: {OUT / 'soft.json'}" + (f", {drawn}" if drawn else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
