// GHASH (NIST SP 800-38D §6.4): a block every `Interval` cycles, without a bubble in a packet or between two, whatever
// SAs they belong to.
//
// The product of block i of m with H^(m-i+1) is what the hash is the sum of. A packet's length is known when it starts, so
// with L powers of H, and L slots for a multiplication, block i goes with H^min(m-i+1, L); where it was H^L that is
// Horner's scheme over groups of L, and the product is added to the block L slots later. The last L products are summed.
// Blocks of zeros in front of a packet change nothing.
//
// H^1 to H^L of each SA are at L places of one memory. A command writes them, the highest first, one a cycle, so that H^1
// is written when a block in its place would have its power read. A block j places in front of the command needs no
// power above H^j, and reads it before that is written, since H^p is written p - 1 cycles before H^1; what is behind the
// command reads behind all.
//
// What is to be known of a block comes a cycle ahead of it, so that its power is in a register when it is multiplied:
// block RAM is slow.
//
// Latency: the block in cycle t, its hash in cycle t + 1 + product_latency(Interval) (gcm_pkg).

module ghash
  import aes_pkg::block_t;
  import gcm_pkg::*;
#(
  // SAs: 1 or more.
  parameter int unsigned NSa = 1024,
  // Cycles between two blocks: 1, 2, 7 or 14. The blocks of a packet come exactly so.
  parameter int unsigned Interval = 7,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1,
  localparam int unsigned Powers = powers(Interval),
  localparam int unsigned PlaceWidth = Powers > 1 ? $clog2(Powers) : 1,
  localparam int unsigned FollowingWidth = $clog2(Powers + 1)
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  // A block comes in the next cycle.
  input  logic                      valid_i,
  input  logic                      first_i,
  input  logic [SaWidth-1:0]        sa_i,
  // How many blocks of the packet follow; Powers if there are more.
  input  logic [FollowingWidth-1:0] following_i,
  // A cycle later.
  input  block_t                    block_i,
  // A command in cycle t has the place of a block that is told of in cycle t + Powers. H^p is at power_i a cycle after p - 1
  // was at power_addr_o, which rests at 0.
  input  logic                      command_i,
  input  logic [SaWidth-1:0]        command_sa_i,
  output logic [PlaceWidth-1:0]     power_addr_o,
  input  block_t                    power_i,
  output logic                      valid_o,
  output block_t                    hash_o
);

  if (!(Interval inside {1, 2, 7, 14})) begin : gen_refused_interval
    $error("ghash: Interval must be 1, 2, 7 or 14");
  end
  if (Powers * Interval != product_latency(Interval)) begin : gen_refused_latency
    $error("ghash: a product must be ready when the block that it is added to comes");
  end
  if (NSa < 1) begin : gen_refused_sas
    $error("ghash: NSa must be at least 1");
  end

  localparam int unsigned Words = NSa * (Powers > 1 ? 1 << PlaceWidth : 1);
  localparam int unsigned AddrWidth = Words > 1 ? $clog2(Words) : 1;

  // The place of H^p is p - 1.
  function automatic logic [AddrWidth-1:0] address(input logic [SaWidth-1:0] owner, input logic [PlaceWidth-1:0] place);
    return Powers > 1 ? AddrWidth'({owner, place}) : AddrWidth'(owner);
  endfunction

  // Commands.
  logic [PlaceWidth-1:0] next_q, place_q;
  logic [SaWidth-1:0] command_sa_q;
  logic writing_q;

  assign power_addr_o = command_i ? PlaceWidth'(Powers - 1) : next_q;

  always_ff @(posedge clk_i) begin
    next_q <= power_addr_o == '0 ? '0 : power_addr_o - 1'b1;
    place_q <= power_addr_o;
    if (command_i) command_sa_q <= command_sa_i;
    if (command_i) writing_q <= 1'b1;
    else if (place_q == '0) writing_q <= 1'b0;
    if (!rst_ni) begin
      next_q <= '0;
      writing_q <= 1'b0;
    end
  end

  // A block and its power, each in a register.
  typedef struct packed {
    logic feeds;   // the product is added to the block L slots later; else it is one of the last L,
    logic begins;  // the first of them,
    logic ends;    // or the last
  } note_t;

  logic [PlaceWidth-1:0] place;
  logic comes_q, valid_q;
  block_t block_q, power, power_q;
  note_t coming_q, note_q;

  assign place = following_i >= FollowingWidth'(Powers) ? PlaceWidth'(Powers - 1) : PlaceWidth'(following_i);

  ram_1r1w #(
    .Width(128),
    .Depth(Words),
    .Forgets(1'b1)
  ) u_powers (
    .clk_i,
    .write_i(writing_q),
    .write_addr_i(address(command_sa_q, place_q)),
    .write_data_i(power_i),
    .read_i(valid_i),
    .read_addr_i(address(sa_i, place)),
    .read_data_o(power)
  );

  always_ff @(posedge clk_i) begin
    comes_q <= rst_ni && valid_i;
    coming_q.feeds <= following_i == FollowingWidth'(Powers);
    coming_q.begins <= following_i == FollowingWidth'(Powers - 1) || first_i;
    coming_q.ends <= following_i == '0;
    valid_q <= rst_ni && comes_q;
    block_q <= rst_ni && comes_q ? block_i : '0;
    power_q <= power;
    note_q <= coming_q;
  end

  // Multiplication, and the two ways that a product goes.
  logic product_valid;
  block_t product, sum, sum_q;
  note_t note;

  ghash_multiplier #(
    .Interval(Interval),
    .NoteWidth($bits(note_t))
  ) u_multiplier (
    .clk_i,
    .rst_ni,
    .valid_i(valid_q),
    .a_i(block_q ^ (product_valid && note.feeds ? product : '0)),
    .b_i(power_q),
    .note_i(note_q),
    .valid_o(product_valid),
    .product_o(product),
    .note_o(note)
  );

  assign sum = (note.begins ? '0 : sum_q) ^ product;

  always_ff @(posedge clk_i) begin
    if (product_valid && !note.feeds) sum_q <= sum;
  end

  assign valid_o = product_valid && note.ends;
  assign hash_o = sum;

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, off;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) if (!rst_ni) reset_seen_q <= 1'b1;
  assign off = !rst_ni || !reset_seen_q;

  logic open_q;
  logic [FollowingWidth-1:0] following_q;
  logic [3:0] since_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) open_q <= 1'b0;
    else if (valid_i) open_q <= following_i != '0;
    if (valid_i) following_q <= following_i;
    since_q <= valid_i ? 4'd0 : since_q + 4'd1;
  end

  packets_follow_each_other :
  assert property (@(posedge clk_i) disable iff (off) valid_i |-> first_i == !open_q);
  no_gap_in_a_packet :
  assert property (@(posedge clk_i) disable iff (off) open_q |-> valid_i == (since_q == 4'(Interval - 1)));
  following_counts_down :
  assert property (@(posedge clk_i) disable iff (off) valid_i && open_q |->
      following_i == following_q - 1'b1 || (following_i == FollowingWidth'(Powers) && following_q == following_i));
  fed_where_a_block_is :
  assert property (@(posedge clk_i) disable iff (off) product_valid && note.feeds |-> valid_q);
  // What a memory reads in the cycle that it is written in is nobody's to rely on.
  not_read_while_written :
  assert property (@(posedge clk_i) disable iff (off) writing_q && valid_i |->
      address(command_sa_q, place_q) != address(sa_i, place));
  one_command_at_a_time :
  assert property (@(posedge clk_i) disable iff (off) command_i |-> !writing_q || place_q == '0);
`endif

endmodule
