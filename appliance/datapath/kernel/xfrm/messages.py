"""The messages of NETLINK_XFRM as pyroute2's ``nlmsg`` classes: for pyroute2's own users, and the reference in tests.

Field names are those of linux/xfrm.h, a nested structure is a dictionary, addresses are the 16 bytes of xfrm_address_t,
and numbers that the header declares as __be16 or __be32 are plain numbers here::

    message = NewSa()
    message["id"] = {"daddr": IPv4Address("192.0.2.2").packed, "spi": 0xC0FFEE, "proto": 50}
    message["family"] = AF_INET
    message["attrs"] = [["XFRMA_MARK", {"v": 1, "m": 0xFF}]]
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK
    message.encode()
    sock.send(message.data)

Importing this imports pyroute2, all of it (pyroute2's ``__init__`` does): nothing else in this package does so. Keys do
not show in ``repr``, but live in ``message.data`` and may have been left behind wherever it grew:
:func:`XfrmMessage.wipe` helps with the former. Install SAs by way of ``requests`` instead.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from pyroute2.netlink import nla, nla_base_string, nlmsg

from . import layout
from .constants import Attribute, MessageType, SadAttribute, SpdAttribute
from .errors import Malformed
from .wire import NLM_F_DUMP, NLM_F_REQUEST, Buffer, frames


class HiddenKey(bytearray):
    """A key that does not show itself."""

    def __repr__(self) -> str:
        return f"<{len(self) * 8} bits>"

    __str__ = __repr__


class Structure(nla):  # type: ignore[misc]
    """An attribute that is one structure."""

    __slots__ = ()
    structure: ClassVar[layout.Layout]

    def decode(self) -> None:
        """Raises Malformed where pyroute2 would read on into the next attribute."""
        if self.length - 4 < self.structure.size:
            raise Malformed(f"struct {self.structure.name} in {self.length - 4} bytes")
        nla.decode(self)


class Trailing(nla_base_string):  # type: ignore[misc]
    """An attribute that is a structure (or several) and bytes whose number the structure tells."""

    __slots__ = ()
    structure: ClassVar[layout.Layout]
    value: Any

    def setvalue(self, value: Any) -> Trailing:
        """A dictionary here, not an update of the attribute's own."""
        self.value = value
        return self

    def encode(self) -> None:
        """From the dictionary or list in ``value``."""
        self["value"] = self.to_bytes(self.value)
        nla_base_string.encode(self)
        del self["value"]

    def decode(self) -> None:
        """To a dictionary or list."""
        nla_base_string.decode(self)
        raw = self["value"]
        del self["value"]
        del self["header"]
        try:
            self.value = self.from_bytes(raw)
        except struct.error as error:
            raise Malformed(f"struct {self.structure.name}: {error}") from None

    def to_bytes(self, value: Any) -> bytearray:
        """The payload."""
        raise NotImplementedError

    def from_bytes(self, raw: bytes) -> Any:
        """The value."""
        raise NotImplementedError


class Algorithm(Trailing):
    """struct xfrm_algo; its length in bits follows from ``alg_key`` where it is not given."""

    __slots__ = ()
    structure = layout.ALGO

    def setvalue(self, value: Any) -> Trailing:
        """Hides the key."""
        return super().setvalue({**value, "alg_key": HiddenKey(value.get("alg_key", b""))})

    def to_bytes(self, value: Any) -> bytearray:
        """Structure and key."""
        fields = dict(value)
        key = fields.pop("alg_key")
        fields.setdefault("alg_key_len", len(key) * 8)
        raw = bytearray(self.structure.size + len(key))
        self.structure.pack_into(raw, 0, fields)
        raw[self.structure.size :] = key
        return raw

    def from_bytes(self, raw: bytes) -> Any:
        """A dictionary with ``alg_key``."""
        found = self.structure.unpack(raw)
        end = self.structure.size + (found["alg_key_len"] + 7) // 8
        if end > len(raw):
            raise Malformed(f"a key of {found['alg_key_len']} bits in {len(raw) - self.structure.size} bytes")
        found["alg_name"] = found["alg_name"].partition(b"\0")[0]
        found["alg_key"] = HiddenKey(raw[self.structure.size : end])
        return found


