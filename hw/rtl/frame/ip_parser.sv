// Reads the headers of IPv4 and IPv6 packets (RFC 791, RFC 8200) as they go by, a beat a cycle, with any gaps.
//
// Beats of one packet follow those of another; the first after reset and the first behind last_i begin a packet. Four
// cycles after its last beat valid_o is high for one cycle; header_o stays until the next packet's.
//
//   arrive    kinds of the protocol numbers that may stand in the beat; which words belong to an IPv4 header
//   walk      one step along the extension headers for each half of the beat; sums of the checksum
//   capture   addresses, and the 16 bytes where the upper layer begins
//   answer    the comparisons of lengths, and what ports, UDP and ESP are
//
// The parser does not count bytes. It holds all headers against the length that the packet says it has, and who feeds
// it holds total_length against the bytes that are there: if they are fewer, the packet is truncated and nothing of the
// answer means anything; if they are more, those behind are padding of the link (RFC 894) and were not looked at.
// So packets whose length is known only after they went by (decrypted ones, RFC 4303 §2.7) need nothing special.
//
// A packet may also begin behind its IPv6 header (upper_first_i), with an extension header that is no fragment header:
// its places count from there, its length is held against nothing, and of the answer only `malformed`, which speaks of the
// walk alone, the upper layer, its ports, whether it is a fragment and how many headers there are mean anything.
//
// IPv6 packets of more than 65,535 bytes, header included, do not fit length_t and are called malformed.

module ip_parser
  import esp_pkg::*;
