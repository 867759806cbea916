// spi_lookup: for an arbitrary key, whatever is installed, removed and looked up in whatever order: it is found if and
// only if it is installed, as the SA that it was installed for, also while entries are pushed around.

module spi_lookup_properties
  import spi_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned MaxSteps = 2,
  // All bits of keys may differ, or only those of KeyBits.
  parameter bit WholeKeys = 1'b0,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1
) (
  input logic               clk_i,
  input logic               rst_ni,
  input logic               lookup_valid_i,
  input spi_key_t           lookup_key_i,
  input logic               op_valid_i,
  input spi_op_e            op_i,
  input spi_key_t           op_key_i,
  input logic [SaWidth-1:0] op_sa_i,
  // The key that is watched.
  input spi_key_t           watched_i
);

  localparam int unsigned RowWidth = NSa > 2 ? $clog2(NSa) - 1 : 1;
  localparam int unsigned Places = 4 * 2 ** RowWidth;

  logic lookup_ready_o, found_valid_o, found_o, op_ready_o, answer_valid_o;
  logic [SaWidth-1:0] found_sa_o;
  spi_answer_e answer_o;

  spi_lookup #(
    .NSa(NSa),
    .MaxSteps(MaxSteps)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  spi_key_t watched_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watched_q <= watched_i;
  end
  // Which bits of a key differ among those that come: the hashes of all 32 bits of an SPI are too much for a proof.
  // Of the SPI 4, and one of the destination.
  localparam spi_key_t KeyBits = WholeKeys ? '1 : spi_key_t'(64'h1_8000_1003);
  function automatic logic narrow(input spi_key_t key);
    return (key & ~KeyBits) == '0;
  endfunction

  always_comb begin
    assume (started_q || !rst_ni);
    assume (!started_q || watched_i == watched_q);
    assume (narrow(watched_i) && narrow(lookup_key_i) && narrow(op_key_i));
  end

  // The lookup and the change under way, and how long they take.
  logic looking_q, changing_q;
  spi_key_t looked_q, changed_q;
  spi_op_e op_q;
  logic [SaWidth-1:0] sa_q;
  logic [3:0] age_q;
  logic look, change;
  assign look = lookup_valid_i && lookup_ready_o;
  assign change = op_valid_i && op_ready_o;

  always_ff @(posedge clk_i) begin
    if (look) looked_q <= lookup_key_i;
    age_q <= look ? '0 : age_q + 1'b1;
    if (change) begin
      op_q <= op_i;
      changed_q <= op_key_i;
      sa_q <= op_sa_i;
    end
    if (!rst_ni) begin
      looking_q <= 1'b0;
      changing_q <= 1'b0;
    end else begin
      looking_q <= look || (looking_q && !found_valid_o);
      changing_q <= change || (changing_q && !answer_valid_o);
    end
  end

  // The model: whether the watched key is installed, and for which SA.
  logic installed_q, installed_d, mine;
  logic [SaWidth-1:0] installed_sa_q, installed_sa_d;
  assign mine = changing_q && answer_valid_o && changed_q == watched_i;

  always_comb begin
    installed_d = installed_q;
    installed_sa_d = installed_sa_q;
    if (mine && answer_o == SpiDone) begin
      installed_d = op_q == SpiInsert;
      if (op_q == SpiInsert) installed_sa_d = sa_q;
    end
  end

  always_ff @(posedge clk_i) begin
    installed_q <= rst_ni && installed_d;
    installed_sa_q <= installed_sa_d;
  end

  // A lookup that began before an answer was given may see what was before, and none does.
  logic watched_look;
  assign watched_look = looking_q && found_valid_o && looked_q == watched_i;

  // The watched key was there once.
  logic removed_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) removed_q <= 1'b0;
    else if (installed_q && !installed_d) removed_q <= 1'b1;
  end

  // ---- of the state inside

  // 0 emptying, 1 idle, 2 scan, 3 settle, 4 act, 5 swap.
  logic [2:0] state;
  assign state = 3'(dut.state_q);
  logic emptying, idle, scan, settle, act, swap;
  assign emptying = state == 3'd0;
  assign idle = state == 3'd1;
  assign scan = state == 3'd2;
  assign settle = state == 3'd3;
  assign act = state == 3'd4;
  assign swap = state == 3'd5;

  // Where the watched key is: in the nest, and in which places.
  logic in_nest;
  logic [Places-1:0] in_place, right_sa;
  logic [Places-1:0] still_there, is_narrow;
  logic all_narrow;
  assign all_narrow = &is_narrow;
  logic [3:0][RowWidth+1:0] own;  // its four places
  for (genvar i = 0; i < 4; i++) begin : gen_own
    assign own[i] = dut.place_of(dut.rows_of(watched_i.spi), i >= 2, i % 2 == 1);
  end
  logic [Places-1:0] is_own;
  always_comb begin
    is_own = '0;
    for (int i = 0; i < 4; i++) is_own[own[i]] = 1'b1;
  end
  // Of the scan under way: the read whose word is here, the one whose comparison is, the places that are told of by then, and
  // where there is room.
  logic [1:0] scanned, compared;
  assign scanned = 2'(dut.step_q - 3'd1);
  assign compared = 2'(dut.step_q - 3'd2);
  typedef logic [RowWidth+1:0] place_t;
  place_t scanned_place, compared_place;
  assign scanned_place = dut.place_of(dut.rows_q, scanned[1], scanned[0]);
  assign compared_place = dut.place_of(dut.rows_q, compared[1], compared[0]);
  logic nest_hit, room_is_its_own;
  assign nest_hit = dut.nest_q.valid && dut.nest_q.key == dut.key_q;
  logic [Places-1:0] told;
  always_comb begin
    told = '0;
    room_is_its_own = 1'b0;
    for (int i = 0; i < 4; i++) begin
      if (act || i + 3 <= int'(dut.step_q)) told[own[i]] = 1'b1;
      if (dut.room_place_q == dut.place_of(dut.rows_q, i >= 2, i % 2 == 1)) room_is_its_own = 1'b1;
    end
  end
  assign in_nest = dut.nest_q.valid && dut.nest_q.key == watched_i;
  for (genvar i = 0; i < int'(Places); i++) begin : gen_place
    assign in_place[i] = dut.mem[i].valid && dut.mem[i].key == watched_i;
    assign right_sa[i] = dut.mem[i].sa == installed_sa_d;
    assign is_narrow[i] = emptying || !dut.mem[i].valid || narrow(dut.mem[i].key);
    assign still_there[i] = dut.mem[i].valid && i < int'(dut.empty_q);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (watched_look) begin
        found_if_installed : assert (found_o == installed_q);
        as_its_sa : assert (!found_o || found_sa_o == installed_sa_q);
      end
      if (found_valid_o) lookups_are_asked_for : assert (looking_q);
      if (looking_q) lookup_in_time : assert (found_valid_o == (age_q == 4'd6));
      if (answer_valid_o) answers_are_asked_for : assert (changing_q);
      if (mine) begin
        exists_if_installed : assert ((answer_o == SpiExists) == (op_q == SpiInsert && installed_q));
        absent_if_not : assert ((answer_o == SpiAbsent) == (op_q == SpiRemove && !installed_q));
        removed_if_installed : assert (op_q != SpiRemove || !installed_q || answer_o == SpiDone);
      end
      // State.
      pending_is_asked : assert (dut.pending_q == (changing_q && !answer_valid_o));
      if (changing_q) pending_is_right : assert (dut.op_q == op_q && dut.op_key_q == changed_q
          && dut.op_sa_q == sa_q && narrow(changed_q));
      looking_is_scanning : assert ((looking_q && !found_valid_o) == ((scan || settle) && dut.purpose_q == 2'd0));
      if (looking_q && !found_valid_o) lookup_is_right : assert (dut.key_q == looked_q && 4'(dut.step_q) == age_q);
      if (looking_q) looked_is_narrow : assert (narrow(looked_q));
      if (scan || settle || act) scan_for_a_change : assert ((dut.purpose_q != 2'd1 || (dut.pending_q && dut.key_q == changed_q))
          && (dut.purpose_q != 2'd2 || (dut.nest_q.valid && dut.key_q == dut.nest_q.key)) && dut.purpose_q != 2'd3
          && (scan ? dut.step_q <= 3'd4 : dut.step_q == 3'd5) && (!act || dut.purpose_q != 2'd0));
      if (scan || settle || act || swap) rows_are_the_keys : assert (dut.rows_q == dut.rows_of(dut.key_q.spi));
      if (swap) swap_of_the_nest : assert (dut.nest_q.valid && dut.key_q == dut.nest_q.key
          && dut.entry_q == dut.mem[dut.last_place_q]
          && dut.last_place_q == dut.place_of(dut.rows_q, dut.turn_q[1], dut.turn_q[0]));
      // A scan: read so far, compared so far.
      if (scan && dut.step_q != '0) word_of_scan : assert (dut.entry_q == dut.mem[scanned_place]
          && dut.last_place_q == scanned_place);
      if ((scan && dut.step_q != '0) || settle || act) nest_is_compared : assert ((dut.nest_differences_q == '0)
          == (dut.nest_q.key == dut.key_q) && (dut.step_q == 3'd1 || dut.nest_same_q == (dut.nest_q.key == dut.key_q)));
      if ((scan && dut.step_q >= 3'd2) || settle) place_is_compared : assert (dut.compared_place_q == compared_place
          && dut.compared_valid_q == dut.mem[compared_place].valid && dut.compared_sa_q == dut.mem[compared_place].sa
          && (dut.differences_q == '0) == (dut.mem[compared_place].key == dut.key_q));
      if ((scan || settle || act) && dut.room_q) room_is_empty : assert (!dut.mem[dut.room_place_q].valid && room_is_its_own);
      if (((scan && dut.step_q >= 3'd3) || settle || act) && dut.purpose_q != 2'd2) begin
        if (dut.hit_q && !nest_hit) hit_is_the_key : assert (dut.mem[dut.hit_place_q].valid
            && dut.mem[dut.hit_place_q].key == dut.key_q);
        if (dut.key_q == watched_i) hit_so_far : assert (dut.hit_q == (in_nest || |(in_place & told))
            && (!dut.hit_q || dut.hit_sa_q == installed_sa_d));
      end
      if (dut.settled_q) restless_until_steps : assert (dut.restless_q
          == (dut.nest_q.valid && 32'(dut.pushes_q) < MaxSteps));
      narrow_inside : assert ((!dut.nest_q.valid || narrow(dut.nest_q.key)) && all_narrow);
      states : assert (state <= 3'd5);
      if (emptying) emptied_so_far : assert (still_there == '0 && !dut.nest_q.valid && !installed_q && !changing_q
          && !looking_q);
      else begin
        in_one_place : assert ($onehot0({in_nest, in_place}));
        there_if_installed : assert ((in_nest || |in_place) == installed_d);
        in_its_own : assert ((in_place & ~is_own) == '0);
        with_its_sa : assert ((in_place & ~right_sa) == '0 && (!in_nest || dut.nest_q.sa == installed_sa_d));
      end
      // Entries are pushed around behind 60 cycles, too deep for a trace: the bench does it.
      found_beside_a_change : cover (watched_look && found_o && changing_q);
      gone : cover (watched_look && !found_o && removed_q);
    end
  end

endmodule
