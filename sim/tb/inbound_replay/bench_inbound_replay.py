"""Two users of the windows at once, beside the golden window: each gets its own answers."""

from __future__ import annotations

import os
import random
from collections import Counter, deque

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

from appliance.esp.drop import Drop
from appliance.esp.replay import ReplayWindow
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

SAS, WINDOW = int(os.environ["NSA"]), int(os.environ["WINDOW"])
# Few enough that their windows move, and the first and the last among them.
USED = sorted({0, SAS - 1, *random.sample(range(SAS), min(SAS, 4))})
STEPS = (-WINDOW - 6, -WINDOW, 1 - WINDOW, -3, -1, 0, 1, 1, 1, 2, 5, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW)
OP = layout("replay_op_e")
CHECK, UPDATE, CLEAR = (OP[name] for name in ("ReplayCheck", "ReplayUpdate", "ReplayClear"))


def fresh(window: ReplayWindow, sequence: int) -> bool:
    try:
        window.check(sequence)
    except Drop:
        return False
    return True


@cocotb.test()
async def both_users_get_their_own_answers(dut: HierarchyObject) -> None:
    await reset(dut, "check_valid_i", "check_soon_i", "op_valid_i", "check_esn_i", started=False)
    windows = [ReplayWindow(WINDOW, esn=False) for _ in range(SAS)]
    clears = deque(range(SAS))
    due: deque[tuple[str, bool | None, int, int]] = deque()  # who, accepted, sequence, highest
    check: tuple[int, int] | None = None
    op: tuple[int, int, int] | None = None
    # Cycles until a check that is announced comes, or does not; whether an operation goes first in this cycle.
    ahead: int | None = None
    op_turn = False
    seen: Counter[object] = Counter()
    for _ in range(25_000 + (WINDOW // 128 + 8) * SAS):
        await FallingEdge(dut.clk_i)
        sa = random.choice(USED)
        near = max(0, windows[sa].highest + random.choice(STEPS))
        # None before all windows are empty, as inbound_engine has it.
        if check is None and ahead is None and not clears and random.random() < 0.2:
            ahead = random.randrange(4)
        if ahead == 0:
            ahead = None
            if random.random() < 0.8:
                check = sa, near
                dut.check_sa_i.value, dut.check_sequence_i.value = check
        elif ahead is not None:
            ahead -= 1
        soon = check is not None or ahead is not None
        dut.check_soon_i.value = soon
        if op is None and clears:
            op = CLEAR, clears.popleft(), random.getrandbits(64)
        elif op is None and random.random() < 0.4:
            op = random.choices((CHECK, UPDATE, CLEAR), (3, 20, 1))[0], sa, near
        dut.check_valid_i.value, dut.op_valid_i.value = check is not None, op is not None
        if op is not None:
            dut.op_i.value, dut.op_sa_i.value, dut.op_sequence_i.value = op
        await Timer(1, "ns")
        for name, done in (("check", dut.check_done_o), ("op", dut.op_done_o)):
            if done.value:
                who, accepted, sequence, highest = due.popleft()
                assert who == name
                assert accepted is None or bool(dut.accepted_o.value) is accepted
                assert accepted is None or int(dut.sequence_o.value) == sequence
                assert accepted is None or int(dut.highest_o.value) == highest
                seen[name, accepted] += 1
        assert not (dut.check_ready_o.value if op_turn else dut.op_ready_o.value), "it is not its turn"
        # Who was announced before goes first, and no other check.
        op_turn = op is not None and not dut.op_ready_o.value and not soon
        if check is not None and dut.check_ready_o.value:
            due.append(("check", fresh(windows[check[0]], check[1]), check[1], windows[check[0]].highest))
            check = None
        elif op is not None and dut.op_ready_o.value:
            kind, sa, sequence = op
            window = windows[sa]
            if kind == CLEAR:
                windows[sa] = ReplayWindow(WINDOW, esn=False)
                due.append(("op", None, 0, 0))
            else:
                accepted = fresh(window, sequence)
                if accepted and kind == UPDATE:
                    window.update(sequence)
                due.append(("op", accepted, sequence, window.highest))
            op = None
        assert len(due) <= 1
    assert all(seen[who, accepted] > 300 for who in ("check", "op") for accepted in (True, False)), seen
