"""Synthesis of the engine's modules: their area, and on ECP5 the frequency that they reach when placed and routed."""
