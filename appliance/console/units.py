"""Numbers and text as people read them."""

from __future__ import annotations

import time


def clean(text: str) -> str:
    """Text without control characters: names and identities come from peers, and a terminal obeys what it is sent."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def size(count: int) -> str:
    """Bytes in units of 1000: "0 B", "999 B", "1.2 GB"."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        value /= 1000
        if value < 999.95 or unit == "EB":
            break
    return f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units: "12s", "4m 10s", "2h 5m", "3d 4h"; "-" for None, "now" for what is due."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return "now"
    whole = round(seconds)
    for big, small, big_name, small_name in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= big:
            rest = whole % big // small
            return f"{whole // big}{big_name}" + (f" {rest}{small_name}" if rest else "")
    return f"{whole}s"


def count(number: int) -> str:
    """A count with its thousands apart: "1,100,000"."""
    return f"{number:,}"


def clock(when: float) -> str:
    """Unix time as local time with milliseconds: "2026-11-24 00:13:24.120"."""
    whole = int(when)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(whole))}.{int((when - whole) * 1000):03d}"


def endpoint(address: str | None, port: int | None) -> str:
    """An address and its port, as "192.0.2.1:500" or "[2001:db8::1]:500"; "any" without an address."""
    if not address:
        return "any"
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