class AuthAlgorithm(Algorithm):
    """struct xfrm_algo_auth."""

    __slots__ = ()
    structure = layout.ALGO_AUTH


class AeadAlgorithm(Algorithm):
    """struct xfrm_algo_aead."""

    __slots__ = ()
    structure = layout.ALGO_AEAD


class ReplayEsnState(Trailing):
    """struct xfrm_replay_state_esn with ``bmp``, the bitmap as bytes; empty where only the structure is there."""

    __slots__ = ()
    structure = layout.REPLAY_STATE_ESN

    def to_bytes(self, value: Any) -> bytearray:
        """Structure and bitmap."""
        fields = dict(value)
        bitmap = fields.pop("bmp", b"")
        raw = bytearray(self.structure.size)
        self.structure.pack_into(raw, 0, fields)
        return raw + bytes(bitmap)

    def from_bytes(self, raw: bytes) -> Any:
        """A dictionary with ``bmp``."""
        found = self.structure.unpack(raw)
        size = self.structure.size
        if len(raw) not in (size, size + 4 * found["bmp_len"]):
            raise Malformed(f"a replay bitmap of {found['bmp_len']} words in {len(raw) - size} bytes")
        found["bmp"] = raw[size:]
        return found


class SecurityContext(Trailing):
    """struct xfrm_user_sec_ctx with ``ctx_str``."""

    __slots__ = ()
    structure = layout.USER_SEC_CTX

    def to_bytes(self, value: Any) -> bytearray:
        """Structure and context; the lengths follow from the context where they are not given."""
        fields = dict(value)
        context = fields.pop("ctx_str", b"")
        fields.setdefault("ctx_len", len(context))
        fields.setdefault("len", self.structure.size + len(context))
        raw = bytearray(self.structure.size)
        self.structure.pack_into(raw, 0, fields)
        return raw + bytes(context)

    def from_bytes(self, raw: bytes) -> Any:
        """A dictionary with ``ctx_str``."""
        found = self.structure.unpack(raw)
        start = self.structure.size
        if start + found["ctx_len"] > len(raw):
            raise Malformed(f"a security context of {found['ctx_len']} bytes in {len(raw) - start}")
        found["ctx_str"] = raw[start : start + found["ctx_len"]]
        return found


class Array(Trailing):
    """Structures one after the other: a list of dictionaries."""

    __slots__ = ()

    def to_bytes(self, value: Any) -> bytearray:
        """One after the other."""
        raw = bytearray(self.structure.size * len(value))
        for number, one in enumerate(value):
            self.structure.pack_into(raw, number * self.structure.size, one)
        return raw

    def from_bytes(self, raw: bytes) -> Any:
        """A list."""
        size = self.structure.size
        if len(raw) % size:
            raise Malformed(f"struct {self.structure.name} in {len(raw)} bytes")
        return [self.structure.unpack(raw, at) for at in range(0, len(raw), size)]


class Templates(Array):
    """XFRMA_TMPL."""

    __slots__ = ()
    structure = layout.USER_TMPL


class Migrations(Array):
    """XFRMA_MIGRATE."""

    __slots__ = ()
    structure = layout.USER_MIGRATE


def _structure(name: str, described: layout.Layout) -> type:
    members = {
        "__slots__": (),
        "__doc__": f"struct {described.name}.",
        "__module__": __name__,
        "structure": described,
        "fields": described.fields(),
        "defaults": described.defaults(),
    }
    return type(name, (Structure,), members)


