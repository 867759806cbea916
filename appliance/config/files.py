"""Whether the files that a configuration names are there and hold what they should."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from appliance.config.model import Auth, Config, Connection
from appliance.config.read import KeyPath, Report
from appliance.reasons import Reason, Refusal
from appliance.sa.identity import Identity


def check_files(config: Config, report: Report) -> None:
    """Read every credential file that is used, and report what is wrong with it at the key that names it."""
    for connection in config.connections:
        _check_connection(connection, ("connection", connection.name), report)


def check_own_mode(file: Path, report: Report) -> None:
    """Warn of a configuration that holds a secret and that others than its owner may read or change."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if stat.S_ISREG(file.stat().st_mode) and mode & 0o077:
        report.add(
            (),
            Reason.CONFIG_CREDENTIAL,
            f"the file holds a psk and its mode is {mode:04o}",
            "others than its owner may read or change it",
            f"chmod 600 {file}, or move the key into a psk_file",
            warning=True,
        )


def _check_connection(connection: Connection, base: KeyPath, report: Report) -> None:
    local, remote = connection.local, connection.remote
    psk_file, cert, key = connection.psk_file, local.cert, local.key
    pubkey = local.auth is Auth.PUBKEY or remote.auth is Auth.PUBKEY
    if not pubkey and psk_file is None:
        return
    from appliance.config import credentials  # it brings all of X.509, which the rest does not need

    if psk_file is not None and Auth.PSK in (local.auth, remote.auth):
        at = (*base, "psk_file")
        _attempt(lambda: credentials.load_psk(psk_file, warn=_warner(at, report)), lambda _: at, report)
    if local.auth is Auth.PUBKEY and cert is not None and key is not None:
        cert_at, key_at = (*base, "local", "cert"), (*base, "local", "key")
        identity = None if local.id is None else Identity.parse(local.id)
        _attempt(
            lambda: credentials.load_credential(cert, key, identity=identity, warn=_warner(cert_at, report)),
            lambda refusal: key_at if str(key) in refusal.detail else cert_at,
            report,
        )
    if remote.auth is Auth.PUBKEY:
        for index, path in enumerate(remote.ca):
            at = (*base, "remote", "ca", index)
            _attempt_anchor(path, at, report)


def _attempt_anchor(path: Path, at: KeyPath, report: Report) -> None:
    from appliance.config import credentials

    _attempt(lambda: credentials.load_anchors([path], warn=_warner(at, report)), lambda _: at, report)


def _attempt(load: Callable[[], object], place: Callable[[Refusal], KeyPath], report: Report) -> None:
    try:
        load()
    except Refusal as refusal:
        report.add(
            place(refusal),
            refusal.reason,
            refusal.reason.words,
            refusal.detail or refusal.reason.words,
            refusal.remedy,
            value=True,
        )


def _warner(at: KeyPath, report: Report) -> Callable[[str], None]:
    """Takes "what is the matter; what to do"."""

    def warn(text: str) -> None:
        what, _, remedy = text.rpartition("; ")
        report.add(
            at,
            Reason.CONFIG_CREDENTIAL,
            what or text,
            "the gateway can run with it, but the peer may not accept it",
            remedy if what else "replace it",
            warning=True,
            value=True,
        )

    return warn
