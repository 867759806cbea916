"""The types of values that a configuration has, each with its notation. A wrong value is a ``Fault``, never a guess."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from appliance.config.secret import Secret
from appliance.reasons import Reason
from appliance.sa.identity import Identity
from appliance.sa.proposal import Proposal, ProtocolId, parse_proposal
from appliance.sa.selector import Address, Network, TrafficSelector

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DURATION = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
_BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", 1)},
}


class Fault(Exception):  # noqa: N818 - it is what is wrong with a value, and becomes a Problem
    """What is wrong with a value. ``index`` is the element at fault where the value is a list."""

    def __init__(self, reason: Reason, what: str, cause: str, remedy: str, index: int | None = None) -> None:
        super().__init__(what)
        self.reason, self.what, self.cause, self.remedy, self.index = reason, what, cause, remedy, index


@dataclass(frozen=True, slots=True)
class ValueType:
    """``words`` says what a user writes; ``parse`` takes what TOML has and raises Fault."""

    words: str
    parse: Callable[[Any], Any]


def shown(value: object) -> str:
    """A value as TOML writes it, shortened, for messages. Never given a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        text = "[" + ", ".join(shown(v) for v in value[:5]) + (", …]" if len(value) > 5 else "]")
    elif isinstance(value, str):
        text = '"' + value.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
    elif isinstance(value, int) and value.bit_length() > 128:
        text = "a huge number"  # Python refuses to print very long ones
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def duration_text(seconds: float) -> str:
    """Seconds in the largest unit that fits: "90s" but "2m", "8h"."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:g}s"


def _type_fault(value: object, words: str, secret: bool = False) -> Fault:
    kind = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a table"}
    found = kind.get(type(value), "a date or time")
    what = f"this is {found}" if secret or isinstance(value, dict | list) else f"{shown(value)} is {found}"
    return Fault(Reason.CONFIG_TYPE, what, f"the key takes {words}", f"write {words}")


def text(words: str, check: Callable[[str], str | None] = lambda _: None) -> ValueType:
    """A string that is not empty, on one line. ``check`` returns what is wrong with it, or None."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise _type_fault(value, words)
        if not value.strip():
            raise Fault(
                Reason.CONFIG_VALUE, "the string is empty", f"the key takes {words}", "write it, or remove the line"
            )
        if not value.isprintable():
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(value)} has control characters",
                "they cannot be seen, and mislead who reads them",
                "remove them",
            )
        wrong = check(value)
        if wrong:
            raise Fault(Reason.CONFIG_VALUE, f"{shown(value)} {wrong}", f"the key takes {words}", f"write {words}")
        return value

    return ValueType(words, parse)


def choice(enum: type[Enum], elsewhere: dict[str, str] | None = None) -> ValueType:
    """One of an enumeration's values, save those of ``elsewhere``, which says where they belong."""
    elsewhere = elsewhere or {}
    names = [str(member.value) for member in enum if member.value not in elsewhere]
    words = "one of " + ", ".join(f'"{name}"' for name in names)

    def parse(value: Any) -> Enum:
        if not isinstance(value, str):
            raise _type_fault(value, words)
        if value in elsewhere:
            raise Fault(
                Reason.CONFIG_VALUE, f"{shown(value)} is not for this key", f"the key takes {words}", elsewhere[value]
            )
        if value not in names:
            near = get_close_matches(value.lower(), names, n=1)
            remedy = f'did you mean "{near[0]}"?' if near else f"write {words}"
            raise Fault(Reason.CONFIG_VALUE, f"{shown(value)} is not known here", f"the key takes {words}", remedy)
        return enum(value)

    return ValueType(words, parse)


def _parse_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _type_fault(value, "true or false, without quotes")
    return value


BOOLEAN = ValueType("true or false", _parse_boolean)


def integer(
    low: int, high: int, unit: str = "", check: Callable[[int], str | None] = lambda _: None, *, off: bool = False
) -> ValueType:
    """A whole number from ``low`` to ``high``, both included; with ``off`` also the string "off", which gives None."""
    words = f"a whole number{f' of {unit}' if unit else ''} from {low} to {high}" + (' or "off"' if off else "")

    def parse(value: Any) -> int | None:
        if off and value == "off":
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise _type_fault(value, words)
        if not low <= value <= high:
            raise Fault(
                Reason.CONFIG_VALUE, f"{shown(value)} is out of range", f"the key takes {words}", f"write {words}"
            )
        wrong = check(value)
        if wrong:
            raise Fault(
                Reason.CONFIG_VALUE, f"{shown(value)} {wrong}", f"the key takes {words}", "choose another number"
            )
        return value

    return ValueType(words, parse)


