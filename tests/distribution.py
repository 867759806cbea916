"""Which tests go to one worker together: those that share a network, or the virtual machine."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

NETWORK_ROOMS = ("system", "interop", "lab")
"""Of their files each makes a network that all of its tests share."""
VIRTUAL_MACHINES = ("tests/vm/inside", "tests/vm/newer")
"""One boot for all of each, one after the other: a machine takes both cores."""


def together(nodeid: str) -> str:
    """What a test shares with others; itself for nothing."""
    path = PurePosixPath(nodeid.partition("::")[0])
    if any(path.is_relative_to(folder) for folder in VIRTUAL_MACHINES):
        return "tests/vm"
    if path.parts[:1] == ("tests",) and path.parts[1] in NETWORK_ROOMS:
        return str(path)
    return nodeid


class Scheduling(LoadScopeScheduling):
    """pytest-xdist's, with scopes of our own, the largest first.

    Not ``--dist loadgroup``: pytest-xdist 3.8 writes a mark's group where pytest 9.2 does not read it (its issue 1386),
    and before that it does not see marks that a conftest.py adds.
    """

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)
