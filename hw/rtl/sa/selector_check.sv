// Whether a packet is inside the traffic selectors of its SA (RFC 4301 §5.2): inside one of those for our side, and inside
// one of those for the peer's.
//
// The selectors of all SAs are in one pool, those of an SA in a row. One is compared each cycle, with all that it has.

module selector_check
  import selector_pkg::*;
#(
  // Selectors in the pool.
  parameter int unsigned NSelectors = 512,
  // How many an SA has at most.
  parameter int unsigned MaxPerSa = 16,
  localparam int unsigned IndexWidth = NSelectors > 1 ? $clog2(NSelectors) : 1,
  localparam int unsigned CountWidth = $clog2(MaxPerSa + 1)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  input  logic                  write_i,
  input  logic [IndexWidth-1:0] write_index_i,
  input  selector_t             write_selector_i,

  input  logic                  valid_i,
  output logic                  ready_o,
  // The SA's: the first of them, and how many. Of none, nothing is inside.
  input  logic [IndexWidth-1:0] first_i,
  input  logic [CountWidth-1:0] count_i,
  // Two cycles after the request.
  input  flow_t                 flow_i,
  // For one cycle, max(count, 1) + 4 cycles after the request.
  output logic                  done_o,
  // From then until the next request's first selector is counted in, five cycles behind that request.
  output logic                  inside_o
);

  if (MaxPerSa < 1 || MaxPerSa > NSelectors) begin : gen_bad_max
    $error("MaxPerSa is 1 to NSelectors");
  end

  selector_t mem [NSelectors];
  // As it is read, and in a register of its own: what memory gives is late for such comparisons.
  selector_t read_q, selector_q;

  flow_t flow_q;
  logic [IndexWidth-1:0] index_q;
  logic [CountWidth-1:0] left_q;

  // A request is a row of slots, one for each selector, or an empty one if there are none. They are read, held, compared and
  // counted in, a stage behind the other; the next request's are right behind.
  typedef struct packed {
    // There is a slot; with a selector; the request's first; its last.
    logic valid;
    logic selector;
    logic first;
    logic last;
  } slot_t;
  slot_t slot, read_slot_q, held_slot_q, compared_slot_q;
  logic busy_q, start, begun_q, flow_comes_q;
  assign slot = '{valid: busy_q, selector: busy_q && left_q != '0, first: begun_q, last: busy_q && ready_o};
  assign ready_o = !busy_q || left_q <= CountWidth'(1);
  assign start = valid_i && ready_o;

  always_ff @(posedge clk_i) begin
    if (write_i) mem[write_index_i] <= write_selector_i;
    read_q <= mem[index_q];
    selector_q <= read_q;
  end

  // One selector against the packet, with both of its ends: which of them it is for would be late for as many bits.
  logic [1:0][127:0] address;
  logic [1:0][15:0] port;
  assign address = {flow_q.remote_address, flow_q.local_address};
  assign port = {flow_q.remote_port, flow_q.local_port};

  logic any_port, opaque;
  assign any_port = selector_q.port_start == '0 && selector_q.port_end == '1;
  assign opaque = selector_q.port_start == '1 && selector_q.port_end == '0;

  // What stands for itself in registers, so that the comparisons have a cycle of their own. Addresses are compared in four
  // parts; a carry through all 128 bits takes too long.
  logic same_kind_q, remote_q;
  logic [1:0] port_q;
  logic [1:0][3:0] above_q, from_q, below_q, to_q;  // part by part: >, >=, <, <=

  // Two numbers compared, out of comparisons of their parts: with equality if all parts are equal.
  function automatic logic joined(input logic [3:0] strictly, input logic [3:0] or_equal);
    joined = 1'b1;
    for (int i = 0; i < 4; i++) joined = strictly[i] || (or_equal[i] && joined);
  endfunction

  logic local_inside_q, remote_inside_q, match;
  assign match = compared_slot_q.selector && same_kind_q && port_q[remote_q]
      && joined(above_q[remote_q], from_q[remote_q]) && joined(below_q[remote_q], to_q[remote_q]);

  always_ff @(posedge clk_i) begin
    if (start) begin
      index_q <= first_i;
      left_q <= count_i;
    end else begin
      index_q <= index_q + 1'b1;
      if (left_q != '0) left_q <= left_q - 1'b1;
    end
    // The last slot of the request in front is compared in that cycle, and the first of this one in the next.
    if (flow_comes_q) flow_q <= flow_i;
    if (compared_slot_q.valid) begin
      local_inside_q <= (local_inside_q && !compared_slot_q.first) || (match && !remote_q);
      remote_inside_q <= (remote_inside_q && !compared_slot_q.first) || (match && remote_q);
    end
    remote_q <= selector_q.remote;
    same_kind_q <= selector_q.v6 == flow_q.v6
        && (selector_q.protocol == '0 || selector_q.protocol == flow_q.protocol);
    for (int d = 0; d < 2; d++) begin
      for (int i = 0; i < 4; i++) begin
        above_q[d][i] <= address[d][32*i+:32] > selector_q.start[32*i+:32];
        from_q[d][i] <= address[d][32*i+:32] >= selector_q.start[32*i+:32];
        below_q[d][i] <= address[d][32*i+:32] < selector_q.last[32*i+:32];
        to_q[d][i] <= address[d][32*i+:32] <= selector_q.last[32*i+:32];
      end
      port_q[d] <= any_port
          || (flow_q.has_ports ? port[d] >= selector_q.port_start && port[d] <= selector_q.port_end : opaque);
    end
    if (!rst_ni) begin
      busy_q <= 1'b0;
      begun_q <= 1'b0;
      flow_comes_q <= 1'b0;
      read_slot_q <= '0;
      held_slot_q <= '0;
      compared_slot_q <= '0;
      done_o <= 1'b0;
    end else begin
      busy_q <= start || (busy_q && !ready_o);
      begun_q <= start;
      flow_comes_q <= begun_q;
      read_slot_q <= slot;
      held_slot_q <= read_slot_q;
      compared_slot_q <= held_slot_q;
      done_o <= compared_slot_q.last;
    end
  end

  assign inside_o = local_inside_q && remote_inside_q;

endmodule
