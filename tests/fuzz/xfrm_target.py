"""What must hold for any netlink bytes: values or Malformed, and what was read is written and read again as it was."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from appliance.datapath.kernel.xfrm import Malformed, SadInfo, parse, parse_all
from tests.datapath.kernel.xfrm.reencode import reencode_values

CAPTURES = Path(__file__).resolve().parents[1] / "datapath" / "kernel" / "xfrm" / "captures.json"


def one_input(data: bytes) -> None:
    """Read it, write what was read, and read that. Raises AssertionError, or what should never be raised."""
    try:
        found = list(parse_all(data, keys=True))
    except Malformed:
        return
    for one in found:
        if isinstance(one.body, SadInfo):
            continue  # Nobody sends one but the kernel, so that nothing here writes it.
        try:
            written = reencode_values(one)
        except ValueError:
            continue  # Such as a name that is no ASCII: it is shown, and not sent.
        struct.pack_into("=II", written, 8, one.sequence, one.port)  # Whether it is a request decides what it says.
        again = parse(written, keys=True)
        assert again.body == one.body, f"{one.body} became {again.body}"


def seed(folder: Path) -> Path:
    """Write what iproute2 sent into a folder for libFuzzer."""
    folder.mkdir(parents=True, exist_ok=True)
    for capture in json.loads(CAPTURES.read_text()):
        for request in capture["requests"]:
            data = bytes.fromhex(request)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return folder
