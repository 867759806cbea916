"""What strangers, hosts and peers may try: nothing leaks, nothing is passed that the SA is not for, nothing grows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tracemalloc
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.config.load import load
from appliance.daemon import guard
from appliance.datapath.guard import guard_status, install_guard
from appliance.datapath.soft.cipher import make_cipher
from appliance.datapath.soft.coalesce import Coalescer
from appliance.datapath.soft.control import Control
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.engine import Engine
from appliance.datapath.soft.inbound import Inbound
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.packet import parse
from appliance.datapath.soft.sad import InboundState, Spending, ranges
from appliance.datapath.soft.tun import Tun
from appliance.datapath.soft.window import BatchWindow
from appliance.esp.checksum import internet_checksum
from appliance.esp.ip import Ipv4Header
from appliance.esp.replay import ReplayWindow
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import (
    Direction,
    Lifetime,
    Limits,
    Mode,
    PolicyAction,
    SecurityAssociation,
    SecurityPolicy,
)
from appliance.sa.selector import TrafficSelector
from tests.datapath.pair import inside
from tests.lab.capture import Capture
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

network = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
GCM = Suite(Encryption.AES_GCM_16, 128)
MARKER = b"what the tunnel carried"


def nowhere() -> Tun:
    return Tun(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), "null", tso=True, uso=True)


def core() -> Core:
    return Core(SoftOptions(), nowhere(), lambda event: None, lambda datagram: None)


def inbound_state(
    spi: int, remote: str, *, local: str = "10.1.0.0/24[udp/53]", lifetime: Lifetime | None = None
) -> InboundState:
    sa = SecurityAssociation(
        direction=Direction.IN, spi=spi, source=ip_address("192.0.2.2"), destination=ip_address("192.0.2.1"),
        suite=GCM, mode=Mode.TUNNEL, local_ts=(TrafficSelector.parse(local),),
        remote_ts=(TrafficSelector.parse(remote),), reqid=spi, child="test/net", lifetime=lifetime or Lifetime(),
    )  # fmt: skip
    return InboundState(
        sa, make_cipher(GCM, bytearray(20), bytearray()), Spending(sa, 0.0), BatchWindow(64, esn=False),
        ("192.0.2.2", 0), ranges(sa.local_ts), ranges(sa.remote_ts),
    )  # fmt: skip


def ipv4(source: str, destination: str, protocol: int, payload: bytes, *, ttl: int = 64, fragment: int = 0) -> bytes:
    """``fragment``: the flags and offset field."""
    header = bytearray(
        Ipv4Header(
            source=ip_address(source).packed, destination=ip_address(destination).packed, protocol=protocol,
            total_length=20 + len(payload), identification=77, dont_fragment=False, hop_limit=ttl,
        ).build()
    )  # fmt: skip
    header[6:8] = fragment.to_bytes(2)
    header[10:12] = bytes(2)
    header[10:12] = internet_checksum(bytes(header)).to_bytes(2)
    return bytes(header) + payload


# The replay window


@pytest.mark.parametrize("esn", [False, True])
def test_a_peer_that_jumps_ahead_in_a_batch_costs_no_memory_rfc4303_3_4_3(esn: bool) -> None:
    batched, golden = BatchWindow(64, esn=esn), ReplayWindow(64, esn=esn)
    numbers = [1, 2, 3, 0xFFFF_FFFE]
    tracemalloc.start()
    try:
        batched.update_rising(numbers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for number in numbers:
        golden.update(number)
    assert (batched.highest, batched.bitmap) == golden.export()
    assert peak < 1 << 20


def esp_packets(state: InboundState, sequences: list[int]) -> list[bytes]:
    """Packets of the SA with keys of zeros, of one size, as a peer makes them."""
    cipher = AESGCM(bytes(16))
    inner = ipv4("10.2.0.5", "10.1.0.9", 17, bytes.fromhex("1234003500180000") + bytes(16)) + b"\1\2\2\4"
    made = []
    for sequence in sequences:
        high, low = sequence.to_bytes(8)[:4], sequence.to_bytes(8)[4:]
        spi, iv = state.sa.spi.to_bytes(4), sequence.to_bytes(8)
        aad = spi + (high if state.sa.suite.esn else b"") + low
        made.append(spi + low + iv + cipher.encrypt(bytes(4) + iv, inner, aad))
    return made


@pytest.mark.parametrize("forged", [None, 0, 3, 7])
def test_of_a_batch_with_a_forged_packet_the_others_count_once_rfc4303_3_4_3(forged: int | None) -> None:
    receiver = core()
    inbound = Inbound(receiver, Coalescer(receiver))
    state = inbound_state(0x1001, "10.2.0.0/24")
    receiver.sad.add(state)
    golden = ReplayWindow(64, esn=False)
    sequences = [3, 4, 5, 9, 10, 11, 300, 301]
    packets = esp_packets(state, sequences)
    if forged is not None:
        packets[forged] = packets[forged][:-1] + bytes((packets[forged][-1] ^ 1,))
    for number, sequence in enumerate(sequences):
        if number != forged:
            golden.update(sequence)
    data = b"".join(packets)
    for seen in (0, 1):
        inbound._buffer[: len(data)] = data
        inbound.datagrams(len(data), len(packets[0]), ("192.0.2.2", 4500), 0, b"", 4500)
        assert (state.window.highest, state.window.bitmap) == golden.export()
        good = len(sequences) - (forged is not None)
        assert state.spent.packets == good
        if not seen:
            assert (state.replays, state.integrity_failures) == (0, 0 if forged is None else 1)
    # A forged number left of the window is old the second time, and one right of it is forged once more.
    assert state.replays + state.integrity_failures == good + 2 * (forged is not None)


# Selectors


def test_a_later_fragment_passes_only_by_the_sa_of_its_first_rfc4301_7() -> None:
    inbound = Inbound(core(), Coalescer(core()))
    honest, other = inbound_state(0x1001, "10.2.0.0/24"), inbound_state(0x1002, "10.3.0.0/24")
    first = ipv4("10.2.0.5", "10.1.0.9", 17, bytes.fromhex("1234003500180000") + bytes(16), fragment=0x2000)
    later = ipv4("10.2.0.5", "10.1.0.9", 17, bytes(24), fragment=3)
    assert inbound._allowed(honest, first, parse(first))  # type: ignore[arg-type]
    assert inbound._allowed(honest, later, parse(later))  # type: ignore[arg-type]
    assert not inbound._allowed(other, later, parse(later))  # type: ignore[arg-type]


def test_an_icmp_error_passes_only_to_whom_it_quotes_rfc4301_6_2() -> None:
    inbound = Inbound(core(), Coalescer(core()))
    state = inbound_state(0x1001, "10.2.0.0/24", local="10.1.0.0/24")
    quote = ipv4("10.1.0.9", "10.2.0.5", 17, bytes(8))
    error = b"\x03\x01" + bytes(6) + quote
    to_sender, astray = (ipv4("10.9.9.9", to, 1, error) for to in ("10.1.0.9", "10.7.0.1"))
    assert inbound._allowed(state, to_sender, parse(to_sender))  # type: ignore[arg-type]
    assert not inbound._allowed(state, astray, parse(astray))  # type: ignore[arg-type]


# Memory


def test_deadlines_of_sas_that_went_are_forgotten() -> None:
    engine = Engine(SoftOptions(), nowhere(), lambda event: None, lambda datagram: None)
    for number in range(2000):
        state = inbound_state(0x1000 + number, "10.2.0.0/24", lifetime=Lifetime(Limits(3000), Limits(3600)))
        engine.core.sad.add(state)
        engine.watch(state)
        engine.core.sad.remove(state.sa.key)
    assert len(engine._deadlines) < 500
    engine.close(remove=False)


def test_keys_of_a_refused_sa_are_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.datapath.soft import control, wire
    from appliance.reasons import Refusal

    engine = Engine(SoftOptions(), nowhere(), lambda event: None, lambda datagram: None)
    seen: list[bytearray] = []
    real = Control._state

    def watched(self: Control, sa: object, encryption: bytearray, integrity: bytearray, others: object) -> object:
        seen.append(encryption)
        return real(self, sa, encryption, integrity, others)  # type: ignore[arg-type]

    monkeypatch.setattr(control.Control, "_state", watched)
    sa = inbound_state(0x1001, "10.2.0.0/24").sa
    request = [wire.encode(sa), 20, 0, False]
    with pytest.raises(Refusal):
        Control(engine).requests["install"]([request, request], bytearray(b"k" * 40), [])
    assert len(seen) == 2 and not any(any(key) for key in seen)
    engine.close(remove=False)


# What is executed


def test_the_process_takes_no_modules_from_the_working_directory(tmp_path: Path) -> None:
    from appliance.datapath.soft.client import process_command

    (tmp_path / "numpy.py").write_text("raise SystemExit(66)")
    (tmp_path / "appliance").mkdir()
    (tmp_path / "appliance" / "__init__.py").write_text("raise SystemExit(67)")
    argv, environment = process_command(987654)
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode not in (66, 67) and argv[0] == sys.executable
    assert "esplanade soft datapath" in done.stderr


# The guard


def protect(local: str, remote: str) -> SecurityPolicy:
    return SecurityPolicy(
        name=f"{local} {remote}", action=PolicyAction.PROTECT, priority=10,
        local_ts=(TrafficSelector.parse(local),), remote_ts=(TrafficSelector.parse(remote),), reqid=1,
    )  # fmt: skip


def crossing(lab: Lab) -> tuple[Namespace, Namespace, Namespace]:
    """Behind the tunnel, the gateway, the Internet. What "inner0" gives the gateway came out of the tunnel.

    The protected local network is behind another router, so the gateway has no address in it.
    """
    behind, gateway, outside = lab.namespace("behind"), lab.namespace("gw", forwarding=True), lab.namespace("out")
    lab.link(gateway, "inner0", behind, "tunnel")
    lab.link(gateway, "wan", outside, "wan")
    gateway.sysctl(ipv4__conf__all__rp_filter=0, ipv4__conf__inner0__rp_filter=0, ipv4__icmp_ratelimit=0)
    gateway.ip(
        "addr add 198.51.100.1/24 dev inner0", "addr add 2001:db8:1::1/64 dev inner0 nodad",
        "addr add 192.0.2.1/24 dev wan", "addr add 2001:db8::1/64 dev wan nodad",
        "route add default via 192.0.2.2", "route add default via 2001:db8::2",
    )  # fmt: skip
    outside.ip("addr add 192.0.2.2/24 dev wan", "addr add 2001:db8::2/64 dev wan nodad")
    behind.ip(
        "addr add 198.51.100.2/24 dev tunnel", "addr add 2001:db8:1::2/64 dev tunnel nodad",
        "addr add 10.2.0.5/32 dev lo", "addr add fd02::5/128 dev lo nodad",
        "route add 10.1.0.0/24 via 198.51.100.1", "route add fd01::/64 via 2001:db8:1::1",
    )  # fmt: skip
    return behind, gateway, outside


def say(namespace: Namespace, source: str, target: str, *, hops: int) -> None:
    version = ip_address(source).version
    with namespace.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        sock.bind((source, 0))
        sock.sendto(MARKER, (target, 7))


@network
def test_the_gateways_icmp_errors_quote_no_plaintext_outside_rfc4301_6() -> None:
    with Lab() as lab:
        behind, gateway, outside = crossing(lab)
        with inside(gateway):
            install_guard([protect("10.1.0.0/24", "10.2.0.0/24"), protect("fd01::/64", "fd02::/64")], tun="inner0")
        with Capture(outside, "wan") as capture:
            say(behind, "10.2.0.5", "10.1.0.9", hops=1)
            say(behind, "fd02::5", "fd01::9", hops=1)
            with inside(gateway):
                deadline = time.monotonic() + 3
                while guard_status().dropped_out < 2 and time.monotonic() < deadline:
                    time.sleep(0.01)
                dropped = guard_status().dropped_out
        assert not capture.leaks(marker=MARKER)
        assert dropped == 2


@network
def test_errors_about_what_is_not_protected_still_leave() -> None:
    with Lab() as lab:
        behind, gateway, outside = crossing(lab)
        behind.ip("addr add 10.7.0.5/32 dev lo", "route add 10.8.0.0/24 via 198.51.100.1")
        with inside(gateway):
            install_guard([protect("10.1.0.0/24", "10.2.0.0/24")], tun="inner0")
        with Capture(outside, "wan") as capture:
            say(behind, "10.7.0.5", "10.8.0.9", hops=1)
            deadline = time.monotonic() + 3
            while not any(MARKER in frame.data for frame in capture.frames) and time.monotonic() < deadline:
                time.sleep(0.01)
        assert capture.leaks(marker=MARKER)


@network
def test_forwarded_packets_that_look_like_neighbour_discovery_are_guarded_rfc4861_7_1() -> None:
    """Neighbour discovery is exempt, but it never comes through a router: its hop limit is 255."""
    with Lab() as lab:
        behind, gateway, outside = crossing(lab)
        behind.ip("addr add fd01::7/128 dev lo nodad", "route add fd02::9/128 via 2001:db8:1::1")
        with inside(gateway):
            install_guard([protect("fd01::/64", "fd02::/64")], tun="elsewhere")
        with Capture(outside, "wan") as capture, behind.socket(socket.AF_INET6, socket.SOCK_RAW, 58) as sock:
            sock.bind(("fd01::7", 0))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            sock.sendto(b"\x87\0\0\0" + bytes(4) + ip_address("fd02::9").packed + MARKER, ("fd02::9", 0))
            with inside(gateway):
                deadline = time.monotonic() + 3
                while not guard_status().dropped_out and not capture.frames and time.monotonic() < deadline:
                    time.sleep(0.01)
                dropped = guard_status().dropped_out
        assert not capture.leaks(marker=MARKER)
        assert dropped


@network
def test_the_guard_lets_ike_in_by_the_ports_that_are_configured(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        'schema = 1\n[ike]\nport = 4600\nport_nat = 4601\n[connection.b]\npsk = "long enough to be a secret"\n'
        'local = { address = "192.0.2.1", id = "a.example", auth = "psk" }\n'
        'remote = { address = "192.0.2.2", id = "b.example", auth = "psk" }\n'
        '[connection.b.child.net]\nlocal_ts = ["192.0.2.1"]\nremote_ts = ["192.0.2.2"]\n'
    )
    file.chmod(0o600)
    with Lab() as lab:
        gateway = lab.namespace("gw")
        with inside(gateway):
            guard.apply(load(file))
        rules = gateway.run(["nft", "list", "chain", "inet", "esplanade_guard_1", "arrive"]).stdout
    assert "udp dport { 4600, 4601 } accept" in rules
