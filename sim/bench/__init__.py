"""How fast the RTL is, in cycles: `make bench-rtl`."""
