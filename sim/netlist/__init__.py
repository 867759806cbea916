"""Netlists, simulated: what `make synth` makes of a module of the RTL passes the module's own bench."""
