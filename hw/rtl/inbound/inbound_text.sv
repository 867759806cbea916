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
  // There is room for these that are under way and for one more; known a cycle later.
  output logic       part_room_o,
  input  beat_t      part_i,

  // From the cipher, with zeros behind the last byte.
  input  logic       text_valid_i,
  input  beat_t      text_i,

  // To packet_buffer.
  output logic       write_valid_o,
  output beat_t      write_data_o,

  // Ready only while it is valid.
  output logic       opened_valid_o,
  input  logic       opened_ready_i,
  output opened_t    opened_o
);

  localparam int unsigned CountWidth = $clog2(Packets + 1);

  logic plan_offered, plan_valid_q, plan_ready, plan_room, part_valid, part_ready;
  text_plan_t plan_d, plan_q;
  beat_t part;
  logic [CountWidth-1:0] plan_count;
  logic [4:0] part_count;

  fifo #(.Width($bits(text_plan_t)), .Depth(Packets)) u_plans (
    .clk_i, .rst_ni,
    .valid_i(plan_valid_i), .ready_o(plan_room), .data_i(plan_i),
    .valid_o(plan_offered), .ready_i(plan_ready), .data_o(plan_d), .count_o(plan_count)
  );

  // Kept headers come up to the cipher's latency ahead of their turn, which is not more than this for those up to 128 bytes.
  // That many, and those that are under way when the stream is told to wait.
  localparam int unsigned Parts = 8;
  logic take_part;
  fifo #(.Width(128), .Depth(2 * Parts)) u_parts (
    .clk_i, .rst_ni,
    .valid_i(part_valid_i), .ready_o(part_ready), .data_i(part_i),
    .valid_o(part_valid), .ready_i(take_part), .data_o(part), .count_o(part_count)
  );

  always_ff @(posedge clk_i) begin
    part_room_o <= rst_ni && part_count < 5'(Parts);
  end

  // The packet whose turn it is, from the queue into registers, and what is left of it. The next one has its turn two cycles
  // behind the last text: between two texts there are slots of the cipher that have none.
  logic text_begun_q, text_last, text_over;
  logic kept_left_any_q, body_left_last_q;
  length_t kept_left_q, kept_left_d, body_left_q, body_left_d;
  logic [2:0] piece_count;
  assign text_last = text_valid_i && body_left_last_q;
  assign take_part = plan_valid_q && part_valid && kept_left_any_q;
  assign plan_ready = !plan_valid_q || text_over;

  always_comb begin
    piece_count = 3'd4;
    if (text_valid_i) begin
      if (body_left_q < 16'd16) piece_count = body_left_q[4:2];
    end else if (kept_left_q < 16'd16) begin
      piece_count = kept_left_q[4:2];
    end
  end

  always_comb begin
    kept_left_d = kept_left_q;
    body_left_d = body_left_q;
    if (plan_ready) begin
      kept_left_d = plan_d.kept;
      body_left_d = plan_d.body;
    end else begin
      if (take_part) kept_left_d = kept_left_q > 16'd16 ? kept_left_q - 16'd16 : '0;
      if (text_valid_i) body_left_d = body_left_q - 16'd16;
    end
  end

  always_ff @(posedge clk_i) begin
    if (plan_ready) plan_q <= plan_d;
    kept_left_q <= kept_left_d;
    body_left_q <= body_left_d;
    if (plan_ready) kept_left_any_q <= plan_d.kept != '0;
    else if (take_part) kept_left_any_q <= kept_left_q > 16'd16;
    if (plan_ready) body_left_last_q <= plan_d.body <= 16'd16;
    else if (text_valid_i) body_left_last_q <= body_left_q <= 16'd32;
    if (!rst_ni) begin
      plan_valid_q <= 1'b0;
      text_begun_q <= 1'b0;
    end else begin
      if (plan_ready) plan_valid_q <= plan_offered;
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

  beginning_t begun;
  // Which beat of the kept header is next; 3 stands for all behind the third.
  logic [1:0] kept_index_q;
  beat_t first_q, second_q;
  logic [63:0] third_q;
  logic [31:0] word_q;
  logic beginning_valid, beginning_room;
  logic [CountWidth-1:0] beginning_count;

  always_ff @(posedge clk_i) begin
    if (take_part) begin
      unique case (kept_index_q)
        2'd0: first_q <= part;
        2'd1: second_q <= part;
        2'd2: third_q <= part[63:0];
        default: ;
      endcase
    end else if (text_valid_i && !text_begun_q && !plan_q.transport) begin
      first_q <= text_i;
    end
    if (!text_begun_q) word_q <= text_i[31:0];
    if (!rst_ni || text_last) kept_index_q <= '0;
    else if (take_part && kept_index_q != 2'd3) kept_index_q <= kept_index_q + 1'b1;
  end

  // A cycle behind the last text all of it is in registers.
  fifo #(.Width($bits(beginning_t)), .Depth(Packets)) u_beginnings (
    .clk_i, .rst_ni,
    .valid_i(text_over), .ready_o(beginning_room), .data_i({plan_q, first_q, second_q, third_q, word_q}),
    .valid_o(beginning_valid), .ready_i(opened_ready_i), .data_o(begun), .count_o(beginning_count)
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
      words1_q <= body_left_q[3:2];
      data1_q <= text_i;
      is_one1_q <= is_one;
      follows1_q <= follows;
    end
    text1_q <= rst_ni && text_valid_i;
    last1_q <= rst_ni && text_last;
  end
  assign text_over = last1_q;

  // Whether a run ends with the second byte of each word, and with the fourth of the last: words first, each by itself, and
  // in the next cycle with a run that comes into it.
  logic [3:0] ends, goes_on, second_ends, second_goes_on;
  logic [3:0] ends2_q, goes_on2_q, second_ends2_q, second_goes_on2_q;
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
  end

  // The last word: a byte of padding or not, pad length, next header.
  logic text2_q, first2_q, last2_q;
  logic [1:0] last_word, last_word2_q;
  logic [7:0] last_padding2_q, pad_length2_q;
  protocol_t next_header2_q;
  assign last_word = words1_q - 2'd1;

  always_ff @(posedge clk_i) begin
    {ends2_q, goes_on2_q, second_ends2_q, second_goes_on2_q} <= {ends, goes_on, second_ends, second_goes_on};
    {next_header2_q, pad_length2_q, last_padding2_q} <= data1_q[32*last_word+8+:24];
    last_word2_q <= last_word;
    first2_q <= first1_q;
    text2_q <= rst_ni && text1_q;
    last2_q <= rst_ni && last1_q;
  end

  logic [3:0] into;
  logic run, run_q;
  always_comb begin
    run = run_q && !first2_q;
    for (int i = 0; i < 4; i++) begin
      into[i] = run;
      run = ends2_q[i] || (goes_on2_q[i] && run);
    end
  end

  ending_t ending_d, ending_q, ending;
  logic ending_push_q, ending_valid, ending_room;
  logic [CountWidth-1:0] ending_count;

  always_comb begin
    ending_d.next_header = next_header2_q;
    ending_d.pad_length = pad_length2_q;
    ending_d.right = pad_length2_q == 8'd0 || (last_padding2_q == pad_length2_q
        && (second_ends2_q[last_word2_q] || (second_goes_on2_q[last_word2_q] && into[last_word2_q])));
  end

  always_ff @(posedge clk_i) begin
    if (text2_q) run_q <= run;
    ending_q <= ending_d;
    ending_push_q <= rst_ni && last2_q;
  end

  fifo #(.Width($bits(ending_t)), .Depth(Packets)) u_endings (
    .clk_i, .rst_ni,
    .valid_i(ending_push_q), .ready_o(ending_room), .data_i(ending_q),
    .valid_o(ending_valid), .ready_i(opened_ready_i), .data_o(ending), .count_o(ending_count)
  );

  // What is in it.

  ip_header_t header;
  logic header_valid, inner_valid, inner_room;
  inner_t inner_d, inner;
  logic [CountWidth-1:0] inner_count;

  ip_parser u_parser (
    .clk_i, .rst_ni,
    .valid_i(text_valid_i), .last_i(text_last), .data_i(text_i), .upper_first_i(plan_q.transport),
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
    .valid_o(inner_valid), .ready_i(opened_ready_i), .data_o(inner), .count_o(inner_count)
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
      if (opened_ready_i) assert (opened_valid_o) else $error("nothing to be taken");
      if (text_over) assert (beginning_room) else $error("no place for a packet's beginning");
      if (ending_push_q) assert (ending_room) else $error("no place for a packet's end");
      if (header_valid) assert (inner_room) else $error("no place for a header");
      if (part_valid_i) assert (part_ready) else $error("no place for a part");
      if (text_valid_i) assert (plan_valid_q && kept_left_q == '0 && !text_over) else $error("text before its turn");
    end
  end
`else
  logic unused_rooms;
  assign unused_rooms = ^{plan_room, part_ready, beginning_room, ending_room, inner_room};
`endif

endmodule
