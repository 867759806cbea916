"""A veth pair that can be cut, repaired, made lossy and unplugged."""

from __future__ import annotations

from tests.lab.namespace import Namespace


class Link:
    """Two interfaces, one in each namespace.

    Faults are nftables rules at the ingress of both ends: packets vanish, while addresses and routes stay and nobody
    is told, as with a cut somewhere behind the next switch. (This needs no netem, which many kernels lack.)
    """

    def __init__(self, left: Namespace, left_name: str, right: Namespace, right_name: str, *, mtu: int = 1500) -> None:
        self.ends = ((left, left_name), (right, right_name))
        for name in (left_name, right_name):
            if len(name) > 15:
                raise ValueError(f"interface name longer than 15 characters: {name}")
        left.ip(
            f"link add name {left_name} type veth peer name {right_name} netns {right.path}",
            f"link set dev {left_name} mtu {mtu} up",
        )
        right.ip(f"link set dev {right_name} mtu {mtu} up")

    def _fault(self, rule: str | None) -> None:
        for namespace, name in self.ends:
            table = f"lab_{name.replace('-', '_')}"
            script = f"table netdev {table}\ndelete table netdev {table}\n"
            if rule is not None:
                script += (
                    f"table netdev {table} {{ chain ingress {{\n"
                    f'  type filter hook ingress device "{name}" priority -500; policy accept;\n'
                    f"  {rule}\n}}\n}}\n"
                )
            namespace.nft(script)

    def cut(self) -> None:
        """Every packet vanishes, both ways, silently."""
        self._fault("counter drop")

    def lose(self, permille: int) -> None:
        """``permille`` of a thousand packets vanish at random, each way."""
        self._fault(f"numgen random mod 1000 < {permille} counter drop")

    def repair(self) -> None:
        """The fault is gone."""
        self._fault(None)

    def unplug(self) -> None:
        """The left end is set down: the right one sees its carrier go."""
        namespace, name = self.ends[0]
        namespace.ip(f"link set dev {name} down")

    def plug(self) -> None:
        """The left end is up again. Its IPv6 addresses and its routes went with :meth:`unplug`."""
        namespace, name = self.ends[0]
        namespace.ip(f"link set dev {name} up")

    def set_mtu(self, mtu: int) -> None:
        """Changes the MTU of both ends."""
        for namespace, name in self.ends:
            namespace.ip(f"link set dev {name} mtu {mtu}")
