"""The demo. Exit status 0 only if every step did what it should."""

from __future__ import annotations

import argparse
import sys
import time

from demo.screen import Screen, StepFailedError
from demo.sides import FarStrongSwan, far_esplanade, is_down, is_up, near, wait_for_state
from tests.lab import iperf, namespace, strongswan
from tests.lab.capture import Capture, Kind
from tests.lab.flow import MARKER, Flow
from tests.lab.gateway import Gateway, GatewayError, cli
from tests.lab.lab import Lab
from tests.lab.namespace import LabError
from tests.lab.ping import answers, ping
from tests.lab.topology import HOST_A, HOST_B, HOST_B6, INSIDE, SiteToSite

REKEYS = 3


def expect(condition: bool, what: str) -> None:
    """Raises StepFailedError unless ``condition`` holds."""
    if not condition:
        raise StepFailedError(what)


def guarded(screen: Screen, sites: SiteToSite, gateway: Gateway) -> None:
    """Before the daemon runs, protected traffic does not leave."""
    with screen.step("guard installed, as at boot; no gateway runs yet") as said:
        done = cli(sites.gw_a, "guard", "--config", str(gateway.config))
        expect(done.status == 0, f"esplanade guard: {done.err.strip()}")
        with Capture(sites.gw_a, "wan") as wire:
            lost = ping(sites.host_a, HOST_B, count=3, timeout=0.2)
            expect(lost.received == 0, "the other network answered, although there is no tunnel")
        leaked = wire.leaks(*INSIDE)
        expect(not leaked, f"{len(leaked)} packets left in the clear")
        said.append("3 packets for network B stopped, 0 left in the clear")


def negotiated(screen: Screen, gateway: Gateway, far: Gateway | FarStrongSwan) -> None:
    """The tunnel comes up by itself."""
    with screen.step("IKEv2 negotiated") as said:
        _, row = wait_for_state(gateway, is_up, 15)
        said.append(f"{row.local_id} and {row.remote_id}, IKE {row.suite}")
        child = row.children[0]
    screen.note(f"child net: ESP {child.suite}, {child.mode} mode, SPIs {child.spi_in} in, {child.spi_out} out")
    screen.note(f"           {', '.join(child.local_ts)}  <->  {', '.join(child.remote_ts)}")
    if isinstance(far, FarStrongSwan):
        screen.note(far.view())


