// All that software sees of the engine, behind one AXI4-Lite port: registers, commands, counters, events, drops.
//
// The register map is hw/regs/esp_engine.rdl; here its fields meet the modules that they belong to. An address where
// nothing is, a write of what can only be read and a read of what can only be written are answered with SLVERR.

module engine_registers
  import control_pkg::*;
  import engine_pkg::*;
  import esp_engine_regs_pkg::*;
  import esp_pkg::length_t;
  import reason_pkg::reason_e;
  import sa_pkg::*;
  import selector_pkg::selector_t;
  import spi_pkg::*;
#(
  // How many SAs of each direction, at least two.
  parameter int unsigned NSa = 256,
  // Traffic selectors in the pool, and how many an SA may have.
  parameter int unsigned NSelectors = 512,
  parameter int unsigned MaxPerSa = 8,
  // Events and records of drops that can wait.
  parameter int unsigned EventDepth = 64,
  parameter int unsigned DropDepth = 32,
  // What is only told: the replay window, the interval of the cipher, the largest packet that is taken and that is made, after
  // how many cycles an output counts as stalled, the kind of S-boxes, the frame buffers in bytes.
  parameter int unsigned Window = 1024,
  parameter int unsigned Interval = 7,
  parameter int unsigned MaxPacket = 9728,
  parameter int unsigned MaxOuter = 9728,
  parameter int unsigned StallCycles = 2 ** 20,
  parameter bit TowerSbox = 1'b0,
  parameter int unsigned InputBytes = 16384,
  parameter int unsigned OutputBytes = 16384,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned SelectorWidth = NSelectors > 1 ? $clog2(NSelectors) : 1
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,

  output logic                     s_axil_awready,
  input  logic                     s_axil_awvalid,
  input  logic [10:0]              s_axil_awaddr,
  input  logic [2:0]               s_axil_awprot,
  output logic                     s_axil_wready,
  input  logic                     s_axil_wvalid,
  input  logic [31:0]              s_axil_wdata,
  input  logic [3:0]               s_axil_wstrb,
  input  logic                     s_axil_bready,
  output logic                     s_axil_bvalid,
  output logic [1:0]               s_axil_bresp,
  output logic                     s_axil_arready,
  input  logic                     s_axil_arvalid,
  input  logic [10:0]              s_axil_araddr,
  input  logic [2:0]               s_axil_arprot,
  input  logic                     s_axil_rready,
  output logic                     s_axil_rvalid,
  output logic [31:0]              s_axil_rdata,
  output logic [1:0]               s_axil_rresp,

  // A level.
  output logic                     irq_o,

  // Packets are taken: software wants it, and the sweep after reset is over.
  output logic                     traffic_enable_o,
  output logic [31:0]              headroom_o,

  // What follows is explained at sa_control, event_unit and drop_unit.

  output logic                     key_start_o,
  output logic                     key_zero_o,
  output logic [255:0]             key_o,
  output logic                     key256_o,
  input  logic                     key_busy_i,
  input  logic                     key_done_i,

  output logic                     outbound_command_valid_o,
  input  logic                     outbound_command_ready_i,
  output logic [SaWidth-1:0]       outbound_command_sa_o,
  output outbound_sa_t             outbound_command_data_o,
  input  logic                     outbound_command_done_i,

  output logic                     inbound_command_valid_o,
  input  logic                     inbound_command_ready_i,
  output logic [SaWidth-1:0]       inbound_command_sa_o,
  output inbound_sa_t              inbound_command_data_o,
  input  logic                     inbound_command_done_i,

  output logic                     outbound_read_valid_o,
  input  logic                     outbound_read_ready_i,
  output logic [SaWidth-1:0]       outbound_read_sa_o,
  input  logic                     outbound_read_done_i,
  input  sa_usage_t                outbound_read_usage_i,

  output logic                     inbound_read_valid_o,
  input  logic                     inbound_read_ready_i,
  output logic [SaWidth-1:0]       inbound_read_sa_o,
  input  logic                     inbound_read_done_i,
  input  sa_usage_t                inbound_read_usage_i,

  output logic                     spi_op_valid_o,
  input  logic                     spi_op_ready_i,
  output spi_op_e                  spi_op_o,
  output spi_key_t                 spi_op_key_o,
  output logic [SaWidth-1:0]       spi_op_sa_o,
  input  logic                     spi_answer_valid_i,
  input  spi_answer_e              spi_answer_i,

  output logic                     selector_write_o,
  output logic [SelectorWidth-1:0] selector_index_o,
  output selector_t                selector_o,

  input  logic                     outbound_events_valid_i,
  input  logic [SaWidth-1:0]       outbound_events_sa_i,
  input  generation_t              outbound_events_generation_i,
  input  sa_events_t               outbound_events_i,
  input  logic                     inbound_events_valid_i,
  input  logic [SaWidth-1:0]       inbound_events_sa_i,
  input  generation_t              inbound_events_generation_i,
  input  sa_events_t               inbound_events_i,

  input  logic                     outbound_pipe_valid_i,
  input  drop_t                    outbound_pipe_drop_i,
  input  logic [SaWidth-1:0]       outbound_pipe_sa_i,
  input  logic                     inbound_pipe_valid_i,
  input  drop_t                    inbound_pipe_drop_i,
  input  logic [SaWidth-1:0]       inbound_pipe_sa_i,
  input  logic                     outbound_intake_valid_i,
  input  reason_e                  outbound_intake_reason_i,
  input  logic [SaWidth-1:0]       outbound_intake_sa_i,
  input  logic                     inbound_intake_valid_i,
  input  reason_e                  inbound_intake_reason_i,

  input  logic                     outbound_in_valid_i,
  input  length_t                  outbound_in_bytes_i,
  input  logic                     outbound_out_valid_i,
  input  length_t                  outbound_out_bytes_i,
  input  logic                     inbound_in_valid_i,
  input  length_t                  inbound_in_bytes_i,
  input  logic                     inbound_out_valid_i,
  input  length_t                  inbound_out_bytes_i
);

  localparam logic [31:0] Magic = "ESPE";
  localparam logic [7:0] VersionMajor = 8'd1;
  localparam logic [7:0] VersionMinor = 8'd0;
  localparam logic [15:0] VersionPatch = 16'd0;

  if (NSa < 2 || NSa > 16384) begin : gen_bad_nsa
    $error("NSa is 2 to 16384");
  end
  if (EventDepth > 65535 || DropDepth > 65535 || Window > 65535 || MaxPacket > 65535 || MaxOuter > 65535 || Interval > 255) begin : gen_wide
    $error("a parameter has no room in its register");
  end

  esp_engine__in_t regs_in;
  esp_engine__out_t regs_out;

  esp_engine_regs u_regs (
    .clk           (clk_i),
    .rst_n         (rst_ni),
    .s_axil_awready,
    .s_axil_awvalid,
    .s_axil_awaddr,
    .s_axil_awprot,
    .s_axil_wready,
    .s_axil_wvalid,
    .s_axil_wdata,
    .s_axil_wstrb,
    .s_axil_bready,
    .s_axil_bvalid,
    .s_axil_bresp,
    .s_axil_arready,
    .s_axil_arvalid,
    .s_axil_araddr,
    .s_axil_arprot,
    .s_axil_rready,
    .s_axil_rvalid,
    .s_axil_rdata,
    .s_axil_rresp,
    .hwif_in       (regs_in),
    .hwif_out      (regs_out)
  );

  // ---- identity

  assign regs_in.identity.magic.value.next = Magic;
  assign regs_in.identity.version.major.next = VersionMajor;
  assign regs_in.identity.version.minor.next = VersionMinor;
  assign regs_in.identity.version.patch.next = VersionPatch;
  assign regs_in.identity.sas.count.next = 16'(NSa);
  assign regs_in.identity.window.packets.next = 16'(Window);
  assign regs_in.identity.interval.cycles.next = 8'(Interval);
  assign regs_in.identity.interval.tower.next = TowerSbox;
  assign regs_in.identity.selectors.count.next = 16'(NSelectors);
  assign regs_in.identity.selectors.per_sa.next = 8'(MaxPerSa);
  assign regs_in.identity.packet.bytes.next = 16'(MaxPacket);
  assign regs_in.identity.packet.outer.next = 16'(MaxOuter);
  assign regs_in.identity.stall.cycles.next = StallCycles;
  assign regs_in.identity.input_buffer.bytes.next = InputBytes;
  assign regs_in.identity.output_buffer.bytes.next = OutputBytes;
  assign regs_in.identity.algorithms.aes128_gcm.next = 1'b1;
  assign regs_in.identity.algorithms.aes256_gcm.next = 1'b1;
  assign regs_in.identity.features.tunnel.next = 1'b1;
  assign regs_in.identity.features.transport.next = 1'b1;
  assign regs_in.identity.features.ipv4.next = 1'b1;
  assign regs_in.identity.features.ipv6.next = 1'b1;
  assign regs_in.identity.features.esn.next = 1'b1;
  assign regs_in.identity.features.udp.next = 1'b1;
  assign regs_in.identity.features.tfc.next = 1'b1;
  assign regs_in.identity.queues.events.next = 16'(EventDepth);
  assign regs_in.identity.queues.drops.next = 16'(DropDepth);

  // ---- commands

  logic ready, busy, go, done, key_clear, usage_valid, events_ready, drops_ready;
  logic event_valid, event_ready, forget_valid, forget_ready;
  direction_e event_direction;
  logic [SaWidth-1:0] event_sa;
  answer_e answer;
  sa_usage_t usage;

  outbound_sa_t outbound_sa;
  inbound_sa_t inbound_sa;
  spi_key_t spi_key;
  limits_t hard_limits, soft_limits;
  // An IPv4 address is the lowest word: what an IPv6 one before it left in the others does not count.
  localparam logic [127:0] Ipv4Mask = 128'hffff_ffff;
  logic [127:0] source, destination, written_source, written_destination, written_start, written_last;
  logic [255:0] key;

  for (genvar i = 0; i < 4; i++) begin : gen_address
    assign written_source[32*i+:32] = regs_out.sa.source[i].value.value;
    assign written_destination[32*i+:32] = regs_out.sa.destination[i].value.value;
    assign written_start[32*i+:32] = regs_out.selector.first[i].value.value;
    assign written_last[32*i+:32] = regs_out.selector.last[i].value.value;
  end
  assign source = written_source & (regs_out.sa.form.v6.value ? '1 : Ipv4Mask);
  assign destination = written_destination & (regs_out.sa.form.v6.value ? '1 : Ipv4Mask);
  for (genvar i = 0; i < 8; i++) begin : gen_key
    assign key[32*i+:32] = regs_out.key.word[i].value.value;
  end
  for (genvar i = 0; i < 2; i++) begin : gen_limit
    assign hard_limits.packets[32*i+:32] = regs_out.sa.hard_limits.packets[i].value.value;
    assign hard_limits.bytes[32*i+:32] = regs_out.sa.hard_limits.bytes[i].value.value;
    assign soft_limits.packets[32*i+:32] = regs_out.sa.soft_limits.packets[i].value.value;
    assign soft_limits.bytes[32*i+:32] = regs_out.sa.soft_limits.bytes[i].value.value;
  end

  assign selector_o.remote = regs_out.selector.form.remote.value;
  assign selector_o.v6 = regs_out.selector.form.v6.value;
  assign selector_o.start = written_start & (regs_out.selector.form.v6.value ? '1 : Ipv4Mask);
  assign selector_o.last = written_last & (regs_out.selector.form.v6.value ? '1 : Ipv4Mask);
  assign selector_o.protocol = regs_out.selector.form.protocol.value;
  assign selector_o.port_start = regs_out.selector.ports.first.value;
  assign selector_o.port_end = regs_out.selector.ports.last.value;

  assign outbound_sa = '{
    destination: destination,
    source: source,
    soft_limits: soft_limits,
    hard_limits: hard_limits,
    id: '{reserved: '0, salt: regs_out.sa.salt.value.value, spi: regs_out.sa.spi.value.value},
    form: '{
      reserved: '0,
      valid: 1'b1,
      generation: regs_out.sa.form.generation.value,
      transport: regs_out.sa.form.transport.value,
      v6: regs_out.sa.form.v6.value,
      udp: regs_out.sa.outer.udp.value,
      esn: regs_out.sa.form.esn.value,
      key256: regs_out.sa.form.key256.value,
      dscp_copy: regs_out.sa.outer.dscp_copy.value,
      dscp: regs_out.sa.outer.dscp.value,
      ecn_copy: regs_out.sa.outer.ecn_copy.value,
      df: df_e'(regs_out.sa.outer.df.value),
      flow_copy: regs_out.sa.outer.flow_copy.value,
      flow_label: regs_out.sa.flow_label.value.value,
      hop_limit: regs_out.sa.outer.hop_limit.value,
      tfc_length: regs_out.sa.tfc.length.value,
      source_port: regs_out.sa.ports.source.value,
      destination_port: regs_out.sa.ports.destination.value
    }
  };

  assign inbound_sa = '{
    soft_limits: soft_limits,
    hard_limits: hard_limits,
    id: '{reserved: '0, salt: regs_out.sa.salt.value.value, spi: regs_out.sa.spi.value.value},
    form: '{
      reserved: '0,
      valid: 1'b1,
      generation: regs_out.sa.form.generation.value,
      transport: regs_out.sa.form.transport.value,
      esn: regs_out.sa.form.esn.value,
      key256: regs_out.sa.form.key256.value,
      udp_port: regs_out.sa.ports.destination.value,
      selector_first: regs_out.sa.selectors.first.value,
      selector_count: regs_out.sa.selectors.count.value
    }
  };

  assign spi_key = '{
    v6: regs_out.sa.form.v6.value,
    destination: destination,
    spi: regs_out.sa.spi.value.value
  };

  assign go = regs_out.command.command.go.value;

  sa_control #(
    .NSa       (NSa),
    .NSelectors(NSelectors),
    .MaxPerSa  (MaxPerSa)
  ) u_control (
    .clk_i,
    .rst_ni,
    .others_ready_i          (events_ready && drops_ready),
    .ready_o                 (ready),
    .busy_o                  (busy),
    .go_i                    (go),
    .command_i               (command_e'(regs_out.command.command.operation.value)),
    .direction_i             (direction_e'(regs_out.command.command.direction.value)),
    .index_i                 (regs_out.command.command.index.value),
    .done_o                  (done),
    .answer_o                (answer),
    .outbound_sa_i           (outbound_sa),
    .inbound_sa_i            (inbound_sa),
    .spi_key_i               (spi_key),
    .key_i                   (key),
    .key_clear_o             (key_clear),
    .usage_valid_o           (usage_valid),
    .usage_o                 (usage),
    .key_start_o,
    .key_zero_o,
    .key_o,
    .key256_o,
    .key_busy_i,
    .key_done_i,
    .outbound_command_valid_o,
    .outbound_command_ready_i,
    .outbound_command_sa_o,
    .outbound_command_data_o,
    .outbound_command_done_i,
    .inbound_command_valid_o,
    .inbound_command_ready_i,
    .inbound_command_sa_o,
    .inbound_command_data_o,
    .inbound_command_done_i,
    .outbound_read_valid_o,
    .outbound_read_ready_i,
    .outbound_read_sa_o,
    .outbound_read_done_i,
    .outbound_read_usage_i,
    .inbound_read_valid_o,
    .inbound_read_ready_i,
    .inbound_read_sa_o,
    .inbound_read_done_i,
    .inbound_read_usage_i,
    .spi_op_valid_o,
    .spi_op_ready_i,
    .spi_op_o,
    .spi_op_key_o,
    .spi_op_sa_o,
    .spi_answer_valid_i,
    .spi_answer_i,
    .selector_write_o,
    .selector_index_o,
    .event_valid_o           (event_valid),
    .event_ready_i           (event_ready),
    .forget_valid_o          (forget_valid),
    .forget_ready_i          (forget_ready),
    .event_direction_o       (event_direction),
    .event_sa_o              (event_sa)
  );

  // From the cycle in which a command begins; before the engine is ready SAs can be staged.
  assign regs_in.busy = busy || go;
  assign regs_in.locked = (busy && ready) || go;
  assign regs_in.key_clear = key_clear;
  // The salt is needed until the command has left the last stage.
  assign regs_in.salt_clear = done && command_e'(regs_out.command.command.operation.value) == CommandInstall;
  assign regs_in.command.answer.answer.we = done;
  assign regs_in.command.answer.answer.next = answer;
  assign regs_in.command.answer.done.hwset = done;
  assign regs_in.command.answer.done.hwclr = go;

  for (genvar i = 0; i < 2; i++) begin : gen_usage
    assign regs_in.usage.sequence_number[i].value = '{next: usage.sequence_number[32*i+:32], we: usage_valid};
    assign regs_in.usage.packets[i].value = '{next: usage.packets[32*i+:32], we: usage_valid};
    assign regs_in.usage.bytes[i].value = '{next: usage.bytes[32*i+:32], we: usage_valid};
    assign regs_in.usage.replayed[i].value = '{next: usage.replayed[32*i+:32], we: usage_valid};
    assign regs_in.usage.integrity_failures[i].value =
        '{next: usage.integrity_failures[32*i+:32], we: usage_valid};
  end

  // ---- events

  logic head_valid, overflow, take_valid_q, take_ready, take_done, take_nobody_q;
  direction_e head_direction;
  logic [SaWidth-1:0] head_sa;
  generation_t head_generation, take_generation;
  engine_events_t head_events, take_events;
  logic [SaWidth+1:0] sticky_count;

  event_unit #(
    .NSa  (NSa),
    .Depth(EventDepth)
  ) u_events (
    .clk_i,
    .rst_ni,
    .ready_o           (events_ready),
    .outbound_valid_i  (outbound_events_valid_i),
    .outbound_sa_i     (outbound_events_sa_i),
    .outbound_generation_i(outbound_events_generation_i),
    .outbound_events_i,
    .inbound_valid_i   (inbound_events_valid_i),
    .inbound_sa_i      (inbound_events_sa_i),
    .inbound_generation_i(inbound_events_generation_i),
    .inbound_events_i,
    .key_valid_i       (event_valid),
    .key_ready_o       (event_ready),
    .key_direction_i   (event_direction),
    .key_sa_i          (event_sa),
    .key_generation_i  (regs_out.sa.form.generation.value),
    .forget_valid_i    (forget_valid),
    .forget_ready_o    (forget_ready),
    .forget_direction_i(event_direction),
    .forget_sa_i       (event_sa),
    .take_valid_i      (take_valid_q),
    .take_ready_o      (take_ready),
    .take_direction_i  (direction_e'(regs_out.events.select.direction.value)),
    .take_sa_i         (regs_out.events.select.index.value[SaWidth-1:0]),
    .take_done_o       (take_done),
    .take_generation_o (take_generation),
    .take_events_o     (take_events),
    .head_valid_o      (head_valid),
    .head_direction_o  (head_direction),
    .head_sa_o         (head_sa),
    .head_generation_o (head_generation),
    .head_events_o     (head_events),
    .pop_i             (regs_out.events.pop.pop.value),
    .overflow_o        (overflow),
    .sticky_count_o    (sticky_count)
  );

  // A read of `sticky` waits for event_unit; an SA that there is not has no events.
  logic take, nobody;
  assign take = regs_out.events.sticky.req && !regs_out.events.sticky.req_is_wr;
  assign nobody = regs_out.events.select.index.value > 16'(NSa - 1);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      take_valid_q <= 1'b0;
      take_nobody_q <= 1'b0;
    end else begin
      if (take) take_valid_q <= !nobody;
      else if (take_ready) take_valid_q <= 1'b0;
      take_nobody_q <= take && nobody;
    end
  end

  assign regs_in.events.sticky.rd_ack = take_done || take_nobody_q;
  assign regs_in.events.sticky.rd_data = take_done ? '{
    _reserved_31_23: '0,
    generation: take_events == '0 ? '0 : take_generation,
    key_ready: take_events.key_ready,
    integrity: take_events.sa.integrity,
    headroom: take_events.sa.headroom,
    hard_packets: take_events.sa.hard_packets,
    hard_bytes: take_events.sa.hard_bytes,
    soft_packets: take_events.sa.soft_packets,
    soft_bytes: take_events.sa.soft_bytes
  } : '0;

  assign regs_in.events.head.valid.next = head_valid;
  assign regs_in.events.head.index.next = head_valid ? 16'(head_sa) : '0;
  assign regs_in.events.generation.value.next = head_valid ? head_generation : '0;
  assign regs_in.events.head.direction.next = head_valid && head_direction == Inbound;
  assign regs_in.events.head.key_ready.next = head_valid && head_events.key_ready;
  assign regs_in.events.head.integrity.next = head_valid && head_events.sa.integrity;
  assign regs_in.events.head.headroom.next = head_valid && head_events.sa.headroom;
  assign regs_in.events.head.hard_packets.next = head_valid && head_events.sa.hard_packets;
  assign regs_in.events.head.hard_bytes.next = head_valid && head_events.sa.hard_bytes;
  assign regs_in.events.head.soft_packets.next = head_valid && head_events.sa.soft_packets;
  assign regs_in.events.head.soft_bytes.next = head_valid && head_events.sa.soft_bytes;
  assign regs_in.events.status.overflow.hwset = overflow;
  assign regs_in.events.status.sticky_count.next = 16'(sticky_count);

  // ---- drops and counters

  logic drop_valid, count_reads_q, count_done, high_read_q;
  drop_t drop;
  logic [SaWidth-1:0] drop_sa;
  counter_t count;
  logic [6:0] count_index_q;
  logic [31:0] high_q, lost;

  drop_unit #(
    .NSa  (NSa),
    .Depth(DropDepth)
  ) u_drops (
    .clk_i,
    .rst_ni,
    .ready_o                 (drops_ready),
    .outbound_pipe_valid_i,
    .outbound_pipe_drop_i,
    .outbound_pipe_sa_i,
    .inbound_pipe_valid_i,
    .inbound_pipe_drop_i,
    .inbound_pipe_sa_i,
    .outbound_intake_valid_i,
    .outbound_intake_reason_i,
    .outbound_intake_sa_i,
    .inbound_intake_valid_i,
    .inbound_intake_reason_i,
    .outbound_in_valid_i,
    .outbound_in_bytes_i,
    .outbound_out_valid_i,
    .outbound_out_bytes_i,
    .inbound_in_valid_i,
    .inbound_in_bytes_i,
    .inbound_out_valid_i,
    .inbound_out_bytes_i,
    .read_valid_i            (count_reads_q),
    .read_index_i            (count_index_q),
    .read_done_o             (count_done),
    .read_count_o            (count),
    .head_valid_o            (drop_valid),
    .head_o                  (drop),
    .head_sa_o               (drop_sa),
    .pop_i                   (regs_out.drops.pop.pop.value),
    .lost_o                  (lost)
  );

  // The low word of a counter comes from there, and the high word is kept for the next read of a high word.
  logic count_read;
  assign count_read = regs_out.counters.req && !regs_out.counters.req_is_wr;

  always_ff @(posedge clk_i) begin
    if (count_read) count_index_q <= regs_out.counters.addr[9:3];
    if (!rst_ni) begin
      count_reads_q <= 1'b0;
      high_read_q <= 1'b0;
      high_q <= '0;
    end else begin
      if (count_read) count_reads_q <= !regs_out.counters.addr[2];
      else if (count_done) count_reads_q <= 1'b0;
      high_read_q <= count_read && regs_out.counters.addr[2];
      if (count_done) high_q <= count[63:32];
    end
  end

  assign regs_in.counters.rd_ack = count_done || high_read_q;
  assign regs_in.counters.rd_data = high_read_q ? high_q : count[31:0];
  assign regs_in.counters.wr_ack = 1'b0;

  assign regs_in.drops.head.valid.next = drop_valid;
  assign regs_in.drops.head.index.next = drop_valid ? 16'(drop_sa) : '0;
  assign regs_in.drops.head.direction.next = drop_valid && drop.direction == Inbound;
  assign regs_in.drops.head.has_sa.next = drop_valid && drop.has_sa;
  assign regs_in.drops.head.reason.next = drop_valid ? 7'(drop.reason) : '0;
  assign regs_in.drops.spi.value.next = drop_valid ? drop.spi : '0;
  assign regs_in.drops.sequence_number[0].value.next = drop_valid ? drop.sequence_number[31:0] : '0;
  assign regs_in.drops.sequence_number[1].value.next = drop_valid ? drop.sequence_number[63:32] : '0;
  assign regs_in.drops.lost.count.next = lost;

  // ---- control

  logic sticky;
  assign sticky = sticky_count != '0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      irq_o <= 1'b0;
      traffic_enable_o <= 1'b0;
    end else begin
      irq_o <= (head_valid && regs_out.control.interrupt_enable.events.value)
          || (sticky && regs_out.control.interrupt_enable.sticky.value)
          || (drop_valid && regs_out.control.interrupt_enable.drops.value)
          || (regs_out.command.answer.done.value && regs_out.control.interrupt_enable.command.value);
      traffic_enable_o <= ready && regs_out.control.control.traffic_enable.value;
    end
  end

  assign regs_in.control.status.ready.next = ready;
  assign regs_in.control.status.busy.next = busy;
  assign regs_in.control.status.traffic.next = traffic_enable_o;
  assign regs_in.control.interrupt_status.events.next = head_valid;
  assign regs_in.control.interrupt_status.sticky.next = sticky;
  assign regs_in.control.interrupt_status.drops.next = drop_valid;
  assign regs_in.control.interrupt_status.command.next = regs_out.command.answer.done.value;

  assign headroom_o = regs_out.control.headroom.numbers.value;

endmodule
