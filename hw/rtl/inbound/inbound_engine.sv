// The inbound direction: IP packets with ESP in, and what was in them out (RFC 4303 §3.4). Tunnel and transport mode, native
// and in UDP, AES-GCM (RFC 4106).
//
//   packet_intake ─► inbound_lookup ─► inbound_fetch ─► inbound_stream ─► gcm_core ─► inbound_text ─► packet_buffer
//                                            │                               │             │               ▲
//                                     inbound_replay ◄── inbound_verdict ◄───┴─── inbound_inspect     descriptor
//                                                              └───────────────────────────────────────────┘
//
// A packet is in the buffer at the end before its ICV is known, and leaves when inbound_verdict says so.
//
// A command installs an SA or removes it, in order with the packets: all that were taken in before it are of the old
// generation. It stays at the port, with its data, from when it is valid until command_done_o; the next one may follow then.
// After reset nothing is known of any SA: each is removed by a command before packets are let in.

module inbound_engine
  import aes_pkg::*;
  import gcm_pkg::powers;
  import gcm_pkg::slot_t;
  import esp_pkg::*;
  import sa_pkg::*;
  import spi_pkg::*;
  import selector_pkg::*;
  import replay_pkg::*;
  import reason_pkg::*;
  import engine_pkg::*;
  import inbound_pkg::*;
