"""The command line's grammar."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.console.protocol import DEFAULT_SOCKET, NameArgs, What, parse_name

SHOW_TIMEOUT = 10.0
ACT_TIMEOUT = 200.0
"""A peer that is silent is given up after about 165 seconds, and the daemon's answer then says so."""

_EPILOG = """\
exit status: 0 it did what was asked; 1 it was refused or failed; 2 the command line is wrong;
3 the daemon cannot be reached or did not answer
"""
_SHOW = """\
connections  all connections and children, up or down, with the reason where down
sa           the ESP SAs that are installed, their counters, and where they run
policies     what is protected, let through or dropped, first match first
datapath     what the datapaths can do here, and why not the rest
offload      what the kernel and the network devices can do of IPsec, and why not the rest
counters     packets and events counted, drops by their reason
log          the newest events
"""


def parser() -> argparse.ArgumentParser:
    """The parser. ``command`` of the result is the subcommand's name."""
    top = argparse.ArgumentParser(
        prog="esplanade",
        description="Esplanade, an IPsec gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print this program's version and stop")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    run = commands.add_parser("run", help="be the gateway's daemon", description="Be the gateway's daemon.")
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration")
    run.add_argument(
        "--control", type=Path, metavar="PATH", help=f"the control socket (default: control.path, or {DEFAULT_SOCKET})"
    )

    show = commands.add_parser(
        "show",
        help="show what is wanted and what is there",
        description=_SHOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_talking(SHOW_TIMEOUT)],
    )
    # Optional for argparse only, whose own complaint does not say what there is; main() asks for it.
    show.add_argument("what", nargs="?", choices=[what.value for what in What], metavar="WHAT", help="one of the above")
    show.add_argument(
        "names", nargs="*", metavar="NAME", help="only these connections, in full (connections, sa, policies, log)"
    )
    show.add_argument("--limit", type=_positive, default=100, metavar="N", help="newest log entries (default 100)")
    show.add_argument("--all", action="store_true", help="counters that are zero too")

    for name, words in (
        ("initiate", "bring a connection up, or one child of it"),
        ("terminate", "take a connection down, or one child of it, until it is initiated again"),
        ("rekey", "give an IKE SA new keys, or a child's SAs"),
    ):
        act = commands.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}.", parents=[_talking(ACT_TIMEOUT)]
        )
        act.add_argument("name", type=_name, metavar="NAME[/CHILD]", help="the connection, and a child of it if wanted")

    words = "apply the configuration file's changes; nothing changes if it has a mistake"
    commands.add_parser(
        "reload", help=words, description=f"{words[0].upper()}{words[1:]}.", parents=[_talking(ACT_TIMEOUT)]
    )
    words = "which daemon answers, and whether it is ready"
    commands.add_parser(
        "version", help=words, description=f"{words[0].upper()}{words[1:]}.", parents=[_talking(SHOW_TIMEOUT)]
    )

    words = "check a configuration file and stop"
    check = commands.add_parser("check", help=words, description=f"{words[0].upper()}{words[1:]}.")
    check.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration")
    check.add_argument("--json", action="store_true", help="print JSON")

    words = "drop what the configuration protects while no daemon runs, for early boot"
    guard = commands.add_parser("guard", help=words, description=f"{words[0].upper()}{words[1:]}.")
    guard.add_argument("--config", type=Path, metavar="FILE", help="the configuration; not needed to remove")
    guard.add_argument("--remove", action="store_true", help="remove the guard instead")
    guard.add_argument("--json", action="store_true", help="print JSON")
    return top


def _talking(timeout: float) -> argparse.ArgumentParser:
    """Options of everything that talks to the daemon."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--control",
        type=Path,
        default=Path(DEFAULT_SOCKET),
        metavar="PATH",
        help=f"its socket (default {DEFAULT_SOCKET})",
    )
    common.add_argument("--json", action="store_true", help="print the answer as JSON")
    common.add_argument(
        "--timeout",
        type=_seconds,
        default=timeout,
        metavar="SECONDS",
        help=f"how long to wait for the answer (default {timeout:g})",
    )
    return common


def _name(text: str) -> NameArgs:
    try:
        return parse_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)