class XfrmMessage(nlmsg):  # type: ignore[misc]
    """What all of them have: the attributes. ``kind`` is the type that goes into the header if none is there."""

    __slots__ = ()
    kind: ClassVar[MessageType]
    prefix = "XFRMA_"
    nla_map: Any = tuple(
        (int(kind), f"XFRMA_{kind.name}", form)
        for kind, form in {
            Attribute.UNSPEC: "none",
            Attribute.ALG_AUTH: "algorithm",
            Attribute.ALG_CRYPT: "algorithm",
            Attribute.ALG_COMP: "algorithm",
            Attribute.ENCAP: "encap",
            Attribute.TMPL: "templates",
            Attribute.SA: "usersa_info",
            Attribute.POLICY: "userpolicy_info",
            Attribute.SEC_CTX: "security_context",
            Attribute.LTIME_VAL: "lifetime_cur",
            Attribute.REPLAY_VAL: "replay_state",
            Attribute.REPLAY_THRESH: "uint32",
            Attribute.ETIMER_THRESH: "uint32",
            Attribute.SRCADDR: "cdata",
            Attribute.COADDR: "cdata",
            Attribute.LASTUSED: "uint64",
            Attribute.POLICY_TYPE: "userpolicy_type",
            Attribute.MIGRATE: "migrations",
            Attribute.ALG_AEAD: "aead_algorithm",
            Attribute.KMADDRESS: "kmaddress",
            Attribute.ALG_AUTH_TRUNC: "auth_algorithm",
            Attribute.MARK: "mark",
            Attribute.TFCPAD: "uint32",
            Attribute.REPLAY_ESN_VAL: "replay_esn_state",
            Attribute.SA_EXTRA_FLAGS: "uint32",
            Attribute.PROTO: "uint8",
            Attribute.ADDRESS_FILTER: "address_filter",
            Attribute.PAD: "none",
            Attribute.OFFLOAD_DEV: "offload",
            Attribute.SET_MARK: "uint32",
            Attribute.SET_MARK_MASK: "uint32",
            Attribute.IF_ID: "uint32",
            Attribute.MTIMER_THRESH: "uint32",
            Attribute.SA_DIR: "uint8",
            Attribute.NAT_KEEPALIVE_INTERVAL: "uint32",
            Attribute.SA_PCPU: "uint32",
            Attribute.IPTFS_DROP_TIME: "uint32",
            Attribute.IPTFS_REORDER_WINDOW: "uint16",
            Attribute.IPTFS_DONT_FRAG: "flag",
            Attribute.IPTFS_INIT_DELAY: "uint32",
            Attribute.IPTFS_MAX_QSIZE: "uint32",
            Attribute.IPTFS_PKT_SIZE: "uint32",
        }.items()
    )

    algorithm = Algorithm
    auth_algorithm = AuthAlgorithm
    aead_algorithm = AeadAlgorithm
    replay_esn_state = ReplayEsnState
    security_context = SecurityContext
    templates = Templates
    migrations = Migrations
    encap = _structure("Encap", layout.ENCAP_TMPL)
    usersa_info = _structure("UserSaInfo", layout.USERSA_INFO)
    userpolicy_info = _structure("UserPolicyInfo", layout.USERPOLICY_INFO)
    lifetime_cur = _structure("LifetimeCur", layout.LIFETIME_CUR)
    replay_state = _structure("ReplayState", layout.REPLAY_STATE)
    userpolicy_type = _structure("UserPolicyType", layout.USERPOLICY_TYPE)
    kmaddress = _structure("KmAddress", layout.USER_KMADDRESS)
    mark = _structure("Mark", layout.MARK)
    address_filter = _structure("AddressFilter", layout.ADDRESS_FILTER)
    offload = _structure("Offload", layout.USER_OFFLOAD)

    def encode(self) -> None:
        """To ``data``."""
        self["header"].setdefault("type", int(self.kind))
        super().encode()
        # Where a message without attributes ends in the middle of a word, its length does too; pyroute2 pads it.
        del self.data[self.offset + self.length :]

    def wipe(self) -> None:
        """Overwrite ``data`` and the keys of the attributes. The message is of no use afterwards."""
        for _, value in [(slot[0], slot[1]) for slot in self["attrs"]]:
            if isinstance(value, dict) and isinstance(value.get("alg_key"), bytearray):
                value["alg_key"][:] = bytes(len(value["alg_key"]))
        self.data[:] = bytes(len(self.data))
        self["attrs"] = []

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.items() if name != "attrs" and not name.startswith("__")}
        shown["attrs"] = [[slot[0], _hidden(slot[1])] for slot in self.get("attrs") or []]
        return f"{type(self).__name__}({shown!r})"

    __str__ = __repr__


