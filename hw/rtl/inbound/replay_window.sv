// The anti-replay windows of all inbound SAs (RFC 4303 §3.4.3, appendix A2).
//
// A window is a ring of exactly Window bits, in words: the bit of a sequence number stands at its lower bits. Moving the
// right edge clears what it passes over, a word a cycle; the usual step touches one word.
//
// One operation at a time, so each sees all of the one before:
//   ReplayCheck   infers the whole sequence number of a packet and tells whether it may be new; changes nothing.
//   ReplayUpdate  for a packet whose ICV was right, with its whole number: judges it again, since a copy may have come
//                 in between, and marks it. Only this answer counts.
//   ReplayClear   an empty window, for a new SA.
// What memory holds after reset is not defined: an SA is cleared before it is used.

module replay_window
  import replay_pkg::*;
#(
  // How many SAs.
  parameter int unsigned NSa = 1024,
  // Sequence numbers in a window, a power of two.
  parameter int unsigned Window = 1024,
  // Bits of a memory word, a power of two, at most Window.
  parameter int unsigned WordWidth = Window < 128 ? Window : 128,
  // Bits of a sequence number in a packet. Other than 32 for proofs only.
  parameter int unsigned LowWidth = 32,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1,
  localparam int unsigned SequenceWidth = 2 * LowWidth
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     valid_i,
  output logic                     ready_o,
  input  replay_op_e               op_i,
  input  logic [SaWidth-1:0]       sa_i,
  // Extended sequence numbers. Only a check looks at it.
  input  logic                     esn_i,
  // Check: the packet's number, in the lower half. Update: the whole number that the check gave.
  input  logic [SequenceWidth-1:0] sequence_i,
  // For one cycle, with what follows.
  output logic                     done_o,
  // The number was not seen before and is not left of the window.
  output logic                     accepted_o,
  output logic [SequenceWidth-1:0] sequence_o,
  // The right edge, after the operation.
  output logic [SequenceWidth-1:0] highest_o
);

  localparam int unsigned WindowBits = $clog2(Window);
  localparam int unsigned WordBits = $clog2(WordWidth);
  localparam int unsigned Words = Window / WordWidth;
  localparam int unsigned SlotWidth = Words > 1 ? $clog2(Words) : 1;
  localparam int unsigned PartWidth = WordWidth < 16 ? WordWidth : 16;
  localparam int unsigned Parts = WordWidth / PartWidth;
  localparam int unsigned AddressWidth = NSa * Words > 1 ? $clog2(NSa * Words) : 1;

  if (Window < 2 || 2 ** WindowBits != Window) begin : gen_bad_window
    $error("Window is not a power of two");
  end
  if (2 ** WordBits != WordWidth || WordWidth > Window) begin : gen_bad_word
    $error("WordWidth is not a power of two up to Window");
  end
  if (WindowBits >= LowWidth) begin : gen_bad_low
    $error("a window is to be smaller than half of what a packet's sequence number can say");
  end

  typedef logic [SequenceWidth-1:0] sequence_t;
  typedef logic [LowWidth-1:0] low_t;
  // Where in the ring a number's bit is: the word, and the place in it.
  typedef logic [WindowBits-1:0] index_t;
  typedef logic [WordWidth-1:0] word_t;
  typedef logic [SlotWidth-1:0] slot_t;
  typedef logic [WordBits-1:0] place_t;

  // Words is a power of two, and so there may be one only, with no number to it.
  function automatic slot_t wrapped(input int unsigned slot);
    return slot_t'(slot % Words);
  endfunction

  function automatic slot_t slot_of(input index_t index);
    return wrapped(int'(index) >> WordBits);
  endfunction

  // The bits from a place up.
  function automatic word_t from_place(input place_t place);
    return {WordWidth{1'b1}} << place;
  endfunction

  typedef enum logic [3:0] {
    Idle,
    Infer,
    Compare,
    Judge,
    // An update does what was judged.
    Act,
    // The right edge goes to another word: the rest of the one it is in, those between, the beginning of the new one.
    MoveRead,
    MoveHold,
    MoveRest,
    MoveBetween,
    MoveLastRead,
    MoveLastHold,
    MoveLast,
    Clear
  } state_e;

  state_e state_q, state_d;
  replay_op_e op_q;
  logic [SaWidth-1:0] sa_q;
  logic esn_q;
  low_t low_q;
  sequence_t sequence_q;
  logic possible_q;
  // The word that a move is at, and how many are to be cleared.
  slot_t slot_q, slot_d, left_q, left_d;
  logic done_q, done_d, moved_q, moved_d;

  // Memories

  sequence_t highest_mem [NSa];
  word_t window_mem [NSa * Words];

  function automatic logic [AddressWidth-1:0] address(input logic [SaWidth-1:0] sa, input slot_t slot);
    return AddressWidth'(int'(sa) * Words + int'(slot));
  endfunction

  logic read_highest, write_highest, read_word, write_word;
  logic [SaWidth-1:0] read_sa;
  slot_t read_slot, write_slot;
  sequence_t highest_q, write_highest_data;
  // As it is read, and in a register where its place is near: what is written back is far enough from that.
  word_t word_q, held_q, write_word_data;

  always_ff @(posedge clk_i) begin
    if (read_highest) highest_q <= highest_mem[read_sa];
    if (write_highest) highest_mem[sa_q] <= write_highest_data;
  end

  always_ff @(posedge clk_i) begin
    if (read_word) word_q <= window_mem[address(read_sa, read_slot)];
    held_q <= word_q;
    if (write_word) window_mem[address(sa_q, write_slot)] <= write_word_data;
  end

  // The whole number (RFC 4303 appendix A2.2): the one in the window, or closest to the right of it.

  low_t top_low, top_high, top_high_q;
  logic [LowWidth:0] reach;
  logic one_subspace, low_reaches, not_left;
  // What memory gives is late: what it is compared with is a register's beginning.
  logic one_subspace_q, low_reaches_q, reach_over_q;

  assign {top_high, top_low} = highest_q;
  // Case A: the window lies in one subspace of 2^32 numbers. Case B: its left part lies in the one before.
  assign one_subspace = top_low >= low_t'(Window - 1);
  // Not left of the window: top_low - (Window - 1) is not above it. What memory gives is late, so all else is on the other
  // side; where the window's left edge has wrapped around, the sum has to.
  assign reach = {1'b0, low_q} + (LowWidth + 1)'(Window - 1);
  assign low_reaches = reach[LowWidth-1:0] >= top_low;
  assign not_left = one_subspace_q ? reach_over_q || low_reaches_q : reach_over_q && low_reaches_q;

  // The upper half is the one in the window or one beside it: chosen in the next cycle, by a check that has a number of 64
  // bits.
  low_t high_q, high;
  logic infers_q, beside;
  // The upper half is one more than that of the edge, or one less.
  logic beside_q, above_q;
  assign beside = infers_q && one_subspace_q != not_left;

  always_comb begin
    high = high_q;
    // What is told of a packet without a number is its lower half.
    if (beside && one_subspace_q) high = top_high_q + 1'b1;
    if (beside && !one_subspace_q) high = top_high_q == '0 ? '0 : top_high_q - 1'b1;
  end

  always_ff @(posedge clk_i) begin
    if (state_q == Idle) begin
      low_q <= sequence_i[LowWidth-1:0];
      high_q <= sequence_i[SequenceWidth-1:LowWidth];
      infers_q <= 1'b0;
    end else if (state_q == Infer) begin
      high_q <= esn_q ? top_high : '0;
      infers_q <= esn_q;
    end
    top_high_q <= top_high;
    one_subspace_q <= one_subspace;
    low_reaches_q <= low_reaches;
    reach_over_q <= reach[LowWidth];
    if (state_q == Compare) begin
      beside_q <= beside;
      above_q <= one_subspace_q;
      // There is nothing behind the last number, and nothing before the first.
      possible_q <= !beside || (one_subspace_q ? top_high_q != '1 : top_high_q != '0);
    end
    // From Judge on it is whole.
    sequence_q <= {state_q == Compare ? high : sequence_q[SequenceWidth-1:LowWidth], low_q};
  end

  // The verdict

  // How far the number is from the right edge, each half by itself, and whether it is the smaller one; of the upper half,
  // as if it were the edge's where it is one beside that. What goes from the lower half into the upper one is not taken off
  // but looked for.
  low_t apart_low_q, apart_high_q;
  logic less_low_q, less_high_q, seen;
  // Whether the number's bit is set, by parts of the word.
  logic [Parts-1:0] seen_q;
  index_t next_index_q;
  logic less, left, later, far, accepted, same_word;
  // What the judgement is made of, from then until the operation is over.
  logic less_q, same_q, sent_q, within_q, far_q, same_word_q;
  word_t mark_q, from_place_q, from_next_q;
  index_t index;
  place_t place, next_place;

  assign index = index_t'(low_q);
  assign place = place_t'(index);
  assign next_place = place_t'(next_index_q);

  always_ff @(posedge clk_i) begin
    if (state_q == Idle) mark_q <= word_t'(1) << place_t'(sequence_i);
    if (state_q == Compare) begin
      {less_low_q, apart_low_q} <= {1'b0, low_q} - {1'b0, top_low};
      {less_high_q, apart_high_q} <= {1'b0, high_q} - {1'b0, top_high};
      next_index_q <= index_t'(highest_q) + 1'b1;
      for (int i = 0; i < int'(Parts); i++) seen_q[i] <= |(word_q[PartWidth*i+:PartWidth] & mark_q[PartWidth*i+:PartWidth]);
    end
  end

  assign seen = |seen_q;
  logic high_same, high_above, high_below, low_same, upper_zeros, upper_ones;
  assign high_same = !beside_q && apart_high_q == '0;
  assign high_above = beside_q ? above_q : apart_high_q == low_t'(1);
  assign high_below = beside_q ? !above_q : apart_high_q == '1;
  assign low_same = apart_low_q == '0;
  // Both halves together: the number is short of the edge; the upper half is all zeros, or all ones.
  assign less = beside_q ? !above_q : less_high_q || (high_same && less_low_q);
  assign upper_zeros = less_low_q ? high_above : high_same;
  assign upper_ones = less_low_q ? high_same : high_below;
  assign left = less && !(upper_ones && apart_low_q[LowWidth-1:WindowBits] == '1 && apart_low_q[WindowBits-1:0] != '0);
  assign far = !upper_zeros || apart_low_q[LowWidth-1:WindowBits] != '0;
  // The first number that the edge passes over, or reaches, is in the word that it reaches.
  assign same_word = upper_zeros && (apart_low_q[LowWidth-1:WordBits] == '0 || apart_low_q == low_t'(WordWidth))
      && place >= next_place;

  always_ff @(posedge clk_i) begin
    if (state_q == Judge) begin
      less_q <= less;
      same_q <= high_same && low_same;
      // RFC 4303 §3.3.3: the first number is 1; 0 is never sent.
      sent_q <= possible_q && sequence_q != '0;
      within_q <= !left && !seen;
      far_q <= far;
      same_word_q <= same_word;
    end else if (state_q == Clear) begin
      sent_q <= 1'b1;
      within_q <= 1'b1;
    end
    from_place_q <= from_place(place);
    from_next_q <= from_place(next_place);
  end

  assign later = !less_q && !same_q;
  assign accepted = sent_q && (later || within_q);

  // What is written: of the word that is held all, or what is below the number behind the edge, or from the new one on, or
  // nothing; and a mark. What does not hang on the judgement is decided a cycle ahead.
  logic act_q, keep_below_d, keep_below_q, keep_above_d, keep_above_q, set_d, set_q, keep_all;
  word_t kept;
  assign keep_all = act_q && !later;
  assign kept = {WordWidth{keep_all}} | ({WordWidth{keep_below_q}} & ~from_next_q)
      | ({WordWidth{keep_above_q}} & from_place_q);
  assign write_word_data = (held_q & kept) | ({WordWidth{set_q}} & mark_q);

  always_comb begin
    {keep_below_d, keep_above_d, set_d} = '0;
    unique case (state_q)
      Judge: {keep_below_d, keep_above_d, set_d} = '1;
      Act: set_d = Words == 1;
      MoveHold: keep_below_d = 1'b1;
      MoveBetween: set_d = left_q == slot_t'(1);
      MoveLastHold: {keep_above_d, set_d} = '1;
      default: ;
    endcase
  end

  always_ff @(posedge clk_i) begin
    act_q <= state_q == Judge;
    {keep_below_q, keep_above_q, set_q} <= {keep_below_d, keep_above_d, set_d};
  end

  always_comb begin
    state_d = state_q;
    slot_d = slot_q;
    left_d = left_q;
    read_highest = 1'b0;
    read_word = 1'b0;
    read_sa = sa_q;
    read_slot = slot_q;
    write_highest = 1'b0;
    write_highest_data = sequence_q;
    write_word = 1'b0;
    write_slot = slot_q;
    done_d = 1'b0;
    moved_d = moved_q;

    unique case (state_q)
      Idle: begin
        read_sa = sa_i;
        read_slot = slot_of(index_t'(sequence_i));
        slot_d = '0;
        left_d = slot_t'(Words - 1);
        if (valid_i) begin
          read_highest = 1'b1;
          read_word = 1'b1;
          unique case (op_i)
            ReplayCheck:  state_d = Infer;
            ReplayUpdate: state_d = Compare;
            default:      state_d = Clear;
          endcase
        end
      end

      Infer: state_d = Compare;

      Compare: state_d = Judge;

      Judge: begin
        moved_d = 1'b0;
        if (op_q == ReplayUpdate) begin
          state_d = Act;
        end else begin
          state_d = Idle;
          done_d = 1'b1;
        end
      end

      Act: begin
        state_d = Idle;
        done_d = 1'b1;
        moved_d = accepted && later;
        if (far_q) begin
          // Nothing of what was seen is in the window now: clear all, ending with the new word.
          slot_d = wrapped(int'(slot_of(index)) + 1);
          left_d = slot_t'(Words - 1);
        end else begin
          slot_d = slot_of(next_index_q);
          left_d = wrapped(int'(slot_of(index)) + 2 * Words - int'(slot_of(next_index_q)) - 1);
        end
        write_slot = slot_of(index);
        if (accepted) begin
          write_highest = later;
          if (!later || same_word_q) begin
            write_word = 1'b1;
          end else begin
            done_d = 1'b0;
            if (!far_q) state_d = MoveRead;
            else state_d = Words > 1 ? MoveBetween : MoveLast;
          end
        end
      end

      MoveRead: begin
        read_word = 1'b1;
        state_d = MoveHold;
      end

      MoveHold: state_d = MoveRest;

      MoveRest: begin
        write_word = 1'b1;
        slot_d = wrapped(int'(slot_q) + 1);
        state_d = left_q == '0 ? MoveLastRead : MoveBetween;
      end

      MoveBetween: begin
        write_word = 1'b1;
        slot_d = wrapped(int'(slot_q) + 1);
        left_d = left_q - 1'b1;
        if (left_q == slot_t'(1)) state_d = far_q ? MoveLast : MoveLastRead;
      end

      MoveLastRead: begin
        read_word = 1'b1;
        state_d = MoveLastHold;
      end

      MoveLastHold: state_d = MoveLast;

      MoveLast: begin
        write_word = 1'b1;
        done_d = 1'b1;
        state_d = Idle;
      end

      Clear: begin
        write_highest = 1'b1;
        write_highest_data = '0;
        write_word = 1'b1;
        slot_d = wrapped(int'(slot_q) + 1);
        left_d = left_q - 1'b1;
        if (left_q == '0) begin
          done_d = 1'b1;
          state_d = Idle;
        end
      end

      default: state_d = Idle;
    endcase
  end

  always_ff @(posedge clk_i) begin
    slot_q <= slot_d;
    left_q <= left_d;
    moved_q <= moved_d;
    if (state_q == Idle) begin
      op_q <= op_i;
      sa_q <= sa_i;
      esn_q <= esn_i;
    end
    if (!rst_ni) begin
      state_q <= Idle;
      done_q <= 1'b0;
    end else begin
      state_q <= state_d;
      done_q <= done_d;
    end
  end

  assign ready_o = state_q == Idle;
  assign done_o = done_q;
  assign accepted_o = accepted;
  assign sequence_o = sequence_q;
  assign highest_o = moved_q ? sequence_q : highest_q;

endmodule
