"""The control protocol: what the console and the daemon say to each other on the control socket.

A stream socket in the file system, one JSON object a line, UTF-8. A client may send many requests on one connection;
``id`` tells their answers apart.

    → {"id": 1, "call": "show", "args": {"what": "connections"}}
    ← {"id": 1, "progress": "text"}                                   any number, before the answer
    ← {"id": 1, "ok": true, "result": …}                              or
    ← {"id": 1, "ok": false, "error": {"reason": "UNKNOWN_NAME", "words": …, "detail": …, "remedy": …, "problems": […]}}

Every value here is what the console prints with ``--json``: keys are never left out, times of day are Unix seconds,
durations are seconds, sizes are bytes, and null means "not known" or "none".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from appliance.reasons import Reason, Refusal

PROTOCOL_VERSION = 1
"""Raised when an old client could misread an answer. New keys do not raise it: unknown ones are ignored."""

DEFAULT_SOCKET = "/run/esplanade/control.sock"
REQUEST_LIMIT = 64 * 1024
"""Bytes of the longest request line that a daemon takes."""
ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of the longest answer line that a client takes."""


class Call(StrEnum):
    """What can be asked."""

    SHOW = "show"
    INITIATE = "initiate"
    TERMINATE = "terminate"
    REKEY = "rekey"
    RELOAD = "reload"
    VERSION = "version"


class What(StrEnum):
    """What can be shown."""

    CONNECTIONS = "connections"
    SA = "sa"
    POLICIES = "policies"
    DATAPATH = "datapath"
    OFFLOAD = "offload"
    COUNTERS = "counters"
    LOG = "log"


class State(StrEnum):
    """How a connection or a child is. A connection that is configured is always shown, up or not."""

    ESTABLISHED = "established"
    CONNECTING = "connecting"
    REKEYING = "rekeying"
    CLOSING = "closing"
    RETRYING = "retrying"
    """Down; tried again at ``next_try_in``."""
    DOWN = "down"
    """Down, and nothing will be tried unless somebody asks."""
    ON_DEMAND = "on-demand"
    """Starts with the first packet that its policy protects."""
    WAITING = "waiting"
    """The peer is to start it."""


class Nat(StrEnum):
    """Who is behind a NAT (RFC 7296 §2.23)."""

    NONE = "none"
    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is not as it should be. ``since`` is Unix time."""

    reason: str
    words: str
    detail: str = ""
    remedy: str = ""
    since: float | None = None


class ChildRow(msgspec.Struct, frozen=True, kw_only=True):
    """A child as configured, with its newest SA pair if it has one."""

    name: str
    state: State
    reason: Cause | None = None
    spi_in: str | None = None
    spi_out: str | None = None
    suite: str | None = None
    mode: str = "tunnel"
    encapsulation: str | None = None
    """Either "none" (native ESP) or "udp"; null where there is no SA."""
    interface: str | None = None
    """The tunnel interface whose packets it protects; null: those that its selectors choose among all others."""
    local_ts: list[str] = []
    remote_ts: list[str] = []
    """As negotiated where there is an SA, else as configured."""
    bytes_in: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    packets_out: int = 0
    established_at: float | None = None
    rekey_in: float | None = None
    expires_in: float | None = None
    datapath: str | None = None
    how: str = ""
    """How the datapath carries the outbound SA, where there are several ways."""
    why_not: list[str] = []
    """As of its SAs."""
    returns_in: float | None = None
    """Seconds until it is rekeyed into a better datapath, if that goes on to run."""


class ConnectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as configured, with its IKE SA if it has one."""

    name: str
    state: State
    reason: Cause | None = None
    local_address: str | None = None
    local_port: int | None = None
    local_id: str = ""
    remote_address: str | None = None
    remote_port: int | None = None
    remote_id: str = ""
    initiator: bool | None = None
    spi_initiator: str | None = None
    spi_responder: str | None = None
    suite: str | None = None
    established_at: float | None = None
    rekey_in: float | None = None
    nat: Nat = Nat.NONE
    retries: int = 0
    next_try_in: float | None = None
    children: list[ChildRow] = []


class SaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One unidirectional ESP SA."""

    connection: str
    child: str
    direction: str
    """Either "in" or "out"."""
    spi: str
    """As 0x1234abcd."""
    source: str
    destination: str
    suite: str
    mode: str
    encapsulation: str
    """Either "none", or the UDP ports as "4500 > 4500"."""
    local_ts: list[str]
    remote_ts: list[str]
    datapath: str
    how: str = ""
    """How the datapath carries it, where there are several ways, as "crypto offload on eth0"."""
    why_not: list[str] = []
    """One line for each datapath before it in the order, and each better way in it, that did not take the SA."""
    returns_in: float | None = None
    """Seconds until it is replaced by one in a better datapath, if that goes on to run."""
    active: bool = True
    """Outbound: whether packets leave by this one."""
    age: float = 0.0
    rekey_in: float | None = None
    expires_in: float | None = None
    bytes: int = 0
    packets: int = 0
    sequence: int = 0
    replay_window: int = 0
    replays: int = 0
    integrity_failures: int = 0
    last_used_ago: float | None = None


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the security policy database, first match first."""

    name: str
    action: str
    """One of "protect", "bypass" or "discard"."""
    priority: int
    """As configured."""
    local_ts: list[str]
    remote_ts: list[str]
    state: str = ""
    """What happens to a packet now: "encrypted", "starts the connection", "dropped", "passes", …"""
    mode: str | None = None
    datapath: str | None = None
    """Where it is installed: a PROTECT policy's home, or all datapaths that run."""
    interface: str | None = None
    """The tunnel interface whose packets alone it is for."""


class MissingRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a datapath cannot do here, and why."""

    what: str
    reason: str
    words: str
    detail: str = ""
    remedy: str = ""


class DatapathRow(msgspec.Struct, frozen=True, kw_only=True):
    """One datapath of ``datapath.order``, in that order."""

    name: str
    usable: bool
    reason: Cause | None = None
    pid: int | None = None
    device: str | None = None
    sas: int = 0
    policies: int = 0
    avoided: str | None = None
    """Why nothing new goes to it at present, though it runs."""
    returns_in: float | None = None
    """Seconds until children that it could take return to it, if it goes on to run; null if nothing holds it back."""
    suites: list[str] = []
    modes: list[str] = []
    native: bool = False
    udp_encapsulation: bool = False
    interfaces: bool = False
    offload: bool = False
    replay_windows: tuple[int, int] = (0, 0)
    max_sas: int | None = None
    missing: list[MissingRow] = []


class OffloadRow(msgspec.Struct, frozen=True, kw_only=True):
    """One finding about the kernel or a network device, whether a datapath uses it or not."""

    subject: str
    """Either "kernel", or the name of a network device, or "devices" for all others together."""
    what: str
    able: bool | None = None
    """Null where only trying tells, and where ``text`` just tells something."""
    text: str = ""
    reason: Cause | None = None


class CounterRow(msgspec.Struct, frozen=True, kw_only=True):
    """One counter. ``words`` says what it counts, or the reason's words where it counts drops."""

    group: str
    """One of "ike", "datapath" or "daemon"."""
    name: str
    value: int
    words: str = ""


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """One event, oldest first. ``level`` is debug, info, warning or error."""

    time: float
    level: str
    room: str
    event: str
    text: str
    connection: str = ""
    child: str = ""
    reason: str = ""


