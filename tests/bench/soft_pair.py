"""Two soft datapaths with keys installed by hand, and iperf3 over them: ``python -m tests.bench.soft_pair``.

Prints TCP and UDP rates and the CPU time that each datapath process took. No IKE, no comparison: a place to profile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from appliance.sa.algorithms import Encryption, Integrity, Suite
from tests.datapath.pair import INNER, Pair, pair
from tests.lab.iperf import tcp, udp

SUITES = {
    "aes256gcm16": Suite(Encryption.AES_GCM_16, 256),
    "chacha20poly1305": Suite(Encryption.CHACHA20_POLY1305, 256),
    "aes256-sha256": Suite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128),
}


def cpu(pid: int) -> float:
    """Seconds of CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(seconds: float, suite: Suite, native: bool) -> None:
    """One round of each kind."""
    async with pair() as both:
        await both.protect()
        await both.connect(suite=suite, udp=not native)
        print(f"{suite}, {'native ESP' if native else 'ESP in UDP'}, {os.cpu_count()} CPUs, {seconds:g} s each")
        for version in (4, 6):
            await _tcp(both, seconds, version)
        for size in (64, 512, 1350):
            await _udp(both, seconds, size)


async def _tcp(both: Pair, seconds: float, version: int) -> None:
    spaces = [gateway.namespace for gateway in both.gateways]
    before = [cpu(gateway.datapath.pid or 0) for gateway in both.gateways]
    rate = await asyncio.to_thread(lambda: tcp(spaces[0], spaces[1], INNER[version][1], seconds=seconds))
    used = [cpu(gateway.datapath.pid or 0) - start for gateway, start in zip(both.gateways, before, strict=True)]
    print(
        f"TCP, IPv{version} inside: {rate.bits_per_second / 1e6:7.0f} Mbit/s, "
        f"CPU {used[0]:.2f} s sending, {used[1]:.2f} s receiving"
    )


async def _udp(both: Pair, seconds: float, size: int) -> None:
    spaces = [gateway.namespace for gateway in both.gateways]
    rate = await asyncio.to_thread(lambda: udp(spaces[0], spaces[1], INNER[4][1], size=size, rate=0, seconds=seconds))
    print(f"UDP, {size} bytes: {rate.packets_per_second:8.0f} packets/s, {rate.lost:.1%} lost")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--suite", choices=sorted(SUITES), default="aes256gcm16")
    parser.add_argument("--native", action="store_true", help="ESP without UDP")
    options = parser.parse_args()
    asyncio.run(measure(options.seconds, SUITES[options.suite], options.native))


if __name__ == "__main__":
    main()
