"""What can be wrong with a received message, and what the RFCs have a node do about it."""

from __future__ import annotations


class MalformedMessage(Exception):  # noqa: N818 - the name says what the message is
    """A message that breaks the format. Authenticated ones are answered with INVALID_SYNTAX (RFC 7296 §2.21, §3.10.1).

    ``detail`` says what and cites the rule; it holds lengths and numbers, never contents.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UnsupportedCritical(MalformedMessage):
    """A payload of an unknown type that must be understood: UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296 §2.5)."""

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"payload type {payload_type} is critical and unknown (RFC 7296 §2.5)")
        self.payload_type = payload_type


class IntegrityFailure(MalformedMessage):
    """A protected message that was not made with our keys: dropped without an answer (RFC 7296 §2.21.2)."""
