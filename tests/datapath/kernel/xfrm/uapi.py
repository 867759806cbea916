"""Has a C compiler say how big the structures of linux/xfrm.h are, where their members are and what its numbers are.

    python -m tests.datapath.kernel.xfrm.uapi --include DIR --source WORDS > tests/datapath/kernel/xfrm/uapi.json

DIR has ``linux/xfrm.h``: /usr/include, or ``usr/include`` of an unpacked linux-libc-dev package. Needs gcc.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from appliance.datapath.kernel.xfrm import constants
from appliance.datapath.kernel.xfrm.layout import STRUCTURES, Layout

HEADERS = ("linux/xfrm.h", "linux/netlink.h", "linux/udp.h", "linux/in.h", "stddef.h", "stdio.h")

NAMES = {
    "MessageType": "XFRM_MSG_{}",
    "Attribute": "XFRMA_{}",
    "SadAttribute": "XFRMA_SAD_{}",
    "SpdAttribute": "XFRMA_SPD_{}",
    "Group": "XFRMNLGRP_{}",
    "Mode": "XFRM_MODE_{}",
    "Share": "XFRM_SHARE_{}",
    "PolicyType": "XFRM_POLICY_TYPE_{}",
    "PolicyDirection": "XFRM_POLICY_{}",
    "PolicyAction": "XFRM_POLICY_{}",
    "DefaultAction": "XFRM_USERPOLICY_{}",
    "SaDirection": "XFRM_SA_DIR_{}",
    "StateFlag": "XFRM_STATE_{}",
    "ExtraFlag": "XFRM_SA_XFLAG_{}",
    "PolicyFlag": "XFRM_POLICY_{}",
    "OffloadFlag": "XFRM_OFFLOAD_{}",
    "AeFlag": "XFRM_AE_{}",
    "MigrateStateFlag": "XFRM_MIGRATE_STATE_{}",
    "Protocol": "IPPROTO_{}",
}
"""What the header calls the members of an enumeration of ours."""

OTHER_NAMES = {
    "Protocol.ANY": "0",
    "Protocol.IPSEC_ANY": "255",
    "EncapType.NONE": "0",
    "EncapType.ESPINUDP_NON_IKE": "UDP_ENCAP_ESPINUDP_NON_IKE",
    "EncapType.ESPINUDP": "UDP_ENCAP_ESPINUDP",
    "EncapType.ESPINTCP": "7",  # TCP_ENCAP_ESPINTCP is in no UAPI header
}


def numbers() -> dict[str, tuple[str, int]]:
    """By our own name: the name in C, and our value."""
    found = {}
    for kind, pattern in {**NAMES, "EncapType": ""}.items():
        for member in getattr(constants, kind):
            own = f"{kind}.{member.name}"
            found[own] = (OTHER_NAMES.get(own) or pattern.format(member.name), int(member))
    found["INFINITE"] = ("XFRM_INF", constants.INFINITE)
    found["REPLAY_ESN_MAX"] = ("XFRMA_REPLAY_ESN_MAX", constants.REPLAY_ESN_MAX)
    return found


def member_name(name: str) -> str:
    """In C: a name that Python reserves ends in an underscore here."""
    return name.rstrip("_")


def nlmsg_name(layout: Layout, name: str) -> str:
    """In C, where netlink.h prefixes its members."""
    prefixes = {"nlmsghdr": "nlmsg_", "nlattr": "nla_"}
    short = {"length": "len", "sequence_number": "seq"}
    if layout.name not in prefixes:
        return member_name(name)
    return prefixes[layout.name] + short.get(name, name)


def program() -> str:
    """C that prints one line for each structure, member and number."""
    lines = [f"#include <{header}>" for header in HEADERS] + ["int main(void) {"]
    for layout in STRUCTURES:
        c = f"struct {layout.name}"
        lines.append(f'printf("size {layout.name} %zu\\n", sizeof({c}));')
        for member in layout.members:
            name = nlmsg_name(layout, member.name)
            lines.append(
                f'printf("member {layout.name} {member.name} %zu %zu\\n",'
                f" offsetof({c}, {name}), sizeof((({c} *)0)->{name}));"
            )
    for own, (name, _) in numbers().items():
        lines.append(f'printf("number {own} %llu\\n", (unsigned long long)({name}));')
    return "\n".join([*lines, "return 0; }"])


def run(include: str) -> list[str]:
    """What the program says."""
    with tempfile.TemporaryDirectory() as directory:
        source, binary = Path(directory, "uapi.c"), Path(directory, "uapi")
        source.write_text(program())
        asm = Path(include) / "x86_64-linux-gnu"
        more = [f"-I{asm}"] if asm.is_dir() else []
        subprocess.run(["gcc", "-w", f"-I{include}", *more, "-o", str(binary), str(source)], check=True)
        return subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--include", default="/usr/include")
    parser.add_argument("--source", required=True, help="which header this is")
    arguments = parser.parse_args()
    json.dump({"source": arguments.source, "lines": run(arguments.include)}, sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
