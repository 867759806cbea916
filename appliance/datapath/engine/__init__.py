"""The ESP engine in hardware: its registers by name."""
