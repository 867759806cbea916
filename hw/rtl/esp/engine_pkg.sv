// What the two directions of the engine have in common at its boundary: what is told of packets and SAs.

package engine_pkg;

  import reason_pkg::reason_e;
  import sa_pkg::counter_t;

  typedef enum logic {
    Outbound,
    Inbound
  } direction_e;

  // A packet that was dropped. What is not known of it is zero; the SA's number goes beside it.
  typedef struct packed {
    direction_e   direction;
    // Whether an SA of the packet is known.
    logic         has_sa;
    reason_e      reason;
    logic [31:0]  spi;
    logic [63:0]  sequence_number;
  } drop_t;

  // The counters of an SA, as they were between two packets.
  typedef struct packed {
    // Outbound the last number that was spent, inbound the right edge of the replay window.
    logic [63:0]  sequence_number;
    counter_t     packets;
    // Outbound: of inner packets. Inbound: of plaintext with its trailer.
    counter_t     bytes;
    // Inbound only.
    counter_t     replayed;
    counter_t     integrity_failures;
  } sa_usage_t;

endpackage