def number(low: float, high: float) -> ValueType:
    """A number from ``low`` to ``high``."""
    words = f"a number from {low:g} to {high:g}"

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _type_fault(value, words)
        if not low <= value <= high:  # also refuses nan
            raise Fault(
                Reason.CONFIG_VALUE, f"{shown(value)} is out of range", f"the key takes {words}", f"write {words}"
            )
        return float(value)

    return ValueType(words, parse)


def duration(low: float, high: float, *, off: bool = False) -> ValueType:
    """Seconds, written with a unit: "30s", "1h30m". With ``off`` also "off", which gives None."""
    words = f'a duration from "{duration_text(low)}" to "{duration_text(high)}"' + (' or "off"' if off else "")

    def parse(value: Any) -> float | None:
        if off and value == "off":
            return None
        if not isinstance(value, bool) and isinstance(value, int | float):
            raise Fault(
                Reason.CONFIG_UNIT,
                f"{shown(value)} has no unit",
                "a bare number does not tell seconds from minutes",
                f'write "{shown(value)}s" if seconds are meant; units are ms, s, m, h and d',
            )
        if not isinstance(value, str):
            raise _type_fault(value, words)
        text = value.replace(" ", "")
        if text.replace(".", "", 1).isdecimal():
            raise Fault(
                Reason.CONFIG_UNIT,
                f"{shown(value)} has no unit",
                "a bare number does not tell seconds from minutes",
                f'write "{text}s" if seconds are meant; units are ms, s, m, h and d',
            )
        parts = _DURATION.findall(text)
        if not parts or "".join(n + u for n, u in parts) != text:
            raise Fault(
                Reason.CONFIG_UNIT,
                f"{shown(value)} is not a duration",
                "a duration is a number with a unit: ms, s, m, h or d",
                'write it as "30s", "5m", "1h30m" or "1d"' + (', or "off"' if off else ""),
            )
        seconds = sum(float(n) * _SECONDS[u] for n, u in parts)
        if not low <= seconds <= high:
            raise Fault(
                Reason.CONFIG_VALUE, f"{shown(value)} is out of range", f"the key takes {words}", f"write {words}"
            )
        return seconds

    return ValueType(words, parse)


def size(low: int, high: int) -> ValueType:
    """Bytes, written with a unit: "100GB" (powers of 1000), "64KiB" (powers of 1024)."""
    words = 'a size such as "100GB" or "64KiB"'
    by_lower = {unit.lower(): unit for unit in _BYTES}

    def parse(value: Any) -> int:
        if not isinstance(value, bool) and isinstance(value, int | float):
            raise Fault(
                Reason.CONFIG_UNIT,
                f"{shown(value)} has no unit",
                "a bare number does not tell bytes from gigabytes",
                f'write "{shown(value)}B" if bytes are meant; units are B, kB, MB, GB, TB, and KiB, MiB, GiB, TiB',
            )
        if not isinstance(value, str):
            raise _type_fault(value, words)
        match = _SIZE.fullmatch(value.strip())
        unit = by_lower.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise Fault(
                Reason.CONFIG_UNIT,
                f"{shown(value)} is not a size",
                "a size is a number with a unit: B, kB, MB, GB, TB, or KiB, MiB, GiB, TiB",
                'write it as "100GB" or "64KiB"',
            )
        whole, _, fraction = match[1].partition(".")
        bytes_: int = (int(whole + fraction) * _BYTES[unit]) // 10 ** len(fraction)
        if not low <= bytes_ <= high:
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(value)} is out of range",
                f"the key takes sizes from {low} to {high} bytes",
                "choose a size within",
            )
        return bytes_

    return ValueType(words, parse)


def _elements(value: Any, words: str) -> list[str]:
    """A string or a list of strings as a list."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _type_fault(value, words)
    if not value:
        raise Fault(
            Reason.CONFIG_VALUE, "the list is empty", f"the key takes {words}", f"write {words}, or remove the line"
        )
    for index, element in enumerate(value):
        if not isinstance(element, str):
            fault = _type_fault(element, "strings, in quotes")
            fault.index = index
            raise fault
    return value


def _each(value: Any, words: str, read: Callable[[str], Any]) -> tuple[Any, ...]:
    """``read`` over a string or a list of strings; faults get their element's index, repetitions are faults."""
    found: list[Any] = []
    elements = _elements(value, words)
    for index, element in enumerate(elements):
        try:
            item = read(element)
        except Fault as fault:
            fault.index = index if isinstance(value, list) else None
            raise
        if item in found:
            raise Fault(
                Reason.CONFIG_CONFLICT,
                f"{shown(element)} is in the list twice",
                "the second one has no effect",
                "remove one of them",
                index,
            )
        found.append(item)
    return tuple(found)


