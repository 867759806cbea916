"""Programs the engine through its registers, by the names that software has for them, over AXI4-Lite."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from cocotb.triggers import FallingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from appliance.datapath.engine import registers as names
from appliance.datapath.engine.bus import Fields, Number, Readable, unpacked
from appliance.esp.tunnel import Df, Dscp, Tunnel
from appliance.sa.selector import TrafficSelector
from sim.tb.model.inbound import Sa
from sim.tb.model.outbound import Outbound

F = TypeVar("F", bound=Fields)
_DF = {Df.COPY: names.Df.COPY, Df.SET: names.Df.SET, Df.CLEAR: names.Df.CLEAR}


class _Written:
    """A bus that keeps what is written until it is carried out."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, int]] = []

    def write(self, address: int, value: int, /) -> None:
        self.writes.append((address, value))

    def read(self, address: int, /) -> int:
        raise NotImplementedError(f"{address:#x}: what is read has to wait for the bus")


class Programmer:
    """Software, as far as it is concerned with registers. One command at a time."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        logging.getLogger("cocotb.esp_engine.s_axil").setLevel(logging.WARNING)  # else a line for each access
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk_i)
        self._bus = _Written()
        self.registers = names.EspEngine(self._bus)

    async def flush(self) -> None:
        """Carry out what was written to the registers."""
        writes = [self.master.init_write(address, value.to_bytes(4, "little")) for address, value in self._bus.writes]
        self._bus.writes.clear()
        for write in writes:
            await write.wait()

    async def fields(self, register: Readable[F]) -> F:
        """A register's fields."""
        return unpacked(register.fields, await self.master.read_dword(register.address))

    async def number(self, number: Number) -> int:
        """A number of one or several words."""
        words = [await self.master.read_dword(address) for address in number.addresses]
        return sum(word << 32 * i for i, word in enumerate(words))

    async def until_ready(self) -> None:
        """Wait until the engine has forgotten all SAs."""
        while not (await self.fields(self.registers.control.status)).ready:
            for _ in range(100):
                await FallingEdge(self.dut.clk_i)

    async def enable(self, headroom: int = 0) -> None:
        """Let traffic in."""
        self.registers.control.headroom.write(headroom)
        self.registers.control.control.write(1)
        await self.flush()

    async def command(self, operation: names.Operation, index: int, direction: names.Direction) -> names.Answer:
        """A command, and its answer."""
        command = names.CommandCommand(index=index, direction=direction, operation=operation, go=1)
        self.registers.command.command.write(command)
        await self.flush()
        for _ in range(5000):
            answer = await self.fields(self.registers.command.answer)
            if answer.done:
                return answer.answer
        raise AssertionError(f"{operation.name} of {direction.name} {index} does not end")

    def stage_key(self, key: bytes) -> None:
        """The key for the next installation."""
        self.registers.key.word.write(int.from_bytes(key, "little"))

    def stage_outbound(self, model: Outbound) -> None:
        """An outbound SA."""
        sa, form = self.registers.sa, model.form
        tunnel = form if isinstance(form, Tunnel) else None
        sa.form.write(
            names.SaForm(
                generation=model.generation,
                transport=int(tunnel is None),
                esn=int(model.esn),
                key256=int(len(model.key) == 32),
                v6=int(tunnel is not None and tunnel.source.version == 6),
            )
        )
        sa.spi.write(model.spi)
        sa.salt.write(int.from_bytes(model.salt, "little"))
        udp = int(form.ports is not None)
        if tunnel:
            sa.outer.write(
                names.SaOuter(
                    dscp_copy=int(tunnel.dscp is Dscp.COPY),
                    dscp=tunnel.dscp if isinstance(tunnel.dscp, int) else 0,
                    ecn_copy=int(tunnel.copy_ecn),
                    df=_DF[tunnel.df],
                    flow_copy=int(tunnel.flow_label is None),
                    hop_limit=tunnel.hop_limit,
                    udp=udp,
                )
            )
        else:
            sa.outer.write(names.SaOuter(udp=udp))
        sa.flow_label.write(tunnel.flow_label or 0 if tunnel else 0)
        sa.tfc.write(tunnel.tfc_length if tunnel else 0)
        source, destination = form.ports or (0, 0)
        sa.ports.write(names.SaPorts(source=source, destination=destination))
        sa.source.write(int(tunnel.source) if tunnel else 0)
        sa.destination.write(int(tunnel.destination) if tunnel else 0)
        self._limits({name: model.limits.get(name, 0) for name in model.limits})
        self.stage_key(model.key)

    def stage_inbound(self, model: Sa) -> None:
        """An inbound SA; its selectors are written by commands of their own."""
        sa = self.registers.sa
        sa.form.write(
            names.SaForm(
                generation=model.generation,
                transport=int(model.transport),
                esn=int(model.esn),
                key256=int(len(model.key) == 32),
                v6=int(model.destination.version == 6),
            )
        )
        sa.spi.write(model.spi)
        sa.salt.write(int.from_bytes(model.salt, "little"))
        sa.ports.write(names.SaPorts(destination=model.udp_port))
        sa.selectors.write(names.SaSelectors(first=model.selector_first, count=len(model.selectors)))
        sa.destination.write(int(model.destination))
        limits = {f"hard_{unit}": limit for unit, limit in model.hard.items()}
        self._limits(limits | {f"soft_{unit}": limit for unit, limit in model.soft.items()})
        self.stage_key(model.key)

    def _limits(self, limits: dict[str, int]) -> None:
        for kind in ("hard", "soft"):
            registers = getattr(self.registers.sa, f"{kind}_limits")
            for unit in ("packets", "bytes"):
                getattr(registers, unit).write(limits.get(f"{kind}_{unit}", 0))

    async def selector(self, index: int, selector: TrafficSelector, *, remote: bool) -> names.Answer:
        """A selector into its place of the pool."""
        staged = self.registers.selector
        staged.form.write(
            names.SelectorForm(protocol=selector.protocol, remote=int(remote), v6=int(selector.version == 6))
        )
        staged.ports.write(names.SelectorPorts(first=selector.start_port, last=selector.end_port))
        staged.first.write(int(selector.start))
        staged.last.write(int(selector.end))
        return await self.command(names.Operation.SELECTOR, index, names.Direction.OUTBOUND)

    async def install_outbound(self, index: int, model: Outbound) -> names.Answer:
        """Stage and install."""
        self.stage_outbound(model)
        return await self.command(names.Operation.INSTALL, index, names.Direction.OUTBOUND)

    async def install_inbound(self, model: Sa) -> names.Answer:
        """Write its selectors, stage and install."""
        for number, (selector, remote) in enumerate(model.selectors):
            answer = await self.selector(model.selector_first + number, selector, remote=remote)
            assert answer is names.Answer.DONE
        self.stage_inbound(model)
        return await self.command(names.Operation.INSTALL, model.index, names.Direction.INBOUND)

    async def install_staged_inbound(self, index: int) -> names.Answer:
        """Install what is staged; its selectors are in the pool already."""
        return await self.command(names.Operation.INSTALL, index, names.Direction.INBOUND)

    async def remove(self, index: int) -> None:
        """Remove the SAs of an index, both ways."""
        for direction in names.Direction:
            answer = await self.command(names.Operation.REMOVE, index, direction)
            assert answer is names.Answer.DONE, answer

    async def usage(self, index: int, direction: names.Direction) -> dict[str, int]:
        """The counters of an SA."""
        answer = await self.command(names.Operation.READ, index, direction)
        assert answer is names.Answer.DONE, answer
        usage = self.registers.usage
        read = ("sequence_number", "packets", "bytes", "replayed", "integrity_failures")
        return {name: await self.number(getattr(usage, name)) for name in read}
