// skid_buffer: words come out once each, as they were and in order, and both handshakes hold.

module skid_buffer_properties #(
  parameter int unsigned Width = 32
) (
  input logic             clk_i,
  input logic             rst_ni,
  input logic             valid_i,
  input logic [Width-1:0] data_i,
  input logic             ready_i,
  // The watched word is one that is taken while this is set.
  input logic             pick_i
);

  logic ready_o, valid_o;
  logic [Width-1:0] data_o;

  skid_buffer #(
    .Width(Width)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always_comb assume (started_q || !rst_ni);

  logic push, pop;
  assign push = valid_i && ready_o;
  assign pop = valid_o && ready_i;

  // Words inside, counted from outside, and how many of them are in front of the watched one.
  logic [1:0] inside_q, ahead_q;
  logic watching_q, due;
  logic [Width-1:0] word_q;
  assign due = watching_q && ahead_q == '0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      inside_q <= '0;
      watching_q <= 1'b0;
    end else begin
      inside_q <= inside_q + 2'(push) - 2'(pop);
      if (watching_q) begin
        if (pop) ahead_q <= ahead_q - 1'b1;
        if (pop && due) watching_q <= 1'b0;
      end else if (push && pick_i) begin
        watching_q <= 1'b1;
        word_q <= data_i;
        ahead_q <= inside_q - 2'(pop);
      end
    end
  end

  logic stalled_q, ready_q;
  logic [Width-1:0] offered_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && valid_o && !ready_i;
    offered_q <= data_o;
    ready_q <= rst_ni && ready_i;
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (stalled_q) offer_is_stable : assert (valid_o && data_o == offered_q);
      if (due) word_comes_out : assert (valid_o && data_o == word_q);
      never_too_many : assert (inside_q <= 2'd2);
      valid_until_empty : assert (valid_o == (inside_q != '0));
      // A cycle after the receiver is ready again, so is the buffer.
      if (ready_q || inside_q == '0) ready_follows : assert (ready_o);
      count_is_right : assert (inside_q == 2'(dut.valid_q) + 2'(dut.skid_valid_q));
      if (watching_q) begin
        word_is_inside : assert (ahead_q < inside_q && word_q == (ahead_q == '0 ? dut.data_q : dut.skid_q));
      end
      both : cover (inside_q == 2'd2 && due && pop);
      full_speed : cover (push && pop && inside_q == 2'd1 && due);
    end
  end

endmodule
