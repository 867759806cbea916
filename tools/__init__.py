"""Tools for working on this tree."""
