"""Esplanade: an IPsec gateway appliance."""

VERSION = "0.1.0"
"""The version, as ``pyproject.toml`` has it too. Read here, since the package's metadata cost 2 MB to look at."""
