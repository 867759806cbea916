"""IKEv2 as a pure protocol (RFC 7296)."""
