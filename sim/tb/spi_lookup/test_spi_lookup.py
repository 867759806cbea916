"""The lookup of SAs by SPI and destination, at several sizes."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize("sas", [1, 5, 64, 1024])
def test_spi_lookup(sas: int) -> None:
    simulate("spi_lookup", "sim.tb.spi_lookup.bench_spi_lookup", parameters={"NSa": sas}, environment={"SAS": str(sas)})
