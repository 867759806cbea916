"""Harnesses that feed parsers with anything. See README.md."""
