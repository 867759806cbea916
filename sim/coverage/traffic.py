"""What traffic can be like: the bins that the benches of the engine have to hit, all of them.

A bench calls ``outbound`` and ``inbound`` for each packet whose fate is known, and ``write`` at its end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from cocotb_coverage.coverage import CoverCross, CoverPoint, coverage_db, coverage_section

from appliance.esp.extension import walk
from appliance.esp.ip import Ipv4Header, parse
from appliance.reasons import Reason

FORMS = ("tunnel 4 in 4", "tunnel 6 in 4", "tunnel 4 in 6", "tunnel 6 in 6", "transport 4", "transport 6")
SIZES = ("to 40", "to 64", "to 128", "to 576", "to 1500", "to 9000", "longer")
_LIMITS = (40, 64, 128, 576, 1500, 9000, 9600)
# Where a sequence number is, seen from the replay window and, with ESN, from a step of the upper half.
REPLAY = ("next", "ahead", "beyond the window", "in the window", "left edge", "duplicate", "left of the window")
PRESSURE = ("none", "source", "sink", "both")
ICV_PLACES = ("SPI", "sequence number", "IV", "ciphertext", "ICV")

# Where a packet is dropped: by an SA, or before there is one, when it is of a family alone.
MODES = ("tunnel over 4", "tunnel over 6", "transport 4", "transport 6")
TUNNELS = MODES[:2]
FAMILIES = ("no SA, 4", "no SA, 6")
ECN = ("Not-ECT", "ECT(1)", "ECT(0)", "CE")
EXTENSIONS = {0: "hop-by-hop", 43: "routing", 44: "fragment", 60: "destination"}
KINDS = (*EXTENSIONS.values(), "none")
DF_INSIDE = ("0", "1", "IPv6")

_OUTBOUND_PLACES = {
    Reason.NO_SA: FAMILIES,
    Reason.TOO_BIG: (*TUNNELS, *FAMILIES),  # what transport mode adds there is room for
    Reason.MALFORMED_IP: FAMILIES,
    Reason.ESP_FRAGMENT: MODES[2:],
    Reason.SEQUENCE_EXHAUSTED: MODES,
    Reason.LIFETIME_EXPIRED: MODES,
}
_INBOUND_PLACES = {
    Reason.UNKNOWN_SPI: FAMILIES,
    Reason.REPLAYED: MODES,
    Reason.INTEGRITY: MODES,
    Reason.MALFORMED_ESP: (*MODES, *FAMILIES),
    Reason.MALFORMED_IP: (*TUNNELS, MODES[3], *FAMILIES),  # IPv4 has no headers behind ESP
    Reason.SELECTOR_MISMATCH: MODES,
    Reason.LIFETIME_EXPIRED: MODES,
    Reason.DUMMY: MODES,
    Reason.ECN_NOT_CAPABLE: TUNNELS,
    Reason.ESP_FRAGMENT: FAMILIES,
    Reason.TOO_BIG: FAMILIES,
}


def mode(version: int, *, transport: bool) -> str:
    """Which of MODES an SA with these outer packets is."""
    return f"transport {version}" if transport else f"tunnel over {version}"


def family(packet: bytes) -> str:
    """Which of FAMILIES a packet without an SA is, as its first bits say."""
    return FAMILIES[packet[0] >> 4 == 6]


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


def every_cross() -> Iterator[Sample]:
    """Packets that hit all bins of all crosses, whatever the random numbers.

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
                size = _some_size(at, padding, _inner(form))
                yield Sample(form, bool(turns[form] % 2), key, esn, size, padding, pressure=pressure)
        form = FORMS[group]
        yield Sample(form, False, key, esn, _some_size(1, 0, _inner(form)), 1, tfc=True)


def _inner(form: str) -> int:
    return int(form.split()[1])


def _some_size(at: int, padding: int, version: int) -> int:
    """One of the class, often one of its ends, that needs so much padding."""
    least = max(_LIMITS[at - 1] + 1 if at else 0, 20 if version == 4 else 40)
    fitting = [size for size in range(least, _LIMITS[at] + 1) if -(size + 2) % 4 == padding]
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


def _drops(side: str, places: Mapping[Reason, tuple[str, ...]]) -> tuple[Any, ...]:
    names = [reason.name for reason in places]
    spots = [f"{reason.name}: {place}" for reason, all_of_it in places.items() for place in all_of_it]
    return (
        CoverPoint(f"{side}.drop", xf=lambda reason, place, pressure: reason.name, bins=names),
        CoverPoint(f"{side}.drop place", xf=lambda reason, place, pressure: f"{reason.name}: {place}", bins=spots),
        CoverPoint(f"{side}.drop pressure", xf=lambda reason, place, pressure: pressure, bins=list(PRESSURE)),
        CoverCross(f"{side}.drop × pressure", items=[f"{side}.drop", f"{side}.drop pressure"]),
    )


