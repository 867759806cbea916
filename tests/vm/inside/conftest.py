"""What tests in the virtual machine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.inside.netdevsim import Variant, loaded

pytest.register_assert_rewrite("tests.vm.inside.offload")


@pytest.fixture(scope="module")
def netdevsim(request: pytest.FixtureRequest) -> Iterator[Variant]:
    """The variant of netdevsim that is loaded; which one, a test's parameters say (``offload.variants``)."""
    with loaded(request.param):
        yield request.param
