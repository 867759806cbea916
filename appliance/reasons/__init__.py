"""Every reason for a drop, a refusal or a failure, with its words and its remedy."""

from __future__ import annotations

from appliance.reasons.reason import Reason

__all__ = ["Reason", "Refusal"]


class Refusal(Exception):  # noqa: N818 - it says what happened
    """Something asked for was not done, or something that ran failed: the reason, what exactly, and what to do.

    ``detail`` is the particular case: what was offered, what would be accepted, where in the configuration.
    ``remedy`` replaces the list's remedy where the case allows a better one.
    """

    def __init__(self, reason: Reason, detail: str = "", *, remedy: str | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.remedy = reason.remedy if remedy is None else remedy

    def __str__(self) -> str:
        return f"{self.reason.words}: {self.detail}" if self.detail else self.reason.words
