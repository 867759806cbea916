// Reads a packet out of the frame buffer and makes of it what the cipher takes: slots (gcm_pkg), with padding and trailer
// (RFC 4303 §2.4 to §2.7), and beside them the words that stand in front of the ciphertext.
//
// A packet is begun when all behind has room for the whole of it. From its First slot on there is a slot each cycle, as
// long as slots are taken, so those of one packet follow each other without a gap. In transport mode the header that is
// kept is read first.

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
  output logic                  reserve_o,
  output logic [RoomWidth-1:0]  reserve_beats_o,
  // Text on its way from the cipher can be taken, a whole packet's at the pace at which it leaves.
  input  logic                  text_room_i,

  // Slots.
  output logic                  slot_valid_o,
  input  logic                  slot_ready_i,
  output slot_t                 slot_o,
  output logic [SaWidth-1:0]    slot_sa_o,

  // In front of the ciphertext.
  output logic                  part_valid_o,
  output head_part_t            part_o,
  input  logic                  part_ready_i,
  output logic                  assembly_valid_o,
  output assembly_t             assembly_o,
  input  logic                  assembly_room_i
);

  function automatic logic [31:0] sent32(input logic [31:0] number);
    return {number[7:0], number[15:8], number[23:16], number[31:24]};
  endfunction

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

  // All stages move on together, when the last of them can.
  logic move, slot_moves;

  // The packet under way.
  outbound_job_t job_q;
  outbound_head_t head_q;
  logic [SaWidth-1:0] sa_q;
  logic [PlaceWidth-1:0] place_q, place_d;
  length_t kept_left_q, kept_left_d, payload_left_q, payload_left_d, body_left_q, body_left_d;
  logic [1:0] shift;
  logic first_beat_q, first_beat_d;

  // How many bytes of padding its trailer has.
  logic [1:0] padding_q;

  // Words of the new header that are still to go.
  logic part_busy_q, part_busy_d;
  logic [511:0] words_q, words_d;
  logic [4:0] words_left_q, words_left_d;

  // A packet occupies what is behind for as many cycles as it has parts, blocks and a tag. It may not come faster.
  length_t pace_q, pace_d;
  logic paced_q;  // that is over

  // What is made of a job before it is begun has registers: it is there when the job was offered for two cycles, which its
  // head takes longer for.
  logic [1:0] settled_q;
  logic fits_q;
  // Beats of the packet in the buffers, and its pace but for the new header.
  logic [BeatsWidth-1:0] beats_q, total_beats_q;
  length_t own_pace_q;

  logic begin_packet, begin_skip, begin_key;
  // What is under way is described by registers that the next packet takes over: so its last operation has to move too. That
  // is no part, which would have to wait.
  logic free;
  assign free = state_q == Idle && slot_moves && settled_q[1];
  assign begin_packet = free && job_kind_i == JobPacket && head_valid_i && paced_q
      && fits_q && text_room_i && assembly_room_i && !part_busy_q;
  assign begin_skip = free && job_kind_i == JobSkip;
  assign begin_key = free && job_kind_i == JobCommand;

  always_ff @(posedge clk_i) begin
    beats_q <= BeatsWidth'((17'(job_i.header.total_length) + 17'd15) >> 4);
    total_beats_q <= BeatsWidth'((17'(job_i.total) + 17'd15) >> 4);
    own_pace_q <= ((job_i.kept + 16'd15) >> 4) + ((job_i.body + 16'd15) >> 4);
    // Of room there is only more until a packet is begun.
    fits_q <= 32'(room_i) >= 32'(total_beats_q);
    settled_q <= rst_ni && job_valid_i && !job_ready_o ? {settled_q[0], 1'b1} : '0;
  end

  assign head_ready_o = begin_packet;
  assign job_ready_o = begin_packet || begin_skip || begin_key;
  assign reserve_o = begin_packet;
  assign reserve_beats_o = RoomWidth'(total_beats_q);

  // A packet is read before the next one begins, so its beats may go with its beginning as far as order is concerned;
  // they go when the last of them was read.
  logic [BeatsWidth-1:0] begun_beats_q;
  logic done;

  // What is free again may be known a cycle later.
  always_ff @(posedge clk_i) begin
    free_o <= rst_ni && (begin_skip || done);
    free_beats_o <= begin_skip ? beats_q : begun_beats_q;
  end

  assign assembly_valid_o = begin_packet;
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

  always_comb begin
    state_d = state_q;
    place_d = place_q;
    kept_left_d = kept_left_q;
    payload_left_d = payload_left_q;
    body_left_d = body_left_q;
    first_beat_d = first_beat_q;
    read_o = 1'b0;
    done = 1'b0;
    pace_d = pace_q == '0 ? '0 : pace_q - 1'b1;

    unique case (state_q)
      Idle: begin
        place_d = job_place_i;
        kept_left_d = job_i.kept;
        payload_left_d = job_i.payload;
        body_left_d = job_i.body;
        first_beat_d = 1'b1;
        if (begin_key) begin
          state_d = Key;
        end else if (begin_packet) begin
          state_d = job_i.kept == '0 ? First : Kept;
          // Parts of the header that is kept and of the new one, and blocks; the tag's cycle is the one that begins.
          pace_d = own_pace_q + ((16'(head_i.count) + 16'd3) >> 2);
        end
      end

      Kept: begin
        read_o = move;
        if (move) begin
          first_beat_d = 1'b0;
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
        read_o = move && shift != '0;
        if (move) begin
          if (shift != '0) place_d = place_q + 1'b1;
          state_d = Text;
        end
      end

      Text: begin
        read_o = move && text_reads;
        if (move) begin
          place_d = place_q + 1'b1;
          payload_left_d = payload_left_q > 16'd16 ? payload_left_q - 16'd16 : '0;
          body_left_d = body_left_q - 16'd16;
          if (text_last) begin
            state_d = Last;
            done = 1'b1;
          end
        end
      end

      Last: if (move) state_d = Idle;

      default: if (move) state_d = Idle;
    endcase
  end

  assign read_place_o = place_q;

  always_ff @(posedge clk_i) begin
    place_q <= place_d;
    kept_left_q <= kept_left_d;
    payload_left_q <= payload_left_d;
    body_left_q <= body_left_d;
    first_beat_q <= first_beat_d;
    // Whether anything is begun or not: nobody looks at these until then, and it would be known late for so many registers.
    if (state_q == Idle && slot_moves) begin
      job_q <= job_i;
      head_q <= head_i;
      sa_q <= job_sa_i;
      begun_beats_q <= beats_q;
      padding_q <= 2'(job_i.body - job_i.padded - 16'd2);
    end
    if (!rst_ni) begin
      state_q <= Idle;
      pace_q <= '0;
      paced_q <= 1'b1;
    end else begin
      state_q <= state_d;
      pace_q <= pace_d;
      paced_q <= !begin_packet && pace_q[15:1] == '0;
    end
  end

  // Second stage: the beat is there

  typedef enum logic [2:0] {
    NoOp,
    OpKept,
    OpFirst,
    OpText,
    OpLast,
    OpKey
  } op_e;
  op_e op_q;
  // As far as they matter: up to a block of payload; and the trailer has at most five bytes, so farther from the end than
  // 24 there is none of it.
  logic [4:0] op_payload_q, op_body_q;
  length_t op_kept_q;
  logic op_first_beat_q;
  logic [127:32] previous_q;

  always_ff @(posedge clk_i) begin
    if (move) begin
      op_payload_q <= payload_left_q > 16'd16 ? 5'd16 : payload_left_q[4:0];
      op_body_q <= body_left_q > 16'd24 ? 5'd24 : body_left_q[4:0];
      op_kept_q <= kept_left_q;
      op_first_beat_q <= first_beat_q;
      if (op_q == OpFirst || op_q == OpText) previous_q <= read_beat_i[127:32];
    end
    if (!rst_ni) begin
      op_q <= NoOp;
    end else if (move) begin
      unique case (state_q)
        Kept:    op_q <= OpKept;
        First:   op_q <= OpFirst;
        Text:    op_q <= OpText;
        Last:    op_q <= OpLast;
        Key:     op_q <= OpKey;
        default: op_q <= NoOp;
      endcase
    end
  end

  // The payload's block out of two beats.
  beat_t block;
  always_comb begin
    unique case (shift)
      2'd0: block = read_beat_i;
      2'd1: block = {read_beat_i[31:0], previous_q};
      2'd2: block = {read_beat_i[63:0], previous_q[127:64]};
      2'd3: block = {read_beat_i[95:0], previous_q[127:96]};
    endcase
  end

  // Padding is 1, 2, 3, then its length and the next header (RFC 4303 §2.4); in front of it zeros, if there is TFC padding.
  protocol_t next_header;
  always_comb begin
    if (job_q.form.transport) next_header = job_q.header.esp_protocol;
    else next_header = job_q.header.v6 ? Ipv6 : Ipv4;
  end

  beat_t text;

  always_comb begin
    for (int j = 0; j < 16; j++) begin
      logic [4:0] behind;
      // How many bytes of the body come behind this one; wraps around for what is behind the body.
      behind = op_body_q - 5'(j + 1);
      if (5'(j) < op_payload_q) text[8*j+:8] = block[8*j+:8];
      else if (behind == 5'd0) text[8*j+:8] = next_header;
      else if (behind == 5'd1) text[8*j+:8] = {6'd0, padding_q};
      else if (behind <= 5'd1 + 5'(padding_q)) text[8*j+:8] = {6'd0, padding_q} + 8'd2 - {3'd0, behind};
      else text[8*j+:8] = 8'd0;
    end
  end

  // Third stage: a slot

  logic slot_valid_q;
  slot_t slot_q;
  logic [SaWidth-1:0] slot_sa_q;
  logic [31:0] spi, high, low;
  slot_count_t text_slots;
  assign spi = sent32(job_q.id.spi);
  assign high = sent32(job_q.sequence_number[63:32]);
  assign low = sent32(job_q.sequence_number[31:0]);
  assign text_slots = slot_count_t'((job_q.body + 16'd15) >> 4);

  logic [63:0] text_bits, aad_bits;
  assign text_bits = {45'd0, job_q.body, 3'd0};
  // RFC 4106 §5: SPI and sequence number, which is 8 bytes long if it is extended.
  assign aad_bits = job_q.form.esn ? 64'd96 : 64'd64;

  // Parts that have to wait do so between two packets.
  assign slot_moves = !slot_valid_q || slot_ready_i;
  assign move = slot_moves && !(op_q == OpKept && !part_ready_i);

  always_ff @(posedge clk_i) begin
    if (move) begin
      slot_sa_q <= sa_q;
      slot_q.key256 <= job_q.form.key256;
      slot_q.decrypt <= 1'b0;
      slot_q.following <= text_slots + 1'b1;
      // RFC 4106 §4: salt and IV.
      slot_q.nonce <= {low, high, job_q.id.salt};
      slot_q.bytes <= op_body_q > 5'd16 ? 5'd16 : op_body_q;
      unique case (op_q)
        OpFirst: begin
          slot_q.kind <= SlotFirst;
          slot_q.data <= job_q.form.esn ? {32'd0, low, high, spi} : {64'd0, low, spi};
        end
        OpLast: begin
          slot_q.kind <= SlotLast;
          slot_q.data <= {sent32(text_bits[31:0]), sent32(text_bits[63:32]), sent32(aad_bits[31:0]), sent32(aad_bits[63:32])};
        end
        OpKey: begin
          slot_q.kind <= SlotKey;
          slot_q.data <= '0;
        end
        default: begin
          slot_q.kind <= SlotText;
          slot_q.data <= text;
        end
      endcase
    end
    if (!rst_ni) slot_valid_q <= 1'b0;
    else if (move) slot_valid_q <= op_q inside {OpFirst, OpText, OpLast, OpKey};
    else if (slot_ready_i) slot_valid_q <= 1'b0;
  end

  assign slot_valid_o = slot_valid_q;
  assign slot_o = slot_q;
  assign slot_sa_o = slot_sa_q;

  // Parts: the header that is kept, with what changes in it, and the new words behind.

  logic [15:0] checksum;
  logic [16:0] checksum_sum;
  assign checksum_sum = {1'b0, ~{read_beat_i[87:80], read_beat_i[95:88]}} + {1'b0, head_q.checksum};
  assign checksum = ~(checksum_sum[15:0] + 16'(checksum_sum[16]));

  beat_t kept_beat;
  length_t kept_at;
  assign kept_at = job_q.kept - op_kept_q;

  always_comb begin
    kept_beat = read_beat_i;
    if (op_first_beat_q) begin
      if (job_q.header.v6) begin
        kept_beat[47:32] = {head_q.length_field[7:0], head_q.length_field[15:8]};
      end else begin
        kept_beat[31:16] = {head_q.length_field[7:0], head_q.length_field[15:8]};
        kept_beat[95:80] = {checksum[7:0], checksum[15:8]};
      end
    end
    for (int j = 0; j < 16; j++) begin
      if (kept_at + 16'(j) == job_q.header.protocol_at) kept_beat[8*j+:8] = head_q.protocol;
    end
  end

  always_comb begin
    part_busy_d = part_busy_q;
    words_d = words_q;
    words_left_d = words_left_q;
    part_valid_o = 1'b0;
    part_o = '{last: 1'b0, count: 3'd4, words: words_q[127:0]};
    if (op_q == OpKept) begin
      part_valid_o = slot_moves;
      part_o.words = kept_beat;
      if (op_kept_q < 16'd16) part_o.count = op_kept_q[4:2];
    end else if (part_busy_q && !(state_q == Kept)) begin
      part_valid_o = 1'b1;
      if (words_left_q <= 5'd4) begin
        part_o.last = 1'b1;
        part_o.count = words_left_q[2:0];
      end
      if (part_ready_i) begin
        words_d = 512'(words_q[511:128]);
        words_left_d = words_left_q - 5'd4;
        part_busy_d = !part_o.last;
      end
    end
    if (!part_busy_q) begin
      words_d = head_i.words;
      words_left_d = head_i.count;
    end
    if (begin_packet) part_busy_d = 1'b1;
  end

  always_ff @(posedge clk_i) begin
    words_q <= words_d;
    words_left_q <= words_left_d;
    if (!rst_ni) part_busy_q <= 1'b0;
    else part_busy_q <= part_busy_d;
  end

endmodule
