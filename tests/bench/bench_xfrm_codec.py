"""Microseconds that an XFRM message costs: by the fast path, by pyroute2's nlmsg, and beside `ip -batch`.

    python -m tests.bench.bench_xfrm_codec                      the codec alone
    python -m tests.bench.bench_xfrm_codec --kernel 10000       and so many SAs and policies through the kernel, beside
                                                                `ip -batch` and `ip xfrm … list`; needs root
    python -m tests.bench.bench_xfrm_codec --imports            what importing it adds to a process
    --json FILE                                                 the raw numbers

Every figure is the least of ``--rounds`` rounds. With ``--kernel``, ours and iproute2's take turns in each round, in a
network namespace of their own; ours is everything from values to answers, iproute2's is the whole command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from appliance.datapath.kernel.xfrm import (
    Aead,
    Lifetime,
    Policy,
    PolicyDirection,
    PolicyId,
    ReplayEsn,
    Selector,
    State,
    StateFlag,
    StateId,
    Template,
    XfrmSocket,
    parse,
    requests,
)

HERE = IPv4Address("192.0.2.1")
LOCAL = IPv4Network("10.1.0.0/24")
KEY = bytes(range(36))
COUNT = 10000
"""All with an address of their own, as many as a gateway may have."""


def address(number: int) -> IPv4Address:
    return IPv4Address(0x0A400000 + number)


def state(number: int) -> State:
    """As a gateway installs it: AES-256-GCM, ESN, a window of 1024, lifetimes."""
    return State(
        source=HERE,
        destination=address(number),
        spi=0x10000 + number,
        reqid=number + 1,
        aead=Aead("rfc4106(gcm(aes))", KEY, 128),
        flags=StateFlag.ESN,
        replay_esn=ReplayEsn(1024),
        lifetime=Lifetime(soft_seconds=3000, hard_seconds=3600),
    )


def policy(number: int) -> Policy:
    return Policy(
        selector=Selector(LOCAL, IPv4Network((0x0A800000 + (number << 2), 30))),
        direction=PolicyDirection.OUT,
        priority=1000,
        templates=(Template(HERE, address(number), reqid=number + 1),),
    )


def state_command(verb: str, one: State) -> str:
    name = f"xfrm state {verb} src {one.source} dst {one.destination} proto esp spi {one.spi:#x}"
    if verb == "delete":
        return name
    return (
        f"{name} mode tunnel reqid {one.reqid} flag esn replay-window 1024 aead rfc4106(gcm(aes)) 0x{KEY.hex()} 128"
        " limit time-soft 3000 limit time-hard 3600"
    )


def policy_command(verb: str, one: Policy) -> str:
    name = f"xfrm policy {verb} src {one.selector.source} dst {one.selector.destination} dir out"
    if verb == "delete":
        return name
    template = one.templates[0]
    return (
        f"{name} priority 1000"
        f" tmpl src {template.source} dst {template.destination} proto esp reqid {template.reqid} mode tunnel"
    )


def least(rounds: int, count: int, action: Callable[[], object]) -> float:
    """Microseconds for each of ``count``."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best * 1e6 / count


def codec(rounds: int) -> Iterator[tuple[str, float]]:
    states, policies = [state(number) for number in range(COUNT)], [policy(number) for number in range(COUNT)]
    raw_states = [bytes(requests.new_state(one)) for one in states]
    raw_policies = [bytes(requests.new_policy(one)) for one in policies]
    yield "NEWSA, values to bytes", least(rounds, COUNT, lambda: [requests.new_state(one) for one in states])
    yield (
        "NEWSA, made and to bytes",
        least(rounds, COUNT, lambda: [requests.new_state(state(number)) for number in range(COUNT)]),
    )
    yield "NEWPOLICY, values to bytes", least(rounds, COUNT, lambda: [requests.new_policy(one) for one in policies])
    yield (
        "NEWPOLICY, made and to bytes",
        least(rounds, COUNT, lambda: [requests.new_policy(policy(number)) for number in range(COUNT)]),
    )
    yield (
        "DELSA, values to bytes",
        least(rounds, COUNT, lambda: [requests.delete_state(StateId.of(one)) for one in states]),
    )
    yield "NEWSA, bytes to values", least(rounds, COUNT, lambda: [parse(raw) for raw in raw_states])
    yield "NEWPOLICY, bytes to values", least(rounds, COUNT, lambda: [parse(raw) for raw in raw_policies])
    try:
        from appliance.datapath.kernel.xfrm import messages
    except ImportError:
        print("  (no pyroute2 here: its classes are not measured)")
        return
    few = 200

    def encode(raw: bytes) -> Callable[[], object]:
        (decoded,) = messages.decode(raw)
        fields = {name: value for name, value in decoded.items() if name not in ("attrs", "header")}
        attrs = [[slot[0], slot[1]] for slot in decoded["attrs"]]

        def run() -> None:
            for _ in range(few):
                message = type(decoded)()
                message.update(fields)
                message["attrs"] = [list(pair) for pair in attrs]
                message.encode()

        return run

    yield "NEWSA, nlmsg to bytes", least(rounds, few, encode(raw_states[0]))
    yield "NEWPOLICY, nlmsg to bytes", least(rounds, few, encode(raw_policies[0]))
    yield "NEWSA, bytes to nlmsg", least(rounds, few, lambda: [messages.decode(raw) for raw in raw_states[:few]])
    yield "NEWPOLICY, bytes to nlmsg", least(rounds, few, lambda: [messages.decode(raw) for raw in raw_policies[:few]])


