"""Headers beside those of packets that the golden model makes (appliance.esp.tunnel and transport)."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

from appliance.esp.checksum import internet_checksum
from appliance.esp.encapsulation import Transport, encapsulate
from appliance.esp.ip import Ipv4Header, Ipv6Header, parse
from appliance.esp.outbound import OutboundSa
from appliance.esp.transform import AES_GCM_16, transform
from appliance.esp.transport import split_to_protect
from appliance.esp.tunnel import Df, Dscp, Tunnel
from sim.tb.structs import layout

JOB, HEAD, DF = layout("outbound_job_t"), layout("outbound_head_t"), layout("df_e")
ICV = 16


def some_packet(version: int) -> bytes:
    body = random.randbytes(random.randint(0, 200))
    if version == 4:
        return Ipv4Header(
            source=random.randbytes(4), destination=random.randbytes(4), protocol=random.choice((6, 17, 1)),
            total_length=20 + len(body), hop_limit=random.getrandbits(8), traffic_class=random.getrandbits(8),
            identification=random.getrandbits(16), dont_fragment=bool(random.getrandbits(1)),
        ).build() + body  # fmt: skip
    return Ipv6Header(
        source=random.randbytes(16), destination=random.randbytes(16), protocol=random.choice((6, 17, 58)),
        total_length=40 + len(body), hop_limit=random.getrandbits(8), traffic_class=random.getrandbits(8),
        flow_label=random.getrandbits(20),
    ).build() + body  # fmt: skip


def some_sequence() -> int:
    return random.choice((1, 0xFFFF, 0xFFFFFFFE, random.getrandbits(32) or 1, random.randrange(1 << 63)))


def some_ports() -> tuple[int, int] | None:
    return random.choice((None, (4500, 4500), (random.randint(1, 65535), random.randint(1, 65535))))


class TB:
    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut

    async def start(self) -> None:
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk_i, 10, "ns").start())
        dut.job_valid_i.value = dut.head_ready_i.value = 0
        dut.rst_ni.value = 0
        for _ in range(3):
            await RisingEdge(dut.clk_i)
        dut.rst_ni.value = 1

    async def head(self, job: int) -> tuple[dict[str, int], int]:
        """What is made of a job, and how many cycles it took."""
        dut = self.dut
        dut.job_i.value, dut.job_valid_i.value = job, 1
        dut.head_ready_i.value = late = random.getrandbits(1)
        cycles = 0
        await ReadOnly()
        while not dut.head_valid_o.value:
            assert not dut.job_ready_o.value
            await RisingEdge(dut.clk_i)
            await ReadOnly()
            cycles += 1
        head = HEAD.unpack(int(dut.head_o.value))
        if not late:
            await RisingEdge(dut.clk_i)
            dut.head_ready_i.value = 1
            await ReadOnly()
            assert HEAD.unpack(int(dut.head_o.value)) == head
        assert dut.job_ready_o.value
        await RisingEdge(dut.clk_i)
        dut.job_valid_i.value = 0
        return head, cycles + 1


def fields(packet: bytes, expected: bytes, form: Tunnel | Transport, sa: OutboundSa) -> dict[str, object]:
    """A job as the stage before would have it, for a packet that the golden model made something of."""
    header = parse(packet)
    transport = isinstance(form, Transport)
    kept = split_to_protect(packet) if transport else None
    outer = len(kept.head) if kept else form.overhead - 8 * bool(form.ports)
    ports = form.ports or (random.getrandbits(16), random.getrandbits(16))
    tunnel: dict[str, int] = {}
    if not transport:
        tunnel = {
            "v6": int(form.source.version == 6),
            "dscp_copy": int(form.dscp is Dscp.COPY),
            "dscp": 0,
            "ecn_copy": int(form.copy_ecn),
            "df": {Df.COPY: DF["DfCopy"], Df.SET: DF["DfSet"], Df.CLEAR: DF["DfClear"]}[form.df],
            "flow_copy": int(form.flow_label is None),
            "flow_label": form.flow_label or 0,
            "hop_limit": form.hop_limit,
        }

    def carried(address: bytes) -> int:
        # The packet's own address, with IPv6.
        return int.from_bytes(address) if header.version == 6 else 0

    return {
        "header": {
            "v6": int(header.version == 6),
            "total_length": header.total_length,
            "traffic_class": header.traffic_class,
            "flow_label": getattr(header, "flow_label", 0),
            "dont_fragment": int(getattr(header, "dont_fragment", False)),
            "source": int.from_bytes(header.source),
            "destination": int.from_bytes(header.destination),
            "esp_protocol": kept.protocol if kept else 0,
        },
        "form": {
            "transport": int(transport),
            "udp": int(form.ports is not None),
            "source_port": ports[0],
            "destination_port": ports[1],
            **tunnel,
        },
        "id": {"spi": sa.spi, "salt": random.getrandbits(32)},
        "source": carried(header.source) if transport else int(form.source),
        "destination": carried(header.destination) if transport else int(form.destination),
        "sequence_number": sa.sequence,
        "total": len(expected),
        "outer": outer,
    }


def check(head: dict[str, int], job: dict[str, object], packet: bytes, expected: bytes) -> None:
    form, outer = job["form"], job["outer"]
    words = head["words"].to_bytes(64, "little")[: 4 * head["count"]]
    end = outer + 8 * form["udp"] + 16
    if form["transport"]:
        # The kept header with its fields changed, as the next stage changes them.
        kept = bytearray(split_to_protect(packet).head)
        at = split_to_protect(packet).protocol_at
        kept[at] = head["protocol"]
        place = 4 if kept[0] >> 4 == 6 else 2
        kept[place : place + 2] = head["length_field"].to_bytes(2)
        if kept[0] >> 4 == 4:
            total = (0xFFFF ^ int.from_bytes(kept[10:12])) + head["checksum"]
            kept[10:12] = (0xFFFF ^ (total & 0xFFFF) + (total >> 16)).to_bytes(2)
        words = bytes(kept) + words
    right = bytearray(expected[:end])
    v6 = expected[0] >> 4 == 6
    assert head["udp_checksum"] == int(v6 and form["udp"])
    if head["udp_checksum"]:
        # The sum without what is not known yet gives the right checksum with it.
        covered = head["udp_sum"].to_bytes(2) + expected[end:]
        assert (internet_checksum(covered) or 0xFFFF) == int.from_bytes(right[outer + 6 : outer + 8])
        right[outer + 6 : outer + 8] = bytes(2)
    assert words == bytes(right), (words.hex(), right.hex())


@cocotb.test()
async def tunnel_headers_are_the_golden_models(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(1200):
        sa = OutboundSa(random.getrandbits(32), transform(AES_GCM_16, 0, random.randbytes(20), b""), esn=True)
        sa.sequence = some_sequence() - 1
        address = random.choice((IPv4Address, IPv6Address))
        bits = address(0).max_prefixlen
        form = Tunnel(
            source=address(random.getrandbits(bits)),
            destination=address(random.getrandbits(bits)),
            ports=some_ports(),
            dscp=random.choice(list(Dscp)),
            df=random.choice(list(Df)),
            copy_ecn=bool(random.getrandbits(1)),
            hop_limit=random.randint(1, 255),
            flow_label=random.choice((None, 0, random.getrandbits(20))),
        )
        packet = some_packet(random.choice((4, 6)))
        expected = encapsulate(sa, form, packet)
        job = fields(packet, expected, form, sa)
        head, cycles = await tb.head(JOB.pack(job))
        assert cycles == 6
        check(head, job, packet, expected)


@cocotb.test()
async def what_changes_in_a_kept_header_is_the_golden_models(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(800):
        sa = OutboundSa(random.getrandbits(32), transform(AES_GCM_16, 0, random.randbytes(20), b""), esn=True)
        sa.sequence = some_sequence() - 1
        form = Transport(ports=some_ports())
        packet = some_packet(random.choice((4, 6)))
        expected = encapsulate(sa, form, packet)
        job = fields(packet, expected, form, sa)
        head, _ = await tb.head(JOB.pack(job))
        check(head, job, packet, expected)


@cocotb.test()
async def a_set_dscp_is_sent(dut: HierarchyObject) -> None:
    """What the register says, where it does not say copy."""
    tb = TB(dut)
    await tb.start()
    for dscp in range(64):
        job = {
            "form": {"dscp": dscp, "hop_limit": 64},
            "header": {"traffic_class": random.getrandbits(8)},
            "total": 100,
        }
        head, _ = await tb.head(JOB.pack(job))
        assert head["words"] >> 8 & 0xFF == dscp << 2
