"""From a connection's values to the model, with the checks that look at more than one key."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from appliance.config.model import (
    Auth,
    Child,
    ChildLifetime,
    CloseAction,
    Connection,
    Dpd,
    IkeLifetime,
    Local,
    Policy,
    Remote,
    Retransmit,
    Start,
)
from appliance.config.read import Report, Section, dotted
from appliance.config.schema import DAY, HOUR
from appliance.config.values import NAME, duration_text, shown
from appliance.reasons import Reason
from appliance.sa.association import Mode
from appliance.sa.proposal import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS
from appliance.sa.selector import EVERYTHING, Address, TrafficSelector

_T = TypeVar("_T")
_SHORT_PSK = 16
_CLOSE_ACTIONS = {
    Start.INITIATE: CloseAction.RESTART,
    Start.ON_DEMAND: CloseAction.ON_DEMAND,
    Start.RESPOND: CloseAction.NONE,
}


def build_connection(name: str, section: Section, report: Report) -> Connection:
    """A connection, checked. What had a fault holds its default, and then the report has an error."""
    local, remote = section.table("local"), section.table("remote")
    _check_families(local, remote, report)
    _check_credentials(section, local, remote, report)
    start = _start(section, remote, report)
    children = tuple(
        _build_child(child_name, child, section, start, report) for child_name, child in section.tables("child").items()
    )
    if not children:
        report.add(
            section.path,
            Reason.CONFIG_MISSING_KEY,
            "the connection has no child",
            "it authenticates the peer and carries no traffic",
            f"add [{dotted(section.path)}.child.NAME] with local_ts and remote_ts",
            warning=True,
        )
    v = section.values
    return Connection(
        name=name,
        local=_local(local, report),
        remote=_remote(remote, report),
        psk=v["psk"],
        psk_file=_path(v["psk_file"], report),
        ike_proposals=v["ike_proposals"] or DEFAULT_IKE_PROPOSALS,
        start=start,
        dpd=_dpd(section.table("dpd"), report),
        lifetime=_ike_lifetime(section.table("lifetime"), report),
        retransmit=Retransmit(**section.table("retransmit").values),
        fragment_size=v["fragment_size"] if v["fragmentation"] else None,
        encapsulation=v["encapsulation"],
        keepalive=v["keepalive"],
        unique=v["unique"],
        children=children,
        line=report.line(section.path),
    )


def build_policy(section: Section, report: Report) -> Policy:
    """A bypass or discard policy, checked."""
    v = section.values
    if section.good("name") and not NAME.fullmatch(v["name"]):
        report.add(
            section.at("name"),
            Reason.CONFIG_NAME,
            f"{shown(v['name'])} is not a name",
            "names are of letters, digits, '.', '_' and '-', at most 64 of them",
            "choose another name",
            value=True,
        )
    if section.good("local_ts", "remote_ts"):
        _check_selector_families(section, v["local_ts"], v["remote_ts"], report)
    return Policy(
        name=v["name"] or "",
        action=v["action"],
        local_ts=v["local_ts"] or (),
        remote_ts=v["remote_ts"] or (),
        priority=v["priority"],
        line=report.line(section.path),
    )


def resolve(path: str, report: Report) -> Path:
    """A path of the file, relative to the file's folder."""
    return report.file.absolute().parent / path


def _path(path: str | None, report: Report) -> Path | None:
    return None if path is None else resolve(path, report)


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _local(section: Section, report: Report) -> Local:
    v = section.values
    id_ = v["id"]
    auth = _or(v["auth"], Auth.PSK)
    if id_ is None and auth is Auth.PSK and section.good("id", "auth", "address"):
        id_ = _address_as_id(section, v["address"], report)
    return Local(
        addresses=v["address"],
        id=id_,
        auth=auth,
        cert=_path(v["cert"], report),
        key=_path(v["key"], report),
    )


