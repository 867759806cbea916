"""What goes wrong outside of us gets a clear message, and the rest keeps running."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.console.protocol import State
from tests.lab import config, topology
from tests.lab.capture import Capture, Kind
from tests.lab.gateway import ESPLANADE, Gateway, cli
from tests.lab.ping import answers, ping
from tests.lab.topology import SiteToSite
from tests.system.duo import A, B, Duo

ROOT = Path(__file__).parents[2]
LIFT = "esplanade guard --remove"
_POINT = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
PUBLIC_VALUE = _POINT.x.to_bytes(48) + _POINT.y.to_bytes(48)
"""As KE payloads have it (RFC 5903 §7)."""


def start_and_fail(gateway: Gateway) -> str:
    """Starts a gateway that has to refuse; what it says."""
    gateway.start(ready=False)
    assert gateway.process is not None
    assert gateway.process.wait(15) not in (0, None)
    assert "Traceback" not in gateway.log
    return gateway.log


def test_port_in_use_names_the_port(sites: SiteToSite) -> None:
    with sites.gw_a.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("192.0.2.1", 500))
        duo = Duo(sites)
        said = start_and_fail(duo.a)
    assert "500" in said
    assert "192.0.2.1" in said
    # No guard is up: nothing to lift.
    assert LIFT not in said
    duo.a.start()


def test_a_failed_start_says_that_the_guard_of_boot_stays(sites: SiteToSite) -> None:
    duo = Duo(sites)
    assert cli(sites.gw_a, "guard", "--config", str(duo.a.config)).status == 0
    with sites.gw_a.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("192.0.2.1", 500))
        assert LIFT in start_and_fail(duo.a)
    secret = duo.a.directory / "psk"
    duo.a.write(duo.text_a.replace(f'psk = "{config.PSK}"', f'psk_file = "{secret}"'))
    said = start_and_fail(duo.a)
    assert str(secret) in said
    assert LIFT in said
    assert "protects is dropped" in said


def test_a_second_daemon_is_refused(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    second = Gateway(sites.gw_a, duo.text_a, name="second")
    said = start_and_fail(second)
    assert "another" in said or "in use" in said
    # One that knows of the first by its control socket speaks of no guard: the first carries the traffic.
    argv = [*ESPLANADE, "run", "--config", str(duo.a.config), "--control", str(duo.a.control)]
    third = sites.gw_a.run(argv, check=False, timeout=20)
    assert third.returncode == 1
    assert LIFT not in third.stderr
    duo.assert_traffic(1)


def test_no_tun_is_named(sites: SiteToSite) -> None:
    duo = Duo(sites)
    # A machine without the device: here, one with a /dev of its own that lacks it.
    bare = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/net && exec "$@"', "sh"]
    done = sites.gw_a.run(
        [*bare, *ESPLANADE, "run", "--config", str(duo.a.config), "--control", str(duo.a.control)],
        check=False,
        timeout=20,
    )
    assert done.returncode not in (0, -15)
    assert "Traceback" not in done.stderr + done.stdout
    assert "/dev/net/tun" in done.stderr + done.stdout
    # It fails closed, says so, and what it names undoes it.
    assert "protects is dropped" in done.stderr
    assert LIFT in done.stderr
    assert ping(sites.host_a, topology.HOST_B, count=2, interval=0.02, timeout=0.3).received == 0
    assert cli(sites.gw_a, "guard", "--remove").status == 0
    assert answers(sites.host_a, topology.HOST_B, within=2) is not None


def test_no_root_is_named(sites: SiteToSite) -> None:
    duo = Duo(sites)
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--securebits=+noroot,+noroot_locked", "--"]
    done = sites.gw_a.run(
        [*drop, *ESPLANADE, "run", "--config", str(duo.a.config), "--control", str(duo.a.control)],
        check=False,
        timeout=20,
    )
    said = done.stderr + done.stdout
    assert done.returncode != 0
    assert "Traceback" not in said
    assert "root" in said or "privilege" in said or "CAP_NET_ADMIN" in said


def test_control_socket_of_a_dead_daemon(sites: SiteToSite) -> None:
    duo = Duo(sites)
    duo.a.start()
    duo.a.kill9()
    for command in (["show", "connections"], ["initiate", A], ["reload"]):
        done = duo.a.cli(*command)
        assert done.status == 3
        assert "Traceback" not in done.err
        assert str(duo.a.control) in done.err
    # And the next daemon takes its place.
    duo.a.restart()
    assert duo.a.cli("show", "connections").status == 0


def test_no_control_socket(sites: SiteToSite) -> None:
    duo = Duo(sites)
    done = duo.a.cli("show", "sa")
    assert done.status == 3
    assert "Traceback" not in done.err


def test_half_a_configuration_is_refused_at_the_start(sites: SiteToSite) -> None:
    duo = Duo(sites)
    whole = duo.text_a
    for part in (whole[: len(whole) // 2], whole[: len(whole) // 3], ""):
        duo.a.write(part)
        done = cli(sites.gw_a, "check", "--config", str(duo.a.config))
        assert done.status == 1
        assert "gateway.toml" in done.err + done.out
        assert "Traceback" not in done.err
    duo.a.write(whole[: len(whole) // 2])
    assert "gateway.toml" in start_and_fail(duo.a)


def test_a_missing_and_an_exposed_key_file_are_named(sites: SiteToSite) -> None:
    duo = Duo(sites)
    secret = duo.a.directory / "psk"
    text = duo.text_a.replace(f'psk = "{config.PSK}"', f'psk_file = "{secret}"')
    duo.a.write(text)
    done = cli(sites.gw_a, "check", "--config", str(duo.a.config))
    assert done.status == 1
    assert str(secret) in done.err + done.out
    secret.write_text(config.PSK)
    secret.chmod(0o644)
    done = cli(sites.gw_a, "check", "--config", str(duo.a.config))
    assert done.status == 1
    assert "chmod 600" in done.err + done.out
    assert config.PSK not in done.err + done.out
    secret.chmod(0o600)
    assert cli(sites.gw_a, "check", "--config", str(duo.a.config)).status == 0


def test_a_silent_peer_is_named_and_others_run_on(sites: SiteToSite) -> None:
    duo = Duo(sites)
    duo.a.write(
        duo.text_a.replace(
            "[datapath]",
            """[connection.silent]
