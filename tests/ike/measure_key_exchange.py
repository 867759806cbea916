"""Prints what key exchanges cost: ``python -m tests.ike.measure_key_exchange [ROUNDS]``. Milliseconds of CPU time."""

from __future__ import annotations

import os
import sys
import time

from appliance.ike.ke import generate
from appliance.sa.algorithms import KeyExchangeMethod


def main() -> None:
    """Measure every method."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(f"{'method':<12}{'generate':>10}{'shared':>10}   ms of CPU, mean of {rounds}")
    for method in KeyExchangeMethod:
        if method is KeyExchangeMethod.NONE:
            continue
        ours, peer = generate(method, os.urandom), generate(method, os.urandom).public
        start = time.process_time()
        for _ in range(rounds):
            ours = generate(method, os.urandom)
        middle = time.process_time()
        for _ in range(rounds):
            ours.shared(peer)
        end = time.process_time()
        print(f"{method.name:<12}{1e3 * (middle - start) / rounds:>10.3f}{1e3 * (end - middle) / rounds:>10.3f}")


if __name__ == "__main__":
    main()
