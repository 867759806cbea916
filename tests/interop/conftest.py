"""One pair of gateways for all tests of a file: they differ in what is configured, not in what runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.pair import Pair
from tests.lab import namespace, strongswan
from tests.lab.lab import Lab
from tests.lab.topology import Middle, SiteToSite

MISSING = namespace.why_not() or strongswan.why_not()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "interop" in item.path.parts:
            item.add_marker(pytest.mark.peer)
            item.add_marker(pytest.mark.skipif(MISSING is not None, reason=str(MISSING)))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """Side by side on one subnet."""
    return Pair(SiteToSite(lab))


@pytest.fixture(scope="module")
def pair_v6(lab: Lab) -> Pair:
    """IPv6 between the gateways."""
    return Pair(SiteToSite(lab), v6=True)


@pytest.fixture(scope="module")
def pair_behind_nat(lab: Lab) -> Pair:
    """We are behind the NAT."""
    return Pair(SiteToSite(lab, Middle.NAT))


@pytest.fixture(scope="module")
def pair_before_nat(lab: Lab) -> Pair:
    """strongSwan is behind the NAT."""
    return Pair(SiteToSite(lab, Middle.NAT), swapped=True)