class VersionResult(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers. ``ready``: the configuration is applied and the IKE sockets are open."""

    program: str
    version: str
    protocol: int
    pid: int
    started_at: float
    ready: bool
    config: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What initiate, terminate and rekey did: one line, and one for each thing of it."""

    name: str
    text: str
    details: list[str] = []


class ProblemRow(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in a configuration file. ``level`` is error or warning; ``line`` 0 means the whole file."""

    level: str
    file: str
    line: int
    column: int
    where: str
    reason: str
    what: str
    cause: str
    remedy: str


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changed. Names of children are "connection/child"."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    unchanged: int = 0
    policies_changed: bool = False
    restart_needed: list[str] = []
    """Keys whose new values take effect when the daemon is started again."""
    warnings: list[ProblemRow] = []


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not done. ``reason`` names an entry of the list of reasons."""

    reason: str
    words: str
    detail: str = ""
    remedy: str = ""
    problems: list[ProblemRow] = []


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``call`` is a string here so that an unknown one gets an answer."""

    id: int
    call: str
    args: dict[str, Any] = {}


class ShowArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``limit``: at most that many newest entries of the log."""

    what: What
    limit: int = 100


class NameArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``connection``, and a ``child`` of it or None for the IKE SA with all its children."""

    connection: str
    child: str | None = None


class NoArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For calls without arguments."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Any line from the daemon. ``progress`` lines have no ``ok``."""

    id: int
    ok: bool | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorRow | None = None
    progress: str | None = None


class ControlRefusal(Refusal):
    """A request was not done. ``error`` is what the daemon said, problems of a configuration included."""

    def __init__(self, error: ErrorRow) -> None:
        reason = Reason[error.reason] if error.reason in Reason.__members__ else Reason.INTERNAL
        super().__init__(reason, error.detail, remedy=error.remedy)
        self.error = error

    def __str__(self) -> str:
        return f"{self.error.words}: {self.error.detail}" if self.error.detail else self.error.words


ROWS: dict[What, type[msgspec.Struct]] = {
    What.CONNECTIONS: ConnectionRow,
    What.SA: SaRow,
    What.POLICIES: PolicyRow,
    What.DATAPATH: DatapathRow,
    What.OFFLOAD: OffloadRow,
    What.COUNTERS: CounterRow,
    What.LOG: LogRow,
}
"""The row of each thing shown; ``show``'s result is a list of them."""

_ARGS: dict[Call, type[ShowArgs] | type[NameArgs] | type[NoArgs]] = {
    Call.SHOW: ShowArgs,
    Call.INITIATE: NameArgs,
    Call.TERMINATE: NameArgs,
    Call.REKEY: NameArgs,
    Call.RELOAD: NoArgs,
    Call.VERSION: NoArgs,
}

Arguments = ShowArgs | NameArgs | NoArgs
_T = TypeVar("_T")


def decode_request(line: bytes) -> Request:
    """Read a request line. Raises Refusal (CONTROL_BAD_REQUEST) that says what is wrong with it."""
    if len(line) > REQUEST_LIMIT:
        raise Refusal(Reason.CONTROL_BAD_REQUEST, f"the line is longer than {REQUEST_LIMIT} bytes")
    return _decode(line, Request)


def decode_call(request: Request) -> tuple[Call, Arguments]:
    """A request's call and its arguments. Raises Refusal (CONTROL_UNKNOWN_CALL, CONTROL_BAD_REQUEST)."""
    try:
        call = Call(request.call)
    except ValueError:
        known = ", ".join(c.value for c in Call)
        raise Refusal(Reason.CONTROL_UNKNOWN_CALL, f"{request.call!r} is none of {known}") from None
    try:
        return call, msgspec.convert(request.args, _ARGS[call])
    except msgspec.ValidationError as error:
        raise Refusal(Reason.CONTROL_BAD_REQUEST, f"args of {call.value}: {error}") from None


def _decode(line: bytes, type_: type[_T]) -> _T:
    try:
        return msgspec.json.decode(line, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(Reason.CONTROL_BAD_REQUEST, str(error)) from None


def encode_request(id_: int, call: Call, args: Arguments) -> bytes:
    """A request's line."""
    return _line(Request(id=id_, call=call.value, args=msgspec.to_builtins(args)))


def encode_result(id_: int, result: object) -> bytes:
    """The line of an answer to something that was done. ``result``: rows, a list of rows, or None."""
    return _line({"id": id_, "ok": True, "result": result})


def encode_error(id_: int, error: ErrorRow) -> bytes:
    """The line of an answer to something that was not done."""
    return _line({"id": id_, "ok": False, "error": error})


def encode_progress(id_: int, text: str) -> bytes:
    """A line that tells how far something is."""
    return _line({"id": id_, "progress": text})


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def error_of(refusal: Refusal, problems: list[ProblemRow] | None = None) -> ErrorRow:
    """A refusal as it travels."""
    if isinstance(refusal, ControlRefusal):
        return refusal.error
    reason = refusal.reason
    return ErrorRow(
        reason=reason.name,
        words=reason.words,
        detail=refusal.detail,
        remedy=refusal.remedy,
        problems=list(problems or ()),
    )


def cause_of(refusal: Refusal, since: float | None = None) -> Cause:
    """A refusal as the reason of something that is down. ``since``: Unix time."""
    reason = refusal.reason
    return Cause(reason=reason.name, words=reason.words, detail=refusal.detail, remedy=refusal.remedy, since=since)


def parse_name(text: str) -> NameArgs:
    """Read ``NAME`` or ``NAME/CHILD``. Raises ValueError."""
    connection, slash, child = text.partition("/")
    if not connection or (slash and not child) or "/" in child:
        raise ValueError(f"{text!r} is not NAME or NAME/CHILD")
    return NameArgs(connection=connection, child=child or None)
