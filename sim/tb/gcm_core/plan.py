"""What is given to gcm_core in which cycle, and what is due then; and how that is played.

Latencies are fixed and nothing stalls, so all of it is known in advance. Cycle 0 is the first one after reset, and
slots are taken in those that the interval divides. That nothing comes when nothing is due is held too, by the edges of
what says that something came.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import cocotb
from cocotb.handle import LogicObject
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from cocotb.utils import get_sim_time
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sim.tb.memory import word
from sim.tb.model import gcm
from sim.tb.traffic.reset import CYCLE, reset

# Each is high in the cycles in which something comes, and in no other.
PULSES = ("text_valid_o", "tag_valid_o", "key_done_o", "done_o")


@dataclass(frozen=True)
class Key:
    """A key, and what the library makes with it."""

    key: bytes

    @cached_property
    def cipher(self) -> AESGCM:
        return AESGCM(self.key)

    def tag(self, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        return self.cipher.encrypt(nonce, plaintext, aad)[-16:]

    def crypt(self, nonce: bytes, text: bytes) -> bytes:
        """The other side of a text, whichever it is: GCTR, SP 800-38D §6.5, from the block behind J0 on."""
        counter = nonce + (2).to_bytes(4, "big")
        return Cipher(algorithms.AES(self.key), modes.CTR(counter)).encryptor().update(text)


class Plan:
    """Slots, keys and results by cycle. ``cycle`` is the next in which a slot may be given."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.powers = gcm.powers(interval)
        # From a slot: of a text's to it, of a Key to its being done, of a Last to the tag.
        self.text_latency = self.key_latency = gcm.pipeline_latency(interval) + 1
        self.tag_latency = gcm.pipeline_latency(interval) + 2 + gcm.latency(interval)
        self.cycle = 0
        self.keys: dict[int, Key] = {}
        self.gives: dict[int, gcm.Slot | None] = {}
        self.stages: dict[int, bytes | None] = {}
        self.checks: dict[int, list[Callable[[object], None]]] = defaultdict(list)
        self.due: dict[str, set[int]] = {name: set() for name in PULSES}
        self.tags = 0
        self._staging_free = 0

    def give(self, slot: gcm.Slot) -> int:
        """A slot in the next place; returns its cycle."""
        taken, self.cycle = self.cycle, self.cycle + self.interval
        self.gives[taken] = slot
        self.gives.setdefault(self.cycle, None)
        return taken

    def _expect(self, pulse: str, cycle: int, *checks: Callable[[object], None]) -> None:
        self.due[pulse].add(cycle)
        self.checks[cycle].extend(checks)

    def gap(self, slots: int) -> None:
        self.cycle += slots * self.interval

    def stage(self, key: bytes | None) -> int:
        """Have a key's material, or zeros, made as soon as that is possible; returns the cycle that it is there in."""
        start = self._staging_free
        words = 0 if key is None else 1 + 6 * (60 if len(key) == 32 else 44) + 129 * (self.powers - 1)
        done = start + 18 + words
        self.stages[start] = key
        self._expect("done_o", done)
        self._staging_free = done
        return done

    def key(self, sa: int, key: bytes | None, staged: int) -> None:
        """A Key slot in the next place, when its material is there. Without a key the SA is removed."""
        self.gap(max(0, -(-(staged - self.cycle) // self.interval)))
        taken = self.give(gcm.Slot(gcm.Kind.KEY, sa))
        self._expect("key_done_o", taken + self.key_latency)
        self._staging_free = taken + self.key_latency
        if key is None:
            del self.keys[sa]
        else:
            self.keys[sa] = Key(key)

    def install(self, sa: int, key: bytes) -> None:
        self._staging_free = max(self._staging_free, self.cycle - 600)
        self.key(sa, key, self.stage(key))

    def packet(
        self,
        sa: int,
        nonce: bytes,
        aad: bytes,
        text: bytes,
        *,
        decrypt: bool,
        result: bytes | None = None,
        tag: bytes | None = None,
        forged: bool = False,
    ) -> None:
        """A packet at once. ``result`` and ``tag`` are the library's when not given; a forged one has another tag."""
        key = self.keys[sa]
        result = key.crypt(nonce, text) if result is None else result
        tag = key.tag(nonce, aad, result if decrypt else text) if tag is None else tag
        at, taken = 0, 0
        slots = gcm.packet(sa, len(key.key) == 32, nonce, aad, text, decrypt=decrypt, rubbish=random.randbytes(16))
        for slot in slots:
            taken = self.give(slot)
            if slot.kind == gcm.Kind.TEXT:
                self._expect("text_valid_o", taken + self.text_latency, _text(result[at : at + 16]))
                at += 16
        self._expect("tag_valid_o", taken + self.tag_latency, _tag(tag, forged=forged))
        self.tags += 1

    async def play(self, dut: object) -> int:
        """All of it, from reset on. Returns the cycle that the last result was in."""
        await reset(dut, "slot_valid_i", "start_i", "zero_i", started=False)
        came: dict[str, set[int]] = {name: set() for name in PULSES}
        for name, cycles in came.items():
            cocotb.start_soon(_record(getattr(dut, name), cycles))
        ends = {cycle + 1 for cycle in self.stages}
        now = 0
        for cycle in sorted({*self.gives, *self.checks, *self.stages, *ends}):
            if cycle > now:
                await Timer(CYCLE * (cycle - now), "ns")
                now = cycle
            for check in self.checks.get(cycle, ()):
                check(dut)
            if cycle in self.gives:
                self._drive(dut, self.gives[cycle])
            if cycle in self.stages:
                _start(dut, self.stages[cycle])
            elif cycle in ends:
                dut.start_i.value = dut.zero_i.value = 0
                dut.key256_i.value = random.getrandbits(1)
        await Timer(CYCLE, "ns")  # the last pulse ends
        for name, cycles in self.due.items():
            wrong = sorted(came[name] ^ cycles)
            assert not wrong, f"{name} comes or is due, but not both, in cycles {wrong[:10]}"
        return now

    def _drive(self, dut: object, slot: gcm.Slot | None) -> None:
        dut.slot_valid_i.value = slot is not None
        if slot is None:
            return
        assert dut.slot_ready_o.value == 1
        dut.slot_sa_i.value = slot.sa
        if slot.kind not in (gcm.Kind.FIRST, gcm.Kind.KEY):
            # What is not of this kind may be anything.
            dut.slot_sa_i.value = random.getrandbits(len(dut.slot_sa_i))
            slot = replace(
                slot,
                key256=bool(random.getrandbits(1)),
                decrypt=bool(random.getrandbits(1)),
                following=random.getrandbits(13),
                nonce=random.randbytes(12),
            )
        dut.slot_i.value = slot.pack()


def _start(dut: object, key: bytes | None) -> None:
    assert dut.busy_o.value == 0
    dut.start_i.value, dut.zero_i.value = key is not None, key is None
    if key is not None:
        dut.key_i.value, dut.key256_i.value = gcm.packed(key), len(key) == 32


async def _record(pulse: LogicObject, cycles: set[int]) -> None:
    """The cycles, from now on, in which an output is high. An edge comes half a cycle before its cycle is looked at."""
    begin = get_sim_time("ns") - CYCLE // 2
    while True:
        await RisingEdge(pulse)
        first = get_sim_time("ns")
        await FallingEdge(pulse)
        cycles.update(range(round(first - begin) // CYCLE, round(get_sim_time("ns") - begin) // CYCLE))


def _text(expected: bytes) -> Callable[[object], None]:
    def check(dut: object) -> None:
        assert dut.text_bytes_o.value.to_unsigned() == len(expected)
        assert dut.text_o.value.to_unsigned() == gcm.packed(expected)

    return check


def _tag(expected: bytes, *, forged: bool) -> Callable[[object], None]:
    def check(dut: object) -> None:
        assert (dut.tag_o.value.to_unsigned() == gcm.packed(expected)) == (not forged)

    return check


def memory(dut: object, interval: int, sa: int) -> Mapping[str, list[int]]:
    """What the memories of the core have of an SA: its round keys and its powers of H."""
    places, powers = 1 << (interval - 1).bit_length(), gcm.powers(interval)
    keys = [word(dut, "u_core.u_cipher.u_whitening.mem", sa, 128)]
    for unit in range(14 // interval):
        bank = f"u_core.u_cipher.gen_unit[{unit}].u_unit.u_keys.mem"
        keys += [word(dut, bank, sa * places + step, 128) for step in range(interval)]
    return {
        "round keys": keys,
        "powers": [word(dut, "u_core.u_ghash.u_powers.mem", sa * powers + i, 128) for i in range(powers)],
    }
