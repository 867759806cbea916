// Takes the text as it comes out of the cipher, writes it into the buffer behind, and notes what is to be known of it: how
// the packet begins, how it ends (pad length, next header, whether the padding is 1, 2, 3, …; RFC 4303 §2.4 to §2.6), and
// what the headers in it say.
//
// Nothing waits here. In transport mode the kept header goes in front; its last beat has come when the text begins, since
// it was read before the packet's First slot was made.
//
// In transport mode over IPv6 what follows the header is known with the last byte only. The text is parsed as if it began
// with an extension header; its first four bytes are kept for the case that it does not.

module inbound_text
  import esp_pkg::*;
  import inbound_pkg::*;
#(
  // Packets between the one that is begun and the one that has its verdict.
  parameter int unsigned Packets = 8
) (
  input  logic       clk_i,
  input  logic       rst_ni,

  // From inbound_stream: each packet when it is begun, and transport mode's header.
  input  logic       plan_valid_i,
  input  text_plan_t plan_i,
  input  logic       part_valid_i,
  output logic       part_ready_o,
  input  beat_t      part_i,

  // From the cipher, with zeros behind the last byte.
  input  logic       text_valid_i,
  input  beat_t      text_i,

  // To packet_buffer.
  output logic       write_valid_o,
  output beat_t      write_data_o,

  output logic       opened_valid_o,
  input  logic       opened_ready_i,
  output opened_t    opened_o
);

  localparam int unsigned CountWidth = $clog2(Packets + 1);

  logic plan_valid, plan_ready, plan_room, part_valid;
  text_plan_t plan;
  beat_t part;
  logic [CountWidth-1:0] plan_count;
  logic [3:0] part_count;

  fifo #(.Width($bits(text_plan_t)), .Depth(Packets)) u_plans (
    .clk_i, .rst_ni,
    .valid_i(plan_valid_i), .ready_o(plan_room), .data_i(plan_i),
    .valid_o(plan_valid), .ready_i(plan_ready), .data_o(plan), .count_o(plan_count)
  );

  // Kept headers come up to the cipher's latency ahead of their turn, which is not more than this for those up to 128 bytes.
  logic take_part;
  fifo #(.Width(128), .Depth(8)) u_parts (
    .clk_i, .rst_ni,
    .valid_i(part_valid_i), .ready_o(part_ready_o), .data_i(part_i),
    .valid_o(part_valid), .ready_i(take_part), .data_o(part), .count_o(part_count)
  );

  // What is left of the packet whose turn it is.
  logic kept_begun_q, text_begun_q, text_last;
  length_t kept_left_q, kept_left, body_left_q, body_left;
  logic [2:0] piece_count;
  assign kept_left = kept_begun_q ? kept_left_q : plan.kept;
  assign body_left = text_begun_q ? body_left_q : plan.body;
  assign text_last = text_valid_i && body_left <= 16'd16;
  assign take_part = plan_valid && part_valid && kept_left != '0;
  assign plan_ready = text_last;

  always_comb begin
    piece_count = 3'd4;
    if (text_valid_i) begin
      if (body_left < 16'd16) piece_count = body_left[4:2];
    end else if (kept_left < 16'd16) begin
      piece_count = kept_left[4:2];
    end
  end

  always_ff @(posedge clk_i) begin
    if (take_part) kept_left_q <= kept_left > 16'd16 ? kept_left - 16'd16 : '0;
    if (text_valid_i) body_left_q <= body_left - 16'd16;
    if (!rst_ni) begin
      kept_begun_q <= 1'b0;
      text_begun_q <= 1'b0;
    end else begin
      if (text_last) kept_begun_q <= 1'b0;
      else if (take_part) kept_begun_q <= 1'b1;
      if (text_valid_i) text_begun_q <= !text_last;
    end
  end

  // How long a piece is takes a while to be said, and packing it another while.
  logic piece_valid_q, piece_last_q;
  logic [2:0] piece_count_q;
  beat_t piece_q;

  always_ff @(posedge clk_i) begin
    piece_valid_q <= rst_ni && (text_valid_i || take_part);
    piece_last_q <= text_last;
    piece_count_q <= piece_count;
    piece_q <= text_valid_i ? text_i : part;
  end

  logic packed_last;
  logic [2:0] packed_count;
  word_packer u_packer (
    .clk_i, .rst_ni,
    .valid_i(piece_valid_q), .count_i(piece_count_q), .data_i(piece_q), .last_i(piece_last_q),
    .valid_o(write_valid_o), .data_o(write_data_o), .last_o(packed_last), .count_o(packed_count)
  );

  // How the packet begins.

  typedef struct packed {
    text_plan_t  plan;
    beat_t       first;
    beat_t       second;
    logic [63:0] third;
    logic [31:0] text;
  } beginning_t;

  beginning_t beginning, begun;
  // Which beat of the kept header is next; 3 stands for all behind the third.
  logic [1:0] kept_index_q;
  beat_t first_q, second_q;
  logic [63:0] third_q;
  logic [31:0] word_q;
  logic beginning_valid, beginning_room;
  logic [CountWidth-1:0] beginning_count;

  always_comb begin
    beginning.plan = plan;
    beginning.text = text_begun_q ? word_q : text_i[31:0];
    beginning.first = text_begun_q || plan.transport ? first_q : text_i;
    beginning.second = second_q;
    beginning.third = third_q;
  end

  always_ff @(posedge clk_i) begin
    if (take_part) begin
      unique case (kept_index_q)
        2'd0: first_q <= part;
        2'd1: second_q <= part;
        2'd2: third_q <= part[63:0];
        default: ;
      endcase
    end else if (text_valid_i) begin
      first_q <= beginning.first;
    end
    word_q <= beginning.text;
    if (!rst_ni || text_last) kept_index_q <= '0;
    else if (take_part && kept_index_q != 2'd3) kept_index_q <= kept_index_q + 1'b1;
  end

  fifo #(.Width($bits(beginning_t)), .Depth(Packets)) u_beginnings (
    .clk_i, .rst_ni,
    .valid_i(text_last), .ready_o(beginning_room), .data_i(beginning),
    .valid_o(beginning_valid), .ready_i(opened_ready_i && opened_valid_o), .data_o(begun), .count_o(beginning_count)
  );

  // How it ends. The run 1, 2, 3, … is looked for up to every byte: a byte is of one if it is 1, or if it is one more than
  // the byte before and that is of one. This is a carry. 255 may be followed by 0: a pad length of 0 asks for no run.

  typedef struct packed {
    logic [7:0] pad_length;
    protocol_t  next_header;
    logic       right;
  } ending_t;

  logic text1_q, first1_q, last1_q;
  logic [1:0] words1_q;
  beat_t data1_q;
  logic [15:0] is_one1_q, follows1_q, is_one, follows;
  logic run_q;

  always_comb begin
    for (int j = 0; j < 16; j++) begin
      logic [7:0] value, previous;
      value = text_i[8*j+:8];
      previous = j == 0 ? data1_q[127:120] : text_i[8*((j+15)%16)+:8];
      is_one[j] = value == 8'd1;
      follows[j] = value == previous + 8'd1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (text_valid_i) begin
      first1_q <= !text_begun_q;
      last1_q <= text_last;
      words1_q <= body_left[3:2];
      data1_q <= text_i;
      is_one1_q <= is_one;
      follows1_q <= follows;
    end
    text1_q <= rst_ni && text_valid_i;
  end

  // Whether a run ends with the second byte of each word, and with the fourth of the last: words first, each by itself and
  // with a run that comes into it.
  logic [3:0] ends, goes_on, second_ends, second_goes_on;
  logic [3:0] into;
  logic run;
  always_comb begin
    for (int i = 0; i < 4; i++) begin
      logic [3:0] one, more;
      one = is_one1_q[4*i+:4];
      more = follows1_q[4*i+:4];
      second_ends[i] = one[1] || (more[1] && one[0]);
      second_goes_on[i] = &more[1:0];
      ends[i] = one[3] || (more[3] && one[2]) || (&more[3:2] && second_ends[i]);
      goes_on[i] = &more;
    end
    run = run_q && !first1_q;
    for (int i = 0; i < 4; i++) begin
      into[i] = run;
      run = ends[i] || (goes_on[i] && run);
    end
  end

  ending_t ending_d, ending_q, ending;
  logic ending_push_q, ending_valid, ending_room;
  logic [CountWidth-1:0] ending_count;

  // The last word: a byte of padding or not, pad length, next header.
  logic [1:0] last_word;
  logic [7:0] last_padding;
  assign last_word = words1_q - 2'd1;
  always_comb begin
    {ending_d.next_header, ending_d.pad_length, last_padding} = data1_q[32*last_word+8+:24];
    ending_d.right = ending_d.pad_length == 8'd0 || (last_padding == ending_d.pad_length
        && (second_ends[last_word] || (second_goes_on[last_word] && into[last_word])));
  end

  always_ff @(posedge clk_i) begin
    if (text1_q) run_q <= run;
    ending_q <= ending_d;
    ending_push_q <= rst_ni && text1_q && last1_q;
  end

  fifo #(.Width($bits(ending_t)), .Depth(Packets)) u_endings (
    .clk_i, .rst_ni,
    .valid_i(ending_push_q), .ready_o(ending_room), .data_i(ending_q),
    .valid_o(ending_valid), .ready_i(opened_ready_i && opened_valid_o), .data_o(ending), .count_o(ending_count)
  );

  // What is in it.

  ip_header_t header;
  logic header_valid, inner_valid, inner_room;
  inner_t inner_d, inner;
  logic [CountWidth-1:0] inner_count;

  ip_parser u_parser (
    .clk_i, .rst_ni,
    .valid_i(text_valid_i), .last_i(text_last), .data_i(text_i), .upper_first_i(plan.transport),
    .valid_o(header_valid), .header_o(header)
  );

  assign inner_d = '{
    malformed: header.malformed,
    v6: header.v6,
    total_length: header.total_length,
    ecn: header.traffic_class[1:0],
    later_fragment: header.later_fragment,
    source: header.source,
    destination: header.destination,
    protocol: header.protocol,
    upper_at: header.upper_at,
    headers: header.headers,
    source_port: header.source_port,
    destination_port: header.destination_port
  };

  fifo #(.Width($bits(inner_t)), .Depth(Packets)) u_inner (
    .clk_i, .rst_ni,
    .valid_i(header_valid), .ready_o(inner_room), .data_i(inner_d),
    .valid_o(inner_valid), .ready_i(opened_ready_i && opened_valid_o), .data_o(inner), .count_o(inner_count)
  );

  assign opened_valid_o = beginning_valid && ending_valid && inner_valid;
  assign opened_o = '{
    plan: begun.plan,
    first: begun.first,
    second: begun.second,
    third: begun.third,
    text: begun.text,
    pad_length: ending.pad_length,
    next_header: ending.next_header,
    padding_right: ending.right,
    inner: inner
  };

  // The descriptor says where a packet ends; the counts are for proofs.
  logic unused;
  assign unused = ^{packed_last, packed_count, plan_count, part_count, beginning_count, ending_count, inner_count};

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) reset_seen_q <= 1'b1;
    if (rst_ni && reset_seen_q) begin
      if (plan_valid_i) assert (plan_room) else $error("more packets than places");
      if (text_last) assert (beginning_room) else $error("no place for a packet's beginning");
      if (ending_push_q) assert (ending_room) else $error("no place for a packet's end");
      if (header_valid) assert (inner_room) else $error("no place for a header");
      if (text_valid_i) assert (plan_valid && kept_left == '0) else $error("text before its turn");
    end
  end
`else
  logic unused_rooms;
  assign unused_rooms = ^{plan_room, beginning_room, ending_room, inner_room};
`endif

endmodule
