"""Tests of the folders in KERNELS run in the virtual machine: here they are forwarded to it, and there they are run.

One boot runs all that were collected of a folder, and each test's own report comes back, so that selection (``-k``,
node ids), output and counts are as for any other test.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.vm import image, machine

RESULTS = os.environ.get("ESPLANADE_VM")
"""Inside: the folder whose files go back to the host."""
REPORTS = "reports.jsonl"
KERNELS = {"inside": image.STABLE, "newer": image.NEWER}
"""By folder."""
KEPT = {"inside": Path("build/vm"), "newer": Path("build/vm-newer")}
"""On the host: what the last boot brought back, besides reports."""
HERE = Path(__file__).parent
_BOOTS = pytest.StashKey["dict[str, dict[str, list[pytest.TestReport]]]"]()


def room(item: pytest.Item) -> str | None:
    """The folder of KERNELS that a test is of. pytest-xdist's workers ask the hooks of all folders."""
    parts = item.path.relative_to(HERE).parts if item.path.is_relative_to(HERE) else ()
    return parts[0] if parts and parts[0] in KERNELS else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = room(item)
        if folder is not None:
            if item.get_closest_marker("essential") is None or KERNELS[folder] is not image.STABLE:
                item.add_marker(pytest.mark.verify)
            missing = None if RESULTS else image.why_not(KERNELS[folder])
            if missing is not None:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    folder = room(item)
    if RESULTS or folder is None or image.why_not(KERNELS[folder]) is not None:
        return None
    boots = item.session.stash.setdefault(_BOOTS, {})
    boot = boots.get(folder)
    if boot is None:
        boot = boots[folder] = _boot(item.session, folder)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in boot[item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_logstart(nodeid: str) -> None:
    if RESULTS:
        # Of a kernel that falls nothing is left but what the console has.
        Path("/dev/console").write_text(f"{nodeid}\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if RESULTS and _config is not None:
        data = _config.hook.pytest_report_to_serializable(config=_config, report=report)
        with Path(RESULTS, REPORTS).open("a") as file:
            file.write(json.dumps(data) + "\n")


_config: pytest.Config | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _config
    _config = config


def _boot(session: pytest.Session, folder: str) -> dict[str, list[pytest.TestReport]]:
    items = [item for item in session.items if room(item) == folder]
    reports: dict[str, list[pytest.TestReport]] = {item.nodeid: [] for item in items}
    command = ["python3", "-m", "pytest", "-p", "no:cacheprovider"]
    if session.config.getoption("--verify"):
        command.append("--verify")
    words = "it did not run"
    try:
        outcome = machine.run(shlex.join([*command, *reports]), kernel=KERNELS[folder], timeout=60 + 60 * len(items))
    except (machine.MachineError, image.ImageError) as error:
        words = str(error)
    else:
        _keep(session.config.rootpath / KEPT[folder], outcome)
        for line in outcome.files.get(REPORTS, b"").splitlines():
            data = json.loads(line)
            report = session.config.hook.pytest_report_from_serializable(config=session.config, data=data)
            if isinstance(report.longrepr, list):  # why it was skipped, and where: a tuple before JSON had it
                path, line, reason = report.longrepr
                report.longrepr = (path.replace("/srv", str(session.config.rootpath), 1), line, reason)
            reports[report.nodeid].append(report)
        words = f"pytest inside ended with {outcome.status}:\n{outcome.output[-4000:]}"
    for item in items:
        if not any(report.when == "teardown" for report in reports[item.nodeid]):
            reports[item.nodeid] = [
                pytest.TestReport(
                    item.nodeid, item.location, {}, "failed", f"no report from the virtual machine: {words}", "call"
                )
            ]
    return reports


def _keep(folder: Path, outcome: machine.Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "output").write_text(outcome.output)
    for name, data in outcome.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
