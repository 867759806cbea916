// Puts an ESP packet together: the words in front of the ciphertext, the ciphertext, the ICV (RFC 4303 §2), and the UDP
// checksum over IPv6, which is known at the end.
//
// What comes from the cipher cannot wait, so it comes into queues; they hold what arrives while the ICV of the packet in
// front is still being made, and outbound_stream sends no more than that. A packet leaves as it comes, but for one with a
// checksum: its descriptor comes with that, four cycles after the ICV was taken. All others come four cycles after the first
// part was.

module outbound_assemble
  import esp_pkg::*;
  import outbound_pkg::*;
  import checksum_pkg::*;
#(
  // Blocks of text that the queue holds.
  parameter int unsigned TextDepth = 64,
  // Blocks that may be waiting when another packet is begun: the others are for what comes on top until it is its turn.
  parameter int unsigned TextMargin = 32,
  // Packets between outbound_stream and here.
  parameter int unsigned Packets = 16,
  // Bits of a count of beats in the buffer behind.
  parameter int unsigned BeatsWidth = 12
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  input  logic                  assembly_valid_i,
  output logic                  assembly_room_o,
  input  assembly_t             assembly_i,
  input  logic                  part_valid_i,
  // A part is always taken; there is room for four at least.
  output logic                  part_room_o,
  input  head_part_t            part_i,

  input  logic                  text_valid_i,
  input  beat_t                 text_i,
  output logic                  text_room_o,
  input  logic                  tag_valid_i,
  input  beat_t                 tag_i,

  // To packet_buffer: beats, and a descriptor with what is to be patched.
  output logic                  write_valid_o,
  output beat_t                 write_data_o,
  output logic                  descriptor_valid_o,
  output logic [BeatsWidth-1:0] descriptor_beats_o,
  output length_t               descriptor_bytes_o,
  output length_t               patch_at_o,
  output logic [1:0][7:0]       patch_o,
  output logic [1:0]            patch_mask_o
);

  if (TextMargin >= TextDepth) begin : gen_bad_margin
    $error("TextMargin is less than TextDepth");
  end

  localparam int unsigned PartDepth = 16;

  logic assembly_valid, assembly_ready, part_valid, part_ready, text_valid, text_ready, tag_valid, tag_ready;
  logic part_taken, text_taken, tag_taken;
  assembly_t assembly;
  head_part_t part;
  beat_t text, tag;
  logic [$clog2(TextDepth+1)-1:0] text_count;
  logic [$clog2(Packets+1)-1:0] assembly_count, tag_count;
  logic [$clog2(PartDepth+1)-1:0] part_count;

  fifo #(.Width($bits(assembly_t)), .Depth(Packets)) u_assemblies (
    .clk_i, .rst_ni,
    .valid_i(assembly_valid_i), .ready_o(assembly_room_o), .data_i(assembly_i),
    .valid_o(assembly_valid), .ready_i(assembly_ready), .data_o(assembly), .count_o(assembly_count)
  );
  fifo #(.Width($bits(head_part_t)), .Depth(PartDepth)) u_parts (
    .clk_i, .rst_ni,
    .valid_i(part_valid_i), .ready_o(part_taken), .data_i(part_i),
    .valid_o(part_valid), .ready_i(part_ready), .data_o(part), .count_o(part_count)
  );
  fifo #(.Width(128), .Depth(TextDepth)) u_text (
    .clk_i, .rst_ni,
    .valid_i(text_valid_i), .ready_o(text_taken), .data_i(text_i),
    .valid_o(text_valid), .ready_i(text_ready), .data_o(text), .count_o(text_count)
  );
  fifo #(.Width(128), .Depth(Packets)) u_tags (
    .clk_i, .rst_ni,
    .valid_i(tag_valid_i), .ready_o(tag_taken), .data_i(tag_i),
    .valid_o(tag_valid), .ready_i(tag_ready), .data_o(tag), .count_o(tag_count)
  );

  assign part_room_o = 32'(part_count) < PartDepth - 4;
  assign text_room_o = 32'(text_count) <= TextMargin;

  typedef enum logic [1:0] {
    Head,
    Text,
    Tag
  } state_e;
  state_e state_q, state_d;
  // Whether the packet has its descriptor.
  logic told_q, told_d;
  length_t left_q, left_d;

  logic piece_valid, piece_last, piece_valid_q, piece_last_q;
  logic [2:0] piece_count, piece_count_q;
  // The state once more, for the wide choice.
  (* keep *) logic from_text_q, from_tags_q;
  beat_t piece, piece_q;

  // A descriptor is due.
  logic tell;

  always_comb begin
    state_d = state_q;
    told_d = told_q;
    left_d = left_q;
    piece_valid = 1'b0;
    piece_last = 1'b0;
    piece_count = 3'd4;
    piece = from_tags_q ? tag : from_text_q ? text : part.words;
    assembly_ready = 1'b0;
    part_ready = 1'b0;
    text_ready = 1'b0;
    tag_ready = 1'b0;
    tell = 1'b0;

    unique case (state_q)
      Head: begin
        left_d = assembly.body;
        if (assembly_valid && part_valid) begin
          part_ready = 1'b1;
          piece_valid = 1'b1;
          piece_count = part.count;
          tell = !assembly.udp_checksum && !told_q;
          told_d = 1'b1;
          if (part.last) state_d = Text;
        end
      end

      Text: begin
        if (left_q < 16'd16) piece_count = left_q[4:2];
        if (text_valid) begin
          text_ready = 1'b1;
          piece_valid = 1'b1;
          left_d = left_q - 16'd16;
          if (left_q <= 16'd16) state_d = Tag;
        end
      end

      default: begin
        piece_last = 1'b1;
        told_d = 1'b0;
        if (tag_valid) begin
          tag_ready = 1'b1;
          piece_valid = 1'b1;
          assembly_ready = 1'b1;
          tell = assembly.udp_checksum;
          state_d = Head;
        end
      end
    endcase
  end

  always_ff @(posedge clk_i) begin
    left_q <= left_d;
    piece_valid_q <= rst_ni && piece_valid;
    piece_last_q <= piece_last;
    piece_count_q <= piece_count;
    piece_q <= piece;
    if (!rst_ni) begin
      state_q <= Head;
      from_text_q <= 1'b0;
      from_tags_q <= 1'b0;
      told_q <= 1'b0;
    end else begin
      state_q <= state_d;
      from_text_q <= state_d == Text;
      from_tags_q <= state_d == Tag;
      told_q <= told_d;
    end
  end

  // What comes of a packet's checksum and its descriptor goes through three stages more, so none comes before one of a packet
  // in front. The sum is over 16-bit words with their bytes exchanged, which gives the sum with its bytes exchanged (RFC 1071
  // §2 (B)). In the first stage a block's words are added in pairs, in the second the pairs; in the third the sum is there.
  typedef struct packed {
    logic    valid;
    logic    checksum;
    length_t total;
    length_t outer;
  } told_t;
  told_t [2:0] tell_q;
  logic [1:0] adding_q, begin_q;
  pair_sums_t pairs_q;
  wide_sum_t sum_q;
  logic [15:0] sum;
  assign sum = folded(sum_q);

  always_ff @(posedge clk_i) begin
    adding_q <= {adding_q[0], text_ready || tag_ready};
    begin_q <= {begin_q[0], state_q == Head};
    pairs_q <= add_in_pairs(piece_q);
    // A packet's text and ICV are behind its last part, so it is still the same one.
    if (begin_q[1]) sum_q <= wide_sum_t'({assembly.udp_sum[7:0], assembly.udp_sum[15:8]});
    else if (adding_q[1]) sum_q <= add_pairs(sum_q, pairs_q);
    tell_q <= {
      tell_q[1:0],
      told_t'{valid: tell, checksum: assembly.udp_checksum, total: assembly.total, outer: assembly.outer}
    };
    descriptor_beats_o <= BeatsWidth'((17'(tell_q[2].total) + 17'd15) >> 4);
    descriptor_bytes_o <= tell_q[2].total;
    // Behind ports and length (RFC 768).
    patch_at_o <= tell_q[2].outer + 16'd6;
    // RFC 768, RFC 8200 §8.1: a checksum that comes out as zero is sent as all ones.
    patch_o <= sum == '1 ? '1 : ~sum;
    patch_mask_o <= {2{tell_q[2].checksum}};
    descriptor_valid_o <= rst_ni && tell_q[2].valid;
    if (!rst_ni) begin
      for (int i = 0; i < 3; i++) tell_q[i].valid <= 1'b0;
    end
  end

  logic packed_last;
  logic [2:0] packed_count;
  word_packer u_packer (
    .clk_i, .rst_ni,
    .valid_i(piece_valid_q), .count_i(piece_count_q), .data_i(piece_q), .last_i(piece_last_q),
    .valid_o(write_valid_o), .data_o(write_data_o), .last_o(packed_last), .count_o(packed_count)
  );

  // The descriptor says where a packet ends; the counts are for proofs.
  logic unused;
  assign unused = ^{packed_last, packed_count, assembly_count, tag_count, part_count};

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && $time != 0) begin
      if (part_valid_i) assert (part_taken) else $error("the queue of parts is full");
      if (text_valid_i) assert (text_taken) else $error("the queue of text is full");
      if (tag_valid_i) assert (tag_taken) else $error("the queue of ICVs is full");
      if (assembly_valid_i) assert (assembly_room_o) else $error("the queue of packets is full");
    end
  end
`endif

endmodule
