// replay_window: for an arbitrary SA and an arbitrary number, whatever operations come in whatever order, with whatever
// numbers, on this SA and on others: the answers are those of RFC 4303 §3.4.3 and appendix A2.

module replay_window_properties
  import replay_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned Window = 8,
  parameter int unsigned WordWidth = 2,
  parameter int unsigned LowWidth = 4,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1,
  localparam int unsigned SequenceWidth = 2 * LowWidth
) (
  input logic                     clk_i,
  input logic                     rst_ni,
  input logic                     valid_i,
  input replay_op_e               op_i,
  input logic [SaWidth-1:0]       sa_i,
  input logic                     esn_i,
  input logic [SequenceWidth-1:0] sequence_i,
  // The SA and the number that are watched.
  input logic [SaWidth-1:0]       watched_sa_i,
  input logic [SequenceWidth-1:0] watched_i
);

  localparam int unsigned Words = Window / WordWidth;
  typedef logic [SequenceWidth-1:0] sequence_t;
  // Numbers with their sign, and room for what is behind the last one.
  typedef logic signed [SequenceWidth+1:0] wide_t;

  logic ready_o, done_o, accepted_o;
  sequence_t sequence_o, highest_o;

  replay_window #(
    .NSa(NSa),
    .Window(Window),
    .WordWidth(WordWidth),
    .LowWidth(LowWidth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [SaWidth-1:0] watched_sa_q;
  sequence_t watched_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watched_sa_q <= watched_sa_i;
    watched_q <= watched_i;
  end
  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || (watched_sa_i == watched_sa_q && watched_i == watched_q));
    assume (32'(watched_sa_i) < NSa);
    if (valid_i) assume (32'(sa_i) < NSa && 2'(op_i) != 2'd3);
  end

  // The operation under way.
  logic busy_q, esn_q;
  replay_op_e op_q;
  logic [SaWidth-1:0] sa_q;
  sequence_t asked_q;
  logic [5:0] age_q;
  logic start;
  assign start = valid_i && ready_o;

  always_ff @(posedge clk_i) begin
    if (start) begin
      op_q <= op_i;
      sa_q <= sa_i;
      esn_q <= esn_i;
      asked_q <= sequence_i;
    end
    age_q <= start ? '0 : age_q + 6'd1;
    if (!rst_ni) busy_q <= 1'b0;
    else busy_q <= start || (busy_q && !done_o);
  end

  // The model: the watched SA's right edge, and whether the watched number was accepted, since it was cleared.
  logic live_q, live_d, seen_q, seen_d;
  sequence_t edge_q, edge_d;
  logic mine;
  assign mine = busy_q && done_o && sa_q == watched_sa_i;

  // The whole number that is meant: ESN: the first with those lower bits from the left end of the window on (appendix
  // A2.2).
  wide_t left_end, meant;
  logic [LowWidth-1:0] beyond;
  assign left_end = wide_t'({2'b00, edge_q}) - wide_t'(Window - 1);
  assign beyond = asked_q[LowWidth-1:0] - left_end[LowWidth-1:0];

  always_comb begin
    if (op_q == ReplayUpdate) meant = wide_t'({2'b00, asked_q});
    else if (esn_q) meant = left_end + wide_t'({{(SequenceWidth + 2 - LowWidth) {1'b0}}, beyond});
    else meant = wide_t'({{(SequenceWidth + 2 - LowWidth) {1'b0}}, asked_q[LowWidth-1:0]});
  end

  logic exists, later, left, is_watched, known, fresh;
  assign exists = meant > 0 && meant[SequenceWidth+1:SequenceWidth] == '0;
  assign later = meant > wide_t'({2'b00, edge_q});
  assign left = meant < left_end;
  assign is_watched = sequence_t'(meant) == watched_i;
  // Whether a number in the window was seen is known of the watched one.
  assign known = !exists || later || left || is_watched;
  assign fresh = exists && (later || (!left && !seen_q));

  always_comb begin
    live_d = live_q;
    seen_d = seen_q;
    edge_d = edge_q;
    if (mine && op_q == ReplayClear) begin
      live_d = 1'b1;
      seen_d = 1'b0;
      edge_d = '0;
    end else if (mine && op_q == ReplayUpdate && accepted_o) begin
      if (later) edge_d = asked_q;
      if (is_watched) seen_d = 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    live_q <= rst_ni && live_d;
    seen_q <= seen_d;
    edge_q <= edge_d;
  end

  logic judged, update;
  assign judged = mine && live_q && op_q != ReplayClear;
  assign update = judged && op_q == ReplayUpdate;

  // ---- of the state inside, for induction: each step of an operation by itself

  localparam int unsigned WindowBits = $clog2(Window);
  localparam int unsigned WordBits = $clog2(WordWidth);
  typedef logic [WindowBits-1:0] index_t;
  typedef logic [WordBits-1:0] place_t;
  typedef logic [WordWidth-1:0] word_t;

  // As in replay_window.
  typedef enum logic [3:0] {
    Idle,
    Infer,
    Compare,
    Judge,
    Act,
    MoveRead,
    MoveHold,
    MoveRest,
    MoveBetween,
    MoveLastRead,
    MoveLastHold,
    MoveLast,
    Clear
  } state_e;
  state_e state;
  assign state = state_e'(4'(dut.state_q));

  function automatic logic [31:0] wrap(input logic [31:0] slot);
    return slot % 32'(Words);
  endfunction

  function automatic word_t from(input place_t place);
    return {WordWidth{1'b1}} << place;
  endfunction

  // A check or an update of the watched SA: on its way, and with its answer. A clear of it, until its answer and with it.
  logic at_rest, moves, own, works, judges, clears;
  assign at_rest = state == Idle;
  assign moves = state inside {MoveRead, MoveHold, MoveRest, MoveBetween, MoveLastRead, MoveLastHold, MoveLast};
  assign own = live_q && busy_q && sa_q == watched_sa_i && op_q != ReplayClear;
  assign works = own && !at_rest;
  // What was judged is in registers.
  assign judges = own && (at_rest || state == Act || moves);
  assign clears = busy_q && sa_q == watched_sa_i && op_q == ReplayClear;

  // The watched number's bit, and where it is.
  logic [31:0] watched_slot;
  place_t watched_place;
  word_t word;
  logic in_window, bit_is, same_bit;
  assign watched_slot = (32'(watched_i) % Window) / WordWidth;
  assign watched_place = place_t'(watched_i);
  assign in_window = watched_i <= edge_d && edge_d - watched_i < sequence_t'(Window) && watched_i != '0;
  assign word = dut.window_mem[32'(watched_sa_i)*Words+watched_slot];
  assign bit_is = word[watched_place];
  assign same_bit = index_t'(asked_q) == index_t'(watched_i);

  // The number that is asked for, in the ring: its slot, and its place there. The first that the edge passes over.
  index_t index, first;
  logic [31:0] slot, first_slot, slot_q, left_q, between;
  wide_t gap;
  logic far, short_step;
  assign index = index_t'(asked_q);
  assign first = index_t'(edge_q) + 1'b1;
  assign slot = 32'(index) / WordWidth;
  assign first_slot = 32'(first) / WordWidth;
  assign slot_q = 32'(dut.slot_q);
  assign left_q = 32'(dut.left_q);
  // Words between that of the first and that of the number.
  assign between = wrap(slot + 2 * Words - first_slot - 1);
  assign gap = meant - wide_t'({2'b00, edge_q});
  assign far = gap >= wide_t'(Window);
  assign short_step = gap <= wide_t'(WordWidth) && place_t'(index) >= place_t'(first);

  // A move, by words: so many are done. The watched number, if it is right of the old edge and left of the new one, is in a
  // word so many behind that of the first. A far move begins behind the word that it ends in.
  sequence_t behind;
  logic [31:0] done_words, watched_word;
  assign behind = watched_i - edge_q - 1'b1;
  always_comb begin
    done_words = '0;
    if (state inside {MoveBetween, MoveLastRead, MoveLastHold, MoveLast})
      done_words = (far ? Words - 1 : between + 1) - left_q;
    if (far) watched_word = wrap(watched_slot + 2 * Words - slot - 1);
    else watched_word = (32'(place_t'(first)) + 32'(behind[WindowBits-1:0])) / WordWidth;
  end

  logic stays_inside, is_passed;
  assign stays_inside = in_window && asked_q - watched_i < sequence_t'(Window);
  assign is_passed = watched_i > edge_q && watched_i < asked_q && asked_q - watched_i < sequence_t'(Window);

  // When each state has its time, and what of a word that is written there is kept: below the first, from the number on;
  // and whether it is marked.
  logic [31:0] age;
  logic in_time_now, writes;
  logic [2:0] keeps;
  assign age = 32'(age_q);
  always_comb begin
    in_time_now = op_q == ReplayUpdate && (!moves || slot_q < Words);
    writes = 1'b0;
    keeps = 3'b000;
    unique case (state)
      Idle: in_time_now = 1'b1;
      Infer: in_time_now = op_q == ReplayCheck && age == 0;
      Compare: in_time_now = op_q == ReplayCheck ? age == 1 : op_q == ReplayUpdate && age == 0;
      Judge: in_time_now = op_q == ReplayCheck ? age == 2 : op_q == ReplayUpdate && age == 1;
      Act: begin
        in_time_now &= age == 2;
        writes = 1'b1;
        keeps = 3'b111;
      end
      MoveRead: in_time_now &= age == 3 && !dut.far_q && left_q < Words;
      MoveHold: in_time_now &= age == 4 && !dut.far_q && left_q < Words;
      MoveRest: begin
        in_time_now &= age == 5 && !dut.far_q && left_q < Words;
        writes = 1'b1;
        keeps = 3'b100;
      end
      MoveBetween: begin
        in_time_now &= left_q != 0 && left_q < Words && age + left_q <= Words + (dut.far_q ? 2 : 5);
        writes = 1'b1;
      end
      MoveLastRead: in_time_now &= left_q == 0 && age <= Words + 5 && !dut.far_q;
      MoveLastHold: in_time_now &= left_q == 0 && age <= Words + 6 && !dut.far_q;
      MoveLast: begin
        in_time_now &= left_q == 0 && age <= Words + 7;
        writes = 1'b1;
        keeps = {1'b0, !dut.far_q, 1'b1};
      end
      default: begin
        in_time_now = state == Clear && op_q == ReplayClear && age + left_q == Words - 1 && slot_q == age;
        writes = 1'b1;
      end
    endcase
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (done_o) answers_are_asked_for : assert (busy_q);
      if (busy_q) answers_come : assert (32'(age_q) <= Words + 8);
      if (update && accepted_o && is_watched) at_most_once : assert (!seen_q);
      if (judged && accepted_o) never_left_of_the_window : assert (!left && exists);
      if (mine && live_q && op_q != ReplayClear) edge_never_back : assert (highest_o >= edge_q);
      if (judged) edge_is_right : assert (highest_o == (update && fresh && later ? asked_q : edge_q));
      if (judged && known) accepted_if_fresh : assert (accepted_o == fresh);
      if (judged && exists) number_is_right : assert (sequence_o == sequence_t'(meant));
      // State.
      under_way : assert (at_rest ? !busy_q || done_o : busy_q && !done_o);
      if (!at_rest) same_operation : assert (dut.op_q == op_q && dut.sa_q == sa_q && dut.esn_q == esn_q
          && 32'(sa_q) < NSa);
      if (!at_rest) same_number : assert (dut.low_q == asked_q[LowWidth-1:0]
          && dut.mark_q == word_t'(1) << place_t'(index));
      if (!at_rest) in_time : assert (in_time_now);
      if (!at_rest) keeps_by_state : assert (dut.act_q == (state == Act) && (!writes
          || {dut.keep_below_q, dut.keep_above_q, dut.set_q} == keeps));
      if (own) edge_is_read : assert (dut.highest_q == edge_q);
      if (works && state == Compare) half_is_chosen : assert (op_q == ReplayUpdate
          ? dut.high_q == asked_q[SequenceWidth-1:LowWidth] && !dut.infers_q
          : dut.high_q == (esn_q ? dut.top_high : '0) && dut.infers_q == esn_q && dut.top_high_q == dut.top_high
          && dut.one_subspace_q == dut.one_subspace && dut.low_reaches_q == dut.low_reaches
          && dut.reach_over_q == dut.reach[LowWidth]);
      if (works && state == Judge) begin
        number_is_made : assert ((dut.possible_q && dut.sequence_q != '0) == exists
            && (!exists || dut.sequence_q == sequence_t'(meant))
            && (dut.beside_q ? !dut.possible_q
            || dut.sequence_q[SequenceWidth-1:LowWidth] == (dut.above_q ? dut.top_high + 1'b1 : dut.top_high - 1'b1)
            : dut.sequence_q[SequenceWidth-1:LowWidth] == dut.high_q));
        halves_are_apart : assert (dut.apart_low_q == dut.low_q - dut.top_low && dut.less_low_q == (dut.low_q < dut.top_low)
            && dut.apart_high_q == dut.high_q - dut.top_high && dut.less_high_q == (dut.high_q < dut.top_high));
        if (same_bit) bit_is_seen : assert (dut.seen == bit_is);
      end
      if (works && (state == Judge || judges)) first_is_next : assert (dut.next_index_q == first);
      if (judges) begin
        judged_by_definition : assert (dut.sent_q == exists && (!exists
            || (dut.less_q == (gap < 0) && dut.same_q == (gap == 0) && dut.sequence_q == sequence_t'(meant)
            && (later ? dut.far_q == far && dut.same_word_q == short_step
            : (!dut.within_q || !left) && (left || !is_watched || dut.within_q == !seen_q)))));
        if (state == Act || moves) parts_by_definition : assert (dut.from_place_q == from(place_t'(index))
            && dut.from_next_q == from(place_t'(first)));
        if (moves) only_what_is_new_moves : assert (exists && later && !short_step);
        if (at_rest || moves) moved_if_new : assert (dut.moved_q == (op_q == ReplayUpdate && exists && later));
        if (moves) move_is_there : assert (state inside {MoveRead, MoveHold, MoveRest}
            ? slot_q == first_slot && left_q == between
            : wrap(slot_q + left_q) == slot && left_q <= (far ? Words - 1 : between));
      end
      if (works && slot == watched_slot) begin
        if (state inside {Infer, Compare, Judge, Act}) word_is_read : assert (dut.word_q[watched_place] == bit_is
            && (state inside {Infer, Compare} || dut.held_q[watched_place] == bit_is));
      end
      if (works && slot_q == watched_slot) begin
        if (state inside {MoveHold, MoveLastHold}) word_is_read_again : assert (dut.word_q[watched_place] == bit_is);
        if (state inside {MoveRest, MoveLast} && !dut.far_q) word_is_held : assert (dut.held_q[watched_place] == bit_is);
      end
      if (live_d && (at_rest || !clears)) edge_in_memory : assert (dut.highest_mem[watched_sa_i] == (own && moves ? asked_q : edge_d));
      if (live_d && (at_rest || !clears) && (own && moves ? stays_inside : in_window)) seen_in_memory : assert (bit_is == seen_d);
      if (own && moves && is_passed && watched_word < done_words) passed_is_cleared : assert (!bit_is);
      if (clears) cleared_so_far : assert ((age == 0 || dut.highest_mem[watched_sa_i] == '0)
          && (watched_slot >= age || !bit_is));
      if (live_d && watched_i > edge_d) later_not_seen : assert (!seen_d);
      wrapped_around : cover (update && accepted_o && live_q && later && seen_q && left_end > wide_t'(Window));
      copy_between : cover (update && !accepted_o && is_watched && seen_q && !left);
      inferred_behind : cover (judged && accepted_o && op_q == ReplayCheck && esn_q && later && meant[LowWidth]);
    end
  end

endmodule
