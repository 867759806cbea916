// Carries out what software asks for, one command at a time: installs, removes and reads SAs, and writes selectors.
//
// An SA is changed by a command that travels down its direction among the packets, and each stage writes its own table
// when it comes by; done comes back when it left the last one. Round keys and powers of H are made by key_unit before.
//
//   install   keys are made; the command; the staging memories of key_unit are zeroised; inbound the SPI is inserted, and
//             if that fails the SA is removed again. The index of an inbound SA must be free: the lookup is what gives
//             packets their SA, so a new SA has another index and the old one stays until it is removed. Outbound the new
//             SA takes the place of the old one between two packets
//   remove    inbound the SPI goes first; the staging memories are zeroised; the command, of zeros; event_unit forgets
//
// Which SPI and destination an inbound SA has is kept here, so that it can be removed without them.
//
// After reset every SA of both directions is removed in that way, both at the same time; ready_o tells that it is over.
//
// What is staged must not change while busy_o is high, but for the key: that is taken in the cycle in which key_clear_o
// asks for it to be cleared.

module sa_control
  import control_pkg::*;
  import engine_pkg::*;
  import sa_pkg::*;
  import spi_pkg::*;
#(
  // How many SAs of each direction, at least two.
  parameter int unsigned NSa = 256,
  // Traffic selectors in the pool, and how many an SA may have.
  parameter int unsigned NSelectors = 512,
  parameter int unsigned MaxPerSa = 8,
  localparam int unsigned SaWidth = $clog2(NSa),
  localparam int unsigned SelectorWidth = NSelectors > 1 ? $clog2(NSelectors) : 1
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,

  // What must be there before commands and packets are taken: event_unit's and drop_unit's memories are empty.
  input  logic                     others_ready_i,
  // The sweep after reset is over.
  output logic                     ready_o,
  // A command or the sweep is under way.
  output logic                     busy_o,

  // A command, for one cycle while busy_o is low; and its answer, for one cycle.
  input  logic                     go_i,
  input  command_e                 command_i,
  input  direction_e               direction_i,
  input  logic [15:0]              index_i,
  output logic                     done_o,
  output answer_e                  answer_o,

  // What is staged.
  input  outbound_sa_t             outbound_sa_i,
  input  inbound_sa_t              inbound_sa_i,
  input  spi_key_t                 spi_key_i,
  input  logic [255:0]             key_i,
  output logic                     key_clear_o,

  // What CommandRead found, or what a command that changes an SA found of the one before; for one cycle.
  output logic                     usage_valid_o,
  output sa_usage_t                usage_o,

  // key_unit.
  output logic                     key_start_o,
  output logic                     key_zero_o,
  output logic [255:0]             key_o,
  output logic                     key256_o,
  input  logic                     key_busy_i,
  input  logic                     key_done_i,

  // The two directions. SA and data hold from valid to done, which comes when all stages have it.
  output logic                     outbound_command_valid_o,
  input  logic                     outbound_command_ready_i,
  output logic [SaWidth-1:0]       outbound_command_sa_o,
  output outbound_sa_t             outbound_command_data_o,
  input  logic                     outbound_command_done_i,

  output logic                     inbound_command_valid_o,
  input  logic                     inbound_command_ready_i,
  output logic [SaWidth-1:0]       inbound_command_sa_o,
  output inbound_sa_t              inbound_command_data_o,
  input  logic                     inbound_command_done_i,

  // Counters: usage is there with done.
  output logic                     outbound_read_valid_o,
  input  logic                     outbound_read_ready_i,
  output logic [SaWidth-1:0]       outbound_read_sa_o,
  input  logic                     outbound_read_done_i,
  input  sa_usage_t                outbound_read_usage_i,

  output logic                     inbound_read_valid_o,
  input  logic                     inbound_read_ready_i,
  output logic [SaWidth-1:0]       inbound_read_sa_o,
  input  logic                     inbound_read_done_i,
  input  sa_usage_t                inbound_read_usage_i,

  // spi_lookup.
  output logic                     spi_op_valid_o,
  input  logic                     spi_op_ready_i,
  output spi_op_e                  spi_op_o,
  output spi_key_t                 spi_op_key_o,
  output logic [SaWidth-1:0]       spi_op_sa_o,
  input  logic                     spi_answer_valid_i,
  input  spi_answer_e              spi_answer_i,

  // The pool of selectors: the staged one goes there, for one cycle.
  output logic                     selector_write_o,
  output logic [SelectorWidth-1:0] selector_index_o,

  // event_unit.
  output logic                     event_valid_o,
  input  logic                     event_ready_i,
  output logic                     forget_valid_o,
  input  logic                     forget_ready_i,
  output direction_e               event_direction_o,
  output logic [SaWidth-1:0]       event_sa_o
);

  if (NSa < 2 || NSa > 65535) begin : gen_bad_nsa
    $error("NSa is 2 to 65535");
  end
  if (NSelectors < 1 || NSelectors > 65535) begin : gen_bad_selectors
    $error("NSelectors is 1 to 65535");
  end
  if (MaxPerSa < 1 || MaxPerSa > NSelectors || MaxPerSa > 255) begin : gen_bad_max
    $error("MaxPerSa is 1 to NSelectors and 255");
  end

  localparam logic [SaWidth-1:0] LastSa = SaWidth'(NSa - 1);

  typedef enum logic [4:0] {
    // After reset: key_unit's staging memories have anything.
    SweepZero,
    SweepZeroWait,
    Sweep,
    SweepEnd,
    Idle,
    // A command: its numbers are compared, the results held against each other, what is known of the SA is read, and is there.
    Check,
    Judge,
    Look,
    Begin,
    SpiAway,
    SpiAwayWait,
    Keys,
    KeysWait,
    Send,
    SendWait,
    Clear,
    ClearWait,
    SpiInsertion,
    SpiInsertionWait,
    // An inbound SA whose SPI could not be inserted, and one that is removed.
    ForgetSa,
    TellReady,
    Told,
    Read,
    ReadWait,
    Answer,
    // The key registers are cleared. Then it is over.
    Over
  } state_e;

  state_e state_q, state_d;
  answer_e answer_q, answer_d;
  // The command that is sent next brings zeros.
  logic zeros_q, zeros_d;

  command_e command_q;
  direction_e direction_q;
  logic [15:0] index_q;
  logic inbound;
  assign inbound = direction_q == Inbound;

  // ---- what can be said of a command from its numbers alone

  logic no_sa_q, no_place_q, no_spi_q, no_key_q, bad_df_q, bad_outer_q, many_q, behind_q, bad_index_q, bad_fields_q;
  logic [16:0] selector_end_q;

  always_ff @(posedge clk_i) begin
    // Check.
    no_sa_q <= index_q > 16'(NSa - 1);
    no_place_q <= index_q > 16'(NSelectors - 1);
    // RFC 4303 §2.1: 0 is for nobody, 1 to 255 are reserved.
    no_spi_q <= (inbound ? inbound_sa_i.id.spi[31:8] : outbound_sa_i.id.spi[31:8]) == '0;
    // What is left of a key that was used, or nobody wrote one: an SA with a key that all know.
    no_key_q <= {key_i[255:128] & {128{key256_o}}, key_i[127:0]} == '0;
    bad_df_q <= !(outbound_sa_i.form.df inside {DfCopy, DfSet, DfClear});
    bad_outer_q <= (!outbound_sa_i.form.transport && outbound_sa_i.form.hop_limit == '0)
        || (outbound_sa_i.form.udp && (outbound_sa_i.form.source_port == '0 || outbound_sa_i.form.destination_port == '0));
    many_q <= inbound_sa_i.form.selector_count > 8'(MaxPerSa);
    selector_end_q <= 17'(inbound_sa_i.form.selector_first) + 17'(inbound_sa_i.form.selector_count);
    // Judge.
    behind_q <= selector_end_q > 17'(NSelectors);
    bad_index_q <= command_q == CommandSelector ? no_place_q : no_sa_q;
    // Begin looks at these, and at behind_q.
    bad_fields_q <= no_spi_q || no_key_q || (inbound ? many_q : bad_df_q || bad_outer_q);
  end

  // ---- what is known of inbound SAs

  typedef struct packed {
    logic     used;
    spi_key_t key;
  } entry_t;

  entry_t entry, entry_written;
  logic used_q;  // entry.used, a cycle later: block RAM is slow
  logic entry_write, entry_read;
  logic [SaWidth-1:0] entry_write_sa;

  ram_1r1w #(
    .Width  ($bits(entry_t)),
    .Depth  (NSa),
    .ReadOld(1'b0)
  ) u_entries (
    .clk_i,
    .write_i     (entry_write),
    .write_addr_i(entry_write_sa),
    .write_data_i(entry_written),
    .read_i      (entry_read),
    .read_addr_i (index_q[SaWidth-1:0]),
    .read_data_o (entry)
  );

  // ---- commands on their way: one at a time in each direction, in the sweep one behind the other

  direction_e sender [2];
  logic [1:0] send, sent_valid_q, sent_waits_q, command_ready, command_done, swept_q;
  logic [SaWidth-1:0] sent_sa_q [2];

  assign sender[0] = Outbound;
  assign sender[1] = Inbound;
  assign command_ready = {inbound_command_ready_i, outbound_command_ready_i};
  assign command_done = {inbound_command_done_i, outbound_command_done_i};

  for (genvar d = 0; d < 2; d++) begin : gen_sender
    logic sweeps;
    assign sweeps = state_q == Sweep && !swept_q[d] && !sent_waits_q[d];
    assign send[d] = sweeps || (state_q == Send && direction_q == sender[d]);

    always_ff @(posedge clk_i) begin
      if (state_q == Send) sent_sa_q[d] <= index_q[SaWidth-1:0];
      if (!rst_ni) begin
        sent_valid_q[d] <= 1'b0;
        sent_waits_q[d] <= 1'b0;
        sent_sa_q[d] <= '0;
        swept_q[d] <= 1'b0;
      end else begin
        if (send[d]) begin
          sent_valid_q[d] <= 1'b1;
          sent_waits_q[d] <= 1'b1;
        end else begin
          if (command_ready[d]) sent_valid_q[d] <= 1'b0;
          if (command_done[d]) sent_waits_q[d] <= 1'b0;
        end
        if (state_q == Sweep && sent_waits_q[d] && command_done[d]) begin
          if (sent_sa_q[d] == LastSa) swept_q[d] <= 1'b1;
          else sent_sa_q[d] <= sent_sa_q[d] + 1'b1;
        end
      end
    end
  end

  assign outbound_command_valid_o = sent_valid_q[0];
  assign outbound_command_sa_o = sent_sa_q[0];
  assign outbound_command_data_o = zeros_q ? '0 : outbound_sa_i;
  assign inbound_command_valid_o = sent_valid_q[1];
  assign inbound_command_sa_o = sent_sa_q[1];
  assign inbound_command_data_o = zeros_q ? '0 : inbound_sa_i;

  // ---- one step after another

  logic read_done;
  assign read_done = inbound ? inbound_read_done_i : outbound_read_done_i;

  always_comb begin
    state_d = state_q;
    answer_d = answer_q;
    zeros_d = zeros_q;
    entry_read = 1'b0;
    entry_write = 1'b0;
    entry_write_sa = index_q[SaWidth-1:0];
    entry_written = '0;

    unique case (state_q)
      SweepZero: if (!key_busy_i) state_d = SweepZeroWait;
      SweepZeroWait: if (key_done_i) state_d = Sweep;
      Sweep: begin
        entry_write = send[1];
        entry_write_sa = sent_sa_q[1];
        if (swept_q == '1) state_d = SweepEnd;
      end
      // spi_lookup empties its table in its own time.
      SweepEnd: if (others_ready_i && spi_op_ready_i) state_d = Over;

      Idle: if (go_i) state_d = Check;

      Check: state_d = Judge;
      Judge: begin
        entry_read = !no_sa_q;
        state_d = Look;
      end
      Look: state_d = Begin;
      Begin: begin
        answer_d = AnswerDone;
        zeros_d = command_q == CommandRemove;
        if (bad_index_q) begin
          answer_d = AnswerBadIndex;
          state_d = Answer;
        end else begin
          unique case (command_q)
            CommandInstall: begin
              state_d = Answer;
              if (bad_fields_q || (inbound && behind_q)) answer_d = AnswerBadFields;
              else if (inbound && used_q) answer_d = AnswerInUse;
              else state_d = Keys;
            end
            CommandRemove: begin
              state_d = Keys;
              if (inbound) begin
                state_d = SpiAway;
                if (!used_q) begin
                  answer_d = AnswerAbsent;
                  state_d = Answer;
                end
              end
            end
            CommandRead: state_d = Read;
            default: state_d = Answer;
          endcase
        end
      end

      SpiAway: if (spi_op_ready_i) state_d = SpiAwayWait;
      SpiAwayWait:
      if (spi_answer_valid_i) begin
        entry_write = 1'b1;
        // The SA goes, whatever the table knew.
        if (spi_answer_i != SpiDone) answer_d = AnswerAbsent;
        state_d = Keys;
      end

      // For a removal zeros are all that is made.
      Keys: if (!key_busy_i) state_d = KeysWait;
      KeysWait: if (key_done_i) state_d = Send;
      Send: state_d = SendWait;
      SendWait:
      if (!sent_waits_q[inbound]) begin
        state_d = zeros_q ? ForgetSa : Clear;
      end

      Clear: if (!key_busy_i) state_d = ClearWait;
      ClearWait: if (key_done_i) state_d = inbound ? SpiInsertion : TellReady;

      SpiInsertion: if (spi_op_ready_i) state_d = SpiInsertionWait;
      SpiInsertionWait:
      if (spi_answer_valid_i) begin
        if (spi_answer_i == SpiDone) begin
          entry_write = 1'b1;
          entry_written = '{used: 1'b1, key: spi_key_i};
          state_d = TellReady;
        end else begin
          // The staging memories are zeros already.
          answer_d = spi_answer_i == SpiExists ? AnswerSpiExists : AnswerSpiFull;
          zeros_d = 1'b1;
          state_d = Send;
        end
      end

      ForgetSa, TellReady: state_d = Told;
      Told: if (!event_valid_o && !forget_valid_o) state_d = Answer;

      Read: state_d = ReadWait;
      ReadWait: if (usage_valid_o) state_d = Answer;

      Answer: state_d = Over;

      default: state_d = Idle;
    endcase
  end

  always_ff @(posedge clk_i) begin
    used_q <= entry.used;
    answer_q <= answer_d;
    zeros_q <= zeros_d;
    if (state_q == Idle) begin
      command_q <= command_i;
      direction_q <= direction_i;
      index_q <= index_i;
    end
    usage_o <= inbound ? inbound_read_usage_i : outbound_read_usage_i;
    if (!rst_ni) begin
      state_q <= SweepZero;
      zeros_q <= 1'b1;
      ready_o <= 1'b0;
      usage_valid_o <= 1'b0;
    end else begin
      state_q <= state_d;
      if (state_q == Idle) ready_o <= 1'b1;
      usage_valid_o <= state_q inside {ReadWait, SendWait} && read_done;
    end
  end

  // What is asked of others stays until they take it. These are registers: no state waits for another module's in the
  // same cycle.
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      event_valid_o <= 1'b0;
      forget_valid_o <= 1'b0;
      outbound_read_valid_o <= 1'b0;
      inbound_read_valid_o <= 1'b0;
    end else begin
      if (state_q == TellReady) event_valid_o <= 1'b1;
      else if (event_ready_i) event_valid_o <= 1'b0;
      if (state_q == ForgetSa) forget_valid_o <= 1'b1;
      else if (forget_ready_i) forget_valid_o <= 1'b0;
      if (state_q == Read && !inbound) outbound_read_valid_o <= 1'b1;
      else if (outbound_read_ready_i) outbound_read_valid_o <= 1'b0;
      if (state_q == Read && inbound) inbound_read_valid_o <= 1'b1;
      else if (inbound_read_ready_i) inbound_read_valid_o <= 1'b0;
    end
  end

  // Not Idle. All fields of the registers wait for it, so it is a register.
  always_ff @(posedge clk_i) busy_o <= !rst_ni || !(state_q == Over || (state_q == Idle && !go_i));
  assign done_o = state_q == Answer;
  assign answer_o = answer_q;

  logic makes_keys;
  assign makes_keys = state_q == Keys && command_q == CommandInstall;
  assign key_start_o = makes_keys && !key_busy_i;
  assign key_zero_o = !key_busy_i && ((state_q == Keys && !makes_keys) || state_q inside {SweepZero, Clear});
  assign key_o = key_i;
  assign key256_o = inbound ? inbound_sa_i.form.key256 : outbound_sa_i.form.key256;
  // Whatever becomes of an installation, its key is not for another one: it goes when key_unit has it, and with the answer.
  always_ff @(posedge clk_i) key_clear_o <= rst_ni && (key_start_o || (state_q == Answer && command_q == CommandInstall));

  assign spi_op_valid_o = state_q inside {SpiAway, SpiInsertion};
  assign spi_op_o = state_q == SpiAway ? SpiRemove : SpiInsert;
  assign spi_op_key_o = state_q == SpiAway ? entry.key : spi_key_i;
  assign spi_op_sa_o = index_q[SaWidth-1:0];

  assign outbound_read_sa_o = index_q[SaWidth-1:0];
  assign inbound_read_sa_o = index_q[SaWidth-1:0];

  assign selector_write_o = state_q == Begin && command_q == CommandSelector && !bad_index_q;
  assign selector_index_o = index_q[SelectorWidth-1:0];

  assign event_direction_o = direction_q;
  assign event_sa_o = index_q[SaWidth-1:0];

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, off;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) if (!rst_ni) reset_seen_q <= 1'b1;
  assign off = !rst_ni || !reset_seen_q;

  one_at_a_time :
  assert property (@(posedge clk_i) disable iff (off) go_i |-> !busy_o);
  done_is_for_something :
  assert property (@(posedge clk_i) disable iff (off)
      (outbound_command_done_i |-> sent_waits_q[0]) and (inbound_command_done_i |-> sent_waits_q[1]));
  outbound_command_holds :
  assert property (@(posedge clk_i) disable iff (off) sent_waits_q[0] && !outbound_command_done_i |=>
      $stable({outbound_command_sa_o, outbound_command_data_o}));
  inbound_command_holds :
  assert property (@(posedge clk_i) disable iff (off) sent_waits_q[1] && !inbound_command_done_i |=>
      $stable({inbound_command_sa_o, inbound_command_data_o}));
`endif

endmodule
