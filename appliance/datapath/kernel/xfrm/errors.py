"""What can go wrong between a caller and the kernel."""

from __future__ import annotations

import os

from .constants import Attribute, MessageType


class Malformed(ValueError):  # noqa: N818
    """Bytes that are not the message they should be: short, truncated, or with lengths that cannot be."""


class XfrmError(OSError):
    """The kernel refused a request: nothing was done.

    ``errno`` is the kernel's number; ``message`` its own words from NETLINK_EXT_ACK, empty if it had none;
    ``attribute`` the attribute that it pointed at or missed; ``kind`` the request.
    """

    def __init__(
        self, code: int, message: str = "", attribute: Attribute | None = None, kind: MessageType | None = None
    ) -> None:
        super().__init__(code, os.strerror(code))
        self.message = message
        self.attribute = attribute
        self.kind = kind

    def __str__(self) -> str:
        text = self.strerror or ""
        if self.kind is not None:
            text = f"{self.kind.name}: {text}"
        if self.message:
            text = f"{text}: {self.message}"
        if self.attribute is not None:
            text = f"{text} (XFRMA_{self.attribute.name})"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.message, self.attribute, self.kind)


class NoAnswer(XfrmError):  # noqa: N818
    """The answer did not come, was lost (ENOBUFS) or cannot be read: whether the request was carried out is open."""


class DumpInterrupted(XfrmError):  # noqa: N818
    """What was listed changed meanwhile (NLM_F_DUMP_INTR): some of it may be missing or twice there."""
