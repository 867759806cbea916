"""The client's side of the control socket. Blocking, with a deadline, because the console does one thing at a time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.console.protocol import (
    ANSWER_LIMIT,
    Answer,
    Arguments,
    Call,
    ControlRefusal,
    ErrorRow,
    encode_request,
)
from appliance.reasons import Reason, Refusal

_T = TypeVar("_T")

UNREACHABLE = frozenset(
    {
        Reason.CONTROL_NO_SOCKET,
        Reason.CONTROL_DEAD,
        Reason.CONTROL_DENIED,
        Reason.CONTROL_TIMEOUT,
        Reason.CONTROL_CLOSED,
        Reason.CONTROL_BAD_ANSWER,
    }
)
"""Reasons that mean: nothing is known of what the daemon did, or there is none."""


def call(
    path: Path, call_: Call, args: Arguments, type_: type[_T], *, timeout: float, progress: Callable[[str], None]
) -> _T:
    """Ask the daemon at ``path`` and return its result.

    ``timeout``: seconds for everything. ``progress`` gets the lines that come before the answer. Raises ControlRefusal
    for what the daemon refused, and Refusal with a reason of ``UNREACHABLE`` where no answer was to be had.
    """
    deadline = time.monotonic() + timeout
    at_work = False
    with _connect(path, timeout) as stream:
        try:
            stream.sendall(encode_request(1, call_, args))
            for line in _lines(stream, deadline):
                answer = _decode(line)
                if answer.progress is not None:
                    at_work = True
                    progress(answer.progress)
                elif answer.ok is True:
                    return _convert(answer, type_)
                else:
                    raise ControlRefusal(answer.error or _silent_error())
        except TimeoutError:
            if at_work:
                raise Refusal(
                    Reason.CONTROL_TIMEOUT,
                    f"it is still at work after {timeout:g} s",
                    remedy="esplanade show connections tells how it goes on; a longer --timeout waits for the end",
                ) from None
            raise Refusal(Reason.CONTROL_TIMEOUT, f"{timeout:g} s passed on {path}") from None
        except OSError as error:
            raise Refusal(Reason.CONTROL_CLOSED, f"{path}: {error.strerror or error}") from None
    raise Refusal(Reason.CONTROL_CLOSED, str(path))


def _connect(path: Path, timeout: float) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(timeout)
    try:
        stream.connect(str(path))
    except FileNotFoundError:
        refusal = Refusal(Reason.CONTROL_NO_SOCKET, f"{path} does not exist")
    except ConnectionRefusedError:
        refusal = _refused(path)
    except PermissionError:
        refusal = Refusal(Reason.CONTROL_DENIED, str(path))
    except (TimeoutError, BlockingIOError):
        refusal = Refusal(Reason.CONTROL_TIMEOUT, f"{path} does not take the connection")
    except OSError as error:
        refusal = Refusal(Reason.CONTROL_NO_SOCKET, f"{path}: {error.strerror or error}")
    else:
        return stream
    stream.close()
    raise refusal


def _refused(path: Path) -> Refusal:
    """A connection is refused where nobody listens: on a dead daemon's socket, and on what is no socket."""
    if path.is_socket():
        return Refusal(Reason.CONTROL_DEAD, str(path))
    return Refusal(Reason.CONTROL_NO_SOCKET, f"{path} is not a socket")


def _lines(stream: socket.socket, deadline: float) -> Iterator[bytes]:
    """Lines until the other side closes. Raises TimeoutError at the deadline, Refusal for a line without end."""
    buffer = bytearray()
    searched = 0
    while True:
        end = buffer.find(b"\n", searched)
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            yield line
            continue
        searched = len(buffer)
        if searched > ANSWER_LIMIT:
            raise Refusal(Reason.CONTROL_BAD_ANSWER, f"a line is longer than {ANSWER_LIMIT >> 20} MiB")
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        stream.settimeout(left)
        data = stream.recv(256 * 1024)
        if not data:
            return
        buffer += data


def _decode(line: bytes) -> Answer:
    try:
        return msgspec.json.decode(line, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(Reason.CONTROL_BAD_ANSWER, str(error)) from None


def _convert(answer: Answer, type_: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.result, type=type_)
    except msgspec.DecodeError as error:
        raise Refusal(Reason.CONTROL_BAD_ANSWER, str(error)) from None


def _silent_error() -> ErrorRow:
    reason = Reason.CONTROL_BAD_ANSWER
    return ErrorRow(reason=reason.name, words=reason.words, detail="an error without a reason", remedy=reason.remedy)