def _remote(section: Section, report: Report) -> Remote:
    v = section.values
    id_ = v["id"]
    auth = _or(v["auth"], Auth.PSK)
    if id_ is None and section.good("id", "auth", "address"):
        if auth is Auth.PSK:
            id_ = _address_as_id(section, v["address"], report)
        else:
            report.add(
                section.path,
                Reason.CONFIG_MISSING_KEY,
                "the peer's id is not given",
                "every certificate of the ca is accepted, whoever has it",
                'add id with the peer\'s identity, or id = "%any" if that is meant',
                warning=True,
            )
    return Remote(
        addresses=v["address"],
        id=id_ or "%any",
        auth=auth,
        ca=tuple(resolve(path, report) for path in v["ca"] or ()),
        port=v["port"],
    )


def _address_as_id(section: Section, addresses: tuple[Address, ...], report: Report) -> str | None:
    """With PSK an absent id is the address, which then has to be one."""
    if len(addresses) == 1:
        return str(addresses[0])
    report.add(
        section.at("id"),
        Reason.CONFIG_MISSING_KEY,
        "id is missing",
        "with psk it would be the address, and there is " + ("none" if not addresses else "more than one"),
        "add id" + (', or id = "%any" for every peer that has the key' if section.path[-1] == "remote" else ""),
    )
    return None


def _start(section: Section, remote: Section, report: Report) -> Start:
    start: Start | None = section.values["start"]
    anybody = not remote.values["address"]
    if start is None:
        return Start.RESPOND if anybody else Start.ON_DEMAND
    if anybody and start is not Start.RESPOND and section.good("start") and remote.good("address"):
        _report_start(section, start, report)
    return start


def _report_start(section: Section, start: Start, report: Report) -> None:
    report.add(
        section.at("start"),
        Reason.CONFIG_CONFLICT,
        f'start = "{start.value}" has no peer to go to',
        "remote.address is %any, so only the peer can start",
        'write the peer\'s address into remote.address, or start = "respond"',
        value=True,
    )


def _check_families(local: Section, remote: Section, report: Report) -> None:
    if not (local.good("address") and remote.good("address")):
        return
    ours, theirs = ({a.version for a in s.values["address"]} for s in (local, remote))
    if ours and theirs and not ours & theirs:
        report.add(
            remote.at("address"),
            Reason.CONFIG_CONFLICT,
            f"the local address is IPv{min(ours)} and the remote one IPv{min(theirs)}",
            "packets have two addresses of one family",
            "write two of the same family",
            value=True,
        )


def _check_credentials(section: Section, local: Section, remote: Section, report: Report) -> None:
    """What each side's ``auth`` needs is there, and nothing that nobody uses."""
    if not (local.good("auth") and remote.good("auth")):
        return
    methods = {local.values["auth"], remote.values["auth"]}
    has_psk = "psk" in section.present or "psk_file" in section.present
    if Auth.PSK in methods and not has_psk:
        report.add(
            section.path,
            Reason.CONFIG_CREDENTIAL,
            "psk is missing",
            'auth = "psk" needs the key that both sides share',
            'add psk_file = "FILE" or psk = "…"; openssl rand -base64 33 makes a good one',
        )
    if "psk" in section.present and "psk_file" in section.present:
        report.add(
            section.at("psk_file"),
            Reason.CONFIG_CREDENTIAL,
            "psk and psk_file are both given",
            "there is one key",
            "remove one of them",
        )
    if has_psk and Auth.PSK not in methods:
        _unused(section, "psk" if "psk" in section.present else "psk_file", 'no side has auth = "psk"', report)
    _check_psk(section, report)
    for side, needs, meaning in (
        (local, ("cert", "key"), "this side proves its identity with them"),
        (remote, ("ca",), "the peer's certificate is checked against it"),
    ):
        for name in needs:
            if side.values["auth"] is Auth.PUBKEY and name not in side.present:
                report.add(
                    side.path,
                    Reason.CONFIG_CREDENTIAL,
                    f"{name} is missing",
                    f'auth = "pubkey" needs {" and ".join(needs)}: {meaning}',
                    f'add {name} = "FILE.pem"',
                )
            elif side.values["auth"] is Auth.PSK and name in side.present:
                _unused(side, name, 'auth is "psk" here', report)


