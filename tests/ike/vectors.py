"""Files of known answers from the package ``cryptography_vectors`` (NIST and RFC)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors

ROOT = Path(cryptography_vectors.__file__).parent


def records(path: str, separator: str = "=") -> Iterator[dict[str, str]]:
    """Blocks of ``NAME = value`` lines, parted by empty lines; comments left out."""
    record: dict[str, str] = {}
    for line in [*(ROOT / path).read_text().splitlines(), ""]:
        text = line.strip()
        if text.startswith("#"):
            continue
        if separator in text:
            name, _, value = text.partition(separator)
            record[name.strip().lower()] = value.strip()
        elif not text and record:
            yield record
            record = {}
