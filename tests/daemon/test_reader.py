"""The configuration comes out of its reader as ``load`` gives it, and nothing of the daemon goes into the reader."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import FrameType

import pytest

from appliance.config import load as loading
from appliance.config.load import load
from appliance.config.model import Config
from appliance.config.problem import ConfigError
from appliance.daemon.reader import Reading
from appliance.reasons import Reason, Refusal
from tests.daemon.pair import configuration

# The test runner has threads, which Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def write(directory: Path, text: str) -> Path:
    file = directory / "gateway.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def test_what_is_read_is_what_load_gives_secrets_and_warnings_included(tmp_path: Path) -> None:
    file = write(tmp_path, configuration("a", psk="the very key"))
    file.chmod(0o644)
    config = Reading(file).result()
    assert config == load(file)
    assert config.warnings == load(file).warnings != ()
    secret = config.connections[0].psk
    assert secret is not None and secret.reveal() == b"the very key"


def test_equal_settings_of_many_connections_come_out_as_one_object(tmp_path: Path) -> None:
    text = configuration("a", extra='dpd = { interval = "10s" }')
    file = write(tmp_path, text + text.replace("schema = 1", "").replace("site", "other").replace(".0.0/24", ".9.0/24"))
    one, other = Reading(file).result().connections
    for name in ("ike_proposals", "dpd", "lifetime", "retransmit"):
        assert getattr(one, name) is getattr(other, name)
    assert one.children[0].lifetime is other.children[0].lifetime
    assert one.dpd.interval == 10.0


def test_all_mistakes_come_out_with_their_places(tmp_path: Path) -> None:
    file = write(
        tmp_path, configuration("a").replace("local_ts", "local_st").replace("schema = 1", "schema = 1\nx = 2")
    )
    with pytest.raises(ConfigError) as expected:
        load(file)
    with pytest.raises(ConfigError) as raised:
        Reading(file).result()
    assert raised.value.problems == expected.value.problems
    assert len(raised.value.problems) > 1


def test_a_fault_of_the_program_is_told_by_its_place_and_without_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Config:
        raise KeyError("the very key")

    monkeypatch.setattr(loading, "load", fail)
    with pytest.raises(Refusal) as raised:
        Reading(write(tmp_path, configuration("a"))).result()
    assert raised.value.reason is Reason.INTERNAL
    assert "KeyError at" in raised.value.detail
    assert "the very key" not in raised.value.detail


def test_a_signal_ends_the_reader_and_does_not_reach_the_daemon_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    def told_to_stop(path: Path) -> Config:
        os.kill(os.getpid(), signal.SIGTERM)
        return load(path)

    monkeypatch.setattr(loading, "load", told_to_stop)

    async def read() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.append, signal.SIGTERM)
        with pytest.raises(Refusal, match="its process ended"):
            Reading(write(tmp_path, configuration("a"))).result()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(read())
    assert heard == []


def test_the_reader_has_no_descriptor_of_the_daemon_and_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "descriptors"

    def look(path: Path) -> Config:
        with seen.open("w") as stream:
            own = stream.fileno()
            for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):  # noqa: PTH208
                if number > 2 and number != own and os.path.exists(f"/proc/self/fd/{number}"):  # noqa: PTH110
                    print(os.readlink(f"/proc/self/fd/{number}").partition(":")[0], file=stream)  # noqa: PTH115
        return load(path)

    monkeypatch.setattr(loading, "load", look)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    Reading(write(tmp_path, configuration("a"))).result()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert seen.read_text().split() == ["pipe"]
