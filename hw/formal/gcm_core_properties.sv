// gcm_core, the way of keys: an arbitrary slot of an arbitrary SA is worked with the round key, and with the power of H, that
// the last command in front of its packet had staged for the SA, at an arbitrary place of each; so all of a packet is of one
// generation. What is computed with them is for aes_round's proof and for the benches.

module gcm_core_properties
  import aes_pkg::*;
  import gcm_pkg::*;
#(
  parameter int unsigned NSa = 2,
  parameter int unsigned Interval = 7,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1,
  localparam int unsigned Powers = powers(Interval),
  localparam int unsigned PlaceWidth = Powers > 1 ? $clog2(Powers) : 1
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic                  slot_valid_i,
  input slot_t                 slot_i,
  input logic [SaWidth-1:0]    slot_sa_i,
  input block_t                round_key_i,
  input block_t                power_i,
  // What is watched: an SA, a place of a round key, and one of a power of H; and a slot that comes with pick_i.
  input logic [SaWidth-1:0]    watched_sa_i,
  input logic [3:0]            place_i,
  input logic [PlaceWidth-1:0] power_place_i,
  input logic                  pick_i,
  // What is staged at those places.
  input logic                  stage_i,
  input block_t                stage_key_i,
  input block_t                stage_power_i
);

  localparam int unsigned Rounds = round_cycles(Interval);
  localparam int unsigned Units = 14 / Interval;
  localparam int unsigned Latency = pipeline_latency(Interval);
  localparam int unsigned Waiting = (Latency + Interval - 1) / Interval;
  localparam int unsigned GhashAge = Latency - Powers - 1;
  // A block has been multiplied by then: its power is at the multiplier from Latency + 1 on, for as long as it is needed.
  localparam int unsigned Needed = Interval <= 2 ? 1 : Interval;
  localparam int unsigned Oldest = Latency + Needed;

  logic slot_ready_o, text_valid_o, tag_valid_o, key_done_o;
  block_t text_o, tag_o;
  logic [4:0] text_bytes_o;
  logic [3:0] round_key_addr_o;
  logic [PlaceWidth-1:0] power_addr_o;

  gcm_core #(
    .NSa(NSa),
    .Interval(Interval)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [SaWidth-1:0] watched_sa_q;
  logic [3:0] place_q, round_key_addr_q;
  logic [PlaceWidth-1:0] power_place_q, power_addr_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    watched_sa_q <= watched_sa_i;
    place_q <= place_i;
    power_place_q <= power_place_i;
    round_key_addr_q <= round_key_addr_o;
    power_addr_q <= power_addr_o;
  end

  // ---- slots

  logic taken, is_first, is_command, is_last;
  logic open_q;
  slot_count_t following, following_q;
  assign taken = slot_valid_i && slot_ready_o;
  assign is_first = slot_i.kind == SlotFirst;
  assign is_command = slot_i.kind == SlotKey;
  assign is_last = slot_i.kind == SlotLast;
  assign following = is_first ? slot_i.following : following_q - 13'd1;

  // ---- what is staged: it stays from the cycle in front of a command on until that is done

  logic commands_q, staged_q;
  block_t stage_key_q, stage_power_q;

  always_ff @(posedge clk_i) begin
    commands_q <= rst_ni && ((taken && is_command) || (commands_q && !key_done_o));
    staged_q <= !rst_ni;
    if (!commands_q && !(taken && is_command) && stage_i) begin
      staged_q <= 1'b1;
      stage_key_q <= stage_key_i;
      stage_power_q <= stage_power_i;
    end
  end

  always_comb begin
    assume (started_q || !rst_ni);
    assume (rst_ni || !slot_valid_i);
    assume (32'(watched_sa_i) < NSa && place_i <= 4'd14 && 32'(power_place_i) < Powers);
    assume (!started_q || (watched_sa_i == watched_sa_q && place_i == place_q && power_place_i == power_place_q));
    if (round_key_addr_q == place_i) assume (round_key_i == stage_key_q);
    if (power_addr_q == power_place_i) assume (power_i == stage_power_q);
    // The duties of who gives the slots: those of a packet follow each other, a command is between two packets.
    if (open_q && slot_ready_o) assume (slot_valid_i);
    if (taken) begin
      assume (slot_i.kind inside {SlotFirst, SlotAad, SlotText, SlotLast, SlotKey});
      assume ((is_first || is_command) == !open_q);
      assume (is_command || is_last == (following == '0));
      assume (32'(slot_sa_i) < NSa);
      assume (!is_command || (!commands_q && !staged_q));
    end
  end

  // ---- the watched SA's keys: those of the last command, those of the one before, and those of the packet that comes in

  logic live_q, before_q, mine_q, mine, own_command;
  block_t key_q, key_before_q, key_packet_q, power_q, power_before_q, power_packet_q;
  assign own_command = taken && is_command && slot_sa_i == watched_sa_i;
  assign mine = is_first ? live_q && slot_sa_i == watched_sa_i : mine_q;

  always_ff @(posedge clk_i) begin
    if (taken) begin
      following_q <= following;
      mine_q <= !is_command && mine;
    end
    if (taken && is_first) begin
      key_packet_q <= key_q;
      power_packet_q <= power_q;
    end
    if (own_command) begin
      key_q <= stage_key_q;
      key_before_q <= key_q;
      power_q <= stage_power_q;
      power_before_q <= power_q;
      before_q <= live_q;
    end
    if (!rst_ni) begin
      open_q <= 1'b0;
      live_q <= 1'b0;
      mine_q <= 1'b0;
    end else begin
      if (taken) open_q <= !is_last && !is_command;
      if (own_command) live_q <= 1'b1;
    end
  end

  // ---- the watched slot, for so many cycles

  logic watching_q, is_block_q, is_first_q, coming_in_q;
  slot_count_t behind_q;
  block_t slot_key_q, slot_power_q;
  logic [6:0] age_q;
  logic [31:0] age;
  assign age = 32'(age_q);

  always_ff @(posedge clk_i) begin
    age_q <= watching_q ? age_q + 7'd1 : 7'd1;
    if (watching_q) begin
      if (taken && is_last) coming_in_q <= 1'b0;
      if (age == Oldest) watching_q <= 1'b0;
    end else if (taken && !is_command && mine && pick_i) begin
      watching_q <= 1'b1;
      is_block_q <= slot_i.kind inside {SlotFirst, SlotText};
      is_first_q <= is_first;
      coming_in_q <= !is_last;
      behind_q <= following;
      slot_key_q <= is_first ? key_q : key_packet_q;
      slot_power_q <= is_first ? power_q : power_packet_q;
    end
    if (!rst_ni) watching_q <= 1'b0;
  end

  // Its place among the powers.
  logic [31:0] power_place;
  assign power_place = 32'(behind_q) >= Powers ? Powers - 1 : 32'(behind_q);

  // ---- where a round has its turn, in cycles behind the slot: it reads its key then, and a command writes it

  logic [31:0] place, turn, written;
  assign place = 32'(place_i);
  assign turn = place == 0 ? 0 : Rounds == 1 ? place : 2 * place - 1;
  // A command writes the power then.
  assign written = Latency - 1 - 32'(power_place_i);

  // What the unit has read in the cycle before, and what is in its memory.
  localparam int unsigned StepWidth = Interval > 1 ? $clog2(Interval) : 0;
  block_t [Units:0] read_keys, kept_keys;
  block_t read_key, kept_key, kept_power;
  logic [31:0] unit, step;
  assign unit = place == 0 ? 0 : (place - 1) / Interval + 1;
  assign step = (place - 1) % Interval;
  assign read_keys[0] = dut.u_cipher.whitening_key;
  assign kept_keys[0] = dut.u_cipher.u_whitening.mem[watched_sa_i];
  for (genvar u = 0; u < int'(Units); u++) begin : gen_unit
    assign read_keys[u+1] = dut.u_cipher.gen_unit[u].u_unit.round_key;
    assign kept_keys[u+1] = dut.u_cipher.gen_unit[u].u_unit.u_keys.mem[(32'(watched_sa_i)<<StepWidth)+step];
  end
  assign read_key = read_keys[unit];
  assign kept_key = kept_keys[unit];
  assign kept_power = dut.u_ghash.u_powers.mem[Powers > 1 ? (32'(watched_sa_i) << PlaceWidth) + 32'(power_place_i) :
      32'(watched_sa_i)];

  // ---- of the state inside

  // The command that is on its way, by its age; 0 if there is none.
  logic [31:0] command_age, phase, since;
  logic own_way, behind_it;
  assign command_age = 32'(dut.age_q);
  assign phase = 32'(dut.u_cipher.phase_q);
  assign since = phase == 0 ? Interval - 1 : phase - 1;
  // It is the watched SA's; and behind the watched slot.
  assign own_way = command_age != 0 && dut.command_sa_q == watched_sa_i;
  assign behind_it = command_age != 0 && command_age < age;

  // Stages of the cipher and of the slots, numbered by the age of what is in them.
  logic command_is_there, others_are_none, slot_is_there, slot_waits;
  logic [31:0] command_stage, stage;
  assign command_stage = (command_age - 1) / Interval;
  assign stage = (age - 1) / Interval;
  always_comb begin
    command_is_there = command_age == 0 || command_age > Rounds * 14;
    others_are_none = 1'b1;
    slot_is_there = !is_block_q || age > Rounds * 14;
    slot_waits = age > Waiting * Interval;
    for (int i = 0; i < int'(Rounds * Units); i++) begin
      if (command_age != 0 && command_stage == 32'(i)) command_is_there = dut.u_cipher.item_q[i].command
          && dut.u_cipher.item_q[i].sa == dut.command_sa_q;
      else if (dut.u_cipher.item_q[i].command) others_are_none = 1'b0;
      if (dut.u_cipher.item_q[i].command && dut.u_cipher.item_q[i].valid) others_are_none = 1'b0;
      if (is_block_q && stage == 32'(i)) slot_is_there = dut.u_cipher.item_q[i].valid
          && dut.u_cipher.item_q[i].sa == watched_sa_i;
    end
    for (int i = 0; i < int'(Waiting); i++) begin
      if (stage == 32'(i)) slot_waits = dut.waiting_q[i].place.valid && dut.waiting_q[i].place.sa == watched_sa_i
          && dut.waiting_q[i].place.first == is_first_q
          && 32'(dut.waiting_q[i].place.following) == (32'(behind_q) > Powers ? Powers : 32'(behind_q));
    end
  end

  // The place that is asked for at a command's age.
  function automatic logic [31:0] asked(input logic [31:0] command);
    return command != 0 && command < Rounds * 14 ? 1 + command / Rounds : 0;
  endfunction

  logic turns_right, asks_right;
  if (Rounds == 1) begin : gen_one_cycle
    assign turns_right = 32'(dut.u_cipher.step) == since && !dut.u_cipher.older;
    assign asks_right = 32'(dut.u_cipher.place_q) == asked(command_age);
  end else begin : gen_two_cycles
    assign turns_right = dut.u_cipher.older == since[0]
        && 32'(dut.u_cipher.step) == since / 2 + (since[0] ? (Interval + 1) / 2 : 0);
    assign asks_right = 32'(dut.u_cipher.place_q) == asked(command_age)
        && dut.u_cipher.moves == (command_age[0] && command_age < Rounds * 14);
  end

  // GHASH writes the powers from the highest on.
  logic writes;
  logic [31:0] writes_at;
  assign writes = command_age > GhashAge && command_age <= GhashAge + Powers;
  assign writes_at = GhashAge + Powers - command_age;

  always_comb begin
    if (started_q && rst_ni) begin
      if (watching_q && is_block_q && age == turn + 1) round_key_of_its_packet : assert (read_key == slot_key_q);
      if (watching_q && age > Latency && power_place == 32'(power_place_i)) power_of_its_packet : assert (
          dut.u_ghash.power_q == slot_power_q && (age != Latency + 1 || dut.u_ghash.valid_q));
      if (key_done_o && live_q) done_when_all_is_new : assert (kept_key == key_q && kept_power == power_q);
      done_then : assert (key_done_o == (command_age == Latency + 1));
      // State.
      in_turn : assert (phase < Interval && slot_ready_o == (phase == 0) && (Interval == 1 || dut.comes == (phase == 1)) && turns_right);
      command_in_step : assert (commands_q == (command_age != 0) && command_age <= Latency + 1
          && (command_age == 0 || command_age % Interval == phase));
      command_on_its_way : assert (command_is_there && others_are_none);
      asked_in_step : assert (asks_right && (command_age < 2 || 32'(round_key_addr_q) == asked(command_age - 1))
          && (command_age != 1 || round_key_addr_q == 4'd1)
          && (command_age != 0 || staged_q || round_key_addr_q == 4'd0));
      powers_in_step : assert (dut.u_ghash.writing_q == writes
          && (!writes || (32'(dut.u_ghash.place_q) == writes_at && dut.u_ghash.command_sa_q == dut.command_sa_q))
          && 32'(dut.u_ghash.next_q) == (writes && writes_at != 0 ? writes_at - 1 : 0)
          && power_addr_q == dut.u_ghash.place_q);
      if (own_way) staged_is_new : assert (live_q && key_q == stage_key_q && power_q == stage_power_q);
      if (live_q) begin
        if (!own_way || command_age > turn) key_is_new : assert (kept_key == key_q);
        else if (before_q) key_is_old : assert (kept_key == key_before_q);
        if (!own_way || command_age > written) power_is_new : assert (kept_power == power_q);
        else if (before_q) power_is_old : assert (kept_power == power_before_q);
      end
      if (open_q) packet_is_kept : assert (following_q != '0 && dut.following_q == following_q
          && (!mine_q || dut.sa_q == watched_sa_i));
      if (open_q && mine_q) packet_is_of_the_last : assert (live_q && key_packet_q == key_q && power_packet_q == power_q);
      if (watching_q) begin
        slot_in_step : assert (age >= 1 && age <= Oldest && age % Interval == phase && live_q
            && command_age != age);
        slot_on_its_way : assert (slot_is_there && slot_waits);
        if (coming_in_q) packet_comes_in : assert (open_q && mine_q && 32'(following_q) + stage == 32'(behind_q)
            && !behind_it && slot_key_q == key_packet_q && slot_power_q == power_packet_q);
        else all_are_behind : assert (age > 32'(behind_q) * Interval
            && (!behind_it || age >= command_age + (32'(behind_q) + 1) * Interval));
        if (age <= turn) slot_key_is_kept : assert (behind_it && own_way ? before_q && slot_key_q == key_before_q
            : slot_key_q == key_q);
        if (age < Latency) slot_power_is_kept : assert (behind_it && own_way ? before_q && slot_power_q == power_before_q
            : slot_power_q == power_q);
        if (age == Latency || (age > Latency && age < Oldest)) begin
          if (power_place == 32'(power_place_i)) power_is_read : assert (dut.u_ghash.power == slot_power_q
              && (age != Latency || dut.u_ghash.comes_q));
        end
      end
      old_keys_in_front : cover (watching_q && is_block_q && behind_it && own_way && age == turn + 1
          && slot_key_q != key_q);
      new_keys_behind : cover (watching_q && is_block_q && own_way && command_age > age && age == turn + 1 && before_q
          && slot_key_q != key_before_q);
      command_right_behind : cover (watching_q && own_way && age == Latency + 1 && age == command_age + Interval);
    end
  end

endmodule
