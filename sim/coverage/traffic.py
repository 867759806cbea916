"""What traffic can be like: the bins that the benches of the engine have to hit, all of them.

A bench calls ``outbound`` and ``inbound`` for each packet whose fate is known, and ``write`` at its end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from cocotb_coverage.coverage import CoverCross, CoverPoint, coverage_db, coverage_section

from appliance.reasons import Reason

FORMS = ("tunnel 4 in 4", "tunnel 6 in 4", "tunnel 4 in 6", "tunnel 6 in 6", "transport 4", "transport 6")
SIZES = ("to 40", "to 64", "to 128", "to 576", "to 1500", "to 9000")
_LIMITS = (40, 64, 128, 576, 1500, 9000)
# Where a sequence number is, seen from the replay window and, with ESN, from a step of the upper half.
REPLAY = ("next", "ahead", "beyond the window", "in the window", "left edge", "duplicate", "left of the window")
PRESSURE = ("none", "source", "sink", "both")
ICV_PLACES = ("SPI", "sequence number", "IV", "ciphertext", "ICV")

OUTBOUND_DROPS = (
    Reason.NO_SA,
    Reason.TOO_BIG,
    Reason.MALFORMED_IP,
    Reason.ESP_FRAGMENT,
    Reason.SEQUENCE_EXHAUSTED,
    Reason.LIFETIME_EXPIRED,
)
INBOUND_DROPS = (
    Reason.UNKNOWN_SPI,
    Reason.REPLAYED,
    Reason.INTEGRITY,
    Reason.MALFORMED_ESP,
    Reason.MALFORMED_IP,
    Reason.SELECTOR_MISMATCH,
    Reason.LIFETIME_EXPIRED,
    Reason.DUMMY,
    Reason.ECN_NOT_CAPABLE,
    Reason.ESP_FRAGMENT,
    Reason.TOO_BIG,
)


def size_class(size: int) -> str:
    """Which of SIZES an IP packet of so many bytes is."""
    return next((name for name, most in zip(SIZES, _LIMITS, strict=True) if size <= most), SIZES[-1])


@dataclass(frozen=True)
class Sample:
    """A packet that passed: its inner size in bytes, the padding in front of its trailer, and more."""

    form: str
    udp: bool
    key: int
    esn: bool
    size: int
    padding: int
    tfc: bool = False
    pressure: str = "none"
    replay: str = "next"

    @property
    def transport(self) -> bool:
        """Or it is a tunnel."""
        return self.form.startswith("transport")

    @property
    def inner(self) -> int:
        """The version of IP inside."""
        return _inner(self.form)

    @property
    def outer(self) -> int:
        """The version of IP outside."""
        return int(self.form.split()[-1])


def every_cross(largest: int = _LIMITS[-1]) -> Iterator[Sample]:
    """Packets that hit all bins of all crosses, whatever the random numbers, of up to ``largest`` bytes.

    Those with the same key and numbering come in a row, and among them those under the same back-pressure.
    """
    turns = Counter[str]()
    for group, (key, esn) in enumerate(product((128, 256), (False, True))):
        for turn, pressure in enumerate(PRESSURE):
            for form, at in product(FORMS, range(len(SIZES))):
                # Each form has each size under each pressure, in one of the four groups, and both with UDP in each.
                if (at + turn) % 4 != group:
                    continue
                turns[form] += 1
                padding = turns[form] % 4
                if at == 0 and _inner(form) == 6:
                    padding = 2  # an IPv6 packet of 40 bytes
                size = _some_size(at, padding, _inner(form), largest)
                yield Sample(form, bool(turns[form] % 2), key, esn, size, padding, pressure=pressure)
        form = FORMS[group]
        yield Sample(form, False, key, esn, _some_size(1, 0, _inner(form), largest), 1, tfc=True)


def _inner(form: str) -> int:
    return int(form.split()[1])


def _some_size(at: int, padding: int, version: int, largest: int) -> int:
    """One of the class, often one of its ends, that needs so much padding."""
    least = max(_LIMITS[at - 1] + 1 if at else 0, 20 if version == 4 else 40)
    fitting = [size for size in range(least, min(_LIMITS[at], largest) + 1) if -(size + 2) % 4 == padding]
    return random.choice((fitting[0], fitting[-1], random.choice(fitting)))


def _of(name: str) -> Any:
    return lambda sample: getattr(sample, name)


def _points(side: str) -> tuple[Any, ...]:
    point = {name: f"{side}.{name}" for name in ("form", "udp", "key", "esn", "size", "padding", "tfc", "pressure")}
    return (
        CoverPoint(point["form"], xf=_of("form"), bins=list(FORMS)),
        CoverPoint(point["udp"], xf=_of("udp"), bins=[False, True]),
        CoverPoint(point["key"], xf=_of("key"), bins=[128, 256]),
        CoverPoint(point["esn"], xf=_of("esn"), bins=[False, True]),
        CoverPoint(point["size"], xf=lambda sample: size_class(sample.size), bins=list(SIZES)),
        CoverPoint(point["padding"], xf=_of("padding"), bins=[0, 1, 2, 3]),
        CoverPoint(point["tfc"], xf=_of("tfc"), bins=[False, True]),
        CoverPoint(point["pressure"], xf=_of("pressure"), bins=list(PRESSURE)),
        CoverCross(f"{side}.form × udp × key × esn", items=[point[name] for name in ("form", "udp", "key", "esn")]),
        CoverCross(f"{side}.form × size", items=[point["form"], point["size"]]),
        CoverCross(f"{side}.form × padding", items=[point["form"], point["padding"]]),
        CoverCross(f"{side}.size × pressure", items=[point["size"], point["pressure"]]),
    )


@coverage_section(*_points("outbound"))
def outbound(sample: Sample) -> None:
    """A packet that was protected."""


@coverage_section(
    *_points("inbound"),
    CoverPoint("inbound.replay", xf=_of("replay"), bins=[name for name in REPLAY if name not in REPLAY[5:]]),
    CoverCross("inbound.replay × esn", items=["inbound.replay", "inbound.esn"]),
)
def inbound(sample: Sample) -> None:
    """A packet that was released."""


@CoverPoint("outbound.drop", xf=lambda reason: reason.name, bins=[reason.name for reason in OUTBOUND_DROPS])
def outbound_drop(reason: Reason) -> None:
    """A packet that was not protected."""


@CoverPoint("inbound.drop", xf=lambda reason: reason.name, bins=[reason.name for reason in INBOUND_DROPS])
def inbound_drop(reason: Reason) -> None:
    """A packet that was not released."""


@coverage_section(
    CoverPoint("inbound.replayed", xf=lambda where, esn: where, bins=list(REPLAY[5:])),
    CoverPoint("inbound.replayed esn", xf=lambda where, esn: esn, bins=[False, True]),
    CoverCross("inbound.replayed × esn", items=["inbound.replayed", "inbound.replayed esn"]),
)
def inbound_replayed(where: str, esn: bool) -> None:
    """A packet whose number was refused, and where that was."""


@CoverPoint("inbound.damaged", xf=lambda where: where, bins=list(ICV_PLACES))
def inbound_damaged(where: str) -> None:
    """A packet whose ICV was wrong, and in which part it was changed."""


@CoverPoint("inbound.pad length", xf=lambda length: length, bins=[*range(20), 100, 254, 255])
def inbound_pad_length(length: int) -> None:
    """A packet that was released, and its pad length, which is up to its sender."""


def write(path: str | Path = "traffic.yml") -> None:
    """Leave what was hit for the report."""
    coverage_db.export_to_yaml(str(path))


@dataclass(frozen=True)
class Bins:
    """A point, the bins that were hit and those that were not."""

    name: str
    hit: tuple[str, ...]
    missed: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of 1."""
        return len(self.hit) / (len(self.hit) + len(self.missed))


def bins_of(paths: Iterable[Path]) -> list[Bins]:
    """Every point, over the runs that left these files."""
    hits: dict[str, Counter[str]] = {}
    for name, item in coverage_db.items():
        if isinstance(item, (CoverPoint, CoverCross)):
            hits[name] = Counter({str(label): 0 for label in item.detailed_coverage})
    for path in paths:
        for name, entry in yaml.safe_load(path.read_text()).items():
            for label, count in entry.get("bins:_hits", {}).items():
                hits[name][str(label)] += count
    return _bins(hits)


def missed(*points: str) -> dict[str, tuple[str, ...]]:
    """What this run has not hit yet of points that begin with one of these."""
    hits = {name: item.detailed_coverage for name, item in coverage_db.items() if name.startswith(points)}
    return {bins.name: bins.missed for bins in _bins(hits) if bins.missed}


def _bins(hits: Mapping[str, Mapping[Any, int]]) -> list[Bins]:
    return [
        Bins(name, tuple(str(b) for b, n in counts.items() if n), tuple(str(b) for b, n in counts.items() if not n))
        for name, counts in sorted(hits.items())
    ]