local = { address = "192.0.2.1", id = "gw-a.example", auth = "psk" }
remote = { address = "192.0.2.99", id = "gw-z.example", auth = "psk" }
psk = "nobody hears this"
start = "initiate"
retransmit = { timeout = "200ms", base = 1, tries = 2 }

[connection.silent.child.net]
local_ts = ["10.1.0.0/24"]
remote_ts = ["10.99.0.0/24"]

[datapath]""",
        )
    )
    duo.start().up()

    def reason() -> str | None:
        cause = duo.a.connection("silent").reason
        return cause.reason if cause else None

    assert duo.a.wait("told", reason, 10) == "PEER_SILENT"
    assert duo.a.connection("silent").state is not State.ESTABLISHED
    duo.assert_traffic(1)
    shown = duo.a.cli("show", "connections")
    assert "silent" in shown.out


def ike_sa_init() -> bytes:
    """An IKE_SA_INIT request as a flooder sends it: well formed, a fresh SPI, a public value that is a point."""
    nonce, public = secrets.token_bytes(32), PUBLIC_VALUE
    # Proposal 1, IKE: AES-GCM-16-256, PRF-HMAC-SHA2-384, ECP-384 (RFC 7296 §3.3).
    transforms = [(1, 20, struct.pack("!HH", 0x800E, 256)), (2, 6, b""), (4, 20, b"")]
    body = b""
    for number, (kind, id_, attribute) in enumerate(transforms):
        last = number == len(transforms) - 1
        body += struct.pack("!BBHBBH", 0 if last else 3, 0, 8 + len(attribute), kind, 0, id_) + attribute
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(body), 1, 1, 0, len(transforms)) + body
    payloads = b""
    for following, content in ((34, proposal), (40, struct.pack("!HH", 20, 0) + public), (0, nonce)):
        payloads += struct.pack("!BBH", following, 0, 4 + len(content)) + content
    header = secrets.token_bytes(8) + bytes(8) + struct.pack("!BBBBII", 33, 0x20, 34, 0x08, 0, 28 + len(payloads))
    return header + payloads


def test_a_flood_of_ike_sa_init_meets_cookies_rfc7296_2_6(sites: SiteToSite) -> None:
    duo = Duo(sites, any_peer=True).start().up()
    sites.middle.ip("addr add 192.0.2.66/24 dev switch")
    with Capture(sites.middle, "side-b") as wire, sites.middle.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        flood.bind(("192.0.2.66", 500))
        began = time.monotonic()
        sent = 0
        while time.monotonic() < began + 2:
            flood.sendto(ike_sa_init(), ("192.0.2.2", 500))
            sent += 1
            if sent % 50 == 0:
                time.sleep(0.02)
        # While it lasts: the tunnel carries, and management answers within a second.
        asked = time.monotonic()
        assert duo.b.connection(B).state is State.ESTABLISHED
        assert time.monotonic() - asked < 1
        assert ping(sites.host_a, topology.HOST_B, count=3, interval=0.02).ok
    # An answer with a COOKIE is one notify of a few bytes; a real one carries a key exchange of 96.
    answers = [f for f in wire.frames if f.kind is Kind.IKE and str(f.addresses[0]) == "192.0.2.2"]
    full = [f for f in answers if len(f.data) > 14 + 20 + 8 + 28 + 104]
    assert sent > 500
    assert len(full) < 200, (len(full), len(answers), sent)
    told = [row.text for row in duo.b.log_rows() if "flood of IKE_SA_INIT" in row.text]
    assert len(told) == 1
    assert "ike.cookie_threshold = 32" in told[0]
    # A peer that can receive gets in despite of it.
    duo.a.terminate(A)
    duo.a.initiate(A)
    duo.assert_traffic(1)


def test_replayed_and_forged_esp_is_dropped_and_counted_rfc4303_3_4_3(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    with Capture(sites.gw_b, "wan") as wire:
        duo.assert_traffic()
    esp = [f for f in wire.frames if f.kind is Kind.ESP and str(f.addresses[0]) == "192.0.2.1"]
    assert len(esp) == 8
    before = duo.b.counters()
    with (
        Capture(sites.host_b, "lan") as inside,
        sites.middle.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire_out,
    ):
        wire_out.bind(("side-b", 0))
        for frame in esp:
            wire_out.send(frame.data)  # replayed
            forged = bytearray(frame.data)
            forged[-1] ^= 1  # its ICV is wrong now
            forged[14 + 20 + 4 : 14 + 20 + 8] = struct.pack("!I", 1 << 20)  # and its sequence number new
            wire_out.send(bytes(forged))
        duo.b.wait("counted", lambda: duo.b.counters().get("REPLAYED", 0) - before.get("REPLAYED", 0) >= 8, 5)
    assert not inside.leaks(topology.NET_A, topology.NET_A6)
    inbound = [sa for sa in duo.b.sas() if sa.direction == "in"]
    assert sum(sa.replays for sa in inbound) == 8
    assert sum(sa.integrity_failures for sa in inbound) == 8
    # The forged sequence numbers did not move the window.
    duo.assert_traffic(1)


def test_garbage_on_both_ports_is_dropped(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    sites.middle.ip("addr add 192.0.2.66/24 dev switch")
    with sites.middle.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in (500, 4500):
            for size in (0, 1, 3, 4, 11, 12, 27, 28, 29, 60, 500, 1400, 9000):
                for start in (b"", bytes(4), b"\xff"):
                    sender.sendto((start + secrets.token_bytes(size))[:65000], ("192.0.2.2", port))
            message = bytearray(ike_sa_init())
            for cut in range(0, len(message), 7):
                sender.sendto(bytes(message[:cut]), ("192.0.2.2", port))
                sender.sendto(bytes(4) + bytes(message[:cut]), ("192.0.2.2", port))
    duo.assert_traffic(1)
    assert duo.b.process is not None
    assert duo.b.process.running
    assert "Traceback" not in duo.b.log


def test_forged_icmp_does_not_push_the_path_mtu_below_the_floor(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    with Capture(sites.middle, "side-a") as wire:
        duo.assert_traffic(1)
    esp = next(f for f in wire.frames if f.kind is Kind.ESP and str(f.addresses[0]) == "192.0.2.1")
    quoted = esp.data[14 : 14 + 20 + 8]
    head = struct.pack("!BBHHH", 3, 4, 0, 0, 68)
    total = sum(struct.unpack(f"!{len(head + quoted) // 2}H", head + quoted))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = struct.pack("!BBHHH", 3, 4, ~total & 0xFFFF, 0, 68) + quoted
    sites.middle.ip("addr add 192.0.2.66/24 dev switch")
    with sites.middle.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
        for _ in range(10):
            sender.sendto(message, ("192.0.2.1", 0))
    time.sleep(0.2)
    # 500 bytes still cross unfragmented: the floor is 576 outside.
    assert ping(sites.host_a, topology.HOST_B, size=400, count=3, interval=0.02, dont_fragment=True).ok


def test_every_show_answers_within_a_second_while_the_peer_is_gone(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    sites.cut()
    for what in ("connections", "sa", "policies", "datapath", "offload", "counters", "log"):
        began = time.monotonic()
        done = duo.a.cli("show", what, "--json")
        assert done.status == 0, done.err
        assert time.monotonic() - began < 1
        assert isinstance(done.json, list | dict)


@pytest.mark.skipif(os.geteuid() != 0, reason="root only: it becomes somebody else")
def test_the_control_socket_is_not_for_everybody(sites: SiteToSite) -> None:
    duo = Duo(sites)
    duo.a.start()
    assert duo.a.control.stat().st_mode & 0o007 == 0