(
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       valid_i,
  input  logic       last_i,
  input  beat_t      data_i,
  // With a packet's first beat: what is behind an IPv6 header, without that.
  input  logic       upper_first_i,
  output logic       valid_o,
  output ip_header_t header_o
);

  // RFC 8200 §4.1 has one of each extension header and destination options twice: five. Twice that is generous.
  localparam logic [3:0] MostHeaders = 4'd10;
  // Places in headers, in units of 4 bytes, which all of them are multiples of.
  typedef logic [13:0] word_at_t;
  localparam word_at_t Ipv6Words = 14'd10;
  // SPI, sequence number and IV (RFC 4303 §2, RFC 4106 §3).
  localparam length_t EspBytes = 16'd16;
  localparam length_t UdpBytes = 16'd8;

  // What a protocol number means to the walk. Routing headers are walked and nothing else.
  typedef struct packed {
    logic walked;
    logic hop_by_hop;
    logic fragment;
    logic destination;
  } kind_t;

  function automatic kind_t kind_of(input protocol_t protocol);
    kind_of.hop_by_hop = protocol == HopByHop;
    kind_of.fragment = protocol == Fragment;
    kind_of.destination = protocol == DestinationOptions;
    kind_of.walked = protocol inside {HopByHop, Routing, Fragment, DestinationOptions};
  endfunction

  // The first byte leftmost, as in the drawings of the RFCs.
  function automatic beat_t leftmost_first(input beat_t data);
    for (int i = 0; i < 16; i++) leftmost_first[8*i+:8] = data[8*(15-i)+:8];
  endfunction

  // ---- arrive

  logic first_d, first_q;
  logic [3:0] ihl_q;
  logic [2:0] beat_count_q;  // stops at 4: an IPv4 header has at most 60 bytes
  logic [3:0] in_header;

  assign first_d = valid_i ? last_i : first_q;

  always_comb begin
    for (int i = 0; i < 4; i++) begin
      in_header[i] = first_q || (!beat_count_q[2] && {beat_count_q[1:0], 2'(i)} < ihl_q);
    end
  end

  logic valid1_q, first1_q, last1_q, upper1_q;
  beat_t data1_q;
  kind_t high_kind1_q, low_kind1_q, next_kind1_q;
  logic [3:0] in_header1_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      first_q <= 1'b1;
      valid1_q <= 1'b0;
    end else begin
      first_q <= first_d;
      valid1_q <= valid_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (valid_i) begin
      if (first_q) ihl_q <= data_i[3:0];
      if (first_q) beat_count_q <= 3'd1;
      else if (!beat_count_q[2]) beat_count_q <= beat_count_q + 1'b1;
      first1_q <= first_q;
      upper1_q <= upper_first_i;
      last1_q <= last_i;
      data1_q <= leftmost_first(data_i);
      // An extension header begins with what follows it; IPv6's header has that in byte 6.
      high_kind1_q <= kind_of(data_i[7:0]);
      low_kind1_q <= kind_of(data_i[71:64]);
      next_kind1_q <= kind_of(data_i[55:48]);
      in_header1_q <= in_header;
    end
  end

  // ---- walk

  typedef struct packed {
    logic       bad;
    logic       fragment;
    logic       later;
    word_at_t   at;           // where the header that is due begins,
    protocol_t  protocol;     // what it is,
    length_t    protocol_at;  // and which field says so
    // The same for the place where ESP goes in transport mode.
    word_at_t   esp_at;
    protocol_t  esp_protocol;
    length_t    esp_protocol_at;
  } found_t;

  typedef struct packed {
    kind_t      kind;   // of the header that is due; not walked: the walk is over
    logic [7:0] skip;   // units of 8 bytes until it begins
    logic [3:0] count;  // headers that were walked
    found_t     found;
  } walk_t;

  // The first four bytes of an extension header but for two reserved bits; offset and more are a fragment header's
  // (RFC 8200 §4.5).
  typedef struct packed {
    protocol_t   next;
    logic [7:0]  length;
    logic [12:0] offset;
    logic        more;
  } extension_t;

  // The walk over 8 bytes. A header that is longer than its packet is not noticed here: `at` is behind the packet's end
  // then, wherever the walk goes from there.
  function automatic walk_t step(input walk_t walk, input extension_t extension, input kind_t next_kind);
    logic [7:0] units;  // of 8 bytes, not counting the first
    step = walk;
    // RFC 8200 §4.5: the fragment header has no length; the byte is reserved.
    units = walk.kind.fragment ? '0 : extension.length;
    if (walk.kind.walked && walk.skip != '0) begin
      step.skip = walk.skip - 1'b1;
    end else if (walk.kind.walked) begin
      step.skip = units;
      step.count = walk.count + 1'b1;
      // RFC 8200 §4.1: hop-by-hop options come right behind the IPv6 header, or not at all.
      step.found.bad = walk.found.bad || walk.count == MostHeaders || (walk.kind.hop_by_hop && walk.count != '0);
      step.found.at = walk.found.at + {4'd0, {1'b0, units} + 9'd1, 1'b0};
      step.found.protocol = extension.next;
      step.found.protocol_at = {walk.found.at, 2'b00};
      step.kind = next_kind;
      if (walk.kind.fragment) begin
        step.found.later = extension.offset != '0;
        step.found.fragment = extension.offset != '0 || extension.more;
        // In a later fragment nothing follows that could be read as a header.
        step.kind.walked = next_kind.walked && extension.offset == '0;
      end
      // RFC 4303 §3.1.1: ESP goes behind all but destination options that no routing or fragment header follows.
      if (!walk.kind.destination) begin
        step.found.esp_at = step.found.at;
        step.found.esp_protocol = step.found.protocol;
        step.found.esp_protocol_at = step.found.protocol_at;
      end
    end
  endfunction

  // What the first beat says.
  typedef struct packed {
    logic        bad;
    logic        v6;
    length_t     total_length;
    logic [7:0]  traffic_class;
    logic [19:0] flow_label;
    logic        dont_fragment;
  } base_t;

  walk_t start, high_step, walk_d, walk2_q;
  base_t base_d, base2_q;
  logic is_v4, is_v6;
  logic [16:0] v6_length;

  assign is_v4 = data1_q[127:124] == 4'd4;
  assign is_v6 = data1_q[127:124] == 4'd6;
  assign v6_length = {1'b0, data1_q[95:80]} + 17'd40;

  always_comb begin
    base_d.v6 = is_v6;
    base_d.bad = is_v6 ? v6_length[16] : !is_v4 || data1_q[123:120] < 4'd5;
    base_d.total_length = is_v6 ? v6_length[15:0] : data1_q[111:96];
    base_d.traffic_class = is_v6 ? data1_q[123:116] : data1_q[119:112];
    base_d.flow_label = is_v6 ? data1_q[115:96] : '0;
    base_d.dont_fragment = is_v4 && data1_q[78];
    if (upper1_q) begin
      base_d.v6 = 1'b1;
      base_d.bad = 1'b0;
      base_d.total_length = '1;
    end
  end

  always_comb begin
    start = '0;
    if (is_v6) begin
      start.kind = next_kind1_q;
      start.skip = 8'd3;  // from the second beat to byte 40
      start.found.at = Ipv6Words;
      start.found.protocol = data1_q[79:72];
      start.found.protocol_at = 16'd6;
    end else begin
      start.found.fragment = data1_q[77:64] != '0;
      start.found.later = data1_q[76:64] != '0;
      start.found.at = {10'd0, data1_q[123:120]};
      start.found.protocol = data1_q[55:48];
      start.found.protocol_at = 16'd9;
    end
    start.found.esp_at = start.found.at;
    start.found.esp_protocol = start.found.protocol;
    start.found.esp_protocol_at = start.found.protocol_at;
  end

  // An extension header is due at once. Routing headers and hop-by-hop options are walked like destination options.
  walk_t upper_start, walk_from;

  always_comb begin
    upper_start = '0;
    upper_start.kind.walked = 1'b1;
    upper_start.kind.destination = 1'b1;
  end

  // Two headers of 8 bytes may begin in one beat.
  assign walk_from = first1_q ? upper_start : walk2_q;
  assign high_step = step(walk_from, {data1_q[127:99], data1_q[96]}, high_kind1_q);
  assign walk_d = first1_q && !upper1_q ? start : step(high_step, {data1_q[63:35], data1_q[32]}, low_kind1_q);

  logic valid2_q, first2_q, last2_q;
  beat_t data2_q;
  logic [11:0] beat2_q;
  logic [3:0][17:0] pair_sums;
  logic [1:0][17:0] sums2_q;

  always_comb begin
    for (int i = 0; i < 4; i++) begin
      pair_sums[i] = in_header1_q[i] ? 18'(data1_q[127-32*i-:16]) + 18'(data1_q[111-32*i-:16]) : '0;
    end
  end

  always_ff @(posedge clk_i) begin
    valid2_q <= rst_ni && valid1_q;
  end

  always_ff @(posedge clk_i) begin
    if (valid1_q) begin
      if (first1_q) base2_q <= base_d;
      walk2_q <= walk_d;
      first2_q <= first1_q;
      last2_q <= last1_q;
      data2_q <= data1_q;
      // Stops at the end: a stream without last_i must not look like a packet again and again.
      if (first1_q) beat2_q <= '0;
      else if (beat2_q != '1) beat2_q <= beat2_q + 1'b1;
      sums2_q[0] <= pair_sums[0] + pair_sums[1];
      sums2_q[1] <= pair_sums[2] + pair_sums[3];
    end
  end

  // ---- capture

  // The four words where the upper layer begins; they are in one beat or in two. Turned by the place of the first
  // within its beat, every word of both beats stands where it belongs.
  logic here, here_q, next_here;
  beat_t turned;
  logic [3:0][31:0] window3_q;
  logic [1:0] place;

  assign place = walk2_q.found.at[1:0];
  assign here = !walk2_q.kind.walked && walk2_q.found.at[13:2] == beat2_q;
  assign next_here = here_q && !first2_q;

  always_comb begin
    unique case (place)
      2'd0: turned = data2_q;
      2'd1: turned = {data2_q[95:0], data2_q[127:96]};
      2'd2: turned = {data2_q[63:0], data2_q[127:64]};
      default: turned = {data2_q[31:0], data2_q[127:32]};
    endcase
  end

  logic valid3_q, last3_q;
  found_t found3_q;
  logic [3:0] headers3_q;
  logic unfinished3_q;
  base_t base3_q;
  logic [127:0] source3_q, destination3_q;
  logic second_q, third_q;  // the next beat is the packet's second, third
  logic [20:0] sum3_q;  // of at most 30 words
  logic [16:0] room3_q;  // from the upper layer to the end; negative if the headers are longer than the packet

  always_ff @(posedge clk_i) begin
    valid3_q <= rst_ni && valid2_q;
  end

  always_ff @(posedge clk_i) begin
    if (valid2_q) begin
      last3_q <= last2_q;
      found3_q <= walk2_q.found;
      headers3_q <= walk2_q.count;
      unfinished3_q <= walk2_q.kind.walked;
      base3_q <= base2_q;
      room3_q <= {1'b0, base2_q.total_length} - {1'b0, walk2_q.found.at, 2'b00};
      sum3_q <= (first2_q ? '0 : sum3_q) + 21'(sums2_q[0]) + 21'(sums2_q[1]);

      here_q <= here;
      for (int i = 0; i < 4; i++) begin
        if (3'(i) + {1'b0, place} < 3'd4 ? here : next_here) window3_q[i] <= turned[127-32*i-:32];
      end

      second_q <= first2_q;
      third_q <= second_q && !first2_q;
      if (first2_q) begin
        source3_q <= base2_q.v6 ? {data2_q[63:0], 64'd0} : 128'(data2_q[31:0]);
      end else if (second_q) begin
        if (base2_q.v6) source3_q[63:0] <= data2_q[127:64];
        destination3_q <= base2_q.v6 ? {data2_q[63:0], 64'd0} : 128'(data2_q[127:96]);
      end else if (third_q && base2_q.v6) begin
        destination3_q[63:0] <= data2_q[127:64];
      end
    end
  end

  // ---- answer

  ip_header_t header_d, header_q;
  logic valid_q;
  logic sum_right, udp_esp;
  length_t udp_length, room;

  assign room = room3_q[15:0];
  assign udp_length = window3_q[1][31:16];
  // RFC 1071: a header with a right checksum adds up to 65535 with the carries added in, and these are at most 31.
  assign sum_right = sum3_q[15:0] == ~{11'd0, sum3_q[20:16]};
  // RFC 3948 §2.1, §2.2: behind UDP there is ESP, or IKE behind four zero bytes, or a keepalive of one byte.
  assign udp_esp = found3_q.protocol == Udp && udp_length <= room && udp_length >= UdpBytes + EspBytes
      && window3_q[2] != '0;

  always_comb begin
    header_d.malformed = base3_q.bad || found3_q.bad || unfinished3_q || room3_q[16]
        || (!base3_q.v6 && !sum_right);
    header_d.v6 = base3_q.v6;
    header_d.total_length = base3_q.total_length;
    header_d.traffic_class = base3_q.traffic_class;
    header_d.flow_label = base3_q.flow_label;
    header_d.dont_fragment = base3_q.dont_fragment;
    header_d.fragment = found3_q.fragment;
    header_d.later_fragment = found3_q.later;
    header_d.source = source3_q;
    header_d.destination = destination3_q;
    header_d.protocol = found3_q.protocol;
    header_d.upper_at = {found3_q.at, 2'b00};
    header_d.upper_protocol_at = found3_q.protocol_at;
    header_d.headers = headers3_q;
    header_d.esp_at = {found3_q.esp_at, 2'b00};
    header_d.protocol_at = found3_q.esp_protocol_at;
    header_d.esp_protocol = found3_q.esp_protocol;

    header_d.has_ports = 1'b0;
    if (found3_q.protocol inside {Tcp, Udp, Dccp, Sctp, UdpLite}) header_d.has_ports = room >= 16'd4;
    if (found3_q.protocol inside {Icmp, Icmpv6}) header_d.has_ports = room >= 16'd2;
    if (found3_q.later) header_d.has_ports = 1'b0;
    header_d.source_port = window3_q[0][31:16];
    header_d.destination_port = found3_q.protocol inside {Icmp, Icmpv6} ? window3_q[0][31:16] : window3_q[0][15:0];

    // RFC 4303 §3.4.1: what ESP receives was reassembled.
    header_d.has_esp = !found3_q.fragment && (found3_q.protocol == Esp ? room >= EspBytes : udp_esp);
    header_d.esp_begin = {found3_q.at, 2'b00};
    header_d.esp_end = base3_q.total_length;
    header_d.spi = window3_q[0];
    header_d.sequence_low = window3_q[1];
    if (found3_q.protocol == Udp) begin
      header_d.esp_begin = {found3_q.at, 2'b00} + UdpBytes;
      header_d.esp_end = {found3_q.at, 2'b00} + udp_length;
      header_d.spi = window3_q[2];
      header_d.sequence_low = window3_q[3];
    end
  end

  always_ff @(posedge clk_i) begin
    valid_q <= rst_ni && valid3_q && last3_q;
  end

  always_ff @(posedge clk_i) begin
    if (valid3_q && last3_q) header_q <= header_d;
  end

  assign valid_o = valid_q;
  assign header_o = header_q;

endmodule
