"""A daemon's control socket with a script for its mind: a real server, on a real socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from appliance.console.protocol import (
    Arguments,
    Call,
    ErrorRow,
    Request,
    decode_call,
    decode_request,
    encode_error,
    encode_progress,
    encode_result,
    error_of,
)
from appliance.reasons import Refusal

Script = Callable[[Call, Arguments], Iterable[object]]
"""Yields what to send: strings are progress, an ErrorRow is a refusal, anything else the result; CLOSE hangs up,
SILENCE says nothing more, bytes go out as they are."""

CLOSE, SILENCE = object(), object()


class FakeDaemon:
    """Serves ``script`` on a socket while in its context."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path = path
        self.requests: list[Request] = []
        self._script = script
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self) -> FakeDaemon:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._talk(reader, writer)
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_unix_server(client, self.path)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = decode_request(line)
            self.requests.append(request)
            try:
                items = [*self._script(*decode_call(request))]
            except Refusal as refusal:
                items = [error_of(refusal)]
            for item in items:
                if item is CLOSE:
                    return
                if item is SILENCE:
                    await asyncio.Event().wait()
                if isinstance(item, bytes):
                    writer.write(item)
                elif isinstance(item, str):
                    writer.write(encode_progress(request.id, item))
                elif isinstance(item, ErrorRow):
                    writer.write(encode_error(request.id, item))
                else:
                    writer.write(encode_result(request.id, item))
                await writer.drain()
