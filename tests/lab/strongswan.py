"""strongSwan as the peer: one charon in a namespace. ESP is in its own process (kernel-libipsec) or in the kernel."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.namespace import SBIN, Namespace
from tests.lab.process import Process
from tests.lab.vici import Section, Value, Vici, ViciError

PLUGINS = (
    "random nonce drbg openssl aes aesni sha1 sha2 hmac kdf gcm ctr cmac mgf1 chapoly curve25519 gmp "
    "pem pkcs1 pkcs8 pubkey x509 constraints revocation "
    "kernel-netlink socket-default counters vici"
)


@functools.cache
def why_not() -> str | None:
    """Why no strongSwan can be had here, or None."""
    if shutil.which("charon-systemd", path=SBIN) is None:
        return "strongSwan is missing (tools/setup.sh system peer)"
    if not Path("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so").exists():
        return "strongSwan has no kernel-libipsec plugin (tools/setup.sh system peer)"
    return None


@dataclass(frozen=True, slots=True)
class ChildSaView:
    """A CHILD SA as charon sees it. Selectors as charon writes them; suite in its words."""

    name: str
    uniqueid: int
    state: str
    spi_in: str
    spi_out: str
    encapsulated: bool
    encryption: str
    integrity: str
    key_exchange: str
    bytes_in: int
    packets_in: int
    bytes_out: int
    packets_out: int
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IkeSaView:
    """An IKE SA as charon sees it."""

    name: str
    uniqueid: int
    state: str
    initiator: bool
    spi_i: str
    spi_r: str
    local_id: str
    remote_id: str
    local_host: str
    remote_host: str
    remote_port: int
    nat_local: bool
    nat_remote: bool
    encryption: str
    integrity: str
    prf: str
    key_exchange: str
    children: tuple[ChildSaView, ...]

    @property
    def installed(self) -> tuple[ChildSaView, ...]:
        """The children that carry traffic."""
        return tuple(child for child in self.children if child.state == "INSTALLED")


def _text(section: Section, key: str) -> str:
    value = section.get(key, "")
    return value if isinstance(value, str) else ""


def _cipher(section: Section, name: str) -> str:
    size = _text(section, f"{name}-keysize")
    return _text(section, f"{name}-alg") + (f"-{size}" if size else "")


def _child(section: Section) -> ChildSaView:
    def texts(key: str) -> tuple[str, ...]:
        value = section.get(key, [])
        return tuple(value) if isinstance(value, list) else ()

    return ChildSaView(
        name=_text(section, "name"),
        uniqueid=int(_text(section, "uniqueid")),
        state=_text(section, "state"),
        spi_in=_text(section, "spi-in"),
        spi_out=_text(section, "spi-out"),
        encapsulated=_text(section, "encap") == "yes",
        encryption=_cipher(section, "encr"),
        integrity=_cipher(section, "integ"),
        key_exchange=_text(section, "dh-group"),
        bytes_in=int(_text(section, "bytes-in") or 0),
        packets_in=int(_text(section, "packets-in") or 0),
        bytes_out=int(_text(section, "bytes-out") or 0),
        packets_out=int(_text(section, "packets-out") or 0),
        local_ts=texts("local-ts"),
        remote_ts=texts("remote-ts"),
    )


def _ike(name: str, section: Section) -> IkeSaView:
    children = section.get("child-sas", {})
    assert isinstance(children, dict)
    return IkeSaView(
        name=name,
        uniqueid=int(_text(section, "uniqueid")),
        state=_text(section, "state"),
        initiator=_text(section, "initiator") == "yes",
        spi_i=_text(section, "initiator-spi"),
        spi_r=_text(section, "responder-spi"),
        local_id=_text(section, "local-id"),
        remote_id=_text(section, "remote-id"),
        local_host=_text(section, "local-host"),
        remote_host=_text(section, "remote-host"),
        remote_port=int(_text(section, "remote-port") or 0),
        nat_local=_text(section, "nat-local") == "yes",
        nat_remote=_text(section, "nat-remote") == "yes",
        encryption=_cipher(section, "encr"),
        integrity=_cipher(section, "integ"),
        prf=_text(section, "prf-alg"),
        key_exchange=_text(section, "dh-group"),
        children=tuple(_child(child) for child in children.values() if isinstance(child, dict)),
    )


class StrongSwan:
    """One charon. Connections and secrets are given over its management socket, in swanctl.conf's words.

    ``settings`` are lines for the charon section of strongswan.conf, such as ``"retransmit_tries = 2"``. ``stock``
    loads the plugins that the distribution loads, in its order, in place of our own choice (which keeps the kernel's
    crypto interface out and is faster). ``kernel``: the kernel carries ESP.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        name: str = "charon",
        settings: Iterable[str] = (),
        stock: bool = False,
        kernel: bool = False,
        log_level: int = 1,
    ) -> None:
        self._stock = stock
        self._kernel = kernel
        self._log_level = log_level
        self.namespace = namespace
        self.name = name
        self.directory = namespace.directory / f"{namespace.name}-{name}"
        self.directory.mkdir()
        self.socket = self.directory / "vici"
        self.process: Process | None = None
        self._vici: Vici | None = None
        namespace.endings.append(self._gone)
        (self.directory / "strongswan.conf").write_text(self._configuration(settings))

    def _configuration(self, settings: Iterable[str]) -> str:
        extra = "\n  ".join(settings)
        plugins = PLUGINS if self._kernel else f"kernel-libipsec {PLUGINS}"
        load = "load_modular = yes" if self._stock else f"load = {plugins}"
        include = "include /etc/strongswan.d/charon/*.conf" if self._stock else ""
        # Lines go to stderr, flushed one by one, and from there into the lab's log.
        return f"""
charon-systemd {{
  {load}
  install_virtual_ip = no
  journal {{ default = -1 }}
  filelog {{ stderr {{ default = {self._log_level}
      flush_line = yes
      time_format = %T }} }}
  plugins {{
    {include}
    vici {{ socket = unix://{self.socket} }}
    kernel-libipsec {{ load = {"no" if self._kernel else "yes"} }}
    openssl {{ fips_mode = 0 }}
  }}
  {extra}
}}
"""

    def start(self) -> StrongSwan:
        """Starts charon and waits until its management socket answers. Returns itself."""
        self.socket.unlink(missing_ok=True)
        # AppArmor's profile of charon goes by its path and would keep it from the lab's files: a copy has none.
        program = self.directory / "charon-systemd"
        shutil.copy2(shutil.which("charon-systemd", path=SBIN) or "charon-systemd", program)
        self.process = self.namespace.spawn(
            [str(program)],
            name=self.name,
            env={"STRONGSWAN_CONF": str(self.directory / "strongswan.conf")},
            private_run=True,
        )
        deadline = time.monotonic() + 15
        while True:
            try:
                self._vici = Vici(self.socket)
                self._vici.request("version")
                return self
            except (OSError, ViciError):
                if not self.process.running or time.monotonic() > deadline:
                    raise RuntimeError(f"charon did not start:\n{self.process.tail()}") from None
                time.sleep(0.02)  # it says nowhere that its socket is there

    @property
    def vici(self) -> Vici:
        """The management connection."""
        if self._vici is None:
            raise RuntimeError("charon is not running")
        return self._vici

    @property
    def log(self) -> str:
        """All that charon has logged."""
        return self.process.text() if self.process is not None else ""

    def _gone(self) -> None:
        if self._vici is not None:
            self._vici.close()
            self._vici = None

    def stop(self) -> None:
        """An orderly end: charon deletes its SAs at the peer."""
        self._gone()
        if self.process is not None:
            self.process.stop()

    def kill9(self) -> None:
        """An end without a word to the peer."""
        self._gone()
        if self.process is not None:
            self.process.kill9()

    def restart(self) -> None:
        """Starts again after :meth:`stop` or :meth:`kill9`; connections and secrets have to be loaded anew."""
        self.start()

    def version(self) -> str:
        """Such as ``5.9.8``."""
        return _text(self.vici.request("version"), "version")

    def load_psk(self, secret: str, *owners: str) -> None:
        """A pre-shared key for these identities, or for all."""
        self.vici.request("load-shared", {"type": "IKE", "data": secret, "owners": list(owners)})

    def load_ca(self, certificate: bytes) -> None:
        """A trust anchor, PEM or DER."""
        self.vici.request("load-cert", {"type": "X509", "flag": "CA", "data": certificate})

    def load_cert(self, certificate: bytes) -> None:
        """An end entity's certificate, or an intermediate CA's to send along."""
        self.vici.request("load-cert", {"type": "X509", "flag": "NONE", "data": certificate})

    def load_key(self, key: bytes) -> None:
        """A private key, PEM."""
        self.vici.request("load-key", {"type": "any", "data": key})

    def load_connection(self, name: str, settings: Mapping[str, Value]) -> None:
        """A connection in swanctl.conf's words; loading one of the same name again replaces it."""
        self.vici.request("load-conn", {name: settings})

    def unload_connection(self, name: str) -> None:
        """Forgets a connection; its SAs stay."""
        self.vici.request("unload-conn", {"name": name})

    def clear(self) -> None:
        """Forgets all connections, secrets and certificates, and drops all SAs."""
        for sa in self.sas():
            self.terminate(uniqueid=sa.uniqueid, force=True)
        names = self.vici.request("get-conns").get("conns", [])
        for name in names if isinstance(names, list) else []:
            self.unload_connection(name)
        self.vici.request("clear-creds")

    def initiate(self, *, child: str, ike: str | None = None, timeout: float = 10.0) -> None:
        """Brings a child up. Raises :class:`ViciError` if that fails or takes longer."""
        request: dict[str, Value] = {"child": child, "timeout": str(int(timeout * 1000))}
        if ike is not None:
            request["ike"] = ike
        self.vici.request("initiate", request)

    def terminate(
        self, *, ike: str | None = None, child: str | None = None, uniqueid: int | None = None, force: bool = False
    ) -> None:
        """Deletes SAs, by name or by number; with ``force`` without asking the peer."""
        request: dict[str, Value] = {"timeout": "10000", "force": "yes" if force else "no"}
        if ike is not None:
            request["ike"] = ike
        if child is not None:
            request["child"] = child
        if uniqueid is not None:
            request["ike-id"] = str(uniqueid)
        self.vici.request("terminate", request)

    def rekey(self, *, ike: str | None = None, child: str | None = None) -> None:
        """Starts a rekey; returns before it is done."""
        self.vici.request("rekey", {"ike": ike} if ike is not None else {"child": child or ""})

    def sas(self) -> list[IkeSaView]:
        """All IKE SAs with their children."""
        found: list[IkeSaView] = []
        for event in self.vici.stream("list-sas", "list-sa"):
            found += [_ike(name, section) for name, section in event.items() if isinstance(section, dict)]
        return found

    def established(self, name: str) -> IkeSaView:
        """The one established IKE SA of this name. Raises LookupError with what is there otherwise."""
        found = [sa for sa in self.sas() if sa.name == name]
        up = [sa for sa in found if sa.state == "ESTABLISHED"]
        if len(up) != 1:
            raise LookupError(f"not one established IKE SA {name}: {[(s.name, s.state) for s in found]}")
        return up[0]

    def counters(self) -> dict[str, int]:
        """charon's global IKE counters."""
        section = self.vici.request("get-counters", {"all": "no"}).get("counters", {})
        assert isinstance(section, dict)
        values = section.get("", {})
        return (
            {key: int(value) for key, value in values.items() if isinstance(value, str)}
            if isinstance(values, dict)
            else {}
        )
