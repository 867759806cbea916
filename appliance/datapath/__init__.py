"""The implementations of the datapath contract, one folder each."""
