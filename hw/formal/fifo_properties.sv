// fifo: words come out once each, as they were and in order; the count and both handshakes are right.

module fifo_properties #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 4,
  localparam int unsigned CountWidth = $clog2(Depth + 1)
) (
  input logic             clk_i,
  input logic             rst_ni,
  input logic             valid_i,
  input logic [Width-1:0] data_i,
  input logic             ready_i,
  // Which word is watched: one that is pushed while this is set.
  input logic             pick_i
);

  logic ready_o, valid_o;
  logic [Width-1:0] data_o;
  logic [CountWidth-1:0] count_o;

  fifo #(
    .Width(Width),
    .Depth(Depth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always_comb assume (started_q || !rst_ni);

  logic push, pop;
  assign push = valid_i && ready_o;
  assign pop = valid_o && ready_i;

  // How many words are inside, counted from outside; and where the watched word is: so many are in front of it.
  logic [CountWidth-1:0] inside_q, ahead_q;
  logic watching_q, due;
  logic [Width-1:0] word_q;
  assign due = watching_q && ahead_q == '0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      inside_q <= '0;
      watching_q <= 1'b0;
    end else begin
      inside_q <= inside_q + CountWidth'(push) - CountWidth'(pop);
      if (watching_q) begin
        if (pop) ahead_q <= ahead_q - 1'b1;
        if (pop && due) watching_q <= 1'b0;
      end else if (push && pick_i) begin
        watching_q <= 1'b1;
        word_q <= data_i;
        ahead_q <= inside_q - CountWidth'(pop);
      end
    end
  end

  logic stalled_q;
  logic [Width-1:0] offered_q;
  always_ff @(posedge clk_i) begin
    stalled_q <= rst_ni && valid_o && !ready_i;
    offered_q <= data_o;
  end

  // Where the watched word has to be in the storage.
  logic [CountWidth:0] place;
  assign place = (CountWidth + 1)'(dut.read_q) + (CountWidth + 1)'(ahead_q);
  logic [CountWidth:0] wrapped, write_at;
  assign wrapped = place >= (CountWidth + 1)'(Depth) ? place - (CountWidth + 1)'(Depth) : place;
  assign write_at = (CountWidth + 1)'(dut.read_q) + (CountWidth + 1)'(dut.count_q);

  always_comb begin
    if (started_q && rst_ni) begin
      count_is_right : assert (count_o == inside_q);
      never_too_many : assert (32'(inside_q) <= Depth);
      ready_until_full : assert (ready_o == (32'(inside_q) < Depth));
      valid_until_empty : assert (valid_o == (inside_q != '0));
      if (due) word_comes_out : assert (valid_o && data_o == word_q);
      if (stalled_q) offer_is_stable : assert (valid_o && data_o == offered_q);
      // Of the state inside, for induction.
      if (watching_q) word_is_inside : assert (ahead_q < inside_q && dut.mem[wrapped] == word_q);
      pointers_in_range : assert (32'(dut.read_q) < Depth && 32'(dut.write_q) < Depth);
      pointers_apart :
      assert (32'(dut.write_q) == (32'(write_at) >= Depth ? 32'(write_at) - Depth : 32'(write_at)));
      full : cover (32'(count_o) == Depth);
      watched_behind_others : cover (due && pop && stalled_q && inside_q == CountWidth'(Depth));
    end
  end

endmodule
