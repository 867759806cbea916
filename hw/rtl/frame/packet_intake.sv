// Takes packets from AXI4-Stream whole and gives a descriptor for each good one; a bad one leaves nothing but its drop.
//
// Beats run through a delay of as many cycles as the parser needs, so that a packet's headers are known in the cycle in
// which its last beat is stored, and before the next packet's first: to drop is to move the write pointer back.
//
// What is good: an IP packet whose headers hold, with as many bytes as it says, or more, which are padding of the link:
// they are cut. What is dropped, with which reason:
//
//   ReasonTooBig       more than LargestPacket bytes, with padding; a missing tlast comes to the same. At the end of it
//   ReasonMalformedIp  malformed headers; truncated; tkeep with holes, empty, or not full in a beat before the last
//
// A packet is never half taken: s_axis_tready waits for room in the buffer and among the descriptors. It is a register, so
// what comes free is seen a cycle or two later. A packet's beats
// past LargestPacket are taken and forgotten whether there is room or not, so nothing that comes can stop the stream.
//
// Reset forgets all packets. The first beat after it begins a packet: as AXI has it, the sender is reset with the
// receiver (ARM IHI 0051, one ARESETn) and begins with one. s_axis_tready is low until the cycle after reset.

module packet_intake
  import esp_pkg::*;
  import reason_pkg::*;
