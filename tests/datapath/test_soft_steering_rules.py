"""The kernel holds the rules that were planned, although it takes wide and narrow ones for the same at times."""

from __future__ import annotations

import subprocess
import sys

import pytest

INSIDE = ["unshare", "--user", "--map-root-user", "--net"]

# Run in a namespace of its own: rules as the kernel lists them after each set of local networks.
PROGRAM = """
import random, subprocess
from ipaddress import ip_network
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.rtnetlink import Rule
from appliance.datapath.soft import steering
from appliance.datapath.soft.steering import Steering

sources = [None, *(ip_network(f"10.{n}.0.0/16") for n in range(6)), ip_network("10.1.0.0/24")]
wanted = []
steering.plan = lambda *args: iter(wanted)
subprocess.run(["ip", "link", "add", "name", "esplanade0", "type", "dummy"], check=False)
subprocess.run(["ip", "tuntap", "add", "dev", "esplanade0", "mode", "tun"], check=False, capture_output=True)
one = Steering(SoftOptions())
chance = random.Random(1)
for turn in range(40):
    chosen = chance.sample(sources, chance.randint(1, len(sources)))
    wanted = [Rule(family=2, preference=258, action=1, target=220, source=source) for source in chosen]
    if turn % 10 == 9:  # a daemon that was killed, and its successor
        one.close()
        one = Steering(SoftOptions())
    one.apply([])
    listed = subprocess.run(["ip", "rule"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = sorted(line.split()[2] for line in listed if line.startswith("258:"))
    assert found == sorted(str(source or "all") for source in chosen), (turn, found, chosen)
one.remove()
print("done")
"""


def test_rules_are_those_of_the_policies_whatever_was_there_before() -> None:
    if subprocess.run([*INSIDE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel gives users no namespaces")
    done = subprocess.run(
        [*INSIDE, sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "done\n", done.stderr
