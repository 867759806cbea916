"""Opened packets beside the golden model: the reason, or what leaves once the changes are made that are asked for."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

from appliance.esp.drop import Drop
from appliance.esp.trailer import append_trailer
from appliance.esp.transport import split_received
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector
from sim.tb.model.inbound import content, everything, selector_packed
from sim.tb.structs import layout
from sim.tb.traffic import packets
from sim.tb.traffic.header import expected
from sim.tb.traffic.reset import reset

POOL, MOST = int(os.environ["POOL"]), int(os.environ["MOST"])
# Cycles of a packet.
STEP = max(9, MOST + 1)
OPENED, CONTENT, INNER = layout("opened_t"), layout("content_t"), layout("inner_t")
EXTENSIONS = (packets.HOP_BY_HOP, packets.ROUTING, packets.DESTINATION)


def some_selector(remote: bool) -> tuple[TrafficSelector, bool]:
    version = random.choice((4, 6))
    if random.random() < 0.6:
        return everything(version), remote
    kind, bits = (IPv4Address, 32) if version == 4 else (IPv6Address, 128)
    half = 1 << bits - 1
    start, end = random.choice(((0, half), (half, 2 * half - 1), (0, 2 * half - 1)))
    ports = random.choice(((0, 65535), (0, 30000), (65535, 0)))
    return TrafficSelector(kind(start), kind(end), random.choice((0, 6, 17, 1, 58)), *ports), remote


def some_outer() -> bytes:
    """A packet with ESP right behind its header, options or extension headers, as it was received."""
    if random.getrandbits(1):
        return packets.ipv4(50, random.randbytes(16), options=random.choice((0, 0, 1, 10)))
    kinds = [random.choice(packets.EXTENSIONS[1:]) for _ in range(random.choice((0, 0, 1, 2, 8)))]
    if kinds and random.random() < 0.3:
        kinds[0] = packets.HOP_BY_HOP
    return packets.ipv6(kinds, 50, random.randbytes(16))


def padded(payload: bytes, next_header: int) -> bytes:
    """With a trailer, mostly a right one."""
    pad = -(len(payload) + 2) % 4 + 4 * random.choice((0, 0, 0, 1, 5, 60))
    said = pad if random.random() < 0.95 else random.choice((0, 255, min(255, len(payload) + pad + 1)))
    padding = bytearray(range(1, pad + 1))
    if pad and random.random() < 0.05:
        padding[random.randrange(pad)] ^= 1 << random.randrange(8)
    return payload + bytes(padding) + bytes((said, next_header))


def tunnelled() -> bytes:
    inner = packets.whole(100) if random.random() < 0.9 else packets.damaged(packets.whole(60))
    if len(inner) > 1 and random.random() < 0.3:  # ECN is what it may be in the outer header too
        first = bytearray(inner)
        first[1] = first[1] & 0xCF | random.randrange(4) << 4 if inner[0] >> 4 == 6 else first[1] & 0xFC
        inner = packets.with_right_checksum(bytes(first))
    next_header = 4 if inner[0] >> 4 == 4 else 41
    if random.random() < 0.1:
        next_header = random.choice((4, 41, 59, 6, 0))
    if random.random() < 0.2:
        inner += bytes(random.randrange(50))
    if random.random() < 0.05:
        inner = inner[: random.randrange(len(inner))]
    return padded(inner, next_header)


def transported(outer: bytes) -> bytes:
    kinds = [random.choice(EXTENSIONS[1:]) for _ in range(random.choice((0, 0, 1, 2, 3)))]
    if kinds and random.random() < 0.1:
        kinds[random.randrange(len(kinds))] = packets.HOP_BY_HOP
    protocol = random.choice((*packets.UPPER[:-3], 59, 255))
    packet = packets.ipv6(kinds, protocol, packets.upper(protocol, 60), long=random.random() < 0.3)
    payload, next_header = packet[40:], packet[6]
    if random.random() < 0.1:
        payload = payload[: random.randrange(len(payload) + 1)]
    if outer[0] >> 4 == 4 and random.random() < 0.7:
        payload, next_header = packets.upper(protocol, 60), protocol
    elif random.random() < 0.1:
        at, more = random.choice((0, 5)), random.random() < 0.5
        header = packets.extension(packets.FRAGMENT, protocol, offset=at, more=more)
        payload, next_header = header + packets.upper(protocol, 60), packets.FRAGMENT
        if random.random() < 0.2:
            payload = payload[: random.randrange(9)]
    return padded(payload, next_header)


def parsed(text: bytes, outer: bytes | None) -> dict[str, int]:
    """What ip_parser says of the text; what means nothing is anything."""
    inner = INNER.unpack(random.getrandbits(INNER.width))
    pseudo = text
    if outer is not None:
        pseudo = bytes.fromhex("60000000") + len(text).to_bytes(2, "big") + text[-1:] + bytes(33) + text
    header = expected(pseudo)
    inner["malformed"] = int(header is None)
    if header is None:
        return inner
    for name in inner:
        if name in header:
            inner[name] = header[name]
    inner["ecn"] = header["traffic_class"] & 3
    if outer is not None:
        inner["upper_at"] -= 40
    at = header["upper_at"]
    if not header["has_ports"] and len(pseudo) >= at + 4:  # it reads what is there, and tells of it
        inner["source_port"] = int.from_bytes(pseudo[at : at + 2], "big")
    return inner


class TB:
    """Gives one opened packet after another, and makes the changes that are asked for."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.cycle = 0
        self.seen: Counter[object] = Counter()
        # What was taken and is not told of yet.
        self.waiting: deque[tuple[Any, ...]] = deque()
        self.told = 0

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        await Timer(1, "ns")
        if self.dut.content_valid_o.value:
            self.told += 1
            self.check(CONTENT.unpack(int(self.dut.content_o.value)), *self.waiting.popleft())

    async def end(self) -> None:
        """Until all is told."""
        for _ in range(STEP + 10):
            await self.tick()
        assert not self.waiting

    async def write(self, first: int, selectors: list[tuple[TrafficSelector, bool]]) -> None:
        await self.end()  # those of a packet that is looked at are not written
        dut = self.dut
        for number, (selector, remote) in enumerate(selectors):
            dut.selector_write_i.value = 1
            dut.selector_index_i.value, dut.selector_i.value = first + number, selector_packed(selector, remote)
            await self.tick()
        dut.selector_write_i.value = 0

    async def packet(
        self, outer: bytes, plaintext: bytes, transport: bool, first: int, selectors: list[tuple[TrafficSelector, bool]]
    ) -> int:
        """One packet; returns how many cycles it took."""
        dut = self.dut
        header = expected(outer)
        assert header is not None
        kept = outer[: header["upper_at"]] if transport else b""
        head = (kept + plaintext)[:40] if not transport else kept[:40]
        head += random.randbytes(40 - len(head))
        run = 0
        for byte in plaintext[:-2]:
            run = byte if byte == 1 or (run and byte == run + 1) else 0
        opened: dict[str, Any] = {
            "plan": {
                "transport": int(transport),
                "selector_first": first,
                "selector_count": len(selectors),
                "v6": header["v6"],
                "ecn": header["traffic_class"] & 3,
                "kept": len(kept),
                "protocol_at": header["upper_protocol_at"],
                "headers": header["headers"],
                "body": len(plaintext),
            },
            "first": int.from_bytes(head[:16], "little"),
            "second": int.from_bytes(head[16:32], "little"),
            "third": int.from_bytes(head[32:], "little"),
            "text": int.from_bytes(plaintext[:4], "little"),
            "pad_length": plaintext[-2],
            "next_header": plaintext[-1],
            "padding_right": int(run == plaintext[-2] or not plaintext[-2]),
            "inner": parsed(plaintext, outer if transport else None),
        }
        dut.opened_i.value, dut.opened_valid_i.value = OPENED.pack(opened), 1
        begun = self.cycle
        await Timer(1, "ns")
        while not dut.opened_ready_o.value:
            await self.tick()
        self.waiting.append((outer, kept, plaintext, transport, selectors))
        await self.tick()
        dut.opened_valid_i.value = 0
        dut.opened_i.value = random.getrandbits(OPENED.width)
        return self.cycle - begun

    def check(
        self,
        got: dict[str, Any],
        outer: bytes,
        kept: bytes,
        plaintext: bytes,
        transport: bool,
        selectors: list[tuple[TrafficSelector, bool]],
    ) -> None:
        header = expected(outer)
        assert header is not None
        reason, leaves = None, b""
        try:
            leaves = content(outer, header["traffic_class"], plaintext, transport, selectors)
        except Drop as drop:
            reason = drop.reason
        said = f"{outer.hex()}, in it {plaintext.hex()}, {got}"
        assert (Reason(got["reason"]) if got["bad"] else None) is reason, said
        self.seen[reason, transport] += 1
        if reason is None:
            edited = bytearray(kept + plaintext)
            if got["first_valid"]:
                edited[:16] = got["first"].to_bytes(16, "little")
            if got["patch_valid"]:
                edited[got["patch_at"]] = got["patch"]
            assert bytes(edited[: got["bytes"]]) == leaves, said


