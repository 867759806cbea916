// `Interval` rounds of AES, with the round keys of all SAs for them: a part of aes_pipeline.
//
// In a cycle an item (a block, or the command to change an SA's keys) has its turn for one of the rounds, which step_i says.
// The key of that round is read, or written if the item is a command; a block's round is made in the cycle behind, or in
// the two behind: SubBytes in one and the rest in the other. So an item's keys are read strictly behind what a command in
// front of it wrote, and in front of what one behind it writes.
//
// The S-boxes stand right behind a register. So a block goes from one unit into the next without one of its own: what
// comes in and what goes out are not registered.

module aes_unit
  import aes_pkg::*;
#(
  // SAs: 1 or more.
  parameter int unsigned NSa = 1024,
  // Rounds in this unit, and cycles between two blocks.
  parameter int unsigned Interval = 7,
  // The place of the unit in the pipeline, from 0: its rounds are Index * Interval + 1 and those that follow.
  parameter int unsigned Index = 0,
  // How the S-boxes are built.
  parameter sbox_impl_e SboxImpl = SboxTable,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input  logic               clk_i,
  // The next cycle ends with a block coming in.
  input  logic               comes_i,
  // The round of this unit that an item has its turn for.
  input  logic [3:0]         step_i,
  // The item. A command has command_i and not valid_i.
  input  logic               valid_i,
  input  logic               command_i,
  input  logic               key256_i,
  input  logic [SaWidth-1:0] sa_i,
  // The key to write, in the step that is its round's.
  input  block_t             round_key_i,
  // From the unit in front, and for the one behind, in the cycle in which that takes it.
  input  block_t             state_i,
  output block_t             state_o
);

  localparam int unsigned StepWidth = Interval > 1 ? $clog2(Interval) : 0;
  localparam int unsigned Words = NSa << StepWidth;
  localparam int unsigned AddrWidth = Words > 1 ? $clog2(Words) : 1;

  logic [AddrWidth-1:0] addr;
  block_t round_key, state_q;
  logic [4:0] round;
  // They choose for whole blocks, so they are registers and not decoded here: a block is taken at the end of this cycle; and
  // of the item whose key was read in the cycle before.
  logic takes_q, last_q, bypass_q;

  assign addr = AddrWidth'({sa_i, 4'b0} >> (4 - StepWidth)) | AddrWidth'(step_i);

  ram_1r1w #(
    .Width(128),
    .Depth(Words),
    .Forgets(1'b1)
  ) u_keys (
    .clk_i,
    .write_i(command_i),
    .write_addr_i(addr),
    .write_data_i(round_key_i),
    .read_i(valid_i),
    .read_addr_i(addr),
    .read_data_o(round_key)
  );

  // A constant where a unit has one round only. Whether it is the last one is a constant in all units but the last.
  assign round = 5'(Index * Interval + 1) + (Interval > 1 ? 5'(step_i) : 5'd0);

  aes_round #(
    .SboxImpl(SboxImpl),
    .Cycles(round_cycles(Interval))
  ) u_round (
    .clk_i,
    .state_i(state_q),
    .key_i(round_key),
    .last_i(last_q),
    .bypass_i(bypass_q),
    .state_o
  );

  always_ff @(posedge clk_i) begin
    takes_q <= comes_i;
    last_q <= (Index + 1) * Interval == 14 && round == 5'd14;
    // A key of 128 bits has ten rounds; it takes the last ten, so that the last one is in one place.
    bypass_q <= Index * Interval < 4 && round <= 5'd4 && !key256_i;
    state_q <= (Interval == 1 || takes_q) ? state_i : state_o;
  end

endmodule
