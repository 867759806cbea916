// Finds the SA of each received packet (RFC 4303 §3.4.2), and lets commands in between two packets.
//
// From here on packets and commands are one stream: everything in front of a command sees the SA's old generation, and
// everything behind it the new one. One command at a time is under way.
//
// Nine cycles a packet: the table's. A packet that is no ESP, or for no SA, goes on as one to skip, with the reason.

module inbound_lookup
  import esp_pkg::*;
  import spi_pkg::*;
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

  // A whole, well-formed packet from packet_intake.
  input  logic                  packet_valid_i,
  output logic                  packet_ready_o,
  input  ip_header_t            packet_header_i,
  input  logic [PlaceWidth-1:0] packet_place_i,
  input  logic [BeatsWidth-1:0] packet_beats_i,

  // A command for an SA, taken when ready, and over with command_done_i: the next one waits for that.
  input  logic                  command_valid_i,
  output logic                  command_ready_o,
  input  logic [SaWidth-1:0]    command_sa_i,
  input  logic                  command_done_i,

  // Changes of the table: see spi_lookup.
  input  logic                  op_valid_i,
  output logic                  op_ready_o,
  input  spi_op_e               op_i,
  input  spi_key_t              op_key_i,
  input  logic [SaWidth-1:0]    op_sa_i,
  output logic                  answer_valid_o,
  output spi_answer_e           answer_o,

  // What goes on, in order. A packet to skip has a reason; its SPI and number are zero if it is no ESP.
  // One that has room for it keeps that until it comes. None comes in the cycle behind an item.
  output logic                  item_valid_o,
  input  logic                  item_room_i,
  // It comes in the next cycle.
  output logic                  item_next_o,
  output item_kind_e            item_kind_o,
  output logic [SaWidth-1:0]    item_sa_o,
  output received_t             item_o,
  output reason_e               item_reason_o,
  output logic [PlaceWidth-1:0] item_place_o,
  output logic [BeatsWidth-1:0] item_beats_o
);

  if (NSa < 2) begin : gen_bad_nsa
    $error("NSa is at least 2");
  end

  typedef enum logic [1:0] {
    Empty,
    Ask,
    Wait,
    Give
  } state_e;
  state_e state_q, state_d;

  logic command_busy_q;
  // An item leaves in this cycle; the next one is taken, with as many registers.
  logic give_q, give_d, take_q, take_command, take_packet;
  logic lookup_ready, found_valid, found;
  logic [SaWidth-1:0] found_sa;
  spi_key_t key_q;
  logic has_esp_q;

  // The next one is taken when the one before leaves, which is known a cycle ahead.
  assign take_command = take_q && command_valid_i && !command_busy_q;
  assign take_packet = take_q && packet_valid_i && !take_command;
  assign command_ready_o = take_q && !command_busy_q;
  assign packet_ready_o = take_q && !(command_valid_i && !command_busy_q);
  assign give_d = item_room_i && ((state_q == Wait && found_valid) || (state_q == Give && !give_q));

  always_comb begin
    state_d = state_q;
    unique case (state_q)
      Ask: begin
        if (!has_esp_q) state_d = Give;
        else if (lookup_ready) state_d = Wait;
      end
      Wait: if (found_valid) state_d = Give;
      default: begin
        if (take_q) state_d = Empty;
        if (take_command) state_d = Give;
        if (take_packet) state_d = Ask;
      end
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (take_q) begin
      item_sa_o <= command_sa_i;
      item_o <= '{
        v6: packet_header_i.v6,
        udp: packet_header_i.protocol == Udp,
        destination_port: packet_header_i.destination_port,
        ecn: packet_header_i.traffic_class[1:0],
        header: packet_header_i.upper_at,
        protocol_at: packet_header_i.upper_protocol_at,
        headers: packet_header_i.headers,
        esp_begin: packet_header_i.esp_begin,
        esp_end: packet_header_i.esp_end,
        spi: packet_header_i.has_esp ? packet_header_i.spi : '0,
        sequence_low: packet_header_i.has_esp ? packet_header_i.sequence_low : '0
      };
      item_place_o <= packet_place_i;
      item_beats_o <= packet_beats_i;
      // RFC 4303 §3.4.1: what ESP receives was reassembled.
      item_reason_o <= packet_header_i.fragment ? ReasonEspFragment : ReasonMalformedEsp;
      item_kind_o <= take_command ? ItemCommand : ItemSkip;
      has_esp_q <= packet_header_i.has_esp;
      key_q <= '{
        v6: packet_header_i.v6,
        destination: packet_header_i.destination,
        spi: packet_header_i.spi
      };
    end
    if (state_q == Wait && found_valid) begin
      item_sa_o <= found_sa;
      item_reason_o <= ReasonUnknownSpi;
      if (found) item_kind_o <= ItemPacket;
    end
    if (!rst_ni) begin
      state_q <= Empty;
      give_q <= 1'b0;
      take_q <= 1'b1;
      command_busy_q <= 1'b0;
    end else begin
      state_q <= state_d;
      give_q <= give_d;
      take_q <= give_d || (take_q && !take_command && !take_packet);
      if (take_command) command_busy_q <= 1'b1;
      else if (command_done_i) command_busy_q <= 1'b0;
    end
  end

  assign item_valid_o = give_q;
  assign item_next_o = give_d;

  spi_lookup #(
    .NSa(NSa)
  ) u_table (
    .clk_i,
    .rst_ni,
    .lookup_valid_i(state_q == Ask && has_esp_q),
    .lookup_ready_o(lookup_ready),
    .lookup_key_i  (key_q),
    .found_valid_o (found_valid),
    .found_o       (found),
    .found_sa_o    (found_sa),
    .op_valid_i,
    .op_ready_o,
    .op_i,
    .op_key_i,
    .op_sa_i,
    .answer_valid_o,
    .answer_o
  );

endmodule
