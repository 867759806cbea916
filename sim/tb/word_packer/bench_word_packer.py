"""word_packer: pieces of any length become beats of four words, and the source never waits."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterable, Sequence

import cocotb
from cocotb.triggers import FallingEdge

from sim.tb.traffic.reset import reset

LAG = 3  # cycles from a packet's last piece to its last beat, at most


class TB:
    """Sends packets as pieces, and joins the beats that come out."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.started = False
        self.cycle = 0
        self.due: deque[tuple[bytes, int]] = deque()  # content, and the cycle of the last piece
        self.got = bytearray()

    async def reset(self) -> None:
        await reset(self.dut, "valid_i", started=self.started)
        self.started = True
        self.due.clear()
        self.got.clear()

    async def tick(self) -> None:
        dut = self.dut
        await FallingEdge(dut.clk_i)
        self.cycle += 1
        if not dut.valid_o.value:
            return
        count, last = dut.count_o.value.to_unsigned(), bool(dut.last_o.value)
        assert 1 <= count <= 4 and (last or count == 4)
        beat = dut.data_o.value.to_unsigned().to_bytes(16, "little")
        assert not any(beat[4 * count :]), "words of somebody else"
        self.got += beat[: 4 * count]
        if last:
            content, ended = self.due.popleft()
            assert self.got == content
            assert self.cycle - ended <= LAG
            self.got.clear()

    async def send(self, counts: Sequence[int], gaps: float) -> None:
        """A packet of pieces with so many words; what is behind them is anything."""
        dut = self.dut
        words = random.randbytes(4 * sum(counts))
        at = 0
        for number, count in enumerate(counts):
            while random.random() < gaps:
                dut.valid_i.value = 0
                dut.last_i.value = random.getrandbits(1)
                await self.tick()
            last = number == len(counts) - 1
            piece = words[at : at + 4 * count] + random.randbytes(16 - 4 * count)
            at += 4 * count
            dut.valid_i.value, dut.last_i.value, dut.count_i.value = 1, last, count
            dut.data_i.value = int.from_bytes(piece, "little")
            if last:
                self.due.append((words, self.cycle))
            await self.tick()
        dut.valid_i.value = 0

    async def run(self, packets: Iterable[Sequence[int]], gaps: float = 0.0) -> None:
        for counts in packets:
            await self.send(counts, gaps)
        for _ in range(LAG + 1):
            await self.tick()
        assert not self.due and not self.got


@cocotb.test()
async def every_short_packet_behind_every_other(dut: object) -> None:
    """All sequences of up to three pieces, in random order without gaps."""
    tb = TB(dut)
    await tb.reset()
    shapes = [counts for size in (1, 2, 3) for counts in itertools.product((1, 2, 3, 4), repeat=size)]
    pairs = list(itertools.product(shapes, repeat=2))
    random.shuffle(pairs)
    await tb.run(counts for pair in pairs for counts in pair)


@cocotb.test()
async def packets_of_any_length_with_and_without_gaps(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for gaps in (0.0, 0.2, 0.7):
        await tb.run(
            ([random.choice((1, 2, 3, 4, 4, 4)) for _ in range(random.randint(1, 20))] for _ in range(500)), gaps
        )


@cocotb.test()
async def whole_beats_behind_a_packet_that_left_words_over(dut: object) -> None:
    """The packer is a beat behind as long as nothing but whole beats comes, and no further."""
    tb = TB(dut)
    await tb.reset()
    await tb.run([(3, 4), *((4,) * random.randint(1, 4) for _ in range(200)), (2, 3), (1,), (4, 4)])


@cocotb.test()
async def reset_forgets_what_is_held(dut: object) -> None:
    tb = TB(dut)
    for _ in range(20):
        await tb.reset()
        await tb.run([(3, 4, 2), (4, 1)])
        dut.valid_i.value, dut.last_i.value, dut.count_i.value = 1, 0, random.randint(1, 3)
        await tb.tick()
