"""What holds for every test: markers by folder, and which of them `make test` leaves to `make verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.distribution import NETWORK_ROOMS, Scheduling

TESTS = Path(__file__).parent / "tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--verify", action="store_true", help="run the long proofs too (marker: verify)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        room = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if room in NETWORK_ROOMS:
            item.add_marker(pytest.mark.network)
        if item.get_closest_marker("verify") and not config.getoption("--verify"):
            left.append(item)
        else:
            kept.append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)
