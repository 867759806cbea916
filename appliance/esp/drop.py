"""The one exception that a packet can raise."""

from __future__ import annotations

from appliance.reasons import Refusal


class Drop(Refusal):
    """A packet goes no further. ``reason`` counts it; ``detail`` names the field at fault, never its contents."""
