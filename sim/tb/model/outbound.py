"""SAs for the benches of the engine: what the hardware is told of one, beside the golden model's of the same."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from appliance.esp.drop import Drop
from appliance.esp.encapsulation import Transport, encapsulate
from appliance.esp.ip import parse
from appliance.esp.outbound import OutboundSa
from appliance.esp.transform import AES_GCM_16, transform
from appliance.esp.transport import split_to_protect
from appliance.esp.tunnel import Df, Dscp, Tunnel
from appliance.reasons import Reason
from sim.coverage.traffic import Sample
from sim.tb.structs import layout

SA = layout("outbound_sa_t")
_DF = {Df.COPY: "DfCopy", Df.SET: "DfSet", Df.CLEAR: "DfClear"}
_DF_CODE = layout("df_e")
_LAST = {True: (1 << 64) - 1, False: (1 << 32) - 1}


def some_address(version: int) -> IPv4Address | IPv6Address:
    """Any address."""
    return IPv4Address(random.randbytes(4)) if version == 4 else IPv6Address(random.randbytes(16))


def some_ports() -> tuple[int, int] | None:
    """No UDP, UDP as usual, or on ports of any number."""
    return random.choice((None, None, (4500, 4500), (random.randint(1, 65535), random.randint(1, 65535))))


def some_tunnel(version: int | None = None, **given: Any) -> Tunnel:
    """A tunnel with any outer header."""
    version = version or random.choice((4, 6))
    fields: dict[str, Any] = {
        "source": some_address(version),
        "destination": some_address(version),
        "ports": some_ports(),
        "dscp": random.choice((Dscp.COPY, Dscp.CLEAR, random.randrange(64))),
        "df": random.choice(list(Df)),
        "copy_ecn": random.random() < 0.7,
        "hop_limit": random.choice((1, 64, 255)),
        "flow_label": random.choice((None, 0, random.getrandbits(20))),
        "tfc_length": random.choice((0, 0, 0, 100, random.randint(1, 600))),
    }
    return Tunnel(**{**fields, **given})


@dataclass
class Outbound:
    """An outbound SA as installed: keys, form and limits, and the golden model's state of it."""

    form: Tunnel | Transport
    generation: int
    esn: bool
    key: bytes
    salt: bytes
    spi: int
    limits: Mapping[str, int] = field(default_factory=dict)  # hard_packets, soft_bytes, and so on; absent is none
    largest: int = 9728  # bytes of an outer packet
    sent_packets: int = 0
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        cipher = transform(AES_GCM_16, 0, self.key + self.salt, b"")
        self.golden = OutboundSa(self.spi, cipher, esn=self.esn)

    def packed(self) -> int:
        """outbound_sa_t."""
        form: dict[str, Any] = {
            "valid": 1,
            "generation": self.generation,
            "transport": int(isinstance(self.form, Transport)),
            "udp": int(self.form.ports is not None),
            "esn": int(self.esn),
            "key256": int(len(self.key) == 32),
        }
        if self.form.ports:
            form |= {"source_port": self.form.ports[0], "destination_port": self.form.ports[1]}
        addresses = {}
        if isinstance(self.form, Tunnel):
            tunnel = self.form
            addresses = {"source": int(tunnel.source), "destination": int(tunnel.destination)}
            form |= {
                "v6": int(tunnel.source.version == 6),
                "dscp_copy": int(tunnel.dscp is Dscp.COPY),
                "dscp": tunnel.dscp if isinstance(tunnel.dscp, int) else 0,
                "ecn_copy": int(tunnel.copy_ecn),
                "df": _DF_CODE[_DF[tunnel.df]],
                "flow_copy": int(tunnel.flow_label is None),
                "flow_label": tunnel.flow_label or 0,
                "hop_limit": tunnel.hop_limit,
                "tfc_length": tunnel.tfc_length,
            }
        limits = {
            f"{kind}_limits": {unit: self.limits.get(f"{kind}_{unit}", 0) for unit in ("packets", "bytes")}
            for kind in ("hard", "soft")
        }
        identity = {"spi": self.spi, "salt": int.from_bytes(self.salt, "little")}
        return SA.pack({"form": form, "id": identity, **limits, **addresses})

    def key_number(self) -> int:
        """The key as key_unit takes it: first byte lowest."""
        return int.from_bytes(self.key, "little")

    def take(self, packet: bytes, generation: int, headroom: int) -> tuple[bytes | Reason, dict[str, int]]:
        """What becomes of a well-formed packet, and the events that it sets."""
        if generation != self.generation:
            return Reason.NO_SA, {}
        try:
            header = parse(packet)
            inner = header.total_length
            if isinstance(self.form, Transport):
                inner -= len(split_to_protect(packet).head)
        except Drop as drop:
            return drop.reason, {}
        if self.golden.sequence == _LAST[self.esn]:
            return Reason.SEQUENCE_EXHAUSTED, {}
        now = {"packets": self.sent_packets, "bytes": self.sent_bytes}
        for unit, count in now.items():
            limit = self.limits.get(f"hard_{unit}", 0)
            if limit and count >= limit:
                return Reason.LIFETIME_EXPIRED, {}
        try:
            made = encapsulate(self.golden, self.form, packet[: header.total_length])
        except Drop as drop:
            made, dropped = b"", drop.reason
        else:
            dropped = Reason.TOO_BIG
        # A number is spent also on what is too big.
        events = {"headroom": int(self.golden.remaining == headroom)}
        if not 0 < len(made) <= self.largest:
            return dropped, events
        self.sent_packets += 1
        self.sent_bytes += inner
        for kind in ("hard", "soft"):
            for unit, old in now.items():
                limit = self.limits.get(f"{kind}_{unit}", 0)
                events[f"{kind}_{unit}"] = int(bool(limit) and old < limit <= getattr(self, f"sent_{unit}"))
        return made, events


def sample(model: Outbound, packet: bytes, pressure: str) -> Sample:
    """What a packet that was protected is for the coverage of traffic."""
    header = parse(packet)
    inner = header.version
    transport = isinstance(model.form, Transport)
    size = header.total_length
    payload = size - len(split_to_protect(packet).head) if transport else size
    tfc = isinstance(model.form, Tunnel) and payload < model.form.tfc_length
    padded = model.form.tfc_length if isinstance(model.form, Tunnel) and tfc else payload
    outer = model.form.source.version if isinstance(model.form, Tunnel) else inner
    return Sample(
        form=f"transport {inner}" if transport else f"tunnel {inner} in {outer}",
        udp=model.form.ports is not None,
        key=8 * len(model.key),
        esn=model.esn,
        size=size,
        padding=-(padded + 2) % 4,
        tfc=tfc,
        pressure=pressure,
    )


def some_outbound(generation: int, form: Tunnel | Transport | None = None, **given: Any) -> Outbound:
    """An outbound SA with any form, algorithm and numbering."""
    if form is None:
        form = some_tunnel() if random.random() < 0.7 else Transport(ports=some_ports())
    fields: dict[str, Any] = {
        "esn": random.random() < 0.5,
        "key": random.randbytes(random.choice((16, 32))),
        "salt": random.randbytes(4),
        "spi": random.randint(256, (1 << 32) - 1),
    }
    return Outbound(form=form, generation=generation, **{**fields, **given})
