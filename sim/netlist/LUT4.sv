// ECP5's table of four inputs: Yosys's model, as one look-up. Verilator makes a third of the code of it, and a netlist has ten
// thousand of them. That both are the same is proved (test_netlist.py).

module LUT4 #(
  parameter logic [15:0] INIT = '0
) (
  input  logic A, B, C, D,
  output logic Z
);

  assign Z = INIT[{D, C, B, A}];

endmodule
