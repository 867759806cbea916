"""The configuration: its schema, reading, checking, and what changed between two."""

from __future__ import annotations

from appliance.config.diff import ConfigDiff, diff
from appliance.config.load import load, loads
from appliance.config.model import Config
from appliance.config.problem import ConfigError, Problem
from appliance.config.secret import Secret

__all__ = ["Config", "ConfigDiff", "ConfigError", "Problem", "Secret", "diff", "load", "loads"]
