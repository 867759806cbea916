// outbound_engine and the key_unit that stages its keys, for the bench.

module outbound_engine_keyed
  import aes_pkg::*;
  import gcm_pkg::*;
  import sa_pkg::*;
  import engine_pkg::*;
#(
  // As outbound_engine has them.
  parameter int unsigned NSa = 16,
  parameter int unsigned Interval = 1,
  parameter int unsigned IntakeBytes = 32768,
  parameter int unsigned BufferBytes = 32768,
  parameter int unsigned LargestPacket = 9600,
  parameter int unsigned LargestOuter = 9728,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic [31:0]           headroom_i,
  input  logic [127:0]          s_axis_tdata,
  input  logic [15:0]           s_axis_tkeep,
  input  logic                  s_axis_tvalid,
  output logic                  s_axis_tready,
  input  logic                  s_axis_tlast,
  input  logic [15+SaWidth:0]   s_axis_tuser,
  output logic [127:0]          m_axis_tdata,
  output logic [15:0]           m_axis_tkeep,
  output logic                  m_axis_tvalid,
  input  logic                  m_axis_tready,
  output logic                  m_axis_tlast,
  output logic [SaWidth-1:0]    m_axis_tuser,
  input  logic                  command_valid_i,
  output logic                  command_ready_o,
  input  logic [SaWidth-1:0]    command_sa_i,
  input  outbound_sa_t          command_data_i,
  output logic                  command_done_o,
  output logic                  drop_valid_o,
  output drop_t                 drop_o,
  output logic [SaWidth-1:0]    drop_sa_o,
  output logic                  intake_drop_valid_o,
  output drop_t                 intake_drop_o,
  output logic [SaWidth-1:0]    intake_drop_sa_o,
  output logic                  events_valid_o,
  output logic [SaWidth-1:0]    events_sa_o,
  output generation_t           events_generation_o,
  output sa_events_t            events_o,
  input  logic                  read_valid_i,
  output logic                  read_ready_o,
  input  logic [SaWidth-1:0]    read_sa_i,
  output logic                  read_done_o,
  output sa_usage_t             read_usage_o,
  input  logic                  key_start_i,
  input  logic                  key_zero_i,
  input  logic [255:0]          key_i,
  input  logic                  key256_i,
  output logic                  key_busy_o,
  output logic                  key_done_o,
  // What outbound_fetch takes, and when: packets and commands are in one order there.
  output logic                  taken_o,
  output logic [SaWidth-1:0]    taken_sa_o
);

  localparam int unsigned Powers = powers(Interval);
  localparam int unsigned PowerWidth = Powers > 1 ? $clog2(Powers) : 1;

  logic [3:0] round_key_addr;
  logic [PowerWidth-1:0] power_addr;
  block_t round_key, power;

  outbound_engine #(
    .NSa(NSa),
    .Interval(Interval),
    .IntakeBytes(IntakeBytes),
    .BufferBytes(BufferBytes),
    .LargestPacket(LargestPacket),
    .LargestOuter(LargestOuter)
  ) u_engine (
    .clk_i, .rst_ni, .headroom_i,
    .s_axis_tdata, .s_axis_tkeep, .s_axis_tvalid, .s_axis_tready, .s_axis_tlast, .s_axis_tuser,
    .m_axis_tdata, .m_axis_tkeep, .m_axis_tvalid, .m_axis_tready, .m_axis_tlast, .m_axis_tuser,
    .command_valid_i, .command_ready_o, .command_sa_i, .command_data_i, .command_done_o,
    .round_key_addr_o(round_key_addr), .round_key_i(round_key), .power_addr_o(power_addr), .power_i(power),
    .drop_valid_o, .drop_o, .drop_sa_o, .intake_drop_valid_o, .intake_drop_o, .intake_drop_sa_o,
    .events_valid_o, .events_sa_o, .events_generation_o, .events_o,
    .read_valid_i, .read_ready_o, .read_sa_i, .read_done_o, .read_usage_o
  );

  key_unit #(
    .Interval(Interval)
  ) u_keys (
    .clk_i, .rst_ni,
    .start_i(key_start_i), .zero_i(key_zero_i), .key_i, .key256_i, .busy_o(key_busy_o), .done_o(key_done_o),
    .round_key_addr_i(round_key_addr), .round_key_o(round_key), .power_addr_i(power_addr), .power_o(power)
  );

  assign taken_o = u_engine.packet_valid && u_engine.packet_ready;
  assign taken_sa_o = u_engine.packet_user[SaWidth-1:0];

endmodule
