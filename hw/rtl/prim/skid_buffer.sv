// A register between two handshakes that cuts every path from one side to the other, at full throughput.
//
// The output is a register. One more takes the word that is under way when the receiver stops: the sender learns of it
// a cycle later, since ready_o is a register too.

module skid_buffer #(
  // Bits of a word.
  parameter int unsigned Width = 32
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o
);

  if (Width < 1) begin : gen_no_width
    $error("Width must be at least 1");
  end

  logic valid_q, skid_valid_q;
  logic [Width-1:0] data_q, skid_q;
  // The opposite of skid_valid_q, which every bit of data_q hangs on: the sender is not to wait for that.
  logic ready_q;

  assign ready_o = ready_q;
  assign valid_o = valid_q;
  assign data_o = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      valid_q <= 1'b0;
      skid_valid_q <= 1'b0;
      ready_q <= 1'b1;
    end else if (ready_i || !valid_q) begin
      valid_q <= valid_i || skid_valid_q;
      skid_valid_q <= 1'b0;
      ready_q <= 1'b1;
    end else if (valid_i) begin
      skid_valid_q <= 1'b1;
      ready_q <= 1'b0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (ready_i || !valid_q) data_q <= skid_valid_q ? skid_q : data_i;
    if (!skid_valid_q) skid_q <= data_i;
  end

`ifndef SYNTHESIS
  logic stalled_q;
  logic [Width-1:0] offered_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && valid_o && !ready_i;
    offered_q <= data_o;
    if (rst_ni && $time != 0) begin
      assert (ready_q == !skid_valid_q) else $error("ready_q is not the opposite of skid_valid_q");
      if (stalled_q) assert (valid_o && data_o == offered_q) else $error("an offered word changed");
    end
  end
`endif

endmodule
