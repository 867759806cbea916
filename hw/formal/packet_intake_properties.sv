// packet_intake: what is taken and what is dropped; of what is taken each beat is in the ring where its descriptor says, once
// and in order, until it is freed. An arbitrary byte of an arbitrary beat is watched.
//
// The parser is left out: it answers when it does, and what it likes, but for the length, which packet_intake reads too.

module ip_parser
  import esp_pkg::*;
(
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       valid_i,
  input  logic       last_i,
  input  beat_t      data_i,
  input  logic       upper_first_i,
  output logic       valid_o,
  output ip_header_t header_o
);

  logic [5:1] last_q;
  always_ff @(posedge clk_i) last_q <= rst_ni ? {last_q[4:1], valid_i && last_i} : '0;
  assign valid_o = last_q[5];

endmodule

module packet_intake_properties
  import esp_pkg::*;
  import reason_pkg::*;
#(
  parameter int unsigned Bytes = 64,
  parameter int unsigned LargestPacket = 40,
  parameter int unsigned Descriptors = 2,
  parameter int unsigned UserWidth = 1,
  localparam int unsigned Beats = Bytes / BeatBytes,
  localparam int unsigned AddrWidth = $clog2(Beats),
  localparam int unsigned CountWidth = $clog2(Beats + 1)
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input beat_t                 s_axis_tdata,
  input logic [BeatBytes-1:0]  s_axis_tkeep,
  input logic                  s_axis_tvalid,
  input logic                  s_axis_tlast,
  input logic [UserWidth-1:0]  s_axis_tuser,
  input logic                  ready_i,
  input logic                  read_i,
  input logic [AddrWidth-1:0]  read_addr_i,
  input logic                  free_i,
  input logic [CountWidth-1:0] free_beats_i,
  // What is watched: this byte of a beat that comes with pick_i.
  input logic [3:0]            lane_i,
  input logic                  pick_i
);

  localparam int unsigned LargestBeats = (LargestPacket + BeatBytes - 1) / BeatBytes;
  localparam int unsigned SlotWidth = $clog2(Descriptors + 1);
  localparam int unsigned Delay = 5;
  typedef logic [AddrWidth-1:0] addr_t;
  typedef logic [CountWidth-1:0] count_t;
  typedef logic [15:0] sum_t;

  logic s_axis_tready, valid_o, drop_o;
  ip_header_t header_o, drop_header_o;
  addr_t begin_o;
  count_t beats_o;
  logic [UserWidth-1:0] user_o, drop_user_o;
  reason_e drop_reason_o;
  beat_t read_data_o;

  packet_intake #(
    .Bytes(Bytes),
    .LargestPacket(LargestPacket),
    .Descriptors(Descriptors),
    .UserWidth(UserWidth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [3:0] lane_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    lane_q <= lane_i;
  end

  // ---- beats as they come in, with what is so of their packet up to them

  typedef struct packed {
    logic                 first;
    logic                 last;
    logic                 store;
    count_t               index;  // beats of the packet that are stored in front of it
    logic                 right;  // of tkeep
    logic [16:0]          bytes;
    logic                 wrong;  // some tkeep was not right
    logic                 over;   // some beat is not stored
    length_t              total;  // of the packet, by its header
    logic [UserWidth-1:0] user;
  } note_t;

  // By its header (RFC 791 §3.1, RFC 8200 §3).
  function automatic length_t total_of(input beat_t data);
    return data[7:4] == 4'd6 ? {data[39:32], data[47:40]} + 16'd40 : {data[23:16], data[31:24]};
  endfunction

  // The highest byte that tkeep has.
  function automatic logic [4:0] bytes_of(input logic [BeatBytes-1:0] keep);
    bytes_of = '0;
    for (int i = 0; i < int'(BeatBytes); i++) if (keep[i]) bytes_of = 5'(i + 1);
  endfunction

  function automatic logic is_right(input logic [BeatBytes-1:0] keep, input logic last);
    is_right = keep == '1;
    for (int i = 1; i < int'(BeatBytes); i++) if (last && keep == (BeatBytes'(1) << i) - 1'b1) is_right = 1'b1;
  endfunction

  logic accept, first_q, wrong_q, over_q;
  count_t index_q, index;
  length_t total_q;
  logic [UserWidth-1:0] user_q;
  note_t note;
  note_t [Delay:1] note_q;
  assign accept = s_axis_tvalid && s_axis_tready;
  assign index = first_q ? '0 : index_q;

  always_comb begin
    note.first = first_q;
    note.last = s_axis_tlast;
    note.store = 32'(index) < LargestBeats;
    note.index = index;
    note.right = is_right(s_axis_tkeep, s_axis_tlast);
    note.bytes = 17'({index, 4'd0}) + 17'(bytes_of(s_axis_tkeep));
    note.wrong = (!first_q && wrong_q) || !note.right;
    note.over = (!first_q && over_q) || !note.store;
    note.total = first_q ? total_of(s_axis_tdata) : total_q;
    note.user = first_q ? s_axis_tuser : user_q;
  end

  always_ff @(posedge clk_i) begin
    note_q <= {note_q[Delay-1:1], note};
    if (!rst_ni) first_q <= 1'b1;
    else if (accept) first_q <= s_axis_tlast;
    if (accept) begin
      index_q <= index + count_t'(note.store);
      wrong_q <= note.wrong;
      over_q <= note.over;
      total_q <= note.total;
      user_q <= note.user;
    end
  end

  // ---- the verdict on the packet that ends, five cycles later

  note_t ends;
  logic decide, too_big, good;
  count_t kept, fit;
  assign ends = note_q[Delay];
  assign decide = dut.valid_q[Delay] && ends.last;
  assign too_big = ends.over || 32'(ends.bytes) > LargestPacket;
  assign good = decide && !too_big && !ends.wrong && 32'(ends.total) <= 32'(ends.bytes) && !dut.header.malformed;
  assign kept = count_t'((32'(ends.total) + 15) / 16);
  assign fit = ends.index + count_t'(ends.store);

  // ---- the ring: beats of good packets that are not freed; of those, of packets whose descriptor was taken. Beats of a
  // packet without its verdict that are written, and whether there is none.

  logic pop, next_q;
  sum_t held_q, taken_q, written_q;
  addr_t end_q;
  logic [UserWidth-1:0] written_user_q;
  assign pop = valid_o && ready_i;

  always_ff @(posedge clk_i) begin
    held_q <= held_q + (good ? sum_t'(kept) : '0) - (free_i ? sum_t'(free_beats_i) : '0);
    taken_q <= taken_q + (pop ? sum_t'(beats_o) : '0) - (free_i ? sum_t'(free_beats_i) : '0);
    if (good) end_q <= end_q + addr_t'(kept);
    if (dut.valid_q[Delay]) begin
      next_q <= ends.last;
      written_q <= ends.last ? '0 : sum_t'(fit);
      written_user_q <= ends.user;
    end
    if (!rst_ni) begin
      held_q <= '0;
      taken_q <= '0;
      end_q <= '0;
      next_q <= 1'b1;
      written_q <= '0;
    end
  end

  // ---- who gives and who takes

  addr_t oldest;
  assign oldest = end_q - addr_t'(held_q);
  logic waits_q;
  logic [9*BeatBytes+UserWidth:0] offer_q, offer;
  assign offer = {s_axis_tdata, s_axis_tkeep, s_axis_tlast, s_axis_tuser};
  always_ff @(posedge clk_i) begin
    waits_q <= rst_ni && s_axis_tvalid && !s_axis_tready;
    offer_q <= offer;
  end

  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || lane_i == lane_q);
    assume (rst_ni || !read_i);
    if (waits_q) assume (s_axis_tvalid && offer == offer_q);
    if (free_i) assume (sum_t'(free_beats_i) <= taken_q);
    // Only what was told and is not freed is read.
    if (read_i) assume (sum_t'(addr_t'(read_addr_i - oldest)) < taken_q);
    // The parser reads the same length.
    if (dut.decide) assume (32'(dut.kept_q) == (32'(dut.header.total_length) + 15) >> 4);
  end

  // ---- the watched beat: on its way, written, held; and so many that are held are in front of it

  typedef enum logic [1:0] {
    Nothing,
    Coming,
    Written,
    Held
  } stage_e;
  stage_e stage_q;
  logic [2:0] age_q;
  logic [7:0] byte_q;
  count_t place_q;
  sum_t before_q;
  addr_t addr_q;
  logic [UserWidth-1:0] mark_q;
  // Its descriptor is still in the queue, behind so many.
  logic queued_q, decides, reads_q;
  logic [SlotWidth-1:0] ahead_q;
  assign decides = decide && (stage_q == Written || (stage_q == Coming && 32'(age_q) == Delay));

  always_ff @(posedge clk_i) begin
    if (stage_q == Nothing && accept && note.store && pick_i) begin
      stage_q <= Coming;
      age_q <= 3'd1;
      byte_q <= s_axis_tdata[8*lane_i+:8];
      place_q <= note.index;
      mark_q <= note.user;
    end
    if (stage_q == Coming) begin
      age_q <= age_q + 3'd1;
      if (32'(age_q) == Delay) stage_q <= Written;
    end
    if (decides) begin
      // What is behind the packet's own length is padding, and cut.
      stage_q <= good && place_q < kept ? Held : Nothing;
      before_q <= held_q + sum_t'(place_q) - (free_i ? sum_t'(free_beats_i) : '0);
      addr_q <= end_q + addr_t'(place_q);
      queued_q <= 1'b1;
      ahead_q <= dut.fifo_count - SlotWidth'(pop);
    end
    if (stage_q == Held) begin
      if (pop) begin
        ahead_q <= ahead_q - 1'b1;
        if (ahead_q == '0) queued_q <= 1'b0;
      end
      if (free_i) before_q <= before_q - sum_t'(free_beats_i);
      if (free_i && before_q < sum_t'(free_beats_i)) stage_q <= Nothing;
    end
    if (!rst_ni) stage_q <= Nothing;
    // It is what was read last.
    reads_q <= read_i ? stage_q == Held && read_addr_i == addr_q : reads_q && stage_q == Held;
  end

  logic due;
  assign due = stage_q == Held && queued_q && ahead_q == '0;

  logic stalled_q;
  logic [$bits(ip_header_t)+AddrWidth+CountWidth+UserWidth-1:0] told, told_q;
  assign told = {header_o, begin_o, beats_o, user_o};
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && valid_o && !ready_i;
    told_q <= told;
  end

  // ---- of the state inside

  // From the last stage back to the first: each beat goes on where the one in front of it was; how many are stored, and
  // how many begin a packet.
  logic chained, counted_so_far;
  sum_t under_way;
  logic [7:0] begun;
  note_t run;
  always_comb begin
    chained = 1'b1;
    counted_so_far = 1'b1;
    under_way = written_q;
    begun = 8'(!next_q);
    run = '0;
    run.last = next_q;
    run.index = count_t'(written_q);
    run.user = written_user_q;
    for (int i = int'(Delay); i >= 1; i--) begin
      if (i == int'(Delay) - 2) begin
        // The registers of the stage behind it have what is so up to there.
        if (!run.last) begin
          counted_so_far = run.index == dut.stored4_q && run.user == dut.user4_q;
          run.wrong = dut.wrong4_q;
          run.over = dut.over4_q;
          run.total = dut.total4_q;
        end
      end
      if (dut.valid_q[i]) begin
        if (note_q[i].first != run.last || note_q[i].index != (run.last ? '0 : run.index)
            || 32'(note_q[i].index) > LargestBeats || note_q[i].store != (32'(note_q[i].index) < LargestBeats))
          chained = 1'b0;
        if (i <= int'(Delay) - 2) begin
          if (note_q[i].wrong != ((!run.last && run.wrong) || !note_q[i].right)) chained = 1'b0;
          if (note_q[i].over != ((!run.last && run.over) || !note_q[i].store)) chained = 1'b0;
          if (!run.last && note_q[i].total != run.total) chained = 1'b0;
        end
        if (!run.last && note_q[i].user != run.user) chained = 1'b0;
        if (note_q[i].over != 1'b1 && !note_q[i].store) chained = 1'b0;
        under_way = under_way + sum_t'(note_q[i].store);
        begun = begun + 8'(note_q[i].first);
        run = note_q[i];
        run.index = note_q[i].index + count_t'(note_q[i].store);
      end
    end
    if (first_q != run.last) chained = 1'b0;
    if (!first_q && (index_q != run.index || wrong_q != run.wrong || over_q != run.over || total_q != run.total
        || user_q != run.user)) chained = 1'b0;
  end

  // What each stage has of its beat.
  logic stages_hold;
  always_comb begin
    stages_hold = 1'b1;
    for (int i = 1; i <= int'(Delay); i++) begin
      if (dut.u_parser.last_q[i] != (dut.valid_q[i] && note_q[i].last)) stages_hold = 1'b0;
      if (dut.valid_q[i]) begin
        if (dut.item_q[i].first != note_q[i].first || dut.item_q[i].last != note_q[i].last
            || dut.item_q[i].store != note_q[i].store) stages_hold = 1'b0;
        if (i <= 3 && note_q[i].first && (note_q[i].total != total_of(dut.item_q[i].data)
            || note_q[i].user != dut.item_q[i].user)) stages_hold = 1'b0;
      end
    end
  end

  function automatic logic has_bytes(input note_t of, input logic right, input logic [4:0] bytes);
    return right == of.right && bytes <= 5'd16 && of.bytes == 17'({of.index, 4'd0}) + 17'(bytes);
  endfunction

  // The queue of descriptors: what its entries have, in order.
  typedef struct packed {
    ip_header_t           header;
    addr_t                first;
    count_t               beats;
    logic [UserWidth-1:0] user;
  } descriptor_t;
  sum_t queued, queued_before;
  descriptor_t own;
  function automatic logic [31:0] wrap(input logic [31:0] at);
    return at >= Descriptors ? at - Descriptors : at;
  endfunction
  always_comb begin
    queued = '0;
    queued_before = '0;
    for (int unsigned i = 0; i < Descriptors; i++) begin
      descriptor_t entry;
      entry = descriptor_t'(dut.u_descriptors.mem[wrap(32'(dut.u_descriptors.read_q)+i)]);
      if (i < 32'(dut.fifo_count)) queued = queued + sum_t'(entry.beats);
      if (i < 32'(ahead_q)) queued_before = queued_before + sum_t'(entry.beats);
    end
    own = descriptor_t'(dut.u_descriptors.mem[wrap(32'(dut.u_descriptors.read_q)+32'(ahead_q))]);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (decide) taken_or_dropped : assert (drop_o == !good
          && drop_reason_o == (too_big ? ReasonTooBig : ReasonMalformedIp) && drop_user_o == ends.user);
      if (!decide) only_at_an_end : assert (!drop_o && !dut.good);
      if (due && valid_o) told_where_it_is : assert (addr_t'(begin_o + addr_t'(place_q)) == addr_q && place_q < beats_o
          && user_o == mark_q);
      if (stage_q == Held) stays_until_freed : assert (dut.u_ram.mem[addr_q][8*lane_i+:8] == byte_q);
      if (reads_q && stage_q == Held) read_as_it_was : assert (read_data_o[8*lane_i+:8] == byte_q);
      if (stage_q == Held) in_its_turn : assert (before_q < held_q && addr_q == addr_t'(oldest + addr_t'(before_q))
          && (queued_q ? valid_o : before_q < taken_q));
      if (stalled_q) offer_is_stable : assert (valid_o && told == told_q);
      if (dut.u_ram.write_i && held_q != '0) written_where_none_is : assert (
          sum_t'(addr_t'(dut.u_ram.write_addr_i - oldest)) >= held_q);
      never_too_many : assert (sum_t'(dut.taken_q) <= sum_t'(Beats) && 32'(dut.slots_q) <= Descriptors);
      room_adds_up : assert (sum_t'(dut.taken_q) == held_q + sum_t'(dut.freed_q) + sum_t'(dut.returned_q) + under_way);
      places_add_up : assert (8'(dut.slots_q) == 8'(dut.fifo_count) + 8'(dut.drop_q) + 8'(dut.pop_q) + begun);
      if (s_axis_tready) ready_if_there_is_room : assert (dut.over_q || (sum_t'(dut.taken_q) < sum_t'(Beats)
          && (!first_q || 32'(dut.slots_q) < Descriptors)));
      // State.
      end_is_right : assert (dut.base_q == end_q && (next_q ? written_q == '0 : written_q <= sum_t'(LargestBeats)) && held_q <= sum_t'(Beats)
          && taken_q <= held_q);
      comes_in_right : assert (dut.first_q == first_q && (first_q ? !dut.over_q
          : 32'(index_q) <= LargestBeats && dut.over_q == (32'(index_q) == LargestBeats) && index_q != '0 && (dut.over_q || dut.length_q == index_q)));
      goes_on_in_order : assert (chained && counted_so_far);
      stages_are_right : assert (stages_hold);
      if (dut.valid_q[1]) kept_bytes_are_right : assert (has_bytes(note_q[1], dut.keep_right_d, dut.bytes_d));
      if (dut.valid_q[2]) kept_bytes_stay : assert (has_bytes(note_q[2], dut.keep_right_q, dut.bytes_q));
      if (dut.valid_q[3]) kept_bytes_are_counted : assert (has_bytes(note_q[3], dut.right_q, dut.valid_bytes_q));
      if (dut.valid_q[4]) counts_are_right : assert (dut.place4_q == addr_t'(note_q[4].index)
          && dut.stored4_q == note_q[4].index + count_t'(note_q[4].store) && dut.wrong4_q == note_q[4].wrong
          && dut.over4_q == note_q[4].over && dut.bytes4_q == note_q[4].bytes && dut.total4_q == note_q[4].total
          && dut.user4_q == note_q[4].user && 32'(note_q[4].bytes) <= 16 * 32'(note_q[4].index) + 16);
      if (dut.valid_q[5]) compared_right : assert (dut.place_q == addr_t'(ends.index) && dut.stored_q == fit
          && dut.kept_q == kept && dut.too_big_q == too_big && dut.user_q == ends.user
          && dut.wrong_q == (ends.wrong || 32'(ends.total) > 32'(ends.bytes))
          && 32'(ends.bytes) <= 16 * 32'(ends.index) + 16);
      queue_is_right : assert (32'(dut.u_descriptors.read_q) < Descriptors && 32'(dut.fifo_count) <= Descriptors
          && wrap(32'(dut.u_descriptors.read_q) + 32'(dut.fifo_count)) == 32'(dut.u_descriptors.write_q)
          && valid_o == (dut.fifo_count != '0) && dut.fifo_ready == (32'(dut.fifo_count) < Descriptors));
      queue_adds_up : assert (held_q == taken_q + queued);
      if (stage_q == Coming) comes_along : assert (age_q >= 3'd1 && 32'(age_q) <= Delay && dut.valid_q[age_q]
          && note_q[age_q].store && note_q[age_q].index == place_q && note_q[age_q].user == mark_q
          && dut.item_q[age_q].data[8*lane_i+:8] == byte_q);
      if (stage_q == Written) is_written : assert (!next_q && sum_t'(place_q) < written_q && written_user_q == mark_q
          && dut.u_ram.mem[addr_t'(end_q + addr_t'(place_q))][8*lane_i+:8] == byte_q);
      if (stage_q == Held && queued_q) is_queued : assert (ahead_q < dut.fifo_count && addr_t'(own.first + addr_t'(place_q)) == addr_q
          && place_q < own.beats && own.user == mark_q && before_q == taken_q + queued_before + sum_t'(place_q));
      full_ring : cover (stage_q == Held && dut.taken_q == count_t'(Beats) && held_q == sum_t'(Beats));
      goes_round : cover (due && begin_o > addr_q && place_q == count_t'(1));
      padding_is_cut : cover (good && kept < fit && !first_q);
      too_long_is_taken : cover (decide && ends.over && taken_q != '0);
    end
  end

endmodule
