// Reads a received packet out of the frame buffer and makes of it what the cipher takes: slots (gcm_pkg). Beside them go
// the ICV, to be compared, and in transport mode the header that is kept.
//
// A packet is begun when the buffer behind has room for what may leave of it and the verdict has a place for it: from its
// First slot on there is a slot each cycle, as long as slots are taken, and nothing has to wait. One that finds no room in a
// buffer from which nothing is taken any more is skipped. Between two packets of tunnel mode there is one cycle without a
// slot. The kept header of transport mode is read first, and may wait.
//
// From where ESP begins the packet is taken as a row of blocks, put together out of two beats each: the first one is SPI,
// sequence number and IV, then comes the text, and right behind it, anywhere in a block, the ICV. All of it is in words.

module inbound_stream
  import esp_pkg::*;
  import gcm_pkg::*;
  import reason_pkg::*;
  import inbound_pkg::*;
#(
  // Bits of an SA's number.
  parameter int unsigned SaWidth = 10,
  // Bits of a beat's address in the frame buffer.
  parameter int unsigned PlaceWidth = 11,
  // Bits of a count of beats in the buffer behind.
  parameter int unsigned RoomWidth = 12,
  localparam int unsigned BeatsWidth = PlaceWidth + 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  // From inbound_fetch. A job is taken a cycle after it is begun, or later.
  input  logic                  job_valid_i,
  output logic                  job_ready_o,
  input  item_kind_e            job_kind_i,
  input  logic [SaWidth-1:0]    job_sa_i,
  input  inbound_job_t          job_i,
  input  reason_e               job_reason_i,
  input  logic                  job_has_sa_i,
  input  logic [31:0]           job_spi_i,
  input  logic [PlaceWidth-1:0] job_place_i,
  input  logic [BeatsWidth-1:0] job_beats_i,

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

  // Slots.
  output logic                  slot_valid_o,
  input  logic                  slot_ready_i,
  output slot_t                 slot_o,
  output logic [SaWidth-1:0]    slot_sa_o,

  // Each item, in the cycle behind the one in which it is begun; and each packet, for those who take its text.
  output logic                  item_valid_o,
  input  logic                  item_room_i,
  output verdict_item_t         item_o,
  output logic [SaWidth-1:0]    item_sa_o,
  output logic                  plan_valid_o,
  output text_plan_t            plan_o,
  // The kept header, a beat at a time; what is behind its end is anything. Four more may come when there is no more room
  // to be had: those that are under way.
  output logic                  part_valid_o,
  input  logic                  part_room_i,
  output beat_t                 part_o,
  // The ICV of each packet, when its Last slot is made.
  output logic                  icv_valid_o,
  output beat_t                 icv_o
);

  // Bytes of SPI, sequence number, IV and ICV.
  localparam logic [16:0] Around = 17'd32;

  typedef enum logic [2:0] {
    Idle,
    // The header that is kept, a beat a cycle.
    Kept,
    // The first beat of ESP, where ESP does not begin with a beat.
    Prime,
    First,
    Text,
    Last,
    Key
  } state_e;
  state_e state_q, state_d;

  // All stages move on together, when a slot is taken: that is known from a register, and so are all that is begun and read.
  logic move;
  assign move = slot_ready_i;

  // The packet that is being read.
  logic [PlaceWidth-1:0] place_q, place_d, begun_esp_place_q;
  logic [BeatsWidth-1:0] beats_q;
  length_t kept_left_q, kept_left_d, body_left_q, body_left_d;
  // Beats of ESP that are still to be read.
  logic [12:0] esp_left_q, esp_left_d;
  // It does not begin with a beat.
  logic begun_primes_q;

  // What is made of a job before it is begun has registers: it is there when the job was offered for two cycles. Then one of
  // the three says what is due.
  logic settled_q, packet_due_q, skip_due_q, key_due_q;
  logic fits, jammed;
  logic keeps_q, primes_q;
  logic [11:0] out_beats_q;
  logic [12:0] esp_beats_q;
  logic [PlaceWidth-1:0] esp_place_q;

  // It is begun, told of in the next cycle, and taken when the stages behind move on the next time.
  logic begins, begun_q, told_q, told_packet_q, told_skip_q, offered;
  assign begins = move && state_q == Idle && !begun_q && (packet_due_q || skip_due_q || key_due_q);
  // Once begun it is not due any more: neither what it was begun as, nor anything else.
  assign offered = job_valid_i && !begun_q && !begins;
  assign fits = 32'(room_i) >= 32'(out_beats_q);
  assign jammed = job_kind_i == ItemPacket && !fits && stalled_i;

  always_ff @(posedge clk_i) begin
    out_beats_q <= 12'((17'(job_i.kept) + 17'(job_i.body) + 17'd15) >> 4);
    // Of ESP no more is read than there is: behind a packet's end another one may be coming in.
    esp_beats_q <= 13'((17'(job_i.esp_begin[3:0]) + 17'(job_i.body) + Around + 17'd15) >> 4);
    esp_place_q <= job_place_i + PlaceWidth'(job_i.esp_begin[15:4]);
    keeps_q <= job_i.kept != '0;
    primes_q <= job_i.esp_begin[3:2] != '0;
    settled_q <= rst_ni && offered;
    // Of room, here and there, there is only more until something is begun.
    packet_due_q <= rst_ni && offered && settled_q && item_room_i && job_kind_i == ItemPacket && fits;
    skip_due_q <= rst_ni && offered && settled_q && item_room_i && (job_kind_i == ItemSkip || jammed);
    key_due_q <= rst_ni && offered && settled_q && item_room_i && job_kind_i == ItemCommand;
    begun_q <= rst_ni && (begins || (begun_q && !move));
    told_q <= rst_ni && begins;
    told_packet_q <= rst_ni && begins && packet_due_q;
    told_skip_q <= rst_ni && begins && skip_due_q;
  end

  assign job_ready_o = begun_q && move;
  assign reserve_o = told_packet_q;
  assign reserve_beats_o = RoomWidth'(out_beats_q);
  // The last beat of a packet is read.
  logic done;

  // What is free again may be known a cycle later.
  always_ff @(posedge clk_i) begin
    free_o <= rst_ni && (told_skip_q || done);
    free_beats_o <= told_skip_q ? job_beats_i : beats_q;
  end
  assign item_valid_o = told_q;
  assign item_sa_o = job_sa_i;
  assign item_o = '{
    kind: told_skip_q ? ItemSkip : job_kind_i,
    reason: job_kind_i == ItemPacket ? ReasonQueueFull : job_reason_i,
    has_sa: job_has_sa_i,
    spi: job_spi_i,
    generation: job_i.generation,
    sequence_number: job_i.sequence_number,
    body: job_i.body,
    beats: out_beats_q
  };
  assign plan_valid_o = told_packet_q;
  assign plan_o = '{
    transport: job_i.transport,
    selector_first: job_i.selector_first,
    selector_count: job_i.selector_count,
    v6: job_i.v6,
    ecn: job_i.ecn,
    kept: job_i.kept,
    protocol_at: job_i.protocol_at,
    headers: job_i.headers,
    body: job_i.body
  };

  // First stage: what to read, if all move on.

  typedef enum logic [2:0] {
    NoOp,
    OpKept,
    OpPrime,
    OpFirst,
    OpText,
    OpLast,
    OpKey
  } op_e;
  op_e op_d;

  logic reads;
  assign done = move && state_q inside {Prime, First, Text, Last} && esp_left_q == 13'd1;
  assign read_o = move && reads;

  always_comb begin
    state_d = state_q;
    op_d = NoOp;
    place_d = place_q + 1'b1;
    kept_left_d = kept_left_q;
    body_left_d = body_left_q;
    esp_left_d = esp_left_q - 1'b1;
    reads = 1'b0;
    read_place_o = place_q;

    unique case (state_q)
      Idle: begin
        // Whether anything is begun or not: nobody looks at these until then.
        read_place_o = esp_place_q;
        kept_left_d = job_i.kept;
        body_left_d = job_i.body;
        if (keeps_q) begin
          place_d = job_place_i;
          esp_left_d = esp_beats_q;
        end else begin
          place_d = esp_place_q + PlaceWidth'(primes_q);
          esp_left_d = esp_beats_q - 13'(primes_q);
        end
        if (key_due_q) state_d = Key;
        if (packet_due_q) begin
          reads = primes_q && !keeps_q;
          op_d = OpPrime;
          state_d = keeps_q ? Kept : First;
        end
      end

      Kept: begin
        esp_left_d = esp_left_q;
        place_d = place_q;
        if (part_room_i) begin
          reads = 1'b1;
          op_d = OpKept;
          kept_left_d = kept_left_q - 16'd16;
          place_d = place_q + 1'b1;
          if (kept_left_q <= 16'd16) begin
            place_d = begun_esp_place_q;
            state_d = begun_primes_q ? Prime : First;
          end
        end
      end

      Prime: begin
        reads = 1'b1;
        op_d = OpPrime;
        state_d = First;
      end

      First: begin
        reads = 1'b1;
        op_d = OpFirst;
        state_d = Text;
      end

      Text: begin
        reads = 1'b1;
        op_d = OpText;
        body_left_d = body_left_q - 16'd16;
        if (body_left_q <= 16'd16) state_d = Last;
      end

      Last: begin
        reads = esp_left_q != '0;
        op_d = OpLast;
        state_d = Idle;
      end

      default: begin
        op_d = OpKey;
        state_d = Idle;
      end
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (move) begin
      place_q <= place_d;
      kept_left_q <= kept_left_d;
      body_left_q <= body_left_d;
      esp_left_q <= esp_left_d;
      if (state_q == Idle) begin
        beats_q <= job_beats_i;
        begun_esp_place_q <= esp_place_q;
        begun_primes_q <= primes_q;
      end
    end
    if (!rst_ni) state_q <= Idle;
    else if (move) state_q <= state_d;
  end

  // Second stage: the beat is there, and goes to a register.

  op_e op1_q, op2_q;
  logic [4:0] bytes1_q, bytes2_q;
  beat_t beat_q;
  // What the packet is in the third stage. Its job stays until here, and what the one before it was until its last slot is
  // made.
  inbound_job_t job_q;
  logic [SaWidth-1:0] sa_q;

  always_ff @(posedge clk_i) begin
    if (move) begin
      bytes1_q <= body_left_q > 16'd16 ? 5'd16 : body_left_q[4:0];
      bytes2_q <= bytes1_q;
      beat_q <= read_beat_i;
      if (begun_q) begin
        job_q <= job_i;
        sa_q <= job_sa_i;
      end
    end
    if (!rst_ni) begin
      op1_q <= NoOp;
      op2_q <= NoOp;
    end else if (move) begin
      op1_q <= op_d;
      op2_q <= op1_q;
    end
  end

  // Third stage: a part, or a slot.

  assign part_o = beat_q;
  assign part_valid_o = op2_q == OpKept && move;

  // ESP's block out of two beats.
  logic [127:32] previous_q;
  beat_t block;
  logic [1:0] shift;
  assign shift = job_q.esp_begin[3:2];
  always_comb begin
    unique case (shift)
      2'd0: block = beat_q;
      2'd1: block = {beat_q[31:0], previous_q};
      2'd2: block = {beat_q[63:0], previous_q[127:64]};
      2'd3: block = {beat_q[95:0], previous_q[127:96]};
    endcase
  end

  logic slot_valid_q;
  slot_t slot_q;
  logic [SaWidth-1:0] slot_sa_q;

  // The ICV out of the block that ends the text, which is the slot in front, and the one behind it.
  assign icv_valid_o = op2_q == OpLast && move;
  always_comb begin
    unique case (job_q.body[3:2])
      2'd0: icv_o = block;
      2'd1: icv_o = {block[31:0], slot_q.data[127:32]};
      2'd2: icv_o = {block[63:0], slot_q.data[127:64]};
      2'd3: icv_o = {block[95:0], slot_q.data[127:96]};
    endcase
  end

  logic [31:0] high;
  slot_count_t text_slots;
  assign high = sent32(job_q.sequence_number[63:32]);
  assign text_slots = slot_count_t'((17'(job_q.body) + 17'd15) >> 4);

  logic [63:0] text_bits, aad_bits;
  assign text_bits = {45'd0, job_q.body, 3'd0};
  // RFC 4106 §5: SPI and sequence number, which is 8 bytes long if it is extended.
  assign aad_bits = job_q.esn ? 64'd96 : 64'd64;

  always_ff @(posedge clk_i) begin
    if (move) begin
      previous_q <= beat_q[127:32];
      slot_sa_q <= sa_q;
      slot_q.key256 <= job_q.key256;
      slot_q.decrypt <= 1'b1;
      slot_q.following <= text_slots + 1'b1;
      // RFC 4106 §4: salt and IV.
      slot_q.nonce <= {block[127:64], job_q.salt};
      slot_q.bytes <= bytes2_q;
      unique case (op2_q)
        OpFirst: begin
          slot_q.kind <= SlotFirst;
          slot_q.data <= job_q.esn ? {32'd0, block[63:32], high, block[31:0]} : {64'd0, block[63:0]};
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
          slot_q.data <= block;
        end
      endcase
    end
    if (!rst_ni) slot_valid_q <= 1'b0;
    else if (move) slot_valid_q <= op2_q inside {OpFirst, OpText, OpLast, OpKey};
  end

  assign slot_valid_o = slot_valid_q;
  assign slot_o = slot_q;
  assign slot_sa_o = slot_sa_q;

endmodule
