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
  localparam int unsigned AddrWidth = $clog2(Beats),
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
  logic stalled_o;
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
  typedef logic signed [15:0] wide_t;

  function automatic wide_t wide(input logic [CountWidth-1:0] count);
    return wide_t'({1'b0, count});
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
      assume (ahead_d <= reserved_q - (valid_i ? wide(dut.reserved) : wide_t'(0)));
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
  logic [7:0] quiet_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && m_axis_tvalid && !m_axis_tready;
    offered_q <= offered;
    // Cycles in which nothing was inside.
    if (!rst_ni || reserve_i || reserved_q != 0 || owed_q != 0 || ahead_q != 0) quiet_q <= '0;
    else if (quiet_q != '1) quiet_q <= quiet_q + 1'b1;
  end

  // ---- of the state inside

  // As in packet_buffer, where they stand in two queues; the first one that is not done with has left the first of them.
  typedef struct packed {
    logic                  drop;
    logic                  single;
    logic [11:0]           last;
    logic [CountWidth-1:0] beats;
    logic [3:0]            end_at;
    logic                  first_valid;
    beat_t                 first;
    length_t [1:0]         patch_at;
    logic [1:0][7:0]       patch;
    logic [1:0]            patch_mask;
    logic [UserWidth-1:0]  user;
  } descriptor_t;

  function automatic logic [31:0] wrap(input logic [31:0] place);
    return place >= Descriptors ? place - Descriptors : place;
  endfunction

  // The packet whose turn it is, and its beats; beats that are written and not read, less those passed over unwritten.
  logic has_turn;
  logic [CountWidth-1:0] turn_beats;
  wide_t stored, ending;
  assign has_turn = dut.leaves_q || dut.drops_q;
  assign turn_beats = CountWidth'(dut.end_q - dut.read_q) + CountWidth'(dut.index_q);
  assign stored = wide_t'($signed(dut.stored));
  assign ending = wide_t'($signed(dut.end_q - dut.read_q));

  // The queues from their heads, and sums over them.
  descriptor_t [Descriptors-1:0] entry;
  logic [Descriptors-1:0][CountWidth-1:0] reservation;
  for (genvar i = 0; i < int'(Descriptors); i++) begin : gen_entry
    if (i == 0) begin : gen_first
      assign entry[i] = {has_turn ? {dut.drops_q, dut.drops_q || dut.last_q == '0, dut.last_q, turn_beats} :
          dut.u_descriptors.mem[dut.u_descriptors.read_q], dut.u_edits.mem[dut.u_edits.read_q]};
    end else begin : gen_behind
      assign entry[i] = {dut.u_descriptors.mem[wrap(32'(dut.u_descriptors.read_q)+i-32'(has_turn))],
          dut.u_edits.mem[wrap(32'(dut.u_edits.read_q)+i)]};
    end
    assign reservation[i] = dut.u_reserved.mem[wrap(32'(dut.u_reserved.read_q)+i)];
  end

  logic [7:0] place_q;
  wide_t reserved_sum, part_sum, leaves_sum, part_before, leaves_before, progress, in_flight;
  logic reservations_hold, entries_hold, progress_holds;
  assign progress = wide_t'(dut.index_q);
  assign in_flight = wide_t'({1'b0, dut.stage_valid_q}) + wide_t'({1'b0, dut.u_out.valid_q})
      + wide_t'({1'b0, dut.u_out.skid_valid_q});

  always_comb begin
    wide_t out, part;
    reserved_sum = '0;
    part_sum = '0;
    leaves_sum = '0;
    part_before = '0;
    leaves_before = '0;
    reservations_hold = 1'b1;
    entries_hold = 1'b1;
    for (int i = 0; i < int'(Descriptors); i++) begin
      if (i < int'(dut.reserved_count)) begin
        reserved_sum += wide(reservation[i]);
        if (reservation[i] == '0 || wide(reservation[i]) > wide_t'(Beats)) reservations_hold = 1'b0;
      end
      if (i < int'(dut.edits_count)) begin
        out = entry[i].drop ? '0 : wide_t'(entry[i].last) + 1'b1;
        part = wide(entry[i].beats);
        if (part < 1 || part > wide_t'(Beats) || out > part || entry[i].single != (out <= 1)) entries_hold = 1'b0;
        if (i < int'(place_q)) begin
          part_before += part;
          leaves_before += out;
        end
        part_sum += part;
        leaves_sum += out;
      end
    end
    // How far the head is read.
    if (!has_turn) progress_holds = progress == 0 && ending == 0;
    else if (dut.drops_q) progress_holds = progress == 0 && dut.ends_q && !dut.leaves_q && ending >= 1;
    else progress_holds = progress <= wide_t'(entry[0].last) && dut.ends_q == (progress == wide_t'(entry[0].last))
        && ending >= 1;
  end

  // The watched beat: how many were written since, with it; and how many descriptors are in front of its own.
  wide_t back_q;
  always_ff @(posedge clk_i) begin
    if (stage_q == Written || stage_q == Both) back_q <= back_q + wide_t'({1'b0, write_valid_i});
    else back_q <= wide_t'(1);
    if (describes) place_q <= 8'(dut.edits_count) - 8'(dut.done);
    else if (dut.done && place_q != '0) place_q <= place_q - 1'b1;
  end

  logic unread, in_ram, distance_is_right, entry_is_right, at_its_turn;
  logic [7:0] in_memory, expected;
  logic [$clog2(Beats)-1:0] address;
  assign unread = before_q >= in_flight;
  assign address = dut.write_q[AddrWidth-1:0] - back_q[AddrWidth-1:0];
  assign in_memory = dut.u_ram.mem[address][8*lane_i+:8];
  assign in_ram = back_q >= 1 && back_q <= stored && in_memory == byte_q;
  assign distance_is_right = stage_q == Both ? in_ram : distance_q >= 0;
  assign expected = !kept_q ? 8'd0 : patched_q ? instead_q : byte_q;

  descriptor_t own;
  length_t own_at;
  assign own = entry[place_q];
  assign own_at = length_t'({index_q, lane_i});
  always_comb begin
    entry_is_right = !own.drop && index_q >= 0 && index_q <= wide_t'(own.last) && own.user == user_q
        && last_q == (index_q == wide_t'(own.last)) && kept_q == (!last_q || lane_i <= own.end_at);
    if (own.patch_mask[1] && own_at == own.patch_at[1]) begin
      if (!patched_q || instead_q != own.patch[1]) entry_is_right = 1'b0;
    end else if (own.patch_mask[0] && own_at == own.patch_at[0]) begin
      if (!patched_q || instead_q != own.patch[0]) entry_is_right = 1'b0;
    end else if (own.first_valid && index_q == 0) begin
      if (!patched_q || instead_q != own.first[8*lane_i+:8]) entry_is_right = 1'b0;
    end else if (patched_q) begin
      entry_is_right = 1'b0;
    end
  end

  // Read, and beside the memory, in the skid register, or at the output.
  typedef struct packed {
    logic                 last;
    logic [UserWidth-1:0] user;
    logic [BeatBytes-1:0] keep;
    beat_t                data;
  } out_t;
  out_t turn;
  always_comb begin
    if (before_q == 0 && dut.u_out.valid_q) turn = dut.u_out.data_q;
    else if (dut.u_out.skid_valid_q && before_q == 1) turn = dut.u_out.skid_q;
    else turn = dut.edited;
    at_its_turn = turn.last == last_q && turn.user == user_q && turn.keep[lane_i] == kept_q
        && turn.data[8*lane_i+:8] == expected;
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
      // State. Every beat of the buffer is free, reserved, on its way back, or inside: none is lost or counted twice.
      room_adds_up : assert (wide(dut.free_q) + wide(dut.unneeded_q) + wide(dut.consumed_q) + stored
          + reserved_q - ahead_q == wide_t'(Beats));
      places_add_up : assert (32'(dut.slots_q) == 32'(dut.reserved_count) + 32'(dut.edits_count)
          && 32'(dut.slots_q) <= Descriptors && 32'(dut.reserved_count) <= Descriptors
          && 32'(dut.edits_count) <= Descriptors);
      queues_are_right : assert (32'(dut.u_reserved.read_q) < Descriptors && 32'(dut.u_descriptors.read_q) < Descriptors
          && wrap(32'(dut.u_reserved.read_q) + 32'(dut.reserved_count)) == 32'(dut.u_reserved.write_q)
          && wrap(32'(dut.u_descriptors.read_q) + 32'(dut.descriptors_count)) == 32'(dut.u_descriptors.write_q)
          && 32'(dut.edits_count) == 32'(dut.descriptors_count) + 32'(has_turn)
          && wrap(32'(dut.u_edits.read_q) + 32'(has_turn)) == 32'(dut.u_descriptors.read_q)
          && 32'(dut.u_edits.read_q) < Descriptors && dut.u_edits.write_q == dut.u_descriptors.write_q);
      reservations_add_up : assert (reserved_q == reserved_sum && reservations_hold);
      writes_are_in_reservations : assert (ahead_q <= reserved_q && stored <= wide_t'(Beats) && stored >= -wide_t'(Beats));
      descriptors_hold : assert (entries_hold && progress_holds);
      consumption_adds_up : assert (stored - ahead_q == part_sum - progress);
      debt_adds_up : assert (owed_q == leaves_sum - progress + in_flight);
      some_is_written : assert (!dut.some_q || (stored >= 1 && dut.settled_q));
      // What is passed over unwritten is not yet free.
      settled_is_written : assert (dut.settled_q ? stored >= 0 : -stored < wide(dut.consumed_q));
      if (stage_q == Written) written_is_inside : assert (distance_q >= 0 && back_q >= 1 && back_q == ahead_q - distance_q
          && in_ram);
      if (stage_q == Both || stage_q == Described) begin
        if (unread) begin
          // Its descriptor is in the queue, and has the rest of what is known.
          described_is_queued : assert (32'(place_q) < 32'(dut.edits_count) && entry_is_right
              && (place_q != '0 || index_q >= progress));
          position_is_right : assert (
              (stage_q == Both ? stored - back_q : stored + distance_q)
              == part_before + index_q - progress && distance_is_right);
          turn_is_right : assert (before_q == leaves_before + index_q - progress + in_flight);
        end else begin
          on_its_way_out : assert (stage_q == Both && before_q >= 0 && at_its_turn);
        end
      end
      if (quiet_q != '0) passes_on : assert (dut.edits_count == '0
          || (has_turn && dut.some_q && 32'(dut.edits_count) + 32'(quiet_q) <= Descriptors + 1));
      if (32'(quiet_q) >= Descriptors + 3) room_comes_back : assert (32'(free_beats_o) == Beats);
      waits_for_its_write : cover (dut.leaves_q && stored == 0);
      descriptor_first : cover (due && stage_q == Both && index_q == 1 && last_q && patched_q);
      full_ring : cover (ahead_q == wide_t'(Beats));
      came_back : cover (32'(quiet_q) == Descriptors + 4 && dut.read_q == 1);
    end
  end

endmodule