def _parse_addresses(value: Any) -> tuple[Address, ...]:
    def read(element: str) -> Address:
        try:
            address = ip_address(element.strip())
        except ValueError:
            raise _address_fault(element) from None
        if address.is_multicast or address.is_unspecified:
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(element)} is not an address of one machine",
                "an IKE peer is one machine",
                'write its address, or "%any" for any',
            )
        return address

    if value == "%any":
        return ()
    return _each(value, ADDRESSES_WORDS, read)


ADDRESSES_WORDS = 'an IP address in quotes, a list of them, or "%any"'


def _address_fault(element: str) -> Fault:
    if element == "%any":
        cause, remedy = '"%any" stands alone, not in a list', 'write "%any", or the list without it'
    elif "/" in element:
        cause, remedy = "this is a network, and the key takes single addresses", 'write the peer\'s address, or "%any"'
    elif re.search(r"[g-zG-Z]", element):
        cause, remedy = "names are not looked up: an answer from DNS would choose the peer", "write the address itself"
    else:
        cause, remedy = "it is neither an IPv4 nor an IPv6 address", 'write it as "192.0.2.1" or "2001:db8::1"'
    return Fault(Reason.CONFIG_VALUE, f"{shown(element)} is not an IP address", cause, remedy)


ADDRESSES = ValueType(ADDRESSES_WORDS, _parse_addresses)

_SELECTOR_WORDS = 'a list of selectors such as "10.1.0.0/24" or "fd01::/64[tcp/443]"'


def _parse_selectors(value: Any) -> tuple[TrafficSelector, ...]:
    def read(element: str) -> TrafficSelector:
        try:
            return TrafficSelector.parse(element)
        except ValueError as error:
            raise Fault(
                Reason.CONFIG_SELECTOR,
                f"{shown(element)} is not a traffic selector",
                str(error),
                _selector_remedy(element),
            ) from None

    return _each(value, _SELECTOR_WORDS, read)


def _selector_remedy(element: str) -> str:
    try:
        network = ip_network(element.partition("[")[0].strip(), strict=False)
    except ValueError:
        return 'write it as "10.1.0.0/24", "fd01::/64", "10.1.0.0/24[tcp/80]" or "10.0.0.1-10.0.0.9"'
    return (
        f'did you mean "{network}"?'
        if "[" not in element
        else f'the network is "{network}"; protocols are as in "[tcp/80]"'
    )


SELECTORS = ValueType(_SELECTOR_WORDS, _parse_selectors)


_ON_INTERFACE_WORDS = 'a list of addresses with their prefix such as "10.9.0.1/30" or "fd09::1/64"'


def _parse_interface_addresses(value: Any) -> tuple[IPv4Interface | IPv6Interface, ...]:
    def read(element: str) -> IPv4Interface | IPv6Interface:
        try:
            interface = ip_interface(element.strip())
        except ValueError as error:
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(element)} is not an address with its prefix",
                str(error),
                'write it as "10.9.0.1/30" or "fd09::1/64"',
            ) from None
        address, network = interface.ip, interface.network
        if "/" not in element:
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(element)} has no prefix",
                "it tells which addresses are reached through the interface",
                f'write "{address}/{address.max_prefixlen}" if none but the routes are, or a shorter prefix',
            )
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(element)} is not an address that an interface can have",
                "nobody could answer to it",
                "write an address of this gateway in the tunnel",
            )
        if network.version == 4 and network.prefixlen < 31 and address in (network[0], network[-1]):
            raise Fault(
                Reason.CONFIG_VALUE,
                f"{shown(element)} is the {'network' if address == network[0] else 'broadcast address'} itself",
                "a host has an address between the two",
                f'write one of them, such as "{network[1]}/{network.prefixlen}"',
            )
        return interface

    return _each(value, _ON_INTERFACE_WORDS, read)


INTERFACE_ADDRESSES = ValueType(_ON_INTERFACE_WORDS, _parse_interface_addresses)

_NETWORKS_WORDS = 'a list of networks such as "10.2.0.0/16" or "fd02::/48"'


def _parse_networks(value: Any) -> tuple[Network, ...]:
    def read(element: str) -> Network:
        try:
            return ip_network(element.strip())
        except ValueError as error:
            raise Fault(
                Reason.CONFIG_VALUE, f"{shown(element)} is not a network", str(error), _network_remedy(element)
            ) from None

    return _each(value, _NETWORKS_WORDS, read)


