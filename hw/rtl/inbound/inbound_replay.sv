// The replay windows for their two users: the early check of packets that come in, and what becomes of those whose ICV was
// verified. The latter goes first, but for a check that is as good as there: a check that waits holds up all packets behind it,
// and so the operations that these will ask for, which come in step with the checks. Right behind a check there is always time
// for an operation, since checks are eight cycles apart and take four.

module inbound_replay
  import replay_pkg::*;
#(
  // As replay_window has them.
  parameter int unsigned NSa = 1024,
  parameter int unsigned Window = 1024,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input  logic               clk_i,
  input  logic               rst_ni,

  // Checks of what comes in.
  input  logic               check_valid_i,
  output logic               check_ready_o,
  input  logic [SaWidth-1:0] check_sa_i,
  input  logic               check_esn_i,
  input  logic [31:0]        check_sequence_i,
  // There is one, or there may be in three cycles at the latest.
  input  logic               check_soon_i,
  output logic               check_done_o,

  // Any operation: a cycle or more after it is asked for, and it stays until then.
  input  logic               op_valid_i,
  output logic               op_ready_o,
  input  replay_op_e         op_i,
  input  logic [SaWidth-1:0] op_sa_i,
  input  logic [63:0]        op_sequence_i,
  output logic               op_done_o,

  // Of the one that is done.
  output logic               accepted_o,
  output logic [63:0]        sequence_o,
  output logic [63:0]        highest_o
);

  // Whose turn it is, known a cycle ahead.
  logic ready, done, op_q, op_turn_q;

  assign op_ready_o = ready && op_turn_q;
  assign check_ready_o = ready && !op_turn_q;

  always_ff @(posedge clk_i) begin
    op_turn_q <= rst_ni && op_valid_i && !op_ready_o && !check_soon_i;
    if (ready) op_q <= op_turn_q;
  end

  replay_window #(
    .NSa(NSa),
    .Window(Window)
  ) u_windows (
    .clk_i,
    .rst_ni,
    .valid_i   (op_turn_q || check_valid_i),
    .ready_o   (ready),
    .op_i      (op_turn_q ? op_i : ReplayCheck),
    .sa_i      (op_turn_q ? op_sa_i : check_sa_i),
    .esn_i     (check_esn_i),
    .sequence_i(op_turn_q ? op_sequence_i : {32'd0, check_sequence_i}),
    .done_o    (done),
    .accepted_o,
    .sequence_o,
    .highest_o
  );

  // What is done was asked for before the window was ready again: in that very cycle op_q is still of it.
  assign op_done_o = done && op_q;
  assign check_done_o = done && !op_q;

endmodule
