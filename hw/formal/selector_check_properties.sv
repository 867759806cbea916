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
  input logic [CountWidth-1:0] count_i
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

  logic start, busy_q;
  flow_t flow_q;
  logic [IndexWidth-1:0] first_q;
  logic [CountWidth-1:0] count_q;
  // Cycles since the request.
  logic [CountWidth+2:0] age_q;
  assign start = valid_i && ready_o;

  always_comb begin
    assume (started_q || !rst_ni);
    // An SA's selectors are in the pool, and are written while no packet of it is checked.
    if (valid_i) assume (32'(first_i) + 32'(count_i) <= NSelectors && 32'(count_i) <= MaxPerSa);
    if (write_i) assume (32'(write_index_i) < NSelectors);
    if (write_i && busy_q) begin
      assume (32'(write_index_i) < 32'(first_q) || 32'(write_index_i) >= 32'(first_q) + 32'(count_q));
    end
  end

  always_ff @(posedge clk_i) begin
    if (start) begin
      flow_q <= flow_i;
      first_q <= first_i;
      count_q <= count_i;
    end
    age_q <= start ? '0 : age_q + 1'b1;
    if (!rst_ni) busy_q <= 1'b0;
    else busy_q <= start || (busy_q && !done_o);
  end

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

  // Each selector that the SA may have.
  logic [MaxPerSa-1:0] is_local, is_remote;
  for (genvar i = 0; i < int'(MaxPerSa); i++) begin : gen_selector
    logic hits;
    selector_t selector;
    assign selector = dut.mem[first_q+IndexWidth'(i)];
    // Of those that were compared and counted in by now.
    assign hits = i < int'(count_q) && int'(age_q) >= i + 4 && is_inside(selector, flow_q);
    assign is_local[i] = hits && !selector.remote;
    assign is_remote[i] = hits && selector.remote;
  end

  logic [31:0] age, count;
  assign age = 32'(age_q);
  assign count = 32'(count_q);

  always_comb begin
    if (started_q && rst_ni) begin
      if (done_o) answers_are_asked_for : assert (busy_q);
      answer_in_time : assert (done_o == (busy_q && 32'(age_q) == 32'(count_q) + 3));
      if (done_o) inside_by_definition : assert (inside_o == (|is_local && |is_remote));
      if (done_o && count_q == '0) nothing_inside_none : assert (!inside_o);
      // State.
      busy_until_done : assert (ready_o == (!busy_q || done_o));
      if (busy_q) request_in_pool : assert (32'(first_q) + count <= NSelectors && count <= MaxPerSa);
      if (ready_o) rest_is_empty : assert (!dut.read_valid_q && !dut.read_end_q && !dut.held_valid_q
          && !dut.held_end_q && !dut.compared_valid_q);
      if (busy_q && !done_o) begin
        stages : assert (32'(dut.left_q) == (age < count ? count - age : '0) && dut.flow_q == flow_q
            && dut.read_valid_q == (age >= 1 && age <= count) && dut.read_end_q == (age == count + 1)
            && dut.held_valid_q == (age >= 2 && age <= count + 1) && dut.held_end_q == (age == count + 2)
            && dut.compared_valid_q == (age >= 3 && age <= count + 2)
            && (age >= count || dut.index_q == first_q + IndexWidth'(age)));
        counted_so_far : assert (dut.local_inside_q == |is_local && dut.remote_inside_q == |is_remote);
      end
      inside_both : cover (done_o && inside_o && 32'(count_q) == MaxPerSa);
      inside_one : cover (done_o && !inside_o && |is_local && 32'(count_q) == MaxPerSa);
    end
  end

endmodule
