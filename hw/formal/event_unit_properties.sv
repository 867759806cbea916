// event_unit: an event of an SA is in the queue once, or a bit of its SA until that is read or the SA is removed; and there
// are no others. An arbitrary event is watched from when it comes to where it goes, and beside it an arbitrary SA, and a
// generation of it. A bit may go for one of another generation.

module event_unit_properties
  import engine_pkg::*;
  import sa_pkg::*;
  import control_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned Depth = 2,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input logic               clk_i,
  input logic               rst_ni,
  input logic               outbound_valid_i,
  input logic [SaWidth-1:0] outbound_sa_i,
  input generation_t        outbound_generation_i,
  input sa_events_t         outbound_events_i,
  input logic               inbound_valid_i,
  input logic [SaWidth-1:0] inbound_sa_i,
  input generation_t        inbound_generation_i,
  input sa_events_t         inbound_events_i,
  input logic               key_valid_i,
  input direction_e         key_direction_i,
  input logic [SaWidth-1:0] key_sa_i,
  input generation_t        key_generation_i,
  input logic               forget_valid_i,
  input direction_e         forget_direction_i,
  input logic [SaWidth-1:0] forget_sa_i,
  input logic               take_valid_i,
  input direction_e         take_direction_i,
  input logic [SaWidth-1:0] take_sa_i,
  input logic               pop_i,
  // The SA that is watched; and which of its events, one that comes while this is set.
  input logic [SaWidth:0]   watch_i,
  input generation_t        generation_i,
  input logic               pick_i
);

  // Cycles that events of a direction are apart, at least.
  localparam int unsigned Apart = 5;

  logic ready_o, key_ready_o, forget_ready_o, take_ready_o, take_done_o, head_valid_o, overflow_o;
  generation_t take_generation_o, head_generation_o;
  engine_events_t take_events_o, head_events_o;
  direction_e head_direction_o;
  logic [SaWidth-1:0] head_sa_o;
  logic [SaWidth+1:0] sticky_count_o;

  event_unit #(
    .NSa(NSa),
    .Depth(Depth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [SaWidth:0] watch_q;
  generation_t generation_q;
  logic [2:0] outbound_age_q, inbound_age_q;
  logic outbound_comes, inbound_comes, key_comes;
  assign outbound_comes = outbound_valid_i && outbound_events_i != '0;
  assign inbound_comes = inbound_valid_i && inbound_events_i != '0;
  assign key_comes = key_valid_i && key_ready_o;

  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watch_q <= watch_i;
    generation_q <= generation_i;
    if (!rst_ni) outbound_age_q <= '1;
    else if (outbound_comes) outbound_age_q <= 3'd1;
    else if (outbound_age_q != '1) outbound_age_q <= outbound_age_q + 1'b1;
    if (!rst_ni) inbound_age_q <= '1;
    else if (inbound_comes) inbound_age_q <= 3'd1;
    else if (inbound_age_q != '1) inbound_age_q <= inbound_age_q + 1'b1;
  end

  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || (watch_i == watch_q && generation_i == generation_q));
    if (outbound_comes) assume (rst_ni && ready_o && 32'(outbound_age_q) >= Apart);
    if (inbound_comes) assume (rst_ni && ready_o && 32'(inbound_age_q) >= Apart);
  end

  // ---- how many came and went, modulo 256

  logic [7:0] came_q, left_q, kept_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      came_q <= '0;
      left_q <= '0;
      kept_q <= '0;
    end else begin
      came_q <= came_q + 8'(outbound_comes) + 8'(inbound_comes) + 8'(key_comes);
      left_q <= left_q + 8'(head_valid_o && pop_i);
      kept_q <= kept_q + 8'(overflow_o);
    end
  end

  // ---- the watched event

  typedef enum logic [2:0] {
    Nothing,
    // In front of its turn.
    Outbound_,
    Inbound_,
    Queued,
    // Its bit is being written, or is there.
    Kept
  } stage_e;
  stage_e stage_q, stage_d;
  // Of one generation.
  typedef struct packed {
    generation_t    generation;
    engine_events_t events;
  } news_t;
  news_t event_q, event_d;
  // So many are in front of it in the queue.
  logic [7:0] ahead_q, ahead_d;

  logic pop, goes;
  assign pop = head_valid_o && pop_i;
  // Whose turn it is.
  logic forgets, takes, replaces;
  assign forgets = forget_valid_i && forget_ready_o && {forget_direction_i, forget_sa_i} == watch_i;
  assign takes = take_valid_i && take_ready_o && {take_direction_i, take_sa_i} == watch_i;
  // Another generation's bit takes the place of the watched one's.
  assign replaces = dut.picked && 2'(dut.action_d) == 2'd0 && !dut.push && dut.place_d == watch_i
      && dut.news_d.generation != event_q.generation;

  always_comb begin
    stage_d = stage_q;
    event_d = event_q;
    ahead_d = ahead_q - 8'(pop);
    goes = 1'b0;
    unique case (stage_q)
      Nothing:
      if (pick_i) begin
        if (outbound_comes && {Outbound, outbound_sa_i} == watch_i) begin
          stage_d = Outbound_;
          event_d = '{generation: outbound_generation_i, events: '{key_ready: 1'b0, sa: outbound_events_i}};
        end else if (inbound_comes && {Inbound, inbound_sa_i} == watch_i) begin
          stage_d = Inbound_;
          event_d = '{generation: inbound_generation_i, events: '{key_ready: 1'b0, sa: inbound_events_i}};
        end else if (key_comes && {key_direction_i, key_sa_i} == watch_i) begin
          goes = 1'b1;
          event_d = '{generation: key_generation_i, events: '{key_ready: 1'b1, sa: '0}};
        end
      end
      Outbound_: goes = dut.outbound_taken;
      Inbound_: goes = dut.inbound_taken;
      Queued: if (pop && ahead_q == '0) stage_d = Nothing;
      default: if (forgets || takes || replaces) stage_d = Nothing;
    endcase
    if (goes) begin
      stage_d = dut.push ? Queued : Kept;
      ahead_d = 8'(dut.unused_count) - 8'(pop);
    end
  end

  always_ff @(posedge clk_i) begin
    stage_q <= rst_ni ? stage_d : Nothing;
    event_q <= event_d;
    ahead_q <= ahead_d;
  end

  // ---- the watched SA: what its bits of the watched generation may be at most, and what was taken of it

  engine_events_t comes, may_q, taken_q;
  news_t must_q;
  logic take_q;
  always_comb begin
    comes = '0;
    if (outbound_comes && {Outbound, outbound_sa_i} == watch_i && outbound_generation_i == generation_i) comes.sa |= outbound_events_i;
    if (inbound_comes && {Inbound, inbound_sa_i} == watch_i && inbound_generation_i == generation_i) comes.sa |= inbound_events_i;
    if (key_comes && {key_direction_i, key_sa_i} == watch_i && key_generation_i == generation_i) comes.key_ready = 1'b1;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      may_q <= '0;
      take_q <= 1'b0;
    end else begin
      may_q <= (forgets || takes ? '0 : may_q) | comes;
      if (takes) take_q <= 1'b1;
      else if (take_done_o) take_q <= 1'b0;
    end
    if (takes) begin
      taken_q <= may_q;
      must_q <= stage_q == Kept ? event_q : '0;
    end
  end

  // ---- of the state inside

  logic empty, write, adds;
  logic [1:0] state;
  assign state = 2'(dut.state_q);
  assign empty = state == 2'd0;
  assign write = state == 2'd2;
  assign adds = write && 2'(dut.action_q) == 2'd0;

  typedef struct packed {
    logic [SaWidth:0] place;
    news_t            news;
  } event_t;

  // The bits in memory, and how many SAs have any.
  news_t [2*NSa-1:0] bits;
  logic [SaWidth+1:0] with_bits;
  for (genvar i = 0; i < 2 * int'(NSa); i++) begin : gen_bits
    assign bits[i] = dut.u_sticky.mem[i];
  end
  always_comb begin
    with_bits = '0;
    for (int i = 0; i < 2 * int'(NSa); i++) with_bits += (SaWidth + 2)'(bits[i].events != '0);
  end

  logic emptied;
  always_comb begin
    emptied = 1'b1;
    for (int i = 0; i < 2 * int'(NSa); i++) if (i < int'(dut.empty_q) && bits[i].events != '0) emptied = 1'b0;
  end

  event_t at_turn;
  logic [31:0] place;
  assign place = 32'(dut.u_queue.read_q) + 32'(ahead_q);
  assign at_turn = dut.u_queue.mem[place >= Depth ? place - Depth : place];

  // The bits of a generation, of two.
  function automatic engine_events_t of(input generation_t generation, input news_t news);
    return news.generation == generation ? news.events : '0;
  endfunction

  news_t told;
  assign told = {take_generation_o, take_events_o};

  // What waits for the watched SA and generation.
  engine_events_t waiting;
  always_comb begin
    waiting = '0;
    if (dut.outbound_waits && {Outbound, dut.outbound.sa} == watch_i && dut.outbound.generation == generation_i) waiting.sa |= dut.outbound.events;
    if (dut.inbound_waits && {Inbound, dut.inbound.sa} == watch_i && dut.inbound.generation == generation_i) waiting.sa |= dut.inbound.events;
    if (adds && dut.place_q == watch_i) waiting |= of(generation_i, dut.news_q);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (stage_q == Queued && ahead_q == '0) queued_comes_out : assert (head_valid_o
          && {head_direction_o, head_sa_o} == watch_i && {head_generation_o, head_events_o} == event_q);
      if (take_done_o && take_q) kept_is_taken : assert (must_q.events == '0 || (of(must_q.generation, told) & must_q.events) == must_q.events);
      if (take_done_o && take_q) nothing_else_is_taken : assert ((of(generation_i, told) & ~taken_q) == '0);
      each_goes_once : assert (came_q == left_q + kept_q + 8'(dut.unused_count) + 8'(adds) + 8'(overflow_o)
          + 8'(dut.unused_outbound_count) + 8'(dut.unused_inbound_count));
      if (stage_q == Kept && !write && !empty) kept_is_counted : assert (sticky_count_o != '0);
      if ((forget_valid_i && forget_ready_o) || (take_valid_i && take_ready_o)) packets_come_first : assert (
          !dut.outbound_waits && !dut.inbound_waits && !key_comes);
      if (dut.outbound_waits) outbound_is_soon_taken : assert (outbound_age_q <= 3'd2);
      if (dut.inbound_waits) inbound_is_soon_taken : assert (inbound_age_q <= 3'd4);
      // State.
      turns_are_three : assert (state != 2'd3 && (!write || 2'(dut.action_q) != 2'd3)
          && (!write || dut.adds_q == (2'(dut.action_q) == 2'd0)) && (!empty || !dut.adds_q));
      few_wait : assert (dut.unused_outbound_count <= 2'd1 && dut.unused_inbound_count <= 2'd1
          && 32'(dut.u_outbound.write_q) == 32'(dut.u_outbound.read_q ^ dut.unused_outbound_count[0])
          && 32'(dut.u_inbound.write_q) == 32'(dut.u_inbound.read_q ^ dut.unused_inbound_count[0]));
      if (dut.outbound_waits) outbound_is_next : assert (!empty && outbound_age_q != 3'd0
          && (outbound_age_q != 3'd2 || !write));
      if (dut.inbound_waits) inbound_is_next : assert (!empty && inbound_age_q != 3'd0 && (inbound_age_q == 3'd1 || (inbound_age_q == 3'd2 && !write)
          || (!dut.outbound_waits && outbound_age_q inside {3'd2, 3'd3, 3'd4}
              && (inbound_age_q != 3'd2 || outbound_age_q != 3'd4)
              && (inbound_age_q != 3'd3 || !write || outbound_age_q != 3'd4)
              && (inbound_age_q != 3'd4 || (!write && outbound_age_q != 3'd2)))));
      queue_is_right : assert (32'(dut.unused_count) <= Depth && 32'(dut.u_queue.read_q) < Depth
          && 32'(dut.u_queue.write_q) < Depth
          && (32'(dut.u_queue.read_q) + 32'(dut.unused_count) - (32'(dut.u_queue.read_q) + 32'(dut.unused_count) >= Depth
              ? Depth : 0)) % Depth == 32'(dut.u_queue.write_q));
      if (stage_q == Outbound_) outbound_is_there : assert (dut.outbound_waits && {Outbound, dut.outbound.sa} == watch_i
          && event_q == {dut.outbound.generation, 1'b0, dut.outbound.events});
      if (stage_q == Inbound_) inbound_is_there : assert (dut.inbound_waits && {Inbound, dut.inbound.sa} == watch_i
          && event_q == {dut.inbound.generation, 1'b0, dut.inbound.events});
      if (stage_q == Queued) event_is_queued : assert (ahead_q < 8'(dut.unused_count) && at_turn == {watch_i, event_q});
      if (stage_q == Kept) bit_is_kept : assert (((of(event_q.generation, bits[watch_i])
          | (adds && dut.place_q == watch_i ? of(event_q.generation, dut.news_q) : '0)) & event_q.events) == event_q.events
          && event_q.events != '0 && !empty && (!write || dut.place_q != watch_i
          || (adds && dut.news_q.generation == event_q.generation)));
      if (write) read_is_there : assert (dut.kept == bits[dut.place_q]);
      if (!empty) none_is_invented : assert (((of(generation_i, bits[watch_i]) | waiting) & ~may_q) == '0
          || (write && !adds && dut.place_q == watch_i));
      if (!empty && write && !adds && dut.place_q == watch_i) what_waits_is_new : assert ((waiting & ~may_q) == '0);
      if (!empty) all_are_counted : assert (sticky_count_o == with_bits);
      if (empty) nothing_yet : assert (stage_q == Nothing && came_q == '0 && may_q == '0 && sticky_count_o == '0 && !take_q);
      if (empty) emptied_so_far : assert (emptied);
      added_is_something : assert ((!adds || dut.news_q.events != '0)
          && (!dut.outbound_waits || dut.outbound.events != '0) && (!dut.inbound_waits || dut.inbound.events != '0));
      if (take_q) take_is_done_next : assert (take_done_o || (write && 2'(dut.action_q) == 2'd2
          && dut.place_q == watch_i && (must_q.events == '0 || (of(must_q.generation, dut.kept) & must_q.events) == must_q.events)
          && (of(generation_i, dut.kept) & ~taken_q) == '0));
      if (take_done_o && take_q) taken_is_there : assert (!write
          && (must_q.events == '0 || (of(must_q.generation, told) & must_q.events) == must_q.events));
      both_ways : cover (stage_q == Queued && sticky_count_o != '0 && left_q != '0);
      all_taken : cover (take_done_o && take_q && must_q.events != '0 && must_q.events != take_events_o);
      replaced : cover (take_done_o && take_q && must_q.events != '0 && of(generation_i, told) == '0 && taken_q != '0);
    end
  end

endmodule
