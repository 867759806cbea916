"""What holds for every test: markers by folder, and which of them `make test` leaves to `make verify`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
NETWORK_ROOMS = ("system", "interop", "lab")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--verify", action="store_true", help="run the long proofs too (marker: verify)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        room = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if room in NETWORK_ROOMS:
            item.add_marker(pytest.mark.network)
            # One file shares one network, so one worker has to run all of it (pytest-xdist's loadgroup).
            item.add_marker(pytest.mark.xdist_group(f"{room}/{item.path.stem}"))
        if item.get_closest_marker("verify") and not config.getoption("--verify"):
            left.append(item)
        else:
            kept.append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
