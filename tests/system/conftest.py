"""Two of our gateways before two networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import namespace
from tests.lab.lab import Lab
from tests.lab.topology import Middle, SiteToSite
from tests.system.duo import Duo

MISSING = namespace.why_not()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "system" in item.path.parts:
            item.add_marker(pytest.mark.skipif(MISSING is not None, reason=str(MISSING)))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def sites(lab: Lab) -> SiteToSite:
    return SiteToSite(lab)


@pytest.fixture
def nat_sites(lab: Lab) -> SiteToSite:
    return SiteToSite(lab, Middle.NAT, udp_timeout=4)


@pytest.fixture(scope="module")
def shared() -> Iterator[Duo]:
    """For tests that leave the gateways running and put their own configuration in."""
    with Lab() as made:
        yield Duo(SiteToSite(made)).start()
