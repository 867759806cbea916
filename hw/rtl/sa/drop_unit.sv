// Counts what is dropped and what passes, 64 bits each, and keeps records of some of the dropped packets.
//
// The counters are one memory that is added to by turns: a wheel of eight cycles, in which every source of drops has its
// cycle. What comes meanwhile is summed up in front: drops of the intakes, which may come in every cycle but are of two
// reasons only, and what passes. Those of the pipes wait in queues of four: they are eight cycles apart on the average, and two
// may be right behind each other.
//
//   cycle   0         1       2        3          4            5          6            7
//           outbound  totals  inbound  outbound   outbound     inbound    inbound      reads
//           pipe              pipe     too big    malformed    too big    malformed
//
// A counter is read in one cycle, added to in the next and written in the third; so two cycles of one direction, which
// may be for one counter, are three apart. Reads come between.
//
// Each cycle of the wheel can give one record. Of what was summed up there is one, of the last; the rest are lost, as is
// all that finds the queue full; lost_o counts them.

module drop_unit
  import engine_pkg::*;
  import reason_pkg::*;
  import sa_pkg::counter_t;
  import esp_pkg::length_t;
#(
  // How many SAs, at least two.
  parameter int unsigned NSa = 256,
  // Records that can wait, at least two.
  parameter int unsigned Depth = 32,
  localparam int unsigned SaWidth = $clog2(NSa)
) (
  input  logic               clk_i,
  input  logic               rst_ni,

  // The counters are zero: 128 cycles after reset. What comes before is counted, but of a pipe not more than four.
  output logic               ready_o,

  // Drops behind the intakes; the direction in them is not looked at.
  input  logic               outbound_pipe_valid_i,
  input  drop_t              outbound_pipe_drop_i,
  input  logic [SaWidth-1:0] outbound_pipe_sa_i,
  input  logic               inbound_pipe_valid_i,
  input  drop_t              inbound_pipe_drop_i,
  input  logic [SaWidth-1:0] inbound_pipe_sa_i,

  // Drops of the intakes: ReasonTooBig or ReasonMalformedIp.
  input  logic               outbound_intake_valid_i,
  input  reason_e            outbound_intake_reason_i,
  input  logic [SaWidth-1:0] outbound_intake_sa_i,
  input  logic               inbound_intake_valid_i,
  input  reason_e            inbound_intake_reason_i,

  // Packets that were taken and packets that left, with their length.
  input  logic               outbound_in_valid_i,
  input  length_t            outbound_in_bytes_i,
  input  logic               outbound_out_valid_i,
  input  length_t            outbound_out_bytes_i,
  input  logic               inbound_in_valid_i,
  input  length_t            inbound_in_bytes_i,
  input  logic               inbound_out_valid_i,
  input  length_t            inbound_out_bytes_i,

  // A counter, held until it is there with done: outbound drops by reason, inbound ones from 32 on, from 64 on packets
  // in, bytes in, packets out and bytes out, outbound and then inbound.
  input  logic               read_valid_i,
  input  logic [6:0]         read_index_i,
  output logic               read_done_o,
  output counter_t           read_count_o,

  // The queue of records.
  output logic               head_valid_o,
  output drop_t              head_o,
  output logic [SaWidth-1:0] head_sa_o,
  input  logic               pop_i,
  output logic [31:0]        lost_o
);

  if (NSa < 2) begin : gen_bad_nsa
    $error("NSa is at least 2");
  end

  typedef logic [6:0] index_t;
  // Drops of an intake, and packets: one a cycle for as long as the counters are not ready.
  typedef logic [7:0] few_t;
  typedef logic [23:0] sum_t;

  typedef struct packed {
    drop_t              drop;
    logic [SaWidth-1:0] sa;
  } record_t;

  // ---- what waits for its turn

  logic counting;
  logic [2:0] turn_q;
  // The same, a bit for each: what is chosen by turn_q for the address of the counters, is chosen by this.
  (* keep *)
  logic [7:0] turns_q;

  logic outbound_room, inbound_room, outbound_waits, inbound_waits, outbound_taken, inbound_taken;
  record_t outbound, inbound;
  logic [2:0] unused_outbound_count, unused_inbound_count;

  fifo #(
    .Width($bits(record_t)),
    .Depth(4)
  ) u_outbound (
    .clk_i,
    .rst_ni,
    .valid_i(outbound_pipe_valid_i),
    .ready_o(outbound_room),
    .data_i ({outbound_pipe_drop_i, outbound_pipe_sa_i}),
    .valid_o(outbound_waits),
    .ready_i(outbound_taken),
    .data_o (outbound),
    .count_o(unused_outbound_count)
  );

  fifo #(
    .Width($bits(record_t)),
    .Depth(4)
  ) u_inbound (
    .clk_i,
    .rst_ni,
    .valid_i(inbound_pipe_valid_i),
    .ready_o(inbound_room),
    .data_i ({inbound_pipe_drop_i, inbound_pipe_sa_i}),
    .valid_o(inbound_waits),
    .ready_i(inbound_taken),
    .data_o (inbound),
    .count_o(unused_inbound_count)
  );

  assign outbound_taken = counting && turn_q == 3'd0;
  assign inbound_taken = counting && turn_q == 3'd2;

  // Drops of the intakes, in the order of their turns.
  logic [3:0] intake_comes, intake_taken;
  few_t intake_q [4];
  // Outbound the SA is known: of the last one of each reason.
  logic [SaWidth-1:0] intake_sa_q [2];

  assign intake_comes = {
    inbound_intake_valid_i && inbound_intake_reason_i != ReasonTooBig,
    inbound_intake_valid_i && inbound_intake_reason_i == ReasonTooBig,
    outbound_intake_valid_i && outbound_intake_reason_i != ReasonTooBig,
    outbound_intake_valid_i && outbound_intake_reason_i == ReasonTooBig
  };

  for (genvar i = 0; i < 4; i++) begin : gen_intake
    assign intake_taken[i] = counting && turn_q == 3'(i + 3);
    always_ff @(posedge clk_i) begin
      if (!rst_ni) intake_q[i] <= '0;
      else intake_q[i] <= (intake_taken[i] ? '0 : intake_q[i]) + few_t'(intake_comes[i]);
    end
  end

  always_ff @(posedge clk_i) begin
    for (int i = 0; i < 2; i++) if (intake_comes[i]) intake_sa_q[i] <= outbound_intake_sa_i;
  end

  // What passes, in the order of the counters: outbound in and out, inbound in and out.
  logic [3:0] passes;
  length_t passing_bytes [4];
  logic [3:0] packets_taken, bytes_taken;
  few_t packets_q [4];
  sum_t bytes_q [4];
  logic [2:0] total_q;

  assign passes = {inbound_out_valid_i, inbound_in_valid_i, outbound_out_valid_i, outbound_in_valid_i};
  assign passing_bytes[0] = outbound_in_bytes_i;
  assign passing_bytes[1] = outbound_out_bytes_i;
  assign passing_bytes[2] = inbound_in_bytes_i;
  assign passing_bytes[3] = inbound_out_bytes_i;

  for (genvar i = 0; i < 4; i++) begin : gen_total
    assign packets_taken[i] = counting && turn_q == 3'd1 && total_q == 3'(2 * i);
    assign bytes_taken[i] = counting && turn_q == 3'd1 && total_q == 3'(2 * i + 1);
    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        packets_q[i] <= '0;
        bytes_q[i] <= '0;
      end else begin
        packets_q[i] <= (packets_taken[i] ? '0 : packets_q[i]) + few_t'(passes[i]);
        bytes_q[i] <= (bytes_taken[i] ? '0 : bytes_q[i]) + (passes[i] ? sum_t'(passing_bytes[i]) : '0);
      end
    end
  end

  // ---- the wheel, first step: which counter, how much, which record

  index_t index, index_q, index_2q;
  sum_t amount, amount_q;
  record_t record, record_q;
  // Drops of this turn: one gets a record.
  few_t drops, drops_q;
  logic adds, adds_q, adds_2q, reads, reads_q;

  function automatic index_t of_drop(input direction_e direction, input logic [4:0] reason);
    return {1'b0, direction, reason};
  endfunction

  function automatic record_t of_intake(input direction_e direction, input reason_e reason, input logic [SaWidth-1:0] sa);
    of_intake = '0;
    of_intake.drop.direction = direction;
    of_intake.drop.has_sa = direction == Outbound;
    of_intake.sa = sa;
    of_intake.drop.reason = reason;
  endfunction

  function automatic record_t of_pipe(input direction_e direction, input record_t given);
    of_pipe = given;
    of_pipe.drop.direction = direction;
    if (!given.drop.has_sa) of_pipe.sa = '0;
  endfunction

  always_comb begin
    index = '0;
    drops = '0;
    record = of_pipe(Outbound, outbound);
    unique case (turn_q)
      3'd0: drops = few_t'(outbound_waits);
      3'd1: ;
      3'd2: begin
        drops = few_t'(inbound_waits);
        record = of_pipe(Inbound, inbound);
      end
      3'd3: begin
        drops = intake_q[0];
        record = of_intake(Outbound, ReasonTooBig, intake_sa_q[0]);
      end
      3'd4: begin
        drops = intake_q[1];
        record = of_intake(Outbound, ReasonMalformedIp, intake_sa_q[1]);
      end
      3'd5: begin
        drops = intake_q[2];
        record = of_intake(Inbound, ReasonTooBig, '0);
      end
      3'd6: begin
        drops = intake_q[3];
        record = of_intake(Inbound, ReasonMalformedIp, '0);
      end
      default: ;
    endcase

    amount = sum_t'(drops);
    if (turn_q == 3'd1) amount = total_q[0] ? bytes_q[total_q[2:1]] : sum_t'(packets_q[total_q[2:1]]);

    if (turns_q[0]) index |= of_drop(Outbound, 5'(outbound.drop.reason));
    if (turns_q[1]) index |= {4'b1000, total_q};
    if (turns_q[2]) index |= of_drop(Inbound, 5'(inbound.drop.reason));
    if (turns_q[3]) index |= of_drop(Outbound, 5'(ReasonTooBig));
    if (turns_q[4]) index |= of_drop(Outbound, 5'(ReasonMalformedIp));
    if (turns_q[5]) index |= of_drop(Inbound, 5'(ReasonTooBig));
    if (turns_q[6]) index |= of_drop(Inbound, 5'(ReasonMalformedIp));
    if (turns_q[7]) index |= read_index_i;
  end

  assign adds = counting && turn_q != 3'd7;
  assign reads = counting && turn_q == 3'd7 && read_valid_i && !reads_q && !read_done_o;

  // ---- second and third step: the sum, and its way back

  counter_t count, sum_q;
  index_t clear_q;
  logic clear;

  assign counting = !clear;
  assign clear = !ready_o;

  ram_1r1w #(
    .Width($bits(counter_t)),
    .Depth(128)
  ) u_counters (
    .clk_i,
    .write_i     (clear || adds_2q),
    .write_addr_i(clear ? clear_q : index_2q),
    .write_data_i(clear ? '0 : sum_q),
    .read_i      (counting),
    .read_addr_i (index),
    .read_data_o (count)
  );

  always_ff @(posedge clk_i) begin
    index_q <= index;
    index_2q <= index_q;
    amount_q <= amount;
    record_q <= record;
    sum_q <= count + counter_t'(amount_q);
    read_count_o <= count;
    if (!rst_ni) begin
      ready_o <= 1'b0;
      clear_q <= '0;
      turn_q <= '0;
      turns_q <= 8'd1;
      total_q <= '0;
      adds_q <= 1'b0;
      adds_2q <= 1'b0;
      reads_q <= 1'b0;
      read_done_o <= 1'b0;
      drops_q <= '0;
    end else begin
      clear_q <= clear_q + 1'b1;
      if (clear_q == '1) ready_o <= 1'b1;
      if (counting) begin
        turn_q <= turn_q + 1'b1;
        turns_q <= {turns_q[6:0], turns_q[7]};
        if (turn_q == 3'd1) total_q <= total_q + 1'b1;
      end
      adds_q <= adds;
      adds_2q <= adds_q;
      reads_q <= reads;
      read_done_o <= reads_q;
      drops_q <= counting ? drops : '0;
    end
  end

  // ---- records

  logic record_room, kept;
  record_t head;
  logic [31:0] lost_q;
  logic [$clog2(Depth + 1)-1:0] unused_count;

  assign kept = drops_q != '0 && record_room;

  fifo #(
    .Width($bits(record_t)),
    .Depth(Depth)
  ) u_records (
    .clk_i,
    .rst_ni,
    .valid_i(drops_q != '0),
    .ready_o(record_room),
    .data_i (record_q),
    .valid_o(head_valid_o),
    .ready_i(pop_i),
    .data_o (head),
    .count_o(unused_count)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) lost_q <= '0;
    else lost_q <= lost_q + 32'(drops_q - few_t'(kept));
  end

  assign head_o = head.drop;
  assign head_sa_o = head.sa;
  assign lost_o = lost_q;

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    if (rst_ni && reset_seen_q) begin
      if (outbound_pipe_valid_i) begin
        assert (outbound_room) else $error("no place for an outbound drop");
        assert (outbound_pipe_drop_i.reason < 32) else $error("no counter for an outbound drop");
      end
      if (inbound_pipe_valid_i) begin
        assert (inbound_room) else $error("no place for an inbound drop");
        assert (inbound_pipe_drop_i.reason < 32) else $error("no counter for an inbound drop");
      end
      if (outbound_intake_valid_i)
        assert (outbound_intake_reason_i == ReasonTooBig || outbound_intake_reason_i == ReasonMalformedIp)
        else $error("an intake has two reasons");
      if (inbound_intake_valid_i)
        assert (inbound_intake_reason_i == ReasonTooBig || inbound_intake_reason_i == ReasonMalformedIp)
        else $error("an intake has two reasons");
    end
  end
`else
  logic unused_room;
  assign unused_room = outbound_room ^ inbound_room;
`endif

endmodule
