// Which SA a received ESP packet is for (RFC 4303 §3.4.2): an exact match on SPI and destination.
//
// A cuckoo hash table: an entry is in one of four places, two in each of two rows, which two hashes of its SPI name. SPIs
// are ours to choose, so nobody outside can aim at a row. What is new goes to a register, the nest, where it is found at
// once; from there it moves into the table in cycles that lookups leave free, pushing others on where all four places are
// taken. There are twice as many places as SAs, so that seldom takes a step and never, in practice, fails.
//
// A lookup reads the four places one after another: seven cycles from request to request. It is never in between two
// steps of a change. What was read is compared in two cycles, by parts first.

module spi_lookup
  import spi_pkg::*;
#(
  // How many SAs.
  parameter int unsigned NSa = 1024,
  // How often entries push each other on before the last one stays in the nest until something is removed.
  parameter int unsigned MaxSteps = 64,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input  logic               clk_i,
  input  logic               rst_ni,

  input  logic               lookup_valid_i,
  output logic               lookup_ready_o,
  input  spi_key_t           lookup_key_i,
  // For one cycle, with what follows.
  output logic               found_valid_o,
  output logic               found_o,
  output logic [SaWidth-1:0] found_sa_o,

  // Changes: one at a time, answered in order.
  input  logic               op_valid_i,
  output logic               op_ready_o,
  input  spi_op_e            op_i,
  input  spi_key_t           op_key_i,
  input  logic [SaWidth-1:0] op_sa_i,
  output logic               answer_valid_o,
  output spi_answer_e        answer_o
);

  localparam int unsigned RowWidth = NSa > 2 ? $clog2(NSa) - 1 : 1;
  localparam int unsigned Places = 4 * 2 ** RowWidth;

  if (NSa < 1) begin : gen_bad_nsa
    $error("NSa is at least 1");
  end
  if (MaxSteps < 1 || MaxSteps > 255) begin : gen_bad_steps
    $error("MaxSteps is 1 to 255");
  end

  typedef logic [RowWidth-1:0] row_t;

  typedef struct packed {
    logic               valid;
    logic [SaWidth-1:0] sa;
    spi_key_t           key;
  } entry_t;

  // A place: which hash, the row, which of its two.
  typedef struct packed {
    logic second_hash;
    row_t row;
    logic way;
  } place_t;

  // The remainder of the SPI by a polynomial: every bit of it counts in every row.
  function automatic row_t hash(input logic [31:0] spi, input logic second);
    logic [31:0] remainder;
    remainder = '1;
    for (int i = 0; i < 32; i++) begin
      // CRC-32C and CRC-32.
      remainder = {remainder[30:0], 1'b0} ^ (remainder[31] ^ spi[i] ? (second ? 32'h04c11db7 : 32'h1edc6f41) : '0);
    end
    return remainder[31-:RowWidth];
  endfunction

  // A hash is linear but for a constant: for each bit of it, the bits of the SPI that it is the sum of. Written so, it is a
  // tree and no chain.
  typedef logic [RowWidth-1:0][31:0] sums_t;

  function automatic sums_t sums_of(input logic second);
    row_t column;
    for (int i = 0; i < 32; i++) begin
      column = hash(32'd1 << i, second) ^ hash('0, second);
      for (int j = 0; j < int'(RowWidth); j++) sums_of[j][i] = column[j];
    end
  endfunction

  localparam sums_t [1:0] Sums = {sums_of(1'b1), sums_of(1'b0)};

  // The rows that an SPI names, by both hashes.
  typedef row_t [1:0] rows_t;
  localparam rows_t RowsOfZero = {hash('0, 1'b1), hash('0, 1'b0)};

  function automatic rows_t rows_of(input logic [31:0] spi);
    for (int h = 0; h < 2; h++) begin
      for (int j = 0; j < int'(RowWidth); j++) rows_of[h][j] = RowsOfZero[h][j] ^ (^(spi & Sums[h][j]));
    end
  endfunction

  function automatic place_t place_of(input rows_t rows, input logic second, input logic way);
    return '{second_hash: second, row: rows[second], way: way};
  endfunction

  // Whether two keys are the same, by parts of 4 bits: all are zero then.
  localparam int unsigned KeyWidth = $bits(spi_key_t);
  localparam int unsigned Parts = (KeyWidth + 3) / 4;

  function automatic logic [Parts-1:0] differences(input spi_key_t one, input spi_key_t other);
    logic [4*Parts-1:0] bits;
    bits = (4 * Parts)'(one ^ other);
    for (int i = 0; i < int'(Parts); i++) differences[i] = |bits[4*i+:4];
  endfunction

  entry_t mem [Places];

  typedef enum logic [2:0] {
    // After reset: every place is emptied.
    Empty,
    Idle,
    // The four places of a key are read, for a lookup or for a change.
    Scan,
    // The last of them is compared. A lookup has its answer then.
    Settle,
    // What was found is acted on.
    Act,
    // The nest changes places with an entry.
    Swap
  } state_e;

  state_e state_q, state_d;
  // What the scan is for.
  typedef enum logic [1:0] {
    ForLookup,
    ForChange,
    ForNest
  } purpose_e;
  purpose_e purpose_q, purpose_d;
  spi_key_t key_q, key_d;
  rows_t rows_q, rows_d;
  // Reads are numbered 0 to 3; what is read comes a cycle later, and its comparison with the key another cycle later.
  logic [2:0] step_q, step_d;
  logic hit_q, hit_d, room_q, room_d;
  logic [SaWidth-1:0] hit_sa_q, hit_sa_d;
  place_t hit_place_q, hit_place_d, room_place_q, room_place_d;

  // A change that waits or is under way.
  logic pending_q, pending_d;
  spi_op_e op_q;
  spi_key_t op_key_q;
  logic [SaWidth-1:0] op_sa_q;

  entry_t nest_q, nest_d;
  // Whether the nest's entry may be moved on: not after MaxSteps, until something was removed.
  logic [7:0] pushes_q, pushes_d;
  logic restless_q;
  // That is so of what the nest holds now.
  logic settled_q;
  // Which of the places is taken from an entry next; it changes so that no two entries chase each other.
  logic [1:0] turn_q, turn_d;
  logic [RowWidth+1:0] empty_q, empty_d;

  logic read, write;
  place_t read_place, write_place, last_place_q;
  entry_t entry_q, write_entry;
  // What was read in the cycle before the last.
  logic [Parts-1:0] differences_q;
  logic compared_valid_q, compared_hit, takes;
  logic [SaWidth-1:0] compared_sa_q;
  place_t compared_place_q;
  // The nest beside the key, which is there for three cycles before the answer is used.
  logic [Parts-1:0] nest_differences_q;
  logic nest_same_q;

  always_ff @(posedge clk_i) begin
    if (read) entry_q <= mem[read_place];
    if (write) mem[write_place] <= write_entry;
  end

  always_ff @(posedge clk_i) begin
    differences_q <= differences(entry_q.key, key_q);
    compared_valid_q <= entry_q.valid;
    compared_sa_q <= entry_q.sa;
    compared_place_q <= last_place_q;
    nest_differences_q <= differences(nest_q.key, key_q);
    nest_same_q <= nest_differences_q == '0;
    restless_q <= nest_q.valid && pushes_q < 8'(MaxSteps);
  end

  assign compared_hit = compared_valid_q && differences_q == '0;

  // All three are there when it is decided which of them it is.
  rows_t lookup_rows, nest_rows, op_rows;
  assign lookup_rows = rows_of(lookup_key_i.spi);
  assign nest_rows = rows_of(nest_q.key.spi);
  assign op_rows = rows_of(op_key_q.spi);

  logic answer_valid_d, found_valid_d;
  spi_answer_e answer_d;

  // What is written, if anything is.
  always_comb begin
    write_entry = nest_q;
    if (purpose_q == ForChange) write_entry = '{valid: op_q == SpiInsert, sa: op_sa_q, key: op_key_q};
    if (state_q == Empty) write_entry = '0;
  end

  always_comb begin
    state_d = state_q;
    purpose_d = purpose_q;
    key_d = key_q;
    rows_d = rows_q;
    step_d = step_q;
    hit_d = hit_q;
    hit_sa_d = hit_sa_q;
    hit_place_d = hit_place_q;
    room_d = room_q;
    room_place_d = room_place_q;
    pending_d = pending_q;
    nest_d = nest_q;
    pushes_d = pushes_q;
    turn_d = turn_q;
    empty_d = empty_q;
    read = 1'b0;
    read_place = place_of(rows_q, step_q[1], step_q[0]);
    write = 1'b0;
    write_place = hit_place_q;
    answer_valid_d = 1'b0;
    answer_d = SpiDone;
    found_valid_d = 1'b0;
    lookup_ready_o = 1'b0;
    takes = 1'b0;

    unique case (state_q)
      Empty: begin
        write = 1'b1;
        write_place = place_t'(empty_q);
        empty_d = empty_q + 1'b1;
        if (empty_q == '1) state_d = Idle;
      end

      Idle: begin
        lookup_ready_o = 1'b1;
        step_d = '0;
        room_d = 1'b0;
        // Lookups first. What is in the nest is where it can be found; a change waits for it to go, if it can.
        if (lookup_valid_i) begin
          key_d = lookup_key_i;
          rows_d = lookup_rows;
          purpose_d = ForLookup;
          state_d = Scan;
        end else if (settled_q && restless_q) begin
          key_d = nest_q.key;
          rows_d = nest_rows;
          purpose_d = ForNest;
          state_d = Scan;
        end else if (settled_q && pending_q) begin
          key_d = op_key_q;
          rows_d = op_rows;
          purpose_d = ForChange;
          state_d = Scan;
        end
      end

      Scan: begin
        read = !step_q[2];
        step_d = step_q + 1'b1;
        if (step_q == 3'd2) begin
          hit_d = nest_q.valid && nest_same_q && purpose_q != ForNest;
          hit_sa_d = nest_q.sa;
        end
        takes = step_q >= 3'd2;
        if (step_q[2]) state_d = Settle;
      end

      Settle: begin
        takes = 1'b1;
        found_valid_d = purpose_q == ForLookup;
        state_d = purpose_q == ForLookup ? Idle : Act;
      end

      Act: begin
        state_d = Idle;
        unique case (purpose_q)
          ForChange: begin
            answer_valid_d = 1'b1;
            pending_d = 1'b0;
            // Whether it is put there or not.
            if (!nest_q.valid) {nest_d.sa, nest_d.key} = {op_sa_q, op_key_q};
            if (op_q == SpiInsert) begin
              if (hit_q) begin
                answer_d = SpiExists;
              end else if (room_q) begin
                write = 1'b1;
                write_place = room_place_q;
              end else if (!nest_q.valid) begin
                nest_d.valid = 1'b1;
                pushes_d = '0;
              end else begin
                answer_d = SpiFull;
              end
            end else if (!hit_q) begin
              answer_d = SpiAbsent;
            end else begin
              // There is room now: the nest's entry tries again.
              pushes_d = '0;
              if (nest_q.valid && nest_same_q) nest_d.valid = 1'b0;
              else write = 1'b1;
            end
          end

          default: begin
            if (room_q) begin
              write = 1'b1;
              write_place = room_place_q;
              nest_d.valid = 1'b0;
            end else begin
              // Take a place; whose it was is in the nest then.
              read = 1'b1;
              read_place = place_of(rows_q, turn_q[1], turn_q[0]);
              state_d = Swap;
            end
          end
        endcase
      end

      Swap: begin
        write = 1'b1;
        write_place = last_place_q;
        nest_d = entry_q;
        pushes_d = pushes_q + 1'b1;
        turn_d = {!turn_q[1], turn_q[0] ^ turn_q[1] ^ pushes_q[1]};
        state_d = Idle;
      end

      default: state_d = Idle;
    endcase

    if (takes && compared_hit) begin
      hit_d = 1'b1;
      hit_sa_d = compared_sa_q;
      hit_place_d = compared_place_q;
    end
    if (takes && !compared_valid_q && !room_q) begin
      room_d = 1'b1;
      room_place_d = compared_place_q;
    end

    if (op_valid_i && op_ready_o) pending_d = 1'b1;
  end

  always_ff @(posedge clk_i) begin
    key_q <= key_d;
    rows_q <= rows_d;
    step_q <= step_d;
    hit_q <= hit_d;
    hit_sa_q <= hit_sa_d;
    hit_place_q <= hit_place_d;
    room_q <= room_d;
    room_place_q <= room_place_d;
    last_place_q <= read_place;
    purpose_q <= purpose_d;
    answer_o <= answer_d;
    found_o <= hit_d;
    found_sa_o <= hit_sa_d;
    if (op_valid_i && op_ready_o) begin
      op_q <= op_i;
      op_key_q <= op_key_i;
      op_sa_q <= op_sa_i;
    end
    if (!rst_ni) begin
      state_q <= Empty;
      empty_q <= '0;
      pending_q <= 1'b0;
      nest_q <= '0;
      pushes_q <= '0;
      op_ready_o <= 1'b0;
      settled_q <= 1'b0;
      turn_q <= '0;
      answer_valid_o <= 1'b0;
      found_valid_o <= 1'b0;
    end else begin
      state_q <= state_d;
      empty_q <= empty_d;
      pending_q <= pending_d;
      nest_q <= nest_d;
      pushes_q <= pushes_d;
      op_ready_o <= !pending_d && state_d != Empty;
      settled_q <= !(state_q inside {Act, Swap});
      turn_q <= turn_d;
      answer_valid_o <= answer_valid_d;
      found_valid_o <= found_valid_d;
    end
  end

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    if (rst_ni && reset_seen_q) begin
      assert (op_ready_o == (!pending_q && state_q != Empty)) else $error("a change is taken beside another one");
    end
  end
`endif

endmodule
