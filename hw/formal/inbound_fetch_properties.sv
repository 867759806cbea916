// inbound_fetch: a packet goes on with all that the last command wrote for its SA, with the number that the replay window
// accepted for it, and with its own header; or it is dropped for what is so. An arbitrary SA is watched.

module inbound_fetch_properties
  import esp_pkg::*;
  import sa_pkg::*;
  import reason_pkg::*;
  import inbound_pkg::*;
#(
  parameter int unsigned NSa = 2,
  localparam int unsigned PlaceWidth = 2,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned BeatsWidth = PlaceWidth + 1
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic                  item_valid_i,
  input logic                  item_next_i,
  input item_kind_e            item_kind_i,
  input logic [SaWidth-1:0]    item_sa_i,
  input received_t             item_i,
  input reason_e               item_reason_i,
  input logic [PlaceWidth-1:0] item_place_i,
  input logic [BeatsWidth-1:0] item_beats_i,
  input inbound_form_t         command_form_i,
  input inbound_id_t           command_id_i,
  input logic                  command_done_i,
  input logic                  check_ready_i,
  input logic                  check_done_i,
  input logic                  check_accepted_i,
  input logic [63:0]           check_whole_i,
  input logic                  job_ready_i,
  // The SA that is watched.
  input logic [SaWidth-1:0]    watch_i
);

  logic item_room_o, check_valid_o, check_esn_o, check_soon_o, job_valid_o, job_has_sa_o;
  logic [SaWidth-1:0] check_sa_o, job_sa_o;
  logic [31:0] check_sequence_o, job_spi_o;
  item_kind_e job_kind_o;
  inbound_job_t job_o;
  reason_e job_reason_o;
  logic [PlaceWidth-1:0] job_place_o;
  logic [BeatsWidth-1:0] job_beats_o;

  inbound_fetch #(
    .NSa(NSa),
    .PlaceWidth(PlaceWidth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [SaWidth-1:0] watch_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watch_q <= watch_i;
  end

  // ---- the item under way, from when it is taken to when its job is there

  logic take, room_q, busy_q, leaves;
  item_kind_e kind_q;
  logic [SaWidth-1:0] sa_q;
  received_t item_q;
  reason_e reason_q;
  logic [PlaceWidth-1:0] place_q;
  logic [BeatsWidth-1:0] beats_q;
  assign take = item_valid_i;

  // A command under way, from when it comes to when it is done, and its SA; one at a time.
  logic commanded_q;
  logic [SaWidth-1:0] commanded_sa_q;
  inbound_form_t command_form_q;
  inbound_id_t command_id_q;

  // The check of the item under way: asked, answered.
  logic asked_q, answered_q, accepted_q;
  logic [63:0] whole_q;
  logic ask;
  assign ask = check_valid_o && check_ready_i;

  // A job that was offered and not taken stays.
  logic offered_q;
  logic [$bits(inbound_job_t)+$bits(reason_e)+32+PlaceWidth+BeatsWidth+SaWidth+3-1:0] offer, offer_q;
  assign offer = {job_kind_o, job_sa_o, job_o, job_reason_o, job_has_sa_o, job_spi_o, job_place_o, job_beats_o};

  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || watch_i == watch_q);
    if (item_valid_i) assume (room_q && item_kind_i inside {ItemPacket, ItemCommand, ItemSkip});
    if (item_valid_i && item_kind_i == ItemCommand) assume (!commanded_q);
    if (commanded_q) assume (command_form_i == command_form_q && command_id_i == command_id_q);
    // It is done when it has gone all the way, and not before it has left here.
    if (command_done_i) assume (commanded_q && !(busy_q && kind_q == ItemCommand));
    if (check_done_i) assume (asked_q);
    // An item is announced only if there is room.
    if (item_next_i) assume (item_room_o);
  end

  // A question that was not taken.
  logic waits_q;
  logic [SaWidth+32:0] question_q;
  always_ff @(posedge clk_i) begin
    waits_q <= rst_ni && check_valid_o && !check_ready_i;
    question_q <= {check_sa_o, check_esn_o, check_sequence_o};
  end

  always_ff @(posedge clk_i) begin
    // There was room, and no item.
    room_q <= rst_ni && item_room_o && !item_valid_i;
    if (!rst_ni) begin
      busy_q <= 1'b0;
      commanded_q <= 1'b0;
      asked_q <= 1'b0;
      answered_q <= 1'b0;
      offered_q <= 1'b0;
    end else begin
      if (take) busy_q <= 1'b1;
      else if (leaves) busy_q <= 1'b0;
      if (take && item_kind_i == ItemCommand) commanded_q <= 1'b1;
      else if (command_done_i) commanded_q <= 1'b0;
      if (ask) asked_q <= 1'b1;
      else if (check_done_i) asked_q <= 1'b0;
      if (take) answered_q <= 1'b0;
      else if (check_done_i) answered_q <= 1'b1;
      offered_q <= job_valid_o && !job_ready_i;
    end
    offer_q <= offer;
    if (take) begin
      kind_q <= item_kind_i;
      sa_q <= item_sa_i;
      item_q <= item_i;
      reason_q <= item_reason_i;
      place_q <= item_place_i;
      beats_q <= item_beats_i;
    end
    if (take && item_kind_i == ItemCommand) commanded_sa_q <= item_sa_i;
    command_form_q <= command_form_i;
    command_id_q <= command_id_i;
    if (check_done_i) begin
      accepted_q <= check_accepted_i;
      whole_q <= check_whole_i;
    end
  end

  // ---- the watched SA, as the last command wrote it, once there was one

  logic live_q;
  inbound_form_t form_q;
  inbound_id_t id_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) live_q <= 1'b0;
    else if (take && item_kind_i == ItemCommand && item_sa_i == watch_i) live_q <= 1'b1;
    if (take && item_kind_i == ItemCommand && item_sa_i == watch_i) begin
      form_q <= command_form_i;
      id_q <= command_id_i;
    end
  end

  // There was more than one command for it.
  logic again_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) again_q <= 1'b0;
    else if (live_q && take && item_kind_i == ItemCommand && item_sa_i == watch_i) again_q <= 1'b1;
  end

  // ---- what is to come of the item under way, if it is of the watched SA

  logic mine, present, expect_skip;
  logic [16:0] body_length;
  reason_e expect_reason;
  inbound_job_t expect_job;
  assign mine = live_q && sa_q == watch_i;
  assign present = form_q.valid && item_q.spi == id_q.spi && (!item_q.udp || item_q.destination_port == form_q.udp_port);
  assign body_length = 17'(item_q.esp_end) - 17'(item_q.esp_begin) - 17'd32;

  always_comb begin
    expect_skip = 1'b1;
    expect_reason = ReasonUnknownSpi;
    if (present && !accepted_q) expect_reason = ReasonReplayed;
    else if (present && (body_length[16] || body_length[15:0] == '0 || body_length[1:0] != '0))
      expect_reason = ReasonMalformedEsp;
    else if (present) expect_skip = 1'b0;
    expect_job = '{
      transport: form_q.transport,
      esn: form_q.esn,
      key256: form_q.key256,
      salt: id_q.salt,
      selector_first: form_q.selector_first,
      selector_count: form_q.selector_count,
      v6: item_q.v6,
      ecn: item_q.ecn,
      kept: form_q.transport ? item_q.header : 16'd0,
      protocol_at: item_q.protocol_at,
      headers: item_q.headers,
      esp_begin: item_q.esp_begin,
      body: body_length[15:0],
      sequence_number: whole_q
    };
  end

  // ---- of the state inside

  // 0 idle, 1 form, 2 check, 3 wait, 4 and 5 write, 6 out.
  logic [2:0] state;
  assign state = 3'(dut.state_q);

  inbound_form_t form_in_memory;
  inbound_id_t id_in_memory;
  assign form_in_memory = dut.mem[2*32'(watch_i)];
  assign id_in_memory = dut.mem[2*32'(watch_i)+1];
  logic writing;
  assign writing = busy_q && kind_q == ItemCommand && sa_q == watch_i;

  // What is to come, when the job is there, a cycle later.
  logic new_q, mine_q, present_q, skip_q;
  item_kind_e came_q;
  inbound_job_t job_q;
  reason_e expect_reason_q, came_reason_q;
  logic [SaWidth-1:0] came_sa_q;
  logic [31:0] came_spi_q, came_sequence_q;
  logic [PlaceWidth-1:0] came_place_q;
  logic [BeatsWidth-1:0] came_beats_q;
  assign leaves = state == 3'd6 && dut.go;
  always_ff @(posedge clk_i) begin
    new_q <= rst_ni && leaves;
    mine_q <= mine;
    came_q <= kind_q;
    present_q <= present;
    skip_q <= expect_skip;
    expect_reason_q <= expect_reason;
    job_q <= expect_job;
    came_reason_q <= reason_q;
    came_sa_q <= sa_q;
    came_spi_q <= item_q.spi;
    came_sequence_q <= item_q.sequence_low;
    came_place_q <= place_q;
    came_beats_q <= beats_q;
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (new_q && mine_q && came_q == ItemPacket) begin
        goes_on_or_not : assert (job_kind_o == (skip_q ? ItemSkip : ItemPacket));
        if (!skip_q) one_generation : assert (job_o == job_q);
        if (skip_q) dropped_for_its_cause : assert (job_reason_o == expect_reason_q && job_has_sa_o == present_q
            && job_o.sequence_number == (present_q ? job_q.sequence_number : 64'(came_sequence_q)));
      end
      if (new_q) own_item : assert (job_sa_o == came_sa_q && job_spi_o == came_spi_q && job_place_o == came_place_q
          && job_beats_o == came_beats_q && (came_q == ItemPacket || job_kind_o == came_q)
          && (came_q != ItemSkip || (job_reason_o == came_reason_q && !job_has_sa_o)));
      each_comes_once : assert (job_valid_o == (new_q || offered_q) && !(take && busy_q));
      if (offered_q) offer_is_stable : assert (job_valid_o && offer == offer_q);
      if (check_valid_o) check_is_its_own : assert (busy_q && kind_q == ItemPacket && check_sa_o == sa_q
          && check_sequence_o == item_q.sequence_low && (!mine || check_esn_o == form_q.esn));
      if (check_valid_o) check_waits_for_commands : assert (!commanded_q || commanded_sa_q != check_sa_o);
      if (waits_q) question_stays : assert (check_valid_o && question_q == {check_sa_o, check_esn_o, check_sequence_o});
      if (asked_q) none_while_asked : assert (!check_soon_o);
      if (check_valid_o) announced_while_asking : assert (check_soon_o);
      // State.
      under_way : assert (busy_q == (state != 3'd0) && state != 3'd7);
      if (room_q) room_stays : assert (state == 3'd0 && item_room_o);
      if (busy_q) by_kind : assert (kind_q == ItemPacket ? (state inside {3'd1, 3'd2, 3'd3, 3'd6})
          : kind_q == ItemCommand ? (state inside {3'd4, 3'd5, 3'd6}) && commanded_q && commanded_sa_q == sa_q
          : kind_q == ItemSkip && state == 3'd6);
      if (busy_q) item_is_kept : assert (dut.sa_q == sa_q && dut.item_q == item_q && dut.place_q == place_q
          && dut.beats_q == beats_q);
      if (busy_q && kind_q != ItemPacket) kind_is_kept : assert (dut.kind_q == kind_q && !dut.has_sa_q
          && (kind_q != ItemSkip || dut.reason_q == reason_q));
      asked_while_waiting : assert (asked_q == (state == 3'd3) && (!answered_q || !busy_q || state == 3'd6));
      pending_is_commanded : assert (!dut.pending_q || (commanded_q && dut.pending_sa_q == commanded_sa_q));
      commanded_is_pending : assert (!commanded_q || dut.pending_q || state inside {3'd4, 3'd5});
      if (state == 3'd2) blocked_if_commanded : assert (
          !(commanded_q && commanded_sa_q == sa_q) || dut.blocked_q);
      if (live_q && !writing) in_memory : assert (form_in_memory == form_q && id_in_memory == id_q);
      if (writing) written_so_far : assert (form_q == command_form_i && id_q == command_id_i
          && (state == 3'd4 || form_in_memory == form_q) && (state != 3'd6 || id_in_memory == id_q));
      if (mine && busy_q && kind_q == ItemPacket) begin
        if (state == 3'd1) form_is_read : assert (dut.word_q == 128'(form_q));
        if (state == 3'd2) id_is_read : assert (dut.word_q == 128'(id_q));
        if (state inside {3'd2, 3'd3, 3'd6}) form_is_kept : assert (dut.form_q == form_q
            && dut.body_q == body_length);
        if (state == 3'd3) judged_by_step : assert (form_q.valid && dut.salt_q == id_q.salt && !answered_q
            && dut.present == present
            && dut.malformed_q == (body_length[16] || body_length[15:0] == '0 || body_length[1:0] != '0));
        if (state != 3'd6) not_decided : assert (dut.kind_q == ItemPacket && !dut.has_sa_q
            && dut.sequence_q == 64'(item_q.sequence_low));
        if (state == 3'd6) decided : assert (dut.kind_q == (expect_skip ? ItemSkip : ItemPacket)
            && (!expect_skip || dut.reason_q == expect_reason) && dut.has_sa_q == present
            && dut.sequence_q == (present ? whole_q : 64'(item_q.sequence_low))
            && (expect_skip || dut.salt_q == id_q.salt) && (!present || answered_q));
      end
      goes_on : cover (new_q && mine_q && came_q == ItemPacket && !skip_q);
      second_generation : cover (new_q && mine_q && came_q == ItemPacket && !skip_q && again_q);
    end
  end

endmodule
