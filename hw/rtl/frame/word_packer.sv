// Joins pieces of 1 to 4 words of 32 bits without gaps, and gives beats of four: the headers of a packet, its text and
// its ICV, each of its own length, become one run of beats.
//
// Never makes its source wait. A piece each cycle gives at most a beat each cycle: what a packet leaves over at its end
// goes out in the next cycle, while the first piece of the packet behind waits inside; the cycle is caught up with at the
// first piece that is not whole. At most four words are held. A beat comes out in the cycle after that which completes it.

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

  beat_t held_q;
  logic [2:0] count_q;  // words held, 0 to 4
  logic end_q;          // what is held is the end of a packet

  // Words behind the piece's end must not leave with a last beat: they may be another packet's.
  beat_t piece;
  always_comb begin
    for (int i = 0; i < 4; i++) piece[32*i+:32] = 3'(i) < count_i ? data_i[32*i+:32] : '0;
  end

  logic [255:0] joined;
  logic [3:0] total;
  always_comb begin
    unique case (count_q)
      3'd0:    joined = {128'd0, piece};
      3'd1:    joined = {96'd0, piece, held_q[31:0]};
      3'd2:    joined = {64'd0, piece, held_q[63:0]};
      3'd3:    joined = {32'd0, piece, held_q[95:0]};
      default: joined = {piece, held_q};
    endcase
  end
  assign total = {1'b0, count_q} + {1'b0, count_i};

  logic emit, emit_last, end_d;
  logic [2:0] emit_count, count_d;
  beat_t emit_data, held_d;

  always_comb begin
    emit = 1'b0;
    emit_last = 1'b0;
    emit_count = 3'd4;
    emit_data = joined[127:0];
    held_d = held_q;
    count_d = count_q;
    end_d = end_q;
    if (end_q) begin
      emit = 1'b1;
      emit_last = 1'b1;
      emit_count = count_q;
      emit_data = held_q;
      held_d = piece;
      count_d = valid_i ? count_i : '0;
      end_d = valid_i && last_i;
    end else if (valid_i && total > 4'd4) begin
      emit = 1'b1;
      held_d = joined[255:128];
      count_d = 3'(total - 4'd4);
      end_d = last_i;
    end else if (valid_i && (last_i || total == 4'd4)) begin
      // Four words that are not the end leave now: nothing is behind them that they could wait for.
      emit = 1'b1;
      emit_last = last_i;
      emit_count = total[2:0];
      held_d = '0;
      count_d = '0;
    end else if (valid_i) begin
      held_d = joined[127:0];
      count_d = total[2:0];
    end
  end

  always_ff @(posedge clk_i) begin
    held_q <= held_d;
    data_o <= emit_data;
    last_o <= emit_last;
    count_o <= emit_count;
    if (!rst_ni) begin
      count_q <= '0;
      end_q <= 1'b0;
      valid_o <= 1'b0;
    end else begin
      count_q <= count_d;
      end_q <= end_d;
      valid_o <= emit;
    end
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
