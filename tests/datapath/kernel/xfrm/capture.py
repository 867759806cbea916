"""Captures what iproute2 sends, for ``captures.json``. Every command runs in a network namespace of its own.

    python -m tests.datapath.kernel.xfrm.capture [--root DIR]... > tests/datapath/kernel/xfrm/captures.json

Needs root, unshare(1) and strace(1). ``--root`` names a directory with another Debian in it, such as
``mmdebstrap --include=iproute2,strace trixie DIR`` makes; given once or more, each is captured. ``--root /`` is this
machine. The sequence number, which iproute2 takes from the clock, is written as zero.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys

from .commands import COMMANDS, EMPTY

_CALL = re.compile(r"(?:sendmsg|sendto)\(\d+<NETLINK:\[XFRM")
_OTHER = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?\w+\(")
_BYTES = re.compile(r"^ \| [0-9a-f]+  ((?:[0-9a-f]{2} {1,2})+)")


def requests(root: str, command: str) -> list[bytes]:
    """All that ``ip xfrm COMMAND`` sends to NETLINK_XFRM."""
    words: list[str] = ["ip", "xfrm", *command.split(" ")]
    words = ["" if word == EMPTY else word for word in words]
    # strace finds a socket's protocol in /proc.
    inside = [] if root == "/" else ["sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', root]
    trace = ["strace", "-yy", "-e", "trace=sendmsg,sendto", "-e", "write=all", "-s", "0"]
    done = subprocess.run(
        ["unshare", "--net", "--mount", *inside, *trace, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    found: list[bytearray] = []
    wanted = False
    for line in done.stderr.splitlines():
        if _OTHER.match(line):
            wanted = bool(_CALL.search(line))
            if wanted:
                found.append(bytearray())
        elif wanted and (match := _BYTES.match(line)):
            found[-1] += bytes.fromhex(match[1])
    if not found:
        print(f"{root}: {command}: nothing sent: {done.stderr[:200]}", file=sys.stderr)
    for request in found:
        request[8:12] = bytes(4)
    return [bytes(request) for request in found]


def version(root: str) -> str:
    """As ``ip -V`` says it."""
    inside = [] if root == "/" else ["chroot", root]
    done = subprocess.run([*inside, "ip", "-V"], capture_output=True, text=True, check=True)
    return done.stdout.strip().rpartition("iproute2-")[2].partition(",")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", action="append", default=[])
    captures = []
    for root in parser.parse_args().root or ["/"]:
        number = version(root)
        for name, command in COMMANDS.items():
            sent = requests(root, command)
            if sent:
                captures.append(
                    {
                        "name": name,
                        "iproute2": number,
                        "command": f"ip xfrm {command}",
                        "requests": [one.hex() for one in sent],
                    }
                )
    json.dump(captures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
