// Reads the headers of IPv4 and IPv6 packets (RFC 791, RFC 8200) as they go by, a beat a cycle, with any gaps.
//
// Beats of one packet follow those of another; the first after reset and the first behind last_i begin a packet. Five
// cycles after its last beat valid_o is high for one cycle; header_o stays until the next packet's.
//
//   arrive    kinds of the protocol numbers that may stand in the beat; which words belong to an IPv4 header
//   walk      where in the beat extension headers begin; sums of the checksum
//   find      what those headers say, and where the upper layer begins
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

  // What the walk wants to know of 8 bytes if a header begins with them.
  typedef struct packed {
    kind_t      next;     // it begins with what follows it
    logic [4:0] lengths;  // whether its length is so many units of 8 bytes, not counting the first
    logic       later;    // the offset in a fragment header is not zero (RFC 8200 §4.5)
  } half_t;

  function automatic half_t half_of(input protocol_t next, input logic [7:0] length, input logic [12:0] offset);
    half_of.next = kind_of(next);
    for (int i = 0; i < 5; i++) half_of.lengths[i] = length == 8'(i);
    half_of.later = offset != '0;
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
  half_t high1_q, low1_q;
  kind_t next_kind1_q;
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
    data1_q <= leftmost_first(data_i);
    if (valid_i) begin
      if (first_q) ihl_q <= data_i[3:0];
      if (first_q) beat_count_q <= 3'd1;
      else if (!beat_count_q[2]) beat_count_q <= beat_count_q + 1'b1;
      first1_q <= first_q;
      upper1_q <= upper_first_i;
      last1_q <= last_i;
      // IPv6's header says in byte 6 what follows it.
      next_kind1_q <= kind_of(data_i[55:48]);
      high1_q <= half_of(data_i[7:0], data_i[15:8], {data_i[23:16], data_i[31:27]});
      low1_q <= half_of(data_i[71:64], data_i[79:72], {data_i[87:80], data_i[95:91]});
      in_header1_q <= in_header;
    end
  end

  // ---- walk

  // What the next half of a beat is compared with, and nothing else: this goes round in a cycle.
  typedef struct packed {
    kind_t      kind;   // of the header that is due; not walked: the walk is over
    logic [7:0] skip;   // units of 8 bytes until it begins
    logic [3:0] skips;  // whether they are so many
  } walk_t;

  // An extension header is due at once. Routing headers and hop-by-hop options are walked like destination options.
  localparam walk_t UpperStart = '{
    kind: '{walked: 1'b1, destination: 1'b1, default: 1'b0}, skip: 8'd0, skips: 4'b0001
  };
  // From the second beat to byte 40.
  localparam walk_t Ipv6Start = '{kind: '0, skip: 8'd3, skips: 4'b1000};

  // RFC 8200 §4.5: the fragment header has no length; the byte is reserved. In a later fragment nothing follows that could
  // be read as a header.
  function automatic kind_t behind(input logic fragment, input kind_t next, input logic later);
    behind = next;
    behind.walked = next.walked && !(fragment && later);
  endfunction

  walk_t walk_q, stepped, walk_d;
  logic is_v4, is_v6;
  logic high_begins, low_begins, high_short;
  kind_t high_behind, low_kind;
  logic [7:0] high_length, low_length;

  assign is_v4 = data1_q[127:124] == 4'd4;
  assign is_v6 = data1_q[127:124] == 4'd6;
  assign high_length = data1_q[119:112];
  assign low_length = data1_q[55:48];

  // Two headers of 8 bytes may begin in one beat. A header that is longer than its packet is not noticed here: the upper
  // layer is behind the packet's end then, wherever the walk goes from there.
  assign high_begins = walk_q.kind.walked && walk_q.skips[0];
  assign high_short = walk_q.kind.fragment || high1_q.lengths[0];
  assign high_behind = behind(walk_q.kind.fragment, high1_q.next, high1_q.later);
  assign low_begins = high_begins ? high_short && high_behind.walked : walk_q.kind.walked && walk_q.skips[1];
  assign low_kind = high_begins ? high_behind : walk_q.kind;

  always_comb begin
    stepped.kind = low_begins ? behind(low_kind.fragment, low1_q.next, low1_q.later) : low_kind;
    if (low_begins) begin
      stepped.skip = low_length;
      stepped.skips = low1_q.lengths[3:0];
      if (low_kind.fragment) begin
        stepped.skip = '0;
        stepped.skips = 4'b0001;
      end
    end else if (high_begins) begin
      stepped.skip = high_length - 8'd1;
      stepped.skips = high1_q.lengths[4:1];
    end else begin
      stepped.skip = walk_q.skip - 8'd2;
      for (int i = 0; i < 4; i++) stepped.skips[i] = walk_q.skip == 8'(i + 2);
    end
  end

  // A packet that begins behind its IPv6 header is walked from its first beat on.
  always_comb begin
    walk_d = stepped;
    if (first1_q && !upper1_q) begin
      walk_d = Ipv6Start;
      if (is_v6) walk_d.kind = next_kind1_q;
    end
  end

  // What the first beat says.
  typedef struct packed {
    logic        bad;
    logic        v6;
    length_t     total_length;
    logic [7:0]  traffic_class;
    logic [19:0] flow_label;
    logic        dont_fragment;
  } base_t;

  base_t base_d, base2_q;
  logic [16:0] v6_length;

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

  logic valid2_q, first2_q, last2_q;
  logic begins2_q;  // with the packet's own header
  beat_t data2_q;
  logic [11:0] beat2_q;
  logic unfinished2_q, high_short2_q;
  kind_t high2_q, low2_q;  // of headers that begin there; not walked: none does
  logic [3:0][17:0] pair_sums;
  logic [1:0][17:0] sums2_q;

  always_comb begin
    for (int i = 0; i < 4; i++) begin
      pair_sums[i] = in_header1_q[i] ? 18'(data1_q[127-32*i-:16]) + 18'(data1_q[111-32*i-:16]) : '0;
    end
  end

  always_ff @(posedge clk_i) begin
    valid2_q <= rst_ni && valid1_q;
    if (!rst_ni || (valid1_q && last1_q)) walk_q <= UpperStart;
    else if (valid1_q) walk_q <= walk_d;
  end

  always_ff @(posedge clk_i) begin
    data2_q <= data1_q;
    if (valid1_q) begin
      if (first1_q) base2_q <= base_d;
      first2_q <= first1_q;
      last2_q <= last1_q;
      begins2_q <= first1_q && !upper1_q;
      high2_q <= walk_q.kind;
      high2_q.walked <= high_begins;
      high_short2_q <= high_short;
      low2_q <= low_kind;
      low2_q.walked <= low_begins;
      unfinished2_q <= first1_q && !upper1_q ? is_v6 && next_kind1_q.walked : stepped.kind.walked;
      // Stops at the end: a stream without last_i must not look like a packet again and again.
      if (first1_q) beat2_q <= '0;
      else if (beat2_q != '1) beat2_q <= beat2_q + 1'b1;
      sums2_q[0] <= pair_sums[0] + pair_sums[1];
      sums2_q[1] <= pair_sums[2] + pair_sums[3];
    end
  end

  // ---- find

  typedef struct packed {
    logic       bad;
    logic [3:0] count;        // headers that were walked
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

  // What a header says: what follows it, and where that begins.
  typedef struct packed {
    word_at_t   at;
    protocol_t  protocol;
    length_t    protocol_at;
  } next_t;

  function automatic next_t next_of(input word_at_t at, input protocol_t protocol, input logic [7:0] units);
    next_of.at = at + {4'd0, {1'b0, units} + 9'd1, 1'b0};
    next_of.protocol = protocol;
    next_of.protocol_at = {at, 2'b00};
  endfunction

  found_t found_d, found3_q;
  logic [7:0] high_units, low_units;
  next_t high_next, low_next, first_next;
  logic [3:0] count, low_count;

  // RFC 8200 §4.5: as above.
  assign high_units = high2_q.fragment ? 8'd0 : data2_q[119:112];
  assign low_units = low2_q.fragment ? 8'd0 : data2_q[55:48];
  assign high_next = next_of({beat2_q, 2'b00}, data2_q[127:120], high_units);
  assign low_next = next_of({beat2_q, 2'b10}, data2_q[63:56], low_units);
  assign first_next = base2_q.v6 ? '{at: Ipv6Words, protocol: data2_q[79:72], protocol_at: 16'd6} :
      '{at: {10'd0, data2_q[123:120]}, protocol: data2_q[55:48], protocol_at: 16'd9};
  assign count = first2_q ? '0 : found3_q.count;
  assign low_count = count + 4'(high2_q.walked);

  always_comb begin
    found_d = found3_q;
    if (first2_q) found_d = '0;
    if (begins2_q) begin
      found_d.fragment = !base2_q.v6 && data2_q[77:64] != '0;
      found_d.later = !base2_q.v6 && data2_q[76:64] != '0;
      {found_d.at, found_d.protocol, found_d.protocol_at} = first_next;
      {found_d.esp_at, found_d.esp_protocol, found_d.esp_protocol_at} = first_next;
    end else begin
      found_d.count = low_count + 4'(low2_q.walked);
      // RFC 8200 §4.1: hop-by-hop options come right behind the IPv6 header, or not at all.
      if (high2_q.walked && (count == MostHeaders || (high2_q.hop_by_hop && count != '0))) found_d.bad = 1'b1;
      if (low2_q.walked && (low_count == MostHeaders || (low2_q.hop_by_hop && low_count != '0))) found_d.bad = 1'b1;
      // A second fragment header does not make a whole datagram of a part. Behind one of a later part the walk ends.
      if (high2_q.walked && high2_q.fragment) begin
        found_d.later = data2_q[111:99] != '0;
        if (data2_q[111:99] != '0 || data2_q[96]) found_d.fragment = 1'b1;
      end
      if (low2_q.walked && low2_q.fragment) begin
        found_d.later = data2_q[47:35] != '0;
        if (data2_q[47:35] != '0 || data2_q[32]) found_d.fragment = 1'b1;
      end
      if (low2_q.walked) {found_d.at, found_d.protocol, found_d.protocol_at} = low_next;
      else if (high2_q.walked) {found_d.at, found_d.protocol, found_d.protocol_at} = high_next;
      // RFC 4303 §3.1.1: ESP goes behind all but destination options that no routing or fragment header follows.
      if (low2_q.walked && !low2_q.destination) begin
        {found_d.esp_at, found_d.esp_protocol, found_d.esp_protocol_at} = low_next;
      end else if (high2_q.walked && !high2_q.destination) begin
        {found_d.esp_at, found_d.esp_protocol, found_d.esp_protocol_at} = high_next;
      end
    end
  end

  // Beats until the upper layer begins, as far as it is known where: 0 there, and ever after.
  logic [7:0] until_d, until3_q;
  logic here, here3_q;

  always_comb begin
    until_d = until3_q == '0 ? '0 : until3_q - 1'b1;
    here = until3_q == 8'd1;
    if (high2_q.walked) begin
      until_d = {1'b0, high_units[7:1]} + 8'(high_units[0]);
      here = high_short2_q;
    end
    if (low2_q.walked) begin
      until_d = {1'b0, low_units[7:1]} + 8'd1;
      here = 1'b0;
    end
    if (begins2_q) begin
      until_d = base2_q.v6 ? 8'd2 : {6'd0, data2_q[123:122]};
      here = !base2_q.v6 && data2_q[123:122] == '0;
    end
  end

  logic valid3_q, first3_q, last3_q, unfinished3_q;
  base_t base3_q;
  beat_t data3_q;
  logic [20:0] sum3_q;  // of at most 30 words

  always_ff @(posedge clk_i) begin
    valid3_q <= rst_ni && valid2_q;
  end

  always_ff @(posedge clk_i) begin
    data3_q <= data2_q;
    if (valid2_q) begin
      first3_q <= first2_q;
      last3_q <= last2_q;
      unfinished3_q <= unfinished2_q;
      base3_q <= base2_q;
      until3_q <= until_d;
      here3_q <= here && !unfinished2_q;
      found3_q <= found_d;
      sum3_q <= (first2_q ? '0 : sum3_q) + 21'(sums2_q[0]) + 21'(sums2_q[1]);
    end
  end

  // ---- capture

  // The four words where the upper layer begins; they are in one beat or in two. Turned by the place of the first
  // within its beat, every word of both beats stands where it belongs.
  logic here_q, next_here;
  beat_t turned;
  logic [3:0][31:0] window4_q;
  logic [1:0] place;

  assign place = found3_q.at[1:0];
  assign next_here = here_q && !first3_q;

  always_comb begin
    unique case (place)
      2'd0: turned = data3_q;
      2'd1: turned = {data3_q[95:0], data3_q[127:96]};
      2'd2: turned = {data3_q[63:0], data3_q[127:64]};
      default: turned = {data3_q[31:0], data3_q[127:32]};
    endcase
  end

  logic valid4_q, last4_q;
  found_t found4_q;
  logic unfinished4_q;
  base_t base4_q;
  logic [127:0] source4_q, destination4_q;
  logic second_q, third_q;  // the next beat is the packet's second, third
  logic [20:0] sum4_q;
  logic [16:0] room4_q;  // from the upper layer to the end; negative if the headers are longer than the packet

  always_ff @(posedge clk_i) begin
    valid4_q <= rst_ni && valid3_q;
  end

  always_ff @(posedge clk_i) begin
    if (valid3_q) begin
      last4_q <= last3_q;
      found4_q <= found3_q;
      unfinished4_q <= unfinished3_q;
      base4_q <= base3_q;
      room4_q <= {1'b0, base3_q.total_length} - {1'b0, found3_q.at, 2'b00};
      sum4_q <= sum3_q;

      here_q <= here3_q;
      for (int i = 0; i < 4; i++) begin
        if (3'(i) + {1'b0, place} < 3'd4 ? here3_q : next_here) window4_q[i] <= turned[127-32*i-:32];
      end

      second_q <= first3_q;
      third_q <= second_q && !first3_q;
      if (first3_q) begin
        source4_q <= base3_q.v6 ? {data3_q[63:0], 64'd0} : 128'(data3_q[31:0]);
      end else if (second_q) begin
        if (base3_q.v6) source4_q[63:0] <= data3_q[127:64];
        destination4_q <= base3_q.v6 ? {data3_q[63:0], 64'd0} : 128'(data3_q[127:96]);
      end else if (third_q && base3_q.v6) begin
        destination4_q[63:0] <= data3_q[127:64];
      end
    end
  end

  // ---- answer

  ip_header_t header_d, header_q;
  logic valid_q;
  logic sum_right, udp_esp;
  length_t udp_length, room;

  assign room = room4_q[15:0];
  assign udp_length = window4_q[1][31:16];
  // RFC 1071: a header with a right checksum adds up to 65535 with the carries added in, and these are at most 31.
  assign sum_right = sum4_q[15:0] == ~{11'd0, sum4_q[20:16]};
  // RFC 3948 §2.1, §2.2: behind UDP there is ESP, or IKE behind four zero bytes, or a keepalive of one byte.
  assign udp_esp = found4_q.protocol == Udp && udp_length <= room && udp_length >= UdpBytes + EspBytes
      && window4_q[2] != '0;

  always_comb begin
    header_d.malformed = base4_q.bad || found4_q.bad || unfinished4_q || room4_q[16]
        || (!base4_q.v6 && !sum_right);
    header_d.v6 = base4_q.v6;
    header_d.total_length = base4_q.total_length;
    header_d.traffic_class = base4_q.traffic_class;
    header_d.flow_label = base4_q.flow_label;
    header_d.dont_fragment = base4_q.dont_fragment;
    header_d.fragment = found4_q.fragment;
    header_d.later_fragment = found4_q.later;
    header_d.source = source4_q;
    header_d.destination = destination4_q;
    header_d.protocol = found4_q.protocol;
    header_d.upper_at = {found4_q.at, 2'b00};
    header_d.upper_protocol_at = found4_q.protocol_at;
    header_d.headers = found4_q.count;
    header_d.esp_at = {found4_q.esp_at, 2'b00};
    header_d.protocol_at = found4_q.esp_protocol_at;
    header_d.esp_protocol = found4_q.esp_protocol;

    header_d.has_ports = 1'b0;
    if (found4_q.protocol inside {Tcp, Udp, Dccp, Sctp, UdpLite}) header_d.has_ports = room >= 16'd4;
    if (found4_q.protocol inside {Icmp, Icmpv6}) header_d.has_ports = room >= 16'd2;
    if (found4_q.later) header_d.has_ports = 1'b0;
    header_d.source_port = window4_q[0][31:16];
    header_d.destination_port = found4_q.protocol inside {Icmp, Icmpv6} ? window4_q[0][31:16] : window4_q[0][15:0];

    // RFC 4303 §3.4.1: what ESP receives was reassembled.
    header_d.has_esp = !found4_q.fragment && (found4_q.protocol == Esp ? room >= EspBytes : udp_esp);
    header_d.esp_begin = {found4_q.at, 2'b00};
    header_d.esp_end = base4_q.total_length;
    header_d.spi = window4_q[0];
    header_d.sequence_low = window4_q[1];
    if (found4_q.protocol == Udp) begin
      header_d.esp_begin = {found4_q.at, 2'b00} + UdpBytes;
      header_d.esp_end = {found4_q.at, 2'b00} + udp_length;
      header_d.spi = window4_q[2];
      header_d.sequence_low = window4_q[3];
    end
  end

  always_ff @(posedge clk_i) begin
    valid_q <= rst_ni && valid4_q && last4_q;
  end

  always_ff @(posedge clk_i) begin
    if (valid4_q && last4_q) header_q <= header_d;
  end

  assign valid_o = valid_q;
  assign header_o = header_q;

endmodule
