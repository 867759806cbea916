// aes_round: with either S-box it is a round of FIPS 197 §5.1, MixColumns as the matrix of §5.1.3. In two steps, the bytes
// behind the S-boxes, and what is made of them: together they say that both rounds are equal.

module aes_round_properties
  import aes_pkg::*;
(
  input block_t state_i,
  input block_t key_i,
  input logic   last_i,
  input logic   bypass_i
);

  block_t table_o, tower_o;

  aes_round #(
    .SboxImpl(SboxTable)
  ) dut_table (
    .clk_i(1'b0),
    .state_i,
    .key_i,
    .last_i,
    .bypass_i,
    .state_o(table_o)
  );

  aes_round #(
    .SboxImpl(SboxTower)
  ) dut_tower (
    .clk_i(1'b0),
    .state_i,
    .key_i,
    .last_i,
    .bypass_i,
    .state_o(tower_o)
  );

  // Behind SubBytes: byte 4c+r is row r of column c (FIPS 197 §3.4).
  function automatic block_t linear(input block_t substituted, input block_t key, input logic last);
    byte_t [3:0][3:0] state, shifted;
    byte_t mixed;
    state = substituted;
    for (int c = 0; c < 4; c++) for (int r = 0; r < 4; r++) shifted[c][r] = state[(c+r)%4][r];
    for (int c = 0; c < 4; c++) begin
      for (int r = 0; r < 4; r++) begin
        mixed = gf8_mul(8'd2, shifted[c][r]) ^ gf8_mul(8'd3, shifted[c][(r+1)%4])
            ^ shifted[c][(r+2)%4] ^ shifted[c][(r+3)%4];
        linear[32*c+8*r+:8] = (last ? shifted[c][r] : mixed) ^ key[32*c+8*r+:8];
      end
    end
  endfunction

  block_t by_definition;
  for (genvar i = 0; i < 16; i++) begin : gen_byte
    assign by_definition[8*i+:8] = sbox_by_definition(state_i[8*i+:8]);
  end

  always_comb begin
    substitution : assert (dut_table.substituted == by_definition && dut_tower.substituted == by_definition);
    linear_table : assert (bypass_i || table_o == linear(dut_table.substituted, key_i, last_i));
    linear_tower : assert (bypass_i || tower_o == linear(dut_tower.substituted, key_i, last_i));
    bypass : assert (!bypass_i || (table_o == state_i && tower_o == state_i));
    last : cover (!bypass_i && last_i && key_i != '0 && table_o == '0);
  end

endmodule
