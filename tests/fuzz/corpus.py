"""The corpus of IKE messages: text files in tests/ike/corpus, ``# comment`` lines and hexadecimal."""

from __future__ import annotations

import hashlib
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "ike" / "corpus"


def read(path: Path) -> bytes:
    """The message of one file."""
    lines = path.read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def files(kind: str) -> list[Path]:
    """The files of one kind: "valid" or "broken"."""
    return sorted((CORPUS / kind).glob("*.hex"))


def seed(folder: Path) -> Path:
    """Write the corpus as inputs of ``message_targets.one_input`` into a folder for libFuzzer."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("valid", "broken"):
        for path in files(kind):
            message = read(path)
            # 0: as a datagram; 1 and 4: its payloads as a chain; 2: as an SA payload's contents, behind the headers.
            for data in (
                b"\0" + message,
                b"\1" + message[16:17] + message[28:],
                b"\2" + message[32:],
                b"\4" + message[16:17] + message[28:],
            ):
                (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return folder
