"""The probe of kernels: pretended ones of many kinds, and the one that runs here."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.datapath.kernel.capabilities import capabilities_of
from appliance.datapath.kernel.probe import kernel as kernel_module
from appliance.datapath.kernel.probe.abilities import Ability, KernelAbilities, kernel_version
from appliance.datapath.kernel.probe.kernel import Probe, probe_kernel
from appliance.datapath.kernel.probe.modules import why_not_loaded
from appliance.datapath.kernel.probe.namespace import elsewhere
from appliance.datapath.kernel.xfrm import State, XfrmSocket
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Integrity, every_suite
from appliance.sa.association import Mode
from tests.datapath.kernel.probe.pretended import PretendedKernel, Refusal

NEW = "6.12.118+deb13-amd64"


def made() -> None:
    """An interface that can be made."""


def look(pretended: PretendedKernel, release: str = NEW, interface: Callable[[], None] = made) -> KernelAbilities:
    with pretended.socket() as xfrm:
        return Probe(xfrm, release, interface).run()


def reasons(found: KernelAbilities) -> dict[str, Reason]:
    return {gap.what: gap.reason for gap in found.missing}


def test_a_kernel_that_takes_all_has_all() -> None:
    found = look(PretendedKernel())
    assert found.suites == every_suite() and found.able == frozenset(Ability) and found.missing == ()
    assert found.usable and found.native and found.udp_encapsulation
    assert found.modes == (Mode.TUNNEL, Mode.TRANSPORT) and found.replay_windows == (1, 4096)


def test_without_esp_there_is_one_row_for_it_and_nothing_that_could_not_be_tried() -> None:
    found = look(PretendedKernel(lambda state: (errno.EPROTONOSUPPORT, "Requested type not found")))
    assert reasons(found) == {"ESP over IPv4 and IPv6": Reason.NO_KERNEL_ESP}
    assert "Requested type not found (EPROTONOSUPPORT)" in found.missing[0].detail
    assert not found.usable and not found.suites and found.replay_windows == (0, 0)
    assert found.able == {Ability.POLICIES, Ability.DEFAULT_POLICY, Ability.INTERFACES}


@pytest.mark.parametrize(
    ("lacking", "other"),
    [(4, {Ability.ESP_IPV6, Ability.UDP_IPV6}), (6, {Ability.ESP_IPV4, Ability.UDP_IPV4})],
)
def test_esp_of_one_family_only_carries_all_suites(lacking: int, other: set[Ability]) -> None:
    def refuse(state: State) -> Refusal:
        if state.destination.version == lacking:
            return errno.EPROTONOSUPPORT, "Requested type not found"
        return (errno.EINVAL, "") if state.offload else None

    found = look(PretendedKernel(refuse))
    assert reasons(found) == {f"ESP over IPv{lacking}": Reason.NO_KERNEL_ESP}
    assert found.suites == every_suite() and found.able >= other
    assert found.able == frozenset(Ability) - {Ability[f"ESP_IPV{lacking}"], Ability[f"UDP_IPV{lacking}"]}
    assert found.missing[0].detail.startswith("Requested type")


def test_where_a_cipher_is_missing_that_is_not_taken_for_missing_esp() -> None:
    """The kernel looks for the algorithm first: ENOSYS then says nothing about ESP."""

    def refuse(state: State) -> Refusal:
        if state.aead is not None:
            return errno.ENOSYS, "Requested AEAD algorithm not found"
        return errno.EPROTONOSUPPORT, "Requested type not found"

    assert reasons(look(PretendedKernel(refuse))) == {"ESP over IPv4 and IPv6": Reason.NO_KERNEL_ESP}


def test_suites_without_their_algorithm_are_told_together_in_the_kernels_words() -> None:
    def refuse(state: State) -> Refusal:
        if state.offload:
            return errno.EINVAL, ""
        if state.aead is not None and "chacha" in state.aead.name:
            return errno.ENOENT, "Kernel was unable to initialize cryptographic operations"
        if state.auth is not None and state.auth.name == "hmac(sha384)":
            return errno.ENOSYS, "Requested AUTH_TRUNC algorithm not found"
        return None

    found = look(PretendedKernel(refuse))
    gone = [
        suite
        for suite in every_suite()
        if suite.encryption is Encryption.CHACHA20_POLY1305 or suite.integrity is Integrity.HMAC_SHA2_384_192
    ]
    assert set(found.suites) == set(every_suite()) - set(gone)
    assert {gap.reason for gap in found.missing} == {Reason.ALGORITHM_UNSUPPORTED}
    told = {gap.what: gap.detail for gap in found.missing}
    assert told["chacha20poly1305"].startswith("rfc7539esp(chacha20,poly1305): Kernel was unable")
    assert told["aes128-sha384, aes192-sha384, aes256-sha384"].startswith("cbc(aes) and hmac(sha384): Requested AUTH")
    assert len(told) == 3


def test_a_suite_that_lacks_only_esn_is_told_as_such() -> None:
    def refuse(state: State) -> Refusal:
        if state.offload:
            return errno.EINVAL, ""
        lacks = state.crypt is not None and state.replay_esn is not None and state.flags
        return (errno.ENOENT, "") if lacks else None

    found = look(PretendedKernel(refuse))
    assert all(suite.integrity is Integrity.NONE for suite in found.suites if suite.esn)
    assert Ability.ESN in found.able
    assert all("-esn" in what for gap in found.missing for what in gap.what.split(", "))


def test_what_an_old_kernel_ignores_is_found_by_reading_back_and_told_with_the_version() -> None:
    ignored = {"direction": None, "mapping_max_age": 0, "if_id": 0, "output_mark": None}
    found = look(PretendedKernel(ignored=ignored), "4.14.300")
    assert reasons(found) == dict.fromkeys(
        [
            "direction of an SA",
            "interval of NAT mapping events",
            "SAs of an interface",
            "output mark",
        ],
        Reason.KERNEL_TOO_OLD,
    )
    told = {gap.what: gap.detail for gap in found.missing}
    assert told["direction of an SA"] == "it came with Linux 6.10, and this is 4.14.300"


def test_what_a_new_kernel_ignores_is_not_its_age() -> None:
    found = look(PretendedKernel(ignored={"direction": None}))
    assert reasons(found) == {"direction of an SA": Reason.KERNEL_REFUSED}
    assert found.missing[0].detail == "it was taken and not kept"


def test_a_kernel_before_5_15_has_no_default_policy() -> None:
    assert reasons(look(PretendedKernel(defaults=False), "5.10.0-30")) == {"default policy": Reason.KERNEL_TOO_OLD}


def test_what_keeps_a_kernel_from_being_used_is_told_before_what_it_lacks_besides() -> None:
    pretended = PretendedKernel(lambda state: (errno.EPROTONOSUPPORT, "Requested type not found"), defaults=False)
    told = capabilities_of(look(pretended, "5.10.0-30"))
    assert not told.usable
    assert [gap.reason for gap in told.missing] == [Reason.NO_KERNEL_ESP, Reason.KERNEL_TOO_OLD]


@pytest.mark.parametrize(
    ("answer", "release", "expected"),
    [
        (
            None,
            NEW,
            {
                "crypto offload by a device": Reason.OFFLOAD_NOT_DONE,
                "packet offload by a device": Reason.OFFLOAD_NOT_DONE,
            },
        ),
        (
            (errno.EINVAL, "Type doesn't support offload"),
            NEW,
            {"crypto offload by a device": Reason.KERNEL_REFUSED, "packet offload by a device": Reason.KERNEL_REFUSED},
        ),
        (
            (errno.EINVAL, "Unrecognized flags in offload request"),
            "6.1.0",
            {"packet offload by a device": Reason.KERNEL_TOO_OLD},
        ),
        ((errno.EINVAL, ""), NEW, {}),
    ],
)
def test_how_the_loopback_is_refused_tells_what_offload_the_kernel_has(
    answer: Refusal, release: str, expected: dict[str, Reason]
) -> None:
    found = look(PretendedKernel(lambda state: answer if state.offload else None, {"offload": None}), release)
    offload = {what: reason for what, reason in reasons(found).items() if "offload" in what}
    assert offload == expected


def test_interfaces_that_cannot_be_made_are_told() -> None:
    def refuse() -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported: Unknown device type")

    found = look(PretendedKernel(), interface=refuse)
    assert reasons(found) == {"xfrm interfaces": Reason.INTERFACE_UNSUPPORTED}
    assert "CONFIG_XFRM_INTERFACE" in found.missing[0].detail


def test_versions_are_read_from_releases_of_every_taste() -> None:
    assert kernel_version("6.12.118+deb13-amd64") == (6, 12)
    assert kernel_version("5.4-rc1") == (5, 4)
    assert kernel_version("6.18.44-fc-v657") == (6, 18)
    assert kernel_version("next") is None


def test_a_module_is_told_with_what_would_load_it(tmp_path: Path) -> None:
    root, release = tmp_path, os.uname().release
    assert "there are no modules" in why_not_loaded("esp4", root)
    folder = root / "lib/modules" / release
    folder.mkdir(parents=True)
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/sys/kernel/modules_disabled").write_text("0\n")
    (folder / "modules.dep").write_text("kernel/net/ipv4/esp4.ko.xz: kernel/net/xfrm/xfrm_algo.ko.xz\n")
    assert why_not_loaded("esp4", root).endswith("modprobe esp4")
    assert why_not_loaded("esp6", root) == f"there is no module esp6 for {release}"
    (root / "proc/sys/kernel/modules_disabled").write_text("1\n")
    assert "modules_disabled" in why_not_loaded("esp4", root)
    (root / "sys/module/esp4").mkdir(parents=True)
    assert why_not_loaded("esp4", root) == "the module esp4 is loaded"


# The machine itself


def test_no_netlink_xfrm_is_no_xfrm(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> XfrmSocket:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr(kernel_module, "XfrmSocket", none)
    monkeypatch.setattr(kernel_module, "lacking", lambda: "")
    monkeypatch.setattr(kernel_module, "elsewhere", lambda function: function())
    found = probe_kernel()
    assert reasons(found) == {"the kernel's IPsec": Reason.NO_XFRM} and not found.usable


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EPERM, "Operation not permitted"), Reason.NO_PRIVILEGE),
        (OSError(errno.EINVAL, "Invalid argument"), Reason.KERNEL_REFUSED),
        (TimeoutError("the kernel is at it for 60 s"), Reason.KERNEL_REFUSED),
        (ZeroDivisionError("a fault"), Reason.INTERNAL),
    ],
)
def test_it_never_raises(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Reason) -> None:
    def fail(function: object) -> None:
        raise error

    monkeypatch.setattr(kernel_module, "lacking", lambda: "")
    monkeypatch.setattr(kernel_module, "elsewhere", fail)
    found = probe_kernel()
    assert [gap.reason for gap in found.missing] == [reason] and not found.able


def can_unshare() -> bool:
    try:
        return elsewhere(lambda: True)
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="no network namespace can be made here")
def test_here_it_tells_what_there_is_quickly_and_touches_nothing() -> None:
    before = Path("/proc/thread-self/ns/net").stat().st_ino
    probe_kernel()
    began = time.perf_counter()
    found = probe_kernel()
    assert time.perf_counter() - began < 1.0
    assert Path("/proc/thread-self/ns/net").stat().st_ino == before
    assert found.release == os.uname().release
    allowed = {Reason.NO_KERNEL_ESP, Reason.NO_XFRM, Reason.ALGORITHM_UNSUPPORTED, Reason.KERNEL_TOO_OLD}
    allowed |= {Reason.INTERFACE_UNSUPPORTED, Reason.OFFLOAD_NOT_DONE, Reason.KERNEL_REFUSED}
    assert {gap.reason for gap in found.missing} <= allowed, found.missing
    if not found.native:
        assert Reason.NO_KERNEL_ESP in reasons(found).values() or Reason.NO_XFRM in reasons(found).values()
        assert reasons(found).keys() <= {"ESP over IPv4 and IPv6", "xfrm interfaces", "the kernel's IPsec"}


_DROPPED = """
import ctypes, json
from appliance.datapath.kernel.probe.kernel import probe_kernel
libc = ctypes.CDLL(None, use_errno=True)
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capset(header, sets) == 0
found = probe_kernel()
print(json.dumps([[gap.reason.name, gap.detail, gap.remedy] for gap in found.missing]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "capset"), reason="no capset in this C library")
def test_without_the_privilege_that_is_the_reason() -> None:
    done = subprocess.run([sys.executable, "-c", _DROPPED], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [
        ["NO_PRIVILEGE", "CAP_NET_ADMIN is missing", "run as root, or with CAP_NET_ADMIN"]
    ]


_USER_NAMESPACE = """
import json, os, sys
from appliance.datapath.kernel.probe.kernel import probe_kernel
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000):
    sys.exit(77)
found = probe_kernel()
print(json.dumps([[gap.what, gap.reason.name] for gap in found.missing]))
"""


def test_in_a_user_namespace_it_finds_what_the_machine_has() -> None:
    argv = [sys.executable, "-c", _USER_NAMESPACE]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 77:
        pytest.skip("no user namespace can be made here")
    assert done.returncode == 0, done.stderr
    here = [[gap.what, gap.reason.name] for gap in probe_kernel().missing]
    assert json.loads(done.stdout) in (here, [["the kernel's IPsec", "NO_PRIVILEGE"]])
