// The Internet checksum (RFC 1071). A one's complement sum of 16-bit words, kept in 20 bits until it is folded.

package checksum_pkg;

  typedef logic [19:0] wide_sum_t;

  // The words of a block, added in pairs. A register behind it makes two short steps of one long one.
  typedef logic [3:0][16:0] pair_sums_t;

  function automatic pair_sums_t add_in_pairs(input logic [127:0] words);
    for (int i = 0; i < 4; i++) add_in_pairs[i] = 17'(words[32*i+:16]) + 17'(words[32*i+16+:16]);
  endfunction

  // The sum with a block's pairs; 10 additions of 16 bits do not overflow.
  function automatic wide_sum_t add_pairs(input wide_sum_t sum, input pair_sums_t pairs);
    add_pairs = wide_sum_t'(sum[15:0]) + wide_sum_t'(sum[19:16]);
    for (int i = 0; i < 4; i++) add_pairs += wide_sum_t'(pairs[i]);
  endfunction

  // Both sums at once, without and with the carry, since one behind the other is slow.
  function automatic logic [15:0] folded(input wide_sum_t sum);
    logic [16:0] without;
    logic [15:0] one_more;
    without = 17'(sum[15:0]) + 17'(sum[19:16]);
    one_more = sum[15:0] + 16'(sum[19:16]) + 16'd1;
    return without[16] ? one_more : without[15:0];
  endfunction

endpackage
