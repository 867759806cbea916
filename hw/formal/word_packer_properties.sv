// word_packer: the words that come in leave once each, as they were and in order; beats are whole but for a packet's
// last one, which has the packet's end; behind the end there are zeros.

module word_packer_properties
  import esp_pkg::*;
(
  input logic       clk_i,
  input logic       rst_ni,
  input logic       valid_i,
  input logic [2:0] count_i,
  input beat_t      data_i,
  input logic       last_i,
  // The watched word is this one of a piece that comes while pick_i is set.
  input logic       pick_i,
  input logic [1:0] pick_word_i
);

  logic valid_o, last_o;
  beat_t data_o;
  logic [2:0] count_o;

  word_packer dut (
    .*
  );

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always_comb begin
    assume (started_q || !rst_ni);
    if (valid_i) assume (count_i >= 3'd1 && count_i <= 3'd4);
  end

  // Words that came in and have not gone out: 12 at most, four held, a beat that leaves, and one that does next. How many
  // are in front of the watched one, and whether that is the end of its packet.
  logic [3:0] inside_q, inside_d, ahead_q;
  logic [2:0] leaves, leaves_next;
  logic watching_q, end_q, arrives;
  logic [31:0] word_q, lane;
  logic [1:0] at;

  assign leaves = valid_o ? count_o : '0;
  assign leaves_next = dut.emit_q ? dut.emit_count_q : '0;
  assign inside_d = inside_q + (valid_i ? 4'(count_i) : '0) - 4'(leaves);
  assign arrives = valid_i && pick_i && 3'(pick_word_i) < count_i;
  assign at = 2'(ahead_q);
  assign lane = data_o[32*at+:32];

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      inside_q <= '0;
      watching_q <= 1'b0;
    end else begin
      inside_q <= inside_d;
      if (watching_q) begin
        ahead_q <= ahead_q - 4'(leaves);
        if (4'(leaves) > ahead_q) watching_q <= 1'b0;
      end else if (arrives) begin
        watching_q <= 1'b1;
        word_q <= data_i[32*pick_word_i+:32];
        ahead_q <= inside_q - 4'(leaves) + 4'(pick_word_i);
        end_q <= last_i && 3'(pick_word_i) == count_i - 3'd1;
      end
    end
  end

  // A packet's end leaves in the second cycle after it came, or in the third: how many words up to an end that came so many
  // cycles ago are inside.
  logic [3:0] until_end1_q, until_end2_q, until_end3_q;
  always_ff @(posedge clk_i) begin
    until_end1_q <= rst_ni && valid_i && last_i ? inside_d : '0;
    until_end2_q <= rst_ni && until_end1_q > 4'(leaves) ? until_end1_q - 4'(leaves) : '0;
    until_end3_q <= rst_ni && until_end2_q > 4'(leaves) ? until_end2_q - 4'(leaves) : '0;
  end

  // Of the state inside: where the watched word is behind the beat that leaves, in the next one or held.
  logic [3:0] next_at, held_at;
  logic leaves_now;
  assign leaves_now = 4'(leaves) > ahead_q;
  assign next_at = ahead_q - 4'(leaves);
  assign held_at = next_at - 4'(leaves_next);

  always_comb begin
    if (started_q && rst_ni) begin
      if (watching_q && 4'(leaves) > ahead_q) begin
        word_comes_out : assert (lane == word_q);
        end_is_where_it_was : assert ((last_o && 3'(at) == count_o - 3'd1) == end_q);
      end
      if (valid_o && !last_o) beats_are_whole : assert (count_o == 3'd4);
      if (valid_o) counts_are_right : assert (count_o >= 3'd1 && count_o <= 3'd4 && 4'(count_o) <= inside_q);
      if (valid_o) zeros_behind_the_end : assert (data_o >> (9'd32 * 9'(count_o)) == '0);
      never_too_many : assert (inside_q <= 4'd12);
      end_leaves_soon : assert (until_end3_q <= 4'(leaves));
      held_is_the_rest : assert (inside_q == 4'(leaves) + 4'(leaves_next) + 4'(dut.count_q));
      next_is_right : assert (leaves_next <= 3'd4 && (!dut.emit_q || leaves_next >= 3'd1)
          && (!dut.emit_q || dut.emit_last_q || leaves_next == 3'd4));
      if (dut.emit_q) empty_behind_the_end : assert (dut.empty_q == 4'(4'hf << leaves_next));
      if (watching_q && !leaves_now && next_at < 4'(leaves_next)) begin
        word_is_next : assert (dut.emit_data[32*2'(next_at)+:32] == word_q
            && end_q == (dut.emit_last_q && next_at == 4'(leaves_next) - 4'd1));
      end
      if (watching_q && !leaves_now && next_at >= 4'(leaves_next)) begin
        word_is_held : assert (held_at < 4'(dut.count_q) && dut.held_d[32*2'(held_at)+:32] == word_q &&
            end_q == (dut.end_q && held_at == 4'(dut.count_q) - 4'd1));
      end
      end_of_something : assert (!(dut.end_q && dut.count_q == '0) && dut.count_q <= 3'd4);
      place_is_right : assert (dut.place_q == (dut.end_q ? 2'd0 : dut.count_q[1:0]));
      // What is still inside of the packet that ended leaves next, or is held as an end.
      if (until_end1_q > 4'(leaves) + 4'(leaves_next)) end_is_held : assert (dut.end_q
          && until_end1_q - 4'(leaves) - 4'(leaves_next) == 4'(dut.count_q));
      if (until_end2_q > 4'(leaves)) end_is_next : assert (until_end2_q == 4'(leaves) + 4'(leaves_next));
      rest_behind_a_beat : cover (valid_o && last_o && dut.end_q && watching_q && until_end1_q != '0);
      watched_end : cover (watching_q && end_q && ahead_q != '0 && 4'(leaves) > ahead_q && count_o == 3'd3);
    end
  end

endmodule
