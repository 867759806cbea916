// selector_check: for an arbitrary packet and arbitrary selectors of its SA the answer is the definition's (RFC 4301
// §5.2): inside one of those for our side, and inside one of those for the peer's.

module selector_check_properties
  import selector_pkg::*;
#(
  parameter int unsigned NSelectors = 4,
  parameter int unsigned MaxPerSa = 3,
  localparam int unsigned IndexWidth = NSelectors > 1 ? $clog2(NSelectors) : 1,
  localparam int unsigned CountWidth = $clog2(MaxPerSa + 1)
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic                  write_i,
  input logic [IndexWidth-1:0] write_index_i,
  input selector_t             write_selector_i,
  input logic                  valid_i,
  input flow_t                 flow_i,
  input logic [IndexWidth-1:0] first_i,
  input logic [CountWidth-1:0] count_i,
  // The request that comes with this is watched, if none is.
  input logic                  pick_i
);

  logic ready_o, done_o, inside_o;

  selector_check #(
    .NSelectors(NSelectors),
    .MaxPerSa(MaxPerSa)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;

  logic start;
  assign start = valid_i && ready_o;

  // ---- the watched request, from the cycle behind it to its answer, and how many cycles it is behind

  logic watch_q, ends;
  flow_t flow_q;
  logic [IndexWidth-1:0] first_q;
  logic [CountWidth-1:0] count_q;
  logic [CountWidth+2:0] age_q;
  logic [31:0] age, count, slots;
  assign age = 32'(age_q);
  assign count = 32'(count_q);
  assign slots = count == '0 ? 32'd1 : count;
  assign ends = watch_q && age == slots + 4;

  always_comb begin
    assume (started_q || !rst_ni);
    // An SA's selectors are in the pool, and are written while no packet of it is checked.
    if (valid_i) assume (32'(first_i) + 32'(count_i) <= NSelectors && 32'(count_i) <= MaxPerSa);
    if (write_i) assume (32'(write_index_i) < NSelectors);
    if (write_i && watch_q) begin
      assume (32'(write_index_i) < 32'(first_q) || 32'(write_index_i) >= 32'(first_q) + 32'(count_q));
    end
  end

  always_ff @(posedge clk_i) begin
    if (!watch_q) begin
      first_q <= first_i;
      count_q <= count_i;
    end
    age_q <= watch_q ? age_q + 1'b1 : (CountWidth + 3)'(1);
    if (age == 32'd2) flow_q <= flow_i;
    watch_q <= rst_ni && (watch_q ? !ends : start && pick_i);
  end

  // Requests that have no answer yet.
  logic [2:0] open_q;
  always_ff @(posedge clk_i) open_q <= !rst_ni ? '0 : open_q + 3'(start) - 3'(done_o);

  // The definition. An address or a port is inside a range with its ends. Ports: any; none to be had (OPAQUE); a range.
  function automatic logic is_inside(input selector_t selector, input flow_t flow);
    logic ports;
    logic [127:0] address;
    logic [15:0] port;
    address = selector.remote ? flow.remote_address : flow.local_address;
    port = selector.remote ? flow.remote_port : flow.local_port;
    if (selector.port_start == 16'd0 && selector.port_end == 16'hffff) ports = 1'b1;
    else if (selector.port_start == 16'hffff && selector.port_end == 16'd0) ports = !flow.has_ports;
    else ports = flow.has_ports && port >= selector.port_start && port <= selector.port_end;
    return selector.v6 == flow.v6 && (selector.protocol == 8'd0 || selector.protocol == flow.protocol)
        && address >= selector.start && address <= selector.last && ports;
  endfunction

  // Each selector that the SA may have: of those that were compared and counted in by now.
  logic [MaxPerSa-1:0] is_local, is_remote;
  for (genvar i = 0; i < int'(MaxPerSa); i++) begin : gen_selector
    logic hits;
    selector_t selector;
    assign selector = dut.mem[first_q+IndexWidth'(i)];
    assign hits = i < int'(count_q) && int'(age_q) >= i + 5 && is_inside(selector, flow_q);
    assign is_local[i] = hits && !selector.remote;
    assign is_remote[i] = hits && selector.remote;
  end

  // A stage has the watched request's slots from an age on, as many as there are: what a slot is, and its selector.
  function automatic logic has(input logic [31:0] from);
    return watch_q && age >= from && age < from + slots;
  endfunction

  function automatic logic [3:0] slot(input logic [31:0] from);
    return {1'b1, count != '0, age == from, age == from + slots - 1};
  endfunction

  function automatic logic [IndexWidth-1:0] index(input logic [31:0] from);
    return first_q + IndexWidth'(age - from);
  endfunction

  selector_t compared;
  assign compared = dut.mem[index(4)];

  always_comb begin
    if (started_q && rst_ni) begin
      if (done_o) answers_are_asked_for : assert (open_q != '0);
      if (has(5)) answer_in_time : assert (done_o == ends);
      if (ends) inside_by_definition : assert (inside_o == (|is_local && |is_remote));
      if (ends && count == '0) nothing_inside_none : assert (!inside_o);
      if (has(1)) ready_with_the_last : assert (ready_o == (age == slots));
      // State.
      if (watch_q) request_in_pool : assert (32'(first_q) + count <= NSelectors && count <= MaxPerSa && age >= 1
          && age <= slots + 4);
      all_are_under_way : assert (open_q == 3'(dut.busy_q) + 3'(dut.read_slot_q.last) + 3'(dut.held_slot_q.last)
          + 3'(dut.compared_slot_q.last) + 3'(done_o));
      if (has(1)) slot_is_begun : assert (4'(dut.slot) == slot(1) && 32'(dut.left_q) == (count == '0 ? '0 : count + 1 - age)
          && dut.index_q == index(1));
      if (has(2)) slot_is_read : assert (4'(dut.read_slot_q) == slot(2) && (count == '0 || dut.read_q == dut.mem[index(2)]));
      if (has(3)) slot_is_held : assert (4'(dut.held_slot_q) == slot(3) && (count == '0 || dut.selector_q == dut.mem[index(3)]));
      if (has(4)) slot_is_compared : assert (4'(dut.compared_slot_q) == slot(4));
      if (has(4) && count != '0) compared_by_definition : assert (dut.match == is_inside(compared, flow_q)
          && dut.remote_q == compared.remote);
      if (has(1)) begun_then : assert (dut.begun_q == (age == 1));
      if (watch_q && age >= 2 && age < slots + 2) flow_comes_then : assert (dut.flow_comes_q == (age == 2));
      if (has(3)) flow_is_kept : assert (dut.flow_q == flow_q);
      if (has(5)) counted_so_far : assert (dut.local_inside_q == |is_local && dut.remote_inside_q == |is_remote);
      inside_both : cover (ends && inside_o && count == MaxPerSa);
      inside_one : cover (ends && !inside_o && |is_local && count == MaxPerSa);
      right_behind : cover (ends && inside_o && count == 2 && open_q == 3'd3);
    end
  end

endmodule