def _hidden(value: Any) -> Any:
    if isinstance(value, dict) and "alg_key" in value:
        return {**value, "alg_key": HiddenKey(value["alg_key"])}
    return value


class _Info(nlmsg):  # type: ignore[misc]
    """NEWSADINFO and NEWSPDINFO, whose attributes are their own."""

    __slots__ = ()
    kind: ClassVar[MessageType]
    fields = (("flags", layout.U32),)

    def encode(self) -> None:
        """To ``data``."""
        self["header"].setdefault("type", int(self.kind))
        super().encode()


class NewSadInfo(_Info):
    """NEWSADINFO."""

    __slots__ = ()
    kind = MessageType.NEWSADINFO
    prefix = "XFRMA_SAD_"
    nla_map = (
        (int(SadAttribute.UNSPEC), "XFRMA_SAD_UNSPEC", "none"),
        (int(SadAttribute.CNT), "XFRMA_SAD_CNT", "uint32"),
        (int(SadAttribute.HINFO), "XFRMA_SAD_HINFO", "hinfo"),
    )
    hinfo = _structure("SadHinfo", layout.SADHINFO)


class GetSadInfo(NewSadInfo):
    """GETSADINFO."""

    __slots__ = ()
    kind = MessageType.GETSADINFO


class NewSpdInfo(_Info):
    """NEWSPDINFO."""

    __slots__ = ()
    kind = MessageType.NEWSPDINFO
    prefix = "XFRMA_SPD_"
    nla_map = (
        (int(SpdAttribute.UNSPEC), "XFRMA_SPD_UNSPEC", "none"),
        (int(SpdAttribute.INFO), "XFRMA_SPD_INFO", "info"),
        (int(SpdAttribute.HINFO), "XFRMA_SPD_HINFO", "hinfo"),
        (int(SpdAttribute.IPV4_HTHRESH), "XFRMA_SPD_IPV4_HTHRESH", "threshold"),
        (int(SpdAttribute.IPV6_HTHRESH), "XFRMA_SPD_IPV6_HTHRESH", "threshold"),
    )
    info = _structure("SpdInfo", layout.SPDINFO)
    hinfo = _structure("SpdHinfo", layout.SPDHINFO)
    threshold = _structure("SpdThreshold", layout.SPDHTHRESH)


class GetSpdInfo(NewSpdInfo):
    """GETSPDINFO."""

    __slots__ = ()
    kind = MessageType.GETSPDINFO


def _message(name: str, kind: MessageType, described: layout.Layout | None) -> type[XfrmMessage]:
    members: dict[str, Any] = {
        "__slots__": (),
        "__doc__": f"{kind.name}: " + (f"struct {described.name}." if described else "no structure."),
        "__module__": __name__,
        "kind": kind,
        "fields": described.fields() if described else (),
        "defaults": described.defaults() if described else {},
    }
    return type(name, (XfrmMessage,), members)


