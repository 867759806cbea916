// What is to be said of an opened packet if it is authentic: the trailer (RFC 4303 §2.4 to §2.7), the packet in it, its ECN
// (RFC 6040 §4.2), the traffic selectors (RFC 4301 §5.2); and what changes in it on the way out.
//
// The first of these that is not right is the reason. A packet takes nine cycles, with up to eight selectors; with more of
// them as many and one. What the selectors say comes while the next packet is looked at.
//
// Transport mode over IPv6: extension headers in the text are walked, but behind a fragment header, which is taken for one
// without ports, what it names is not.

module inbound_inspect
  import esp_pkg::*;
  import reason_pkg::*;
  import selector_pkg::*;
  import inbound_pkg::*;
#(
  // As selector_check has them.
  parameter int unsigned NSelectors = 512,
  parameter int unsigned MaxPerSa = 16,
  localparam int unsigned IndexWidth = NSelectors > 1 ? $clog2(NSelectors) : 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,

  input  logic                  selector_write_i,
  input  logic [IndexWidth-1:0] selector_index_i,
  input  selector_t             selector_i,

  // From inbound_text; stays until it is taken.
  input  logic                  opened_valid_i,
  output logic                  opened_ready_o,
  input  opened_t               opened_i,

  // For one cycle.
  output logic                  content_valid_o,
  output content_t              content_o
);

  localparam int unsigned CountWidth = $clog2(MaxPerSa + 1);
  localparam int unsigned CountBits = CountWidth < 8 ? CountWidth : 8;
  // As ip_parser has it: in transport mode they are in front of ESP and behind it.
  localparam logic [3:0] MostHeaders = 4'd10;
  localparam logic [1:0] NotEct = 2'b00;
  localparam logic [1:0] Ect1 = 2'b01;
  localparam logic [1:0] Ect0 = 2'b10;
  localparam logic [1:0] Ce = 2'b11;

  if (NSelectors > 65536) begin : gen_many_selectors
    $error("an SA names its first selector with 16 bits");
  end
  if (MaxPerSa > 255) begin : gen_many_per_sa
    $error("an SA counts its selectors with 8 bits");
  end

  function automatic logic [127:0] leftmost_first(input beat_t data);
    for (int i = 0; i < 16; i++) leftmost_first[8*i+:8] = data[8*(15-i)+:8];
  endfunction

  typedef enum logic [1:0] {
    Idle,
    Place,
    Ask,
    Wait
  } state_e;
  state_e state_q, state_d;
  // Steps of the checksum that are behind.
  logic [2:0] step_q;

  text_plan_t plan;
  inner_t inner;
  assign plan = opened_i.plan;
  assign inner = opened_i.inner;

  // Idle: how long the payload is, and what it is said to be.

  logic tunnel_q;
  logic [16:0] payload_q;  // negative if the pad length counts more than there is
  logic dummy_q, is_v4_q, is_v6_q, walked_q, fragment_q, misplaced_q, icmp_q;

  always_ff @(posedge clk_i) begin
    if (state_q == Idle) begin
      tunnel_q <= !plan.transport;
      icmp_q <= opened_i.next_header inside {Icmp, Icmpv6};
      payload_q <= {1'b0, plan.body} - 17'd2 - {9'd0, opened_i.pad_length};
      dummy_q <= opened_i.next_header == NoNextHeader;
      is_v4_q <= opened_i.next_header == Ipv4;
      is_v6_q <= opened_i.next_header == Ipv6;
      // Of IPv6, and in transport mode: what the text begins with.
      walked_q <= plan.v6 && opened_i.next_header inside {HopByHop, Routing, DestinationOptions};
      fragment_q <= plan.v6 && opened_i.next_header == Fragment;
      // RFC 8200 §4.1: hop-by-hop options come right behind the IPv6 header, or not at all.
      misplaced_q <= plan.v6 && opened_i.next_header == HopByHop && plan.headers != '0;
    end
  end

  // Place: where the upper layer is, and how much of it there is.

  flow_t flow_q;  // has_ports comes in a cycle later
  length_t bytes_q;
  logic later_q, long_q, many_q;
  logic [16:0] room_q;  // negative if the headers are longer than what is there
  logic [127:0] outer_source, outer_destination;

  always_comb begin
    outer_source = 128'({opened_i.first[103:96], opened_i.first[111:104], opened_i.first[119:112], opened_i.first[127:120]});
    outer_destination = 128'({opened_i.second[7:0], opened_i.second[15:8], opened_i.second[23:16], opened_i.second[31:24]});
    if (plan.v6) begin
      outer_source = leftmost_first({opened_i.second[63:0], opened_i.first[127:64]});
      outer_destination = leftmost_first({opened_i.third, opened_i.second[127:64]});
    end
  end

  always_ff @(posedge clk_i) begin
    if (state_q == Place) begin
      long_q <= {1'b0, inner.total_length} > payload_q;
      many_q <= {1'b0, plan.headers} + {1'b0, inner.headers} > {1'b0, MostHeaders};
      later_q <= inner.later_fragment && (tunnel_q || walked_q);
      bytes_q <= tunnel_q ? inner.total_length : plan.kept + payload_q[15:0];
      if (tunnel_q) room_q <= {1'b0, inner.total_length} - {1'b0, inner.upper_at};
      else room_q <= payload_q - {1'b0, walked_q ? inner.upper_at : 16'd0};
      flow_q.has_ports <= 1'b0;
      flow_q.v6 <= tunnel_q ? inner.v6 : plan.v6;
      flow_q.local_address <= tunnel_q ? inner.destination : outer_destination;
      flow_q.remote_address <= tunnel_q ? inner.source : outer_source;
      if (tunnel_q || walked_q) begin
        flow_q.protocol <= inner.protocol;
        flow_q.local_port <= inner.destination_port;
        flow_q.remote_port <= inner.source_port;
      end else begin
        flow_q.protocol <= fragment_q ? opened_i.text[7:0] : opened_i.next_header;
        flow_q.remote_port <= sent16(opened_i.text[15:0]);
        // Type and code stand for both ends (RFC 7296 §3.13.1).
        if (icmp_q) flow_q.local_port <= sent16(opened_i.text[15:0]);
        else flow_q.local_port <= sent16(opened_i.text[31:16]);
      end
    end
  end

  // Ask, Wait: the selectors.

  flow_t flow;
  always_comb begin
    flow = flow_q;
    flow.has_ports = 1'b0;
    if (flow_q.protocol inside {Tcp, Udp, Dccp, Sctp, UdpLite}) flow.has_ports = room_q >= 17'd4;
    if (flow_q.protocol inside {Icmp, Icmpv6}) flow.has_ports = room_q >= 17'd2;
    if (later_q || (fragment_q && !tunnel_q) || room_q[16]) flow.has_ports = 1'b0;
  end

  logic is_inside, ask_ready, asked, done, done_q;
  assign asked = state_q == Ask && ask_ready;

  selector_check #(
    .NSelectors(NSelectors),
    .MaxPerSa(MaxPerSa)
  ) u_selectors (
    .clk_i,
    .rst_ni,
    .write_i(selector_write_i),
    .write_index_i(selector_index_i),
    .write_selector_i(selector_i),
    .valid_i(state_q == Ask),
    .ready_o(ask_ready),
    .flow_i(flow),
    .first_i(IndexWidth'(plan.selector_first)),
    .count_i(CountWidth'(plan.selector_count[CountBits-1:0])),
    .done_o(done),
    .inside_o(is_inside)
  );

  // ECN (RFC 6040 §4.2, figure 4), and what it does to the first word of an IPv4 header.

  logic [1:0] ecn;
  logic ecn_change, ecn_drop;
  logic [15:0] ecn_delta;
  assign ecn_drop = inner.ecn == NotEct && plan.ecn == Ce;
  always_comb begin
    ecn = inner.ecn;
    ecn_delta = 16'd0;
    unique case ({inner.ecn, plan.ecn})
      {Ect0, Ect1}: {ecn, ecn_delta} = {Ect1, ~16'd1};
      {Ect0, Ce}: {ecn, ecn_delta} = {Ce, 16'd1};
      {Ect1, Ce}: {ecn, ecn_delta} = {Ce, 16'd2};
      default: ;
    endcase
  end
  assign ecn_change = ecn != inner.ecn;

  // IPv4's checksum follows (RFC 1624 §3, equation 3), a term each cycle, chosen in the cycle before.

  logic [18:0] sum_q;
  logic [15:0] term_q;
  logic [15:0] checksum, old_sum, old_length, old_protocol;
  assign checksum = sent16(~sum_q[15:0]);
  // Taken away is what is complemented.
  assign old_sum = ~sent16(opened_i.first[95:80]);
  assign old_length = ~sent16(opened_i.first[31:16]);
  assign old_protocol = {8'hff, ~opened_i.first[79:72]};

  always_ff @(posedge clk_i) begin
    // The length's old value and the protocol's, and the new ones. A term is right when what it is made of is there: the
    // length is in the third step.
    unique case (step_q)
      3'd0: term_q <= tunnel_q ? ecn_delta : old_length;
      3'd1: term_q <= tunnel_q ? '0 : old_protocol;
      3'd2: term_q <= tunnel_q ? '0 : bytes_q;
      3'd3: term_q <= tunnel_q ? '0 : 16'(opened_i.next_header);
      default: ;
    endcase
    unique case (step_q)
      3'd0: sum_q <= 19'(old_sum);
      3'd1, 3'd2, 3'd3, 3'd4: sum_q <= sum_q + 19'(term_q);
      3'd5, 3'd6: sum_q <= 19'(sum_q[15:0]) + 19'(sum_q[18:16]);
      default: ;
    endcase
  end

  // All but the selectors is known: it waits for what they say, and the next packet begins. There is no second answer before
  // that, since the next packet asks behind this; so the answer stays until it is used.
  logic finish, waits_q, answered;
  assign answered = waits_q && (done || done_q);
  assign finish = state_q == Wait && step_q == 3'd7 && (!waits_q || answered);
  assign opened_ready_o = finish;

  always_comb begin
    state_d = state_q;
    unique case (state_q)
      Idle: if (opened_valid_i) state_d = Place;
      Place: state_d = Ask;
      Ask: if (asked) state_d = Wait;
      default: if (finish) state_d = Idle;
    endcase
  end

  // What is said

  logic bad, bad_q;
  reason_e reason, reason_q;
  always_comb begin
    bad = 1'b1;
    reason = ReasonMalformedEsp;
    if (payload_q[16]) begin
      reason = ReasonMalformedEsp;
    end else if (dummy_q) begin
      reason = ReasonDummy;
    end else if (!opened_i.padding_right || (tunnel_q && !is_v4_q && !is_v6_q)) begin
      reason = ReasonMalformedEsp;
    end else if (tunnel_q && (long_q || inner.malformed || inner.v6 != is_v6_q)) begin
      reason = ReasonMalformedIp;
    end else if (!tunnel_q && (misplaced_q || (walked_q && (inner.malformed || room_q[16] || many_q))
        || (fragment_q && room_q < 17'd8))) begin
      reason = ReasonMalformedIp;
    end else if (tunnel_q && ecn_drop) begin
      reason = ReasonEcnNotCapable;
    end else begin
      bad = 1'b0;
    end
  end

  // What changes

  beat_t first;
  always_comb begin
    first = opened_i.first;
    if (tunnel_q) begin
      if (inner.v6) first[13:12] = ecn;
      else first[9:8] = ecn;
    end else if (plan.v6) begin
      first[47:32] = sent16(bytes_q - 16'd40);
    end else begin
      first[31:16] = sent16(bytes_q);
      first[79:72] = opened_i.next_header;
    end
    if (!(tunnel_q ? inner.v6 : plan.v6)) first[95:80] = checksum;
  end

  content_t content_q;
  always_ff @(posedge clk_i) begin
    bad_q <= bad;
    reason_q <= reason;
    if (finish) begin
      content_q <= '{
        bad: bad_q,
        reason: bad_q ? reason_q : ReasonSelectorMismatch,
        bytes: bytes_q,
        first_valid: !tunnel_q || ecn_change,
        first: first,
        patch_valid: !tunnel_q && plan.v6,
        patch_at: plan.protocol_at,
        patch: opened_i.next_header
      };
    end
    content_o <= content_q;
    content_o.bad <= content_q.bad || !is_inside;
    if (state_q == Idle) step_q <= '0;
    else if (step_q != 3'd7) step_q <= step_q + 1'b1;
    if (!rst_ni) begin
      state_q <= Idle;
      done_q <= 1'b0;
      waits_q <= 1'b0;
      content_valid_o <= 1'b0;
    end else begin
      state_q <= state_d;
      done_q <= !answered && (done || done_q);
      waits_q <= finish || (waits_q && !answered);
      content_valid_o <= answered;
    end
  end

endmodule
