// aes_sbox: both ways to build it are SubBytes as FIPS 197 §5.1.1 defines it.

module aes_sbox_properties
  import aes_pkg::*;
(
  input byte_t data_i
);

  byte_t table_o, tower_o, product;

  aes_sbox #(
    .Impl(SboxTable)
  ) dut_table (
    .data_i,
    .data_o(table_o)
  );

  aes_sbox #(
    .Impl(SboxTower)
  ) dut_tower (
    .data_i,
    .data_o(tower_o)
  );

  // The affine map is a bijection; undone, there is the multiplicative inverse. b'(i) = b(i+2) ^ b(i+5) ^ b(i+7) ^ 5.
  function automatic byte_t undo_affine(input byte_t a);
    for (int i = 0; i < 8; i++) undo_affine[i] = a[(i+2)%8] ^ a[(i+5)%8] ^ a[(i+7)%8];
    return undo_affine ^ 8'h05;
  endfunction

  assign product = gf8_mul(data_i, undo_affine(table_o));

  always_comb begin
    table_by_definition : assert (table_o == sbox_by_definition(data_i));
    tower_by_definition : assert (tower_o == sbox_by_definition(data_i));
    // The same once more without the code of the definition.
    inverse : assert (product == (data_i == '0 ? 8'h00 : 8'h01) && (data_i != '0 || table_o == 8'h63));
    last_value : cover (data_i == 8'hff && tower_o == 8'h16);
  end

endmodule
