// What happened to SAs, for software to read: a queue, and behind it a bit for each SA and kind. With the generation of the SA:
// a new one takes an index over while what came of the old one waits.
//
// An event that finds the queue full is not lost: its bit is set in a memory and stays until it is read or the SA is
// removed. Only its place in the order is gone, and whether it came once or more often. What the memory has of an older
// generation makes room for it.
//
// Packets do not wait, so their events are taken whenever they come, as long as those of a direction are eight cycles
// apart on the average. An event takes one cycle if the queue has room, else two, as everything does that goes to the
// memory. Events of packets come before what else is asked for; so what an SA's last packets told is there before its
// removal wipes it.

module event_unit
  import engine_pkg::*;
  import sa_pkg::*;
  import control_pkg::*;
#(
  // How many SAs, at least two.
  parameter int unsigned NSa = 256,
  // Events that can wait, at least two.
  parameter int unsigned Depth = 64,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input  logic               clk_i,
  input  logic               rst_ni,

  // The memory is empty: 2 * NSa cycles after reset. Events wait until then, and only two of a direction can.
  output logic               ready_o,

  // Of packets, for one cycle. Those without a bit are none.
  input  logic               outbound_valid_i,
  input  logic [SaWidth-1:0] outbound_sa_i,
  input  generation_t        outbound_generation_i,
  input  sa_events_t         outbound_events_i,
  input  logic               inbound_valid_i,
  input  logic [SaWidth-1:0] inbound_sa_i,
  input  generation_t        inbound_generation_i,
  input  sa_events_t         inbound_events_i,

  // An installation is over.
  input  logic               key_valid_i,
  output logic               key_ready_o,
  input  direction_e         key_direction_i,
  input  logic [SaWidth-1:0] key_sa_i,
  input  generation_t        key_generation_i,

  // An SA was removed: its bits are cleared.
  input  logic               forget_valid_i,
  output logic               forget_ready_o,
  input  direction_e         forget_direction_i,
  input  logic [SaWidth-1:0] forget_sa_i,

  // An SA's bits are read and cleared; they are there with done, for one cycle.
  input  logic               take_valid_i,
  output logic               take_ready_o,
  input  direction_e         take_direction_i,
  input  logic [SaWidth-1:0] take_sa_i,
  output logic               take_done_o,
  output generation_t        take_generation_o,
  output engine_events_t     take_events_o,

  // The queue.
  output logic               head_valid_o,
  output direction_e         head_direction_o,
  output logic [SaWidth-1:0] head_sa_o,
  output generation_t        head_generation_o,
  output engine_events_t     head_events_o,
  input  logic               pop_i,

  // An event went to the memory, for one cycle; and how many SAs have bits there.
  output logic               overflow_o,
  output logic [SaWidth+1:0] sticky_count_o
);

  if (NSa < 2) begin : gen_bad_nsa
    $error("NSa is at least 2");
  end

  localparam int unsigned AddrWidth = SaWidth + 1;

  typedef struct packed {
    direction_e         direction;
    logic [SaWidth-1:0] sa;
  } place_t;

  // Of one generation.
  typedef struct packed {
    generation_t    generation;
    engine_events_t events;
  } news_t;

  typedef struct packed {
    place_t place;
    news_t  news;
  } event_t;

  typedef struct packed {
    logic [SaWidth-1:0] sa;
    generation_t        generation;
    sa_events_t         events;
  } told_t;

  // ---- events of packets wait until their turn

  logic outbound_come, inbound_come, outbound_room, inbound_room, outbound_waits, inbound_waits;
  logic outbound_taken, inbound_taken;
  told_t outbound, inbound;
  logic [1:0] unused_outbound_count, unused_inbound_count;

  assign outbound_come = outbound_valid_i && outbound_events_i != '0;
  assign inbound_come = inbound_valid_i && inbound_events_i != '0;

  fifo #(
    .Width($bits(told_t)),
    .Depth(2)
  ) u_outbound (
    .clk_i,
    .rst_ni,
    .valid_i(outbound_come),
    .ready_o(outbound_room),
    .data_i ({outbound_sa_i, outbound_generation_i, outbound_events_i}),
    .valid_o(outbound_waits),
    .ready_i(outbound_taken),
    .data_o (outbound),
    .count_o(unused_outbound_count)
  );

  fifo #(
    .Width($bits(told_t)),
    .Depth(2)
  ) u_inbound (
    .clk_i,
    .rst_ni,
    .valid_i(inbound_come),
    .ready_o(inbound_room),
    .data_i ({inbound_sa_i, inbound_generation_i, inbound_events_i}),
    .valid_o(inbound_waits),
    .ready_i(inbound_taken),
    .data_o (inbound),
    .count_o(unused_inbound_count)
  );

  // ---- one after another

  typedef enum logic [1:0] {
    // After reset: zeros into the memory.
    Empty,
    Pick,
    // What was picked needs the memory: it was read, and is written now.
    Write
  } state_e;

  typedef enum logic [1:0] {
    Add,
    Forget,
    Take
  } action_e;

  state_e state_q, state_d;
  action_e action_q, action_d;
  place_t place_q, place_d;
  news_t news_q, news_d;
  logic [AddrWidth-1:0] empty_q;
  logic [SaWidth+1:0] sticky_count_q;

  logic picked, queue_room, push, read, write;
  // What is written is added to what was read; else it is zeros. Known early: what is read comes late.
  logic adds_q;
  news_t kept, next;

  always_comb begin
    state_d = state_q;
    action_d = action_q;
    place_d = place_q;
    news_d = news_q;
    outbound_taken = 1'b0;
    inbound_taken = 1'b0;
    key_ready_o = 1'b0;
    forget_ready_o = 1'b0;
    take_ready_o = 1'b0;
    picked = 1'b0;

    unique case (state_q)
      Empty: if (empty_q == '1) state_d = Pick;

      Pick: begin
        picked = 1'b1;
        action_d = Add;
        if (outbound_waits) begin
          outbound_taken = 1'b1;
          place_d = '{direction: Outbound, sa: outbound.sa};
          news_d = '{generation: outbound.generation, events: '{key_ready: 1'b0, sa: outbound.events}};
        end else if (inbound_waits) begin
          inbound_taken = 1'b1;
          place_d = '{direction: Inbound, sa: inbound.sa};
          news_d = '{generation: inbound.generation, events: '{key_ready: 1'b0, sa: inbound.events}};
        end else if (key_valid_i) begin
          key_ready_o = 1'b1;
          place_d = '{direction: key_direction_i, sa: key_sa_i};
          news_d = '{generation: key_generation_i, events: '{key_ready: 1'b1, sa: '0}};
        end else if (forget_valid_i) begin
          forget_ready_o = 1'b1;
          action_d = Forget;
          place_d = '{direction: forget_direction_i, sa: forget_sa_i};
        end else if (take_valid_i) begin
          take_ready_o = 1'b1;
          action_d = Take;
          place_d = '{direction: take_direction_i, sa: take_sa_i};
        end else begin
          picked = 1'b0;
        end
        if (picked && !push) state_d = Write;
      end

      Write: state_d = Pick;

      default: state_d = Pick;
    endcase
  end

  assign push = picked && action_d == Add && queue_room;
  assign read = state_q == Pick;
  assign write = state_q == Write;
  always_comb begin
    next = '0;
    if (adds_q) begin
      next = news_q;
      if (kept.generation == news_q.generation) next.events |= kept.events;
    end
  end

  ram_1r1w #(
    .Width  ($bits(news_t)),
    .Depth  (2 ** AddrWidth),
    .ReadOld(1'b0)
  ) u_sticky (
    .clk_i,
    .write_i     (write || state_q == Empty),
    .write_addr_i(state_q == Empty ? empty_q : place_q),
    .write_data_i(next),
    .read_i      (read),
    .read_addr_i (place_d),
    .read_data_o (kept)
  );

  always_ff @(posedge clk_i) begin
    action_q <= action_d;
    place_q <= place_d;
    news_q <= news_d;
    take_generation_o <= kept.generation;
    take_events_o <= kept.events;
    if (!rst_ni) begin
      state_q <= Empty;
      adds_q <= 1'b0;
      empty_q <= '0;
      sticky_count_q <= '0;
      take_done_o <= 1'b0;
      overflow_o <= 1'b0;
    end else begin
      state_q <= state_d;
      adds_q <= state_q == Pick && action_d == Add;
      if (state_q == Empty) empty_q <= empty_q + 1'b1;
      // What is added is not nothing.
      if (write && adds_q && kept.events == '0) sticky_count_q <= sticky_count_q + 1'b1;
      if (write && !adds_q && kept.events != '0) sticky_count_q <= sticky_count_q - 1'b1;
      take_done_o <= write && action_q == Take;
      overflow_o <= write && adds_q;
    end
  end

  assign ready_o = state_q != Empty;
  assign sticky_count_o = sticky_count_q;

  // ---- the queue

  event_t pushed, head;
  logic [$clog2(Depth + 1)-1:0] unused_count;

  assign pushed = '{place: place_d, news: news_d};

  fifo #(
    .Width($bits(event_t)),
    .Depth(Depth)
  ) u_queue (
    .clk_i,
    .rst_ni,
    .valid_i(push),
    .ready_o(queue_room),
    .data_i (pushed),
    .valid_o(head_valid_o),
    .ready_i(pop_i),
    .data_o (head),
    .count_o(unused_count)
  );

  assign head_direction_o = head.place.direction;
  assign head_sa_o = head.place.sa;
  assign head_generation_o = head.news.generation;
  assign head_events_o = head.news.events;

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    if (rst_ni && reset_seen_q) begin
      if (outbound_come) assert (outbound_room) else $error("no place for an outbound event");
      if (inbound_come) assert (inbound_room) else $error("no place for an inbound event");
    end
  end
`else
  logic unused_room;
  assign unused_room = outbound_room ^ inbound_room;
`endif

endmodule
