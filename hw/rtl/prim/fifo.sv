// A queue with a handshake at both ends, for what is wide and few: descriptors, headers.
//
// What goes in can be taken out in the next cycle (first word falls through), and one goes in and one comes out in
// every cycle. The storage is read without a clock, so it becomes LUT RAM; a queue of hundreds of words wants ram_1r1w.

module fifo #(
  // Bits of a word.
  parameter int unsigned Width = 32,
  // Words that it holds: 2 or more, not only powers of two.
  parameter int unsigned Depth = 4,
  localparam int unsigned CountWidth = $clog2(Depth + 1)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  valid_i,
  output logic                  ready_o,
  input  logic [Width-1:0]      data_i,
  output logic                  valid_o,
  input  logic                  ready_i,
  output logic [Width-1:0]      data_o,
  // Words inside.
  output logic [CountWidth-1:0] count_o
);

  if (Width < 1) begin : gen_no_width
    $error("Width must be at least 1");
  end
  if (Depth < 2) begin : gen_no_depth
    $error("Depth must be at least 2: a single register cannot fill and empty in one cycle");
  end

  localparam int unsigned AddrWidth = $clog2(Depth);
  typedef logic [AddrWidth-1:0] addr_t;
  localparam addr_t Last = addr_t'(Depth - 1);

  function automatic addr_t next(input addr_t addr);
    return addr == Last ? '0 : addr + 1'b1;
  endfunction

  // Else it may be taken for a block RAM whose address is read_q, with a bypass around it: slow, and few blocks are there.
  (* ram_style = "distributed" *)
  logic [Width-1:0] mem [Depth];
  addr_t write_q, read_q;
  logic [CountWidth-1:0] count_q;
  logic push, pop;
  // What the count says, in registers of their own: others decide by it.
  logic ready_q, valid_q;

  assign ready_o = ready_q;
  assign valid_o = valid_q;
  assign push = valid_i && ready_o;
  assign pop = valid_o && ready_i;
  assign data_o = mem[read_q];
  assign count_o = count_q;

  always_ff @(posedge clk_i) begin
    if (push) mem[write_q] <= data_i;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q <= '0;
      read_q <= '0;
      count_q <= '0;
      ready_q <= 1'b1;
      valid_q <= 1'b0;
    end else begin
      if (push) write_q <= next(write_q);
      if (pop) read_q <= next(read_q);
      if (push != pop) begin
        count_q <= push ? count_q + 1'b1 : count_q - 1'b1;
        ready_q <= !push || count_q != CountWidth'(Depth - 1);
        valid_q <= push || count_q != CountWidth'(1);
      end
    end
  end

`ifndef SYNTHESIS
  logic stalled_q;
  logic [Width-1:0] offered_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && valid_o && !ready_i;
    offered_q <= data_o;
    if (rst_ni && $time != 0) begin
      assert (32'(count_q) <= Depth) else $error("overflow or underflow: %0d words", count_q);
      assert (ready_q == (32'(count_q) != Depth) && valid_q == (count_q != '0))
      else $error("ready or valid is not what the count says: %0d words", count_q);
      assert (!(push && 32'(count_q) == Depth)) else $error("overflow");
      assert (!(pop && count_q == '0)) else $error("underflow");
      if (stalled_q) assert (valid_o && data_o == offered_q) else $error("an offered word changed");
    end
  end
`endif

endmodule
