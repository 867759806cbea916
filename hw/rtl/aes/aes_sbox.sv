// SubBytes of one byte (FIPS 197 §5.1.1), combinational.

module aes_sbox
  import aes_pkg::*;
#(
  // A table or arithmetic; both are proved equal to the definition. On ECP5 the table makes a round half as
  // large again, and faster.
  parameter sbox_impl_e Impl = SboxTable
) (
  input  byte_t data_i,
  output byte_t data_o
);

  // The byte as an element h·y + l of GF((2^4)^2) with y^2 = y + Lambda, over GF(2^4) with x^4 = x + 1. Of the
  // isomorphisms with the field of AES the one with the fewest ones in both its matrices.
  localparam logic [3:0] Lambda = 4'd12;
  localparam byte_t [7:0] ToTower = {
    8'hda, 8'h4a, 8'h92, 8'h40, 8'h2c, 8'h23, 8'h5a, 8'h01
  };
  localparam byte_t [7:0] FromTower = {
    8'h82, 8'h10, 8'he5, 8'h42, 8'hb0, 8'h5d, 8'he0, 8'h01
  };

  function automatic byte_t map(input byte_t [7:0] columns, input byte_t a);
    map = '0;
    for (int i = 0; i < 8; i++) if (a[i]) map ^= columns[i];
  endfunction

  function automatic logic [3:0] mul4(input logic [3:0] a, input logic [3:0] b);
    logic [6:0] p;
    p = '0;
    for (int i = 0; i < 4; i++) if (b[i]) p ^= 7'(a) << i;
    return {p[3] ^ p[6], p[2] ^ p[5] ^ p[6], p[1] ^ p[4] ^ p[5], p[0] ^ p[4]};
  endfunction

  // a^14 = a^2 · a^4 · a^8, and squaring is linear.
  function automatic logic [3:0] sq4(input logic [3:0] a);
    return {a[3], a[1] ^ a[3], a[2], a[0] ^ a[2]};
  endfunction

  // The result is bilinear in the byte and in the inverse of its norm: each bit of it is the sum of the four bits of that
  // inverse, each times a sum of bits of the byte. Those sums are there early, since the norm takes its time.
  function automatic byte_t result(input byte_t a, input logic [3:0] factor);
    byte_t t;
    t = map(ToTower, a);
    return affine(map(FromTower, {mul4(t[7:4], factor), mul4(t[7:4] ^ t[3:0], factor)})) ^ 8'h63;
  endfunction

  // [bit of the result][bit of the norm's inverse]: which bits of the byte.
  typedef byte_t [7:0][3:0] sums_t;

  function automatic sums_t make_sums();
    byte_t column;
    for (int i = 0; i < 8; i++) begin
      for (int k = 0; k < 4; k++) begin
        column = result(8'd1 << i, 4'd1 << k);
        for (int o = 0; o < 8; o++) make_sums[o][k][i] = column[o];
      end
    end
  endfunction

  if (Impl == SboxTable) begin : gen_table
    localparam sbox_table_t Table = make_sbox_table();
    assign data_o = Table[data_i];
  end else begin : gen_tower
    localparam sums_t Sums = make_sums();

    logic [3:0] h, l, norm, norm_inv;

    assign {h, l} = map(ToTower, data_i);
    // The norm of h·y + l is Lambda·h^2 + h·l + l^2; the inverse is (h·y + (h + l)) / norm.
    assign norm = mul4(Lambda, sq4(h)) ^ mul4(h ^ l, l);
    assign norm_inv = mul4(mul4(sq4(norm), sq4(sq4(norm))), sq4(sq4(sq4(norm))));

    always_comb begin
      for (int o = 0; o < 8; o++) begin
        data_o[o] = 1'b0;
        for (int k = 0; k < 4; k++) data_o[o] ^= norm_inv[k] & (^(data_i & Sums[o][k]));
      end
      data_o ^= 8'h63;
    end
  end

endmodule
