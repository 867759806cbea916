"""What the datapath needs is there for the root of a user namespace too: that is how users without sudo run it."""

from __future__ import annotations

import subprocess
import sys

import pytest

INSIDE = ["unshare", "--user", "--map-root-user", "--net"]


def test_the_tun_device_is_made_in_a_user_namespace() -> None:
    if subprocess.run([*INSIDE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel gives users no namespaces")
    program = "from appliance.datapath.soft.tun import open_tun; print(open_tun('esplanade0', 1400).name)"
    done = subprocess.run(
        [*INSIDE, sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    if "Refusal: no TUN device" in done.stderr or "/dev/net/tun" in done.stderr:
        pytest.skip(f"no TUN device here: {done.stderr.splitlines()[-1]}")
    assert done.stdout == "esplanade0\n", done.stderr
