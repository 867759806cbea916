"""The command ``esplanade``. Exit status 0 only when it did what was asked.

What a command does not need is not imported: ``show`` has to be there at once, also on a machine that is busy.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.console.arguments import parser
from appliance.console.client import UNREACHABLE, call
from appliance.console.protocol import (
    ROWS,
    Call,
    Done,
    ErrorRow,
    NoArgs,
    ProblemRow,
    ReloadResult,
    ShowArgs,
    VersionResult,
    What,
    error_of,
)
from appliance.console.table import Page
from appliance.console.units import clean
from appliance.reasons import Reason, Refusal

if TYPE_CHECKING:
    from appliance.config.model import Config
    from appliance.config.problem import Problem

OK, FAILED, USAGE, UNREACHED = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's. Returns the exit status; a wrong command line is SystemExit(2)."""
    _prepare_streams()
    grammar = parser()
    options = grammar.parse_args(argv)
    if options.version:
        print(f"esplanade {_installed_version()}")
        return OK
    if options.command is None:
        grammar.print_help(sys.stderr)
        return USAGE
    if options.command == "guard" and options.config is None and not options.remove:
        grammar.error("guard needs --config FILE or --remove")
    if options.command == "show" and options.names and options.what in (What.COUNTERS, What.DATAPATH, What.OFFLOAD):
        grammar.error(f"show {options.what} takes no names; names are for connections, sa, policies and log")
    if options.command == "show" and options.what is None:
        grammar.error(f"show what? One of {', '.join(what.value for what in What)}")
    try:
        status = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except Refusal as refusal:
        return _failed(refusal, as_json=getattr(options, "json", False))
    except BrokenPipeError:  # the reader of our output went away, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:  # a full disk behind our output
        # What is still in the buffer would fail once more at exit, with a status and words of the interpreter's own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"esplanade: {error.strerror or error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("esplanade: interrupted; the daemon may still finish what was asked", file=sys.stderr)
        return 130
    return status


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("esplanade")
    except PackageNotFoundError:
        return "(not installed as a package)"


