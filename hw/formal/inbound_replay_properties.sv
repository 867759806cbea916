// inbound_replay: what its two users ask the replay windows, each once and as it was asked, one at a time; each answer goes to
// who asked; and neither waits for ever. What is answered is for replay_window's proof.

module inbound_replay_properties
  import replay_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned Window = 64,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input logic               clk_i,
  input logic               rst_ni,
  input logic               check_valid_i,
  input logic [SaWidth-1:0] check_sa_i,
  input logic               check_esn_i,
  input logic [31:0]        check_sequence_i,
  input logic               check_soon_i,
  input logic               op_valid_i,
  input replay_op_e         op_i,
  input logic [SaWidth-1:0] op_sa_i,
  input logic [63:0]        op_sequence_i
);

  // As replay_window has them, and how long it may take.
  localparam int unsigned WordWidth = Window < 128 ? Window : 128;
  localparam int unsigned Words = Window / WordWidth;
  localparam int unsigned Longest = Words + 8;
  // A check that is announced comes within so many cycles, or is not announced any more.
  localparam int unsigned Announced = 8;

  logic check_ready_o, check_done_o, op_ready_o, op_done_o, accepted_o;
  logic [63:0] sequence_o, highest_o;

  inbound_replay #(
    .NSa(NSa),
    .Window(Window)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;

  // ---- what is taken, and what it is

  typedef struct packed {
    logic               is_op;
    replay_op_e         op;
    logic [SaWidth-1:0] sa;
    logic               esn;
    logic [63:0]        sequence_number;
  } request_t;

  logic check_taken, op_taken, taken;
  request_t request, request_q;
  assign check_taken = check_valid_i && check_ready_o;
  assign op_taken = op_valid_i && op_ready_o;
  assign taken = check_taken || op_taken;
  always_comb begin
    request = '{is_op: 1'b0, op: ReplayCheck, sa: check_sa_i, esn: check_esn_i, sequence_number: {32'd0, check_sequence_i}};
    if (op_taken) request = '{is_op: 1'b1, op: op_i, sa: op_sa_i, esn: 1'b0, sequence_number: op_sequence_i};
  end

  // The one that has no answer yet, and for how many cycles; how many were taken and answered.
  logic open_q, done;
  logic [7:0] age_q;
  logic [31:0] age;
  assign done = check_done_o || op_done_o;
  assign age = 32'(age_q);

  always_ff @(posedge clk_i) begin
    open_q <= rst_ni && (taken || (open_q && !done));
    if (taken) request_q <= request;
    age_q <= taken ? '0 : age_q + 8'(age_q != '1);
  end

  // ---- the users, as inbound_fetch and inbound_verdict are

  logic check_waits_q, op_waits_q;
  logic [SaWidth+32:0] check_q;
  logic [SaWidth+65:0] op_q;
  // How long each waits already; how long checks are announced in cycles in which one would be taken.
  logic [7:0] check_age_q, op_age_q, soon_q;
  logic [31:0] check_age, op_age, soon;
  assign check_age = 32'(check_age_q);
  assign op_age = 32'(op_age_q);
  assign soon = 32'(soon_q);

  always_ff @(posedge clk_i) begin
    check_waits_q <= rst_ni && check_valid_i && !check_ready_o;
    check_q <= {check_sa_i, check_esn_i, check_sequence_i};
    op_waits_q <= rst_ni && op_valid_i && !op_ready_o;
    op_q <= {2'(op_i), op_sa_i, op_sequence_i};
    check_age_q <= !rst_ni || !check_valid_i || check_taken ? '0 : check_age_q + 8'(check_age_q != '1);
    op_age_q <= !rst_ni || !op_valid_i || op_taken ? '0 : op_age_q + 8'(op_age_q != '1);
    soon_q <= !rst_ni || !check_soon_i || check_taken ? '0 : soon_q + 8'(check_ready_o);
  end

  always_comb begin
    assume (started_q || !rst_ni);
    assume (32'(check_sa_i) < NSa && 32'(op_sa_i) < NSa && 2'(op_i) != 2'd3);
    // Who asks stays until the question is taken.
    if (check_waits_q) assume (check_valid_i && check_q == {check_sa_i, check_esn_i, check_sequence_i});
    if (op_waits_q) assume (op_valid_i && op_q == {2'(op_i), op_sa_i, op_sequence_i});
    // A check is announced, and not while one has no answer.
    if (check_valid_i) assume (check_soon_i);
    if (open_q && !request_q.is_op && !done) assume (!check_soon_i);
    assume (soon < Announced);
  end

  // ---- of the state inside

  // As in replay_window: it is idle, or at a step that has its time.
  typedef enum logic [3:0] {
    Idle,
    Infer,
    Compare,
    Judge,
    Act,
    MoveRead,
    MoveHold,
    MoveRest,
    MoveBetween,
    MoveLastRead,
    MoveLastHold,
    MoveLast,
    Clear
  } state_e;
  state_e state;
  logic at_rest, far, in_time_now;
  logic [31:0] left_q;
  replay_op_e op;
  assign state = state_e'(4'(dut.u_windows.state_q));
  assign at_rest = state == Idle;
  assign far = dut.u_windows.far_q;
  assign left_q = 32'(dut.u_windows.left_q);
  assign op = request_q.op;

  always_comb begin
    in_time_now = op == ReplayUpdate;
    unique case (state)
      Idle: in_time_now = 1'b1;
      Infer: in_time_now = op == ReplayCheck && age == 0;
      Compare: in_time_now = op == ReplayCheck ? age == 1 : op == ReplayUpdate && age == 0;
      Judge: in_time_now = op == ReplayCheck ? age == 2 : op == ReplayUpdate && age == 1;
      Act: in_time_now &= age == 2;
      MoveRead: in_time_now &= age == 3 && !far && left_q < Words;
      MoveHold: in_time_now &= age == 4 && !far && left_q < Words;
      MoveRest: in_time_now &= age == 5 && !far && left_q < Words;
      MoveBetween: in_time_now &= left_q != 0 && left_q < Words && age + left_q <= Words + (far ? 2 : 5);
      MoveLastRead: in_time_now &= left_q == 0 && age <= Words + 5 && !far;
      MoveLastHold: in_time_now &= left_q == 0 && age <= Words + 6 && !far;
      MoveLast: in_time_now &= left_q == 0 && age <= Words + 7;
      default: in_time_now = state == Clear && op == ReplayClear && age + left_q == Words - 1;
    endcase
  end

  // An operation that waits: behind another, for an announced check, for that check.
  logic op_in_time, soon_before_q, own_op;
  assign own_op = open_q && request_q.is_op && !at_rest;
  always_comb begin
    if (!op_valid_i) op_in_time = op_age == 0;
    else if (own_op) op_in_time = op_age <= age + 1;
    else if (open_q && !at_rest) op_in_time = op_age <= Longest + Announced + age + 2;
    else if (dut.op_turn_q) op_in_time = op_age <= Longest + Announced + 5;
    else op_in_time = op_age <= Longest + soon + 2;
  end

  always_ff @(posedge clk_i) soon_before_q <= check_soon_i;

  always_comb begin
    if (started_q && rst_ni) begin
      one_at_a_time : assert (!(check_taken && op_taken));
      taken_is_passed_on : assert ((dut.u_windows.valid_i && dut.u_windows.ready_o) == taken);
      if (taken) passed_on_as_asked : assert (dut.u_windows.op_i == request.op && dut.u_windows.sa_i == request.sa
          && (op_taken || dut.u_windows.esn_i == request.esn) && dut.u_windows.sequence_i == request.sequence_number);
      if (taken) one_behind_another : assert (!open_q || done);
      if (op_done_o) operation_is_answered : assert (open_q && request_q.is_op && !check_done_o);
      if (check_done_o) check_is_answered : assert (open_q && !request_q.is_op && !op_done_o);
      if (open_q) answers_come : assert (age <= Longest);
      if (done) answer_is_the_windows : assert (dut.u_windows.done_o && accepted_o == dut.u_windows.accepted_o
          && sequence_o == dut.u_windows.sequence_o && highest_o == dut.u_windows.highest_o);
      if (check_valid_i) check_does_not_wait : assert (check_age <= Longest + 1);
      if (check_waits_q && check_age >= 2) no_operation_before_a_check : assert (!op_taken);
      if (op_valid_i) operation_does_not_wait : assert (op_age <= Longest + Announced + 5);
      if (op_waits_q && !soon_before_q && dut.u_windows.ready_o) operation_is_next : assert (op_taken);
      // State.
      under_way : assert (at_rest ? !open_q || done : open_q && !done);
      if (!at_rest) in_time : assert (in_time_now && dut.u_windows.op_q == op);
      if (open_q) owner_is_kept : assert (dut.op_q == request_q.is_op && (request_q.is_op || op == ReplayCheck));
      turn_of_one_that_waits : assert (dut.op_turn_q == (op_waits_q && !soon_before_q));
      check_in_time : assert (!check_valid_i ? check_age == 0 : open_q && !at_rest ? check_age <= age + 1
          : check_age <= Longest + 1);
      operation_in_time : assert (op_in_time);
      both_wait : cover (check_taken && op_age == Longest && check_age == 3);
      check_then_operation : cover (op_taken && check_done_o && op_age == 4);
      operation_then_check : cover (check_taken && op_done_o && check_age == 5);
    end
  end

endmodule
