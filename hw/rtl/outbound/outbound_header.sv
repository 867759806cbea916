// The headers in front of the ciphertext: tunnel mode's outer header (RFC 4301 §5.1.2), UDP (RFC 3948), SPI, sequence
// number and IV (RFC 4303 §2, RFC 4106 §3); and what changes in a header that transport mode keeps.
//
// Six cycles a packet. Sums are made eight words a cycle.

module outbound_header
  import esp_pkg::*;
  import sa_pkg::*;
  import outbound_pkg::*;
  import checksum_pkg::*;
(
  input  logic           clk_i,
  input  logic           rst_ni,

  // The job has to stay until it is taken.
  input  logic           job_valid_i,
  output logic           job_ready_o,
  input  outbound_job_t  job_i,

  output logic           head_valid_o,
  input  logic           head_ready_i,
  output outbound_head_t head_o
);

  // Bytes as they are sent, first byte lowest, of a number.
  function automatic logic [127:0] sent128(input logic [127:0] number);
    for (int i = 0; i < 16; i++) sent128[8*i+:8] = number[8*(15-i)+:8];
  endfunction

  typedef enum logic [2:0] {
    // Nothing to do, or the first addends are chosen: each is chosen a cycle before it is added.
    Idle,
    AddSource,
    AddDestination,
    AddRest,
    AddNumbers,
    Done
  } state_e;
  state_e state_q, state_d;

  // The job, by parts.
  ip_header_t header;
  outbound_form_t form;
  assign header = job_i.header;
  assign form = job_i.form;

  logic v6;
  assign v6 = form.transport ? header.v6 : form.v6;

  // Of the job, which stays, so they are there from its second cycle on.
  logic v6_q, udp_q, dont_fragment_q;
  // What stands in front of UDP or ESP: nothing new, or an outer header.
  logic transport_q, tunnel4_q, tunnel6_q;
  length_t udp_length_q, length_field_q;
  logic [7:0] traffic_class_q;
  logic [19:0] flow_label_q;

  always_ff @(posedge clk_i) begin
    v6_q <= v6;
    transport_q <= form.transport;
    tunnel4_q <= !form.transport && !form.v6;
    tunnel6_q <= !form.transport && form.v6;
    udp_q <= form.udp;
    // What the UDP header counts: all behind the IP header.
    udp_length_q <= job_i.total - job_i.outer;
    // IPv6's length field does not count the header, but it counts extension headers.
    length_field_q <= v6 ? job_i.total - 16'd40 : job_i.total;
    // The outer traffic class (RFC 4301 §5.1.2, RFC 6040 §4.1), and the DF bit.
    traffic_class_q[7:2] <= form.dscp_copy ? header.traffic_class[7:2] : form.dscp;
    traffic_class_q[1:0] <= form.ecn_copy ? header.traffic_class[1:0] : 2'b00;
    unique case (form.df)
      DfCopy:  dont_fragment_q <= header.v6 || header.dont_fragment;
      DfSet:   dont_fragment_q <= 1'b1;
      default: dont_fragment_q <= 1'b0;
    endcase
    if (!form.flow_copy) flow_label_q <= form.flow_label;
    else flow_label_q <= header.v6 ? header.flow_label : '0;
  end

  protocol_t protocol;
  assign protocol = udp_q ? Udp : Esp;

  // 16-bit words to be summed: the fields of an IPv4 header but for addresses and checksum; of transport mode the
  // difference that it makes to the old header (RFC 1624), where the job's addresses are zeros; of UDP over IPv6 the
  // pseudo-header, UDP's header and ESP's.
  logic [15:0] identification;
  assign identification = job_i.sequence_number[15:0];

  // The length counts twice over IPv6: in the pseudo-header and in UDP's own.
  logic [127:0] rest6;
  logic [63:0] rest_kept;
  logic [79:0] rest4;
  assign rest6 = {
    udp_length_q, udp_length_q, 8'h0, Udp, form.source_port, form.destination_port, job_i.id.spi, 16'h0
  };
  assign rest_kept = {~header.total_length, job_i.total, ~{8'h0, header.esp_protocol}, {8'h0, protocol}};
  assign rest4 = {
    8'h45, traffic_class_q, job_i.total, identification, 1'b0, dont_fragment_q, 14'h0, form.hop_limit, protocol
  };

  // The IV is the whole sequence number, and its lower half is in front of it too.
  logic [127:0] numbers;
  assign numbers = {32'h0, job_i.sequence_number[31:0], job_i.sequence_number};

  // What is added next, one bit each: it is many registers' worth of choosing, so the choice is made a cycle ahead.
  logic pick_source_q, pick_destination_q, pick_rest6_q, pick_rest_kept_q, pick_rest4_q, pick_numbers_q;
  always_ff @(posedge clk_i) begin
    // Also while nothing is added.
    pick_source_q <= !rst_ni || !((state_q == Idle && job_valid_i) || state_q == AddSource || state_q == AddDestination);
    pick_destination_q <= state_q == Idle && job_valid_i;
    pick_rest6_q <= pick_destination_q && v6;
    pick_rest_kept_q <= pick_destination_q && !v6 && form.transport;
    pick_rest4_q <= pick_destination_q && !v6 && !form.transport;
    pick_numbers_q <= state_q == AddDestination && v6_q;
  end

  logic [127:0] addend;
  pair_sums_t pairs_q;
  assign addend = ({128{pick_source_q}} & job_i.source) | ({128{pick_destination_q}} & job_i.destination)
      | ({128{pick_rest6_q}} & rest6) | ({128{pick_rest_kept_q}} & 128'(rest_kept))
      | ({128{pick_rest4_q}} & 128'(rest4)) | ({128{pick_numbers_q}} & numbers);

  wide_sum_t sum_q;

  // The words

  logic [319:0] outer6;
  logic [159:0] outer4;
  logic [63:0] udp_header;
  logic [127:0] esp_header;
  logic [15:0] ipv4_checksum;
  assign ipv4_checksum = ~folded(sum_q);

  assign outer6 = {
    sent128(job_i.destination),
    sent128(job_i.source),
    form.hop_limit, protocol, sent16(length_field_q),
    sent32({4'd6, traffic_class_q, flow_label_q})
  };
  assign outer4 = {
    sent32(job_i.destination[31:0]),
    sent32(job_i.source[31:0]),
    sent16(ipv4_checksum), protocol, form.hop_limit,
    sent16({1'b0, dont_fragment_q, 14'h0}), sent16(identification),
    sent16(job_i.total), traffic_class_q, 8'h45
  };

  // A checksum of UDP is zero over IPv4 (RFC 3948 §2.1), and put in behind over IPv6.
  assign udp_header = {16'h0, sent16(udp_length_q), sent16(form.destination_port), sent16(form.source_port)};
  assign esp_header = {
    sent32(job_i.sequence_number[31:0]),
    sent32(job_i.sequence_number[63:32]),
    sent32(job_i.sequence_number[31:0]),
    sent32(job_i.id.spi)
  };

  // In front of ESP are 0, 2, 5, 7, 10 or 12 words.
  logic [511:0] words;
  logic [4:0] count;
  logic [191:0] behind;
  logic [2:0] behind_count;
  assign behind = udp_q ? {esp_header, udp_header} : {64'h0, esp_header};
  assign behind_count = udp_q ? 3'd6 : 3'd4;

  assign words = ({512{transport_q}} & 512'(behind)) | ({512{tunnel4_q}} & 512'({behind, outer4}))
      | ({512{tunnel6_q}} & {behind, outer6});
  assign count = (tunnel4_q ? 5'd5 : 5'd0) + (tunnel6_q ? 5'd10 : 5'd0) + 5'(behind_count);

  always_comb begin
    state_d = state_q;
    unique case (state_q)
      Idle:           if (job_valid_i) state_d = AddSource;
      AddSource:      state_d = AddDestination;
      AddDestination: state_d = AddRest;
      AddRest:        state_d = AddNumbers;
      AddNumbers:     state_d = Done;
      default:        if (head_ready_i) state_d = Idle;
    endcase
  end

  always_ff @(posedge clk_i) begin
    pairs_q <= add_in_pairs(addend);
    if (state_q == Idle) sum_q <= '0;
    else if (state_q != Done) sum_q <= add_pairs(sum_q, pairs_q);
    if (!rst_ni) state_q <= Idle;
    else state_q <= state_d;
  end

  assign job_ready_o = head_valid_o && head_ready_i;
  assign head_valid_o = state_q == Done;
  assign head_o = '{
    words: words,
    count: count,
    length_field: length_field_q,
    protocol: protocol,
    checksum: folded(sum_q),
    udp_checksum: v6_q && udp_q,
    udp_sum: folded(sum_q)
  };

endmodule
