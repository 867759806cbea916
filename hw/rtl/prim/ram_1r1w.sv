// A memory with a port to write and a port to read, both on one clock: block RAM where there is one.
//
// Data comes one cycle after its address and is held while read_i is low. A word that is read in the cycle in which it
// is written comes as it was before.

module ram_1r1w #(
  // Bits of a word.
  parameter int unsigned Width = 128,
  // Words. Any number; addresses behind the last are not to be used.
  parameter int unsigned Depth = 512,
  // The old word is to be had even where the device's memory cannot do that between two ports (ECP5's cannot):
  // registers and a comparison around it. With 0 there are none, and nobody may read a word in the cycle in which it is
  // written.
  parameter bit ReadOld = 1'b1,
  // For keys: a word that is written is read in the cycle after, if nothing else is. So what stands at the output is not
  // a word that has been written over. Data is held for one cycle only then.
  parameter bit Forgets = 1'b0,
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

  (* no_rw_check = !ReadOld *)
  logic [Width-1:0] mem [Depth];
  logic [Width-1:0] read_data_q;

  always_ff @(posedge clk_i) begin
    if (write_i) mem[write_addr_i] <= write_data_i;
  end

  logic read;
  logic [AddrWidth-1:0] read_addr;

  if (Forgets) begin : gen_forgets
    logic written_q;
    logic [AddrWidth-1:0] written_addr_q;

    always_ff @(posedge clk_i) begin
      written_q <= write_i;
      written_addr_q <= write_addr_i;
    end

    assign read = read_i || written_q;
    assign read_addr = read_i ? read_addr_i : written_addr_q;
  end else begin : gen_keeps
    assign read = read_i;
    assign read_addr = read_addr_i;
  end

  always_ff @(posedge clk_i) begin
    if (read) read_data_q <= mem[read_addr];
  end

  assign read_data_o = read_data_q;

`ifndef SYNTHESIS
  // Nothing holds before the first cycle of reset.
  logic begun_q;
  initial begun_q = 1'b0;
  always_ff @(posedge clk_i) begin
    begun_q <= 1'b1;
    if (begun_q) begin
      if (write_i) assert (32'(write_addr_i) < Depth) else $error("write behind the last word");
      if (!ReadOld && read && write_i) begin
        assert (read_addr != write_addr_i) else $error("a word is read in the cycle in which it is written");
      end
      if (read_i) assert (32'(read_addr_i) < Depth) else $error("read behind the last word");
    end
  end
`endif

endmodule
