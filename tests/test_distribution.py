"""Tests that share something are given to one worker, and others are not held back by them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.distribution import together

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/vm/inside/test_xfrm.py::test_a", "tests/vm"),
        ("tests/vm/inside/test_probe.py::test_b[x::y]", "tests/vm"),
        ("tests/vm/newer/test_xfrm.py::test_a", "tests/vm"),
        ("tests/vm/test_image.py::test_c", "tests/vm/test_image.py::test_c"),
        ("tests/system/test_rekey.py::test_d[1]", "tests/system/test_rekey.py"),
        ("tests/ike/test_sa.py::TestSa::test_e", "tests/ike/test_sa.py::TestSa::test_e"),
        ("tests/test_f.py::test_f", "tests/test_f.py::test_f"),
    ],
)
def test_a_network_is_for_one_file_and_the_machine_for_all_in_it(nodeid: str, scope: str) -> None:
    assert together(nodeid) == scope


def test_workers_get_them_so() -> None:
    argv = [sys.executable, "-m", "pytest", "-n2", "-vv", "-p", "no:cacheprovider", "tests/lab", "-k", "reach"]
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    workers = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("[gw")]
    assert len(workers) > 1 and len(set(workers)) == 1, done.stdout
