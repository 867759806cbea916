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


# Each pair has a lab of its own: gateways of one name in two networks would share a directory.


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Side by side on one subnet."""
    with Lab() as lab:
        yield Pair(SiteToSite(lab))


@pytest.fixture(scope="module")
def pair_v6() -> Iterator[Pair]:
    """IPv6 between the gateways."""
    with Lab() as lab:
        yield Pair(SiteToSite(lab), v6=True)


@pytest.fixture(scope="module")
def pair_behind_nat() -> Iterator[Pair]:
    """We are behind the NAT."""
    with Lab() as lab:
        yield Pair(SiteToSite(lab, Middle.NAT))


@pytest.fixture(scope="module")
def pair_before_nat() -> Iterator[Pair]:
    """strongSwan is behind the NAT."""
    with Lab() as lab:
        yield Pair(SiteToSite(lab, Middle.NAT), swapped=True)
