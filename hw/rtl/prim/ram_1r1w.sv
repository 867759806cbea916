// A memory with a port to write and a port to read, both on one clock: block RAM where there is one.
//
// Data comes one cycle after its address and is held while read_i is low. A word that is read in the cycle in which it
// is written comes as it was before: what every block RAM can do, and what needs no bypass.

module ram_1r1w #(
  // Bits of a word.
  parameter int unsigned Width = 128,
  // Words. Any number; addresses behind the last are not to be used.
  parameter int unsigned Depth = 512,
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

  if (Width < 1) begin : gen_no_width
    $error("Width must be at least 1");
  end
  if (Depth < 1) begin : gen_no_depth
    $error("Depth must be at least 1");
  end

  logic [Width-1:0] mem [Depth];
  logic [Width-1:0] read_data_q;

  always_ff @(posedge clk_i) begin
    if (write_i) mem[write_addr_i] <= write_data_i;
  end

  always_ff @(posedge clk_i) begin
    if (read_i) read_data_q <= mem[read_addr_i];
  end

  assign read_data_o = read_data_q;

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (write_i) assert (32'(write_addr_i) < Depth) else $error("write behind the last word");
    if (read_i) assert (32'(read_addr_i) < Depth) else $error("read behind the last word");
  end
`endif

endmodule
