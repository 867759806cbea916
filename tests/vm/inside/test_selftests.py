"""The kernel's own tests of IPsec pass on the kernel that ours are run on, with what they need."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm.inside.netdevsim import Variant, loaded

SELFTESTS = Path("/opt/selftests/net")


def run(*argv: str, timeout: float) -> list[str]:
    """What a test said, line by line."""
    Path("/run/netns").mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", *argv],
        cwd=SELFTESTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0
    assert "FAIL" not in done.stdout
    assert "SKIP" not in done.stdout
    return [line for line in done.stdout.splitlines() if line.startswith("PASS")]


def test_the_ipsec_part_of_rtnetlink_passes() -> None:
    with loaded(Variant.PLAIN):
        passed = run("rtnetlink.sh", "-t", "kci_test_ipsec kci_test_ipsec_offload", timeout=120)
    assert passed == ["PASS: ipsec", "PASS: ipsec_offload"]


def test_resolution_of_policies_passes() -> None:
    passed = run("xfrm_policy.sh", timeout=900)
    assert len(passed) == 18
