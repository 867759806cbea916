"""What this kernel can do, tried for real in a network namespace of its own.

Nothing of the machine's tables is touched, and all that was tried ends with the namespace.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from appliance.datapath import netlink
from appliance.datapath.kernel.algorithms import algorithm_names
from appliance.datapath.kernel.probe.abilities import SINCE, Ability, KernelAbilities, kernel_version
from appliance.datapath.kernel.probe.modules import why_not_loaded
from appliance.datapath.kernel.probe.namespace import elsewhere, lacking
from appliance.datapath.kernel.probe.trials import (
    Trial,
    ability_trials,
    offload_trial,
    other_family_trials,
    policy_trial,
    suite_trials,
)
from appliance.datapath.kernel.xfrm import (
    DefaultAction,
    Defaults,
    NoAnswer,
    Policy,
    State,
    StateId,
    XfrmError,
    XfrmSocket,
    requests,
    wipe,
)
from appliance.reasons import Reason
from appliance.sa.algorithms import Suite
from appliance.sa.datapath import Missing

_WHOLE = "the kernel's IPsec"
_NO_DEVICE = "IPsec offload of devices (CONFIG_XFRM_OFFLOAD) is not built in"
_NO_OFFLOAD_TYPE = "Type doesn't support offload"
_UNKNOWN_FLAG = "Unrecognized flags in offload request"
_NOT_KEPT = "it was taken and not kept"


def probe_kernel() -> KernelAbilities:
    """Find out; a few milliseconds, more where modules are loaded. Blocks, so not for an event loop. Never raises."""
    release = os.uname().release
    try:
        capability = lacking()
        if capability:
            return KernelAbilities(release=release, missing=(_no_privilege(capability),))
        return elsewhere(lambda: _in_namespace(release))
    except TimeoutError as error:
        missing = Missing(_WHOLE, Reason.KERNEL_REFUSED, str(error))
    except OSError as error:
        words = error.strerror or str(error)
        if error.errno in (errno.EPERM, errno.EACCES):
            missing = _no_privilege("a namespace of its own")
        else:
            missing = Missing(_WHOLE, Reason.KERNEL_REFUSED, f"no network namespace to try it in: {words}")
    except Exception as error:
        missing = Missing(_WHOLE, Reason.INTERNAL, f"{type(error).__name__}: {error}")
    return KernelAbilities(release=release, missing=(missing,))


def _no_privilege(lacking: str) -> Missing:
    return Missing(_WHOLE, Reason.NO_PRIVILEGE, f"{lacking} is missing", f"run as root, or with {lacking}")


def _in_namespace(release: str) -> KernelAbilities:
    try:
        xfrm = XfrmSocket(timeout=2.0)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            missing = Missing(_WHOLE, Reason.NO_PRIVILEGE, error.strerror or "")
        else:
            missing = Missing(_WHOLE, Reason.NO_XFRM, f"{error.strerror}; {why_not_loaded('xfrm_user')}")
        return KernelAbilities(release=release, missing=(missing,))
    with xfrm:
        return Probe(xfrm, release, make_interface).run()


def make_interface() -> None:
    """Make an xfrm interface in this thread's namespace. Raises OSError."""
    data = netlink.attribute(2, struct.pack("=I", 1))  # IFLA_XFRM_IF_ID
    info = netlink.attribute(1, b"xfrm\0") + netlink.attribute(2 | netlink.NESTED, data)
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + netlink.attribute(3, b"trial\0")
    body += netlink.attribute(18 | netlink.NESTED, info)
    with netlink.Netlink(timeout=2.0) as route:
        route.ask(netlink.NEWLINK, body, netlink.CREATE | netlink.EXCLUSIVE)