def _network_remedy(element: str) -> str:
    try:
        network = ip_network(element.partition("[")[0].strip(), strict=False)
    except ValueError:
        return 'write it as "10.2.0.0/16" or "fd02::/48"; everything is "0.0.0.0/0" and "::/0"'
    return f'did you mean "{network}"?' if "[" not in element else f'write "{network}": routes know no protocols'


NETWORKS = ValueType(_NETWORKS_WORDS, _parse_networks)


def interface_name_fault(name: str) -> str | None:
    """What is wrong with an interface's name, or None."""
    # The name stands in firewall rules, where '*' and quotes mean something, and in paths of /proc.
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return "has more than letters, digits, '_', '.' and '-'"
    if name[0] in ".-":
        return f"starts with '{name[0]}'"
    if len(name) > 15:
        return f"is {len(name)} bytes long"
    return "is the kernel's own" if name in ("all", "default", "lo") else None


INTERFACE_NAME = text("an interface's name of at most 15 bytes", interface_name_fault)


def proposals(protocol: ProtocolId) -> ValueType:
    """Proposal strings in order of preference."""
    example = "aes256gcm16-prfsha384-ecp384" if protocol is ProtocolId.IKE else "aes256gcm16-esn"
    words = f'a list of proposals such as "{example}"'

    def read(element: str) -> Proposal:
        try:
            return parse_proposal(element, protocol)
        except ValueError as error:
            raise Fault(
                Reason.CONFIG_PROPOSAL,
                f"{shown(element)} is not a proposal for {protocol.name}",
                str(error),
                f'write it as "{example}"; appliance/config/README.md lists the words',
            ) from None

    return ValueType(words, lambda value: _each(value, words, read))


def identity(*, pattern: bool) -> ValueType:
    """An identity as text that ``Identity.parse`` takes; with ``pattern`` also wildcards."""
    words = 'an identity: "gw.example", "admin@example", an address, or "CN=gw, O=Example"'
    if pattern:
        words += '; "*.example" for all names below it, "%any" for all'

    def wrong(value: str) -> str | None:
        try:
            parsed = Identity.parse(value)
        except ValueError as error:
            return f"is no identity: {error}"
        if not pattern and (parsed == Identity.any() or value.startswith("*")):
            return "is a pattern, and this side has one identity"
        return "is longer than 1024 bytes" if len(parsed.data) > 1024 else None

    return text(words, wrong)


_PATH_WORDS = "a file's path, relative to the configuration file's folder"


def _path_text(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise Fault(
            Reason.CONFIG_VALUE, "the path is empty or has a NUL", f"the key takes {_PATH_WORDS}", "write the path"
        )
    return value


def _parse_path(value: Any) -> str:
    if not isinstance(value, str):
        raise _type_fault(value, _PATH_WORDS)
    return _path_text(value)


PATH = ValueType(_PATH_WORDS, _parse_path)
PATHS = ValueType(
    f"{_PATH_WORDS}, or a list of them", lambda value: _each(value, f"{_PATH_WORDS}, or a list", _path_text)
)


def _parse_secret(value: Any) -> Secret:
    if not isinstance(value, str):
        raise _type_fault(value, "a string, in quotes", secret=True)
    if not value:
        raise Fault(
            Reason.CONFIG_CREDENTIAL,
            "the secret is empty",
            "anybody could authenticate with it",
            "write a long random one, for example from: openssl rand -base64 33",
        )
    return Secret(value.encode())


SECRET = ValueType("a string; it is taken as it stands, in UTF-8", _parse_secret)


def names(known: tuple[str, ...], coming: tuple[str, ...] = ()) -> ValueType:
    """A list of some of ``known``, each once. ``coming`` names are known but not available."""
    words = "a list of " + ", ".join(f'"{name}"' for name in known)
    return ValueType(words, lambda value: _each(value, words, lambda element: _known(element, known, coming, words)))


def one_of(known: tuple[str, ...], coming: tuple[str, ...] = ()) -> ValueType:
    """One of ``known``. ``coming`` names are known but not available."""
    words = "one of " + ", ".join(f'"{name}"' for name in known)

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise _type_fault(value, words)
        return _known(value, known, coming, words)

    return ValueType(words, parse)


def _known(name: str, known: tuple[str, ...], coming: tuple[str, ...], words: str) -> str:
    if name in coming:
        raise Fault(
            Reason.CONFIG_VALUE, f"{shown(name)} is not in this version", "it has " + ", ".join(known), "remove it"
        )
    if name not in known:
        near = get_close_matches(name.lower(), known, n=1)
        remedy = f'did you mean "{near[0]}"?' if near else f"write {words}"
        raise Fault(Reason.CONFIG_VALUE, f"{shown(name)} is not known here", f"the key takes {words}", remedy)
    return name
