"""Tunnel interfaces: from their values to the model, and what several of them must not share."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from appliance.config.model import Connection, Interface
from appliance.config.read import KeyPath, Report, Section
from appliance.config.values import NAME, interface_name_fault, shown
from appliance.reasons import Reason
from appliance.sa.selector import Address, Network

_MTU_IPV6 = 1280


def default_if_id(name: str) -> int:
    """The number of an interface that is given none: the same whatever else the file says."""
    return zlib.crc32(name.encode()) or 1


def build_interface(section: Section, report: Report) -> Interface:
    """An interface, checked by itself."""
    v = section.values
    name = str(section.path[-1])
    wrong = interface_name_fault(name)
    if wrong and NAME.fullmatch(name):
        report.add(
            section.path,
            Reason.CONFIG_NAME,
            f"{shown(name)} {wrong}",
            "the kernel's interface has this name",
            'choose another, such as "ipsec0"',
        )
    interface = Interface(
        name=name,
        addresses=v["address"] or (),
        routes=v["routes"] or (),
        mtu=v["mtu"],
        if_id=default_if_id(name) if v["if_id"] is None else v["if_id"],
        device=v["device"],
        line=report.line(section.path),
    )
    ipv6 = any(item.version == 6 for item in (*interface.addresses, *interface.routes))
    if ipv6 and interface.mtu < _MTU_IPV6 and section.good("mtu"):
        report.add(
            section.at("mtu"),
            Reason.CONFIG_CONFLICT,
            f"mtu is {interface.mtu}, and there are IPv6 addresses or routes",
            f"the kernel has no IPv6 on an interface with less than {_MTU_IPV6} (RFC 8200 §5)",
            f"write {_MTU_IPV6} or more, or leave IPv6 out",
            value=True,
        )
    return interface


def check_interfaces(
    interfaces: Sequence[Interface], connections: Sequence[Connection], tun: str, report: Report
) -> None:
    """What interfaces must not share with each other, nor with the TUN device; and what is likely a mistake."""
    used = {child.interface for connection in connections for child in connection.children}
    names = {interface.name for interface in interfaces}
    ids: dict[int, Interface] = {}
    routed: dict[Network, Interface] = {}
    for interface in interfaces:
        path = ("interface", interface.name)
        if interface.name == tun:
            report.add(
                path,
                Reason.CONFIG_CONFLICT,
                f"{tun} is the userspace datapath's TUN device",
                "an interface's name is there once",
                "choose another name for one of them: here, or in datapath.soft.tun",
            )
        if interface.name not in used and interface_name_fault(interface.name) is None:
            report.add(
                path,
                Reason.CONFIG_CONFLICT,
                f"no child uses the interface {interface.name}",
                "what is routed there is dropped",
                f'write interface = "{interface.name}" into a child, or remove it',
                warning=True,
            )
        if interface.device in names:
            report.add(
                (*path, "device"),
                Reason.CONFIG_CONFLICT,
                f"{interface.device} is a tunnel interface itself",
                "the interface below has to lead to the peer outside tunnels",
                "remove device, or name the network device that leads to the peer",
                value=True,
            )
        first = ids.setdefault(interface.if_id, interface)
        if first is not interface:
            _same_number(first, interface, path, report)
        for key, index, network in _routed(interface):
            other = routed.setdefault(network, interface)
            if other is not interface:
                report.add(
                    (*path, key, index),
                    Reason.CONFIG_CONFLICT,
                    f"{network} is routed to {other.name} already, in line {other.line}",
                    "packets take one way",
                    "remove it from one of the two, or make one narrower",
                    value=True,
                )
        for key, network, peer in _swallowed(interface, connections):
            report.add(
                (*path, key),
                Reason.CONFIG_SIDES,
                f"the route {network} leads {peer}, the tunnel's own peer, into the tunnel",
                "its encrypted packets would go into it again, and be dropped",
                f"see that a narrower route leads to {peer} outside, such as {peer}/{peer.max_prefixlen}",
                warning=True,
                value=True,
            )


def _same_number(first: Interface, second: Interface, path: KeyPath, report: Report) -> None:
    report.add(
        (*path, "if_id"),
        Reason.CONFIG_CONFLICT,
        f"{second.name} and {first.name} (line {first.line}) both have if_id {second.if_id}",
        "the number joins an interface and its SAs, and where it is not given it is made from the name",
        f"give {second.name} an if_id of its own",
    )


def _routed(interface: Interface) -> Iterator[tuple[str, int, Network]]:
    """What leads to an interface: its routes and the networks of its addresses; with the key that says so."""
    for index, network in enumerate(interface.routes):
        yield "routes", index, network
    for index, address in enumerate(interface.addresses):
        if address.network.num_addresses > 1:
            yield "address", index, address.network


def _swallowed(interface: Interface, connections: Sequence[Connection]) -> Iterator[tuple[str, Network, Address]]:
    """The first route that holds a peer's outer address, with its key and that address."""
    for connection in connections:
        if any(child.interface == interface.name for child in connection.children):
            for peer in connection.remote.addresses:
                found = next(((key, network) for key, _, network in _routed(interface) if peer in network), None)
                if found is not None:
                    yield *found, peer
