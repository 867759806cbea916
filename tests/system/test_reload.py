"""reload applies the difference, disturbs nothing else, and changes nothing when the file is wrong."""

from __future__ import annotations

import time

import pytest

from appliance.console.protocol import State, What
from tests.lab import topology
from tests.lab.flow import Flow
from tests.lab.gateway import GatewayError
from tests.lab.topology import SiteToSite
from tests.system.duo import A, Duo, spis

SECOND = """
[connection.third]
local = { address = "192.0.2.1", id = "gw-a.example", auth = "psk" }
remote = { address = "192.0.2.3", id = "gw-c.example", auth = "psk" }
psk = "another secret"
start = "initiate"

[connection.third.child.net]
local_ts = ["10.1.0.0/24"]
remote_ts = ["10.3.0.0/24"]
"""


def test_adding_and_removing_one_connection_does_not_disturb_the_other(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    before, established = spis(duo.a), duo.a.connection(A).established_at
    with Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=500) as flow:
        added = duo.a.reload(duo.text_a + SECOND)
        assert added.added == ["third"]
        assert added.unchanged >= 1
        assert {row.name for row in duo.a.show(What.CONNECTIONS)} == {A, "third"}
        removed = duo.a.reload(duo.text_a)
        assert removed.removed == ["third"]
        time.sleep(0.2)
        assert flow.stop().lost == 0
    assert spis(duo.a) == before
    assert duo.a.connection(A).established_at == established


def test_an_unchanged_file_changes_nothing(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    before = spis(duo.a)
    result = duo.a.reload()
    assert (result.added, result.removed, result.changed) == ([], [], [])
    assert spis(duo.a) == before


def test_a_new_child_comes_and_goes_beside_the_old_one(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    before = spis(duo.a)
    more = '\n[connection.{name}.child.more]\nlocal_ts = ["{own}"]\nremote_ts = ["{peer}"]\n'
    duo.b.reload(duo.text_b + more.format(name="site-a", own="10.22.0.0/24", peer="10.11.0.0/24"))
    duo.a.reload(duo.text_a + more.format(name=A, own="10.11.0.0/24", peer="10.22.0.0/24"))
    duo.a.wait("more up", lambda: duo.a.child(A, "more").state is State.ESTABLISHED)
    assert before < spis(duo.a)
    duo.a.reload(duo.text_a)
    duo.a.wait("more gone", lambda: spis(duo.a) == before)
    duo.b.wait("more gone there", lambda: spis(duo.b) == before)
    duo.assert_traffic(1)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda text: text[: len(text) // 2], "line"),
        (lambda text: text.replace("local_ts", "local_st"), "local_ts"),
        (lambda text: text.replace("aes256gcm16-esn", "aes265gcm16-esn"), "aes256gcm16"),
        (lambda text: text.replace('"300ms"', "300"), "unit"),
        (lambda text: text.replace("schema = 1", "schema = 99"), "schema"),
    ],
    ids=["cut in half", "unknown key", "unknown cipher", "no unit", "schema of the future"],
)
def test_a_wrong_file_leaves_the_running_state_untouched(shared: Duo, broken, words: str) -> None:  # type: ignore[no-untyped-def]
    duo = shared
    duo.a.reload(duo.text_a)
    duo.up()
    before = spis(duo.a)
    with pytest.raises(GatewayError) as refused:
        duo.a.reload(broken(duo.text_a))
    problems = refused.value.error.problems
    assert problems
    assert all(p.file.endswith("gateway.toml") and p.what and p.remedy for p in problems)
    assert all(p.line > 0 for p in problems)
    assert words in str(problems)
    assert spis(duo.a) == before
    duo.assert_traffic(1)
    duo.a.write(duo.text_a)
