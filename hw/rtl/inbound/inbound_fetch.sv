// The inbound SAs: whether a packet may be opened at all, and what for that is to be known of its SA (RFC 4303 §3.4.3).
//
// An SA's two words are read one after another, and the replay window is asked meanwhile: eight cycles a packet, and more
// if the window is busy. The order of what is dropped: no such SA (also if its packet came in UDP on another port than the
// SA's), then replayed, then malformed. Only the verdict on the ICV moves a window, so each of these may be a forgery.
//
// A command writes both words. The window behind it is empty when it has gone all the way: a packet of an SA that is being
// installed waits for that.

module inbound_fetch
  import esp_pkg::*;
  import sa_pkg::*;
  import reason_pkg::*;
  import inbound_pkg::*;
#(
  // How many SAs, at least two.
  parameter int unsigned NSa = 1024,
  // Bits of a beat's address in the frame buffer.
  parameter int unsigned PlaceWidth = 11,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned BeatsWidth = PlaceWidth + 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  // From inbound_lookup: an item comes in a cycle behind one with room, and none in the cycle behind an item. That it comes
  // in the next one is a hint.
  input  logic                  item_valid_i,
  output logic                  item_room_o,
  input  logic                  item_next_i,
  input  item_kind_e            item_kind_i,
  input  logic [SaWidth-1:0]    item_sa_i,
  input  received_t             item_i,
  input  reason_e               item_reason_i,
  input  logic [PlaceWidth-1:0] item_place_i,
  input  logic [BeatsWidth-1:0] item_beats_i,

  // What a command writes, from when it comes by until it is done.
  input  inbound_form_t         command_form_i,
  input  inbound_id_t           command_id_i,
  input  logic                  command_done_i,

  // See inbound_replay.
  output logic                  check_valid_o,
  input  logic                  check_ready_i,
  output logic [SaWidth-1:0]    check_sa_o,
  output logic                  check_esn_o,
  output logic [31:0]           check_sequence_o,
  output logic                  check_soon_o,
  input  logic                  check_done_i,
  input  logic                  check_accepted_i,
  input  logic [63:0]           check_whole_i,

  // What goes on, in the order in which it came. Skip: with the reason; its job has nothing but the sequence number.
  output logic                  job_valid_o,
  input  logic                  job_ready_i,
  output item_kind_e            job_kind_o,
  output logic [SaWidth-1:0]    job_sa_o,
  output inbound_job_t          job_o,
  output reason_e               job_reason_o,
  output logic                  job_has_sa_o,
  output logic [31:0]           job_spi_o,
  output logic [PlaceWidth-1:0] job_place_o,
  output logic [BeatsWidth-1:0] job_beats_o
);

  // SPI, sequence number and IV in front, the ICV behind (RFC 4303 §2, RFC 4106 §3 and §6).
  localparam length_t Around = 16'd32;

  if (NSa < 2) begin : gen_bad_nsa
    $error("NSa is at least 2");
  end

  typedef enum logic [2:0] {
    Idle,
    Form,
    Check,
    Wait,
    WriteForm,
    WriteId,
    Out
  } state_e;
  state_e state_q, state_d;

  word_t mem [NSa * 2];
  word_t word_q;

  item_kind_e kind_q, kind_d;
  logic [SaWidth-1:0] sa_q;
  received_t item_q;
  reason_e reason_q, reason_d;
  logic [PlaceWidth-1:0] place_q;
  logic [BeatsWidth-1:0] beats_q;

  logic read, read_word, write;
  logic [SaWidth-1:0] read_sa;

  always_ff @(posedge clk_i) begin
    if (read) word_q <= mem[{read_sa, read_word}];
    if (write) mem[{sa_q, state_q == WriteId}] <= state_q == WriteId ? command_id_i : command_form_i;
  end

  inbound_form_t form_q;
  inbound_id_t id;
  logic [31:0] salt_q;
  logic [63:0] sequence_q, sequence_d;
  logic malformed_q, has_sa_q, has_sa_d;
  // The packet is of the SA that its SPI was found for: by parts, since what memory gives is late.
  logic present, port_right_q;
  logic [7:0] spi_right_q;
  assign present = port_right_q && (&spi_right_q);
  logic [16:0] body_q;
  assign id = word_q;

  // A command that is under way behind this stage, and its SA.
  logic pending_q, blocked_q;
  logic [SaWidth-1:0] pending_sa_q;

  logic asked;
  assign check_valid_o = state_q == Check && form_q.valid && !blocked_q;
  assign check_sa_o = sa_q;
  assign check_esn_o = form_q.esn;
  assign check_sequence_o = item_q.sequence_low;
  assign asked = check_valid_o && check_ready_i;
  assign check_soon_o = item_next_i || item_valid_i || state_q == Form || check_valid_o;

  logic go;
  // A job is taken long before the next one is made. So there is no path from who takes it to all registers here.
  assign go = !job_valid_o;

  always_comb begin
    state_d = state_q;
    kind_d = kind_q;
    reason_d = reason_q;
    has_sa_d = has_sa_q;
    sequence_d = sequence_q;
    read = 1'b0;
    read_sa = sa_q;
    read_word = 1'b1;
    write = 1'b0;

    unique case (state_q)
      Idle: begin
        read_sa = item_sa_i;
        read_word = 1'b0;
        kind_d = item_kind_i;
        reason_d = item_reason_i;
        has_sa_d = 1'b0;
        sequence_d = {32'd0, item_i.sequence_low};
        if (item_valid_i) begin
          unique case (item_kind_i)
            ItemPacket: begin
              read = 1'b1;
              state_d = Form;
            end
            ItemCommand: state_d = WriteForm;
            default: state_d = Out;
          endcase
        end
      end

      Form: begin
        read = 1'b1;
        state_d = Check;
      end

      // The second word is there, and stays.
      Check: begin
        if (!form_q.valid) begin
          kind_d = ItemSkip;
          reason_d = ReasonUnknownSpi;
          state_d = Out;
        end else if (asked) begin
          state_d = Wait;
        end
      end

      Wait: begin
        if (check_done_i) begin
          state_d = Out;
          if (!present) begin
            kind_d = ItemSkip;
            reason_d = ReasonUnknownSpi;
          end else begin
            has_sa_d = 1'b1;
            sequence_d = check_whole_i;
            if (!check_accepted_i) begin
              kind_d = ItemSkip;
              reason_d = ReasonReplayed;
            end else if (malformed_q) begin
              kind_d = ItemSkip;
              reason_d = ReasonMalformedEsp;
            end
          end
        end
      end

      WriteForm: begin
        write = 1'b1;
        state_d = WriteId;
      end

      WriteId: begin
        write = 1'b1;
        state_d = Out;
      end

      default: if (go) state_d = Idle;
    endcase
  end

  // The next one may be on its way when this one goes.
  assign item_room_o = state_q == Idle || (state_q == Out && go);

  always_ff @(posedge clk_i) begin
    kind_q <= kind_d;
    reason_q <= reason_d;
    has_sa_q <= has_sa_d;
    sequence_q <= sequence_d;
    if (state_q == Idle) begin
      sa_q <= item_sa_i;
      item_q <= item_i;
      place_q <= item_place_i;
      beats_q <= item_beats_i;
    end
    if (state_q == Form) begin
      form_q <= word_q;
      body_q <= {1'b0, item_q.esp_end} - {1'b0, item_q.esp_begin} - {1'b0, Around};
    end
    if (state_q == Check) begin
      salt_q <= id.salt;
      // A table entry that is older than the SA here finds it under another SPI.
      port_right_q <= !item_q.udp || item_q.destination_port == form_q.udp_port;
      for (int i = 0; i < 8; i++) spi_right_q[i] <= item_q.spi[4*i+:4] == id.spi[4*i+:4];
      // RFC 4303 §2.4: text and trailer end with a word.
      malformed_q <= body_q[16] || body_q[15:0] == '0 || body_q[1:0] != '0;
    end
    blocked_q <= pending_q && !command_done_i && pending_sa_q == sa_q;
    if (state_q == WriteId) pending_sa_q <= sa_q;
    if (!rst_ni) begin
      state_q <= Idle;
      pending_q <= 1'b0;
    end else begin
      state_q <= state_d;
      if (state_q == WriteId) pending_q <= 1'b1;
      else if (command_done_i) pending_q <= 1'b0;
    end
  end

  logic [15:0] kept;
  assign kept = form_q.transport ? item_q.header : '0;

  always_ff @(posedge clk_i) begin
    if (go) begin
      job_kind_o <= kind_q;
      job_sa_o <= sa_q;
      job_reason_o <= reason_q;
      job_has_sa_o <= has_sa_q;
      job_spi_o <= item_q.spi;
      job_place_o <= place_q;
      job_beats_o <= beats_q;
      job_o <= '{
        transport: form_q.transport,
        esn: form_q.esn,
        key256: form_q.key256,
        generation: form_q.generation,
        salt: salt_q,
        selector_first: form_q.selector_first,
        selector_count: form_q.selector_count,
        v6: item_q.v6,
        ecn: item_q.ecn,
        kept: kept,
        protocol_at: item_q.protocol_at,
        headers: item_q.headers,
        esp_begin: item_q.esp_begin,
        body: body_q[15:0],
        sequence_number: sequence_q
      };
    end
    if (!rst_ni) job_valid_o <= 1'b0;
    else if (go) job_valid_o <= state_q == Out;
    else if (job_ready_i) job_valid_o <= 1'b0;
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && item_valid_i && $time != 0) assert (state_q == Idle) else $error("an item without room for it");
  end
`endif

endmodule
