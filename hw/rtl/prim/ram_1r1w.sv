// A memory with a port for writing and one for reading, as block RAM has it.
//
// What is read comes in the next cycle and stays while read_i is low. Reading an address in the cycle that it is written
// in gives what was there before; callers do not rely on it, since block RAM of some vendors gives something else.

module ram_1r1w #(
  // Bits of a word.
  parameter int unsigned Width = 8,
  // Words.
  parameter int unsigned Depth = 16,
  localparam int unsigned AddrWidth = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic                 clk_i,
  input  logic                 write_i,
  input  logic [AddrWidth-1:0] write_addr_i,
  input  logic [Width-1:0]     write_data_i,
  input  logic                 read_i,
  input  logic [AddrWidth-1:0] read_addr_i,
  output logic [Width-1:0]     read_data_o
);

  if (Width < 1 || Depth < 1) begin : gen_refused
    $error("ram_1r1w: Width and Depth must be at least 1");
  end

  logic [Width-1:0] mem [Depth];

  always_ff @(posedge clk_i) begin
    if (write_i) mem[write_addr_i] <= write_data_i;
    if (read_i) read_data_o <= mem[read_addr_i];
  end

endmodule
