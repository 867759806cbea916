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

  // Of the state inside, for induction: an operation that works on the watched SA's memories, and the watched bit.
  logic at_rest, in_window, bit_is;
  logic [WordWidth-1:0] word;
  assign at_rest = ready_o;
  assign in_window = watched_i <= edge_d && edge_d - watched_i < sequence_t'(Window);
  assign word = dut.window_mem[32'(watched_sa_i)*Words+((32'(watched_i)%Window)/WordWidth)];
  assign bit_is = |(word & (WordWidth'(1) << (32'(watched_i) % WordWidth)));

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
      if (!at_rest) same_operation : assert (dut.op_q == op_q && dut.sa_q == sa_q && dut.esn_q == esn_q);
      if (live_d && at_rest) edge_in_memory : assert (dut.highest_mem[watched_sa_i] == edge_d);
      if (live_d && at_rest && in_window && watched_i != '0) seen_in_memory : assert (bit_is == seen_d);
      if (live_d && watched_i > edge_d) later_not_seen : assert (!seen_d);
      wrapped_around : cover (update && accepted_o && live_q && later && seen_q && left_end > wide_t'(Window));
      copy_between : cover (update && !accepted_o && is_watched && seen_q && !left);
      inferred_behind : cover (judged && accepted_o && op_q == ReplayCheck && esn_q && later && meant[LowWidth]);
    end
  end

endmodule
