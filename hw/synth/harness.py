"""A frame of four pins around a module, so that its ports are limited by no package and every path has two ends.

Each input comes out of a register of a shift register, each output goes into a register of its own, and these are
summed into another shift register, so that nothing can be removed. Paths from inputs and to outputs are measured as if
what is on the other side were registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Port(NamedTuple):
    """A port of a module, as one vector."""

    name: str
    direction: str  # "input" or "output"
    width: int


CLOCK = "clk_i"


def verilog(module: str, ports: Sequence[Port]) -> str:
    """A module ``harness`` around one that is called ``module``, and that as a black box."""
    inputs = [port for port in ports if port.direction == "input" and port.name != CLOCK]
    outputs = [port for port in ports if port.direction == "output"]
    taken = sum(port.width for port in inputs)
    given = sum(port.width for port in outputs)
    if not inputs or not outputs:
        raise ValueError(f"{module} has no inputs or no outputs but its clock")
    clocked = any(port.name == CLOCK for port in ports)
    declared = [f"{port.direction} [{port.width - 1}:0] {port.name}" for port in ports]
    connected = [f".{CLOCK}({CLOCK})"] if clocked else []
    for vector, those in (("in_q", inputs), ("out", outputs)):
        at = 0
        for port in those:
            connected.append(f".{port.name}({vector}[{at + port.width - 1}:{at}])")
            at += port.width
    separator = ",\n  "
    return f"""(* blackbox *)
module {module} (
  {separator.join(declared)}
);
endmodule

module harness (input {CLOCK}, input pin_i, output pin_o);
reg [{taken - 1}:0] in_q;
reg [{given - 1}:0] out_q, sum_q;
wire [{given - 1}:0] out;
always @(posedge {CLOCK}) begin
  in_q <= {{in_q, pin_i}};
  out_q <= out;
  sum_q <= {{sum_q, pin_i}} ^ out_q;
end
assign pin_o = sum_q[{given - 1}];
{module} dut (
  {separator.join(connected)}
);
endmodule
"""