def _prepare_streams() -> None:
    """Whatever the caller made of the streams, printing works: closed ones, and ones that cannot hold every letter."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for the whole process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _run(options: Namespace) -> int:
    try:
        from appliance.daemon.start import run

        return run(options.config, options.control)
    except ModuleNotFoundError as error:
        raise Refusal(Reason.NOT_INSTALLED_PART, str(error)) from None


def _check(options: Namespace) -> int:
    config = _load(options.config)
    problems = [_problem_row(p) for p in config.warnings]
    children = sum(len(c.children) for c in config.connections)
    if options.json:
        _print_json(
            {
                "ok": True,
                "file": str(options.config),
                "connections": len(config.connections),
                "children": children,
                "policies": len(config.policies),
                "problems": problems,
            }
        )
        return OK
    _print_problems(problems, sys.stdout)
    counts = f"{_plural(len(config.connections), 'connection')}, {_plural(children, 'child', 'children')}, " + _plural(
        len(config.policies), "policy", "policies"
    )
    warned = f"; {_plural(len(problems), 'warning')}" if problems else ""
    print(f"{options.config} is good: {counts}{warned}")
    return OK


def _guard(options: Namespace) -> int:
    try:
        from appliance.daemon import guard
    except ImportError as error:
        raise Refusal(Reason.NOT_INSTALLED_PART, str(error)) from None
    if options.remove:
        guard.remove()
    else:
        guard.apply(_load(options.config))
    if options.json:
        _print_json({"ok": True, "guard": "removed" if options.remove else "installed"})
    elif options.remove:
        print("the guard is removed: what the configuration protects may leave in the clear until the daemon runs")
    else:
        print("the guard is installed: what the configuration protects is dropped until the daemon carries it")
    return OK


def _show(options: Namespace) -> int:
    what = What(options.what)
    row_list: Any = list.__class_getitem__(ROWS[what])
    # Of some connections' entries the newest are chosen here, after the others' are gone.
    limit = sys.maxsize if what is What.LOG and options.names else options.limit
    try:
        rows: list[Any] = _ask(options, Call.SHOW, ShowArgs(what=what, limit=limit), row_list)
    except Refusal as refusal:
        if what is not What.OFFLOAD or refusal.reason not in (Reason.CONTROL_NO_SOCKET, Reason.CONTROL_DEAD):
            raise
        rows = _look_at_machine()
    rows = _only(rows, what, options.names)
    if what is What.LOG:
        rows = rows[-options.limit :]
    if options.json:
        _print_json(rows)
        return OK
    if what is What.LOG and options.names and not rows:
        print(f"the log has nothing of {', '.join(clean(name) for name in options.names)}")
        return OK
    from appliance.console import screens

    page, now = _page(), time.time()
    screen: Callable[[Any, Page, float], list[str]]
    match what:
        case What.CONNECTIONS:
            screen = screens.connection_details if options.names else screens.connections
        case What.SA:
            screen = screens.sas
        case What.POLICIES:
            screen = screens.policies
        case What.DATAPATH:
            screen = screens.datapaths
        case What.OFFLOAD:
            screen = screens.offload
        case What.LOG:
            screen = screens.log
        case What.COUNTERS:
            print("\n".join(screens.counters(rows, page, now, zeros=options.all)))
            return OK
    print("\n".join(screen(rows, page, now)))
    return OK


def _look_at_machine() -> list[Any]:
    """The rows of ``show offload`` where no daemon runs yet: what to write into its configuration hangs on them."""
    import asyncio

    try:
        from appliance.daemon.offload import OffloadProbe
    except ImportError as error:
        raise Refusal(Reason.NOT_INSTALLED_PART, str(error)) from None
    print("no daemon runs here: this is the machine as this command sees it", file=sys.stderr)
    return asyncio.run(OffloadProbe(patience=None).rows())


def _only(rows: list[Any], what: What, names: list[str]) -> list[Any]:
    """The rows of the connections named. Raises Refusal for a name that no row has."""
    if not names:
        return rows

    def owner(row: Any) -> str:
        if what in (What.SA, What.LOG):
            return str(row.connection)
        return str(row.name).partition("/")[0]

    kept = [row for row in rows if owner(row) in names]
    if what in (What.CONNECTIONS, What.POLICIES):
        missing = [name for name in names if name not in {owner(row) for row in rows}]
        if missing:
            raise Refusal(Reason.UNKNOWN_NAME, ", ".join(clean(name) for name in missing))
    return kept


def _act(options: Namespace) -> int:
    done = _ask(options, Call(options.command), options.name, Done)
    if options.json:
        _print_json(done)
        return OK
    print(clean(done.text))
    for detail in done.details:
        print(f"  {clean(detail)}")
    return OK


def _reload(options: Namespace) -> int:
    result = _ask(options, Call.RELOAD, NoArgs(), ReloadResult)
    if options.json:
        _print_json(result)
        return OK
    _print_problems(result.warnings, sys.stdout)
    for word, names in (("added", result.added), ("removed", result.removed), ("changed", result.changed)):
        for name in names:
            print(f"{word:<8} {clean(name)}")
    if result.policies_changed:
        print("changed  policies")
    for key in result.restart_needed:
        print(f"waiting  {clean(key)}: takes effect when the daemon is started again")
    changes = len(result.added) + len(result.removed) + len(result.changed) + result.policies_changed
    undisturbed = f"{_plural(result.unchanged, 'connection')} undisturbed"
    print(f"reloaded: {_plural(changes, 'change') if changes else 'nothing changed'}, {undisturbed}")
    return OK


def _version(options: Namespace) -> int:
    result = _ask(options, Call.VERSION, NoArgs(), VersionResult)
    if options.json:
        _print_json(result)
        return OK
    state = "ready" if result.ready else "starting"
    print(
        f"{clean(result.program)} {clean(result.version)}, process {result.pid}, {state}, with {clean(result.config)}"
    )
    return OK


_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "run": _run,
    "show": _show,
    "initiate": _act,
    "terminate": _act,
    "rekey": _act,
    "reload": _reload,
    "version": _version,
    "check": _check,
    "guard": _guard,
}


def _ask(options: Namespace, call_: Call, args: Any, type_: Any) -> Any:
    def progress(text: str) -> None:
        print(clean(text), file=sys.stderr, flush=True)

    return call(options.control, call_, args, type_, timeout=options.timeout, progress=progress)


def _load(path: Path) -> Config:
    from appliance.config.load import load

    return load(path)


def _failed(refusal: Refusal, *, as_json: bool) -> int:
    """Tell why, and return the status."""
    error = _error_row(refusal)
    status = UNREACHED if refusal.reason in UNREACHABLE else FAILED
    if as_json:
        _print_json({"ok": False, "error": error})
        return status
    if error.problems:
        _print_problems(error.problems, sys.stderr)
        mistakes = sum(p.level == "error" for p in error.problems)
        print(f"esplanade: {_plural(mistakes, 'mistake')} in the configuration; nothing is applied", file=sys.stderr)
        return status
    detail = f": {error.detail}" if error.detail else ""
    print(f"esplanade: {clean(error.words + detail)}", file=sys.stderr)
    if error.remedy:
        print(f"  remedy: {clean(error.remedy)}", file=sys.stderr)
    return status


def _error_row(refusal: Refusal) -> ErrorRow:
    problems: Sequence[Problem] = getattr(refusal, "problems", ())
    return error_of(refusal, [_problem_row(problem) for problem in problems])


def _problem_row(problem: Problem) -> ProblemRow:
    return ProblemRow(
        level="warning" if problem.warning else "error",
        file=str(problem.file),
        line=problem.line,
        column=problem.column,
        where=problem.where,
        reason=problem.reason.name,
        what=problem.what,
        cause=problem.cause,
        remedy=problem.remedy,
    )


def _print_problems(problems: Sequence[ProblemRow], stream: Any) -> None:
    for p in problems:
        place = p.file + (f":{p.line}" if p.line else "") + (f":{p.column}" if p.line and p.column else "")
        where = f"{p.where}: " if p.where else ""
        print(clean(f"{place}: {p.level}: {where}{p.what}"), file=stream)
        print(f"  cause: {clean(p.cause)}\n  remedy: {clean(p.remedy)}", file=stream)


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _page() -> Page:
    tty = sys.stdout.isatty()
    colours = tty and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Page(width=shutil.get_terminal_size((120, 24)).columns if tty else 120, colours=colours)


def _plural(number: int, word: str, words: str = "") -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"


if __name__ == "__main__":
    raise SystemExit(main())
