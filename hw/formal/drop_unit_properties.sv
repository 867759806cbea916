// drop_unit: what is dropped and what passes is counted once, and each drop has a record or is counted as lost. An
// arbitrary counter is watched: what it says and what is on its way to it are all that came for it, at every moment.

module drop_unit_properties
  import engine_pkg::*;
  import reason_pkg::*;
  import sa_pkg::counter_t;
  import esp_pkg::length_t;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned Depth = 2,
  // Which counter is watched: 64 to 71, a total; else any one of drops.
  parameter int unsigned Watched = 0,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input logic               clk_i,
  input logic               rst_ni,
  input logic               outbound_pipe_valid_i,
  input drop_t              outbound_pipe_drop_i,
  input logic [SaWidth-1:0] outbound_pipe_sa_i,
  input logic               inbound_pipe_valid_i,
  input drop_t              inbound_pipe_drop_i,
  input logic [SaWidth-1:0] inbound_pipe_sa_i,
  input logic               outbound_intake_valid_i,
  input reason_e            outbound_intake_reason_i,
  input logic [SaWidth-1:0] outbound_intake_sa_i,
  input logic               inbound_intake_valid_i,
  input reason_e            inbound_intake_reason_i,
  input logic               outbound_in_valid_i,
  input length_t            outbound_in_bytes_i,
  input logic               outbound_out_valid_i,
  input length_t            outbound_out_bytes_i,
  input logic               inbound_in_valid_i,
  input length_t            inbound_in_bytes_i,
  input logic               inbound_out_valid_i,
  input length_t            inbound_out_bytes_i,
  input logic               read_valid_i,
  input logic [6:0]         read_index_i,
  input logic               pop_i,
  // The counter that is watched.
  input logic [6:0]         watch_i
);

  // Cycles that drops of a pipe are apart on the average. Outbound two may be right behind each other.
  localparam int unsigned Apart = 8;

  logic ready_o, read_done_o, head_valid_o;
  counter_t read_count_o;
  drop_t head_o;
  logic [SaWidth-1:0] head_sa_o;
  logic [31:0] lost_o;

  drop_unit #(
    .NSa(NSa),
    .Depth(Depth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [6:0] watch_q, read_index_q;
  logic reading_q;
  logic [3:0] inbound_age_q;
  // Cycles until all that came outbound is as far away as it has to be on the average.
  logic [4:0] outbound_debt_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watch_q <= watch_i;
    read_index_q <= read_index_i;
    reading_q <= rst_ni && read_valid_i && !read_done_o;
    if (!rst_ni) outbound_debt_q <= '0;
    else outbound_debt_q <= outbound_debt_q - 5'(outbound_debt_q != '0) + (outbound_pipe_valid_i ? 5'(Apart) : '0);
    if (!rst_ni) inbound_age_q <= '1;
    else if (inbound_pipe_valid_i) inbound_age_q <= 4'd1;
    else if (inbound_age_q != '1) inbound_age_q <= inbound_age_q + 1'b1;
  end

  // All that came for the watched counter.
  counter_t total_q;

  // An intake drops packets one beat a cycle at the fastest, but nothing comes before the counters are ready.
  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || watch_i == watch_q);
    if (Watched < 64) assume (watch_i < 7'd64);
    else assume (watch_i == 7'(Watched));
    if (reading_q) assume (read_valid_i && read_index_i == read_index_q);
    if (outbound_pipe_valid_i) assume (32'(outbound_debt_q) <= Apart && outbound_pipe_drop_i.reason < 32);
    if (inbound_pipe_valid_i) assume (32'(inbound_age_q) >= Apart && inbound_pipe_drop_i.reason < 32);
    if (outbound_intake_valid_i) assume (
        outbound_intake_reason_i inside {ReasonTooBig, ReasonMalformedIp});
    if (inbound_intake_valid_i) assume (
        inbound_intake_reason_i inside {ReasonTooBig, ReasonMalformedIp});
    if (!rst_ni || !ready_o) begin
      assume (!outbound_pipe_valid_i && !inbound_pipe_valid_i && !outbound_intake_valid_i && !inbound_intake_valid_i);
      assume (!outbound_in_valid_i && !outbound_out_valid_i && !inbound_in_valid_i && !inbound_out_valid_i);
    end
  end

  // ---- the model: all that came for the watched counter

  function automatic logic [6:0] of_drop(input direction_e direction, input reason_e reason);
    return {1'b0, direction, reason[4:0]};
  endfunction

  counter_t came;
  logic [3:0] drops, drops_q;
  always_comb begin
    came = '0;
    if (outbound_pipe_valid_i && of_drop(Outbound, outbound_pipe_drop_i.reason) == watch_i) came += 64'd1;
    if (inbound_pipe_valid_i && of_drop(Inbound, inbound_pipe_drop_i.reason) == watch_i) came += 64'd1;
    if (outbound_intake_valid_i && of_drop(Outbound, outbound_intake_reason_i) == watch_i) came += 64'd1;
    if (inbound_intake_valid_i && of_drop(Inbound, inbound_intake_reason_i) == watch_i) came += 64'd1;
    if (outbound_in_valid_i && watch_i == 7'd64) came += 64'd1;
    if (outbound_in_valid_i && watch_i == 7'd65) came += 64'(outbound_in_bytes_i);
    if (outbound_out_valid_i && watch_i == 7'd66) came += 64'd1;
    if (outbound_out_valid_i && watch_i == 7'd67) came += 64'(outbound_out_bytes_i);
    if (inbound_in_valid_i && watch_i == 7'd68) came += 64'd1;
    if (inbound_in_valid_i && watch_i == 7'd69) came += 64'(inbound_in_bytes_i);
    if (inbound_out_valid_i && watch_i == 7'd70) came += 64'd1;
    if (inbound_out_valid_i && watch_i == 7'd71) came += 64'(inbound_out_bytes_i);
  end
  assign drops = 4'(outbound_pipe_valid_i) + 4'(inbound_pipe_valid_i) + 4'(outbound_intake_valid_i)
      + 4'(inbound_intake_valid_i);

  // Drops and records that left, modulo 16, as few come between two turns; what the watched counter was a cycle ago, and two.
  logic [3:0] taken_q;
  counter_t stored, was_q, was_2q;
  logic pop, read;
  assign pop = head_valid_o && pop_i;
  assign read = read_done_o && read_index_q == watch_i;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      total_q <= '0;
      drops_q <= '0;
      taken_q <= '0;
    end else begin
      total_q <= total_q + came;
      drops_q <= drops_q + drops;
      taken_q <= taken_q + 4'(pop);
    end
    was_q <= stored;
    was_2q <= was_q;
  end

  // ---- of the state inside: what is on its way to the watched counter

  // One waits in the inbound queue at most, two in the outbound one.
  logic outbound_waits, inbound_waits;
  assign outbound_waits = dut.unused_outbound_count != '0;
  assign inbound_waits = dut.unused_inbound_count != '0;

  typedef struct packed {
    drop_t              drop;
    logic [SaWidth-1:0] sa;
  } record_t;
  record_t [1:0] outbound_queue;
  for (genvar i = 0; i < 2; i++) begin : gen_outbound
    assign outbound_queue[i] = dut.u_outbound.mem[2'(dut.u_outbound.read_q + 2'(i))];
  end

  counter_t waiting, adding, written;
  logic [3:0] waiting_drops;
  always_comb begin
    waiting = '0;
    for (int i = 0; i < 2; i++) begin
      if (i < int'(dut.unused_outbound_count) && of_drop(Outbound, outbound_queue[i].drop.reason) == watch_i) waiting += 64'd1;
    end
    if (inbound_waits && of_drop(Inbound, dut.inbound.drop.reason) == watch_i) waiting += 64'd1;
    if (watch_i == of_drop(Outbound, ReasonTooBig)) waiting += 64'(dut.intake_q[0]);
    if (watch_i == of_drop(Outbound, ReasonMalformedIp)) waiting += 64'(dut.intake_q[1]);
    if (watch_i == of_drop(Inbound, ReasonTooBig)) waiting += 64'(dut.intake_q[2]);
    if (watch_i == of_drop(Inbound, ReasonMalformedIp)) waiting += 64'(dut.intake_q[3]);
    for (int i = 0; i < 4; i++) begin
      if (watch_i == 7'd64 + 7'(2 * i)) waiting += 64'(dut.packets_q[i]);
      if (watch_i == 7'd65 + 7'(2 * i)) waiting += 64'(dut.bytes_q[i]);
    end
    waiting_drops = 4'(dut.unused_outbound_count) + 4'(inbound_waits);
    for (int i = 0; i < 4; i++) waiting_drops += dut.intake_q[i][3:0];
  end

  assign stored = dut.u_counters.mem[watch_i];
  assign adding = dut.adds_q && dut.index_q == watch_i ? 64'(dut.amount_q) : '0;
  // Takes the place of what is stored.
  assign written = dut.adds_2q && dut.index_2q == watch_i ? dut.sum_q : stored;

  // The wheel, and the wheel of the totals, whose turn is the second of eight.
  logic [2:0] turn;
  logic [5:0] phase;
  assign turn = dut.turn_q;
  assign phase = {dut.total_q, 3'(turn - 3'd2)};

  // Cycles since a turn, with the one in which it was.
  function automatic logic [3:0] since(input logic [2:0] last);
    return {1'b0, 3'(turn - last - 3'd1)} + 4'd1;
  endfunction

  function automatic logic [6:0] since_total(input logic [5:0] last);
    return {1'b0, 6'(phase - last - 6'd1)} + 7'd1;
  endfunction

  logic few_are_waiting, little_is_waiting, none_waits;
  always_comb begin
    none_waits = !outbound_waits && !inbound_waits;
    for (int i = 0; i < 4; i++) if (dut.intake_q[i] != '0) none_waits = 1'b0;
    few_are_waiting = 1'b1;
    little_is_waiting = 1'b1;
    for (int i = 0; i < 4; i++) begin
      if (dut.intake_q[i] > 8'(since(3'(i + 3)))) few_are_waiting = 1'b0;
      if (dut.packets_q[i] > 8'(since_total({3'(2 * i), 3'd7}))) few_are_waiting = 1'b0;
      if (dut.bytes_q[i] > {1'b0, since_total({3'(2 * i + 1), 3'd7}), 16'd0}) little_is_waiting = 1'b0;
    end
  end

  // Whether a turn may add to a counter.
  function automatic logic can_be(input logic [2:0] at, input logic [6:0] index);
    unique case (at)
      3'd0: return index[6:5] == 2'b00;
      3'd1: return index[6:3] == 4'b1000;
      3'd2: return index[6:5] == 2'b01;
      3'd3: return index == of_drop(Outbound, ReasonTooBig);
      3'd4: return index == of_drop(Outbound, ReasonMalformedIp);
      3'd5: return index == of_drop(Inbound, ReasonTooBig);
      3'd6: return index == of_drop(Inbound, ReasonMalformedIp);
      default: return 1'b0;
    endcase
  endfunction

  function automatic logic [31:0] wrap(input logic [31:0] place);
    return place >= Depth ? place - Depth : place;
  endfunction

  always_comb begin
    if (started_q && rst_ni) begin
      if (ready_o) counted_once : assert (written + adding + waiting == total_q);
      if (read) read_is_right : assert (read_count_o == was_2q);
      record_or_lost : assert (drops_q == taken_q + 4'(dut.unused_count) + lost_o[3:0] + dut.drops_q[3:0]
          + waiting_drops);
      outbound_is_soon_counted : assert (5'(Apart) * 5'(dut.unused_outbound_count) <= outbound_debt_q + 5'(since(3'd0)));
      if (inbound_waits) inbound_is_soon_counted : assert (inbound_age_q <= since(3'd2));
      none_overflows : assert (few_are_waiting && little_is_waiting);
      // State.
      if (!ready_o) nothing_yet : assert (total_q == '0 && waiting == '0 && none_waits && !dut.adds_q && !dut.adds_2q
          && drops_q == '0
          && dut.drops_q == '0 && turn == '0 && dut.total_q == '0 && !read_done_o && !dut.reads_q);
      turns_agree : assert (dut.turns_q == 8'd1 << turn);
      if (!ready_o && watch_i < dut.clear_q) cleared_so_far : assert (stored == '0);
      turns_are_apart : assert ((!dut.adds_q || can_be(turn - 3'd1, dut.index_q))
          && (!dut.adds_2q || can_be(turn - 3'd2, dut.index_2q)));
      if (dut.adds_q && dut.index_q == watch_i) read_before : assert (dut.count == stored);
      if (dut.reads_q && read_index_q == watch_i) read_for_somebody : assert (dut.count == was_q && reading_q
          && turn == '0);
      few_wait : assert (dut.unused_outbound_count <= 3'd2 && outbound_debt_q < 5'(2 * Apart) && dut.unused_inbound_count <= 3'd1
          && 2'(dut.u_outbound.write_q - dut.u_outbound.read_q) == dut.unused_outbound_count[1:0]
          && 2'(dut.u_inbound.write_q - dut.u_inbound.read_q) == dut.unused_inbound_count[1:0]);
      queue_is_right : assert (32'(dut.unused_count) <= Depth && 32'(dut.u_records.read_q) < Depth
          && wrap(32'(dut.u_records.read_q) + 32'(dut.unused_count)) == 32'(dut.u_records.write_q));
    end
  end

endmodule
