"""What the benches of the RTL have covered: of its lines, branches and signals, and of what traffic can be like."""
