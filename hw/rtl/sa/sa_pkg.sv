// What the engine keeps of an SA, in words of 128 bits: what was configured, and what changes with each packet.

package sa_pkg;

  typedef logic [127:0] word_t;
  typedef logic [15:0] generation_t;
  typedef logic [63:0] counter_t;

  // Where the DF bit of an outer IPv4 header comes from (RFC 4301 §8.1). An inner IPv6 packet counts as one with DF.
  typedef enum logic [1:0] {
    DfCopy,
    DfSet,
    DfClear
  } df_e;

  // Outbound, as configured. Four words; the limits of a lifetime, which both directions have, are two more.

  typedef struct packed {
    logic [18:0]  reserved;
    // A zeroised SA is not valid.
    logic         valid;
    generation_t  generation;
    // Transport mode; the rest of this word but udp, esn and key256 is tunnel mode's.
    logic         transport;
    // The outer header's family.
    logic         v6;
    // ESP goes in UDP (RFC 3948).
    logic         udp;
    logic         esn;
    logic         key256;
    logic         dscp_copy;
    logic [5:0]   dscp;
    // RFC 6040's normal mode, else its compatibility mode.
    logic         ecn_copy;
    df_e          df;
    logic         flow_copy;
    logic [19:0]  flow_label;
    logic [7:0]   hop_limit;
    // Inner packets are padded to so many bytes (RFC 4303 §2.7).
    logic [15:0]  tfc_length;
    logic [15:0]  source_port;
    logic [15:0]  destination_port;
  } outbound_form_t;

  typedef struct packed {
    logic [63:0]  reserved;
    // The last four bytes of the keying material (RFC 4106 §8.1), first byte lowest.
    logic [31:0]  salt;
    logic [31:0]  spi;
  } outbound_id_t;

  typedef struct packed {
    // 0: no limit. An SA that reached one of a hard lifetime carries nothing more.
    counter_t     packets;
    counter_t     bytes;
  } limits_t;

  typedef struct packed {
    logic [127:0]   destination;
    logic [127:0]   source;
    limits_t        soft_limits;
    limits_t        hard_limits;
    outbound_id_t   id;
    outbound_form_t form;
  } outbound_sa_t;

  localparam int unsigned OutboundWords = $bits(outbound_sa_t) / 128;

  // Inbound, as configured. Two words, and the limits of a lifetime.

  typedef struct packed {
    logic [67:0]  reserved;
    // A zeroised SA is not valid.
    logic         valid;
    generation_t  generation;
    logic         transport;
    logic         esn;
    logic         key256;
    // ESP in UDP is taken on this port (RFC 3948, RFC 7296 §2.23: also where it was not agreed on); native ESP always.
    logic [15:0]  udp_port;
    // Its traffic selectors: the first of them in the pool, and how many.
    logic [15:0]  selector_first;
    logic [7:0]   selector_count;
  } inbound_form_t;

  typedef struct packed {
    logic [63:0]  reserved;
    // As outbound_id_t has it.
    logic [31:0]  salt;
    logic [31:0]  spi;
  } inbound_id_t;

  typedef struct packed {
    limits_t        soft_limits;
    limits_t        hard_limits;
    inbound_id_t    id;
    inbound_form_t  form;
  } inbound_sa_t;

  localparam int unsigned InboundWords = $bits(inbound_sa_t) / 128;

  // What happened to an SA that its owner is to know of; a bit each.
  typedef struct packed {
    logic integrity;        // the first packet whose ICV was wrong
    logic headroom;         // few sequence numbers are left
    logic hard_packets;
    logic hard_bytes;
    logic soft_packets;
    logic soft_bytes;
  } sa_events_t;

  // Whether a counter that goes from `old` to `count` reaches a limit with that step.
  function automatic logic reaches(input counter_t old, input counter_t count, input counter_t limit);
    return limit != '0 && old < limit && count >= limit;
  endfunction

endpackage