def traffic(screen: Screen, sites: SiteToSite) -> tuple[float, float]:
    """Pings and TCP both ways. Returns Mbit/s, there and back."""
    with screen.step("ping host-a to host-b") as said:
        for family, address in (("IPv4", HOST_B), ("IPv6", HOST_B6)):
            result = ping(sites.host_a, address, count=10, interval=0.02)
            expect(result.ok, f"{family}: {result.received} of {result.sent} answered")
            median = sorted(result.rtts)[result.received // 2] * 1000
            said.append(f"{family} 10 of 10, {median:.2f} ms")
    with screen.step("TCP through the tunnel, 3 s each way") as said:
        there = iperf.tcp(sites.host_a, sites.host_b, HOST_B, seconds=3).bits_per_second / 1e6
        back = iperf.tcp(sites.host_b, sites.host_a, HOST_A, seconds=3).bits_per_second / 1e6
        said.append(f"{there:.0f} Mbit/s there, {back:.0f} Mbit/s back")
    return there, back


def rekeyed(screen: Screen, sites: SiteToSite, gateway: Gateway) -> int:
    """Child and IKE SAs are replaced while packets flow. Returns how many packets were counted."""
    with screen.step(f"{REKEYS} rekeys of the child SA and 1 of the IKE SA under load") as said:
        before = gateway.connection("site-b")
        flows = [
            Flow(sites.host_a, sites.host_b, HOST_B, rate=1000),
            Flow(sites.host_b, sites.host_a, HOST_A, rate=1000),
        ]
        for _ in range(REKEYS):
            time.sleep(0.5)
            gateway.rekey("site-b", "net")
        time.sleep(0.5)
        gateway.rekey("site-b")
        time.sleep(1.0)
        counted = [flow.stop() for flow in flows]
        after = gateway.connection("site-b")
        sent, lost = sum(flow.sent for flow in counted), sum(flow.lost for flow in counted)
        expect(after.spi_initiator != before.spi_initiator, "the IKE SA is still the old one")
        expect(after.children[0].spi_in != before.children[0].spi_in, "the child SA is still the old one")
        expect(lost == 0, f"{lost} of {sent} packets were lost")
        said.append(f"{sent} packets at 2,000 a second, {lost} lost")
    return sent


def cut_and_repaired(screen: Screen, sites: SiteToSite, gateway: Gateway) -> float:
    """The line is cut, the tunnel goes down with a reason, and comes back. Returns the seconds it took to come back."""
    with screen.step("link cut: the tunnel is seen to be down") as said:
        sites.cut()
        took, row = wait_for_state(gateway, is_down, 20)
        assert row.reason is not None
        said.append(f"after {took:.1f} s, {row.reason.reason} ({row.reason.words})")
        expect(ping(sites.host_a, HOST_B, count=2, timeout=0.2).received == 0, "the other network still answers")
    with screen.step("link repaired: traffic passes again") as said:
        sites.repair()
        seconds = answers(sites.host_a, HOST_B, within=20)
        if seconds is None:
            raise StepFailedError("it does not after 20 s")
        said.append(f"after {seconds:.1f} s, by itself")
    return seconds


def run(screen: Screen, lab: Lab, peer: str) -> None:
    """All steps."""
    sites = SiteToSite(lab)
    left = near(sites)
    far: Gateway | FarStrongSwan = FarStrongSwan(sites) if peer == "strongswan" else far_esplanade(sites)
    screen.text("Two networks, two gateways, an untrusted line between them.")
    screen.picture("Esplanade", "strongSwan" if peer == "strongswan" else "Esplanade")
    guarded(screen, sites, left)
    with Capture(sites.middle, "side-a", snap=256) as line:
        with screen.step("gateways started"):
            far.start()
            left.start()
        negotiated(screen, left, far)
    # The fast transfer is measured without a capture: it would measure the capture.
    there, back = traffic(screen, sites)
    with Capture(sites.middle, "side-a") as again:
        sent = rekeyed(screen, sites, left)
        recovery = cut_and_repaired(screen, sites, left)
    with screen.step("what an observer of the line saw") as said:
        leaked = line.leaks(*INSIDE, marker=MARKER) + again.leaks(*INSIDE, marker=MARKER)
        expect(not leaked, f"{len(leaked)} packets in the clear")
        seen = {kind: line.count(kind) + again.count(kind) for kind in Kind}
        esp = seen[Kind.ESP] + seen[Kind.ESP_IN_UDP]
        # Packets may have been sent before the capture, which may itself lose some on a busy machine.
        expect(esp > 0.9 * sent, f"{esp} ESP packets for {sent} sent: the traffic went elsewhere")
        said.append(f"{seen[Kind.IKE]} IKE and {esp} ESP packets, 0 in the clear")
    if isinstance(far, FarStrongSwan):
        screen.note(far.view())
    with screen.step("gateways stopped"):
        expect(left.stop() == 0, f"exit status of the gateway:\n{left.tail()}")
    screen.text()
    screen.text(f"Measured in {screen.elapsed:.0f} s, peer {peer}:")
    screen.text(
        f"   TCP            {there:8.0f} Mbit/s there, {back:.0f} Mbit/s back (AES-256-GCM, all on this machine)"
    )
    screen.text(f"   rekeys         {REKEYS + 1:8d} with {sent} packets under way, 0 lost")
    screen.text(f"   recovery       {recovery:8.1f} s from the repair of the line to the first answer")
    screen.text(f"   in the clear   {0:8d} packets")


def main() -> int:
    """Runs the demo; says in a line what failed."""
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--peer", choices=["esplanade", "strongswan"], default="esplanade")
    parser.add_argument("--keep", action="store_true", help="leave logs and captures where they are")
    args = parser.parse_args()
    missing = namespace.why_not() or (strongswan.why_not() if args.peer == "strongswan" else None)
    if missing is not None:
        print(f"The demo cannot run here: {missing}", file=sys.stderr)
        return 1
    screen = Screen()
    lab = Lab(keep=True)
    failed = True
    try:
        with lab:
            run(screen, lab, args.peer)
        failed = False
    except (StepFailedError, GatewayError, LabError, TimeoutError, RuntimeError) as error:
        screen.text(f"\nThe demo failed: {error}")
    except KeyboardInterrupt:
        screen.text("\nInterrupted.")
    finally:
        lab.keep = args.keep or failed
        lab.discard()
    if lab.keep:
        screen.text(f"Logs and captures are in {lab.directory}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