def batch(lines: list[str]) -> float:
    """Seconds that `ip -batch` takes."""
    with tempfile.NamedTemporaryFile("w", suffix=".batch") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        start = time.perf_counter()
        subprocess.run(["ip", "-batch", file.name], check=True)
        return time.perf_counter() - start


def ours(action: Callable[[], list[bytearray]], xfrm: XfrmSocket) -> float:
    start = time.perf_counter()
    answers = xfrm.batch(action())
    spent = time.perf_counter() - start
    for answer in answers:
        if answer.error is not None:
            raise answer.error
    return spent


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def listed(words: str) -> float:
    return timed(lambda: subprocess.run(["ip", *words.split()], check=True, stdout=subprocess.DEVNULL))


def through_the_kernel(count: int, rounds: int) -> Iterator[tuple[str, float, float]]:
    """What, our seconds, iproute2's."""
    states, policies = [state(number) for number in range(count)], [policy(number) for number in range(count)]
    with XfrmSocket(timeout=60) as xfrm:
        (answer,) = xfrm.batch([requests.new_state(states[0])])
        xfrm.batch([requests.flush_states(), requests.flush_policies()])
        kinds: list[tuple[str, Any]] = [
            (
                "policies",
                (
                    lambda: [requests.new_policy(one) for one in policies],
                    [policy_command("add", one) for one in policies],
                    xfrm.policies,
                    "xfrm policy list",
                    lambda: [requests.delete_policy(PolicyId.of(one)) for one in policies],
                    [policy_command("delete", one) for one in policies],
                ),
            )
        ]
        if answer.error is None:
            kinds.append(
                (
                    "SAs",
                    (
                        lambda: [requests.new_state(one) for one in states],
                        [state_command("add", one) for one in states],
                        xfrm.states,
                        "xfrm state list",
                        lambda: [requests.delete_state(StateId.of(one)) for one in states],
                        [state_command("delete", one) for one in states],
                    ),
                )
            )
        else:
            print(f"  (no SAs: {answer.error})")
        for name, (install, install_lines, dump, list_words, remove, remove_lines) in kinds:
            found: dict[str, list[tuple[float, float]]] = {"installed": [], "listed": [], "removed": []}
            for _ in range(rounds):
                installed, dumped, removed = ours(install, xfrm), timed(dump), ours(remove, xfrm)
                batched, shown, deleted = batch(install_lines), listed(list_words), batch(remove_lines)
                found["installed"].append((installed, batched))
                found["listed"].append((dumped, shown))
                found["removed"].append((removed, deleted))
            for what, pairs in found.items():
                yield f"{count} {name} {what}", min(one for one, _ in pairs), min(other for _, other in pairs)


IMPORTS = {
    "the standard library's part": "import dataclasses, enum, ipaddress, select, socket, struct",
    "this package": "import appliance.datapath.kernel.xfrm",
    "and its nlmsg classes": "import appliance.datapath.kernel.xfrm.messages",
    "pyroute2.netlink alone": "import pyroute2.netlink",
}
MEASURE = """
import time
def held():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
{before}
first, start = held(), time.perf_counter()
{script}
print(held() - first, time.perf_counter() - start)
"""


def imports() -> Iterator[tuple[str, int, float]]:
    """What, KiB of PSS and milliseconds, each beyond the standard library's part."""
    common = IMPORTS["the standard library's part"]
    for name, script in IMPORTS.items():
        source = MEASURE.format(before="pass" if script is common else common, script=script)
        runs = []
        for _ in range(5):
            done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
            kibibytes, seconds = done.stdout.split()
            runs.append((int(kibibytes), float(seconds) * 1e3))
        yield name, min(size for size, _ in runs), min(spent for _, spent in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", type=int, default=0, metavar="COUNT")
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.imports:
        print("KiB of memory (PSS) and milliseconds that an import adds, the least of 5:")
        for name, size, spent in imports():
            print(f"  {name:32} {size:8} {spent:8.1f}")
        return
    if arguments.kernel and os.environ.get("XFRM_BENCH_INSIDE") != "1":
        again = [sys.executable, "-m", "tests.bench.bench_xfrm_codec", *sys.argv[1:]]
        os.execvpe("unshare", ["unshare", "--net", *again], {**os.environ, "XFRM_BENCH_INSIDE": "1"})
    uname = os.uname()
    print(f"Python {sys.version.split()[0]}, Linux {uname.release}, {os.cpu_count()} CPUs")
    raw: dict[str, Any] = {"python": sys.version, "kernel": uname.release, "codec_us": {}, "kernel_s": {}}
    print("microseconds a message, the least of", arguments.rounds, "rounds:")
    for name, spent in codec(arguments.rounds):
        raw["codec_us"][name] = spent
        print(f"  {name:32} {spent:8.1f}")
    if arguments.kernel:
        print("seconds, ours and iproute2's:")
        for name, we, they in through_the_kernel(arguments.kernel, arguments.rounds):
            raw["kernel_s"][name] = [we, they]
            print(f"  {name:32} {we:8.3f} {they:8.3f}   {they / we:5.2f} times")
    if arguments.json:
        arguments.json.write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