#(
  // How many SAs, at least two.
  parameter int unsigned NSa = 256,
  // Sequence numbers in a replay window, a power of two.
  parameter int unsigned Window = 1024,
  // As gcm_core has them.
  parameter int unsigned Interval = 7,
  parameter sbox_impl_e SboxImpl = SboxTable,
  // Traffic selectors in the pool, and how many an SA has at most.
  parameter int unsigned NSelectors = 512,
  parameter int unsigned MaxPerSa = 8,
  // Bytes of the buffers in front and behind, powers of two, and the longest packet that is taken.
  parameter int unsigned IntakeBytes = 16384,
  parameter int unsigned ReleaseBytes = 16384,
  parameter int unsigned LargestPacket = 9600,
  // Cycles that a beat waits to be taken, after which what has no room behind it is dropped: a power of two.
  parameter int unsigned StallCycles = 2 ** 20,
  // Packets that may wait in front and behind.
  parameter int unsigned IntakeDescriptors = 16,
  parameter int unsigned ReleaseDescriptors = Interval < 7 ? 32 : 16,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned IndexWidth = NSelectors > 1 ? $clog2(NSelectors) : 1,
  localparam int unsigned Powers = powers(Interval),
  localparam int unsigned PowerWidth = Powers > 1 ? $clog2(Powers) : 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  // IP packets with ESP.
  input  beat_t                 s_axis_tdata,
  input  logic [BeatBytes-1:0]  s_axis_tkeep,
  input  logic                  s_axis_tvalid,
  output logic                  s_axis_tready,
  input  logic                  s_axis_tlast,

  // The packets that were in them; beside each the number of its SA.
  output beat_t                 m_axis_tdata,
  output logic [BeatBytes-1:0]  m_axis_tkeep,
  output logic                  m_axis_tvalid,
  input  logic                  m_axis_tready,
  output logic                  m_axis_tlast,
  output logic [SaWidth-1:0]    m_axis_tuser,

  // The SA is what is given here from now on, with its counters at zero and its window empty. Zeros: there is none. Keys
  // are staged before.
  input  logic                  command_valid_i,
  output logic                  command_ready_o,
  input  logic [SaWidth-1:0]    command_sa_i,
  input  inbound_sa_t           command_data_i,
  output logic                  command_done_o,

  // The staging memories of key_unit; addresses rest at 0.
  output logic [3:0]            round_key_addr_o,
  input  block_t                round_key_i,
  output logic [PowerWidth-1:0] power_addr_o,
  input  block_t                power_i,

  // Which SA a packet is for: see spi_lookup.
  input  logic                  op_valid_i,
  output logic                  op_ready_o,
  input  spi_op_e               op_i,
  input  spi_key_t              op_key_i,
  input  logic [SaWidth-1:0]    op_sa_i,
  output logic                  answer_valid_o,
  output spi_answer_e           answer_o,

  // An SA's selectors are written before it is installed, and not while it is.
  input  logic                  selector_write_i,
  input  logic [IndexWidth-1:0] selector_index_i,
  input  selector_t             selector_i,

  // Dropped packets, for one cycle each; both kinds may come in every cycle.
  output logic                  drop_valid_o,
  output drop_t                 drop_o,
  output logic [SaWidth-1:0]    drop_sa_o,
  output logic                  intake_drop_valid_o,
  output drop_t                 intake_drop_o,

  // For one cycle.
  output logic                  events_valid_o,
  output logic [SaWidth-1:0]    events_sa_o,
  output generation_t           events_generation_o,
  output sa_events_t            events_o,

  // An SA's counters, as they are between two packets. A command gives an answer too: those of what it replaces.
  input  logic                  read_valid_i,
  output logic                  read_ready_o,
  input  logic [SaWidth-1:0]    read_sa_i,
  output logic                  read_done_o,
  output sa_usage_t             read_usage_o
);

  localparam int unsigned PlaceWidth = $clog2(IntakeBytes / BeatBytes);
  localparam int unsigned BeatsWidth = PlaceWidth + 1;
  localparam int unsigned RoomWidth = $clog2(ReleaseBytes / BeatBytes) + 1;
  // Between inbound_stream and inbound_verdict: as many as keep the latter busy.
  localparam int unsigned Items = 8;

  if (LargestPacket > ReleaseBytes) begin : gen_too_small
    $error("ReleaseBytes must hold a packet of LargestPacket: it waits there for its verdict");
  end

  // ---- intake

  logic packet_valid, packet_ready, intake_drop;
  ip_header_t packet_header, intake_drop_header;
  logic [PlaceWidth-1:0] packet_place;
  logic [BeatsWidth-1:0] packet_beats;
  reason_e intake_drop_reason;
  logic packet_user, intake_drop_user;
  logic read, free;
  logic [PlaceWidth-1:0] read_place;
  beat_t read_beat;
  logic [BeatsWidth-1:0] free_beats;

  packet_intake #(
    .Bytes(IntakeBytes),
    .LargestPacket(LargestPacket),
    .Descriptors(IntakeDescriptors),
    .UserWidth(1)
  ) u_intake (
    .clk_i,
    .rst_ni,
    .s_axis_tdata,
    .s_axis_tkeep,
    .s_axis_tvalid,
    .s_axis_tready,
    .s_axis_tlast,
    .s_axis_tuser(1'b0),
    .valid_o(packet_valid),
    .ready_i(packet_ready),
    .header_o(packet_header),
    .begin_o(packet_place),
    .beats_o(packet_beats),
    .user_o(packet_user),
    .drop_o(intake_drop),
    .drop_reason_o(intake_drop_reason),
    .drop_header_o(intake_drop_header),
    .drop_user_o(intake_drop_user),
    .read_i(read),
    .read_addr_i(read_place),
    .read_data_o(read_beat),
    .free_i(free),
    .free_beats_i(free_beats)
  );

  always_ff @(posedge clk_i) begin
    intake_drop_valid_o <= rst_ni && intake_drop;
    intake_drop_o <= '{
      direction: Inbound,
      has_sa: 1'b0,
      reason: intake_drop_reason,
      spi: '0,
      sequence_number: '0
    };
  end

  // ---- which SA

  logic found_valid, found_room, found_next;
  item_kind_e found_kind;
  logic [SaWidth-1:0] found_sa;
  received_t found;
  reason_e found_reason;
  logic [PlaceWidth-1:0] found_place;
  logic [BeatsWidth-1:0] found_beats;

  inbound_lookup #(
    .NSa(NSa),
    .PlaceWidth(PlaceWidth)
  ) u_lookup (
    .clk_i,
    .rst_ni,
    .packet_valid_i(packet_valid),
    .packet_ready_o(packet_ready),
    .packet_header_i(packet_header),
    .packet_place_i(packet_place),
    .packet_beats_i(packet_beats),
    .command_valid_i,
    .command_ready_o,
    .command_sa_i,
    .command_done_i(command_done_o),
    .op_valid_i,
    .op_ready_o,
    .op_i,
    .op_key_i,
    .op_sa_i,
    .answer_valid_o,
    .answer_o,
    .item_valid_o(found_valid),
    .item_room_i(found_room),
    .item_next_o(found_next),
    .item_kind_o(found_kind),
    .item_sa_o(found_sa),
    .item_o(found),
    .item_reason_o(found_reason),
    .item_place_o(found_place),
    .item_beats_o(found_beats)
  );

  // ---- what is known of it

  logic check_valid, check_ready, check_esn, check_soon, check_done;
  logic [SaWidth-1:0] check_sa;
  logic [31:0] check_sequence;
  logic replay_valid, replay_ready, replay_done, replay_accepted;
  replay_op_e replay_op;
  logic [SaWidth-1:0] replay_sa;
  logic [63:0] replay_sequence, replay_whole, replay_highest;

  logic job_valid, job_ready, job_has_sa;
  item_kind_e job_kind;
  logic [SaWidth-1:0] job_sa;
  inbound_job_t job;
  reason_e job_reason;
  logic [31:0] job_spi;
  logic [PlaceWidth-1:0] job_place;
  logic [BeatsWidth-1:0] job_beats;

  inbound_fetch #(
    .NSa(NSa),
    .PlaceWidth(PlaceWidth)
  ) u_fetch (
    .clk_i,
    .rst_ni,
    .item_valid_i(found_valid),
    .item_room_o(found_room),
    .item_next_i(found_next),
    .item_kind_i(found_kind),
    .item_sa_i(found_sa),
    .item_i(found),
    .item_reason_i(found_reason),
    .item_place_i(found_place),
    .item_beats_i(found_beats),
    .command_form_i(command_data_i.form),
    .command_id_i(command_data_i.id),
    .command_done_i(command_done_o),
    .check_valid_o(check_valid),
    .check_ready_i(check_ready),
    .check_sa_o(check_sa),
    .check_esn_o(check_esn),
    .check_sequence_o(check_sequence),
    .check_soon_o(check_soon),
    .check_done_i(check_done),
    .check_accepted_i(replay_accepted),
    .check_whole_i(replay_whole),
    .job_valid_o(job_valid),
    .job_ready_i(job_ready),
    .job_kind_o(job_kind),
    .job_sa_o(job_sa),
    .job_o(job),
    .job_reason_o(job_reason),
    .job_has_sa_o(job_has_sa),
    .job_spi_o(job_spi),
    .job_place_o(job_place),
    .job_beats_o(job_beats)
  );

  inbound_replay #(
    .NSa(NSa),
    .Window(Window)
  ) u_replay (
    .clk_i,
    .rst_ni,
    .check_valid_i(check_valid),
    .check_ready_o(check_ready),
    .check_sa_i(check_sa),
    .check_esn_i(check_esn),
    .check_sequence_i(check_sequence),
    .check_soon_i(check_soon),
    .check_done_o(check_done),
    .op_valid_i(replay_valid),
    .op_ready_o(replay_ready),
    .op_i(replay_op),
    .op_sa_i(replay_sa),
    .op_sequence_i(replay_sequence),
    .op_done_o(replay_done),
    .accepted_o(replay_accepted),
    .sequence_o(replay_whole),
    .highest_o(replay_highest)
  );

  // ---- opening

  logic [RoomWidth-1:0] room, reserve_beats;
  logic reserve, stalled;
  logic slot_valid, slot_ready;
  slot_t slot;
  logic [SaWidth-1:0] slot_sa;
  logic item_valid, item_room, plan_valid, part_valid, part_room, icv_valid;
  verdict_item_t item;
  logic [SaWidth-1:0] item_sa;
  text_plan_t plan;
  beat_t part, icv;

  inbound_stream #(
    .SaWidth(SaWidth),
    .PlaceWidth(PlaceWidth),
    .RoomWidth(RoomWidth)
  ) u_stream (
    .clk_i,
    .rst_ni,
    .job_valid_i(job_valid),
    .job_ready_o(job_ready),
    .job_kind_i(job_kind),
    .job_sa_i(job_sa),
    .job_i(job),
    .job_reason_i(job_reason),
    .job_has_sa_i(job_has_sa),
    .job_spi_i(job_spi),
    .job_place_i(job_place),
    .job_beats_i(job_beats),
    .read_o(read),
    .read_place_o(read_place),
    .read_beat_i(read_beat),
    .free_o(free),
    .free_beats_o(free_beats),
    .room_i(room),
    .stalled_i(stalled),
    .reserve_o(reserve),
    .reserve_beats_o(reserve_beats),
    .slot_valid_o(slot_valid),
    .slot_ready_i(slot_ready),
    .slot_o(slot),
    .slot_sa_o(slot_sa),
    .item_valid_o(item_valid),
    .item_room_i(item_room),
    .item_o(item),
    .item_sa_o(item_sa),
    .plan_valid_o(plan_valid),
    .plan_o(plan),
    .part_valid_o(part_valid),
    .part_room_i(part_room),
    .part_o(part),
    .icv_valid_o(icv_valid),
    .icv_o(icv)
  );

  // The cipher takes a slot in one of Interval cycles. Who makes slots learns of it from a register of its own: all its stages
  // move on it.
  logic taken_valid, taken_ready;
  slot_t taken;
  logic [SaWidth-1:0] taken_sa;

  skid_buffer #(
    .Width($bits(slot_t) + SaWidth)
  ) u_slots (
    .clk_i,
    .rst_ni,
    .valid_i(slot_valid),
    .ready_o(slot_ready),
    .data_i({slot, slot_sa}),
    .valid_o(taken_valid),
    .ready_i(taken_ready),
    .data_o({taken, taken_sa})
  );

  logic text_valid, tag_valid, key_done;
  block_t text, tag;
  logic [4:0] text_bytes;

  gcm_core #(
    .NSa(NSa),
    .Interval(Interval),
    .SboxImpl(SboxImpl)
  ) u_cipher (
    .clk_i,
    .rst_ni,
    .slot_ready_o(taken_ready),
    .slot_valid_i(taken_valid),
    .slot_i(taken),
    .slot_sa_i(taken_sa),
    .text_valid_o(text_valid),
    .text_o(text),
    .text_bytes_o(text_bytes),
    .tag_valid_o(tag_valid),
    .tag_o(tag),
    .round_key_addr_o,
    .round_key_i,
    .power_addr_o,
    .power_i,
    .key_done_o(key_done)
  );

  logic write_valid, opened_valid, opened_ready;
  beat_t write_data;
  opened_t opened;

  inbound_text #(
    .Packets(Items)
  ) u_text (
    .clk_i,
    .rst_ni,
    .plan_valid_i(plan_valid),
    .plan_i(plan),
    .part_valid_i(part_valid),
    .part_room_o(part_room),
    .part_i(part),
    .text_valid_i(text_valid),
    .text_i(text),
    .write_valid_o(write_valid),
    .write_data_o(write_data),
    .opened_valid_o(opened_valid),
    .opened_ready_i(opened_ready),
    .opened_o(opened)
  );

  // ---- the verdict

  logic content_valid;
  content_t content;

  inbound_inspect #(
    .NSelectors(NSelectors),
    .MaxPerSa(MaxPerSa)
  ) u_inspect (
    .clk_i,
    .rst_ni,
    .selector_write_i,
    .selector_index_i,
    .selector_i,
    .opened_valid_i(opened_valid),
    .opened_ready_o(opened_ready),
    .opened_i(opened),
    .content_valid_o(content_valid),
    .content_o(content)
  );

  logic descriptor_valid, first_valid;
  logic [RoomWidth-1:0] descriptor_beats;
  length_t descriptor_bytes, patch_at;
  beat_t first;
  logic [1:0][7:0] patch;
  logic [1:0] patch_mask;
  logic [SaWidth-1:0] user;

  inbound_verdict #(
    .NSa(NSa),
    .Items(Items),
    .RoomWidth(RoomWidth)
  ) u_verdict (
    .clk_i,
    .rst_ni,
    .item_valid_i(item_valid),
    .item_room_o(item_room),
    .item_i(item),
    .item_sa_i(item_sa),
    .icv_valid_i(icv_valid),
    .icv_i(icv),
    .tag_valid_i(tag_valid),
    .tag_i(tag),
    .content_valid_i(content_valid),
    .content_i(content),
    .replay_valid_o(replay_valid),
    .replay_ready_i(replay_ready),
    .replay_op_o(replay_op),
    .replay_sa_o(replay_sa),
    .replay_sequence_o(replay_sequence),
    .replay_done_i(replay_done),
    .replay_accepted_i(replay_accepted),
    .replay_highest_i(replay_highest),
    .command_hard_i(command_data_i.hard_limits),
    .command_soft_i(command_data_i.soft_limits),
    .key_done_i(key_done),
    .command_done_o,
    .descriptor_valid_o(descriptor_valid),
    .descriptor_beats_o(descriptor_beats),
    .descriptor_bytes_o(descriptor_bytes),
    .first_valid_o(first_valid),
    .first_o(first),
    .patch_at_o(patch_at),
    .patch_o(patch),
    .patch_mask_o(patch_mask),
    .user_o(user),
    .drop_valid_o,
    .drop_o,
    .drop_sa_o,
    .events_valid_o,
    .events_sa_o,
    .events_generation_o,
    .events_o,
    .read_valid_i,
    .read_ready_o,
    .read_sa_i,
    .read_done_o,
    .read_usage_o
  );

  packet_buffer #(
    .Bytes(ReleaseBytes),
    .Descriptors(ReleaseDescriptors),
    .UserWidth(SaWidth),
    .StallCycles(StallCycles)
  ) u_release (
    .clk_i,
    .rst_ni,
    .reserve_i(reserve),
    .reserve_beats_i(reserve_beats),
    .free_beats_o(room),
    .stalled_o(stalled),
    .write_valid_i(write_valid),
    .write_data_i(write_data),
    .valid_i(descriptor_valid),
    .beats_i(descriptor_beats),
    .bytes_i(descriptor_bytes),
    .first_valid_i(first_valid),
    .first_i(first),
    .patch_at_i(patch_at),
    .patch_i(patch),
    .patch_mask_i(patch_mask),
    .user_i(user),
    .m_axis_tdata,
    .m_axis_tkeep,
    .m_axis_tvalid,
    .m_axis_tready,
    .m_axis_tlast,
    .m_axis_tuser
  );

  // How long a text is, inbound_text knows by itself. What the header of a damaged packet says is not to be relied on.
  logic unused;
  assign unused = ^{text_bytes, packet_user, intake_drop_user, intake_drop_header};

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, command_open_q;
  logic [SaWidth-1:0] command_sa_q;
  inbound_sa_t command_data_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    command_sa_q <= command_sa_i;
    command_data_q <= command_data_i;
    if (!rst_ni || command_done_o) command_open_q <= 1'b0;
    else if (command_valid_i && command_ready_o) command_open_q <= 1'b1;
    if (rst_ni && reset_seen_q && command_open_q && !command_done_o) begin
      assert (command_sa_i == command_sa_q && command_data_i == command_data_q) else $error("a command changed under way");
    end
  end
`endif

endmodule