NewSa = _message("NewSa", MessageType.NEWSA, layout.USERSA_INFO)
UpdSa = _message("UpdSa", MessageType.UPDSA, layout.USERSA_INFO)
DelSa = _message("DelSa", MessageType.DELSA, layout.USERSA_ID)
GetSa = _message("GetSa", MessageType.GETSA, layout.USERSA_ID)
DumpSa = _message("DumpSa", MessageType.GETSA, None)
FlushSa = _message("FlushSa", MessageType.FLUSHSA, layout.USERSA_FLUSH)
AllocSpi = _message("AllocSpi", MessageType.ALLOCSPI, layout.USERSPI_INFO)
NewPolicy = _message("NewPolicy", MessageType.NEWPOLICY, layout.USERPOLICY_INFO)
UpdPolicy = _message("UpdPolicy", MessageType.UPDPOLICY, layout.USERPOLICY_INFO)
DelPolicy = _message("DelPolicy", MessageType.DELPOLICY, layout.USERPOLICY_ID)
GetPolicy = _message("GetPolicy", MessageType.GETPOLICY, layout.USERPOLICY_ID)
DumpPolicy = _message("DumpPolicy", MessageType.GETPOLICY, None)
FlushPolicy = _message("FlushPolicy", MessageType.FLUSHPOLICY, None)
Acquire = _message("Acquire", MessageType.ACQUIRE, layout.USER_ACQUIRE)
Expire = _message("Expire", MessageType.EXPIRE, layout.USER_EXPIRE)
PolExpire = _message("PolExpire", MessageType.POLEXPIRE, layout.USER_POLEXPIRE)
NewAe = _message("NewAe", MessageType.NEWAE, layout.AEVENT_ID)
GetAe = _message("GetAe", MessageType.GETAE, layout.AEVENT_ID)
Report = _message("Report", MessageType.REPORT, layout.USER_REPORT)
Migrate = _message("Migrate", MessageType.MIGRATE, layout.USERPOLICY_ID)
MigrateState = _message("MigrateState", MessageType.MIGRATE_STATE, layout.USER_MIGRATE_STATE)
Mapping = _message("Mapping", MessageType.MAPPING, layout.USER_MAPPING)
SetDefault = _message("SetDefault", MessageType.SETDEFAULT, layout.USERPOLICY_DEFAULT)
GetDefault = _message("GetDefault", MessageType.GETDEFAULT, layout.USERPOLICY_DEFAULT)

_CLASSES: dict[int, type[XfrmMessage] | type[_Info]] = {
    int(one.kind): one
    for one in (
        *(NewSa, UpdSa, DelSa, GetSa, FlushSa, AllocSpi),
        *(NewPolicy, UpdPolicy, DelPolicy, GetPolicy, FlushPolicy),
        *(Acquire, Expire, PolExpire, NewAe, GetAe, Report, Migrate, MigrateState, Mapping),
        *(NewSadInfo, GetSadInfo, NewSpdInfo, GetSpdInfo, SetDefault, GetDefault),
    )
}
_DUMPS = {int(one.kind): one for one in (DumpSa, DumpPolicy)}
_SCALARS = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8}


def decode(data: Buffer) -> list[Any]:
    """The messages in ``data``, each with all its attributes decoded. Raises Malformed.

    A message of unknown type is a plain nlmsg, an unknown attribute is called UNKNOWN.
    """
    found = []
    for frame in frames(data):
        kind = _CLASSES.get(frame.kind, nlmsg)
        if frame.kind in _DUMPS and frame.flags & NLM_F_REQUEST and frame.flags & NLM_F_DUMP == NLM_F_DUMP:
            kind = _DUMPS[frame.kind]
        size = sum(size_of(form) for _, form in kind.fields)
        if frame.end - frame.start < size:
            raise Malformed(f"{kind.__name__} of {frame.end - frame.start} bytes, not {size}")
        message = kind(data=bytearray(data[frame.start - 16 : frame.end]))
        try:
            message.decode()
            for slot in message.get("attrs") or ():
                name, cell = slot.cell
                least = _SCALARS.get(type(cell).__name__, 0)
                if cell.length - 4 < least:
                    raise Malformed(f"{name} of {cell.length - 4} bytes")
                if not cell.decoded:
                    cell.decode()
        except Malformed:
            raise
        except Exception as error:  # pyroute2 lets through whatever struct and its own code raise
            raise Malformed(f"{kind.__name__}: {type(error).__name__}") from error
        found.append(message)
    return found


def size_of(form: Any) -> int:
    """Bytes of one of ``fields``."""
    if isinstance(form, str):
        return struct.calcsize(form if form.startswith(">") else "=" + form)
    structure: layout.Layout = form.structure
    return structure.size
