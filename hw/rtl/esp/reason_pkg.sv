// Why the engine drops a packet: the one list's codes 1 to 127.
//
// Generated from appliance/reasons/reasons.toml by `python -m appliance.reasons.generate`. Do not edit.

package reason_pkg;

  typedef enum logic [6:0] {
    // no policy matches the packet
    ReasonNoPolicy = 7'd1,
    // a discard policy matches the packet
    ReasonPolicyDiscard = 7'd2,
    // a policy protects the packet and no SA is up for it
    ReasonNoSa = 7'd3,
    // an ESP packet names an SPI that is not installed
    ReasonUnknownSpi = 7'd4,
    // the sequence number was seen before or is left of the replay window
    ReasonReplayed = 7'd5,
    // the ICV does not verify
    ReasonIntegrity = 7'd6,
    // the ESP packet is too short or its padding or next header is wrong
    ReasonMalformedEsp = 7'd7,
    // the decrypted packet is outside the SA's traffic selectors
    ReasonSelectorMismatch = 7'd8,
    // the IP packet's header is damaged
    ReasonMalformedIp = 7'd9,
    // the packet is longer than its path or its datapath takes; a sender that may be told was told
    ReasonTooBig = 7'd10,
    // the SA's sequence numbers are used up
    ReasonSequenceExhausted = 7'd11,
    // the SA's hard lifetime is over
    ReasonLifetimeExpired = 7'd12,
    // the packet's TTL or hop limit ran out; its sender was told
    ReasonTtlExpired = 7'd13,
    // one of our own IKE or ESP packets came back for encryption
    ReasonOwnTraffic = 7'd14,
    // a dummy packet for traffic-flow confidentiality (next header 59)
    ReasonDummy = 7'd15,
    // more packets came than could be sent
    ReasonQueueFull = 7'd16,
    // a fragment cannot be matched with its ports
    ReasonFragment = 7'd17,
    // a bounded table is full
    ReasonNoMemory = 7'd18,
    // the kernel did not take the packet
    ReasonSendFailed = 7'd19,
    // congestion was marked on the outer header of a packet whose transport cannot be told (RFC 6040 §4.2)
    ReasonEcnNotCapable = 7'd20,
    // ESP takes whole datagrams, and this is a fragment (RFC 4303 §3.3.4 and §3.4.1)
    ReasonEspFragment = 7'd21,
    // the packet belongs to its own link and is not for a tunnel
    ReasonLinkScope = 7'd22
  } reason_e;

endpackage
