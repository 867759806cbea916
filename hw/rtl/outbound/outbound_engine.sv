// The outbound direction: IP packets in, each with the SA that protects it, ESP packets out (RFC 4303 §3.3).
//
//   packet_intake ─► outbound_fetch ─► outbound_header, outbound_stream ─► gcm_core ─► outbound_assemble ─► packet_buffer
//
// Packets leave in the order in which they came. A command goes through all of it among them (hw/README.md): packets in
// front of it are made with what the SA was before, those behind it with what it is then.

module outbound_engine
  import esp_pkg::*;
  import aes_pkg::*;
  import gcm_pkg::*;
  import sa_pkg::*;
  import outbound_pkg::*;
  import engine_pkg::*;
  import reason_pkg::*;
#(
  // SAs: a power of two, 2 at least.
  parameter int unsigned NSa = 1024,
  // Cycles between two blocks: 1, 2, 7 or 14.
  parameter int unsigned Interval = 7,
  // How the S-boxes are built.
  parameter sbox_impl_e SboxImpl = SboxTable,
  // Bytes of the two frame buffers: powers of two.
  parameter int unsigned IntakeBytes = 32768,
  parameter int unsigned BufferBytes = 32768,
  // The longest packet that is taken, and the longest that is made, in bytes.
  parameter int unsigned LargestPacket = 9600,
  parameter int unsigned LargestOuter = 9728,
  // Cycles that a beat waits to be taken, after which what has no room behind it is dropped: a power of two.
  parameter int unsigned StallCycles = 2 ** 20,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned Powers = powers(Interval),
  localparam int unsigned PowerWidth = Powers > 1 ? $clog2(Powers) : 1,
  localparam int unsigned UserWidth = $bits(generation_t) + SaWidth
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  // Sequence numbers left at which the owner of an SA is told.
  input  logic [31:0]           headroom_i,

  // IP packets. tuser of the first beat: the generation and the number of the SA, {generation_t, SA}.
  input  beat_t                 s_axis_tdata,
  input  logic [BeatBytes-1:0]  s_axis_tkeep,
  input  logic                  s_axis_tvalid,
  output logic                  s_axis_tready,
  input  logic                  s_axis_tlast,
  input  logic [UserWidth-1:0]  s_axis_tuser,

  // ESP packets with their outer header. tuser: the number of the SA.
  output beat_t                 m_axis_tdata,
  output logic [BeatBytes-1:0]  m_axis_tkeep,
  output logic                  m_axis_tvalid,
  input  logic                  m_axis_tready,
  output logic                  m_axis_tlast,
  output logic [SaWidth-1:0]    m_axis_tuser,

  // A command: the SA is what is given here from now on, with its counters at zero and the keys that are staged. Zeros,
  // with zeros staged: there is none. The next command comes after command_done_o.
  input  logic                  command_valid_i,
  output logic                  command_ready_o,
  input  logic [SaWidth-1:0]    command_sa_i,
  input  outbound_sa_t          command_data_i,
  // It has left the last stage: nothing of what was before is anywhere.
  output logic                  command_done_o,

  // The staged keys (key_unit).
  output logic [3:0]            round_key_addr_o,
  input  block_t                round_key_i,
  output logic [PowerWidth-1:0] power_addr_o,
  input  block_t                power_i,

  // Packets that are dropped, each for a cycle: behind the intake, and in it.
  output logic                  drop_valid_o,
  output drop_t                 drop_o,
  output logic [SaWidth-1:0]    drop_sa_o,
  output logic                  intake_drop_valid_o,
  output drop_t                 intake_drop_o,
  output logic [SaWidth-1:0]    intake_drop_sa_o,

  // For one cycle.
  output logic                  events_valid_o,
  output logic [SaWidth-1:0]    events_sa_o,
  output generation_t           events_generation_o,
  output sa_events_t            events_o,

  // The counters of an SA. The answer stays until the next request. A command gives one too: those of what it replaces.
  input  logic                  read_valid_i,
  output logic                  read_ready_o,
  input  logic [SaWidth-1:0]    read_sa_i,
  output logic                  read_done_o,
  output sa_usage_t             read_usage_o
);

  if (NSa < 2 || NSa != 2 ** SaWidth) begin : gen_bad_nsa
    $error("NSa must be a power of two, 2 at least");
  end
  if (LargestOuter > BufferBytes) begin : gen_small_buffer
    $error("BufferBytes must hold a packet of LargestOuter bytes");
  end

  localparam int unsigned PlaceWidth = $clog2(IntakeBytes / BeatBytes);
  localparam int unsigned IntakeCount = $clog2(IntakeBytes / BeatBytes + 1);
  localparam int unsigned BufferCount = $clog2(BufferBytes / BeatBytes + 1);
  // Packets between outbound_stream and the end: as many as a cipher of 22 cycles and queues can hold of the shortest.
  localparam int unsigned Packets = 8;
  // Blocks that wait to be put together: those that come out of the cipher while the packet in front gets its ICV, and as many
  // as may be there already. A queue of 16 is the smallest that LUT RAM makes.
  localparam int unsigned TextDepth = Interval < 7 ? 64 : 16;
  // Packets whose end has not left, of the shortest.
  localparam int unsigned Descriptors = Interval < 7 ? 32 : 16;

  // ---- packets, whole

  logic packet_valid, packet_ready;
  ip_header_t packet_header;
  logic [PlaceWidth-1:0] packet_place;
  logic [IntakeCount-1:0] packet_beats;
  logic [UserWidth-1:0] packet_user;

  logic intake_drop;
  reason_e intake_reason;
  ip_header_t intake_header;
  logic [UserWidth-1:0] intake_user;

  logic intake_read, intake_free;
  logic [PlaceWidth-1:0] intake_place;
  beat_t intake_beat;
  logic [12:0] intake_free_beats;

  packet_intake #(
    .Bytes(IntakeBytes),
    .LargestPacket(LargestPacket),
    .UserWidth(UserWidth)
  ) u_intake (
    .clk_i,
    .rst_ni,
    .s_axis_tdata,
    .s_axis_tkeep,
    .s_axis_tvalid,
    .s_axis_tready,
    .s_axis_tlast,
    .s_axis_tuser,
    .valid_o(packet_valid),
    .ready_i(packet_ready),
    .header_o(packet_header),
    .begin_o(packet_place),
    .beats_o(packet_beats),
    .user_o(packet_user),
    .drop_o(intake_drop),
    .drop_reason_o(intake_reason),
    .drop_header_o(intake_header),
    .drop_user_o(intake_user),
    .read_i(intake_read),
    .read_addr_i(intake_place),
    .read_data_o(intake_beat),
    .free_i(intake_free),
    .free_beats_i(IntakeCount'(intake_free_beats))
  );

  always_ff @(posedge clk_i) begin
    intake_drop_valid_o <= rst_ni && intake_drop;
    intake_drop_o <= '{direction: Outbound, has_sa: 1'b1, reason: intake_reason, spi: '0, sequence_number: '0};
    intake_drop_sa_o <= intake_user[SaWidth-1:0];
  end

  // ---- their SAs

  logic job_valid, job_ready;
  job_kind_e job_kind;
  logic [SaWidth-1:0] job_sa;
  outbound_job_t job;
  logic [PlaceWidth-1:0] job_place;
  logic fetch_drop;
  reason_e drop_reason;
  logic [SaWidth-1:0] drop_sa;
  logic [31:0] drop_spi;
  logic [63:0] drop_sequence, read_sequence;
  counter_t read_packets, read_bytes;

  outbound_fetch #(
    .NSa(NSa),
    .MaxPacket(LargestOuter),
    .TagWidth(PlaceWidth)
  ) u_fetch (
    .clk_i,
    .rst_ni,
    .headroom_i,
    .packet_valid_i(packet_valid),
    .packet_ready_o(packet_ready),
    .packet_header_i(packet_header),
    .packet_sa_i(packet_user[SaWidth-1:0]),
    .packet_generation_i(packet_user[UserWidth-1:SaWidth]),
    .packet_tag_i(packet_place),
    .command_valid_i,
    .command_ready_o,
    .command_sa_i,
    .command_data_i,
    .job_valid_o(job_valid),
    .job_ready_i(job_ready),
    .job_kind_o(job_kind),
    .job_sa_o(job_sa),
    .job_o(job),
    .job_tag_o(job_place),
    .drop_valid_o(fetch_drop),
    .drop_reason_o(drop_reason),
    .drop_sa_o(drop_sa),
    .drop_spi_o(drop_spi),
    .drop_sequence_o(drop_sequence),
    .events_valid_o,
    .events_sa_o,
    .events_generation_o,
    .events_o,
    .read_valid_i,
    .read_ready_o,
    .read_sa_i,
    .read_done_o,
    .read_sequence_o(read_sequence),
    .read_packets_o(read_packets),
    .read_bytes_o(read_bytes)
  );

  assign read_usage_o = '{
    sequence_number: read_sequence,
    packets: read_packets,
    bytes: read_bytes,
    replayed: '0,
    integrity_failures: '0
  };

  // ---- their headers

  logic head_valid, head_ready, head_job_ready;
  outbound_head_t head;

  outbound_header u_header (
    .clk_i,
    .rst_ni,
    .job_valid_i(job_valid && job_kind == JobPacket),
    .job_ready_o(head_job_ready),
    .job_i(job),
    .head_valid_o(head_valid),
    .head_ready_i(head_ready),
    .head_o(head)
  );

  // ---- slots for the cipher

  logic slot_valid, slot_ready;
  slot_t slot;
  logic [SaWidth-1:0] slot_sa;
  logic text_room, part_valid, part_room, assembly_valid, assembly_room;
  head_part_t part;
  assembly_t assembly;
  logic reserve;
  logic [BufferCount-1:0] room, reserve_beats;
  logic stalled, jammed;

  outbound_stream #(
    .SaWidth(SaWidth),
    .PlaceWidth(PlaceWidth),
    .RoomWidth(BufferCount)
  ) u_stream (
    .clk_i,
    .rst_ni,
    .job_valid_i(job_valid),
    .job_ready_o(job_ready),
    .job_kind_i(job_kind),
    .job_sa_i(job_sa),
    .job_i(job),
    .job_place_i(job_place),
    .head_valid_i(head_valid),
    .head_ready_o(head_ready),
    .head_i(head),
    .read_o(intake_read),
    .read_place_o(intake_place),
    .read_beat_i(intake_beat),
    .free_o(intake_free),
    .free_beats_o(intake_free_beats),
    .room_i(room),
    .stalled_i(stalled),
    .reserve_o(reserve),
    .reserve_beats_o(reserve_beats),
    .drop_o(jammed),
    .text_room_i(text_room),
    .slot_valid_o(slot_valid),
    .slot_ready_i(slot_ready),
    .slot_o(slot),
    .slot_sa_o(slot_sa),
    .part_valid_o(part_valid),
    .part_o(part),
    .part_room_i(part_room),
    .assembly_valid_o(assembly_valid),
    .assembly_o(assembly),
    .assembly_room_i(assembly_room)
  );

  // What outbound_fetch drops is told at once. What outbound_stream drops comes next: both are nine cycles apart.
  logic jam_told_q;
  drop_t jam_q;
  logic [SaWidth-1:0] jam_sa_q;

  always_ff @(posedge clk_i) begin
    jam_told_q <= rst_ni && (jammed || (jam_told_q && fetch_drop));
    if (jammed) begin
      jam_q <= '{
        direction: Outbound,
        has_sa: 1'b1,
        reason: ReasonQueueFull,
        spi: job.id.spi,
        sequence_number: job.sequence_number
      };
      jam_sa_q <= job_sa;
    end
  end

  assign drop_valid_o = fetch_drop || jam_told_q;
  assign drop_sa_o = fetch_drop ? drop_sa : jam_sa_q;
  assign drop_o = fetch_drop ? '{
    direction: Outbound,
    has_sa: 1'b1,
    reason: drop_reason,
    spi: drop_spi,
    sequence_number: drop_sequence
  } : jam_q;

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

  logic text_valid, tag_valid;
  block_t text, tag;
  logic [4:0] text_bytes;

  gcm_core #(
    .NSa(NSa),
    .Interval(Interval),
    .SboxImpl(SboxImpl)
  ) u_gcm (
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
    .key_done_o(command_done_o)
  );

  // ---- what leaves

  logic write_valid, descriptor_valid;
  beat_t write_data;
  logic [BufferCount-1:0] descriptor_beats;
  length_t descriptor_bytes, patch_at;
  logic [1:0][7:0] patch;
  logic [1:0] patch_mask;

  outbound_assemble #(
    .TextDepth(TextDepth),
    .TextMargin(TextDepth / 2),
    .Packets(Packets),
    .BeatsWidth(BufferCount)
  ) u_assemble (
    .clk_i,
    .rst_ni,
    .assembly_valid_i(assembly_valid),
    .assembly_room_o(assembly_room),
    .assembly_i(assembly),
    .part_valid_i(part_valid),
    .part_room_o(part_room),
    .part_i(part),
    .text_valid_i(text_valid),
    .text_i(text),
    .text_room_o(text_room),
    .tag_valid_i(tag_valid),
    .tag_i(tag),
    .write_valid_o(write_valid),
    .write_data_o(write_data),
    .descriptor_valid_o(descriptor_valid),
    .descriptor_beats_o(descriptor_beats),
    .descriptor_bytes_o(descriptor_bytes),
    .patch_at_o(patch_at),
    .patch_o(patch),
    .patch_mask_o(patch_mask)
  );

  // The SA of a packet goes beside outbound_assemble, which is not concerned.
  logic [SaWidth-1:0] descriptor_sa;
  logic sa_ready, sa_valid;
  logic [$clog2(Packets+1)-1:0] sa_count;

  fifo #(
    .Width(SaWidth),
    .Depth(Packets)
  ) u_sas (
    .clk_i,
    .rst_ni,
    .valid_i(assembly_valid),
    .ready_o(sa_ready),
    .data_i(job_sa),
    .valid_o(sa_valid),
    .ready_i(descriptor_valid),
    .data_o(descriptor_sa),
    .count_o(sa_count)
  );

  packet_buffer #(
    .Bytes(BufferBytes),
    .Descriptors(Descriptors),
    .UserWidth(SaWidth),
    .StallCycles(StallCycles)
  ) u_buffer (
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
    .first_valid_i(1'b0),
    .first_i('0),
    .patch_at_i(patch_at),
    .patch_i(patch),
    .patch_mask_i(patch_mask),
    .user_i(descriptor_sa),
    .m_axis_tdata,
    .m_axis_tkeep,
    .m_axis_tvalid,
    .m_axis_tready,
    .m_axis_tlast,
    .m_axis_tuser
  );

  // What is not needed here: an intake's header when it drops, counts for proofs, text's length (it is known).
  logic unused;
  assign unused = ^{packet_beats, intake_header, intake_user, intake_free_beats, head_job_ready, text_bytes, sa_ready, sa_valid, sa_count};

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    if (rst_ni && reset_seen_q) begin
      assert (!assembly_valid || sa_ready) else $error("no place for the SA of a packet");
      assert (!jammed || !(jam_told_q && fetch_drop)) else $error("two drops wait to be told");
      assert (!descriptor_valid || sa_valid) else $error("a descriptor of a packet that was not begun");
      assert (!job_valid || job_kind != JobPacket || head_job_ready == job_ready)
      else $error("the header and the stream do not take a job together");
    end
  end
`endif

endmodule
