// Traffic selectors as the hardware keeps them (RFC 4301 §4.4.1.1, RFC 7296 §3.13.1).

package selector_pkg;

  typedef struct packed {
    // Which end of a packet it is for.
    logic         remote;
    logic         v6;
    // 0: any.
    logic [7:0]   protocol;
    // 0 to 65535: any, and packets without ports. 65535 to 0: OPAQUE, packets without ports only.
    logic [15:0]  port_start;
    logic [15:0]  port_end;
    // IPv4 in [31:0].
    logic [127:0] start;
    logic [127:0] last;
  } selector_t;

  // What of a packet is held against it.
  typedef struct packed {
    logic         v6;
    logic [7:0]   protocol;
    // Later fragments have none, nor have most protocols. ICMP's are type and code.
    logic         has_ports;
    logic [15:0]  local_port;
    logic [15:0]  remote_port;
    logic [127:0] local_address;
    logic [127:0] remote_address;
  } flow_t;

endpackage