@dataclass(slots=True)
class Probe:
    """One look at a kernel, over a socket in an empty namespace. ``interface`` makes an interface or raises OSError."""

    xfrm: XfrmSocket
    release: str
    interface: Callable[[], None]
    able: set[Ability] = field(default_factory=set)
    missing: list[Missing] = field(default_factory=list)

    def run(self) -> KernelAbilities:
        """Try everything."""
        self._policies()
        suites = self._esp()
        try:
            self.interface()
            self.able.add(Ability.INTERFACES)
        except OSError as error:
            words = error.strerror or str(error)
            if error.errno == errno.EOPNOTSUPP:
                words = f"{words} (CONFIG_XFRM_INTERFACE); {why_not_loaded('xfrm_interface')}"
            self._lacks(Ability.INTERFACES, Reason.INTERFACE_UNSUPPORTED, words, "use a kernel that has them")
        return KernelAbilities(
            release=self.release, able=frozenset(self.able), suites=tuple(suites), missing=tuple(self.missing)
        )

    def _policies(self) -> None:
        wanted = policy_trial()
        (answer,) = self.xfrm.batch([requests.new_policy(wanted)])
        if answer.error is not None:
            self._refused(Ability.POLICIES, answer.error)
        elif not any(isinstance(found, Policy) and found.templates for found in self.xfrm.policies()):
            self._lacks(Ability.POLICIES, Reason.KERNEL_REFUSED, _NOT_KEPT)
        else:
            self.able.add(Ability.POLICIES)
        blocked = Defaults(DefaultAction.BLOCK, DefaultAction.BLOCK, DefaultAction.BLOCK)
        answers = self.xfrm.batch([requests.set_defaults(blocked), requests.get_defaults()])
        error = next((answer.error for answer in answers if answer.error is not None), None)
        if error is not None:
            self._refused(Ability.DEFAULT_POLICY, error)
        elif blocked not in answers[1].replies:
            self._lacks(Ability.DEFAULT_POLICY, Reason.KERNEL_REFUSED, _NOT_KEPT)
        else:
            self.able.add(Ability.DEFAULT_POLICY)

    def _esp(self) -> list[Suite]:
        """SAs: with every suite, then what else there is to them. The suites that work."""
        results: dict[int, dict[Suite, XfrmError | None]] = {}
        for version in (4, 6):
            results[version] = found = self._try_suites(version)
            if any(error is None for error in found.values()):
                return self._abilities(version, found, results)
        self._no_esp(results)
        return []

    def _try_suites(self, version: int) -> dict[Suite, XfrmError | None]:
        trials = suite_trials(version, 0x1000 * version)
        outcome = self._try(trials)
        return {trial.what: error for trial, error in outcome if isinstance(trial.what, Suite)}

    def _no_esp(self, results: dict[int, dict[Suite, XfrmError | None]]) -> None:
        self._esp_refused(Ability.ESP_IPV4, 4, _telling(results[4]))
        self._esp_refused(Ability.ESP_IPV6, 6, _telling(results[6]))
        first, second = self.missing[-2:]
        if first.reason is second.reason:
            detail = first.detail if first.detail == second.detail else f"{first.detail}; {second.detail}"
            self.missing[-2:] = [replace(first, what="ESP over IPv4 and IPv6", detail=detail)]

    def _abilities(
        self, version: int, found: dict[Suite, XfrmError | None], results: dict[int, dict[Suite, XfrmError | None]]
    ) -> list[Suite]:
        suites = [suite for suite, error in found.items() if error is None]
        plain = next((suite for suite in suites if not suite.esn), suites[0])
        self.able.add(Ability.ESP_IPV4 if version == 4 else Ability.ESP_IPV6)
        trials = ability_trials(version, 0x1000 * version + 0x100, plain)
        if version == 4:
            trials += other_family_trials(6, 0x6000, plain)
        else:
            self._esp_refused(Ability.ESP_IPV4, 4, _telling(results[4]))
        for trial, error in self._try(trials):
            assert isinstance(trial.what, Ability)
            if error is None:
                self.able.add(trial.what)
            elif trial.what is Ability.ESP_IPV6:
                self._esp_refused(trial.what, 6, error)
            elif trial.what is not Ability.UDP_IPV6 or Ability.ESP_IPV6 in self.able:
                self._refused(trial.what, error)
        self._offload(offload_trial(version, 0x7000, plain), version)
        self._suites_refused(found)
        return suites

    def _suites_refused(self, found: dict[Suite, XfrmError | None]) -> None:
        """One row for suites that lack the same for the same reason; a suite without ESN speaks for that with it."""
        if any(error is None and suite.esn for suite, error in found.items()):
            self.able.add(Ability.ESN)
        groups: dict[tuple[Reason, str], list[str]] = {}
        for suite, error in found.items():
            if error is None or (suite.esn and found[replace(suite, esn=False)] is not None):
                continue
            reason, detail = self._why(error)
            names = " and ".join(algorithm_names(suite))
            groups.setdefault((reason, f"{names}: {detail}"), []).append(str(suite))
        for (reason, detail), names_of_suites in groups.items():
            self.missing.append(Missing(", ".join(names_of_suites), reason, detail))

    def _offload(self, state: State, version: int) -> None:
        """A refusal by the loopback means that the kernel looked for a device; silence, that it never does."""
        (answer,) = self._new([state])
        if answer is None:
            for ability in (Ability.CRYPTO_OFFLOAD, Ability.PACKET_OFFLOAD):
                self._lacks(ability, Reason.OFFLOAD_NOT_DONE, _NO_DEVICE, "use a kernel that has it")
        elif answer.message == _NO_OFFLOAD_TYPE:
            module = "esp4_offload" if version == 4 else "esp6_offload"
            detail = f"{answer.message}; {why_not_loaded(module)}"
            for ability in (Ability.CRYPTO_OFFLOAD, Ability.PACKET_OFFLOAD):
                self._lacks(ability, Reason.KERNEL_REFUSED, detail)
        else:
            self.able.add(Ability.CRYPTO_OFFLOAD)
            if answer.message == _UNKNOWN_FLAG:
                self._refused(Ability.PACKET_OFFLOAD, answer)
            else:
                self.able.add(Ability.PACKET_OFFLOAD)

    def _try(self, trials: Sequence[Trial]) -> list[tuple[Trial, XfrmError | None]]:
        """Install each and read it back."""
        errors = self._new([trial.state for trial in trials])
        wanted = [trial for trial, error in zip(trials, errors, strict=True) if error is None]
        answers = self.xfrm.batch([requests.get_state(StateId.of(trial.state)) for trial in wanted])
        kept = {
            trial.state.spi
            for trial, answer in zip(wanted, answers, strict=True)
            if any(isinstance(found, State) and trial.kept(found) for found in answer.replies)
        }
        return [
            (trial, XfrmError(errno.EOPNOTSUPP, _NOT_KEPT) if error is None and trial.state.spi not in kept else error)
            for trial, error in zip(trials, errors, strict=True)
        ]

    def _new(self, states: Sequence[State]) -> list[XfrmError | None]:
        messages = [requests.new_state(state) for state in states]
        answers = self.xfrm.batch(messages)
        for message in messages:
            wipe(message)
        return [answer.error for answer in answers]

    def _esp_refused(self, ability: Ability, version: int, error: XfrmError) -> None:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            module = "esp4" if version == 4 else "esp6"
            detail = f"{_words(error)}; {why_not_loaded(module)}"
            self._lacks(ability, Reason.NO_KERNEL_ESP, detail)
        else:
            self._refused(ability, error)

    def _refused(self, ability: Ability, error: XfrmError) -> None:
        reason, detail = self._why(error)
        if error.errno == errno.EPROTONOSUPPORT and ability in (Ability.TUNNEL, Ability.TRANSPORT):
            reason = Reason.MODE_UNSUPPORTED
        self._lacks(ability, reason, detail)

    def _lacks(self, ability: Ability, reason: Reason, detail: str, remedy: str = "") -> None:
        since, version = SINCE.get(ability), kernel_version(self.release)
        if since is not None and version is not None and version < since and reason is not Reason.NO_PRIVILEGE:
            reason, remedy = Reason.KERNEL_TOO_OLD, ""
            detail = f"it came with Linux {since[0]}.{since[1]}, and this is {self.release}"
        self.missing.append(Missing(ability.value, reason, detail, remedy))

    def _why(self, error: XfrmError) -> tuple[Reason, str]:
        if error.errno in (errno.EPERM, errno.EACCES):
            return Reason.NO_PRIVILEGE, _words(error)
        if _no_algorithm(error):
            return Reason.ALGORITHM_UNSUPPORTED, _words(error)
        return Reason.KERNEL_REFUSED, _words(error)


def _telling(found: dict[Suite, XfrmError | None]) -> XfrmError:
    """The refusal that says most: where a cipher is not there, that is found before ESP is looked for."""
    errors = [error for error in found.values() if error is not None]
    return next((error for error in errors if not _no_algorithm(error)), errors[0])


def _no_algorithm(error: XfrmError) -> bool:
    return error.errno in (errno.ENOSYS, errno.ENOENT) and not isinstance(error, NoAnswer)


def _words(error: XfrmError) -> str:
    """The kernel's own words, with the name of its error number."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    if error.message == _NOT_KEPT:
        return _NOT_KEPT
    return f"{error.message or error.strerror} ({name})"
