// The ESP engine: both directions with what software sees of them. IP packets become ESP packets and the other way round
// (RFC 4303), AES-GCM (RFC 4106), with up to NSa SAs each way.
//
//   plain packets ─► outbound_engine ─► ESP packets ─► inbound_engine ─► plain packets
//                          │     └──── key_unit ────┘        │
//                          └──── engine_registers ───────────┘ ◄─► AXI4-Lite
//
// After reset every SA is removed, keys and all, before anything else is done; packets wait meanwhile, and until software
// lets traffic in.

module esp_engine
  import aes_pkg::*;
  import gcm_pkg::*;
  import esp_pkg::*;
  import sa_pkg::*;
  import spi_pkg::*;
  import selector_pkg::*;
  import engine_pkg::*;
#(
  // SAs of each direction: a power of two, 2 at least.
  parameter int unsigned NSa = 1024,
  // Sequence numbers in a replay window: a power of two, 64 to 4096.
  parameter int unsigned Window = 1024,
  // Cycles between two blocks of the cipher: 1, 2, 7 or 14.
  parameter int unsigned Interval = 1,
  // How the S-boxes are built.
  parameter sbox_impl_e SboxImpl = SboxTable,
  // Traffic selectors in the pool, and how many an SA has at most.
  parameter int unsigned NSelectors = 2048,
  parameter int unsigned MaxPerSa = 8,
  // Bytes of the buffer in front and of that behind, of each direction: powers of two.
  parameter int unsigned IntakeBytes = 32768,
  parameter int unsigned ReleaseBytes = 32768,
  // The longest packet that is taken, and the longest that is made, in bytes.
  parameter int unsigned LargestPacket = 9600,
  parameter int unsigned LargestOuter = 9728,
  // An output that nobody takes a beat of for so many cycles drops what has no room: a power of two.
  parameter int unsigned StallCycles = 2 ** 20,
  // Events, and records of dropped packets, that wait to be read.
  parameter int unsigned EventDepth = 64,
  parameter int unsigned DropDepth = 64,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned UserWidth = $bits(generation_t) + SaWidth
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,

  // Registers: hw/regs/README.md.
  input  logic [10:0]          s_axil_awaddr,
  input  logic [2:0]           s_axil_awprot,
  input  logic                 s_axil_awvalid,
  output logic                 s_axil_awready,
  input  logic [31:0]          s_axil_wdata,
  input  logic [3:0]           s_axil_wstrb,
  input  logic                 s_axil_wvalid,
  output logic                 s_axil_wready,
  output logic [1:0]           s_axil_bresp,
  output logic                 s_axil_bvalid,
  input  logic                 s_axil_bready,
  input  logic [10:0]          s_axil_araddr,
  input  logic [2:0]           s_axil_arprot,
  input  logic                 s_axil_arvalid,
  output logic                 s_axil_arready,
  output logic [31:0]          s_axil_rdata,
  output logic [1:0]           s_axil_rresp,
  output logic                 s_axil_rvalid,
  input  logic                 s_axil_rready,
  // A level: something is to be read.
  output logic                 irq_o,

  // Plain packets in; tuser of the first beat: the generation and the number of the SA, {generation_t, SA}.
  input  beat_t                s_axis_plain_tdata,
  input  logic [BeatBytes-1:0] s_axis_plain_tkeep,
  input  logic                 s_axis_plain_tvalid,
  output logic                 s_axis_plain_tready,
  input  logic                 s_axis_plain_tlast,
  input  logic [UserWidth-1:0] s_axis_plain_tuser,

  // ESP packets out; tuser: the number of the SA.
  output beat_t                m_axis_esp_tdata,
  output logic [BeatBytes-1:0] m_axis_esp_tkeep,
  output logic                 m_axis_esp_tvalid,
  input  logic                 m_axis_esp_tready,
  output logic                 m_axis_esp_tlast,
  output logic [SaWidth-1:0]   m_axis_esp_tuser,

  // ESP packets in.
  input  beat_t                s_axis_esp_tdata,
  input  logic [BeatBytes-1:0] s_axis_esp_tkeep,
  input  logic                 s_axis_esp_tvalid,
  output logic                 s_axis_esp_tready,
  input  logic                 s_axis_esp_tlast,

  // Plain packets out; tuser: the number of the SA that they came by.
  output beat_t                m_axis_plain_tdata,
  output logic [BeatBytes-1:0] m_axis_plain_tkeep,
  output logic                 m_axis_plain_tvalid,
  input  logic                 m_axis_plain_tready,
  output logic                 m_axis_plain_tlast,
  output logic [SaWidth-1:0]   m_axis_plain_tuser
);

  localparam int unsigned SelectorWidth = NSelectors > 1 ? $clog2(NSelectors) : 1;
  localparam int unsigned Powers = powers(Interval);
  localparam int unsigned PowerWidth = Powers > 1 ? $clog2(Powers) : 1;

  if (NSa < 2 || NSa != 2 ** SaWidth) begin : gen_bad_nsa
    $error("NSa must be a power of two, 2 at least");
  end
  if (Window < 64 || Window > 4096 || Window != 2 ** $clog2(Window)) begin : gen_bad_window
    $error("Window must be a power of two, 64 to 4096");
  end

  // ---- what software sees

  logic traffic_enable;
  logic [31:0] headroom;

  logic key_start, key_zero, key256, key_busy, key_done;
  logic [255:0] key;

  logic outbound_command_valid, outbound_command_ready, outbound_command_done;
  logic inbound_command_valid, inbound_command_ready, inbound_command_done;
  logic [SaWidth-1:0] outbound_command_sa, inbound_command_sa;
  outbound_sa_t outbound_command_data;
  inbound_sa_t inbound_command_data;

  logic outbound_read_valid, outbound_read_ready, outbound_read_done;
  logic inbound_read_valid, inbound_read_ready, inbound_read_done;
  logic [SaWidth-1:0] outbound_read_sa, inbound_read_sa;
  sa_usage_t outbound_read_usage, inbound_read_usage;

  logic spi_op_valid, spi_op_ready, spi_answer_valid;
  spi_op_e spi_op;
  spi_key_t spi_op_key;
  logic [SaWidth-1:0] spi_op_sa;
  spi_answer_e spi_answer;

  logic selector_write;
  logic [SelectorWidth-1:0] selector_index;
  selector_t selector;

  logic outbound_events_valid, inbound_events_valid;
  logic [SaWidth-1:0] outbound_events_sa, inbound_events_sa;
  generation_t outbound_events_generation, inbound_events_generation;
  sa_events_t outbound_events, inbound_events;

  logic outbound_drop_valid, inbound_drop_valid, outbound_intake_valid, inbound_intake_valid;
  drop_t outbound_drop, inbound_drop, outbound_intake_drop, inbound_intake_drop;
  logic [SaWidth-1:0] outbound_drop_sa, inbound_drop_sa, outbound_intake_sa;

  logic outbound_in_valid, outbound_out_valid, inbound_in_valid, inbound_out_valid;
  length_t outbound_in_bytes, outbound_out_bytes, inbound_in_bytes, inbound_out_bytes;

  engine_registers #(
    .NSa(NSa),
    .NSelectors(NSelectors),
    .MaxPerSa(MaxPerSa),
    .EventDepth(EventDepth),
    .DropDepth(DropDepth),
    .Window(Window),
    .Interval(Interval),
    .MaxPacket(LargestPacket),
    .MaxOuter(LargestOuter),
    .StallCycles(StallCycles),
    .TowerSbox(SboxImpl != SboxTable),
    .InputBytes(IntakeBytes),
    .OutputBytes(ReleaseBytes)
  ) u_registers (
    .clk_i,
    .rst_ni,
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
    .irq_o,
    .traffic_enable_o(traffic_enable),
    .headroom_o(headroom),
    .key_start_o(key_start),
    .key_zero_o(key_zero),
    .key_o(key),
    .key256_o(key256),
    .key_busy_i(key_busy),
    .key_done_i(key_done),
    .outbound_command_valid_o(outbound_command_valid),
    .outbound_command_ready_i(outbound_command_ready),
    .outbound_command_sa_o(outbound_command_sa),
    .outbound_command_data_o(outbound_command_data),
    .outbound_command_done_i(outbound_command_done),
    .inbound_command_valid_o(inbound_command_valid),
    .inbound_command_ready_i(inbound_command_ready),
    .inbound_command_sa_o(inbound_command_sa),
    .inbound_command_data_o(inbound_command_data),
    .inbound_command_done_i(inbound_command_done),
    .outbound_read_valid_o(outbound_read_valid),
    .outbound_read_ready_i(outbound_read_ready),
    .outbound_read_sa_o(outbound_read_sa),
    .outbound_read_done_i(outbound_read_done),
    .outbound_read_usage_i(outbound_read_usage),
    .inbound_read_valid_o(inbound_read_valid),
    .inbound_read_ready_i(inbound_read_ready),
    .inbound_read_sa_o(inbound_read_sa),
    .inbound_read_done_i(inbound_read_done),
    .inbound_read_usage_i(inbound_read_usage),
    .spi_op_valid_o(spi_op_valid),
    .spi_op_ready_i(spi_op_ready),
    .spi_op_o(spi_op),
    .spi_op_key_o(spi_op_key),
    .spi_op_sa_o(spi_op_sa),
    .spi_answer_valid_i(spi_answer_valid),
    .spi_answer_i(spi_answer),
    .selector_write_o(selector_write),
    .selector_index_o(selector_index),
    .selector_o(selector),
    .outbound_events_valid_i(outbound_events_valid),
    .outbound_events_sa_i(outbound_events_sa),
    .outbound_events_generation_i(outbound_events_generation),
    .outbound_events_i(outbound_events),
    .inbound_events_valid_i(inbound_events_valid),
    .inbound_events_sa_i(inbound_events_sa),
    .inbound_events_generation_i(inbound_events_generation),
    .inbound_events_i(inbound_events),
    .outbound_pipe_valid_i(outbound_drop_valid),
    .outbound_pipe_drop_i(outbound_drop),
    .outbound_pipe_sa_i(outbound_drop_sa),
    .inbound_pipe_valid_i(inbound_drop_valid),
    .inbound_pipe_drop_i(inbound_drop),
    .inbound_pipe_sa_i(inbound_drop_sa),
    .outbound_intake_valid_i(outbound_intake_valid),
    .outbound_intake_reason_i(outbound_intake_drop.reason),
    .outbound_intake_sa_i(outbound_intake_sa),
    .inbound_intake_valid_i(inbound_intake_valid),
    .inbound_intake_reason_i(inbound_intake_drop.reason),
    .outbound_in_valid_i(outbound_in_valid),
    .outbound_in_bytes_i(outbound_in_bytes),
    .outbound_out_valid_i(outbound_out_valid),
    .outbound_out_bytes_i(outbound_out_bytes),
    .inbound_in_valid_i(inbound_in_valid),
    .inbound_in_bytes_i(inbound_in_bytes),
    .inbound_out_valid_i(inbound_out_valid),
    .inbound_out_bytes_i(inbound_out_bytes)
  );

  // ---- keys: one unit for both directions, which it serves one at a time. Addresses rest at zero.

  logic [3:0] outbound_round_key_addr, inbound_round_key_addr;
  logic [PowerWidth-1:0] outbound_power_addr, inbound_power_addr;
  block_t round_key, power;

  key_unit #(
    .Interval(Interval),
    .SboxImpl(SboxImpl)
  ) u_keys (
    .clk_i,
    .rst_ni,
    .start_i(key_start),
    .zero_i(key_zero),
    .key_i(key),
    .key256_i(key256),
    .busy_o(key_busy),
    .done_o(key_done),
    .round_key_addr_i(outbound_round_key_addr | inbound_round_key_addr),
    .round_key_o(round_key),
    .power_addr_i(outbound_power_addr | inbound_power_addr),
    .power_o(power)
  );

  // ---- the two directions

  logic plain_ready, esp_ready, plain_valid, esp_valid;
  // A packet that was offered to its intake or begun comes in whole, also when software stops traffic meanwhile.
  logic plain_begun_q, esp_begun_q, plain_open, esp_open;
  assign plain_open = traffic_enable || plain_begun_q;
  assign esp_open = traffic_enable || esp_begun_q;
  assign plain_valid = s_axis_plain_tvalid && plain_open;
  assign esp_valid = s_axis_esp_tvalid && esp_open;
  assign s_axis_plain_tready = plain_ready && plain_open;
  assign s_axis_esp_tready = esp_ready && esp_open;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      plain_begun_q <= 1'b0;
      esp_begun_q <= 1'b0;
    end else begin
      if (plain_valid) plain_begun_q <= !(plain_ready && s_axis_plain_tlast);
      if (esp_valid) esp_begun_q <= !(esp_ready && s_axis_esp_tlast);
    end
  end

  outbound_engine #(
    .NSa(NSa),
    .Interval(Interval),
    .SboxImpl(SboxImpl),
    .IntakeBytes(IntakeBytes),
    .BufferBytes(ReleaseBytes),
    .LargestPacket(LargestPacket),
    .LargestOuter(LargestOuter),
    .StallCycles(StallCycles)
  ) u_outbound (
    .clk_i,
    .rst_ni,
    .headroom_i(headroom),
    .s_axis_tdata(s_axis_plain_tdata),
    .s_axis_tkeep(s_axis_plain_tkeep),
    .s_axis_tvalid(plain_valid),
    .s_axis_tready(plain_ready),
    .s_axis_tlast(s_axis_plain_tlast),
    .s_axis_tuser(s_axis_plain_tuser),
    .m_axis_tdata(m_axis_esp_tdata),
    .m_axis_tkeep(m_axis_esp_tkeep),
    .m_axis_tvalid(m_axis_esp_tvalid),
    .m_axis_tready(m_axis_esp_tready),
    .m_axis_tlast(m_axis_esp_tlast),
    .m_axis_tuser(m_axis_esp_tuser),
    .command_valid_i(outbound_command_valid),
    .command_ready_o(outbound_command_ready),
    .command_sa_i(outbound_command_sa),
    .command_data_i(outbound_command_data),
    .command_done_o(outbound_command_done),
    .round_key_addr_o(outbound_round_key_addr),
    .round_key_i(round_key),
    .power_addr_o(outbound_power_addr),
    .power_i(power),
    .drop_valid_o(outbound_drop_valid),
    .drop_o(outbound_drop),
    .drop_sa_o(outbound_drop_sa),
    .intake_drop_valid_o(outbound_intake_valid),
    .intake_drop_o(outbound_intake_drop),
    .intake_drop_sa_o(outbound_intake_sa),
    .events_valid_o(outbound_events_valid),
    .events_sa_o(outbound_events_sa),
    .events_generation_o(outbound_events_generation),
    .events_o(outbound_events),
    .read_valid_i(outbound_read_valid),
    .read_ready_o(outbound_read_ready),
    .read_sa_i(outbound_read_sa),
    .read_done_o(outbound_read_done),
    .read_usage_o(outbound_read_usage)
  );

  inbound_engine #(
    .NSa(NSa),
    .Window(Window),
    .Interval(Interval),
    .SboxImpl(SboxImpl),
    .NSelectors(NSelectors),
    .MaxPerSa(MaxPerSa),
    .IntakeBytes(IntakeBytes),
    .ReleaseBytes(ReleaseBytes),
    .LargestPacket(LargestOuter),
    .StallCycles(StallCycles)
  ) u_inbound (
    .clk_i,
    .rst_ni,
    .s_axis_tdata(s_axis_esp_tdata),
    .s_axis_tkeep(s_axis_esp_tkeep),
    .s_axis_tvalid(esp_valid),
    .s_axis_tready(esp_ready),
    .s_axis_tlast(s_axis_esp_tlast),
    .m_axis_tdata(m_axis_plain_tdata),
    .m_axis_tkeep(m_axis_plain_tkeep),
    .m_axis_tvalid(m_axis_plain_tvalid),
    .m_axis_tready(m_axis_plain_tready),
    .m_axis_tlast(m_axis_plain_tlast),
    .m_axis_tuser(m_axis_plain_tuser),
    .command_valid_i(inbound_command_valid),
    .command_ready_o(inbound_command_ready),
    .command_sa_i(inbound_command_sa),
    .command_data_i(inbound_command_data),
    .command_done_o(inbound_command_done),
    .round_key_addr_o(inbound_round_key_addr),
    .round_key_i(round_key),
    .power_addr_o(inbound_power_addr),
    .power_i(power),
    .op_valid_i(spi_op_valid),
    .op_ready_o(spi_op_ready),
    .op_i(spi_op),
    .op_key_i(spi_op_key),
    .op_sa_i(spi_op_sa),
    .answer_valid_o(spi_answer_valid),
    .answer_o(spi_answer),
    .selector_write_i(selector_write),
    .selector_index_i(selector_index),
    .selector_i(selector),
    .drop_valid_o(inbound_drop_valid),
    .drop_o(inbound_drop),
    .drop_sa_o(inbound_drop_sa),
    .intake_drop_valid_o(inbound_intake_valid),
    .intake_drop_o(inbound_intake_drop),
    .events_valid_o(inbound_events_valid),
    .events_sa_o(inbound_events_sa),
    .events_generation_o(inbound_events_generation),
    .events_o(inbound_events),
    .read_valid_i(inbound_read_valid),
    .read_ready_o(inbound_read_ready),
    .read_sa_i(inbound_read_sa),
    .read_done_o(inbound_read_done),
    .read_usage_o(inbound_read_usage)
  );

  // ---- all that goes in and out

  packet_meter u_outbound_in (
    .clk_i,
    .rst_ni,
    .taken_i(plain_valid && plain_ready),
    .tkeep_i(s_axis_plain_tkeep),
    .tlast_i(s_axis_plain_tlast),
    .valid_o(outbound_in_valid),
    .bytes_o(outbound_in_bytes)
  );
  packet_meter u_outbound_out (
    .clk_i,
    .rst_ni,
    .taken_i(m_axis_esp_tvalid && m_axis_esp_tready),
    .tkeep_i(m_axis_esp_tkeep),
    .tlast_i(m_axis_esp_tlast),
    .valid_o(outbound_out_valid),
    .bytes_o(outbound_out_bytes)
  );
  packet_meter u_inbound_in (
    .clk_i,
    .rst_ni,
    .taken_i(esp_valid && esp_ready),
    .tkeep_i(s_axis_esp_tkeep),
    .tlast_i(s_axis_esp_tlast),
    .valid_o(inbound_in_valid),
    .bytes_o(inbound_in_bytes)
  );
  packet_meter u_inbound_out (
    .clk_i,
    .rst_ni,
    .taken_i(m_axis_plain_tvalid && m_axis_plain_tready),
    .tkeep_i(m_axis_plain_tkeep),
    .tlast_i(m_axis_plain_tlast),
    .valid_o(inbound_out_valid),
    .bytes_o(inbound_out_bytes)
  );

  // What else an intake says of a packet that it drops is always the same.
  logic unused;
  assign unused = ^{outbound_intake_drop, inbound_intake_drop};

endmodule
