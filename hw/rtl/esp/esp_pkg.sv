// Types that the modules of the ESP engine share.
//
// Data is packed as AXI4-Stream has it: the first byte of a beat is [7:0]. Numbers taken out of packets (addresses,
// ports, lengths) are numbers again: their most significant bit is the leftmost.

package esp_pkg;

  // A beat, which is a block of the cipher too.
  localparam int unsigned BeatBytes = 16;
  typedef logic [127:0] beat_t;

  // Lengths and offsets within a packet, in bytes.
  typedef logic [15:0] length_t;

  // IP protocol numbers.
  typedef logic [7:0] protocol_t;
  localparam protocol_t HopByHop = 8'd0;
  localparam protocol_t Icmp = 8'd1;
  localparam protocol_t Ipv4 = 8'd4;
  localparam protocol_t Tcp = 8'd6;
  localparam protocol_t Udp = 8'd17;
  localparam protocol_t Dccp = 8'd33;
  localparam protocol_t Ipv6 = 8'd41;
  localparam protocol_t Routing = 8'd43;
  localparam protocol_t Fragment = 8'd44;
  localparam protocol_t Esp = 8'd50;
  localparam protocol_t Icmpv6 = 8'd58;
  localparam protocol_t NoNextHeader = 8'd59;
  localparam protocol_t DestinationOptions = 8'd60;
  localparam protocol_t Sctp = 8'd132;
  localparam protocol_t UdpLite = 8'd136;

  // What ip_parser finds in the headers of a packet. All of it is held against total_length; that so many bytes are
  // there is for those to see who have counted them.
  typedef struct packed {
    logic         malformed;         // not an IP packet, or headers that do not hold; the rest means nothing then
    logic         v6;
    length_t      total_length;      // of the packet with its header
    logic [7:0]   traffic_class;     // IPv4: type of service
    logic [19:0]  flow_label;        // IPv6 only
    logic         dont_fragment;     // IPv4 only
    logic         fragment;          // a part of a datagram; an atomic fragment (RFC 6946) is none
    logic         later_fragment;    // one with an offset: no upper-layer header in it
    logic [127:0] source;            // IPv4: in [31:0]
    logic [127:0] destination;
    protocol_t    protocol;          // of the upper layer, behind options and extension headers
    length_t      upper_at;          // where it begins
    // TCP, UDP, DCCP, SCTP, UDP-Lite, ICMP and ICMPv6, if they are in this fragment; without it the ports mean nothing.
    logic         has_ports;
    logic [15:0]  source_port;       // ICMP: type and code, in both (RFC 7296 §3.13.1)
    logic [15:0]  destination_port;
    // Where ESP goes in transport mode (RFC 4303 §3.1.1) if this is no fragment (§3.3.4), the field that names what
    // follows, and what that is.
    length_t      esp_at;
    length_t      protocol_at;
    protocol_t    esp_protocol;
    length_t      upper_protocol_at; // the field that names the upper layer
    logic [3:0]   headers;           // extension headers in front of the upper layer
    // What is at upper_at if that is ESP, or behind a UDP header there, whose ports are for the reader to compare.
    // In a fragment there is none (RFC 4303 §3.4.1); without has_esp the rest means nothing.
    logic         has_esp;           // SPI, sequence number and IV, 16 bytes, are in the packet and in UDP's length
    length_t      esp_begin;
    length_t      esp_end;           // UDP's length may end before IP's
    logic [31:0]  spi;
    logic [31:0]  sequence_low;
  } ip_header_t;

  // A number as it is sent, its highest byte first: that is the lowest of a beat.
  function automatic logic [15:0] sent16(input logic [15:0] number);
    return {number[7:0], number[15:8]};
  endfunction

  function automatic logic [31:0] sent32(input logic [31:0] number);
    return {number[7:0], number[15:8], number[23:16], number[31:24]};
  endfunction

endpackage
