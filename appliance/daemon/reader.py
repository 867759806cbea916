"""The configuration, read and checked by a child process.

Reading leaves pieces of the file, keys among them, all over the heap, and memory that the interpreter does not give
back. They go with the child; the daemon gets what the file says and nothing else.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from appliance.config.model import Config
from appliance.config.problem import ConfigError, Problem
from appliance.config.secret import Secret
from appliance.process.hardening import harden
from appliance.reasons import Reason, Refusal

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Pickler(pickle.Pickler):
    """Secrets are not serialised, but for this pipe between two processes of ours."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Secret):
            return Secret, (value.reveal(),)
        return NotImplemented


class Reading:
    """A file that is being read. ``result`` is to be called once."""

    def __init__(self, path: Path) -> None:
        """Start to read. To be called in the main thread: the child has no other."""
        self._path = path
        self._pipe, theirs = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that comes before the child has its own handlers must not run ours, which speak to our event loop.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        self._pid = os.fork()
        if self._pid == 0:
            _be_reader(path, theirs, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(theirs)

    def result(self) -> Config:
        """Wait for what ``appliance.config.load.load`` gives or raises: ConfigError. Refusal(INTERNAL): it failed."""
        try:
            with os.fdopen(self._pipe, "rb") as stream:
                result: Config | tuple[Problem, ...] | str = pickle.load(stream)  # noqa: S301 - our child wrote it
        except (EOFError, pickle.UnpicklingError):
            result = "its process ended"
        finally:
            os.waitpid(self._pid, 0)
        if isinstance(result, Config):
            return result
        if isinstance(result, str):
            raise Refusal(Reason.INTERNAL, f"reading {self._path}: {result}")
        raise ConfigError(result)


def _be_reader(path: Path, pipe: int, mask: Collection[int]) -> NoReturn:
    """The child: as hardened as its parent, with nothing of it but standard error, and with its own signals."""
    try:
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.closerange(3, pipe)
        os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
        gc.disable()  # it would look through all that the parent has, and write to it
        harden()  # locked memory is not inherited
        with os.fdopen(pipe, "wb") as stream:
            _Pickler(stream).dump(_read(path))
    finally:
        os._exit(0)


def _shared(config: Config) -> Config:
    """The same with equal settings as one object, as they are after pickling, too."""
    known: dict[Any, Any] = {}

    def one(value: Any) -> Any:
        return known.setdefault((type(value), value), value)

    connections = tuple(
        replace(
            connection,
            ike_proposals=one(connection.ike_proposals),
            dpd=one(connection.dpd),
            lifetime=one(connection.lifetime),
            retransmit=one(connection.retransmit),
            children=tuple(
                replace(child, esp_proposals=one(child.esp_proposals), lifetime=one(child.lifetime))
                for child in connection.children
            ),
        )
        for connection in config.connections
    )
    return replace(config, connections=connections)


def _read(path: Path) -> Config | tuple[Problem, ...] | str:
    """The configuration, what is wrong with it, or where the program failed (never with values)."""
    from appliance.config.load import load

    try:
        return _shared(load(path))
    except ConfigError as error:
        return error.problems
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {place.filename.rpartition('appliance/')[2]}:{place.lineno}"