@coverage_section(*_drops("outbound", _OUTBOUND_PLACES))
def outbound_drop(reason: Reason, place: str, pressure: str) -> None:
    """A packet that was not protected, in which of MODES or FAMILIES, and who made pauses."""


@coverage_section(*_drops("inbound", _INBOUND_PLACES))
def inbound_drop(reason: Reason, place: str, pressure: str) -> None:
    """A packet that was not released, in which of MODES or FAMILIES, and who made pauses."""


def _headers(side: str) -> tuple[Any, ...]:
    inside = {version: [form for form in FORMS if _inner(form) == version] for version in (4, 6)}
    optional = {False: "without options", True: "with options"}
    options = [f"{form} {which}" for form in inside[4] for which in optional.values()]
    kinds = [f"{form}: {kind}" for form in inside[6] for kind in KINDS]
    return (
        CoverPoint(f"{side}.options", xf=lambda form, options, kind: f"{form} {optional[options]}", bins=options),
        CoverPoint(f"{side}.extensions", xf=lambda form, options, kind: f"{form}: {kind}", bins=kinds),
    )


@coverage_section(*_headers("outbound"))
def outbound_headers(form: str, options: bool, kind: str) -> None:
    """A packet that was protected: its IPv4 options, and once for each of its extension headers which of KINDS."""


@coverage_section(*_headers("inbound"))
def inbound_headers(form: str, options: bool, kind: str) -> None:
    """A packet that was released: its IPv4 options, and once for each of its extension headers which of KINDS."""


def headers(record: Callable[[str, bool, str], None], form: str, packet: bytes) -> None:
    """Sample a packet by outbound_headers or inbound_headers."""
    header = parse(packet)
    if isinstance(header, Ipv4Header):
        record(form, bool(header.options), "none")
        return
    found = [EXTENSIONS[extension.protocol] for extension in walk(packet, header).headers]
    for kind in found or ["none"]:
        record(form, False, kind)


@CoverPoint(
    "inbound.ecn",
    xf=lambda form, inner, outer: f"{form}: {ECN[inner]} under {ECN[outer]}",
    bins=[f"{form}: {inner} under {outer}" for form in FORMS[:4] for inner in ECN for outer in ECN],
)
def inbound_ecn(form: str, inner: int, outer: int) -> None:
    """An authentic packet out of a tunnel, as it came in both headers (RFC 6040 §4.2, figure 4)."""


@dataclass(frozen=True)
class Outer:
    """What an SA makes of a packet's header in the outer one: how the SA has it, and what there was."""

    form: str
    ecn_copied: bool
    ecn: int
    dscp: str  # "copy", "clear", "set"
    df: str  # "copy", "clear", "set"
    df_inside: str  # of DF_INSIDE
    flow: str  # "copy", "zero", "set"


_OVER_4, _OVER_6 = FORMS[:2], FORMS[2:4]


@coverage_section(
    CoverPoint(
        "outbound.ecn",
        xf=lambda outer: f"{outer.form}: {ECN[outer.ecn]} {'copied' if outer.ecn_copied else 'kept inside'}",
        bins=[f"{form}: {ecn} {how}" for form in FORMS[:4] for ecn in ECN for how in ("copied", "kept inside")],
    ),
    CoverPoint(
        "outbound.dscp",
        xf=lambda outer: f"{outer.form}: {outer.dscp}",
        bins=[f"{form}: {how}" for form in FORMS[:4] for how in ("copy", "clear", "set")],
    ),
    CoverPoint(
        "outbound.df",
        xf=lambda outer: f"{outer.form}: {outer.df}, {outer.df_inside} inside",
        bins=[
            f"{form}: {how}, {inside} inside"
            for form in _OVER_4
            for how in ("copy", "clear", "set")
            for inside in DF_INSIDE
            if (inside == "IPv6") == (_inner(form) == 6)
        ],
    ),
    CoverPoint(
        "outbound.flow",
        xf=lambda outer: f"{outer.form}: {outer.flow}",
        bins=[f"{form}: {how}" for form in _OVER_6 for how in ("copy", "zero", "set")],
    ),
)
def outbound_outer(outer: Outer) -> None:
    """A packet that got an outer header (RFC 4301 §5.1.2.1, §5.1.2.2, §8.1, RFC 6040 §4.1)."""


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
