// Counts packets and their bytes at an AXI4-Stream port that others drive and take from.

module packet_meter
  import esp_pkg::*;
(
  input  logic                 clk_i,
  input  logic                 rst_ni,
  // The stream's handshake: a beat is taken.
  input  logic                 taken_i,
  input  logic [BeatBytes-1:0] tkeep_i,
  input  logic                 tlast_i,
  // For one cycle, two cycles after a packet's last beat: its bytes by tkeep, and 65,535 for more.
  output logic                 valid_o,
  output length_t              bytes_o
);

  logic taken_q, last_q;
  logic [4:0] count_q, count_d;
  length_t sum_q;
  logic [16:0] sum;

  always_comb begin
    count_d = '0;
    for (int i = 0; i < int'(BeatBytes); i++) count_d += 5'(tkeep_i[i]);
  end

  assign sum = {1'b0, sum_q} + 17'(count_q);

  always_ff @(posedge clk_i) begin
    count_q <= count_d;
    last_q <= tlast_i;
    bytes_o <= sum[16] ? '1 : sum[15:0];
    if (!rst_ni) begin
      taken_q <= 1'b0;
      valid_o <= 1'b0;
      sum_q <= '0;
    end else begin
      taken_q <= taken_i;
      valid_o <= taken_q && last_q;
      if (taken_q) sum_q <= last_q ? '0 : sum[16] ? '1 : sum[15:0];
    end
  end

endmodule
