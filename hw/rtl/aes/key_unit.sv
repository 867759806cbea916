// From an AES key all that the stages of gcm_core need for an SA: the round keys (FIPS 197 §5.2), and powers of H, which is
// the encryption of a block of zeros (NIST SP 800-38D §7.1 step 1).
//
// Results go into two staging memories, which a Key slot reads on its way through gcm_core. Round keys are at the places
// that aes_pipeline has them at: 0 to 14, and of a key of 128 bits 0 and 5 to 14, with zeros between. H^p is at place p - 1.
//
// start_i takes a key, in the cycle behind it; zero_i takes none and leaves zeros in the staging memories, for a Key slot
// that removes an SA and for keys that were delivered. Either is taken while busy_o is low, and done_o pulses when it is
// over. No Key slot may be given from then (the first busy cycle) until then. The registers that held the key are cleared
// by then.
//
// Small and slow: one column at a time, four S-boxes, which have registers in front of them and behind. Busy for 17 cycles,
// with a key for one more, 6 for each word of the round keys (44 or 60), and 129 for each power of H above the first: at
// the most 765.

module key_unit
  import aes_pkg::*;
  import gcm_pkg::*;
#(
  // Cycles between two slots of the gcm_core that this is for: 1, 2, 7 or 14. It says how many powers of H there are.
  parameter int unsigned Interval = 7,
  // How the S-boxes are built.
  parameter sbox_impl_e SboxImpl = SboxTable,
  localparam int unsigned Powers = powers(Interval),
  localparam int unsigned PlaceWidth = Powers > 1 ? $clog2(Powers) : 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  start_i,
  input  logic                  zero_i,
  // First byte lowest; one of 128 bits is [127:0]. In the cycle behind start_i; key256_i is there with it.
  input  logic [255:0]          key_i,
  input  logic                  key256_i,
  output logic                  busy_o,
  output logic                  done_o,
  // The staging memories: a place, and what is there a cycle later.
  input  logic [3:0]            round_key_addr_i,
  output block_t                round_key_o,
  input  logic [PlaceWidth-1:0] power_addr_i,
  output block_t                power_o
);

  if (!(Interval inside {1, 2, 7, 14})) begin : gen_refused_interval
    $error("key_unit: Interval must be 1, 2, 7 or 14");
  end

  typedef enum logic [2:0] {
    Idle,
    Zero,    // zeros into all places
    Expand,  // the next word of the round keys
    Column,  // the column of the block that is encrypted, with that word
    Power,   // H^p to its place, 128 cycles apart
    Clear    // the registers
  } state_e;

  state_e state_q, state_d;
  // Zeros: a place. Words: the number of a word, FIPS 197's i. Powers: the bits that are left.
  logic [7:0] count_q, count_d;
  logic key256_q, expands_q;
  // The last eight words; of a key of 128 bits the last four are needed, the upper ones.
  column_t [7:0] words_q, words_d;
  // The block on its way to being H, and then H.
  block_t block_q, block_d;
  // Columns of the next state of the block, before the last of them is there.
  column_t [2:0] columns_q;
  byte_t constant_q;

  logic [3:0] place_q;  // of the round key
  logic [1:0] column;
  logic last_word, last_round;
  assign column = count_q[1:0];
  assign last_word = count_q == (key256_q ? 8'd59 : 8'd43);
  assign last_round = count_q[7:2] == (key256_q ? 6'd14 : 6'd10);

  // The four S-boxes serve a word and a column in turn. The word is w[i-1], rotated at the start of a group of Nk; the
  // column takes byte r from column c + r (ShiftRows, FIPS 197 §5.1.2).
  logic group_starts, group_middle, loading;
  column_t previous, to_substitute, to_substitute_q, substituted, substituted_q;
  // Expand and Column act in their third cycle, when what they need is substituted.
  logic phase_q;
  logic uses_sboxes, acts;
  // What chooses for many bits is in registers. In step with the state: the first cycle with a key, the last one
  // of Expand, of Column and of a block's last Column, Clear, Zero; and a cycle behind, when a round key is there.
  logic loads, takes_word, takes_column, takes_block, clears, zeroes, writes;

  assign uses_sboxes = state_q == Expand || state_q == Column;

  assign loading = count_q < (key256_q ? 8'd8 : 8'd4);
  assign group_starts = key256_q ? count_q[2:0] == 3'd0 : count_q[1:0] == 2'd0;
  assign group_middle = key256_q && count_q[2:0] == 3'd4;
  assign previous = words_q[7];

  always_comb begin
    to_substitute = group_starts ? {previous[7:0], previous[31:8]} : previous;
    if (state_q == Column) begin
      for (int r = 0; r < 4; r++) to_substitute[8*r+:8] = block_q[8*(4*((int'(column)+r)%4)+r)+:8];
    end
  end

  for (genvar i = 0; i < 4; i++) begin : gen_sbox
    aes_sbox #(
      .Impl(SboxImpl)
    ) u_sbox (
      .data_i(to_substitute_q[8*i+:8]),
      .data_o(substituted[8*i+:8])
    );
  end

  logic takes_block_d;
  assign takes_block_d = phase_q && state_q == Column && column == 2'd3;

  // Nothing of a key stays here: at least two cycles are between the last column and the end.
  always_ff @(posedge clk_i) begin
    to_substitute_q <= uses_sboxes ? to_substitute : '0;
    substituted_q <= substituted;
    phase_q <= rst_ni && uses_sboxes && !acts && !phase_q;
    acts <= rst_ni && phase_q;
    loads <= rst_ni && state_q == Idle && start_i;
    takes_word <= rst_ni && phase_q && state_q == Expand;
    takes_column <= rst_ni && phase_q && state_q == Column;
    takes_block <= rst_ni && takes_block_d;
    clears <= rst_ni && state_d == Clear;
  end

  // KeyExpansion, FIPS 197 §5.2. The key's own words only go round.
  column_t word, oldest;
  // As they are when the word is taken: the count stands still for two cycles before.
  logic loading_q, group_starts_q, group_middle_q, last_round_q;

  always_ff @(posedge clk_i) begin
    loading_q <= loading;
    group_starts_q <= group_starts;
    group_middle_q <= group_middle;
    last_round_q <= last_round;
  end

  always_comb begin
    oldest = key256_q ? words_q[0] : words_q[4];
    if (loading_q) word = oldest;
    else if (group_starts_q) word = oldest ^ substituted_q ^ {24'h0, constant_q};
    else if (group_middle_q) word = oldest ^ substituted_q;
    else word = oldest ^ previous;
  end

  // A column of the block after this round; before the first round a block of zeros has but the key (AddRoundKey).
  column_t column_d;

  always_comb begin
    if (count_q[7:2] == 6'd0) column_d = words_q[7];
    else column_d = (last_round_q ? substituted_q : mix_column(substituted_q)) ^ words_q[7];
  end

  // Powers of H: H times what was the last of them, bit by bit, the highest coefficient first.
  logic power_done, power_last;
  block_t power;

  if (Powers > 1) begin : gen_powers
    poly_t product_q, factor_q;
    logic [PlaceWidth-1:0] power_place_q;
    logic power_first_q;

    // In step with Power and a count of 0.
    always_ff @(posedge clk_i)
      power_done <= rst_ni && ((state_q == Column && acts && last_word) || (state_q == Power && count_q == 8'd1));
    assign power_last = power_place_q == PlaceWidth'(Powers - 1);
    assign power = power_first_q ? block_q : to_block(product_q);

    always_ff @(posedge clk_i) begin
      power_first_q <= power_place_q == '0;
      if (state_q == Expand) power_place_q <= '0;
      else if (power_done) power_place_q <= power_place_q + 1'b1;
      if (power_done) begin
        factor_q <= to_poly(power);
        product_q <= '0;
      end else begin
        factor_q <= factor_q << 1;
        product_q <= times_x(product_q) ^ (factor_q[127] ? to_poly(block_q) : '0);
      end
      if (clears) begin
        factor_q <= '0;
        product_q <= '0;
      end
    end

    ram_1r1w #(
      .Width(128),
      .Depth(Powers)
    ) u_powers (
      .clk_i,
      .write_i(power_done || zeroes),
      .write_addr_i(zeroes ? PlaceWidth'(count_q) : power_place_q),
      .write_data_i(zeroes ? '0 : power),
      .read_i(1'b1),
      .read_addr_i(power_addr_i),
      .read_data_o(power_o)
    );
  end else begin : gen_power
    // A memory of one word.
    block_t mem, unused_power;
    logic kept_q, unused;

    assign power_done = state_q == Power;
    assign power_last = 1'b1;
    assign power = block_q;

    always_ff @(posedge clk_i) begin
      kept_q <= power_done;
      if (zeroes) mem <= '0;
      else if (kept_q) mem <= power;
      power_o <= mem;
    end

    assign unused_power = power;
    assign unused = ^{power_addr_i, unused_power};
  end

  always_comb begin
    state_d = state_q;
    count_d = count_q + 8'd1;
    unique case (state_q)
      Idle: begin
        count_d = 8'd0;
        if (start_i || zero_i) state_d = Zero;
      end
      Zero:
      if (count_q == 8'd15) begin
        state_d = expands_q ? Expand : Clear;
        count_d = 8'd0;
      end
      Expand: begin
        count_d = count_q;
        if (acts) state_d = Column;
      end
      Column:
      if (!acts) begin
        count_d = count_q;
      end else begin
        state_d = last_word ? Power : Expand;
        if (last_word) count_d = 8'd0;
      end
      Power: begin
        // 128 cycles between two.
        count_d = count_q == 8'd0 ? 8'd128 : count_q - 8'd1;
        if (power_done && power_last) state_d = Clear;
      end
      default: state_d = Idle;
    endcase

    words_d = words_q;
    if (loads) words_d = key256_q ? key_i : {key_i[127:0], 128'h0};
    if (takes_word) words_d = {word, words_q[7:1]};
    block_d = takes_block ? {column_d, columns_q} : block_q;
    if (clears) begin
      words_d = '0;
      block_d = '0;
    end
  end

  always_ff @(posedge clk_i) begin
    state_q <= state_d;
    count_q <= count_d;
    words_q <= words_d;
    block_q <= block_d;
    if (state_q == Idle) begin
      key256_q <= key256_i;
      expands_q <= start_i;
      constant_q <= 8'h01;
      place_q <= 4'd0;
    end
    if (takes_word && group_starts_q && !loading_q) constant_q <= xtime(constant_q);
    if (takes_column) columns_q <= {column_d, columns_q[2:1]};
    // From 0 to 1, or with a key of 128 bits to 5.
    if (takes_block) place_q <= place_q == 4'd0 && !key256_q ? 4'd5 : place_q + 4'd1;
    if (clears) columns_q <= '0;
    if (!rst_ni) state_q <= Idle;
  end

  assign busy_o = state_q != Idle;

  always_ff @(posedge clk_i) done_o <= rst_ni && state_q == Clear;

  // A round key is complete with its fourth word, and lies in the last four then.
  logic zeroes_d;

  // In step with state_q.
  assign zeroes_d = (state_q == Idle && (start_i || zero_i)) || (state_q == Zero && count_q != 8'd15);

  always_ff @(posedge clk_i) begin
    zeroes <= rst_ni && zeroes_d;
    writes <= rst_ni && (zeroes_d || takes_block_d);
  end

  ram_1r1w #(
    .Width(128),
    .Depth(16)
  ) u_round_keys (
    .clk_i,
    .write_i(writes),
    .write_addr_i(zeroes ? count_q[3:0] : place_q),
    .write_data_i(zeroes ? '0 : words_q[7:4]),
    .read_i(1'b1),
    .read_addr_i(round_key_addr_i),
    .read_data_o(round_key_o)
  );

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, off;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) if (!rst_ni) reset_seen_q <= 1'b1;
  assign off = !rst_ni || !reset_seen_q;

  one_at_a_time :
  assert property (@(posedge clk_i) disable iff (off) start_i || zero_i |-> !busy_o && !(start_i && zero_i));
`endif

endmodule
