// inbound_verdict, what the release gate is told: a packet's bytes leave only if its own ICV was right and its own number was
// accepted by the replay window, which is moved for such a packet and no other. An arbitrary packet is watched, from when
// it comes in to its descriptor. Packets are told by their ordinal modulo 256, more than there can be under way.

module inbound_verdict_properties
  import esp_pkg::*;
  import sa_pkg::*;
  import engine_pkg::*;
  import reason_pkg::*;
  import replay_pkg::*;
  import inbound_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned Items = 2,
  localparam int unsigned RoomWidth = 12,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input logic               clk_i,
  input logic               rst_ni,
  input logic               item_valid_i,
  input verdict_item_t      item_i,
  input logic [SaWidth-1:0] item_sa_i,
  input logic               icv_valid_i,
  input beat_t              icv_i,
  input logic               tag_valid_i,
  input beat_t              tag_i,
  input logic               content_valid_i,
  input content_t           content_i,
  input logic               replay_ready_i,
  input logic               replay_done_i,
  input logic               replay_accepted_i,
  input logic [63:0]        replay_highest_i,
  input limits_t            command_hard_i,
  input limits_t            command_soft_i,
  input logic               key_done_i,
  input logic               read_valid_i,
  input logic [SaWidth-1:0] read_sa_i,
  // The packet that is watched.
  input logic [7:0]         watch_i
);

  typedef logic [7:0] ordinal_t;

  logic item_room_o, replay_valid_o, command_done_o, descriptor_valid_o, first_valid_o, drop_valid_o, events_valid_o;
  logic read_ready_o, read_done_o;
  replay_op_e replay_op_o;
  logic [SaWidth-1:0] replay_sa_o, user_o, drop_sa_o, events_sa_o;
  logic [63:0] replay_sequence_o;
  logic [RoomWidth-1:0] descriptor_beats_o;
  length_t descriptor_bytes_o, patch_at_o;
  beat_t first_o;
  logic [1:0][7:0] patch_o;
  logic [1:0] patch_mask_o;
  drop_t drop_o;
  generation_t events_generation_o;
  sa_events_t events_o;
  sa_usage_t read_usage_o;

  inbound_verdict #(
    .NSa(NSa),
    .Items(Items),
    .RoomWidth(RoomWidth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  ordinal_t watch_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watch_q <= watch_i;
  end

  // ---- counted from outside

  ordinal_t items_q, icvs_q, tags_q, contents_q, descriptors_q;
  // An operation that the replay window has taken and not answered; the last one, and whether it was answered for what is
  // being looked at.
  logic asked_q, answered_q, accepted_q;
  replay_op_e op_q;
  logic [SaWidth-1:0] op_sa_q;
  logic [63:0] op_sequence_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      items_q <= '0;
      icvs_q <= '0;
      tags_q <= '0;
      contents_q <= '0;
      descriptors_q <= '0;
      asked_q <= 1'b0;
      answered_q <= 1'b0;
    end else begin
      if (item_valid_i && item_i.kind == ItemPacket) items_q <= items_q + 1'b1;
      if (icv_valid_i) icvs_q <= icvs_q + 1'b1;
      if (tag_valid_i) tags_q <= tags_q + 1'b1;
      if (content_valid_i) contents_q <= contents_q + 1'b1;
      if (descriptor_valid_o) descriptors_q <= descriptors_q + 1'b1;
      if (replay_done_i) begin
        asked_q <= 1'b0;
        answered_q <= 1'b1;
      end
      if (replay_valid_o && replay_ready_i) asked_q <= 1'b1;
      if (descriptor_valid_o || drop_valid_o || command_done_o || read_done_o) answered_q <= 1'b0;
    end
    if (replay_valid_o && replay_ready_i) begin
      op_q <= replay_op_o;
      op_sa_q <= replay_sa_o;
      op_sequence_q <= replay_sequence_o;
    end
    if (replay_done_i) accepted_q <= replay_accepted_i;
  end

  // ---- the duties of those around it: inbound_stream gives an item before its ICV, the tag comes behind the ICV, the content
  // behind the item; the replay window answers what it was asked

  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || watch_i == watch_q);
    if (item_valid_i) assume (item_room_o && item_i.kind inside {ItemPacket, ItemCommand, ItemSkip});
    if (icv_valid_i) assume (icvs_q != items_q);
    if (tag_valid_i) assume (tags_q != icvs_q);
    if (content_valid_i) assume (contents_q != items_q);
    if (replay_done_i) assume (asked_q);
    if (!rst_ni) assume (!item_valid_i && !icv_valid_i && !tag_valid_i && !content_valid_i);
  end

  // ---- the watched packet

  verdict_item_t item_q;
  logic [SaWidth-1:0] sa_q;
  beat_t icv_q, tag_q;
  content_t content_q;
  always_ff @(posedge clk_i) begin
    if (item_valid_i && item_i.kind == ItemPacket && items_q == watch_i) begin
      item_q <= item_i;
      sa_q <= item_sa_i;
    end
    if (icv_valid_i && icvs_q == watch_i) icv_q <= icv_i;
    if (tag_valid_i && tags_q == watch_i) tag_q <= tag_i;
    if (content_valid_i && contents_q == watch_i) content_q <= content_i;
  end

  logic command_seen_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni || descriptor_valid_o) command_seen_q <= 1'b0;
    else if (command_done_o) command_seen_q <= 1'b1;
  end

  logic genuine, fresh, due;
  assign genuine = icv_q == tag_q;
  // Its number was asked for while it was looked at, and accepted.
  assign fresh = answered_q && op_q == ReplayUpdate && op_sa_q == sa_q && op_sequence_q == item_q.sequence_number && accepted_q;
  assign due = descriptor_valid_o && descriptors_q == watch_i;

  // ---- of the state inside

  // 0 idle, 1 packet, 2 command, 3 request.
  logic [1:0] state;
  logic idle, packet, command, request;
  assign state = 2'(dut.state_q);
  assign idle = state == 2'd0;
  assign packet = state == 2'd1;
  assign command = state == 2'd2;
  assign request = state == 2'd3;

  // The packet that is next, and how many are under way, by what there is of them.
  ordinal_t next, items, icvs, rights, contents, place;
  assign next = descriptors_q + ordinal_t'(descriptor_valid_o);
  assign items = items_q - next;
  assign icvs = icvs_q - tags_q;
  assign rights = tags_q - next - ordinal_t'(dut.compare1_q) - ordinal_t'(dut.compare2_q);
  assign contents = contents_q - next;
  assign place = watch_i - next;

  function automatic logic queue_is_right(input logic [31:0] read, input logic [31:0] write, input logic [31:0] count);
    return read < Items && write < Items && count <= Items
        && (read + count >= Items ? read + count - Items : read + count) % Items == write;
  endfunction

  function automatic logic [31:0] at(input logic [31:0] read, input logic [31:0] index);
    return read + index >= Items ? read + index - Items : read + index;
  endfunction

  // The queue of items from its head: packets in it, and whether the watched one is where its turn is.
  ordinal_t packets;
  logic item_there, kinds_hold;
  typedef struct packed {
    verdict_item_t      item;
    logic [SaWidth-1:0] sa;
  } entry_t;
  // The one whose turn it is is in registers.
  entry_t [Items:0] entry;
  logic [31:0] entries;
  entry_t [Items-1:0] queued;
  for (genvar i = 0; i < int'(Items); i++) begin : gen_entry
    assign queued[i] = dut.u_items.mem[at(32'(dut.u_items.read_q), i)];
  end
  assign entry = dut.entry_valid_q ? {queued, dut.entry_q} : {dut.entry_q, queued};
  assign entries = 32'(dut.entry_count) + 32'(dut.entry_valid_q);

  always_comb begin
    packets = '0;
    item_there = 1'b0;
    kinds_hold = 1'b1;
    for (int i = 0; i <= int'(Items); i++) begin
      if (i < int'(entries)) begin
        if (!(entry[i].item.kind inside {ItemPacket, ItemCommand, ItemSkip})) kinds_hold = 1'b0;
        if (entry[i].item.kind == ItemPacket) begin
          if (packets == place && entry[i] == {item_q, sa_q}) item_there = 1'b1;
          packets += 1'b1;
        end
      end
    end
  end

  logic looked_at, verified;
  assign looked_at = packet && dut.item.kind == ItemPacket;
  assign verified = looked_at && dut.right;

  always_comb begin
    if (started_q && rst_ni) begin
      if (due) begin
        if (descriptor_bytes_o != '0) released_if_genuine : assert (genuine);
        if (descriptor_bytes_o != '0) released_if_fresh : assert (fresh);
        if (descriptor_bytes_o != '0) released_as_found : assert (!content_q.bad && descriptor_bytes_o == content_q.bytes
            && descriptor_beats_o == item_q.beats && user_o == sa_q && first_valid_o == content_q.first_valid
            && first_o == content_q.first && patch_at_o == content_q.patch_at && patch_o[0] == content_q.patch
            && patch_mask_o == {1'b0, content_q.patch_valid});
        if (!genuine) forged_is_told : assert (descriptor_bytes_o == '0 && drop_valid_o
            && drop_o.reason == ReasonIntegrity && !answered_q);
        if (genuine && !fresh) replayed_is_told : assert (descriptor_bytes_o == '0 && drop_valid_o
            && drop_o.reason == ReasonReplayed);
        if (genuine && fresh && content_q.bad) bad_content_is_told : assert (descriptor_bytes_o == '0 && drop_valid_o
            && (drop_o.reason == content_q.reason || drop_o.reason == ReasonLifetimeExpired));
        if (drop_valid_o) told_as_it_is : assert (drop_o.direction == Inbound && drop_o.has_sa == item_q.has_sa
            && drop_o.spi == item_q.spi && drop_o.sequence_number == item_q.sequence_number
            && drop_sa_o == (item_q.has_sa ? sa_q : '0));
        if (events_valid_o) event_of_its_generation : assert (events_sa_o == sa_q
            && events_generation_o == item_q.generation);
        if (!drop_valid_o) released_if_not_told : assert (descriptor_bytes_o == content_q.bytes);
      end
      if (replay_valid_o && replay_op_o == ReplayUpdate && next == watch_i) window_moves_if_genuine : assert (genuine
          && replay_sa_o == sa_q && replay_sequence_o == item_q.sequence_number);
      if (descriptor_valid_o) descriptors_are_packets : assert (descriptors_q != items_q && descriptors_q != tags_q
          && descriptors_q != contents_q);
      // State.
      queues_are_right : assert (entries <= Items
          && queue_is_right(32'(dut.u_items.read_q), 32'(dut.u_items.write_q), 32'(dut.entry_count))
          && queue_is_right(32'(dut.u_icvs.read_q), 32'(dut.u_icvs.write_q), 32'(dut.icv_count))
          && queue_is_right(32'(dut.u_rights.read_q), 32'(dut.u_rights.write_q), 32'(dut.right_count))
          && queue_is_right(32'(dut.u_contents.read_q), 32'(dut.u_contents.write_q), 32'(dut.content_count)));
      counts_are_right : assert (kinds_hold && items == packets && icvs == ordinal_t'(dut.icv_count)
          && rights == ordinal_t'(dut.right_count) && contents == ordinal_t'(dut.content_count)
          && rights <= items && contents <= items && icvs_q - next <= items && tags_q - next <= icvs_q - next);
      if (place < items) item_is_queued : assert (item_there);
      if (watch_i - tags_q < icvs) icv_is_queued : assert (
          dut.u_icvs.mem[at(32'(dut.u_icvs.read_q), 32'(ordinal_t'(watch_i - tags_q)))] == icv_q);
      if (dut.compare1_q && watch_i == tags_q - 1'b1) bytes_are_compared : assert ((&dut.same1_q) == genuine);
      if (dut.compare2_q && watch_i == tags_q - 1'b1 - ordinal_t'(dut.compare1_q)) all_is_compared : assert (
          dut.right2_q == genuine);
      if (place < rights) right_is_queued : assert (
          dut.u_rights.mem[at(32'(dut.u_rights.read_q), 32'(place))] == genuine);
      if (place < contents) content_is_queued : assert (
          dut.u_contents.mem[at(32'(dut.u_contents.read_q), 32'(place))] == content_q);
      if (packet) packet_is_there : assert (dut.entry_valid_q && dut.item.kind != ItemCommand
          && (dut.item.kind == ItemSkip || (dut.right_valid && dut.content_valid && dut.right_q == dut.right)) && dut.sa_q == dut.entry_q.sa);
      if (command) command_is_there : assert (dut.entry_valid_q && dut.item.kind == ItemCommand
          && dut.sa_q == dut.entry_q.sa && dut.step_q <= 3'd4);
      if (request && dut.replaces_q) command_is_asked : assert (dut.entry_valid_q && dut.item.kind == ItemCommand
          && dut.sa_q == dut.entry_q.sa);
      if (command && dut.step_q == 3'd0) replaced_is_told : assert (read_done_o);
      if (dut.decide_q) decided_at_the_end : assert (packet && dut.step_q == 3'd7 && dut.replay_done_q);
      if (dut.finish_q) finished_at_the_end : assert (command && dut.replay_done_q);
      if (dut.read_end_q) read_at_the_end : assert (request && dut.replay_done_q);
      if (dut.parts_there_q) parts_are_there : assert (dut.right_valid && dut.content_valid);
      one_is_asked : assert (!(asked_q && replay_valid_o) && (!idle || !(asked_q || replay_valid_o)));
      if (!idle) answer_is_awaited : assert (dut.replay_done_q == !(asked_q || replay_valid_o));
      if (packet && !verified) nothing_is_asked : assert (!asked_q && !replay_valid_o && !answered_q);
      if (command || request) asked_of_others : assert (
          (!asked_q || op_q != ReplayUpdate) && (!replay_valid_o || replay_op_o != ReplayUpdate));
      if (verified) asked_of_it : assert ((answered_q == dut.replay_done_q)
          && (!replay_valid_o || (replay_op_o == ReplayUpdate && replay_sa_o == dut.entry_q.sa
              && replay_sequence_o == dut.item.sequence_number))
          && (!(asked_q || answered_q) || (op_q == ReplayUpdate && op_sa_q == dut.entry_q.sa
              && op_sequence_q == dut.item.sequence_number))
          && (!answered_q || accepted_q == dut.accepted_q));
      if (idle) idle_is_unanswered : assert (!answered_q || descriptor_valid_o || drop_valid_o
          || command_done_o || read_done_o);
      released : cover (due && descriptor_bytes_o != '0);
      forged : cover (due && !genuine);
      replayed : cover (due && genuine && !fresh);
      behind_a_command : cover (due && descriptor_bytes_o != '0 && command_seen_q);
    end
  end

endmodule
