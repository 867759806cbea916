// gcm_core and the key_unit that stages its keys, for the bench.

module gcm_core_keyed
  import aes_pkg::*;
  import gcm_pkg::*;
#(
  // As gcm_core has them.
  parameter int unsigned NSa = 1024,
  parameter int unsigned Interval = 7,
  parameter sbox_impl_e SboxImpl = SboxTable,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  output logic               slot_ready_o,
  input  logic               slot_valid_i,
  input  slot_t              slot_i,
  input  logic [SaWidth-1:0] slot_sa_i,
  output logic               text_valid_o,
  output block_t             text_o,
  output logic [4:0]         text_bytes_o,
  output logic               tag_valid_o,
  output block_t             tag_o,
  output logic               key_done_o,
  input  logic               start_i,
  input  logic               zero_i,
  input  logic [255:0]       key_i,
  input  logic               key256_i,
  output logic               busy_o,
  output logic               done_o
);

  localparam int unsigned Powers = powers(Interval);
  localparam int unsigned PlaceWidth = Powers > 1 ? $clog2(Powers) : 1;

  logic [3:0] round_key_addr;
  logic [PlaceWidth-1:0] power_addr;
  block_t round_key, power;

  gcm_core #(
    .NSa(NSa),
    .Interval(Interval),
    .SboxImpl(SboxImpl)
  ) u_core (
    .clk_i,
    .rst_ni,
    .slot_ready_o,
    .slot_valid_i,
    .slot_i,
    .slot_sa_i,
    .text_valid_o,
    .text_o,
    .text_bytes_o,
    .tag_valid_o,
    .tag_o,
    .round_key_addr_o(round_key_addr),
    .round_key_i(round_key),
    .power_addr_o(power_addr),
    .power_i(power),
    .key_done_o
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