@cocotb.test()
async def content_is_judged_as_the_golden_model_judges_it(dut: HierarchyObject) -> None:
    await reset(dut, "selector_write_i", "opened_valid_i", started=False)
    tb = TB(dut)
    await tb.tick()
    fragments = 0
    for _ in range(500):
        count = random.choice((0, 2, MOST, MOST, MOST, MOST))
        first = random.randrange(POOL - count + 1)
        selectors = [some_selector(bool(number & 1)) for number in range(count)]
        if random.random() < 0.5:
            selectors = [(everything(version), remote) for version in (4, 6) for remote in (False, True)]
            first = min(first, POOL - 4)
        await tb.write(first, selectors)
        for _ in range(8):
            outer = some_outer()
            while expected(outer) is None or not expected(outer)["has_esp"]:
                outer = some_outer()
            assert len(split_received(outer).head) == expected(outer)["upper_at"]
            transport = bool(random.getrandbits(1))
            plaintext = transported(outer) if transport else tunnelled()
            if transport and plaintext[-1] == packets.FRAGMENT:
                # It is taken for a packet without ports, and what it names is not walked.
                ported = any((one.start_port, one.end_port) != (0, 65535) for one, _ in selectors)
                if ported or plaintext[0] in packets.EXTENSIONS:
                    continue
                fragments += 1
            took = await tb.packet(outer, plaintext, transport, first, selectors)
            assert took <= STEP
            if random.random() < 0.1:
                for _ in range(random.randrange(2 * STEP)):
                    await tb.tick()
    await tb.end()
    wanted = [(None, False), (None, True), (Reason.ECN_NOT_CAPABLE, False)]
    reasons = (Reason.MALFORMED_ESP, Reason.DUMMY, Reason.MALFORMED_IP, Reason.SELECTOR_MISMATCH)
    wanted += [(reason, transport) for reason in reasons for transport in (False, True)]
    assert all(tb.seen[one] >= 10 for one in wanted), tb.seen
    assert fragments >= 50


