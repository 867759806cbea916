"""What NAT detection compares (RFC 7296 §2.23)."""

from __future__ import annotations

import hashlib

from appliance.sa.selector import Address


def nat_hash(spi_i: bytes, spi_r: bytes, address: Address, port: int) -> bytes:
    """The contents of NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP: SHA-1(SPIi | SPIr | IP | port).

    SHA-1 hides nothing and proves nothing here; it is what the RFC says both sides compute.
    """
    data = spi_i + spi_r + address.packed + port.to_bytes(2, "big")
    return hashlib.sha1(data, usedforsecurity=False).digest()
