"""What the engine must not be slower than with a block every cycle: ``make bench-rtl`` fails if it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SIDES = ("outbound", "inbound")
SHORTEST = 64  # bytes of a frame
MOST_CYCLES = 10.0  # a packet of the shortest
LONG = 512  # bytes of a frame from which on the bar for idle cycles holds
MOST_IDLE = 1.0  # cycles a packet beyond the beats that it has on the ESP side
MOST_OF_ONE = 1.01  # cycles with several SAs in rotation, of those with one
_NOISE = 0.005  # cycles a packet that a mean over a run may be off


def words() -> str:
    """The bars for people."""
    return (
        f"With --interval 1 it fails if a frame of {SHORTEST} bytes takes more than {MOST_CYCLES:g} cycles, "
        f"if more than {MOST_IDLE:g} cycle a packet is idle on the ESP side from {LONG} bytes up, "
        f"or if several SAs in rotation take more than {MOST_OF_ONE - 1:.0%} longer than one."
    )


def missed(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The bars that these results missed, each with its figure; what was not measured misses none."""
    found = []
    alone = {(one["frame"], one["udp"]): one for one in results if one["sas"] == 1}
    for one in results:
        where = f"{one['frame']} bytes, {one['sas']} SAs{', in UDP' if one['udp'] else ''}"
        for side in SIDES:
            cycles, idle = one[f"{side}_cycles_a_packet"], one[f"{side}_idle_cycles_a_packet"]
            if one["frame"] == SHORTEST and cycles > MOST_CYCLES + _NOISE:
                found.append(f"{side}, {where}: {cycles:.2f} cycles a packet, not {MOST_CYCLES:g} at most")
            if one["frame"] >= LONG and idle > MOST_IDLE + _NOISE:
                found.append(f"{side}, {where}: {idle:.2f} idle cycles a packet, not {MOST_IDLE:g} at most")
            first = alone.get((one["frame"], one["udp"]))
            if first is not None and cycles > MOST_OF_ONE * first[f"{side}_cycles_a_packet"]:
                single = first[f"{side}_cycles_a_packet"]
                found.append(
                    f"{side}, {where}: {cycles:.2f} cycles a packet, not at most {MOST_OF_ONE - 1:.0%} more than "
                    f"the {single:.2f} with one SA"
                )
    return found
