"""Networks in a box: namespaces, links that can be cut, a NAT, captures, probes, gateways. See README.md."""
