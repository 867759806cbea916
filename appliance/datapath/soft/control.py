"""What the daemon may ask of the process, and the answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from appliance.datapath.ingress import Datagram, TooBig, source_of
from appliance.datapath.soft import wire
from appliance.datapath.soft.cipher import make_cipher
from appliance.datapath.soft.engine import Engine
from appliance.datapath.soft.sad import InboundState, OutboundState, Spending, State, ranges
from appliance.datapath.soft.window import BatchWindow
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction, Mode, SaKey, SecurityAssociation, SecurityPolicy, UdpEncapsulation
from appliance.sa.datapath import Dump, InstalledSa
from appliance.sa.datapath import InboundState as ExportedState
from appliance.sa.keys import wipe
from appliance.sa.selector import Address


class Control:
    """Requests by name. Each takes the value, key material and file descriptors, and returns a value that travels."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: dict[str, Callable[[Any, bytearray, list[int]], object]] = {
            "add_ingress": self._add_ingress,
            "remove_ingress": self._remove_ingress,
            "install": self._install,
            "activate_outbound": self._activate_outbound,
            "deactivate_outbound": self._deactivate_outbound,
            "remove": self._remove,
            "install_policies": self._install_policies,
            "remove_policies": self._remove_policies,
            "update_endpoints": self._update_endpoints,
            "export_inbound": self._export_inbound,
            "usage": self._usage,
            "dump": self._dump,
            "counters": self._counters,
            "esp": self._esp,
            "too_big": self._too_big,
        }

    def _add_ingress(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        address, natt_port, ike_port = value
        socks = [socket.socket(fileno=fd) for fd in fds]
        for sock in socks:
            sock.setblocking(False)
        self._engine.add_ingress(address, natt_port, ike_port, socks[0], socks[1] if len(socks) > 1 else None)
        return None

    def _remove_ingress(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        address, natt_port = value
        self._engine.remove_ingress(address, natt_port)
        return None

    def _install(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        states: list[State] = []
        try:
            at = 0
            for item, encryption_length, integrity_length, _ in value:
                sa: SecurityAssociation = wire.decode(SecurityAssociation, item)
                encryption = secret[at : at + encryption_length]
                at += encryption_length
                integrity = secret[at : at + integrity_length]
                at += integrity_length
                try:
                    states.append(self._state(sa, encryption, integrity, states))
                except BaseException:
                    wipe(encryption)
                    wipe(integrity)
                    raise
        except BaseException:
            for state in states:
                state.cipher.wipe()
            raise
        finally:
            wipe(secret)
        for state in states:
            self._engine.core.sad.add(state)
            self._engine.watch(state)
        self._engine.outbound.forget_flows()
        for state, (*_, activate) in zip(states, value, strict=True):
            if activate and isinstance(state, OutboundState):
                self._activate(state)
        return None

    def _state(
        self, sa: SecurityAssociation, encryption: bytearray, integrity: bytearray, others: list[State]
    ) -> State:
        core = self._engine.core
        taken = core.sad.get(sa.key) is not None or any(other.sa.key == sa.key for other in others)
        if sa.direction is Direction.IN:
            taken = taken or sa.spi in core.sad.inbound
        if taken:
            raise Refusal(Reason.ALREADY_INSTALLED, str(sa.key))
        if len(core.sad) + len(others) >= core.options.max_sas:
            raise Refusal(Reason.TABLE_FULL, f"{core.options.max_sas} SAs")
        if not 64 <= sa.replay_window <= 4096:
            raise Refusal(Reason.REPLAY_WINDOW_UNSUPPORTED, f"{sa.replay_window} packets; 64 to 4096 are supported")
        _of_one_family(sa.source, sa.destination)
        if sa.protocol.value != 50:
            raise Refusal(Reason.MODE_UNSUPPORTED, "AH")
        if sa.mode is Mode.TRANSPORT and sa.tfc_padding:
            raise Refusal(Reason.MODE_UNSUPPORTED, "TFC padding in transport mode (RFC 4303 §2.7)")
        spent = Spending(sa, core.now)
        local, remote = ranges(sa.local_ts), ranges(sa.remote_ts)
        if sa.direction is Direction.IN:
            cipher = make_cipher(sa.suite, encryption, integrity)
            window = BatchWindow(sa.replay_window, esn=sa.suite.esn)
            port = sa.encapsulation.source_port if sa.encapsulation else 0
            return InboundState(sa, cipher, spent, window, (str(sa.source), port), local, remote)
        sock, ancillary = self._way_out(sa.source, sa.encapsulation)
        cipher = make_cipher(sa.suite, encryption, integrity)
        last = (1 << 64) - 1 if sa.suite.esn else (1 << 32) - 1
        state = OutboundState(
            sa,
            cipher,
            spent,
            sock,
            (str(sa.destination), sa.encapsulation.destination_port if sa.encapsulation else 0),
            ancillary,
            last=last,
            headroom=int(last * core.options.sequence_headroom),
            local=local,
            remote=remote,
        )
        state.set_path_mtu(self._engine.path_mtu.of(state))
        return state

    def _way_out(
        self, source: Address, encapsulation: UdpEncapsulation | None
    ) -> tuple[socket.socket, list[tuple[int, int, bytes]]]:
        """The socket that an SA sends by, and the ancillary data that sets its source address."""
        port = encapsulation.source_port if encapsulation else None
        found = self._engine.socket_for(source, port)
        if found is None:
            kind = f"UDP port {port}" if port else "native ESP"
            raise Refusal(Reason.MODE_UNSUPPORTED, f"there is no socket for {kind} of {source}")
        sock, wildcard = found
        return sock, source_of(source) if wildcard else []

    def _activate_outbound(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        key: SaKey = wire.decode(SaKey, value)
        state = self._engine.core.sad.outbound.get(key)
        if state is None:
            raise Refusal(Reason.NOT_INSTALLED, str(key))
        self._activate(state)
        return None

    def _activate(self, state: OutboundState) -> None:
        self._engine.core.sad.activate(state)
        self._engine.outbound.forget_flows()
        self._engine.outbound.release(state.sa.reqid)

    def _deactivate_outbound(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        state = self._engine.core.sad.outbound.get(wire.decode(SaKey, value))
        if state is not None:
            self._engine.core.sad.deactivate(state)
            self._engine.outbound.forget_flows()
        return None

    def _remove(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        removed = []
        self._engine.sender.flush()
        for item in value:
            key: SaKey = wire.decode(SaKey, item)
            if self._engine.core.sad.remove(key) is not None:
                removed.append(wire.encode(key))
        self._engine.outbound.forget_flows()
        return removed

    def _install_policies(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        policies = [wire.decode(SecurityPolicy, item) for item in value]
        for policy in policies:
            self._engine.core.spd.add(policy)
        self._engine.outbound.forget_flows()
        return None

    def _remove_policies(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        removed = [name for name in value if self._engine.core.spd.remove(name)]
        self._engine.outbound.forget_flows()
        return removed

    def _update_endpoints(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        core = self._engine.core
        key: SaKey = wire.decode(SaKey, value[0])
        source: Address = ip_address(value[1])
        destination: Address = ip_address(value[2])
        encapsulation: UdpEncapsulation | None = wire.decode(UdpEncapsulation | None, value[3])
        state = core.sad.get(key)
        if state is None:
            raise Refusal(Reason.NOT_INSTALLED, str(key))
        _of_one_family(source, destination)
        sa = replace(state.sa, source=source, destination=destination, encapsulation=encapsulation)
        if sa.key != key and core.sad.get(sa.key) is not None:
            raise Refusal(Reason.ALREADY_INSTALLED, str(sa.key))
        if isinstance(state, OutboundState):
            sock, ancillary = self._way_out(source, encapsulation)
            self._engine.sender.flush()
            del core.sad.outbound[key]
            state.sock, state.ancillary = sock, ancillary
            state.target = str(destination), encapsulation.destination_port if encapsulation else 0
            state.sa = state.spent.sa = sa
            core.sad.outbound[sa.key] = state
            state.set_path_mtu(self._engine.path_mtu.of(state))
            if state.spent.dead is Reason.SEND_FAILED:  # its socket was gone; now it has one
                state.spent.dead = None
        else:
            state.sa = state.spent.sa = sa
            state.peer = str(source), encapsulation.source_port if encapsulation else 0
            state.reported = None
        return wire.encode(sa.key)

    def _export_inbound(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        key: SaKey = wire.decode(SaKey, value)
        state = self._engine.core.sad.get(key)
        if not isinstance(state, InboundState):
            raise Refusal(Reason.NOT_INSTALLED, str(key))
        # One thread: nothing of it is under way here, and what comes later finds no SA.
        self._engine.core.sad.remove(key)
        # A bitmap is longer than MessagePack's numbers.
        exported = ExportedState(sa=state.sa, highest=state.window.highest, bitmap=0)
        return [wire.encode(exported), state.window.bitmap.to_bytes(512)]

    def _usage(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        found = []
        for item in value:
            state = self._engine.core.sad.get(wire.decode(SaKey, item))
            if state is not None:
                found.append([item, wire.encode(state.usage())])
        return found

    def _dump(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        sad = self._engine.core.sad
        installed = [InstalledSa(sa=state.sa, usage=state.usage()) for state in sad.inbound.values()]
        installed += [
            InstalledSa(sa=state.sa, usage=state.usage(), active=state.active) for state in sad.outbound.values()
        ]
        return wire.encode(Dump(sas=tuple(installed), policies=self._engine.core.spd.policies))

    def _counters(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        return dict(self._engine.core.counters) | {"cpu_microseconds": int(time.process_time() * 1e6)}

    def _too_big(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        self._engine.path_mtu.hear(wire.decode(TooBig, value))
        return None

    def _esp(self, value: Any, secret: bytearray, fds: list[int]) -> object:
        datagram: Datagram = wire.decode(Datagram, value)
        peer = str(datagram.source), datagram.source_port
        self._engine.inject(datagram.data, peer, datagram.destination.packed)
        return None


def _of_one_family(source: Address, destination: Address) -> None:
    if source.version != destination.version:
        raise Refusal(Reason.MODE_UNSUPPORTED, "the outer addresses are of two families")
