// Multiplies in the field of GHASH (NIST SP 800-38D §6.3): a product every `Interval` cycles, a fixed time after its
// factors (gcm_pkg::product_latency).
//
// Interval 1 and 2: a pipeline of four stages, Karatsuba three levels deep: 27 products of 16 by 16 bits.
// Interval 7 and 14: a digit of a_i each cycle, the most significant first, by the whole of b_i.

module ghash_multiplier
  import aes_pkg::block_t;
  import gcm_pkg::*;
#(
  // Cycles between two pairs of factors, at the least: 1, 2, 7 or 14.
  parameter int unsigned Interval = 7,
  // Bits of the caller's that go with a product.
  parameter int unsigned NoteWidth = 1
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,
  input  logic                 valid_i,
  // Zero while valid_i is low.
  input  block_t               a_i,
  // Must stay for `Interval` cycles from valid_i on.
  input  block_t               b_i,
  input  logic [NoteWidth-1:0] note_i,
  output logic                 valid_o,
  output block_t               product_o,
  output logic [NoteWidth-1:0] note_o
);

  localparam int unsigned Latency = product_latency(Interval);

  if (!(Interval inside {1, 2, 7, 14})) begin : gen_refused
    $error("ghash_multiplier: Interval must be 1, 2, 7 or 14");
  end

  poly_t a, b;
  assign a = to_poly(a_i);
  assign b = to_poly(b_i);

  if (Interval <= 2) begin : gen_pipelined
    // (a1·y + a0)(b1·y + b0) = a1·b1·(y^2 + y) + a0·b0·(y + 1) + (a1 + a0)(b1 + b0)·y, three times one in another. So
    // there are 3^3 products, and the digits of a product's number to the base of 3 say what it multiplies on each
    // level: 0 the low halves, 1 the high ones, 2 their sums.
    localparam int unsigned Levels = 3;
    localparam int unsigned Products = 27;
    localparam int unsigned Limb = 128 >> Levels;

    function automatic int unsigned digit(input int unsigned product, input int unsigned level);
      return (product / (3 ** level)) % 3;
    endfunction

    // The sum of those limbs of a factor that product number `product` takes. Level l chooses by bit l of a limb's number.
    function automatic logic [Limb-1:0] limbs(input poly_t factor, input int unsigned product);
      logic takes;
      limbs = '0;
      for (int unsigned limb = 0; limb < 8; limb++) begin
        takes = 1'b1;
        for (int unsigned level = 0; level < Levels; level++) begin
          if (digit(product, level) != 2 && digit(product, level) != 32'(limb[level])) takes = 1'b0;
        end
        if (takes) limbs ^= factor[Limb*limb+:Limb];
      end
    endfunction

    function automatic logic [2*Limb-2:0] multiply(input logic [Limb-1:0] x, input logic [Limb-1:0] y);
      multiply = '0;
      for (int i = 0; i < int'(Limb); i++) if (x[i]) multiply ^= (2 * Limb - 1)'(y) << i;
    endfunction

    // Where a product is added. On each level it has one place or two, as above; `choice` has a bit for each level.
    function automatic logic added(input int unsigned product, input logic [Levels-1:0] choice);
      added = 1'b1;
      for (int unsigned level = 0; level < Levels; level++) begin
        if (digit(product, level) == 2 && choice[level]) added = 1'b0;
      end
    endfunction

    function automatic int unsigned place(input int unsigned product, input logic [Levels-1:0] choice);
      place = 0;
      for (int unsigned level = 0; level < Levels; level++) begin
        place += ((digit(product, level) == 0 ? 0 : 1) + 32'(choice[level])) << level;
      end
      return Limb * place;
    endfunction

    logic [Limb-1:0] a_q [Products], b_q [Products];
    logic [2*Limb-2:0] product_q [Products];
    logic [254:0] sum_d, sum_q;
    poly_t reduced_q;

    always_comb begin
      sum_d = '0;
      for (int unsigned i = 0; i < Products; i++) begin
        for (int unsigned choice = 0; choice < 8; choice++) begin
          if (added(i, 3'(choice))) sum_d ^= 255'(product_q[i]) << place(i, 3'(choice));
        end
      end
    end

    always_ff @(posedge clk_i) begin
      for (int unsigned i = 0; i < Products; i++) begin
        a_q[i] <= limbs(a, i);
        b_q[i] <= limbs(b, i);
        product_q[i] <= multiply(a_q[i], b_q[i]);
      end
      sum_q <= sum_d;
      reduced_q <= reduce(sum_q);
    end

    logic [Latency-1:0] valid_q;
    logic [NoteWidth-1:0] note_q [Latency];

    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q <= '0;
      else valid_q <= {valid_q[Latency-2:0], valid_i};
      note_q[0] <= note_i;
      for (int i = 1; i < int'(Latency); i++) note_q[i] <= note_q[i-1];
    end

    assign valid_o = valid_q[Latency-1];
    assign note_o = note_q[Latency-1];
    assign product_o = to_block(reduced_q);
  end else begin : gen_serial
    // A digit of a is multiplied in one cycle, and the product added in the next, so the digits are one fewer than the
    // cycles.
    localparam int unsigned Digits = Interval - 1;
    localparam int unsigned Digit = (128 + Digits - 1) / Digits;
    localparam int unsigned Padded = Digit * Digits;

    // A product by one digit, and a sum times x^Digit.
    typedef logic [127+Digit:0] wide_t;

    function automatic wide_t multiply(input logic [Digit-1:0] digit, input poly_t factor);
      multiply = '0;
      for (int i = 0; i < int'(Digit); i++) if (digit[i]) multiply ^= wide_t'(factor) << i;
    endfunction

    logic [3:0] left_q;
    logic [Padded-1:0] padded;
    logic [Digit-1:0] digit;
    // What is left of a, the next digit highest. Nothing is when the next factors come, so they are joined by an OR.
    logic [Padded-1:0] rest_q;
    wide_t partial_q, shifted;
    logic starts_q;
    poly_t sum_q;
    logic [NoteWidth-1:0] note_q;
    logic valid_q;

    assign padded = Padded'(a) | rest_q;
    assign digit = padded[Padded-1-:Digit];
    assign shifted = starts_q ? '0 : {sum_q, Digit'(0)};

    always_ff @(posedge clk_i) begin
      rest_q <= padded << Digit;
      partial_q <= multiply(digit, b);
      starts_q <= valid_i;
      if (valid_i) note_q <= note_i;
      if (left_q != 4'd0) sum_q <= reduce(255'(shifted ^ partial_q));
      if (valid_i) left_q <= 4'(Interval - 1);
      else if (left_q != 4'd0) left_q <= left_q - 4'd1;
      valid_q <= left_q == 4'd1;
      if (!rst_ni) begin
        left_q <= 4'd0;
        rest_q <= '0;
        valid_q <= 1'b0;
      end
    end

    assign valid_o = valid_q;
    assign note_o = note_q;
    assign product_o = to_block(sum_q);
  end

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, off;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) if (!rst_ni) reset_seen_q <= 1'b1;
  assign off = !rst_ni || !reset_seen_q;

  logic [3:0] since_q;
  logic [Latency-1:0] due_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) since_q <= 4'(Interval - 1);
    else if (valid_i) since_q <= 4'd0;
    else if (since_q != 4'(Interval - 1)) since_q <= since_q + 4'd1;
    due_q <= rst_ni ? {due_q[Latency-2:0], valid_i} : '0;
  end

  not_too_often :
  assert property (@(posedge clk_i) disable iff (off) valid_i |-> since_q == 4'(Interval - 1));
  nothing_beside_factors :
  assert property (@(posedge clk_i) disable iff (off) !valid_i |-> a_i == '0);
  latency_is_fixed :
  assert property (@(posedge clk_i) disable iff (off) valid_o == due_q[Latency-1]);
`endif

endmodule