def _check_psk(section: Section, report: Report) -> None:
    psk = section.values["psk"]
    if psk is None:
        return
    secret = psk.reveal()
    if len(secret) < _SHORT_PSK:
        report.add(
            section.at("psk"),
            Reason.CONFIG_CREDENTIAL,
            f"the psk is shorter than {_SHORT_PSK} bytes",
            "whoever answers in the peer's place can guess it offline (RFC 7296 §2.15)",
            "use a long random one, for example from: openssl rand -base64 33",
            warning=True,
        )
    if secret[:2].lower() in (b"0x", b"0s"):
        report.add(
            section.at("psk"),
            Reason.CONFIG_CREDENTIAL,
            f'the psk starts with "{secret[:2].decode()}" and is taken as it stands',
            "strongSwan takes such secrets for hexadecimal or base64, and would have another key",
            "decode it on one side, or use a key that does not start so",
            warning=True,
        )


def _unused(section: Section, name: str, cause: str, report: Report) -> None:
    report.add(section.at(name), Reason.CONFIG_CREDENTIAL, f"{name} is not used", cause, f"remove {name}", warning=True)


def _dpd(section: Section, report: Report) -> Dpd:
    interval, timeout = section.values["interval"], section.values["timeout"]
    if interval is not None and section.good("interval", "timeout") and timeout < interval:
        report.add(
            section.at("timeout" if "timeout" in section.present else "interval"),
            Reason.CONFIG_LIFETIME,
            f"dpd.timeout ({duration_text(timeout)}) is shorter than dpd.interval ({duration_text(interval)})",
            "the peer would be taken for dead before it was asked",
            f"make timeout at least {duration_text(interval)}, better {duration_text(4 * interval)}",
            value=True,
        )
    return Dpd(interval=interval, timeout=timeout)


def _times(section: Section, bound: float, report: Report) -> tuple[float, float, float]:
    """Time, margin and jitter."""
    v = section.values
    time: float = v["time"]
    margin: float = _or(v["margin"], time / 10)
    jitter: float = _or(v["jitter"], time / 20)
    if section.good("time", "margin", "jitter"):
        if margin + jitter >= time:
            at = next((name for name in ("margin", "jitter", "time") if name in section.present), "time")
            report.add(
                section.at(at),
                Reason.CONFIG_LIFETIME,
                f"margin ({duration_text(margin)}) and jitter ({duration_text(jitter)})"
                f" take up the whole time ({duration_text(time)})",
                "the SA would be replaced as soon as it is there",
                "make margin + jitter smaller than time, or leave them out",
                value=True,
            )
        elif time > bound:
            report.add(
                section.at("time"),
                Reason.CONFIG_LIFETIME,
                f"keys live for {duration_text(time)}",
                f"assurance profiles want new ones after {duration_text(bound)} at most",
                f'write "{duration_text(bound)}" or less where they apply',
                warning=True,
                value=True,
            )
    return time, margin, jitter


def _ike_lifetime(section: Section, report: Report) -> IkeLifetime:
    time, margin, jitter = _times(section, DAY, report)
    return IkeLifetime(time=time, margin=margin, jitter=jitter)


