"""The control socket answers everything, in bounded time, and serves only whom it should."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.console.protocol import REQUEST_LIMIT, Arguments, Call, Done, NameArgs
from appliance.daemon.control import CLIENTS, ControlLock, ControlServer
from appliance.daemon.log import Log
from appliance.reasons import Reason, Refusal


async def handle(call: Call, arguments: Arguments, progress: Callable[[str], None]) -> Any:
    if call is Call.INITIATE:
        assert isinstance(arguments, NameArgs)
        progress("connecting")
        if arguments.connection == "never":
            await asyncio.Event().wait()
        return Done(name=arguments.connection, text="up")
    if call is Call.RELOAD:
        raise Refusal(Reason.CONFIG_INVALID, "two mistakes")
    if call is Call.REKEY:
        raise ZeroDivisionError
    return []


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, handle, Log())
    await server.start()
    try:
        yield server
    finally:
        await server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, path: Path) -> Client:
        return cls(*await asyncio.open_unix_connection(str(path), limit=1 << 24))

    async def ask(self, line: bytes) -> dict[str, Any]:
        self.writer.write(line + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            found: dict[str, Any] = json.loads(await self.reader.readline())
        return found

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def request(call: str, id_: int = 1, **args: Any) -> bytes:
    return json.dumps({"id": id_, "call": call, "args": args}).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"this is not JSON", "CONTROL_BAD_REQUEST"),
        (b"{}", "CONTROL_BAD_REQUEST"),
        (b'{"id": 1, "call": "show"', "CONTROL_BAD_REQUEST"),
        (b'{"id": "one", "call": "show"}', "CONTROL_BAD_REQUEST"),
        (b"[1, 2]", "CONTROL_BAD_REQUEST"),
        (b"\xff\xfe\x00", "CONTROL_BAD_REQUEST"),
        (b"[" * 5000, "CONTROL_BAD_REQUEST"),
        (request("destroy"), "CONTROL_UNKNOWN_CALL"),
        (request("show", what="keys"), "CONTROL_BAD_REQUEST"),
        (request("show"), "CONTROL_BAD_REQUEST"),
        (request("initiate", connection=7), "CONTROL_BAD_REQUEST"),
        (request("initiate", connection="a", more=1), "CONTROL_BAD_REQUEST"),
        (request("reload"), "CONFIG_INVALID"),
        (request("rekey", connection="a"), "INTERNAL"),
    ],
)
def test_bad_requests_get_an_answer_and_the_connection_goes_on(tmp_path: Path, line: bytes, reason: str) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            client = await Client.of(server._path)
            answer = await client.ask(line)
            assert answer["ok"] is False
            assert answer["error"]["reason"] == reason
            assert answer["error"]["remedy"]
            assert (await client.ask(request("show", what="sa")))["ok"] is True
            await client.close()

    asyncio.run(main())


def test_a_line_too_long_is_answered_and_the_connection_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            client = await Client.of(server._path)
            answer = await client.ask(b"x" * (REQUEST_LIMIT + 10))
            assert answer["error"]["reason"] == "CONTROL_BAD_REQUEST"
            assert await client.reader.read() == b""
            await client.close()

    asyncio.run(main())


def test_answers_come_while_another_request_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            client = await Client.of(server._path)
            assert (await client.ask(request("initiate", 1, connection="never")))["progress"] == "connecting"
            assert await client.ask(request("show", 2, what="sa")) == {"id": 2, "ok": True, "result": []}
            await client.close()

    asyncio.run(main())


def test_who_waits_is_told_that_the_daemon_stops(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            client = await Client.of(server._path)
            assert "progress" in await client.ask(request("initiate", 1, connection="never"))
            await server.close()
            assert (await client.answer())["error"]["reason"] == "STOPPING"
            await client.close()
            assert not server._path.exists()

    asyncio.run(main())


def test_clients_that_go_leave_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            for _ in range(CLIENTS * 2):
                client = await Client.of(server._path)
                client.writer.write(request("initiate", 1, connection="never") + b"\n")
                await client.close()
            if server._clients:
                _, left = await asyncio.wait(server._clients, timeout=5)
                assert not left

    asyncio.run(main())


def test_more_clients_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            clients = [await Client.of(server._path) for _ in range(CLIENTS)]
            for client in clients:
                assert (await client.ask(request("show", what="sa")))["ok"]
            one_more = await Client.of(server._path)
            assert (await one_more.answer())["error"]["reason"] == "CONTROL_BUSY"
            for client in (*clients, one_more):
                await client.close()

    asyncio.run(main())


def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "socket") as server:
            assert stat.S_IMODE(server._path.stat().st_mode) == 0o600

    asyncio.run(main())


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()

    async def main() -> None:
        lock = ControlLock(path)
        async with served(path) as server:
            client = await Client.of(server._path)
            assert (await client.ask(request("show", what="sa")))["ok"]
            await client.close()
        lock.close()

    asyncio.run(main())


def test_a_living_daemon_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "socket"
    lock = ControlLock(path)
    with pytest.raises(Refusal) as refused:
        ControlLock(path)
    assert refused.value.reason is Reason.DAEMON_RUNS
    lock.close()
    ControlLock(path).close()


def test_a_daemon_whose_lock_file_was_removed_is_found_by_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(Refusal) as refused:
            ControlLock(path)
    assert refused.value.reason is Reason.DAEMON_RUNS


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named() -> None:
    with pytest.raises(Refusal) as refused:
        ControlLock(Path("/proc/none/socket"))
    assert refused.value.reason is Reason.NO_PRIVILEGE


def test_a_file_at_the_control_path_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with pytest.raises(Refusal) as refusal:
        asyncio.run(ControlServer(path, handle, Log()).start())
    assert refusal.value.reason is Reason.CONFIG_VALUE and "no socket" in refusal.value.detail
    assert path.read_text() == "kept"
