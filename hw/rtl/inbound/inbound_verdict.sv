// The last word on every packet (RFC 4303 §3.4.3, §3.4.4): whether its ICV is right, its sequence number still new, its SA's
// lifetime not over, and its content as it should be; in that order. Until then nothing of it leaves: this is where the
// descriptor for packet_buffer comes from. All drops of the inbound pipeline are told here, in the order of the packets.
//
// Counters of an SA are here too: what a packet changes is written before the next one is looked at, and a request for
// them is answered between two packets. Eight cycles a packet. A wrong ICV changes neither window nor usage.
//
// A command gives an answer as a request does, of what was counted until then, writes limits and zeros, clears the window, and
// is done when the cipher has its keys too.

module inbound_verdict
  import esp_pkg::*;
  import sa_pkg::*;
  import engine_pkg::*;
  import reason_pkg::*;
  import replay_pkg::*;
  import inbound_pkg::*;
#(
  // How many SAs, at least two.
  parameter int unsigned NSa = 1024,
  // Items between inbound_stream and here.
  parameter int unsigned Items = 8,
  // Bits of a count of beats in the buffer behind.
  parameter int unsigned RoomWidth = 12,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,

  // From inbound_stream: everything in its turn, and the ICV that a packet has.
  input  logic                 item_valid_i,
  output logic                 item_room_o,
  input  verdict_item_t        item_i,
  input  logic [SaWidth-1:0]   item_sa_i,
  input  logic                 icv_valid_i,
  input  beat_t                icv_i,
  // From the cipher: the ICV that it should have, at least three cycles later.
  input  logic                 tag_valid_i,
  input  beat_t                tag_i,
  // From inbound_inspect.
  input  logic                 content_valid_i,
  input  content_t             content_i,

  // The replay windows.
  output logic                 replay_valid_o,
  input  logic                 replay_ready_i,
  output replay_op_e           replay_op_o,
  output logic [SaWidth-1:0]   replay_sa_o,
  output logic [63:0]          replay_sequence_o,
  input  logic                 replay_done_i,
  input  logic                 replay_accepted_i,
  input  logic [63:0]          replay_highest_i,

  // Of a command. The limits stay until it is done.
  input  limits_t              command_hard_i,
  input  limits_t              command_soft_i,
  input  logic                 key_done_i,
  output logic                 command_done_o,

  // To packet_buffer.
  output logic                 descriptor_valid_o,
  output logic [RoomWidth-1:0] descriptor_beats_o,
  output length_t              descriptor_bytes_o,
  output logic                 first_valid_o,
  output beat_t                first_o,
  output length_t              patch_at_o,
  output logic [1:0][7:0]      patch_o,
  output logic [1:0]           patch_mask_o,
  output logic [SaWidth-1:0]   user_o,

  // For one cycle each.
  output logic                 drop_valid_o,
  output drop_t                drop_o,
  output logic [SaWidth-1:0]   drop_sa_o,
  output logic                 events_valid_o,
  output logic [SaWidth-1:0]   events_sa_o,
  output generation_t          events_generation_o,
  output sa_events_t           events_o,

  // Counters as they are between two packets. A request has its turn after the packet that is being looked at; a command is
  // one too.
  input  logic                 read_valid_i,
  output logic                 read_ready_o,
  input  logic [SaWidth-1:0]   read_sa_i,
  output logic                 read_done_o,
  output sa_usage_t            read_usage_o
);

  if (NSa < 2) begin : gen_bad_nsa
    $error("NSa is at least 2");
  end

  typedef struct packed {
    counter_t packets;
    counter_t bytes;
  } usage_t;

  typedef struct packed {
    counter_t replayed;
    counter_t integrity;
  } failures_t;

  // Words of an SA.
  localparam logic [1:0] WordUsage = 2'd0;
  localparam logic [1:0] WordFailures = 2'd1;
  localparam logic [1:0] WordHard = 2'd2;
  localparam logic [1:0] WordSoft = 2'd3;

  localparam int unsigned CountWidth = $clog2(Items + 1);

  // ---- what comes in

  typedef struct packed {
    verdict_item_t      item;
    logic [SaWidth-1:0] sa;
  } entry_t;

  entry_t entry_d, entry_q;
  logic entry_offered, entry_valid_q, queue_room, pop, pop_packet;
  verdict_item_t item;
  logic [CountWidth-1:0] entry_count, icv_count, right_count, content_count;

  fifo #(.Width($bits(entry_t)), .Depth(Items)) u_items (
    .clk_i, .rst_ni,
    .valid_i(item_valid_i), .ready_o(queue_room), .data_i({item_i, item_sa_i}),
    .valid_o(entry_offered), .ready_i(pop || !entry_valid_q), .data_o(entry_d), .count_o(entry_count)
  );

  // The one whose turn it is has registers: much hangs on it.
  always_ff @(posedge clk_i) begin
    if (pop || !entry_valid_q) entry_q <= entry_d;
    if (!rst_ni) entry_valid_q <= 1'b0;
    else if (pop || !entry_valid_q) entry_valid_q <= entry_offered;
  end
  // It counts among the items: there are as many places for all else.
  assign item_room_o = queue_room && !(entry_valid_q && entry_count == CountWidth'(Items - 1));
  assign item = entry_q.item;

  // An ICV is compared when its tag comes: bytes first, then all of them.

  beat_t icv;
  logic icv_room, icv_valid, compare1_q, compare2_q, right2_q, right_room, right_valid, right;
  logic [15:0] same1_q;

  fifo #(.Width(128), .Depth(Items)) u_icvs (
    .clk_i, .rst_ni,
    .valid_i(icv_valid_i), .ready_o(icv_room), .data_i(icv_i),
    .valid_o(icv_valid), .ready_i(tag_valid_i), .data_o(icv), .count_o(icv_count)
  );

  always_ff @(posedge clk_i) begin
    for (int i = 0; i < 16; i++) same1_q[i] <= icv[8*i+:8] == tag_i[8*i+:8];
    right2_q <= &same1_q;
    compare1_q <= rst_ni && tag_valid_i;
    compare2_q <= rst_ni && compare1_q;
  end

  fifo #(.Width(1), .Depth(Items)) u_rights (
    .clk_i, .rst_ni,
    .valid_i(compare2_q), .ready_o(right_room), .data_i(right2_q),
    .valid_o(right_valid), .ready_i(pop_packet), .data_o(right), .count_o(right_count)
  );

  content_t content;
  logic content_room, content_valid;

  fifo #(.Width($bits(content_t)), .Depth(Items)) u_contents (
    .clk_i, .rst_ni,
    .valid_i(content_valid_i), .ready_o(content_room), .data_i(content_i),
    .valid_o(content_valid), .ready_i(pop_packet), .data_o(content), .count_o(content_count)
  );

  // The key of a command may be in place before it is its turn.
  logic key_done_q;

  // ---- one thing after another

  typedef enum logic [1:0] {
    Idle,
    Packet,
    Command,
    Read
  } state_e;
  state_e state_q, state_d;
  logic [2:0] step_q, step_d;
  // The request is a command's, which goes on.
  logic replaces_q;
  // What had its turn last; after it the other kind goes first.
  logic read_last_q;
  logic start_item, start_read, item_due, finish_q;

  // What belongs to a packet is there too; known a cycle later, and no more of what is taken now.
  logic parts_there_q;
  always_ff @(posedge clk_i) begin
    if (pop_packet) parts_there_q <= rst_ni && right_count > CountWidth'(1) && content_count > CountWidth'(1);
    else parts_there_q <= rst_ni && right_valid && content_valid;
  end

  assign item_due = entry_valid_q && (item.kind != ItemPacket || parts_there_q);
  assign start_read = state_q == Idle && read_valid_i && !(item_due && read_last_q);
  assign start_item = state_q == Idle && item_due && !start_read;
  assign read_ready_o = state_q == Idle && !(item_due && read_last_q);

  logic [SaWidth-1:0] sa_q, sa_d;

  always_comb begin
    sa_d = sa_q;
    if (start_read) sa_d = read_sa_i;
    else if (state_q == Idle) sa_d = entry_q.sa;
  end

  // Memory: read one word after another, written once.

  // No word is read in the cycle in which it is written.
  (* no_rw_check *)
  word_t mem [NSa * 4];
  word_t word_q, write_data;
  logic read, write;
  logic [1:0] read_word, write_word;

  always_ff @(posedge clk_i) begin
    if (read) word_q <= mem[{sa_d, read_word}];
    if (write) mem[{sa_q, write_word}] <= write_data;
  end

  assign read = start_item || start_read || state_q == Packet || state_q == Read;
  assign read_word = state_q == Idle ? WordUsage : step_q[1:0];

  usage_t usage_q;
  failures_t failures_q;
  limits_t hard_q, soft_q;

  always_ff @(posedge clk_i) begin
    // Whatever is under way: only a packet and a request look at them.
    unique case (step_q)
      3'd1: usage_q <= word_q;
      3'd2: failures_q <= word_q;
      3'd3: hard_q <= word_q;
      3'd4: soft_q <= word_q;
      default: ;
    endcase
    sa_q <= sa_d;
  end

  // The window: a packet whose ICV is right, a new SA, and a request, which is a check.

  // The last cycle of a request.
  logic read_end_q;
  logic replay_open_q, replay_done_q, accepted_q, begin_replay, replaces;
  replay_op_e op_d;
  // A command's request is answered; now it changes the SA.
  assign replaces = read_end_q && replaces_q;

  always_comb begin
    begin_replay = start_read || replaces;
    op_d = replaces ? ReplayClear : ReplayCheck;
    if (start_item) begin
      begin_replay = item.kind == ItemCommand || (item.kind == ItemPacket && right);
      if (item.kind != ItemCommand) op_d = ReplayUpdate;
    end
  end

  always_ff @(posedge clk_i) begin
    if (state_q == Idle || replaces) begin
      replay_op_o <= op_d;
      replay_sequence_o <= item.sequence_number;
    end
    if (replay_done_i) accepted_q <= replay_accepted_i;
    if (!rst_ni) begin
      replay_open_q <= 1'b0;
      replay_done_q <= 1'b0;
    end else begin
      if (begin_replay) replay_open_q <= 1'b1;
      else if (replay_ready_i) replay_open_q <= 1'b0;
      if (state_q == Idle || replaces) replay_done_q <= !begin_replay;
      else if (replay_done_i) replay_done_q <= 1'b1;
    end
  end

  assign replay_valid_o = replay_open_q;
  assign replay_sa_o = sa_q;

  // Counting.

  counter_t next_packets_q, next_bytes_q, next_replayed_q, next_integrity_q;
  logic first_failure_q, over_q;
  // Where a counter stands to a limit, before and with this packet: hard packets, hard bytes, soft packets, soft bytes.
  logic [3:0] before_q, reached_q, limited_q, crossed;

  always_ff @(posedge clk_i) begin
    if (step_q == 3'd2) begin
      next_packets_q <= usage_q.packets + 1'b1;
      next_bytes_q <= usage_q.bytes + 64'(item.body);
    end
    if (step_q == 3'd3) begin
      next_replayed_q <= failures_q.replayed + 1'b1;
      next_integrity_q <= failures_q.integrity + 1'b1;
      first_failure_q <= failures_q.integrity == '0;
    end
    limited_q <= {hard_q.packets != '0, hard_q.bytes != '0, soft_q.packets != '0, soft_q.bytes != '0};
    before_q <= {
      usage_q.packets < hard_q.packets,
      usage_q.bytes < hard_q.bytes,
      usage_q.packets < soft_q.packets,
      usage_q.bytes < soft_q.bytes
    };
    over_q <= |(limited_q[3:2] & ~before_q[3:2]);
    reached_q <= {
      next_packets_q >= hard_q.packets,
      next_bytes_q >= hard_q.bytes,
      next_packets_q >= soft_q.packets,
      next_bytes_q >= soft_q.bytes
    };
  end
  assign crossed = limited_q & before_q & reached_q;

  // The verdict, in the seventh step at the earliest: what is told is told eight cycles apart.

  logic decide_q, bad, counted, failed_integrity, failed_replay, skip, right_q, replayed_q;
  reason_e reason;
  assign skip = item.kind == ItemSkip;
  // While a packet is looked at, it stays.
  always_ff @(posedge clk_i) begin
    right_q <= right;
    replayed_q <= item.reason == ReasonReplayed;
  end

  always_comb begin
    bad = 1'b1;
    counted = 1'b0;
    failed_integrity = 1'b0;
    failed_replay = 1'b0;
    reason = item.reason;
    if (skip) begin
      failed_replay = replayed_q;
    end else if (!right_q) begin
      reason = ReasonIntegrity;
      failed_integrity = 1'b1;
    end else if (!accepted_q) begin
      reason = ReasonReplayed;
      failed_replay = 1'b1;
    end else if (over_q) begin
      reason = ReasonLifetimeExpired;
    end else begin
      counted = 1'b1;
      bad = content.bad;
      reason = content.reason;
    end
  end

  // Both are known a cycle ahead.
  always_ff @(posedge clk_i) begin
    decide_q <= rst_ni && state_q == Packet && step_q[2:1] == 2'd3 && !decide_q && (replay_done_q || replay_done_i);
    finish_q <= rst_ni && state_q == Command && step_q == 3'd4 && !finish_q && replay_done_q && (key_done_q || key_done_i);
  end
  assign pop = decide_q || finish_q;

  always_ff @(posedge clk_i) begin
    read_end_q <= rst_ni && state_q == Read && step_q == 3'd3 && !read_end_q && replay_done_q;
  end
  assign pop_packet = decide_q && !skip;

  always_comb begin
    state_d = state_q;
    step_d = step_q + 1'b1;
    write = 1'b0;
    write_word = step_q[1:0];
    write_data = '0;

    unique case (state_q)
      Idle: begin
        step_d = 3'd1;
        if (start_read) begin
          state_d = Read;
        end else if (start_item) begin
          state_d = item.kind == ItemCommand ? Read : Packet;
        end
      end

      Packet: begin
        write = decide_q && (counted || failed_replay || failed_integrity);
        write_word = counted ? WordUsage : WordFailures;
        write_data = {next_packets_q, next_bytes_q};
        if (failed_replay) write_data = {next_replayed_q, failures_q.integrity};
        if (failed_integrity) write_data = {failures_q.replayed, next_integrity_q};
        if (step_q == 3'd7) step_d = step_q;
        if (decide_q) state_d = Idle;
      end

      Command: begin
        write = step_q < 3'd4;
        if (step_q[1:0] == WordHard) write_data = command_hard_i;
        if (step_q[1:0] == WordSoft) write_data = command_soft_i;
        if (step_q == 3'd4) step_d = step_q;
        if (finish_q) state_d = Idle;
      end

      Read: begin
        if (step_q == 3'd3) step_d = step_q;
        if (read_end_q) begin
          state_d = replaces_q ? Command : Idle;
          step_d = 3'd0;
        end
      end
    endcase
  end

  always_ff @(posedge clk_i) begin
    step_q <= step_d;

    descriptor_beats_o <= RoomWidth'(item.beats);
    descriptor_bytes_o <= bad ? '0 : content.bytes;
    first_valid_o <= content.first_valid;
    first_o <= content.first;
    patch_at_o <= content.patch_at;
    patch_o <= {8'd0, content.patch};
    patch_mask_o <= {1'b0, content.patch_valid};
    user_o <= sa_q;

    drop_o <= '{
      direction: Inbound,
      has_sa: item.has_sa,
      reason: reason,
      spi: item.spi,
      sequence_number: item.sequence_number
    };
    drop_sa_o <= item.has_sa ? sa_q : '0;
    events_sa_o <= sa_q;
    events_generation_o <= item.generation;
    if (state_q == Idle) replaces_q <= start_item;
    events_o <= '0;
    {events_o.hard_packets, events_o.hard_bytes, events_o.soft_packets, events_o.soft_bytes} <= counted ? crossed : '0;
    events_o.integrity <= failed_integrity && first_failure_q;

    if (replay_done_i) read_usage_o.sequence_number <= replay_highest_i;
    read_usage_o.packets <= usage_q.packets;
    read_usage_o.bytes <= usage_q.bytes;
    read_usage_o.replayed <= failures_q.replayed;
    read_usage_o.integrity_failures <= failures_q.integrity;

    if (!rst_ni) begin
      state_q <= Idle;
      read_last_q <= 1'b0;
      key_done_q <= 1'b0;
      descriptor_valid_o <= 1'b0;
      drop_valid_o <= 1'b0;
      events_valid_o <= 1'b0;
      read_done_o <= 1'b0;
      command_done_o <= 1'b0;
    end else begin
      state_q <= state_d;
      if (start_item || start_read) read_last_q <= start_read;
      if (finish_q) key_done_q <= 1'b0;
      else if (key_done_i) key_done_q <= 1'b1;
      descriptor_valid_o <= pop_packet;
      drop_valid_o <= decide_q && bad;
      events_valid_o <= decide_q && ((counted && crossed != '0) || (failed_integrity && first_failure_q));
      read_done_o <= read_end_q;
      command_done_o <= finish_q;
    end
  end

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    if (rst_ni && reset_seen_q) begin
      if (item_valid_i) assert (item_room_o) else $error("no place for an item");
      if (icv_valid_i) assert (icv_room) else $error("no place for an ICV");
      if (tag_valid_i) assert (icv_valid) else $error("a tag without an ICV to compare");
      if (compare2_q) assert (right_room) else $error("no place for what a comparison says");
      if (content_valid_i) assert (content_room) else $error("no place for what is said of a packet");
      if (read && write) assert ({sa_d, read_word} != {sa_q, write_word}) else $error("a word is read and written at once");
      // The release gate: bytes leave only of a packet whose ICV was right and whose number was new.
      if (decide_q && !bad) assert (!skip && right && replay_done_q && accepted_q) else $error("a packet leaves without its verdict");
    end
  end
`endif

  logic unused;
`ifdef SYNTHESIS
  assign unused = ^{entry_count, icv_count, right_count, content_count, icv_room, icv_valid, right_room, content_room};
`else
  assign unused = ^{entry_count, icv_count, right_count, content_count};
`endif

endmodule
