"""The engine's datagrams on real sockets: for each address family one ingress, bound to all of its addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from appliance.daemon.addresses import port_is_taken
from appliance.ike.connection import Endpoint
from appliance.ike.events import Datagram
from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address

if TYPE_CHECKING:
    from appliance.datapath.ingress import Datagram as Received
    from appliance.datapath.ingress import Ingress, TooBig

ANY_ADDRESS = (IPv4Address(0), IPv6Address(0))


class Transport:
    """The IKE side of the ingress sockets. ``receive`` takes (message, local, remote).

    ``addresses`` are the configured local ones, to name the one of them whose port another program has.
    """

    def __init__(self, ike_port: int, nat_port: int, mark: int, addresses: Sequence[Address] = ()) -> None:
        self.ingresses: list[Ingress] = []
        self.receive: Callable[[bytes, Endpoint, Endpoint], None] = lambda data, local, remote: None
        self.stray_esp: Callable[[Received], None] = lambda datagram: None
        self.stray_too_big: Callable[[TooBig], None] = lambda error: None
        self._by_version: dict[int, Ingress] = {}
        self._ports = ike_port, nat_port
        self._mark = mark
        self._addresses = addresses

    def open(self) -> list[Refusal]:
        """Take the ports, for each family that this machine has. Returns why there is none of a family.

        Raises Refusal: PORT_IN_USE, NO_PRIVILEGE, or the last family's reason if there is none at all.
        """
        from appliance.datapath.ingress import open_ingress

        refused: list[Refusal] = []
        for address in ANY_ADDRESS:
            try:
                ingress = open_ingress(address, ike_port=self._ports[0], natt_port=self._ports[1], mark=self._mark)
            except Refusal as refusal:
                if refusal.reason is not Reason.BAD_ADDRESS:
                    self.close()
                    raise self._named(refusal) from refusal
                refused.append(refusal)
                continue
            self.ingresses.append(ingress)
            self._by_version[address.version] = ingress
        if not self.ingresses:
            raise refused[-1]
        return refused

    def _named(self, refusal: Refusal) -> Refusal:
        """A port of any address is in use: say of which address, if it is one of the configuration's."""
        if refusal.reason is not Reason.PORT_IN_USE:
            return refusal
        for address in self._addresses:
            for port in self._ports:
                if port_is_taken(address, port):
                    return Refusal(Reason.PORT_IN_USE, f"UDP {port} of {address}")
        return refusal

    def attach(self) -> None:
        """Start to receive."""
        loop = asyncio.get_running_loop()
        for ingress in self.ingresses:
            ingress.attach(
                loop,
                self.received,
                lambda datagram: self.stray_esp(datagram),
                lambda error: self.stray_too_big(error),
            )

    def received(self, datagram: Received) -> None:
        """An IKE message came, by a socket or by way of the datapath."""
        self.receive(
            datagram.data,
            Endpoint(datagram.destination, datagram.destination_port),
            Endpoint(datagram.source, datagram.source_port),
        )

    def send(self, datagram: Datagram) -> None:
        """Send what the engine says. Raises Refusal(SEND_FAILED)."""
        source, destination = datagram.source, datagram.destination
        ingress = self._by_version.get(destination.address.version)
        if ingress is None:
            raise Refusal(Reason.SEND_FAILED, f"there is no IPv{destination.address.version} socket")
        if datagram.keepalive:
            ingress.send_keepalive(destination.address, destination.port, source=source.address)
            return
        natt = source.port == self._ports[1]
        ingress.send(datagram.data, destination.address, destination.port, source=source.address, natt=natt)

    def close(self) -> None:
        """Close all sockets. Idempotent."""
        for ingress in self.ingresses:
            ingress.close()
        self.ingresses.clear()
        self._by_version.clear()
