// The Internet checksum (RFC 1071). A one's complement sum of 16-bit words, kept in 20 bits until it is folded.

package checksum_pkg;

  typedef logic [19:0] wide_sum_t;

  // The sum of the words of a block of up to eight, with what came before; 16 additions of 16 bits do not overflow.
  function automatic wide_sum_t add_words(input wide_sum_t sum, input logic [127:0] words);
    add_words = wide_sum_t'(sum[15:0]) + wide_sum_t'(sum[19:16]);
    for (int i = 0; i < 8; i++) add_words += wide_sum_t'(words[16*i+:16]);
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
