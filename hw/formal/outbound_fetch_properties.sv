// outbound_fetch: for an arbitrary SA, whatever packets, commands and requests come in whatever order: a sequence number
// is spent once in a generation, they rise, and they end; and a packet sees all of one command and nothing of another.

module outbound_fetch_properties
  import esp_pkg::*;
  import sa_pkg::*;
  import outbound_pkg::*;
  import reason_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned MaxPacket = 9728,
  parameter int unsigned TagWidth = 1,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input logic                clk_i,
  input logic                rst_ni,
  input logic [31:0]         headroom_i,
  input logic                packet_valid_i,
  input ip_header_t          packet_header_i,
  input logic [SaWidth-1:0]  packet_sa_i,
  input generation_t         packet_generation_i,
  input logic [TagWidth-1:0] packet_tag_i,
  input logic                command_valid_i,
  input logic [SaWidth-1:0]  command_sa_i,
  input outbound_sa_t        command_data_i,
  input logic                job_ready_i,
  input logic                read_valid_i,
  input logic [SaWidth-1:0]  read_sa_i,
  // The SA that is watched.
  input logic [SaWidth-1:0]  watched_i
);

  logic packet_ready_o, command_ready_o, job_valid_o, drop_valid_o, events_valid_o, read_ready_o, read_done_o;
  job_kind_e job_kind_o;
  logic [SaWidth-1:0] job_sa_o, drop_sa_o, events_sa_o;
  outbound_job_t job_o;
  logic [TagWidth-1:0] job_tag_o;
  reason_e drop_reason_o;
  logic [31:0] drop_spi_o;
  logic [63:0] drop_sequence_o, read_sequence_o;
  generation_t events_generation_o;
  sa_events_t events_o;
  counter_t read_packets_o, read_bytes_o;

  outbound_fetch #(
    .NSa(NSa),
    .MaxPacket(MaxPacket),
    .TagWidth(TagWidth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [SaWidth-1:0] watched_q;
  logic waits_q;
  logic [SaWidth-1:0] command_sa_q;
  outbound_sa_t command_data_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watched_q <= watched_i;
    waits_q <= rst_ni && command_valid_i && !command_ready_o;
    command_sa_q <= command_sa_i;
    command_data_q <= command_data_i;
  end

  always_comb begin
    assume (started_q || !rst_ni);
    assume (32'(watched_i) < NSa);
    assume (!started_q || watched_i == watched_q);
    assume (32'(packet_sa_i) < NSa && 32'(command_sa_i) < NSa && 32'(read_sa_i) < NSa);
    // A command stays as it is until it is taken.
    if (started_q && waits_q) begin
      assume (command_valid_i && command_sa_i == command_sa_q && command_data_i == command_data_q);
    end
  end

  // ---- what the watched SA is, and the packet under way

  // 0 idle, 1 packet, 2 command, 3 request.
  logic [1:0] state;
  logic idle, packet, command, request;
  logic [3:0] step;
  assign state = 2'(dut.state_q);
  assign step = dut.step_q;
  assign idle = state == 2'd0;
  assign packet = state == 2'd1;
  assign command = state == 2'd2;
  assign request = state == 2'd3;

  logic live_q;  // it was given since reset
  outbound_sa_t sa_q;
  // The last number that was spent on a packet that went on, or was dropped with it.
  logic [63:0] spent_q, last;
  counter_t packets_q, bytes_q;
  logic old_q;  // a packet of an older generation went on
  logic mine_q;  // the packet under way is of the watched SA
  logic reading_q;  // a request is, or that of a command, for it
  generation_t generation_q;
  ip_header_t header_q;

  logic taken, commanded;
  assign taken = packet_valid_i && packet_ready_o;
  assign commanded = command_valid_i && command_ready_o && command_sa_i == watched_i;
  assign last = sa_q.form.esn ? '1 : 64'hffff_ffff;

  always_ff @(posedge clk_i) begin
    if (taken) begin
      mine_q <= packet_sa_i == watched_i;
      generation_q <= packet_generation_i;
      header_q <= packet_header_i;
    end
    if (idle) reading_q <= (command_valid_i ? command_sa_i : read_sa_i) == watched_i;
  end

  // A decision shows in the cycle after it: as a job or a drop that is new there.
  logic fresh_q;
  always_ff @(posedge clk_i) fresh_q <= rst_ni && dut.last_step && dut.go;

  logic went_on, dropped, numbered, counted;
  logic [63:0] number;
  assign went_on = fresh_q && mine_q && !drop_valid_o;
  assign dropped = fresh_q && mine_q && drop_valid_o;
  // The numbers of both: a packet that is dropped behind its number has spent it.
  assign numbered = went_on || (dropped && drop_sequence_o != '0);
  assign number = went_on ? job_o.sequence_number : drop_sequence_o;

  // As it is when the packet behind is read.
  logic [63:0] spent_d;
  counter_t packets_d, bytes_d;
  assign spent_d = numbered ? number : spent_q;
  assign packets_d = packets_q + counter_t'(went_on);
  assign bytes_d = bytes_q + (went_on ? counter_t'(job_o.payload) : '0);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) live_q <= 1'b0;
    else if (commanded) live_q <= 1'b1;
    if (!rst_ni) old_q <= 1'b0;
    else if (commanded && packets_d != '0) old_q <= 1'b1;
    if (commanded) begin
      sa_q <= command_data_i;
      spent_q <= '0;
      packets_q <= '0;
      bytes_q <= '0;
    end else begin
      spent_q <= spent_d;
      packets_q <= packets_d;
      bytes_q <= bytes_d;
    end
  end

  logic seen;
  assign seen = live_q && started_q && rst_ni;

  // ---- the job's protocol

  logic stalled_q;
  logic [$bits(outbound_job_t)+SaWidth+TagWidth+1:0] offered, offered_q;
  assign offered = {job_o, job_sa_o, job_tag_o, job_kind_o};
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && job_valid_o && !job_ready_i;
    offered_q <= offered;
  end

  // ---- of the state inside

  // All of its configuration and its state, as the memories have them, and as they have to be.
  word_t [OutboundWords-1:0] words, command_words, config_words;
  assign words = sa_q;
  assign command_words = command_data_i;
  for (genvar i = 0; i < int'(OutboundWords); i++) begin : gen_word
    assign config_words[i] = dut.config_mem[8*32'(watched_i)+i];
  end
  logic [63:0] sequence_word;
  word_t usage_word;
  assign sequence_word = dut.state_mem[2*32'(watched_i)][63:0];
  assign usage_word = dut.state_mem[2*32'(watched_i)+1];

  // A packet or a request of the watched SA, and the command that writes it.
  logic mine, asked, overwriting;
  assign mine = packet && mine_q;
  assign asked = request && reading_q;
  assign overwriting = command && dut.sa_q == watched_i;

  // The words that the command under way has come to are its own.
  logic written_so_far;
  always_comb begin
    written_so_far = 1'b1;
    for (int i = 0; i < int'(OutboundWords); i++) begin
      if (i < int'(step) && config_words[i] != command_words[i]) written_so_far = 1'b0;
    end
  end

  // The bits of the steps.
  logic [8:1] at;
  always_comb begin
    for (int i = 1; i <= 8; i++) at[i] = (packet || request) && step == 4'(i);
  end

  // The addresses that go on: transport mode has no outer ones.
  logic [127:0] source, destination;
  length_t payload;
  always_comb begin
    source = sa_q.source;
    destination = sa_q.destination;
    payload = header_q.total_length;
    if (sa_q.form.transport) begin
      source = header_q.v6 ? header_q.source : '0;
      destination = header_q.v6 ? header_q.destination : '0;
      payload = header_q.total_length - header_q.esp_at;
    end
  end

  // Its length behind ESP, with bits enough: nothing wraps around.
  logic [17:0] outer, padded, body, total;
  logic too_big;
  always_comb begin
    outer = sa_q.form.v6 ? 18'd40 : 18'd20;
    padded = 18'(payload);
    if (sa_q.form.transport) outer = 18'(header_q.esp_at);
    else if (payload < sa_q.form.tfc_length) padded = 18'(sa_q.form.tfc_length);
    // Pad length and next header, to a multiple of four.
    body = (padded + 18'd5) & ~18'd3;
    // SPI, sequence number, IV and ICV.
    total = outer + (sa_q.form.udp ? 18'd8 : 18'd0) + 18'd32 + body;
  end
  assign too_big = total > 18'(MaxPacket);

  logic present, fragment, exhausted, expired, spends;
  assign present = sa_q.form.valid && sa_q.form.generation == generation_q;
  assign exhausted = spent_q >= last;
  assign expired = (sa_q.hard_limits.packets != '0 && packets_q >= sa_q.hard_limits.packets)
      || (sa_q.hard_limits.bytes != '0 && bytes_q >= sa_q.hard_limits.bytes);
  assign fragment = sa_q.form.transport && header_q.fragment;
  assign spends = present && !fragment && !exhausted && !expired;

  reason_e reason;
  always_comb begin
    if (!present) reason = ReasonNoSa;
    else if (fragment) reason = ReasonEspFragment;
    else if (exhausted) reason = ReasonSequenceExhausted;
    else if (expired) reason = ReasonLifetimeExpired;
    else reason = ReasonTooBig;
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (stalled_q) job_is_stable : assert (job_valid_o && offered == offered_q);
      if (fresh_q) decided : assert (job_valid_o && job_kind_o == (drop_valid_o ? JobSkip : JobPacket));
      // State.
      if (packet) whose_packet : assert (mine_q == (dut.sa_q == watched_i) && step >= 4'd1 && step <= 4'd8);
      if (request) whose_request : assert (reading_q == (dut.sa_q == watched_i) && step >= 4'd1 && step <= 4'd3
          && (!dut.replaces_q || (command_valid_i && dut.sa_q == command_sa_i)));
      if (command) whose_command : assert (dut.sa_q == command_sa_i && command_valid_i && step <= 4'd5);
      bit_of_its_step : assert (dut.at_q == at && dut.command_last_q == (command && step == 4'd5));
      if (!idle) decided_before : assert (!fresh_q);
      if (read_done_o) answered_at_rest : assert (idle || (command && step == 4'd0));
      if (command && step == 4'd0) replaced_is_told : assert (read_done_o && reading_q == (dut.sa_q == watched_i));
      if (overwriting) begin
        command_in_memory : assert (written_so_far);
        zeros_in_memory : assert ((step < 4'd1 || sequence_word == '0) && (step < 4'd2 || usage_word == '0));
      end
    end
    if (seen) begin
      if (went_on) begin
        one_generation : assert (job_o.form == sa_q.form && job_o.id == sa_q.id && job_o.source == source
            && job_o.destination == destination && job_sa_o == watched_i);
        right_generation : assert (present);
        own_header : assert (job_o.header == header_q);
        not_too_big : assert (!too_big);
      end
      if (numbered) begin
        number_rises : assert (number > spent_q);
        number_is_next : assert (number == spent_q + 1'b1);
        number_not_behind_the_end : assert (spent_q < last && number <= last);
        nothing_behind_a_hard_limit : assert (!expired);
      end
      if (dropped) begin
        drop_has_its_cause : assert (
            (drop_reason_o == ReasonNoSa && !present)
            || (drop_reason_o == ReasonEspFragment && fragment)
            || (drop_reason_o == ReasonSequenceExhausted && exhausted)
            || (drop_reason_o == ReasonLifetimeExpired && expired)
            || (drop_reason_o == ReasonTooBig && too_big));
        drop_spends_if_too_big : assert ((drop_reason_o == ReasonTooBig) == numbered);
      end
      if (read_done_o && reading_q) begin
        counters_are_right : assert (read_sequence_o == spent_d && read_packets_o == packets_d
            && read_bytes_o == bytes_d);
      end
      // State.
      if (!overwriting) begin
        generation_in_memory : assert (config_words == words);
        number_in_memory : assert (
            sequence_word == (mine && step == 4'd8 && dut.numbered_q ? spent_q + 1'b1 : spent_d));
        usage_in_memory : assert (usage_word == {packets_d, bytes_d});
      end
      if (mine) begin
        header_is_kept : assert (dut.header_q == header_q && dut.generation_q == generation_q);
        if (step <= 4'd6) word_is_read : assert (dut.config_q == words[3'(step-4'd1)]);
        if (step == 4'd1) number_is_read : assert (dut.state_word_q[63:0] == spent_q);
        if (step == 4'd2) usage_is_read : assert (dut.state_word_q == {packets_q, bytes_q});
        registers_by_step : assert (
            (step < 4'd2 || dut.form_q == sa_q.form && dut.sequence_q == spent_q)
            && (step < 4'd3 || dut.id_q == sa_q.id && dut.usage_q == {packets_q, bytes_q})
            && (step < 4'd4 || dut.hard_q == sa_q.hard_limits)
            && (step < 4'd6 || dut.source_q == source)
            && (step < 4'd7 || dut.destination_q == destination));
        length_by_step : assert (
            (step < 4'd3 || dut.payload_q == payload && 18'(dut.outer_q) == outer)
            && (step < 4'd4 || 18'(dut.padded_q) == padded)
            && (step < 4'd5 || dut.body_q == body[15:0]));
        decision_by_step : assert (
            (step < 4'd3 || dut.present_q == present && dut.next_sequence_q == spent_q + 1'b1
                && dut.exhausted_q == exhausted)
            && (step < 4'd4 || dut.next_packets_q == packets_q + 1'b1
                && dut.next_bytes_q == bytes_q + counter_t'(dut.payload_q))
            && (step < 4'd5 || dut.expired_q == expired)
            && (step < 4'd7 || dut.numbered_q == spends && dut.reason_q == reason
                && dut.bad_q == (!spends || too_big)));
      end
      if (asked) begin
        if (step == 4'd1) request_number_is_read : assert (dut.state_word_q[63:0] == spent_d);
        if (step == 4'd2) request_usage_is_read : assert (dut.state_word_q == {packets_d, bytes_d});
        request_by_step : assert ((step < 4'd2 || dut.sequence_q == spent_d)
            && (step < 4'd3 || dut.usage_q == {packets_d, bytes_d}));
      end
      second_number : cover (numbered && went_on && number == 64'd2);
      second_generation : cover (went_on && number == 64'd1 && generation_q == 16'd7 && old_q);
      limited : cover (dropped && drop_reason_o == ReasonLifetimeExpired && packets_q == 64'd1);
      asked_for : cover (read_done_o && reading_q && read_packets_o == 64'd1);
    end
  end

endmodule
