// AES-GCM (NIST SP 800-38D): slots, which are the units of work of gcm_core, and the field that GHASH is in.
//
// A block is packed as everywhere (aes_pkg): byte b of it is [8b+7:8b]. SP 800-38D §6.3 counts a block's bits from the
// left, the most significant of the first byte first, and bit i is the coefficient of x^i. So the coefficient of
// x^(8b+k) is [8b+7-k] of the packed block: with the bits of each byte turned around, and nothing else, the block is a
// polynomial in the usual order. poly_t is that; to_poly and to_block are wires only.

package gcm_pkg;

  import aes_pkg::block_t;

  typedef enum logic [2:0] {
    SlotFirst,  // begins a packet: nonce, SA and what else holds for all of it, its first block of AAD or zeros
    SlotAad,    // a further block of AAD
    SlotText,   // a block of plaintext or ciphertext
    SlotLast,   // ends a packet: the block of lengths (SP 800-38D §7.1 step 5)
    SlotKey     // a command and no packet: the SA gets the keys that are staged
  } slot_kind_e;

  // Slots that follow one within its packet. 13 bits: 64 KiB are 4,096 blocks of text.
  typedef logic [12:0] slot_count_t;

  // The SA's index goes beside it, since its width is a parameter. What says `First` means nothing in other slots.
  typedef struct packed {
    slot_kind_e  kind;
    logic        key256;     // First: the SA's key has 256 bits, not 128
    logic        decrypt;    // First: the text is ciphertext
    slot_count_t following;  // First: how many slots of the packet follow, its Last among them
    logic [95:0] nonce;      // First: salt and IV (RFC 4106 §4), first byte lowest
    logic [4:0]  bytes;      // Text: how many bytes are valid, 1 to 16; the rest may be anything
    block_t      data;       // AAD is padded with zeros
  } slot_t;

  // Multiplying takes this many cycles. The feedback of Horner's scheme takes a product as many slots later as there
  // are powers of H, so the time is a multiple of the interval between slots.
  function automatic int unsigned product_latency(input int unsigned interval);
    return interval <= 4 ? 4 : interval;
  endfunction

  // How many powers of H an SA has.
  function automatic int unsigned powers(input int unsigned interval);
    return product_latency(interval) / interval;
  endfunction

  // The polynomial whose coefficient of x^i is [i].
  typedef logic [127:0] poly_t;

  function automatic poly_t to_poly(input block_t block);
    for (int i = 0; i < 16; i++) begin
      for (int k = 0; k < 8; k++) to_poly[8*i+k] = block[8*i+7-k];
    end
  endfunction

  function automatic block_t to_block(input poly_t poly);
    return to_poly(poly);  // its own inverse
  endfunction

  // x·a modulo x^128 + x^7 + x^2 + x + 1 (SP 800-38D §6.3).
  function automatic poly_t times_x(input poly_t a);
    return {a[126:0], 1'b0} ^ (a[127] ? 128'h87 : 128'h0);
  endfunction

  // A product of two polynomials modulo the same. What is above x^127 comes in again at four places (x^128 is
  // x^7 + x^2 + x + 1), and the few bits of that which are above x^127 once more.
  function automatic poly_t reduce(input logic [254:0] product);
    logic [133:0] folded;
    folded = 134'(product[127:0]) ^ 134'(product[254:128]) ^ {6'b0, product[254:128], 1'b0}
        ^ {5'b0, product[254:128], 2'b0} ^ {product[254:128], 7'b0};
    return folded[127:0] ^ 128'(folded[133:128]) ^ {121'b0, folded[133:128], 1'b0}
        ^ {120'b0, folded[133:128], 2'b0} ^ {115'b0, folded[133:128], 7'b0};
  endfunction

  // The first `bytes` bytes of a block, and zeros.
  function automatic block_t first_bytes(input block_t block, input logic [4:0] bytes);
    for (int i = 0; i < 16; i++) first_bytes[8*i+:8] = 5'(i) < bytes ? block[8*i+:8] : 8'h00;
  endfunction

endpackage
