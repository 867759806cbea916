"""The control socket's server: each request gets an answer, in bounded time, whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from appliance.console.protocol import (
    REQUEST_LIMIT,
    Arguments,
    Call,
    ErrorRow,
    ProblemRow,
    decode_call,
    decode_request,
    encode_error,
    encode_progress,
    encode_result,
    error_of,
)
from appliance.daemon.log import Log
from appliance.reasons import Reason, Refusal

CLIENTS = 64
"""Connections at a time."""
REQUESTS = 16
"""Requests of one connection that are worked on at a time; more wait."""
SLOW_READER = 30.0
"""Seconds after which a client that does not read its answer is left alone."""
CALL_SECONDS = 240.0
SHOW_SECONDS = 5.0

Handler = Callable[[Call, Arguments, Callable[[str], None]], Awaitable[Any]]


class ControlLock:
    """That this daemon is the only one of a control path. Held until closed, or until the process ends."""

    def __init__(self, path: Path) -> None:
        """Raises Refusal: DAEMON_RUNS, NO_PRIVILEGE."""
        self.path = path
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Refusal(
                Reason.NO_PRIVILEGE, f"{path.parent}: {error.strerror}", remedy="run as root, or name another --control"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise Refusal(Reason.DAEMON_RUNS, str(path)) from error
        if _answers(path):
            os.close(self._descriptor)
            raise Refusal(Reason.DAEMON_RUNS, str(path))

    def close(self) -> None:
        """Give the path back."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True  # somebody listens and is busy
        except OSError:
            return False
    return True


class ControlServer:
    """Serves ``path``. ``handle`` does what is asked and returns the result; it raises Refusal.

    ``problems`` turns a refusal into rows for the mistakes of a configuration that it carries.
    """

    def __init__(
        self, path: Path, handle: Handler, log: Log, *, problems: Callable[[Refusal], list[ProblemRow]] | None = None
    ) -> None:
        self._path = path
        self._handle = handle
        self._log = log
        self._problems = problems
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, group: str | None = None) -> None:
        """Make the socket, in place of a dead daemon's. Only its owner may use it, and ``group`` if given.

        Raises Refusal: NO_PRIVILEGE, CONFIG_VALUE (no such group).
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(self._path.lstat().st_mode):
                    raise Refusal(
                        Reason.CONFIG_VALUE, f"{self._path} is there and is no socket", remedy="name another --control"
                    )
                self._path.unlink()
            before = os.umask(0o177)  # no moment at which others could connect
            try:
                sock.bind(str(self._path))
            finally:
                os.umask(before)
            if group is not None:
                os.chown(self._path, -1, _group(group))
                self._path.chmod(0o660)
            sock.listen(CLIENTS)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise Refusal(Reason.NO_PRIVILEGE, f"{self._path}: {error.strerror}") from error
        except Refusal:
            sock.close()
            raise
        self._server = await asyncio.start_unix_server(self._client, sock=sock, limit=REQUEST_LIMIT)

    async def close(self) -> None:
        """Serve nobody any more and remove the socket. Who waits for an answer is told that the daemon stops."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(OSError):
                self._path.unlink()
        for task in tuple(self._clients):
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=1.0)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= CLIENTS:
            writer.write(encode_error(0, error_of(Refusal(Reason.CONTROL_BUSY, f"{CLIENTS} clients"))))
            writer.close()
            return
        self._clients.add(task)
        client = _Client(reader, writer, self._handle, self._log, self._problems)
        try:
            await client.serve()
        except (OSError, asyncio.CancelledError):
            pass
        except Exception as error:
            self._log.internal("control", "a client", error)
        finally:
            self._clients.discard(task)
            writer.close()


class _Client:
    """One connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handle: Handler,
        log: Log,
        problems: Callable[[Refusal], list[ProblemRow]] | None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._log = log
        self._problems = problems
        self._who = _peer(writer)
        self._room = asyncio.Semaphore(REQUESTS)

    async def serve(self) -> None:
        """Read requests until the client goes; what it asked for then is not waited for any more."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    line = await self._reader.readline()
                except ValueError:
                    detail = f"the line is longer than {REQUEST_LIMIT} bytes"
                    await self._answer(encode_error(0, error_of(Refusal(Reason.CONTROL_BAD_REQUEST, detail))))
                    return
                if not line:
                    return
                if not line.strip():
                    continue
                await self._room.acquire()
                task = asyncio.get_running_loop().create_task(self._request(line))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                task.add_done_callback(lambda _: self._room.release())
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=0.5)
            raise
        finally:
            for task in tasks:
                task.cancel()

    async def _request(self, line: bytes) -> None:
        number = 0
        try:
            request = decode_request(line)
            number = request.id
            call, arguments = decode_call(request)
            if call not in (Call.SHOW, Call.VERSION):
                self._log.add("info", "control", "request", f"{_words(call, arguments)} by {self._who}")

            def progress(text: str) -> None:
                if not self._writer.is_closing():
                    self._writer.write(encode_progress(number, text))

            seconds = SHOW_SECONDS if call in (Call.SHOW, Call.VERSION) else CALL_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    answer = encode_result(number, await self._handle(call, arguments, progress))
            except TimeoutError:
                raise Refusal(Reason.CONTROL_TIMEOUT, f"{call.value} took longer than {seconds:g} s") from None
        except Refusal as refusal:
            answer = encode_error(number, self._error(refusal))
        except asyncio.CancelledError:
            answer = encode_error(number, error_of(Refusal(Reason.STOPPING)))
        except Exception as error:
            self._log.internal("control", "a request", error)
            answer = encode_error(number, error_of(Refusal(Reason.INTERNAL, type(error).__name__)))
        await self._answer(answer)

    def _error(self, refusal: Refusal) -> ErrorRow:
        problems = self._problems(refusal) if self._problems is not None else []
        return error_of(refusal, problems)

    async def _answer(self, line: bytes) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(line)
        try:
            async with asyncio.timeout(SLOW_READER):
                await self._writer.drain()
        except (TimeoutError, OSError):
            self._writer.close()


def _peer(writer: asyncio.StreamWriter) -> str:
    """Who asks, as the kernel knows it (SO_PEERCRED)."""
    sock = writer.get_extra_info("socket")
    try:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError as error:
        return f"an unknown user ({errno.errorcode.get(error.errno or 0, 'error')})"
    return f"uid {uid} (pid {pid})"


def _words(call: Call, arguments: Arguments) -> str:
    name = getattr(arguments, "connection", "")
    child = getattr(arguments, "child", None)
    return f"{call.value} {name}{f'/{child}' if child else ''}".strip()


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Refusal(
            Reason.CONFIG_VALUE, f"control.group: there is no group {name!r}", remedy=f"make it: groupadd {name}"
        ) from None
