"""Traffic selectors: which packets an SA or a policy is for (RFC 7296 §3.13.1, RFC 4301 §4.4.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132, "gre": 47, "ospf": 89}
_PROTOCOL_NAMES = {number: name for name, number in reversed(_PROTOCOLS.items())}


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """One range of addresses, one protocol (0: any) and one range of ports.

    Ports 0 to 65535 mean any; start 65535 with end 0 means OPAQUE: only packets whose ports cannot be seen
    (RFC 7296 §3.13.1). For ICMP the two bytes of a port are type and code.
    """

    start: Address
    end: Address
    protocol: int = 0
    start_port: int = 0
    end_port: int = 65535

    def __post_init__(self) -> None:
        if self.start.version != self.end.version:
            raise ValueError("a selector's addresses are of one family")
        if int(self.start) > int(self.end):
            raise ValueError(f"range {self.start}-{self.end} is upside down")
        if not 0 <= self.protocol <= 255:
            raise ValueError(f"protocol {self.protocol} is not 0 to 255")
        if not (0 <= self.start_port <= 65535 and 0 <= self.end_port <= 65535):
            raise ValueError("ports are 0 to 65535")
        if self.start_port > self.end_port and not self.is_opaque:
            raise ValueError(f"ports {self.start_port}-{self.end_port} are upside down")

    @classmethod
    def parse(cls, text: str) -> TrafficSelector:
        """Read ``ADDRESS[/BITS][[PROTOCOL[/PORT[-PORT]]]]`` or ``FIRST-LAST[...]``, strongSwan's notation.

        ``10.1.0.0/24``, ``192.0.2.1``, ``10.1.0.0/24[tcp/80]``, ``fd01::/64[udp/1000-2000]``, ``10.0.0.1-10.0.0.9``.
        Raises ValueError that says what is wrong with the text.
        """
        address, bracket, rest = text.strip().partition("[")
        protocol, ports = 0, (0, 65535)
        if bracket:
            if not rest.endswith("]"):
                raise ValueError(f"{text!r}: the bracket is not closed")
            protocol, ports = _parse_protocol_and_ports(rest[:-1])
        first, dash, last = address.partition("-")
        if dash:
            start, end = ip_address(first.strip()), ip_address(last.strip())
        else:
            network = ip_network(address.strip())  # host bits set are an error, as a typing mistake should be
            start, end = network[0], network[-1]
        return cls(start, end, protocol, *ports)

    @classmethod
    def from_network(cls, network: Network, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> TrafficSelector:
        """The selector of all addresses of a network."""
        return cls(network[0], network[-1], protocol, *ports)

    @classmethod
    def host(cls, address: Address, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> TrafficSelector:
        """The selector of one address."""
        return cls(address, address, protocol, *ports)

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.start.version

    @property
    def is_opaque(self) -> bool:
        """Whether the ports are OPAQUE."""
        return self.start_port == 65535 and self.end_port == 0

    @property
    def any_port(self) -> bool:
        """Whether every port matches, and packets without ports too."""
        return self.start_port == 0 and self.end_port == 65535

    @property
    def _prefix_length(self) -> int | None:
        """Bits of the prefix, if the range is one network."""
        size = int(self.end) - int(self.start) + 1
        if size & (size - 1) or int(self.start) % size:
            return None
        return self.start.max_prefixlen + 1 - size.bit_length()

    @property
    def networks(self) -> tuple[Network, ...]:
        """The address range as the fewest networks. Not kept: few ask, and there are thousands of selectors."""
        start, end = self.start, self.end
        prefix_length = self._prefix_length
        if prefix_length is not None:
            return (ip_network((start.packed, prefix_length)),)
        if isinstance(start, IPv4Address) and isinstance(end, IPv4Address):
            return tuple(summarize_address_range(start, end))
        assert isinstance(start, IPv6Address) and isinstance(end, IPv6Address)
        return tuple(summarize_address_range(start, end))

    def matches(self, address: Address, protocol: int, port: int | None) -> bool:
        """Whether a packet's address, protocol and port are inside. ``port`` is None where it cannot be seen.

        Unseen ports match ANY and OPAQUE only (RFC 4301 §4.4.1.1).
        """
        if address.version != self.start.version or not int(self.start) <= int(address) <= int(self.end):
            return False
        if self.protocol not in (0, protocol):
            return False
        if self.any_port:
            return True
        if port is None:
            return self.is_opaque
        return self.start_port <= port <= self.end_port

    def contains(self, other: TrafficSelector) -> bool:
        """Whether every packet of ``other`` is a packet of this one."""
        return self.intersection(other) == other

    def intersection(self, other: TrafficSelector) -> TrafficSelector | None:
        """The packets of both, or None."""
        if self.version != other.version:
            return None
        start = max(self.start, other.start, key=int)
        end = min(self.end, other.end, key=int)
        if int(start) > int(end):
            return None
        if self.protocol and other.protocol and self.protocol != other.protocol:
            return None
        ports = self._common_ports(other)
        if ports is None:
            return None
        protocol = self.protocol or other.protocol
        common = (start, end, protocol, *ports)
        if common == (self.start, self.end, self.protocol, self.start_port, self.end_port):
            return self  # so most SAs keep the configuration's own selectors, and no copies
        return TrafficSelector(*common)

    def _common_ports(self, other: TrafficSelector) -> tuple[int, int] | None:
        if self.any_port:
            return other.start_port, other.end_port
        if other.any_port:
            return self.start_port, self.end_port
        if self.is_opaque or other.is_opaque:
            return (65535, 0) if self.is_opaque and other.is_opaque else None
        low, high = max(self.start_port, other.start_port), min(self.end_port, other.end_port)
        return (low, high) if low <= high else None

    def __str__(self) -> str:
        prefix_length = self._prefix_length
        if prefix_length is None:
            address = f"{self.start}-{self.end}"
        elif prefix_length == self.start.max_prefixlen:
            address = str(self.start)
        else:
            address = f"{self.start}/{prefix_length}"
        if self.protocol == 0 and self.any_port:
            return address
        protocol = _PROTOCOL_NAMES.get(self.protocol, str(self.protocol) if self.protocol else "any")
        if self.any_port:
            return f"{address}[{protocol}]"
        if self.is_opaque:
            return f"{address}[{protocol}/opaque]"
        ports = str(self.start_port) if self.start_port == self.end_port else f"{self.start_port}-{self.end_port}"
        return f"{address}[{protocol}/{ports}]"


EVERYTHING = (TrafficSelector.parse("0.0.0.0/0"), TrafficSelector.parse("::/0"))
"""All packets, of both families."""


def _parse_protocol_and_ports(text: str) -> tuple[int, tuple[int, int]]:
    name, slash, port_text = text.partition("/")
    name = name.strip().lower()
    if name in ("", "any"):
        protocol = 0
    elif name in _PROTOCOLS:
        protocol = _PROTOCOLS[name]
    elif name.isdecimal() and int(name) <= 255:
        protocol = int(name)
    else:
        raise ValueError(f"protocol {name!r} is neither a number from 0 to 255 nor one of {', '.join(_PROTOCOLS)}")
    port_text = port_text.strip().lower()
    if not slash or port_text in ("", "any"):
        return protocol, (0, 65535)
    if port_text == "opaque":
        return protocol, (65535, 0)
    first, dash, last = port_text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise ValueError(f"ports {port_text!r} are not N or N-M")
    low, high = int(first), int(last if dash else first)
    if not low <= high <= 65535:
        raise ValueError(f"ports {port_text!r} are not within 0 to 65535 in rising order")
    return protocol, (low, high)
