"""What must hold of two gateways with several datapaths once nothing is under way any more."""

from __future__ import annotations

import asyncio

from appliance.sa.association import Direction, PolicyAction, SaKey
from tests.daemon.pair import Side


def problems(side: Side) -> list[str]:
    """What does not hold of one gateway: homes, ghosts, the engine's children."""
    found: list[str] = []
    running, homes, installer = side.running, side.gateway.datapaths.homes, side.gateway.installer
    for policy in homes.policies:
        places = [name for name, datapath in running.items() if policy.name in datapath.policies]
        if policy.action is not PolicyAction.PROTECT:
            wanted = list(running)
        else:
            home = homes.home(policy.name)
            wanted = [home] if home is not None else []
            carrier = installer.carrier(policy.reqid)
            if carrier is not None and carrier.name != home:
                found.append(f"{policy.name} is in {home}, its SAs in {carrier.name}")
            if running and home is None:
                found.append(f"{policy.name} is nowhere")
        if places != wanted:
            found.append(f"{policy.name} is in {places}, wanted in {wanted}")
    entered: dict[str, set[SaKey]] = {name: set() for name in running}
    for child in installer.children():
        if child.broken or child.leaving:
            found.append(f"child {child.child_id} is broken or leaving")
        elif child.datapath is None:
            found.append(f"child {child.child_id} is in no datapath")
        elif child.datapath.name not in running:
            found.append(f"child {child.child_id} is in a datapath that is gone")
        else:
            entered[child.datapath.name] |= {child.inbound.key, child.outbound.key}
            if not child.active:
                found.append(f"child {child.child_id} is idle")
    for name, datapath in running.items():
        if set(datapath.sas) != entered[name]:
            found.append(f"{name} has {sorted(map(str, datapath.sas))}, the table {sorted(map(str, entered[name]))}")
    engine = {view.child_id for view in side.gateway.engine.child_sas()}
    table = {child.child_id for child in installer.children()}
    if engine != table:
        found.append(f"the engine has children {engine}, the table {table}")
    return found


def disagreement(a: Side, b: Side) -> list[str]:
    """What one side has and the other does not."""

    def spis(side: Side, direction: Direction) -> set[int]:
        return {key.spi for d in side.running.values() for key in d.sas if key.direction is direction}

    found = []
    if spis(a, Direction.IN) != spis(b, Direction.OUT) or spis(b, Direction.IN) != spis(a, Direction.OUT):
        found.append("the sides have different SAs")
    return found


async def settle(a: Side, b: Side, seconds: float = 120.0) -> None:
    """Wait until everything holds. Raises AssertionError with what does not, and both logs."""
    end = asyncio.get_running_loop().time() + seconds
    while wrong := [*problems(a), *problems(b), *disagreement(a, b)]:
        if asyncio.get_running_loop().time() >= end:
            logs = "\n".join(["A", *map(str, a.log), "B", *map(str, b.log)])
            raise AssertionError("\n".join(wrong) + "\n" + logs)
        await asyncio.sleep(0.1)
    for side in (a, b):
        assert "internal" not in side.events(), [str(entry) for entry in side.log if entry.event == "internal"]


async def traffic(a: Side, b: Side, seconds: float, reqids: tuple[int, ...] = (1,)) -> float:
    """Wait until packets pass in both directions for each reqid. Returns how long it took."""
    start = asyncio.get_running_loop().time()
    while not all(side.transmit(reqid) for side in (a, b) for reqid in reqids):
        if asyncio.get_running_loop().time() >= start + seconds:
            logs = "\n".join(["A", *map(str, a.log), "B", *map(str, b.log)])
            raise AssertionError(f"no traffic for {seconds} s\n{problems(a)}\n{problems(b)}\n{logs}")
        await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - start


class Flow:
    """Packets in both directions every few milliseconds; ``lost`` counts those that did not come through."""

    def __init__(self, a: Side, b: Side) -> None:
        self.lost = 0
        self.sides = (a, b)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.lost += sum(not side.transmit() for side in self.sides)
            await asyncio.sleep(0.004)

    def stop(self) -> int:
        self._task.cancel()
        return self.lost
