// One round of AES encryption (FIPS 197 §5.1); the last one is without MixColumns. In one cycle it is combinational; in two,
// SubBytes is made in the first and the rest in the second.

module aes_round
  import aes_pkg::*;
#(
  parameter sbox_impl_e SboxImpl = SboxTable,
  // Cycles: 1 or 2.
  parameter int unsigned Cycles = 1
) (
  input  logic   clk_i,
  input  block_t state_i,
  input  block_t key_i,
  input  logic   last_i,
  // No round: the state stays as it is.
  input  logic   bypass_i,
  // With two cycles, a cycle later.
  output block_t state_o
);

  if (!(Cycles inside {1, 2})) begin : gen_refused_cycles
    $error("aes_round: Cycles must be 1 or 2");
  end

  block_t substituted, to_mix, key;
  logic last, bypass;

  for (genvar i = 0; i < 16; i++) begin : gen_sbox
    aes_sbox #(.Impl(SboxImpl)) u_sbox (
      .data_i(state_i[8*i+:8]),
      .data_o(substituted[8*i+:8])
    );
  end

  if (Cycles == 1) begin : gen_one_cycle
    assign to_mix = bypass_i ? state_i : substituted;
    assign key = key_i;
    assign last = last_i;
    assign bypass = bypass_i;

    logic unused;
    assign unused = clk_i;
  end else begin : gen_two_cycles
    always_ff @(posedge clk_i) begin
      to_mix <= bypass_i ? state_i : substituted;
      key <= key_i;
      last <= last_i;
      bypass <= bypass_i;
    end
  end

  block_t shifted;
  assign shifted = shift_rows(to_mix);
  assign state_o = bypass ? to_mix : (last ? shifted : mix_columns(shifted)) ^ key;

endmodule
