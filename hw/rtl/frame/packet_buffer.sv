// The gate that packets leave by: beats wait in a ring until a descriptor says what of them goes out.
//
// Beats are appended in order, packet after packet, and descriptors come in the same order: before a packet's beats
// (they leave as they come), among them or behind them. No byte leaves without its descriptor, and none of a packet
// whose descriptor says so. Nothing stops those who write: a packet is reserved for before it is begun, as many beats
// as it may have, and is begun only if free_beats_o says that there is room; what it did not need comes back with its
// descriptor. Room counts in descriptors too: free_beats_o is zero while none is left.
//
// A beat that nobody took for StallCycles cycles tells that nobody takes any: stalled_o, until it is taken. What cannot be
// reserved for then may be dropped in front, where it would hold up all that is behind it.
//
// On the way out a packet can be edited: another first beat, and then two bytes anywhere, each or none of them.
//
// From a beat's write to m_axis_tvalid it is 4 cycles, and from a descriptor's as many. Beats leave without a gap, and
// so do packets behind one another, but that one whose rest is not written yet when its last byte leaves waits for it,
// and one that is dropped whole takes a cycle.

module packet_buffer
  import esp_pkg::*;
#(
  // Bytes of the buffer: a power of two.
  parameter int unsigned Bytes = 32768,
  // Packets that may be reserved for or wait to leave, at the same time.
  parameter int unsigned Descriptors = 32,
  // Bits of tuser; a packet's is in its descriptor and stands beside all its beats.
  parameter int unsigned UserWidth = 1,
  // Cycles, a power of two.
  parameter int unsigned StallCycles = 2 ** 20,
  localparam int unsigned Beats = Bytes / BeatBytes,
  localparam int unsigned AddrWidth = $clog2(Beats),
  localparam int unsigned CountWidth = $clog2(Beats + 1)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  // One packet more: as many beats as it will have at most, 1 at least and not more than free_beats_o in that cycle.
  // Its beats and its descriptor come in later cycles.
  input  logic                  reserve_i,
  input  logic [CountWidth-1:0] reserve_beats_i,
  output logic [CountWidth-1:0] free_beats_o,
  output logic                  stalled_o,

  input  logic                  write_valid_i,
  input  beat_t                 write_data_i,

  // A packet's descriptor. It is always taken: each packet has had its place reserved.
  input  logic                  valid_i,
  // Beats that it has in the buffer, or will have: 1 at least.
  input  logic [CountWidth-1:0] beats_i,
  // How many bytes of them leave, from the first; with 0 the packet is dropped.
  input  length_t               bytes_i,
  // Another first beat.
  input  logic                  first_valid_i,
  input  beat_t                 first_i,
  // Two bytes at any place, even in two beats; those with their mask bit are put in, after first_i was.
  input  length_t               patch_at_i,
  input  logic [1:0][7:0]       patch_i,
  input  logic [1:0]            patch_mask_i,
  input  logic [UserWidth-1:0]  user_i,

  // Bytes without tkeep are zero: what else is in the buffer stays there.
  output beat_t                 m_axis_tdata,
  output logic [BeatBytes-1:0]  m_axis_tkeep,
  output logic                  m_axis_tvalid,
  input  logic                  m_axis_tready,
  output logic                  m_axis_tlast,
  output logic [UserWidth-1:0]  m_axis_tuser
);

  localparam int unsigned SlotWidth = $clog2(Descriptors + 1);

  if (Bytes < 2 * BeatBytes || Bytes != 2 ** $clog2(Bytes)) begin : gen_bad_size
    $error("Bytes must be a power of two, 32 at least");
  end
  if (Descriptors < 2) begin : gen_few_descriptors
    $error("Descriptors must be at least 2");
  end
  if (StallCycles < 2 || StallCycles != 2 ** $clog2(StallCycles)) begin : gen_bad_stall
    $error("StallCycles must be a power of two, 2 at least");
  end
  if (UserWidth < 1) begin : gen_no_user
    $error("UserWidth must be at least 1");
  end

  typedef logic [AddrWidth-1:0] addr_t;
  typedef logic [CountWidth-1:0] count_t;
  // Which beat of a packet: a length counts 4096 at most.
  typedef logic [11:0] index_t;

  // ---- what is promised: room and places

  count_t free_q;  // beats that nobody has reserved
  logic [SlotWidth-1:0] slots_q;  // packets between reserve_i and their end
  count_t reserved;  // by the packet whose descriptor is here
  count_t unneeded_q, consumed_q;
  count_t consumed;
  logic settled_q;  // all that was passed over is written
  logic advance;  // over one beat, or over all that are left of the packet
  logic done;  // with a packet

  assign free_beats_o = slots_q == SlotWidth'(Descriptors) ? '0 : free_q;

  // What a descriptor gives back, and what leaves, counts a cycle later: nobody is in a hurry to hear of it. What is passed
  // over counts when it is written.
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      free_q <= count_t'(Beats);
      slots_q <= '0;
      unneeded_q <= '0;
      consumed_q <= '0;
    end else begin
      free_q <= free_q + unneeded_q + (settled_q ? consumed_q : '0) - (reserve_i ? reserve_beats_i : '0);
      slots_q <= slots_q + SlotWidth'(reserve_i) - SlotWidth'(done);
      unneeded_q <= valid_i ? reserved - beats_i : '0;
      if (advance) consumed_q <= consumed;
      else if (settled_q) consumed_q <= '0;
    end
  end

  logic reserved_ready, reserved_valid;
  logic [SlotWidth-1:0] reserved_count;

  fifo #(
    .Width(CountWidth),
    .Depth(Descriptors)
  ) u_reserved (
    .clk_i,
    .rst_ni,
    .valid_i(reserve_i),
    .ready_o(reserved_ready),
    .data_i (reserve_beats_i),
    .valid_o(reserved_valid),
    .ready_i(valid_i),
    .data_o (reserved),
    .count_o(reserved_count)
  );

  // ---- descriptors, with what can be computed in advance

  // In two queues: what steers the ring stands in one of its own, whose few bits are near.
  typedef struct packed {
    logic                 drop;
    logic                 single;   // one beat leaves, or none
    index_t               last;     // the last beat that leaves
    count_t               beats;    // with those behind that one
  } descriptor_t;

  typedef struct packed {
    logic [3:0]           end_at;   // the last byte in the last beat
    logic                 first_valid;
    beat_t                first;
    length_t [1:0]        patch_at;
    logic [1:0][7:0]      patch;
    logic [1:0]           patch_mask;
    logic [UserWidth-1:0] user;
  } edit_t;

  descriptor_t made, head;
  edit_t made_edit, edit;
  logic head_valid, load, descriptors_ready, edit_valid, edits_ready;
  logic [SlotWidth-1:0] descriptors_count, edits_count;
  length_t end_at;

  assign end_at = bytes_i - 1'b1;

  always_comb begin
    made.drop = bytes_i == '0;
    made.single = bytes_i <= 16'd16;
    made.last = end_at[15:4];
    made.beats = beats_i;
    made_edit.end_at = end_at[3:0];
    made_edit.first_valid = first_valid_i;
    made_edit.first = first_i;
    made_edit.patch_at = {patch_at_i + 1'b1, patch_at_i};
    made_edit.patch = patch_i;
    made_edit.patch_mask = patch_mask_i;
    made_edit.user = user_i;
  end

  fifo #(
    .Width($bits(descriptor_t)),
    .Depth(Descriptors)
  ) u_descriptors (
    .clk_i,
    .rst_ni,
    .valid_i(valid_i),
    .ready_o(descriptors_ready),
    .data_i (made),
    .valid_o(head_valid),
    .ready_i(load),
    .data_o (head),
    .count_o(descriptors_count)
  );

  fifo #(
    .Width($bits(edit_t)),
    .Depth(Descriptors)
  ) u_edits (
    .clk_i,
    .rst_ni,
    .valid_i(valid_i),
    .ready_o(edits_ready),
    .data_i (made_edit),
    .valid_o(edit_valid),
    .ready_i(done),
    .data_o (edit),
    .count_o(edits_count)
  );

  // ---- the ring

  // Places count on for four times around it, so that differences have a sign.
  typedef logic signed [AddrWidth+1:0] place_t;
  place_t write_q;  // behind what is written
  place_t read_q;  // behind what is read or passed over: beats that are still to be written too
  place_t end_q;  // behind the packet whose turn it is

  // That packet, out of its queue, or none.
  logic leaves_q, drops_q, none_q;
  index_t index_q, index_next, last_q;
  logic ends_q;  // behind the beat whose turn it is there is nothing that leaves, or the packet is dropped
  // Its beat, or its first that is dropped, is written. So are those in front of it, which may have been passed over.
  logic some_q;
  logic read, may_advance;
  logic stage_ready;

  assign read = leaves_q && some_q && stage_ready;
  assign may_advance = drops_q || (leaves_q && stage_ready);
  assign advance = may_advance && some_q;
  assign done = may_advance && some_q && ends_q;
  assign load = head_valid && (done || none_q);
  assign index_next = index_q + 1'b1;

  // What is done is known late, so what there is then is known for each case.
  place_t stored, behind;
  assign stored = write_q - read_q;
  assign behind = write_q - end_q;
  assign consumed = ends_q ? count_t'(end_q - read_q) : count_t'(1);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q <= '0;
      read_q <= '0;
      end_q <= '0;
      index_q <= '0;
      leaves_q <= 1'b0;
      drops_q <= 1'b0;
      none_q <= 1'b1;
      some_q <= 1'b0;
      settled_q <= 1'b1;
    end else begin
      if (write_valid_i) write_q <= write_q + place_t'(1);
      if (advance) read_q <= ends_q ? end_q : read_q + place_t'(1);
      if (advance) index_q <= ends_q ? '0 : index_next;
      if (load) end_q <= end_q + place_t'({1'b0, head.beats});
      if (load || done) begin
        leaves_q <= load && !head.drop;
        drops_q <= load && head.drop;
        none_q <= !load;
      end
      if (done) some_q <= behind > 0;
      else if (advance) some_q <= stored > 1;
      else some_q <= stored > 0;
      settled_q <= done ? behind >= 0 : stored >= 0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (load) last_q <= head.last;
    if (load) ends_q <= head.single;
    else if (advance) ends_q <= index_next == last_q;
  end

  beat_t read_data;

  ram_1r1w #(
    .Width(8 * BeatBytes),
    .Depth(Beats),
    .ReadOld(1'b0)
  ) u_ram (
    .clk_i,
    .write_i     (write_valid_i),
    .write_addr_i(write_q[AddrWidth-1:0]),
    .write_data_i(write_data_i),
    .read_i      (read),
    .read_addr_i (read_q[AddrWidth-1:0]),
    .read_data_o (read_data)
  );

  // ---- beside the memory's output: what is to be done to the beat

  typedef struct packed {
    logic                 last;
    logic [3:0]           end_at;
    logic                 replace;
    beat_t                first;
    logic [1:0]           hit;
    logic [1:0][3:0]      lane;
    logic [1:0][7:0]      patch;
    logic [UserWidth-1:0] user;
  } stage_t;

  stage_t stage_q;
  // And its opposite: stage_q is wide, and what is read is not to wait for its enable.
  logic stage_valid_q, stage_free_q;
  logic out_ready;

  assign stage_ready = !stage_valid_q || out_ready;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      stage_valid_q <= 1'b0;
      stage_free_q <= 1'b1;
    end else if (stage_ready) begin
      stage_valid_q <= read;
      stage_free_q <= !read;
    end
  end

  always_ff @(posedge clk_i) begin
    if (stage_free_q || out_ready) begin
      stage_q.last <= ends_q;
      stage_q.end_at <= ends_q ? edit.end_at : '1;
      stage_q.replace <= edit.first_valid && index_q == '0;
      stage_q.first <= edit.first;
      for (int i = 0; i < 2; i++) begin
        stage_q.hit[i] <= edit.patch_mask[i] && edit.patch_at[i][15:4] == index_q;
        stage_q.lane[i] <= edit.patch_at[i][3:0];
      end
      stage_q.patch <= edit.patch;
      stage_q.user <= edit.user;
    end
  end

  typedef struct packed {
    logic                 last;
    logic [UserWidth-1:0] user;
    logic [BeatBytes-1:0] keep;
    beat_t                data;
  } out_t;

  out_t edited, out;
  logic [BeatBytes-1:0] keep;

  assign edited.last = stage_q.last;
  assign edited.user = stage_q.user;
  assign keep = 16'hffff >> ~stage_q.end_at;  // ~x is 15 - x
  assign edited.keep = keep;

  // What comes out of the memory comes late: all else is settled by then.
  for (genvar b = 0; b < int'(BeatBytes); b++) begin : gen_byte
    logic [1:0] hit;
    logic stays;
    logic [7:0] instead;
    assign hit[0] = stage_q.hit[0] && stage_q.lane[0] == 4'(b);
    assign hit[1] = stage_q.hit[1] && stage_q.lane[1] == 4'(b);
    assign stays = keep[b] && hit == '0 && !stage_q.replace;
    assign instead = !keep[b] ? '0 : hit[1] ? stage_q.patch[1] : hit[0] ? stage_q.patch[0] :
        stage_q.replace ? stage_q.first[8*b+:8] : '0;
    assign edited.data[8*b+:8] = (read_data[8*b+:8] & {8{stays}}) | instead;
  end

  skid_buffer #(
    .Width($bits(out_t))
  ) u_out (
    .clk_i,
    .rst_ni,
    .valid_i(stage_valid_q),
    .ready_o(out_ready),
    .data_i (edited),
    .valid_o(m_axis_tvalid),
    .ready_i(m_axis_tready),
    .data_o (out)
  );

  assign m_axis_tdata = out.data;
  assign m_axis_tkeep = out.keep;
  assign m_axis_tlast = out.last;
  assign m_axis_tuser = out.user;

  // ---- whether anybody takes it

  logic waits_q;
  logic [$clog2(StallCycles):0] waited_q;

  always_ff @(posedge clk_i) begin
    waits_q <= rst_ni && m_axis_tvalid && !m_axis_tready;
    if (!waits_q) waited_q <= '0;
    else if (!stalled_o) waited_q <= waited_q + 1'b1;
  end

  assign stalled_o = waited_q[$clog2(StallCycles)];

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && $time != 0) begin
      if (reserve_i) begin
        assert (reserve_beats_i != '0 && reserve_beats_i <= free_beats_o)
        else $error("%0d beats reserved, %0d are free", reserve_beats_i, free_beats_o);
        assert (reserved_ready) else $error("no place for a reservation: %0d inside", reserved_count);
      end
      if (valid_i) begin
        assert (reserved_valid) else $error("a descriptor of a packet that was not reserved for");
        assert (descriptors_ready && edits_ready) else $error("no place for a descriptor: %0d inside", descriptors_count);
        assert (beats_i != '0 && beats_i <= reserved) else $error("%0d beats, %0d reserved", beats_i, reserved);
        assert (32'(bytes_i) <= BeatBytes * 32'(beats_i)) else $error("%0d bytes, %0d beats", bytes_i, beats_i);
      end
      assert (edit_valid == (leaves_q || drops_q || head_valid)
          && edits_count == descriptors_count + SlotWidth'(leaves_q || drops_q)) else $error("the queues are not in step");
      assert (none_q == !(leaves_q || drops_q)) else $error("there is a packet and there is none");
      assert (stage_free_q == !stage_valid_q) else $error("the stage is free and is not");
      assert (32'(free_q) <= Beats - 32'(stored)) else $error("beats are written that were not reserved");
    end
  end
`endif

endmodule