@cocotb.test()
async def every_ecn_comes_out_as_rfc_6040_has_it(dut: HierarchyObject) -> None:
    await reset(dut, "selector_write_i", "opened_valid_i", started=False)
    tb = TB(dut)
    await tb.tick()
    selectors = [(everything(version), remote) for version in (4, 6) for remote in (False, True)]
    await tb.write(0, selectors)
    for inner in (packets.ipv4(6, bytes(30), options=1), packets.ipv6((), 6, bytes(30))):
        for outer in (packets.ipv4(50, bytes(20)), packets.ipv6((), 50, bytes(20))):
            for both in range(16):
                marked = packets.with_right_checksum(ecn(inner, both >> 2))
                plaintext = append_trailer(marked, 4 if inner[0] >> 4 == 4 else 41, 4)
                await tb.packet(packets.with_right_checksum(ecn(outer, both & 3)), plaintext, False, 0, selectors)
    await tb.end()
    assert tb.seen[Reason.ECN_NOT_CAPABLE, False] == 4 and tb.seen[None, False] == 60


@cocotb.test()
async def a_fragment_header_in_the_text_is_passed_by_its_protocol(dut: HierarchyObject) -> None:
    await reset(dut, "selector_write_i", "opened_valid_i", started=False)
    tb = TB(dut)
    await tb.tick()
    every = everything(6)
    only = TrafficSelector(every.start, every.end, packets.UDP, 0, 65535)
    selectors = [(only, remote) for remote in (False, True)]
    await tb.write(0, selectors)
    for protocol in (packets.UDP, packets.TCP) * 10:
        header = packets.extension(packets.FRAGMENT, protocol, offset=random.choice((0, 5)))
        plaintext = append_trailer(header + random.randbytes(20), packets.FRAGMENT, 4)
        await tb.packet(packets.ipv6((), packets.ESP, bytes(60)), plaintext, True, 0, selectors)
    await tb.end()
    assert tb.seen[None, True] == tb.seen[Reason.SELECTOR_MISMATCH, True] == 10


@cocotb.test()
async def a_checksum_that_carries_twice_is_right(dut: HierarchyObject) -> None:
    """RFC 1624 §3 with sums whose first fold overflows again, which is one in thousands of packets."""
    await reset(dut, "selector_write_i", "opened_valid_i", started=False)
    tb = TB(dut)
    await tb.tick()
    selectors = [(everything(4), remote) for remote in (False, True)]
    await tb.write(0, selectors)
    plaintext = append_trailer(bytes(40), packets.TCP, 4)
    found = 0
    packet = bytearray(packets.ipv4(50, bytes(60)))
    for identification in range(1 << 16):
        packet[4:6] = identification.to_bytes(2, "big")
        outer = packets.with_right_checksum(bytes(packet))
        old, length = (0xFFFF ^ int.from_bytes(outer[at : at + 2], "big") for at in (10, 2))
        total = old + length + (0xFFFF ^ 50) + 60 + packets.TCP
        if (total & 0xFFFF) + (total >> 16) > 0xFFFF:
            found += 1
            await tb.packet(outer, plaintext, True, 0, selectors)
    await tb.end()
    assert found and tb.seen[None, True] == found


def ecn(packet: bytes, field: int) -> bytes:
    at, shift = (1, 4) if packet[0] >> 4 == 6 else (1, 0)
    edited = bytearray(packet)
    edited[at] = edited[at] & ~(3 << shift) & 0xFF | field << shift
    return bytes(edited)
