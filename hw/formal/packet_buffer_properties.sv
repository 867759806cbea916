// packet_buffer, the release gate: no beat leaves without a descriptor that says so, and those that leave are the written
// ones, each once, in order, edited as the descriptor says. An arbitrary byte of an arbitrary beat is watched; its beat
// may be written before its descriptor comes or after.

module packet_buffer_properties
  import esp_pkg::*;
#(
  parameter int unsigned Bytes = 64,
  parameter int unsigned Descriptors = 2,
  parameter int unsigned UserWidth = 1,
  localparam int unsigned Beats = Bytes / BeatBytes,
  localparam int unsigned CountWidth = $clog2(Beats + 1)
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic                  reserve_i,
  input logic [CountWidth-1:0] reserve_beats_i,
  input logic                  write_valid_i,
  input beat_t                 write_data_i,
  input logic                  valid_i,
  input logic [CountWidth-1:0] beats_i,
  input length_t               bytes_i,
  input logic                  first_valid_i,
  input beat_t                 first_i,
  input length_t               patch_at_i,
  input logic [1:0][7:0]       patch_i,
  input logic [1:0]            patch_mask_i,
  input logic [UserWidth-1:0]  user_i,
  input logic                  m_axis_tready,
  // What is watched: this byte of a beat that is written, or of one of a descriptor, while pick_i is set.
  input logic [3:0]            lane_i,
  input logic                  pick_i,
  input logic [CountWidth-1:0] pick_index_i
);

  logic [CountWidth-1:0] free_beats_o;
  beat_t m_axis_tdata;
  logic [BeatBytes-1:0] m_axis_tkeep;
  logic m_axis_tvalid, m_axis_tlast;
  logic [UserWidth-1:0] m_axis_tuser;

  packet_buffer #(
    .Bytes(Bytes),
    .Descriptors(Descriptors),
    .UserWidth(UserWidth)
  ) dut (
    .*
  );

  // Counts of beats and their differences.
  typedef logic signed [CountWidth+2:0] wide_t;

  function automatic wide_t wide(input logic [CountWidth-1:0] count);
    return wide_t'({3'b000, count});
  endfunction

  logic started_q = 1'b0;
  logic [3:0] lane_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    lane_q <= lane_i;
  end

  // ---- the duties of those who write: room is reserved first, and no more is written than reserved

  // Beats reserved by packets without their descriptor; beats written, less those of the descriptors.
  wide_t reserved_q, ahead_q, reserved_d, ahead_d;
  assign reserved_d = reserved_q + (reserve_i ? wide(reserve_beats_i) : '0) - (valid_i ? wide(dut.reserved) : '0);
  assign ahead_d = ahead_q + wide_t'({1'b0, write_valid_i}) - (valid_i ? wide(beats_i) : '0);

  always_comb begin
    assume (started_q || !rst_ni);
    // Nobody writes in reset; nothing would come of it, but the memory has no reset and asserts at all times.
    assume (rst_ni || !write_valid_i);
    assume (!started_q || lane_i == lane_q);
    if (rst_ni) begin
      if (reserve_i) assume (reserve_beats_i != '0 && reserve_beats_i <= free_beats_o);
      if (valid_i) begin
        assume (dut.reserved_valid && beats_i != '0 && beats_i <= dut.reserved);
        assume (32'(bytes_i) <= BeatBytes * 32'(beats_i));
      end
      assume (ahead_d <= reserved_q - (valid_i ? wide(dut.reserved) : '0));
    end
  end

  always_ff @(posedge clk_i) begin
    reserved_q <= rst_ni ? reserved_d : '0;
    ahead_q <= rst_ni ? ahead_d : '0;
  end

  // ---- beats that are to leave, by the descriptors so far, and have not

  logic pop;
  wide_t owed_q, leaves;
  assign pop = m_axis_tvalid && m_axis_tready;
  assign leaves = wide_t'((32'(bytes_i) + BeatBytes - 1) / BeatBytes);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) owed_q <= '0;
    else owed_q <= owed_q + (valid_i ? leaves : '0) - wide_t'({1'b0, pop});
  end

  // ---- the watched beat

  typedef enum logic [1:0] {
    Nothing,
    // Written, and the descriptors of so many beats in front of it are still to come.
    Written,
    // Its descriptor is here, and so many beats are written before it is.
    Described,
    Both
  } stage_e;
  stage_e stage_q, stage_d;
  wide_t distance_q, distance_d;
  logic [7:0] byte_q, byte_d;
  // Of its packet.
  wide_t index_d, index_q, before_d, before_q;
  logic leaves_d, leaves_q, last_d, last_q, kept_d, kept_q, patched_d, patched_q;
  logic [7:0] instead_d, instead_q;
  logic [UserWidth-1:0] user_q, user_d;

  logic describes;
  length_t at;
  assign at = length_t'({index_d, lane_i});

  always_comb begin
    stage_d = stage_q;
    distance_d = distance_q;
    byte_d = byte_q;
    index_d = index_q;
    describes = 1'b0;
    unique case (stage_q)
      Nothing: begin
        if (pick_i && write_valid_i && ahead_q >= 0) begin
          byte_d = write_data_i[8*lane_i+:8];
          stage_d = Written;
          distance_d = ahead_q;
          if (valid_i) begin
            describes = ahead_q < wide(beats_i);
            distance_d = ahead_q - wide(beats_i);
            index_d = ahead_q;
            if (describes) stage_d = Both;
          end
        end else if (pick_i && valid_i && pick_index_i < beats_i && wide(pick_index_i) >= ahead_q) begin
          describes = 1'b1;
          index_d = wide(pick_index_i);
          stage_d = Described;
          distance_d = wide(pick_index_i) - ahead_q;
          if (write_valid_i) begin
            distance_d = distance_d - 1'b1;
            if (wide(pick_index_i) == ahead_q) begin
              stage_d = Both;
              byte_d = write_data_i[8*lane_i+:8];
            end
          end
        end
      end
      Written: begin
        if (valid_i) begin
          describes = distance_q < wide(beats_i);
          index_d = distance_q;
          distance_d = distance_q - wide(beats_i);
          if (describes) stage_d = Both;
        end
      end
      Described: begin
        if (write_valid_i) begin
          distance_d = distance_q - 1'b1;
          if (distance_q == 0) begin
            stage_d = Both;
            byte_d = write_data_i[8*lane_i+:8];
          end
        end
      end
      default: ;
    endcase

    before_d = before_q - wide_t'({1'b0, pop});
    leaves_d = leaves_q;
    last_d = last_q;
    kept_d = kept_q;
    patched_d = patched_q;
    instead_d = instead_q;
    user_d = user_q;
    if (describes) begin
      before_d = owed_q - wide_t'({1'b0, pop}) + index_d;
      leaves_d = index_d < leaves;
      last_d = index_d == leaves - 1'b1;
      kept_d = at < bytes_i;
      user_d = user_i;
      patched_d = 1'b1;
      if (patch_mask_i[1] && at == patch_at_i + 16'd1) instead_d = patch_i[1];
      else if (patch_mask_i[0] && at == patch_at_i) instead_d = patch_i[0];
      else if (first_valid_i && index_d == 0) instead_d = first_i[8*lane_i+:8];
      else patched_d = 1'b0;
    end
    // It left, or is one that does not.
    if (describes && !leaves_d) stage_d = Nothing;
    else if ((stage_q == Both || stage_q == Described) && pop && before_q == 0) stage_d = Nothing;
  end

  always_ff @(posedge clk_i) begin
    stage_q <= rst_ni ? stage_d : Nothing;
    distance_q <= distance_d;
    byte_q <= byte_d;
    index_q <= index_d;
    before_q <= before_d;
    leaves_q <= leaves_d;
    last_q <= last_d;
    kept_q <= kept_d;
    patched_q <= patched_d;
    instead_q <= instead_d;
    user_q <= user_d;
  end

  logic due;
  assign due = m_axis_tvalid && (stage_q == Both || stage_q == Described) && before_q == 0;

  // ---- the stream's protocol, and the room

  logic stalled_q;
  logic [BeatBytes*9+UserWidth:0] offered, offered_q;
  assign offered = {m_axis_tlast, m_axis_tuser, m_axis_tkeep, m_axis_tdata};
  logic [2:0] quiet_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && m_axis_tvalid && !m_axis_tready;
    offered_q <= offered;
    // Cycles in which nothing was inside.
    if (!rst_ni || reserve_i || reserved_q != 0 || owed_q != 0 || ahead_q != 0) quiet_q <= '0;
    else if (quiet_q != '1) quiet_q <= quiet_q + 1'b1;
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (m_axis_tvalid) nothing_without_descriptor : assert (owed_q > 0);
      if (due) beats_after_their_write : assert (stage_q == Both);
      if (due && stage_q == Both) begin
        byte_is_right : assert (m_axis_tdata[8*lane_i+:8] == (!kept_q ? 8'd0 : patched_q ? instead_q : byte_q));
        keep_is_right : assert (m_axis_tkeep[lane_i] == kept_q);
        last_is_right : assert (m_axis_tlast == last_q);
        user_is_right : assert (m_axis_tuser == user_q);
      end
      if (stalled_q) offer_is_stable : assert (m_axis_tvalid && offered == offered_q);
      // What is reserved, and what is described and not yet all written, has its room.
      room_is_there : assert (wide(free_beats_o) + reserved_q - (ahead_q < 0 ? ahead_q : '0) <= wide_t'(Beats));
      // Every beat of the buffer is free, reserved, on its way back, or inside: none is lost or counted twice.
      room_adds_up : assert (CountWidth'(dut.free_q + dut.unneeded_q + dut.consumed_q + dut.stored_q
          + CountWidth'(reserved_q) - CountWidth'(ahead_q)) == CountWidth'(Beats));
      places_add_up : assert (dut.slots_q == dut.reserved_count + dut.descriptors_count);
      if (quiet_q >= 3'd5) room_comes_back : assert (32'(free_beats_o) == Beats);
      descriptor_first : cover (due && stage_q == Both && index_q == 1 && last_q && patched_q);
      full_ring : cover (ahead_q == wide_t'(Beats));
      came_back : cover (quiet_q == 3'd6 && dut.read_q == 1);
    end
  end

endmodule
