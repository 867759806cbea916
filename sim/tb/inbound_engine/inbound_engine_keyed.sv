// inbound_engine and the key_unit that stages its keys, for the bench.

module inbound_engine_keyed
  import aes_pkg::*;
  import gcm_pkg::powers;
  import esp_pkg::*;
  import sa_pkg::*;
  import spi_pkg::*;
  import selector_pkg::*;
  import engine_pkg::*;
#(
  // As inbound_engine has them.
  parameter int unsigned NSa = 256,
  parameter int unsigned Window = 1024,
  parameter int unsigned Interval = 7,
  parameter sbox_impl_e SboxImpl = SboxTable,
  parameter int unsigned NSelectors = 512,
  parameter int unsigned MaxPerSa = 8,
  parameter int unsigned IntakeBytes = 16384,
  parameter int unsigned ReleaseBytes = 16384,
  parameter int unsigned LargestPacket = 9600,
  parameter int unsigned IntakeDescriptors = 16,
  parameter int unsigned ReleaseDescriptors = 32,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned IndexWidth = NSelectors > 1 ? $clog2(NSelectors) : 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  beat_t                 s_axis_tdata,
  input  logic [BeatBytes-1:0]  s_axis_tkeep,
  input  logic                  s_axis_tvalid,
  output logic                  s_axis_tready,
  input  logic                  s_axis_tlast,
  output beat_t                 m_axis_tdata,
  output logic [BeatBytes-1:0]  m_axis_tkeep,
  output logic                  m_axis_tvalid,
  input  logic                  m_axis_tready,
  output logic                  m_axis_tlast,
  output logic [SaWidth-1:0]    m_axis_tuser,
  input  logic                  command_valid_i,
  output logic                  command_ready_o,
  input  logic [SaWidth-1:0]    command_sa_i,
  input  inbound_sa_t           command_data_i,
  output logic                  command_done_o,
  input  logic                  start_i,
  input  logic                  zero_i,
  input  logic [255:0]          key_i,
  input  logic                  key256_i,
  output logic                  busy_o,
  output logic                  done_o,
  input  logic                  op_valid_i,
  output logic                  op_ready_o,
  input  spi_op_e               op_i,
  input  spi_key_t              op_key_i,
  input  logic [SaWidth-1:0]    op_sa_i,
  output logic                  answer_valid_o,
  output spi_answer_e           answer_o,
  input  logic                  selector_write_i,
  input  logic [IndexWidth-1:0] selector_index_i,
  input  selector_t             selector_i,
  output logic                  drop_valid_o,
  output drop_t                 drop_o,
  output logic [SaWidth-1:0]    drop_sa_o,
  output logic                  intake_drop_valid_o,
  output drop_t                 intake_drop_o,
  output logic                  events_valid_o,
  output logic [SaWidth-1:0]    events_sa_o,
  output generation_t           events_generation_o,
  output sa_events_t            events_o,
  input  logic                  read_valid_i,
  output logic                  read_ready_o,
  input  logic [SaWidth-1:0]    read_sa_i,
  output logic                  read_done_o,
  output sa_usage_t             read_usage_o
);

  localparam int unsigned Powers = powers(Interval);
  localparam int unsigned PowerWidth = Powers > 1 ? $clog2(Powers) : 1;

  logic [3:0] round_key_addr;
  logic [PowerWidth-1:0] power_addr;
  block_t round_key, power;

  inbound_engine #(
    .NSa(NSa),
    .Window(Window),
    .Interval(Interval),
    .SboxImpl(SboxImpl),
    .NSelectors(NSelectors),
    .MaxPerSa(MaxPerSa),
    .IntakeBytes(IntakeBytes),
    .ReleaseBytes(ReleaseBytes),
    .LargestPacket(LargestPacket),
    .IntakeDescriptors(IntakeDescriptors),
    .ReleaseDescriptors(ReleaseDescriptors)
  ) u_engine (
    .round_key_addr_o(round_key_addr),
    .round_key_i(round_key),
    .power_addr_o(power_addr),
    .power_i(power),
    .clk_i,
    .rst_ni,
    .s_axis_tdata,
    .s_axis_tkeep,
    .s_axis_tvalid,
    .s_axis_tready,
    .s_axis_tlast,
    .m_axis_tdata,
    .m_axis_tkeep,
    .m_axis_tvalid,
    .m_axis_tready,
    .m_axis_tlast,
    .m_axis_tuser,
    .command_valid_i,
    .command_ready_o,
    .command_sa_i,
    .command_data_i,
    .command_done_o,
    .op_valid_i,
    .op_ready_o,
    .op_i,
    .op_key_i,
    .op_sa_i,
    .answer_valid_o,
    .answer_o,
    .selector_write_i,
    .selector_index_i,
    .selector_i,
    .drop_valid_o,
    .drop_o,
    .drop_sa_o,
    .intake_drop_valid_o,
    .intake_drop_o,
    .events_valid_o,
    .events_sa_o,
    .events_generation_o,
    .events_o,
    .read_valid_i,
    .read_ready_o,
    .read_sa_i,
    .read_done_o,
    .read_usage_o
  );

  key_unit #(
    .Interval(Interval),
    .SboxImpl(SboxImpl)
  ) u_keys (
    .clk_i,
    .rst_ni,
    .start_i,
    .zero_i,
    .key_i,
    .key256_i,
    .busy_o,
    .done_o,
    .round_key_addr_i(round_key_addr),
    .round_key_o(round_key),
    .power_addr_i(power_addr),
    .power_o(power)
  );

endmodule
