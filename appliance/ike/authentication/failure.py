"""The one way in which authentication fails."""

from __future__ import annotations

from appliance.reasons import Refusal


class AuthenticationFailed(Refusal):
    """A peer did not authenticate, or this side cannot.

    Reason and detail are for the log. The peer gets AUTHENTICATION_FAILED and nothing else (RFC 7296 §2.21.2).
    """
