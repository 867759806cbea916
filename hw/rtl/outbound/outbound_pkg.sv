// What passes between the stages of the outbound direction.

package outbound_pkg;

  import esp_pkg::ip_header_t;
  import esp_pkg::length_t;
  import sa_pkg::outbound_form_t;
  import sa_pkg::outbound_id_t;

  // What goes from stage to stage, in order.
  typedef enum logic [1:0] {
    JobPacket,
    // An SA changed: everything behind is of its new generation.
    JobCommand,
    // A packet that was dropped, of which only the room that it takes is left.
    JobSkip
  } job_kind_e;

  // A packet with the SA that takes it, and all lengths: what is to be done is decided.
  typedef struct packed {
    ip_header_t     header;
    outbound_form_t form;
    outbound_id_t   id;
    // Of the outer header: in transport mode the packet's own, zeros over IPv4.
    logic [127:0]   source;
    logic [127:0]   destination;
    logic [63:0]    sequence_number;
    // Bytes in front of the payload that leave as they are but for a few fields: transport mode's header.
    length_t        kept;
    // Bytes of the packet that are encrypted, of them with zeros behind (TFC), and with the padding and trailer too.
    length_t        payload;
    length_t        padded;
    length_t        body;
    // Bytes of the outer packet, and of its header before UDP or ESP.
    length_t        total;
    length_t        outer;
  } outbound_job_t;

  // What stands in front of the ciphertext, and what changes in a header that is kept.
  typedef struct packed {
    // Words of four bytes, the first in [31:0]: tunnel mode's outer header, UDP's, SPI, sequence number, IV.
    logic [511:0]   words;
    logic [4:0]     count;
    // Transport mode: the fields of the kept header. `checksum` is what is added to the complement of IPv4's.
    length_t        length_field;
    logic [7:0]     protocol;
    logic [15:0]    checksum;
    // UDP over IPv6: the sum, as of RFC 1071, of all that its checksum covers but for ciphertext and ICV.
    logic           udp_checksum;
    logic [15:0]    udp_sum;
  } outbound_head_t;

  // A part of what stands in front of the ciphertext: one to four words, the first in [31:0].
  typedef struct packed {
    logic           last;
    logic [2:0]     count;
    logic [127:0]   words;
  } head_part_t;

  // What is to be known of a packet when it is put together.
  typedef struct packed {
    length_t        body;
    length_t        total;
    length_t        outer;
    logic           udp_checksum;
    logic [15:0]    udp_sum;
  } assembly_t;

endpackage
