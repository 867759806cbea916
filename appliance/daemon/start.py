"""How the daemon's process starts: what it leaves out has to be left out before the daemon is imported."""

from __future__ import annotations

from pathlib import Path

from appliance.process.footprint import leave_out_openssl


def run(config_path: Path, control_path: Path | None) -> int:
    """Be the daemon until a signal ends it. Returns the exit status of :func:`appliance.daemon.main.run`."""
    leave_out_openssl()
    from appliance.daemon.main import run as run_daemon

    return run_daemon(config_path, control_path)