def _build_child(name: str, section: Section, connection: Section, start: Start, report: Report) -> Child:
    v = section.values
    own: Start | None = v["start"]
    remote = connection.table("remote")
    if own not in (None, Start.RESPOND) and not remote.values["address"] and remote.good("address"):
        assert own is not None
        _report_start(section, own, report)
    start = own or start
    local_ts = _selectors(section, "local_ts", connection.table("local"), report)
    remote_ts = _selectors(section, "remote_ts", remote, report)
    if section.good("local_ts", "remote_ts") and local_ts and remote_ts:
        _check_selector_families(section, local_ts, remote_ts, report)
        if v["mode"] is Mode.TRANSPORT and section.good("mode"):
            _check_transport(section, connection, report)
    if v["mode"] is Mode.TRANSPORT and v["tfc"] is not None and section.good("mode", "tfc"):
        report.add(
            section.at("tfc"),
            Reason.CONFIG_CONFLICT,
            "tfc is given in transport mode",
            "only tunnel mode carries a packet's length inside, so that padding can be taken off (RFC 4303 §2.7)",
            'remove tfc, or write mode = "tunnel"',
        )
    lifetime = section.table("lifetime")
    time, margin, jitter = _times(lifetime, 8 * HOUR, report)
    return Child(
        name=name,
        local_ts=local_ts,
        remote_ts=remote_ts,
        esp_proposals=v["esp_proposals"] or DEFAULT_ESP_PROPOSALS,
        mode=v["mode"],
        lifetime=ChildLifetime(
            time=time,
            margin=margin,
            jitter=jitter,
            bytes=lifetime.values["bytes"],
            packets=lifetime.values["packets"],
        ),
        start=start,
        close_action=v["close_action"] or _CLOSE_ACTIONS[start],
        priority=v["priority"],
        replay_window=v["replay_window"],
        tfc=v["tfc"],
        dscp=v["dscp"],
        df=v["df"],
        interface=v["interface"],
        datapath=v["datapath"],
        offload=v["offload"],
        offload_device=v["offload_device"],
        line=report.line(section.path),
    )


def _selectors(section: Section, name: str, side: Section, report: Report) -> tuple[TrafficSelector, ...]:
    """A child's selectors; where they are absent, the side's outer address, or everything with an interface."""
    given: tuple[TrafficSelector, ...] | None = section.values[name]
    if given is not None:
        return given
    if not section.good("interface"):
        return ()
    if "interface" in section.present:
        other: tuple[TrafficSelector, ...] = section.values["remote_ts" if name == "local_ts" else "local_ts"] or ()
        families = {selector.version for selector in other or EVERYTHING}
        return tuple(selector for selector in EVERYTHING if selector.version in families)
    addresses: tuple[Address, ...] = side.values["address"]
    if not addresses and section.good(name) and side.good("address"):
        report.add(
            section.at(name),
            Reason.CONFIG_MISSING_KEY,
            f"{name} is missing",
            f"it would be {dotted(side.at('address'))}, which is not given either",
            f'add {name} = ["NETWORK/BITS"]',
        )
    return tuple(TrafficSelector.host(address) for address in addresses)


def _check_selector_families(
    section: Section, local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...], report: Report
) -> None:
    """Each selector has one of its family on the other side, else no packet ever matches it."""
    for name, ours, theirs, other in (
        ("local_ts", local, remote, "remote_ts"),
        ("remote_ts", remote, local, "local_ts"),
    ):
        families = {ts.version for ts in theirs}
        for index, selector in enumerate(ours):
            if selector.version not in families:
                report.add(
                    section.at(name, index),
                    Reason.CONFIG_SELECTOR,
                    f"{selector} is IPv{selector.version} and {other} has no IPv{selector.version}",
                    "a packet has two addresses of one family, so nothing would ever match it",
                    f"add an IPv{selector.version} selector to {other}, or remove this one",
                    value=True,
                )


def _check_transport(section: Section, connection: Section, report: Report) -> None:
    """Transport mode is between the two addresses of the SA itself (RFC 4301 §4.1, RFC 7296 §1.3.1)."""
    for name, side in (("local_ts", "local"), ("remote_ts", "remote")):
        addresses: tuple[Address, ...] = connection.table(side).values["address"]
        for index, selector in enumerate(section.values[name] or ()):
            host = selector.start == selector.end
            if host and (not addresses or selector.start in addresses):
                continue
            what = f"{selector} is not one address" if not host else f"{selector} is not {side}.address"
            report.add(
                section.at(name, index),
                Reason.CONFIG_SELECTOR,
                what,
                "transport mode is between the two gateways themselves (RFC 4301 §4.1)",
                f'leave {name} out to have {side}.address, or write mode = "tunnel"',
                value=True,
            )
