"""The list of proofs, held against the RTL as it is; the proofs themselves are `make formal`."""

from __future__ import annotations

import re

import pytest

from hw.formal.proofs import Module, load
from hw.formal.tools import PROPERTIES, ROOT

MODULES = [pytest.param(module, id=module.name) for module in load()]


@pytest.mark.parametrize("module", MODULES)
def test_each_mistake_can_be_put_into_the_rtl(module: Module) -> None:
    for mutation in module.mutations:
        count = (ROOT / "hw" / "rtl" / mutation.file).read_text().count(mutation.old)
        assert count == 1, f"{mutation.catches}: {mutation.old!r} is {count} times in {mutation.file}"


@pytest.mark.parametrize("module", MODULES)
def test_each_property_has_a_mistake_that_it_notices(module: Module) -> None:
    shown = {mutation.catches for mutation in module.mutations}
    assert set(module.properties) - module.lemmas <= shown
    assert shown <= set(module.properties)


@pytest.mark.parametrize("module", MODULES)
def test_what_is_listed_is_asserted(module: Module) -> None:
    text = (PROPERTIES / f"{module.name}_properties.sv").read_text()
    asserted = set(re.findall(r"\b(\w+)\s*:\s*assert\b", text))
    assert asserted == set(module.properties)
