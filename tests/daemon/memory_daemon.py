"""The daemon as a process with a datapath in memory: everything real but ESP and the guard. For test_process.py."""

from __future__ import annotations

import sys

from appliance.daemon import guard
from appliance.daemon.main import Daemon, run
from appliance.sa.datapath import Datapath
from tests.daemon.memory_datapath import MemoryDatapath


async def make(self: Daemon) -> Datapath:
    return MemoryDatapath("soft")


if __name__ == "__main__":
    Daemon._make_soft = make  # type: ignore[method-assign]
    guard.apply_policies = lambda config, policies: print(f"guard: {len(policies)} policies", file=sys.stderr)
    raise SystemExit(run(sys.argv[1], sys.argv[2]))
