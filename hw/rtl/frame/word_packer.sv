// Joins pieces of 1 to 4 words of 32 bits without gaps, and gives beats of four: the headers of a packet, its text and
// its ICV, each of its own length, become one run of beats.
//
// Never makes its source wait. A piece each cycle gives at most a beat each cycle: what a packet leaves over at its end
// goes out in the next cycle, while the first piece of the packet behind waits inside; the cycle is caught up with at the
// first piece that is not whole. At most four words are held. A beat comes out two cycles after the piece that completes it:
// in the first a piece is turned to the lanes that its words are to leave in, in the second it meets what is held.

module word_packer
  import esp_pkg::*;
(
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       valid_i,
  // Words of data_i, from the lowest: 1 to 4.
  input  logic [2:0] count_i,
  input  beat_t      data_i,
  input  logic       last_i,
  output logic       valid_o,
  output beat_t      data_o,
  // The packet's last beat, and how many words it has; all others have 4. The words behind are zero.
  output logic       last_o,
  output logic [2:0] count_o
);

  // ---- turn, and decide what leaves

  logic [1:0] place_q;  // the lane of the next piece's first word
  beat_t turned, turned_q;

  // By one lane, and by two: a word is in the first half of a LUT's inputs then, and there is one for each step.
  always_comb begin
    turned = place_q[0] ? {data_i[95:0], data_i[127:96]} : data_i;
    if (place_q[1]) turned = {turned[63:0], turned[127:64]};
  end

  logic [2:0] count_q;  // words held behind what leaves, 0 to 4
  logic end_q;          // they are the end of a packet
  logic [3:0] total;
  assign total = {1'b0, count_q} + {1'b0, count_i};

  logic emit, emit_last, end_d;
  logic [2:0] emit_count, count_d;

  always_comb begin
    emit = 1'b0;
    emit_last = 1'b0;
    emit_count = 3'd4;
    count_d = count_q;
    end_d = end_q;
    if (end_q) begin
      emit = 1'b1;
      emit_last = 1'b1;
      emit_count = count_q;
      count_d = valid_i ? count_i : '0;
      end_d = valid_i && last_i;
    end else if (valid_i && total > 4'd4) begin
      emit = 1'b1;
      count_d = 3'(total - 4'd4);
      end_d = last_i;
    end else if (valid_i && (last_i || total == 4'd4)) begin
      // Four words that are not the end leave now: nothing is behind them that they could wait for.
      emit = 1'b1;
      emit_last = last_i;
      emit_count = total[2:0];
      count_d = '0;
    end else if (valid_i) begin
      count_d = total[2:0];
    end
  end

  // Of each lane: whether the beat has there what is held, or nothing, as it is behind the end; and whether a word of the
  // piece is held from then on. What is held behind the last word is anything.
  logic [3:0] from_held, empty, hold, from_held_q, empty_q, hold_q;
  logic emit_q, emit_last_q;
  logic [2:0] emit_count_q;

  always_comb begin
    for (int i = 0; i < 4; i++) begin
      from_held[i] = end_q || 3'(i) < count_q;
      empty[i] = 3'(i) >= emit_count;
      hold[i] = valid_i && (emit || 3'(i) >= count_q);
    end
  end

  always_ff @(posedge clk_i) begin
    turned_q <= turned;
    from_held_q <= from_held;
    empty_q <= empty;
    emit_last_q <= emit_last;
    emit_count_q <= emit_count;
    if (!rst_ni) begin
      place_q <= '0;
      count_q <= '0;
      end_q <= 1'b0;
      emit_q <= 1'b0;
      hold_q <= '0;
    end else begin
      if (valid_i) place_q <= last_i ? '0 : place_q + count_i[1:0];
      count_q <= count_d;
      end_q <= end_d;
      emit_q <= emit;
      hold_q <= hold;
    end
  end

  // ---- join

  beat_t held_q, held_d, emit_data;

  always_comb begin
    for (int i = 0; i < 4; i++) begin
      held_d[32*i+:32] = hold_q[i] ? turned_q[32*i+:32] : held_q[32*i+:32];
      emit_data[32*i+:32] = empty_q[i] ? '0 : from_held_q[i] ? held_q[32*i+:32] : turned_q[32*i+:32];
    end
  end

  always_ff @(posedge clk_i) begin
    held_q <= held_d;
    data_o <= emit_data;
    last_o <= emit_last_q;
    count_o <= emit_count_q;
    valid_o <= rst_ni && emit_q;
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && $time != 0) begin
      if (valid_i) assert (count_i >= 3'd1 && count_i <= 3'd4) else $error("a piece of %0d words", count_i);
      if (valid_o && !last_o) assert (count_o == 3'd4) else $error("a gap within a packet");
    end
  end
`endif

endmodule
