"""Proofs of the RTL: what holds of a module whatever its inputs do, with SymbiYosys."""
