// What passes between the stages of the inbound direction.

package inbound_pkg;

  import esp_pkg::beat_t;
  import esp_pkg::length_t;
  import esp_pkg::protocol_t;
  import reason_pkg::reason_e;
  import sa_pkg::generation_t;

  // What goes from stage to stage, in order.
  typedef enum logic [1:0] {
    ItemPacket,
    // An SA changed: everything behind is of its new generation.
    ItemCommand,
    // A packet that was dropped: the room that it takes is left, and its drop is told in its turn.
    ItemSkip
  } item_kind_e;

  // What is to be known of a received packet to find its SA and its parts.
  typedef struct packed {
    logic           v6;
    // ESP is behind a UDP header.
    logic           udp;
    logic [15:0]    destination_port;
    logic [1:0]     ecn;
    // Bytes of the IP header with options and extension headers, and the field that names what follows.
    length_t        header;
    length_t        protocol_at;
    logic [3:0]     headers;  // extension headers
    length_t        esp_begin;
    length_t        esp_end;
    logic [31:0]    spi;
    logic [31:0]    sequence_low;
  } received_t;

  // A packet with its SA: what is to be done is decided, but for what is inside.
  typedef struct packed {
    logic           transport;
    logic           esn;
    logic           key256;
    generation_t    generation;
    // First byte lowest.
    logic [31:0]    salt;
    logic [15:0]    selector_first;
    logic [7:0]     selector_count;
    logic           v6;
    logic [1:0]     ecn;
    // Bytes in front of ESP that leave as they are but for a few fields: transport mode's header.
    length_t        kept;
    length_t        protocol_at;
    logic [3:0]     headers;
    length_t        esp_begin;
    // Bytes of ciphertext.
    length_t        body;
    logic [63:0]    sequence_number;
  } inbound_job_t;

  // What is to be known of a packet when its text comes out of the cipher.
  typedef struct packed {
    logic           transport;
    logic [15:0]    selector_first;
    logic [7:0]     selector_count;
    // Of the outer packet.
    logic           v6;
    logic [1:0]     ecn;
    length_t        kept;
    length_t        protocol_at;
    logic [3:0]     headers;
    length_t        body;
  } text_plan_t;

  // What ip_parser found in the text, as far as anybody looks at it.
  typedef struct packed {
    logic           malformed;
    logic           v6;
    length_t        total_length;
    logic [1:0]     ecn;
    logic           later_fragment;
    logic [127:0]   source;
    logic [127:0]   destination;
    protocol_t      protocol;
    length_t        upper_at;
    logic [3:0]     headers;
    logic [15:0]    source_port;
    logic [15:0]    destination_port;
  } inner_t;

  // A packet's text went by: how it begins and how it ends.
  typedef struct packed {
    text_plan_t     plan;
    // The beginning of what leaves: the inner packet, or transport mode's header with its addresses.
    beat_t          first;
    beat_t          second;
    logic [63:0]    third;
    // The first four bytes of the text.
    logic [31:0]    text;
    logic [7:0]     pad_length;
    protocol_t      next_header;
    // The padding is 1, 2, 3, … (RFC 4303 §2.4).
    logic           padding_right;
    inner_t         inner;
  } opened_t;

  // What is to be said of a packet's content if it is authentic.
  typedef struct packed {
    logic           bad;
    reason_e        reason;
    // Bytes that leave, and what changes in them.
    length_t        bytes;
    logic           first_valid;
    beat_t          first;
    logic           patch_valid;
    length_t        patch_at;
    logic [7:0]     patch;
  } content_t;

  // What waits for its verdict.
  typedef struct packed {
    item_kind_e     kind;
    // Skip: why it was dropped.
    reason_e        reason;
    logic           has_sa;
    logic [31:0]    spi;
    generation_t    generation;
    logic [63:0]    sequence_number;
    length_t        body;
    // Beats in the buffer behind.
    logic [11:0]    beats;
  } verdict_item_t;

endpackage
