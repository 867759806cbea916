// One round of AES encryption (FIPS 197 §5.1), combinational; the last one is without MixColumns.

module aes_round
  import aes_pkg::*;
#(
  parameter sbox_impl_e SboxImpl = SboxTable
) (
  input  block_t state_i,
  input  block_t key_i,
  input  logic   last_i,
  output block_t state_o
);

  block_t substituted, shifted;

  for (genvar i = 0; i < 16; i++) begin : gen_sbox
    aes_sbox #(.Impl(SboxImpl)) u_sbox (
      .data_i(state_i[8*i+:8]),
      .data_o(substituted[8*i+:8])
    );
  end

  assign shifted = shift_rows(substituted);
  assign state_o = (last_i ? shifted : mix_columns(shifted)) ^ key_i;

endmodule
