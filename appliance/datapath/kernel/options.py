"""What can be set on the kernel datapath."""

from __future__ import annotations

from dataclasses import dataclass

OWN_MARK = 0xE5B1


def home_mark(mark: int) -> int:
    """What the kernel decrypted has this one, beside our own packets' ``mark``."""
    return (mark + 1) & 0xFFFFFFFF


def trusted_mark(mark: int) -> int:
    """What another datapath decrypted has this one."""
    return (mark + 2) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOptions:
    """Settings of the kernel datapath. Times in seconds.

    ``mark`` is that of our own packets, and the next two are those of what was decrypted. ``survivors``: how long SAs
    of an earlier daemon, which was killed, carry traffic until they are replaced. ``block``: packets that no policy
    matches are dropped. ``acquire_again``: the shortest time between two acquire events of a policy. ``steer`` keeps
    rules and routes that lead protected traffic to ``device``, an interface that drops what no policy takes, in
    ``table`` and the next one. Its rules begin at ``preference``, before the soft datapath's, and those for what was
    decrypted at ``home_preference``, after them: so what comes out of a tunnel of either finds the other's.
    """

    mark: int = OWN_MARK
    ike_ports: tuple[int, int] = (500, 4500)
    survivors: float = 180.0
    block: bool = False
    acquire_again: float = 3.0
    audit: float = 60.0
    max_sas: int = 65_000
    steer: bool = True
    device: str = "esplanade-xfrm"
    table: int = 222
    preference: int = 170
    home_preference: int = 270