#(
  // Bytes of the buffer: a power of two, and LargestPacket at least.
  parameter int unsigned Bytes = 32768,
  // The longest packet that is taken, in bytes with padding of the link: 9,216 of a jumbo frame and what a tunnel adds.
  parameter int unsigned LargestPacket = 9600,
  // Packets that wait for their reader or are coming in: with 5 the shortest follow one another without a wait.
  parameter int unsigned Descriptors = 16,
  // Bits of tuser, taken from a packet's first beat.
  parameter int unsigned UserWidth = 1,
  localparam int unsigned Beats = Bytes / BeatBytes,
  localparam int unsigned AddrWidth = $clog2(Beats),
  localparam int unsigned CountWidth = $clog2(Beats + 1)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  input  beat_t                 s_axis_tdata,
  input  logic [BeatBytes-1:0]  s_axis_tkeep,
  input  logic                  s_axis_tvalid,
  output logic                  s_axis_tready,
  input  logic                  s_axis_tlast,
  input  logic [UserWidth-1:0]  s_axis_tuser,

  // A good packet: where its first beat is, and how many beats it has (its total_length, rounded up).
  output logic                  valid_o,
  input  logic                  ready_i,
  output ip_header_t            header_o,
  output logic [AddrWidth-1:0]  begin_o,
  output logic [CountWidth-1:0] beats_o,
  output logic [UserWidth-1:0]  user_o,

  // A bad packet, for one cycle and not registered. What its header says means nothing if that is malformed.
  output logic                  drop_o,
  output reason_e               drop_reason_o,
  output ip_header_t            drop_header_o,
  output logic [UserWidth-1:0]  drop_user_o,

  // Data one cycle later, held while read_i is low.
  input  logic                  read_i,
  input  logic [AddrWidth-1:0]  read_addr_i,
  output beat_t                 read_data_o,
  // So many beats are not needed any more, the oldest first: never more than those of descriptors that were taken.
  input  logic                  free_i,
  input  logic [CountWidth-1:0] free_beats_i
);

  localparam int unsigned LargestBeats = (LargestPacket + BeatBytes - 1) / BeatBytes;
  localparam int unsigned SlotWidth = $clog2(Descriptors + 1);
  // Of ip_parser, from a packet's last beat to its header.
  localparam int unsigned Delay = 5;

  if (Bytes < 2 * BeatBytes || Bytes != 2 ** $clog2(Bytes)) begin : gen_bad_size
    $error("Bytes must be a power of two, 32 at least");
  end
  if (LargestPacket > Bytes) begin : gen_too_small
    $error("Bytes must hold a packet of LargestPacket: it is taken whole");
  end
  if (LargestPacket < 20 || LargestPacket > 65535) begin : gen_bad_packet
    $error("LargestPacket must be from 20 to 65535");
  end
  if (Descriptors < 2) begin : gen_few_descriptors
    $error("Descriptors must be at least 2");
  end
  if (UserWidth < 1) begin : gen_no_user
    $error("UserWidth must be at least 1");
  end

  typedef logic [AddrWidth-1:0] addr_t;
  typedef logic [CountWidth-1:0] count_t;

  // ---- the stream's end: who may come in

  logic ready_q;
  logic first_q;  // the next beat begins a packet
  logic over_q;  // the next beat is behind LargestBeats of its packet
  count_t length_q;  // beats of the packet that were taken, up to LargestBeats
  count_t taken_q;  // beats of the buffer that are stored or will be
  logic [SlotWidth-1:0] slots_q;  // packets that have a descriptor or will have
  logic accept, store, begins;
  logic first_d, over_d, room, place;

  assign s_axis_tready = ready_q;
  assign begins = accept && first_q;
  assign accept = s_axis_tvalid && ready_q;
  assign store = accept && !over_q;

  // Whether there is room for the next beat, behind the one that is taken now; what comes free now is not counted yet.
  assign first_d = accept ? s_axis_tlast : first_q;
  assign over_d = accept ? !s_axis_tlast && (over_q || (!first_q && length_q == count_t'(LargestBeats - 1))
      || LargestBeats == 1) : over_q;
  assign room = taken_q != count_t'(Beats) && !(store && taken_q == count_t'(Beats - 1));
  assign place = slots_q != SlotWidth'(Descriptors) && !(begins && slots_q == SlotWidth'(Descriptors - 1));

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      ready_q <= 1'b0;
      first_q <= 1'b1;
      over_q <= 1'b0;
    end else begin
      ready_q <= over_d || (room && (place || !first_d));
      first_q <= first_d;
      over_q <= over_d;
    end
  end

  always_ff @(posedge clk_i) begin
    if (accept) length_q <= first_q ? count_t'(1) : length_q + 1'b1;
  end

  // ---- the delay

  typedef struct packed {
    logic                 first;
    logic                 last;
    logic                 store;
    logic [UserWidth-1:0] user;
    beat_t                data;
  } item_t;

  logic [Delay:1] valid_q;
  item_t [Delay:1] item_q;
  logic [BeatBytes-1:0] keep1_q;
  // Of the second stage and of the third.
  logic keep_right_d, keep_right_q;
  logic [4:0] bytes_d, bytes_q;
  logic right_q;
  logic [4:0] valid_bytes_q;
  length_t total_d;  // of a packet, by its own header

  // tkeep is a run of ones from bit 0; adding one to such a run carries out of it.
  always_comb begin
    keep_right_d = keep1_q[0] && (keep1_q & (keep1_q + 1'b1)) == '0 && (item_q[1].last || (&keep1_q));
    bytes_d = '0;
    for (int i = 0; i < int'(BeatBytes); i++) if (keep1_q[i]) bytes_d = 5'(i + 1);
  end

  always_ff @(posedge clk_i) begin
    valid_q <= rst_ni ? {valid_q[Delay-1:1], accept} : '0;
  end

  always_ff @(posedge clk_i) begin
    keep1_q <= s_axis_tkeep;
    keep_right_q <= keep_right_d;
    bytes_q <= bytes_d;
    right_q <= keep_right_q;
    valid_bytes_q <= bytes_q;
    item_q[1] <= '{first: first_q, last: s_axis_tlast, store: store, user: s_axis_tuser, data: s_axis_tdata};
    item_q[Delay:2] <= item_q[Delay-1:1];
  end

  ip_header_t header;
  logic header_valid;

  ip_parser u_parser (
    .clk_i,
    .rst_ni,
    .valid_i (accept),
    .last_i  (s_axis_tlast),
    .data_i  (s_axis_tdata),
    .upper_first_i(1'b0),
    .valid_o (header_valid),
    .header_o(header)
  );

  // ---- counting, two cycles before the verdict

  logic begins_packet;  // the beat that is coming does
  count_t in_front;  // beats of the packet that are stored in front of it
  logic [3:0] version;
  logic [15:0] v4_length, v6_length;  // from the beat that is coming
  // Of the beat that counts now: its place in the packet, and how many are stored with it.
  addr_t place4_q;
  count_t stored4_q;
  logic wrong4_q;  // a tkeep was not right
  logic over4_q;  // a beat was not stored
  logic [16:0] bytes4_q;  // right if nothing is wrong, and used only then
  length_t total4_q;  // by its header
  logic [UserWidth-1:0] user4_q;

  assign version = item_q[Delay-2].data[7:4];
  assign v4_length = {item_q[Delay-2].data[23:16], item_q[Delay-2].data[31:24]};
  assign v6_length = {item_q[Delay-2].data[39:32], item_q[Delay-2].data[47:40]};
  assign begins_packet = item_q[Delay-2].first;
  assign in_front = begins_packet ? '0 : stored4_q;

  // What ip_parser says too, but later: what it is compared with is known already.
  assign total_d = version == 4'd6 ? v6_length + 16'd40 : v4_length;

  always_ff @(posedge clk_i) begin
    if (valid_q[Delay-2]) begin
      place4_q <= addr_t'(in_front);
      stored4_q <= in_front + count_t'(item_q[Delay-2].store);
      wrong4_q <= (!begins_packet && wrong4_q) || !right_q;
      over4_q <= (!begins_packet && over4_q) || !item_q[Delay-2].store;
      bytes4_q <= 17'({in_front, 4'd0}) + 17'(valid_bytes_q);
      if (begins_packet) total4_q <= total_d;
      if (begins_packet) user4_q <= item_q[Delay-2].user;
    end
  end

  // ---- comparing, a cycle before

  addr_t place_q;
  count_t stored_q, kept_q;
  logic too_big_q, wrong_q;
  logic [UserWidth-1:0] user_q;

  always_ff @(posedge clk_i) begin
    place_q <= place4_q;
    stored_q <= stored4_q;
    kept_q <= count_t'((17'(total4_q) + 17'd15) >> 4);
    too_big_q <= over4_q || bytes4_q > 17'(LargestPacket);
    wrong_q <= wrong4_q || {1'b0, total4_q} > bytes4_q;
    user_q <= user4_q;
  end

  // ---- storing, and the verdict

  logic valid;
  addr_t base_q;  // where the packet that is being stored begins

  assign valid = valid_q[Delay];

  logic decide, good;
  assign decide = valid && item_q[Delay].last;
  assign good = decide && !too_big_q && !wrong_q && !header.malformed;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) base_q <= '0;
    else if (good) base_q <= base_q + addr_t'(kept_q);
  end

  ram_1r1w #(
    .Width(8 * BeatBytes),
    .Depth(Beats),
    .ReadOld(1'b0)
  ) u_ram (
    .clk_i,
    .write_i     (valid && item_q[Delay].store),
    .write_addr_i(base_q + place_q),
    .write_data_i(item_q[Delay].data),
    .read_i,
    .read_addr_i,
    .read_data_o
  );

  // ---- what came back: from beats cut and dropped, and from the reader

  count_t returned_q, freed_q;
  logic drop_q, pop_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      returned_q <= '0;
      freed_q <= '0;
      drop_q <= 1'b0;
      pop_q <= 1'b0;
      taken_q <= '0;
      slots_q <= '0;
    end else begin
      returned_q <= good ? stored_q - kept_q : decide ? stored_q : '0;
      freed_q <= free_i ? free_beats_i : '0;
      drop_q <= drop_o;
      pop_q <= valid_o && ready_i;
      taken_q <= taken_q + count_t'(store) - returned_q - freed_q;
      slots_q <= slots_q + SlotWidth'(begins) - SlotWidth'(drop_q) - SlotWidth'(pop_q);
    end
  end

  // ---- what goes out

  typedef struct packed {
    ip_header_t           header;
    addr_t                first;
    count_t               beats;
    logic [UserWidth-1:0] user;
  } descriptor_t;

  descriptor_t made, offered;
  logic fifo_ready;
  logic [SlotWidth-1:0] fifo_count;
  assign made = '{header: header, first: base_q, beats: kept_q, user: user_q};

  fifo #(
    .Width($bits(descriptor_t)),
    .Depth(Descriptors)
  ) u_descriptors (
    .clk_i,
    .rst_ni,
    .valid_i(good),
    .ready_o(fifo_ready),
    .data_i (made),
    .valid_o,
    .ready_i,
    .data_o (offered),
    .count_o(fifo_count)
  );

  assign header_o = offered.header;
  assign begin_o = offered.first;
  assign beats_o = offered.beats;
  assign user_o = offered.user;

  assign drop_o = decide && !good;
  assign drop_reason_o = too_big_q ? ReasonTooBig : ReasonMalformedIp;
  assign drop_header_o = header;
  assign drop_user_o = user_q;

`ifndef SYNTHESIS
  logic stalled_q, tlast_q;
  beat_t tdata_q;
  logic [BeatBytes-1:0] tkeep_q;
  logic [UserWidth-1:0] tuser_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && s_axis_tvalid && !s_axis_tready;
    {tdata_q, tkeep_q, tlast_q, tuser_q} <= {s_axis_tdata, s_axis_tkeep, s_axis_tlast, s_axis_tuser};
    if (rst_ni && $time != 0) begin
      assert (header_valid == decide) else $error("the delay is not the parser's");
      assert (!good || 32'(kept_q) == (32'(header.total_length) + 15) >> 4) else $error("the length is not the parser's");
      assert (!good || fifo_ready) else $error("no place for a descriptor: %0d inside", fifo_count);
      assert (32'(taken_q) <= Beats) else $error("more beats are taken than there are");
      assert (!(valid && item_q[Delay].store) || stored_q <= taken_q) else $error("a beat is stored that was not counted");
      assert (!free_i || 32'(free_beats_i) <= 32'(taken_q)) else $error("more beats are freed than are taken");
      if (stalled_q) begin
        assert (s_axis_tvalid && {tdata_q, tkeep_q, tlast_q, tuser_q} ==
            {s_axis_tdata, s_axis_tkeep, s_axis_tlast, s_axis_tuser})
        else $error("s_axis changed while it waited");
      end
    end
  end
`endif

endmodule
