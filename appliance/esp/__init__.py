"""ESP (RFC 4303) as pure functions on bytes: the golden model that every other datapath is compared with."""
