// Joins pieces of 1 to 4 words of 32 bits without gaps, and gives beats of four: the headers of a packet, its text and
// its ICV, each of its own length, become one run of beats.
//
// A beat comes out in the cycle after that which completes it. At most 3 words wait inside. Where the last piece makes
// more than 4 with those, the rest takes one more cycle: ready_o is low then, in the cycle right behind the piece. A
// source that cannot wait leaves that cycle free behind every last piece. So packets lose one cycle each at most, and
// nothing else is ever lost: there is no handshake at the output (see "nothing between the two buffers ever stalls").

module word_packer
  import esp_pkg::*;
(
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       valid_i,
  output logic       ready_o,
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

  logic [95:0] rest_q;
  logic [1:0] held_q;
  logic flush_q;  // what is held is the end of a packet

  logic accept;
  beat_t piece;
  logic [223:0] joined;
  logic [2:0] total;  // 1 to 7
  logic full;

  assign ready_o = !flush_q;
  assign accept = valid_i && ready_o;

  // Words behind the piece's end must not leave with a last beat: they may be another packet's.
  always_comb begin
    for (int i = 0; i < 4; i++) piece[32*i+:32] = 3'(i) < count_i ? data_i[32*i+:32] : '0;
  end

  always_comb begin
    unique case (held_q)
      2'd0: joined = {96'd0, piece};
      2'd1: joined = {64'd0, piece, rest_q[31:0]};
      2'd2: joined = {32'd0, piece, rest_q[63:0]};
      default: joined = {piece, rest_q};
    endcase
  end

  assign total = {1'b0, held_q} + count_i;
  assign full = total[2];

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      held_q <= '0;
      flush_q <= 1'b0;
    end else begin
      flush_q <= accept && last_i && total > 3'd4;
      if (flush_q) held_q <= '0;
      else if (accept) held_q <= last_i && total <= 3'd4 ? '0 : total[1:0];
    end
  end

  always_ff @(posedge clk_i) begin
    if (accept) rest_q <= full ? joined[223:128] : joined[95:0];
  end

  logic valid_q, last_q;
  beat_t data_q;
  logic [2:0] count_q;

  always_ff @(posedge clk_i) begin
    valid_q <= rst_ni && (flush_q || (accept && (full || last_i)));
  end

  always_ff @(posedge clk_i) begin
    data_q <= flush_q ? {32'd0, rest_q} : joined[127:0];
    last_q <= flush_q || (last_i && total <= 3'd4);
    count_q <= flush_q ? {1'b0, held_q} : full ? 3'd4 : total;
  end

  assign valid_o = valid_q;
  assign data_o = data_q;
  assign last_o = last_q;
  assign count_o = count_q;

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      if (valid_i) assert (count_i >= 3'd1 && count_i <= 3'd4) else $error("a piece of %0d words", count_i);
      if (valid_q) assert (count_q >= 3'd1 && count_q <= 3'd4) else $error("a beat of %0d words", count_q);
      if (valid_q && !last_q) assert (count_q == 3'd4) else $error("a gap within a packet");
    end
  end
`endif

endmodule
