// AES encryption with keys of 128 or 256 bits (FIPS 197), a block every `Interval` cycles, whatever SAs they belong to.
//
// 14 / Interval units in a row make Interval rounds each, one a cycle; where a round takes two cycles, a unit has two blocks
// and works at them in turn. Each has its own memory of the round keys that it needs, of all SAs. A key of 128 bits goes with the last ten rounds: its first round key is at place 0 (whitening), places
// 1 to 4 are passed by, and the other ten are at 5 to 14.
//
// A command that changes an SA's keys goes down like a block, and each unit writes its own key where it would read it. So
// the blocks in front of it are made with the old keys and those behind with the new, without a wait. The keys come from
// a staging memory (key_unit): round_key_addr_o is a place, and its key is at round_key_i a cycle later. The address rests
// at 0, so that the first key is there when a command comes. One command at a time is on its way.
//
// Latency: what is taken in cycle t comes out in cycle t + pipeline_latency(Interval), 16 or 30.

module aes_pipeline
  import aes_pkg::*;
#(
  // SAs: 1 or more.
  parameter int unsigned NSa = 1024,
  // Cycles between two blocks: 1, 2, 7 or 14. 14 / Interval rounds are built.
  parameter int unsigned Interval = 7,
  // How the S-boxes are built.
  parameter sbox_impl_e SboxImpl = SboxTable,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  // High one cycle in `Interval`; nothing is taken in the others.
  output logic               ready_o,
  input  logic               valid_i,
  // A command and not a block.
  input  logic               command_i,
  input  logic               key256_i,
  input  logic [SaWidth-1:0] sa_i,
  input  block_t             block_i,
  // The keys of a command.
  output logic [3:0]         round_key_addr_o,
  input  block_t             round_key_i,
  output logic               valid_o,
  output block_t             block_o
);

  localparam int unsigned Units = 14 / Interval;
  localparam int unsigned RoundCycles = round_cycles(Interval);
  localparam int unsigned Latency = pipeline_latency(Interval);

  if (!(Interval inside {1, 2, 7, 14})) begin : gen_refused_interval
    $error("aes_pipeline: Interval must be 1, 2, 7 or 14");
  end
  if (NSa < 1) begin : gen_refused_sas
    $error("aes_pipeline: NSa must be at least 1");
  end

  typedef struct packed {
    logic valid;
    logic command;
    logic key256;
    logic [SaWidth-1:0] sa;
  } item_t;

  if (RoundCycles == 2 && Interval % 2 == 0) begin : gen_refused_turns
    $error("aes_pipeline: two blocks in a unit would have their turn in the same cycle");
  end

  // Cycles are numbered by phase: 0 is when an item is taken, and when all items move on.
  logic [3:0] phase_q, age, step;

  always_ff @(posedge clk_i) begin
    if (!rst_ni || phase_q == 4'(Interval - 1)) phase_q <= 4'd0;
    else phase_q <= phase_q + 4'd1;
  end

  assign ready_o = phase_q == 4'd0;

  // An item is in a unit, or in its first half of the time there, from phase 1 to the next phase 0.
  assign age = ready_o ? 4'(Interval - 1) : phase_q - 4'd1;

  item_t item_q [RoundCycles*Units];

  always_ff @(posedge clk_i) begin
    if (ready_o) begin
      item_q[0] <= '{
        valid: valid_i && !command_i,
        command: valid_i && command_i,
        key256: key256_i,
        sa: sa_i
      };
      for (int i = 1; i < int'(RoundCycles * Units); i++) item_q[i] <= item_q[i-1];
    end
    if (!rst_ni) begin
      for (int i = 0; i < int'(RoundCycles * Units); i++) begin
        item_q[i].valid <= 1'b0;
        item_q[i].command <= 1'b0;
      end
    end
  end

  // Which round has its turn in every unit, and of which of its items. With two cycles a round it is the newer item in even
  // cycles and the older one, `Interval` cycles older, in odd ones.
  item_t turn [Units];

  if (RoundCycles == 1) begin : gen_one_item
    assign step = age;
    for (genvar u = 0; u < int'(Units); u++) begin : gen_turn
      assign turn[u] = item_q[u];
    end
  end else begin : gen_two_items
    assign step = age[0] ? 4'((Interval + 1) / 2) + (age >> 1) : age >> 1;
    for (genvar u = 0; u < int'(Units); u++) begin : gen_turn
      assign turn[u] = age[0] ? item_q[2*u+1] : item_q[2*u];
    end
  end

  // The places of the staging memory in step with a command: the key of a round is there when the unit has its turn for it.
  logic [3:0] place_q;
  logic taken, moves;

  assign taken = ready_o && valid_i;

  if (RoundCycles == 1) begin : gen_place_each_cycle
    assign moves = 1'b1;
  end else begin : gen_place_every_other
    always_ff @(posedge clk_i) begin
      if (!rst_ni || round_key_addr_o == 4'd0) moves <= 1'b0;
      else moves <= !moves;
    end
  end

  always_comb begin
    round_key_addr_o = place_q;
    if (taken && command_i) round_key_addr_o = 4'd1;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) place_q <= 4'd0;
    else if (round_key_addr_o == 4'd0 || !moves) place_q <= round_key_addr_o;
    else place_q <= round_key_addr_o == 4'd14 ? 4'd0 : round_key_addr_o + 4'd1;
  end

  // AddRoundKey before the first round (FIPS 197 §5.1).
  block_t whitening_key, block_q;

  ram_1r1w #(
    .Width(128),
    .Depth(NSa),
    .Forgets(1'b1)
  ) u_whitening (
    .clk_i,
    .write_i(taken && command_i),
    .write_addr_i(sa_i),
    .write_data_i(round_key_i),
    .read_i(taken && !command_i),
    .read_addr_i(sa_i),
    .read_data_o(whitening_key)
  );

  always_ff @(posedge clk_i) block_q <= block_i;

  // A unit's register is in front of its rounds, so the last one has another behind it.
  block_t state [Units+1];
  assign state[0] = block_q ^ whitening_key;

  for (genvar u = 0; u < int'(Units); u++) begin : gen_unit
    aes_unit #(
      .NSa(NSa),
      .Interval(Interval),
      .Index(u),
      .SboxImpl(SboxImpl)
    ) u_unit (
      .clk_i,
      .comes_i(ready_o),
      .step_i(step),
      .valid_i(turn[u].valid),
      .command_i(turn[u].command),
      .key256_i(turn[u].key256),
      .sa_i(turn[u].sa),
      .round_key_i,
      .state_i(state[u]),
      .state_o(state[u+1])
    );
  end

  always_ff @(posedge clk_i) block_o <= state[Units];

  // An item leaves the last unit two cycles before its block is out.
  logic [1:0] leaving_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) leaving_q <= 2'b00;
    else leaving_q <= {leaving_q[0], item_q[RoundCycles*Units-1].valid && ready_o};
  end

  assign valid_o = leaving_q[1];

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, off;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) if (!rst_ni) reset_seen_q <= 1'b1;
  assign off = !rst_ni || !reset_seen_q;

  // Commands come one at a time, since the staging memory has the keys of one.
  logic [$clog2(Latency)-1:0] command_age_q;
  logic [Latency-1:0] due_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni || 32'(command_age_q) == Latency - 1) command_age_q <= '0;
    else if (command_age_q != '0 || (taken && command_i)) command_age_q <= command_age_q + 1'b1;
    due_q <= rst_ni ? {due_q[Latency-2:0], taken && !command_i} : '0;
  end

  one_command_at_a_time :
  assert property (@(posedge clk_i) disable iff (off) taken && command_i |-> command_age_q == '0);
  known_sa :
  assert property (@(posedge clk_i) disable iff (off) taken |-> 32'(sa_i) < NSa);
  latency_is_fixed :
  assert property (@(posedge clk_i) disable iff (off) valid_o == due_q[Latency-1]);
`endif

endmodule
