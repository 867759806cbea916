// Reads a packet out of the frame buffer and makes of it what the cipher takes: slots (gcm_pkg), with padding and trailer
// (RFC 4303 §2.4 to §2.7), and beside them the words that stand in front of the ciphertext.
//
// A packet is begun when all behind has room for the whole of it, which is decided a cycle ahead. From its First slot on
// there is a slot each cycle, as long as slots are taken, so those of one packet follow each other without a gap. In
// transport mode the header that is kept is read first. One that finds no room in a buffer from which nothing is taken any more
// is dropped, with its number spent.
//
// From a beat's address to its slot it is two cycles; a job is taken in the cycle after that in which it is begun.

module outbound_stream
  import esp_pkg::*;
  import gcm_pkg::*;
  import outbound_pkg::*;
#(
  // Bits of an SA's number.
  parameter int unsigned SaWidth = 10,
  // Bits of a beat's address in the frame buffer.
  parameter int unsigned PlaceWidth = 11,
  // Bits of a count of beats in the buffer behind.
  parameter int unsigned RoomWidth = 12,
  localparam int unsigned BeatsWidth = 13
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  // From outbound_fetch, with what outbound_header makes of a packet. All of it stays until it is taken.
  input  logic                  job_valid_i,
  output logic                  job_ready_o,
  input  job_kind_e             job_kind_i,
  input  logic [SaWidth-1:0]    job_sa_i,
  input  outbound_job_t         job_i,
  input  logic [PlaceWidth-1:0] job_place_i,
  input  logic                  head_valid_i,
  output logic                  head_ready_o,
  input  outbound_head_t        head_i,

  // The frame buffer: a beat is there a cycle after its address, and stays while none is read.
  output logic                  read_o,
  output logic [PlaceWidth-1:0] read_place_o,
  input  beat_t                 read_beat_i,
  // So many beats are not needed any more, in order.
  output logic                  free_o,
  output logic [BeatsWidth-1:0] free_beats_o,

  // The buffer behind: how many beats it has room for, and how many are taken from that.
  input  logic [RoomWidth-1:0]  room_i,
  input  logic                  stalled_i,
  output logic                  reserve_o,
  output logic [RoomWidth-1:0]  reserve_beats_o,
  // The packet that is taken in this cycle had no room.
  output logic                  drop_o,
  // Text on its way from the cipher can be taken, a whole packet's at the pace at which it leaves.
  input  logic                  text_room_i,

  // Slots. All stages move on with slot_ready_i, so it has to come from a register.
  output logic                  slot_valid_o,
  input  logic                  slot_ready_i,
  output slot_t                 slot_o,
  output logic [SaWidth-1:0]    slot_sa_o,

  // In front of the ciphertext. A part is always taken; that there is room for four is known up to three parts earlier.
  output logic                  part_valid_o,
  output head_part_t            part_o,
  input  logic                  part_room_i,
  output logic                  assembly_valid_o,
  output assembly_t             assembly_o,
  input  logic                  assembly_room_i
);

  typedef enum logic [2:0] {
    Idle,
    // The header that is kept, a beat a cycle.
    Kept,
    // The first beat of the payload, where the payload does not begin with a beat; and the First slot.
    First,
    Text,
    Last,
    Key
  } state_e;
  state_e state_q, state_d;

  // All stages move on together, when the slot of the last one can be taken.
  logic move;
  assign move = slot_ready_i;

  // The packet under way.
  outbound_job_t job_q;
  outbound_head_t head_q;
  logic [SaWidth-1:0] sa_q;
  protocol_t next_header_q;
  logic [PlaceWidth-1:0] place_q, place_d;
  length_t kept_left_q, kept_left_d, payload_left_q, payload_left_d, body_left_q, body_left_d;
  // Beats of the kept header in front of the one with the protocol.
  logic [11:0] protocol_left_q, protocol_left_d;
  logic [1:0] shift;
  logic first_beat_q, first_beat_d;

  // How many bytes of padding its trailer has.
  logic [1:0] padding_q;

  // Words of the new header that are still to go.
  logic part_busy_q, part_busy_d;
  logic [511:0] words_q;
  logic [4:0] words_left_q;

  // A packet occupies what is behind for as many cycles as it has parts, blocks and a tag. It may not come faster.
  logic [12:0] pace_q;
  logic paced_q;  // that is over in the next cycle

  // What is made of a job before it is begun has registers: it is there when the job was offered for two cycles, which its
  // head takes longer for.
  logic [1:0] settled_q;
  logic fits_q;
  // Beats of the packet in the buffers, its parts and blocks, and its pace: that is needed two cycles after its head.
  logic [BeatsWidth-1:0] beats_q, total_beats_q;
  logic [12:0] kept_parts_q, blocks_q, own_pace_q;
  logic [1:0] new_parts_q;

  // What may be begun in this cycle, and is if the stages move. What is under way is described by registers that the next
  // packet takes over: so its last operation has to move too.
  logic may_packet_q, may_skip_q, may_key_q;
  logic begin_packet, begin_skip, begin_any;
  assign begin_packet = may_packet_q && move;
  assign begin_skip = may_skip_q && move;
  assign begin_any = (may_packet_q || may_skip_q || may_key_q) && move;

  // Nothing is under way in the next cycle, or its last operation.
  logic may, idle;
  assign idle = (state_q == Idle && !begin_any) || (move && (state_q == Last || state_q == Key));
  assign may = rst_ni && idle && settled_q[1];

  // Begun in the cycle before.
  logic begun_q, taken_q, jammed_q;

  logic [4:0] last_word;
  assign last_word = head_i.count - 5'd1;

  always_ff @(posedge clk_i) begin
    beats_q <= BeatsWidth'((17'(job_i.header.total_length) + 17'd15) >> 4);
    total_beats_q <= BeatsWidth'((17'(job_i.total) + 17'd15) >> 4);
    kept_parts_q <= 13'((17'(job_i.kept) + 17'd15) >> 4);
    blocks_q <= 13'((17'(job_i.body) + 17'd15) >> 4);
    // Parts of the header that is kept, blocks, and parts of the new header but one.
    new_parts_q <= 2'(last_word >> 2);
    own_pace_q <= kept_parts_q + blocks_q + 13'(new_parts_q);
    // Of room there is only more until a packet is begun, but for that of text: there a block more may have come.
    fits_q <= 32'(room_i) >= 32'(total_beats_q);
    settled_q <= rst_ni && job_valid_i && !begin_any && !taken_q ? {settled_q[0], 1'b1} : '0;
    may_packet_q <= may && job_kind_i == JobPacket && head_valid_i && paced_q && fits_q && text_room_i
        && assembly_room_i && !part_busy_q;
    may_skip_q <= may && (job_kind_i == JobSkip || (job_kind_i == JobPacket && head_valid_i && stalled_i && !fits_q));
    may_key_q <= may && job_kind_i == JobCommand;
    begun_q <= rst_ni && begin_packet;
    jammed_q <= rst_ni && begin_skip && job_kind_i == JobPacket;
    taken_q <= rst_ni && begin_any;
  end

  // Job and head stay until then.
  assign head_ready_o = begun_q || jammed_q;
  assign job_ready_o = taken_q;
  assign drop_o = jammed_q;
  assign reserve_o = begun_q;
  assign reserve_beats_o = RoomWidth'(total_beats_q);

  // The tag's cycle is the one that begins.
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      pace_q <= '0;
      paced_q <= 1'b1;
    end else begin
      if (begun_q) pace_q <= own_pace_q;
      else if (pace_q != '0) pace_q <= pace_q - 1'b1;
      paced_q <= !begin_packet && !begun_q && pace_q <= 13'd2;
    end
  end

  // A packet is read before the next one begins, so its beats may go with its beginning as far as order is concerned;
  // they go when the last of them was read.
  logic [BeatsWidth-1:0] begun_beats_q;
  logic done;

  // What is free again may be known a cycle later.
  always_ff @(posedge clk_i) begin
    free_o <= rst_ni && (begin_skip || done);
    free_beats_o <= begin_skip ? beats_q : begun_beats_q;
  end

  assign assembly_valid_o = begun_q;
  assign assembly_o = '{
    body: job_i.body,
    total: job_i.total,
    outer: job_i.outer,
    udp_checksum: head_i.udp_checksum,
    udp_sum: head_i.udp_sum
  };

  // How far the payload is from the beginning of a beat, in words.
  assign shift = job_q.kept[3:2];

  // First stage: what to read

  logic text_last;
  assign text_last = body_left_q <= 16'd16;

  // Of a payload that begins within a beat, that beat was read: what is behind the payload is not this packet's.
  logic text_reads;
  assign text_reads = payload_left_q > (shift == '0 ? 16'd0 : 16'd16 - {12'd0, shift, 2'd0});

  // What comes next if the stages move.
  logic reads, ends;
  assign read_o = move && reads;
  assign done = move && ends;

  always_comb begin
    state_d = state_q;
    place_d = place_q;
    kept_left_d = kept_left_q;
    payload_left_d = payload_left_q;
    body_left_d = body_left_q;
    first_beat_d = first_beat_q;
    protocol_left_d = protocol_left_q;
    reads = 1'b0;
    ends = 1'b0;

    unique case (state_q)
      Idle: begin
        place_d = job_place_i;
        kept_left_d = job_i.kept;
        payload_left_d = job_i.payload;
        body_left_d = job_i.body;
        first_beat_d = 1'b1;
        protocol_left_d = job_i.header.protocol_at[15:4];
        if (may_key_q) state_d = Key;
        else if (may_packet_q) state_d = kept_parts_q == '0 ? First : Kept;
      end

      Kept: begin
        // Parts that have to wait do so here.
        if (part_room_i) begin
          reads = 1'b1;
          first_beat_d = 1'b0;
          protocol_left_d = protocol_left_q - 1'b1;
          if (kept_left_q > 16'd16) begin
            kept_left_d = kept_left_q - 16'd16;
            place_d = place_q + 1'b1;
          end else begin
            // The payload begins in the same beat, or with the next one.
            if (kept_left_q == 16'd16) place_d = place_q + 1'b1;
            state_d = First;
          end
        end
      end

      First: begin
        reads = shift != '0;
        if (shift != '0) place_d = place_q + 1'b1;
        state_d = Text;
      end

      Text: begin
        reads = text_reads;
        place_d = place_q + 1'b1;
        payload_left_d = payload_left_q > 16'd16 ? payload_left_q - 16'd16 : '0;
        body_left_d = body_left_q - 16'd16;
        if (text_last) begin
          state_d = Last;
          ends = 1'b1;
        end
      end

      default: state_d = Idle;
    endcase
  end

  assign read_place_o = place_q;

  always_ff @(posedge clk_i) begin
    if (move) begin
      place_q <= place_d;
      kept_left_q <= kept_left_d;
      payload_left_q <= payload_left_d;
      body_left_q <= body_left_d;
      first_beat_q <= first_beat_d;
      protocol_left_q <= protocol_left_d;
    end
    // Whether anything is begun or not: nobody looks at these until then, and it would be known late for so many registers.
    if (state_q == Idle && move) begin
      job_q <= job_i;
      head_q <= head_i;
      sa_q <= job_sa_i;
      begun_beats_q <= beats_q;
      padding_q <= 2'(job_i.body - job_i.padded - 16'd2);
      if (job_i.form.transport) next_header_q <= job_i.header.esp_protocol;
      else next_header_q <= job_i.header.v6 ? Ipv6 : Ipv4;
    end
    if (!rst_ni) state_q <= Idle;
    else if (move) state_q <= state_d;
  end

  // Second stage: the beat is there, and what else goes into a slot is made

  typedef enum logic [2:0] {
    NoOp,
    OpKept,
    OpFirst,
    OpText,
    OpLast,
    OpKey
  } op_e;
  op_e op_q;
  // As far as they matter: up to a block of payload; and the trailer has at most five bytes, so farther from the end than six
  // words there is none of it.
  logic [4:0] op_payload_q;
  logic [2:0] op_body_words_q, op_kept_words_q;
  logic op_first_beat_q, op_protocol_q;

  always_ff @(posedge clk_i) begin
    if (move) begin
      op_payload_q <= payload_left_q > 16'd16 ? 5'd16 : payload_left_q[4:0];
      op_body_words_q <= body_left_q > 16'd24 ? 3'd6 : body_left_q[4:2];
      op_kept_words_q <= kept_left_q > 16'd16 ? 3'd4 : kept_left_q[4:2];
      op_first_beat_q <= first_beat_q;
      op_protocol_q <= protocol_left_q == '0;
    end
    if (!rst_ni) begin
      op_q <= NoOp;
    end else if (move) begin
      unique case (state_q)
        Kept:    op_q <= part_room_i ? OpKept : NoOp;
        First:   op_q <= OpFirst;
        Text:    op_q <= OpText;
        Last:    op_q <= OpLast;
        Key:     op_q <= OpKey;
        default: op_q <= NoOp;
      endcase
    end
  end

  logic [31:0] spi, high, low;
  assign spi = sent32(job_q.id.spi);
  assign high = sent32(job_q.sequence_number[63:32]);
  assign low = sent32(job_q.sequence_number[31:0]);

  logic [63:0] text_bits, aad_bits;
  assign text_bits = {45'd0, job_q.body, 3'd0};
  // RFC 4106 §5: SPI and sequence number, which is 8 bytes long if it is extended.
  assign aad_bits = job_q.form.esn ? 64'd96 : 64'd64;

  // What is not payload.
  beat_t other;
  always_comb begin
    other = '0;
    unique case (op_q)
      OpFirst: other = job_q.form.esn ? {32'd0, low, high, spi} : {64'd0, low, spi};
      OpLast: other = {sent32(text_bits[31:0]), sent32(text_bits[63:32]), sent32(aad_bits[31:0]), sent32(aad_bits[63:32])};
      OpText: begin
        // Padding is 1, 2, 3, then its length and the next header (RFC 4303 §2.4); in front of it zeros, if there is TFC
        // padding. A body is whole words: all but the first byte of three is in the last word.
        for (int j = 0; j < 4; j++) begin
          if (op_body_words_q == 3'(j + 1)) begin
            other[32*j+:32] = {next_header_q, 6'd0, padding_q, 6'd0, padding_q, 6'd0, padding_q == 2'd3, padding_q == 2'd2};
          end
          if (op_body_words_q == 3'(j + 2)) other[32*j+24] = padding_q == 2'd3;
        end
      end
      default: ;
    endcase
  end

  // Third stage: a slot or a part

  logic slot_valid_q, kept_valid_q;
  slot_kind_e kind_q;
  logic [2:0] body_words_q, kept_words_q;
  logic [SaWidth-1:0] slot_sa_q;
  beat_t beat_q, other_q;
  logic [127:32] previous_q;
  // Bytes that are payload, and the byte of a kept header that is its protocol.
  logic [15:0] payload_q, protocol_q;
  logic kept_first_q;

  always_ff @(posedge clk_i) begin
    if (move) begin
      beat_q <= read_beat_i;
      previous_q <= beat_q[127:32];
      other_q <= other;
      slot_sa_q <= sa_q;
      body_words_q <= op_body_words_q > 3'd4 ? 3'd4 : op_body_words_q;
      kept_words_q <= op_kept_words_q;
      kept_first_q <= op_first_beat_q;
      for (int j = 0; j < 16; j++) begin
        payload_q[j] <= op_q == OpText && 5'(j) < op_payload_q;
        protocol_q[j] <= op_protocol_q && job_q.header.protocol_at[3:0] == 4'(j);
      end
      unique case (op_q)
        OpFirst: kind_q <= SlotFirst;
        OpLast:  kind_q <= SlotLast;
        OpKey:   kind_q <= SlotKey;
        default: kind_q <= SlotText;
      endcase
    end
    if (!rst_ni) begin
      slot_valid_q <= 1'b0;
      kept_valid_q <= 1'b0;
    end else if (move) begin
      slot_valid_q <= op_q inside {OpFirst, OpText, OpLast, OpKey};
      kept_valid_q <= op_q == OpKept;
    end
  end

  // The payload's block out of two beats.
  beat_t block, text;
  always_comb begin
    unique case (shift)
      2'd0: block = beat_q;
      2'd1: block = {beat_q[31:0], previous_q};
      2'd2: block = {beat_q[63:0], previous_q[127:64]};
      2'd3: block = {beat_q[95:0], previous_q[127:96]};
    endcase
    for (int j = 0; j < 16; j++) text[8*j+:8] = payload_q[j] ? block[8*j+:8] : other_q[8*j+:8];
  end

  // A packet's First slot leaves before its last text is read: job_q is still its own.
  logic [12:0] following_q;
  always_ff @(posedge clk_i) begin
    if (state_q == Idle && move) following_q <= blocks_q + 1'b1;
  end

  assign slot_valid_o = slot_valid_q;
  assign slot_sa_o = slot_sa_q;
  // RFC 4106 §4: the nonce is salt and IV.
  assign slot_o = '{
    kind: kind_q,
    key256: job_q.form.key256,
    decrypt: 1'b0,
    following: following_q,
    nonce: {low, high, job_q.id.salt},
    bytes: {body_words_q, 2'b00},
    data: text
  };

  // Parts: the header that is kept, with what changes in it, and the new words behind.

  logic [15:0] checksum;
  logic [16:0] checksum_sum;
  assign checksum_sum = {1'b0, ~{beat_q[87:80], beat_q[95:88]}} + {1'b0, head_q.checksum};
  assign checksum = ~(checksum_sum[15:0] + 16'(checksum_sum[16]));

  beat_t kept_beat;

  always_comb begin
    kept_beat = beat_q;
    if (kept_first_q) begin
      if (job_q.header.v6) begin
        kept_beat[47:32] = {head_q.length_field[7:0], head_q.length_field[15:8]};
      end else begin
        kept_beat[31:16] = {head_q.length_field[7:0], head_q.length_field[15:8]};
        kept_beat[95:80] = {checksum[7:0], checksum[15:8]};
      end
    end
    for (int j = 0; j < 16; j++) begin
      if (protocol_q[j]) kept_beat[8*j+:8] = head_q.protocol;
    end
  end

  // The new words wait for what is kept. Whether four of them go is decided a cycle ahead: so many registers move then. The
  // same ones take the next packet's words while there are none to go.
  logic keeps, words_go_q, words_move_q, words_end;
  assign keeps = (begin_packet && kept_parts_q != '0) || state_q == Kept || op_q == OpKept || (kept_valid_q && !move);
  assign words_end = words_left_q <= 5'd4;
  assign part_busy_d = begin_packet || (part_busy_q && !(words_go_q && words_end));

  always_ff @(posedge clk_i) begin
    part_busy_q <= rst_ni && part_busy_d;
    words_go_q <= rst_ni && part_busy_d && part_room_i && !keeps;
    words_move_q <= !part_busy_d || (part_room_i && !keeps);
    if (words_move_q) begin
      words_q <= part_busy_q ? 512'(words_q[511:128]) : head_i.words;
      words_left_q <= part_busy_q ? words_left_q - 5'd4 : head_i.count;
    end
  end

  assign part_valid_o = words_go_q || (kept_valid_q && move);

  always_comb begin
    part_o = '{last: 1'b0, count: 3'd4, words: words_q[127:0]};
    if (kept_valid_q) begin
      part_o.words = kept_beat;
      part_o.count = kept_words_q;
    end else if (words_end) begin
      part_o.last = 1'b1;
      part_o.count = words_left_q[2:0];
    end
  end

endmodule
