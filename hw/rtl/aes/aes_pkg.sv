// Types and field arithmetic of AES (FIPS 197).
//
// A block is packed as AXI4-Stream has it: its first byte is [7:0]. Byte 4c+r of it is row r, column c of the state
// (FIPS 197 §3.4).

package aes_pkg;

  typedef logic [127:0] block_t;
  typedef logic [31:0] column_t;  // and a word of the round keys
  typedef logic [7:0] byte_t;

  // Cycles of a round. With two, a unit of aes_pipeline works at two blocks in turn, and these come an odd number of cycles
  // apart.
  function automatic int unsigned round_cycles(input int unsigned interval);
    return interval == 7 ? 2 : 1;
  endfunction

  // Cycles that a block takes through aes_pipeline: whitening takes two, and then there are 14 rounds.
  function automatic int unsigned pipeline_latency(input int unsigned interval);
    return 2 + 14 * round_cycles(interval);
  endfunction

  // How substitution is built: a table (quick to simulate, a ROM or LUTs), or arithmetic in GF((2^4)^2) (small).
  typedef enum logic {
    SboxTable,
    SboxTower
  } sbox_impl_e;

  // x·a in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197 §4.2).
  function automatic byte_t xtime(input byte_t a);
    return {a[6:0], 1'b0} ^ (a[7] ? 8'h1b : 8'h00);
  endfunction

  // a·b in the same field.
  function automatic byte_t gf8_mul(input byte_t a, input byte_t b);
    byte_t product, power;
    product = '0;
    power = a;
    for (int i = 0; i < 8; i++) begin
      if (b[i]) product ^= power;
      power = xtime(power);
    end
    return product;
  endfunction

  // The affine half of SubBytes (FIPS 197 §5.1.1).
  function automatic byte_t affine(input byte_t a);
    byte_t y;
    for (int i = 0; i < 8; i++) begin
      y[i] = a[i] ^ a[(i + 4) % 8] ^ a[(i + 5) % 8] ^ a[(i + 6) % 8] ^ a[(i + 7) % 8];
    end
    return y ^ 8'h63;
  endfunction

  // SubBytes of one byte as the standard defines it: the inverse, which is a^254, and then the affine map. For tables
  // and for proofs; not meant to be built.
  function automatic byte_t sbox_by_definition(input byte_t a);
    byte_t square, inverse;
    square = a;
    inverse = 8'h01;
    for (int i = 0; i < 7; i++) begin
      square = gf8_mul(square, square);
      inverse = gf8_mul(inverse, square);
    end
    return affine(inverse);
  endfunction

  typedef byte_t sbox_table_t [256];

  function automatic sbox_table_t make_sbox_table();
    for (int i = 0; i < 256; i++) make_sbox_table[i] = sbox_by_definition(byte_t'(i));
  endfunction

  // ShiftRows (FIPS 197 §5.1.2): byte r of column c comes from column c + r.
  function automatic block_t shift_rows(input block_t state);
    for (int c = 0; c < 4; c++) begin
      for (int r = 0; r < 4; r++) shift_rows[8*(4*c+r)+:8] = state[8*(4*((c+r)%4)+r)+:8];
    end
  endfunction

  // MixColumns (FIPS 197 §5.1.3) of one column.
  function automatic column_t mix_column(input column_t column);
    byte_t a, b, sum;
    sum = column[7:0] ^ column[15:8] ^ column[23:16] ^ column[31:24];
    for (int r = 0; r < 4; r++) begin
      a = column[8*r+:8];
      b = column[8*((r+1)%4)+:8];
      mix_column[8*r+:8] = a ^ sum ^ xtime(a ^ b);
    end
  endfunction

  function automatic block_t mix_columns(input block_t state);
    for (int c = 0; c < 4; c++) mix_columns[32*c+:32] = mix_column(state[32*c+:32]);
  endfunction

endpackage
