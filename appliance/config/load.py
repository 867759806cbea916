"""Read a configuration file: everything in it is checked, and all its mistakes are told together."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appliance.config import files
from appliance.config.build import build_connection, build_policy, resolve
from appliance.config.handling import check_handling
from appliance.config.interfaces import build_interface, check_interfaces
from appliance.config.model import (
    SCHEMA_VERSION,
    Config,
    ControlSettings,
    DatapathSettings,
    DefaultPolicy,
    IkeSettings,
    KernelDatapath,
    LogSettings,
    Policy,
    SoftDatapath,
)
from appliance.config.overlap import check_overlaps
from appliance.config.problem import ConfigError, Problem
from appliance.config.read import Report, Section, read
from appliance.config.sides import check_sides
from appliance.reasons import Reason

MAX_FILE = 64 * 1024 * 1024
"""Bytes of the largest configuration that is read."""
_SOCKET_PATH = 107
"""Bytes of the longest path of a Unix socket on Linux (unix(7))."""


def load(path: Path | str, *, check_files: bool = True) -> Config:
    """Read and check a file, and with ``check_files`` the key files it names. Raises ConfigError with all problems."""
    file = Path(path)
    data = _read_bytes(file)
    config, report = _build(file, data)
    if check_files and not report.failed:
        files.check_files(config, report)
        if any(c.psk is not None for c in config.connections):
            files.check_own_mode(file, report)
    return _finish(config, report)


def loads(text: str | bytes, file: Path | str = "configuration") -> Config:
    """Check a text as ``load`` does, without looking at any file. ``file`` is for messages and relative paths."""
    data = text.encode() if isinstance(text, str) else text
    return _finish(*_build(Path(file), data))


def _finish(config: Config, report: Report) -> Config:
    if report.failed:
        raise ConfigError(report.sorted())
    object.__setattr__(config, "warnings", report.sorted())
    return config


def _build(file: Path, data: bytes) -> tuple[Config, Report]:
    root, report = read(file, data)
    _check_schema(root, report)
    connections = tuple(build_connection(name, section, report) for name, section in root.tables("connection").items())
    policies = tuple(build_policy(section, report) for section in root.tables("policy").values())
    _check_policy_names(policies, report)
    datapath, ike, control = root.table("datapath"), root.table("ike"), root.table("control")
    soft = SoftDatapath(**datapath.table("soft").values)
    interfaces = tuple(build_interface(section, report) for section in root.tables("interface").values())
    check_interfaces(interfaces, connections, soft.tun, report)
    check_overlaps(connections, policies, report)
    check_sides(connections, report)
    order = datapath.values["order"] if datapath.good("order") else None
    check_handling(connections, {interface.name for interface in interfaces}, soft.tun, order, report)
    _check_default_policy(datapath, report)
    _check_ports(ike, report)
    config = Config(
        path=file.absolute(),
        connections=connections,
        interfaces=interfaces,
        policies=policies,
        datapath=DatapathSettings(
            order=datapath.values["order"],
            return_after=datapath.values["return_after"],
            soft=soft,
            kernel=KernelDatapath(**datapath.table("kernel").values),
        ),
        ike=IkeSettings(**ike.values),
        log=LogSettings(**root.table("log").values),
        control=_control(control, report),
    )
    return config, report


def _check_schema(root: Section, report: Report) -> None:
    """Missing, or of another version; then other mistakes may only be the other version's ways, so it is alone."""
    version = root.values["schema"]
    if version is None and root.good("schema"):
        report.add(
            (),
            Reason.CONFIG_SCHEMA,
            "schema is missing",
            "it tells which version of the format the file is written in",
            f"put schema = {SCHEMA_VERSION} at the top of the file",
        )
    elif version is not None and version != SCHEMA_VERSION:
        report.problems.clear()
        report.add(
            ("schema",),
            Reason.CONFIG_SCHEMA,
            f"schema {version} is newer than this program",
            f"it knows schema {SCHEMA_VERSION}",
            f"install a newer version of Esplanade, or write the file for schema = {SCHEMA_VERSION}",
            value=True,
        )
        raise ConfigError(report.sorted())


def _check_policy_names(policies: tuple[Policy, ...], report: Report) -> None:
    first: dict[str, Policy] = {}
    for index, policy in enumerate(policies):
        before = first.setdefault(policy.name, policy)
        if before is not policy and policy.name:
            report.add(
                ("policy", index, "name"),
                Reason.CONFIG_CONFLICT,
                f"there are two policies {policy.name!r}, the other in line {before.line}",
                "names tell policies apart",
                "rename one of them",
                value=True,
            )


def _check_default_policy(datapath: Section, report: Report) -> None:
    kernel = datapath.table("kernel")
    block = kernel.values["default_policy"] is DefaultPolicy.BLOCK
    if block and datapath.good("order") and "kernel" not in datapath.values["order"]:
        report.add(
            kernel.at("default_policy"),
            Reason.CONFIG_CONFLICT,
            'default_policy is "block", and "kernel" is not in datapath.order',
            "only the kernel's datapath drops what no policy is for, so nothing would be dropped",
            'add "kernel" to [datapath] order, or remove default_policy',
            value=True,
        )


def _check_ports(ike: Section, report: Report) -> None:
    if ike.good("port", "port_nat") and ike.values["port"] == ike.values["port_nat"]:
        report.add(
            ike.at("port_nat" if "port_nat" in ike.present else "port"),
            Reason.CONFIG_CONFLICT,
            f"port and port_nat are both {ike.values['port']}",
            "IKE has a marker before it on port_nat and none on port (RFC 3948 §2.2)",
            "write different ports",
            value=True,
        )


def _control(section: Section, report: Report) -> ControlSettings:
    path = resolve(section.values["path"], report)
    if len(os.fsencode(path)) > _SOCKET_PATH:
        report.add(
            section.at("path"),
            Reason.CONFIG_VALUE,
            f"the path is {len(os.fsencode(path))} bytes long",
            f"a socket's path has at most {_SOCKET_PATH} bytes",
            "choose a shorter one",
            value=True,
        )
    return ControlSettings(path=path, group=section.values["group"])


def _read_bytes(file: Path) -> bytes:
    """The file's bytes. A file that cannot be read is a problem like others."""
    try:
        if not stat.S_ISREG(file.stat().st_mode) and not stat.S_ISFIFO(file.stat().st_mode):
            raise _unreadable(file, "it is not a file", "give the configuration file itself")
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise _unreadable(file, "there is no such file", "give the path of the configuration file") from None
    except PermissionError:
        remedy = "run as its owner or as root, or change its owner and mode"
        raise _unreadable(file, "this user may not read it", remedy) from None
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error), Reason.CONFIG_UNREADABLE.remedy) from None
    if len(data) > MAX_FILE:
        raise _unreadable(file, f"it is larger than {MAX_FILE >> 20} MiB", "see that it is the right file")
    return data


def _unreadable(file: Path, cause: str, remedy: str) -> ConfigError:
    problem = Problem(
        file=file,
        line=0,
        where="",
        reason=Reason.CONFIG_UNREADABLE,
        what="the configuration file cannot be read",
        cause=cause,
        remedy=remedy,
    )
    return ConfigError([problem])
