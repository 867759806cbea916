// The outbound SAs: takes packets to their SA, spends a sequence number on each, and counts (RFC 4303 §3.3).
//
// Reads an SA as words of a narrow memory, one after another: nine cycles a packet, and what a packet writes back is
// written before the next one is read. Commands come between two packets; one that changes an SA gives an answer as a request
// does, of what was counted until then, and writes all of the SA's words.
//
// A sequence number is spent when it is written back, whatever becomes of the packet. It is the IV, so it is never set
// back: only a command that brings a new key starts it again.

module outbound_fetch
  import esp_pkg::*;
  import sa_pkg::*;
  import outbound_pkg::*;
  import reason_pkg::*;
#(
  // How many SAs, at least two.
  parameter int unsigned NSa = 1024,
  // The largest outer packet in bytes, as the buffer behind takes it.
  parameter int unsigned MaxPacket = 9728,
  // Bits that go through beside a packet: where it is.
  parameter int unsigned TagWidth = 11,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input  logic                clk_i,
  input  logic                rst_ni,

  // Sequence numbers left at which the owner is told.
  input  logic [31:0]         headroom_i,

  // A whole, well-formed packet, and which SA it is for.
  input  logic                packet_valid_i,
  output logic                packet_ready_o,
  input  ip_header_t          packet_header_i,
  input  logic [SaWidth-1:0]  packet_sa_i,
  input  generation_t         packet_generation_i,
  input  logic [TagWidth-1:0] packet_tag_i,

  // A command: the SA is what is given here from now on, with its counters at zero. Zeros: there is none.
  input  logic                command_valid_i,
  output logic                command_ready_o,
  input  logic [SaWidth-1:0]  command_sa_i,
  input  outbound_sa_t        command_data_i,

  // What goes on, in the order in which it came.
  output logic                job_valid_o,
  input  logic                job_ready_i,
  output job_kind_e           job_kind_o,
  output logic [SaWidth-1:0]  job_sa_o,
  output outbound_job_t       job_o,
  output logic [TagWidth-1:0] job_tag_o,

  // A packet that is dropped, for one cycle. It goes on too, as one to skip.
  output logic                drop_valid_o,
  output reason_e             drop_reason_o,
  output logic [SaWidth-1:0]  drop_sa_o,
  output logic [31:0]         drop_spi_o,
  output logic [63:0]         drop_sequence_o,

  // For one cycle.
  output logic                events_valid_o,
  output logic [SaWidth-1:0]  events_sa_o,
  output generation_t         events_generation_o,
  output sa_events_t          events_o,

  // Counters as they are between two packets. A request has its turn after the packet that is being looked at; a command is
  // one too.
  input  logic                read_valid_i,
  output logic                read_ready_o,
  input  logic [SaWidth-1:0]  read_sa_i,
  output logic                read_done_o,
  output logic [63:0]         read_sequence_o,
  output counter_t            read_packets_o,
  output counter_t            read_bytes_o
);

  localparam length_t EspHeader = 16'd16;  // SPI, sequence number, IV
  localparam length_t Icv = 16'd16;
  localparam length_t UdpHeader = 16'd8;
  localparam int unsigned StateWords = 2;

  if (NSa < 2) begin : gen_bad_nsa
    $error("NSa is at least 2");
  end
  if (MaxPacket < 128 || MaxPacket > 65535) begin : gen_bad_packet
    $error("MaxPacket is 128 to 65535 bytes");
  end

  // State of an SA, which changes with each packet.
  typedef struct packed {
    logic [63:0] reserved;
    logic [63:0] sequence_number;
  } numbers_t;

  typedef struct packed {
    counter_t packets;
    counter_t bytes;
  } usage_t;

  typedef enum logic [1:0] {
    Idle,
    Packet,
    Command,
    Read
  } state_e;

  state_e state_q, state_d;
  // A request had its turn last; a packet that waits goes first then.
  logic read_last_q;
  logic start_read, go;
  // A packet or a request begins.
  logic begins;
  // The request is a command's, which goes on.
  logic replaces_q;
  // Where in the packet's, command's or request's nine steps.
  logic [3:0] step_q, step_d;

  // Memories: eight places an SA, of which OutboundWords are used.
  word_t config_mem [NSa * 8];
  word_t state_mem [NSa * StateWords];
  word_t config_q, state_word_q;

  logic [SaWidth-1:0] sa_q, sa_d;
  logic config_write, state_write, read;
  logic [2:0] config_word;
  logic state_word, state_write_word;
  word_t config_data, state_data;

  always_ff @(posedge clk_i) begin
    if (read) config_q <= config_mem[{sa_d, config_word}];
    if (config_write) config_mem[{sa_q, step_q[2:0]}] <= config_data;
  end

  always_ff @(posedge clk_i) begin
    if (read) state_word_q <= state_mem[{sa_d, state_word}];
    if (state_write) state_mem[{sa_q, state_write_word}] <= state_data;
  end

  // What was read so far

  ip_header_t header_q;
  generation_t generation_q;
  logic [TagWidth-1:0] tag_q;
  outbound_form_t form_q;
  outbound_id_t id_q;
  logic [127:0] source_q, destination_q;
  limits_t hard_q, soft_q;
  logic [63:0] sequence_q;
  usage_t usage_q;

  // Transport mode has no outer addresses; over IPv6 a checksum of UDP covers the packet's own.
  function automatic logic [127:0] outer_address(input logic [127:0] configured, input logic [127:0] own);
    if (!form_q.transport) return configured;
    return header_q.v6 ? own : '0;
  endfunction

  // Which step of a packet or a request it is, one bit each: these load wide registers, and decide.
  logic [8:1] at_q;
  // The last step of a command.
  logic command_last_q;

  always_ff @(posedge clk_i) begin
    if (at_q[1]) form_q <= config_q;
    if (at_q[1]) sequence_q <= state_word_q[63:0];
    if (at_q[2]) id_q <= config_q;
    if (at_q[2]) usage_q <= state_word_q;
    if (at_q[3]) hard_q <= config_q;
    if (at_q[4]) soft_q <= config_q;
    if (at_q[5]) source_q <= outer_address(config_q, header_q.source);
    if (at_q[6]) destination_q <= outer_address(config_q, header_q.destination);
    if (state_q == Idle) begin
      header_q <= packet_header_i;
      generation_q <= packet_generation_i;
      tag_q <= packet_tag_i;
    end
    sa_q <= sa_d;
    if (!rst_ni) begin
      at_q <= '0;
      command_last_q <= 1'b0;
    end else begin
      // A request has three.
      at_q <= {at_q[7] || (at_q[8] && !go), at_q[6:4], at_q[3] && state_q == Packet, at_q[2:1], begins};
      command_last_q <= state_q == Command && (command_last_q ? !go : step_q == 4'(OutboundWords - 2));
    end
  end

  // Lengths and counters: each is there a step after what it is made of, and stays.

  length_t payload_q, padded_q, body_q, outer_q;
  logic [16:0] total_q;
  counter_t next_packets_q, next_bytes_q;
  logic [63:0] next_sequence_q;
  logic present_q, exhausted_q, expired_q;

  // What will have come of the packet for its owner.
  logic headroom_q;
  logic hard_packets_q, hard_bytes_q, soft_packets_q, soft_bytes_q;

  always_ff @(posedge clk_i) begin
    // At step 3.
    present_q <= form_q.valid && form_q.generation == generation_q;
    payload_q <= form_q.transport ? header_q.total_length - header_q.esp_at : header_q.total_length;
    next_sequence_q <= sequence_q + 1'b1;
    // The last number is 2^32 - 1, or with ESN 2^64 - 1.
    exhausted_q <= form_q.esn ? sequence_q == '1 : sequence_q[63:32] != '0 || sequence_q[31:0] == '1;
    if (form_q.transport) outer_q <= header_q.esp_at;
    else outer_q <= form_q.v6 ? 16'd40 : 16'd20;
    // At step 4.
    padded_q <= !form_q.transport && payload_q < form_q.tfc_length ? form_q.tfc_length : payload_q;
    next_packets_q <= usage_q.packets + 1'b1;
    next_bytes_q <= usage_q.bytes + counter_t'(payload_q);
    // So many numbers are left: the last one without what is spent.
    headroom_q <= next_sequence_q[31:0] == ~headroom_i && (!form_q.esn || next_sequence_q[63:32] == '1);
    // At step 5: pad length and next header are two bytes, and all is a multiple of four (RFC 4303 §2.4).
    body_q <= (padded_q + 16'd5) & 16'hfffc;
    // An SA that reached a hard limit stays at it.
    expired_q <= (hard_q.packets != '0 && usage_q.packets >= hard_q.packets)
        || (hard_q.bytes != '0 && usage_q.bytes >= hard_q.bytes);
    hard_packets_q <= reaches(usage_q.packets, next_packets_q, hard_q.packets);
    hard_bytes_q <= reaches(usage_q.bytes, next_bytes_q, hard_q.bytes);
    // At step 6.
    soft_packets_q <= reaches(usage_q.packets, next_packets_q, soft_q.packets);
    soft_bytes_q <= reaches(usage_q.bytes, next_bytes_q, soft_q.bytes);
    total_q <= 17'(outer_q) + 17'(form_q.udp ? UdpHeader : 16'd0) + 17'(EspHeader + Icv) + 17'(body_q);
  end

  // The decision, at step 7

  // Whether the packet gets a sequence number, and whether it goes on then.
  logic numbered, bad, numbered_q, bad_q;
  reason_e reason, reason_q;

  always_comb begin
    numbered = 1'b0;
    bad = 1'b1;
    if (!present_q) reason = ReasonNoSa;
    else if (form_q.transport && header_q.fragment) reason = ReasonEspFragment;
    else if (exhausted_q) reason = ReasonSequenceExhausted;
    else if (expired_q) reason = ReasonLifetimeExpired;
    else begin
      numbered = 1'b1;
      reason = ReasonTooBig;
      // A body of 64 KiB has wrapped around; with ESP's own bytes it is longer than any packet.
      bad = total_q > 17'(MaxPacket) || padded_q > 16'(MaxPacket) - EspHeader - Icv;
    end
  end

  always_ff @(posedge clk_i) begin
    numbered_q <= numbered;
    bad_q <= bad;
    reason_q <= reason;
  end

  logic last_step;
  assign last_step = at_q[8];
  // Behind the decision a packet may have to wait, with its number spent.
  // A job is mostly taken long before the next one is made. So there is no path from who takes it to all registers here.
  assign go = !job_valid_o;

  assign start_read = read_valid_i && !(packet_valid_i && read_last_q);

  always_comb begin
    state_d = state_q;
    step_d = step_q + 1'b1;
    sa_d = sa_q;
    begins = 1'b0;
    read = 1'b0;
    config_word = 3'(step_q);
    state_word = step_q[0];
    config_write = 1'b0;
    config_data = '0;
    state_write = 1'b0;
    state_write_word = step_q[0];
    state_data = step_q[3] ? {next_packets_q, next_bytes_q} : {64'h0, next_sequence_q};
    if (state_q == Command) state_data = '0;

    unique case (state_q)
      Idle: begin
        step_d = 4'd1;
        config_word = 3'd0;
        state_word = 1'b0;
        if (command_valid_i) begin
          sa_d = command_sa_i;
          begins = 1'b1;
          read = 1'b1;
          state_d = Read;
        end else if (start_read) begin
          sa_d = read_sa_i;
          begins = 1'b1;
          read = 1'b1;
          state_d = Read;
        end else if (packet_valid_i) begin
          sa_d = packet_sa_i;
          begins = 1'b1;
          read = 1'b1;
          state_d = Packet;
        end
      end

      Packet: begin
        read = !at_q[7] && !at_q[8];
        if (last_step) begin
          step_d = step_q;
          if (go) begin
            state_d = Idle;
            state_write = !bad_q;
            state_write_word = 1'b1;
          end
        end else if (at_q[7]) begin
          state_write = numbered_q;
          state_write_word = 1'b0;
        end
      end

      Command: begin
        config_write = 1'b1;
        config_data = command_data_i[128*step_q+:128];
        state_write = step_q < 4'(StateWords);
        if (command_last_q) begin
          step_d = step_q;
          if (go) state_d = Idle;
        end
      end

      Read: begin
        read = at_q[1];
        if (at_q[3]) state_d = replaces_q ? Command : Idle;
        if (at_q[3]) step_d = 4'd0;
      end
    endcase
  end

  assign packet_ready_o = state_q == Idle && !command_valid_i && !(read_valid_i && !read_last_q);
  assign command_ready_o = command_last_q && go;
  assign read_ready_o = state_q == Idle && !command_valid_i && !(packet_valid_i && read_last_q);

  always_ff @(posedge clk_i) begin
    step_q <= step_d;
    // Until there is a job, what comes to be one.
    if (go) begin
      job_o <= '{
        header: header_q,
        form: form_q,
        id: id_q,
        source: source_q,
        destination: destination_q,
        sequence_number: next_sequence_q,
        kept: form_q.transport ? header_q.esp_at : 16'd0,
        payload: payload_q,
        padded: padded_q,
        body: body_q,
        total: total_q[15:0],
        outer: outer_q
      };
    end
    if (go) begin
      if (state_q == Command) job_kind_o <= JobCommand;
      else job_kind_o <= bad_q ? JobSkip : JobPacket;
      job_sa_o <= sa_q;
      job_tag_o <= tag_q;
    end
    drop_reason_o <= reason_q;
    drop_sa_o <= sa_q;
    drop_spi_o <= present_q ? id_q.spi : '0;
    drop_sequence_o <= numbered_q ? next_sequence_q : '0;
    events_sa_o <= sa_q;
    events_generation_o <= form_q.generation;
    if (state_q == Idle) replaces_q <= command_valid_i;
    // A packet that is too big has spent its number, but is not counted.
    events_o <= '{
      integrity: 1'b0,
      headroom: headroom_q,
      hard_packets: !bad_q && hard_packets_q,
      hard_bytes: !bad_q && hard_bytes_q,
      soft_packets: !bad_q && soft_packets_q,
      soft_bytes: !bad_q && soft_bytes_q
    };
    if (!rst_ni) begin
      state_q <= Idle;
      job_valid_o <= 1'b0;
      drop_valid_o <= 1'b0;
      events_valid_o <= 1'b0;
      read_done_o <= 1'b0;
      read_last_q <= 1'b0;
    end else begin
      state_q <= state_d;
      if (state_q == Idle && begins) read_last_q <= !command_valid_i && start_read;
      if (go) job_valid_o <= last_step || command_ready_o;
      else if (job_ready_i) job_valid_o <= 1'b0;
      drop_valid_o <= last_step && go && bad_q;
      events_valid_o <= last_step && go && numbered_q;
      read_done_o <= state_q == Read && at_q[3];
    end
  end

  assign read_sequence_o = sequence_q;
  assign read_packets_o = usage_q.packets;
  assign read_bytes_o = usage_q.bytes;

endmodule
