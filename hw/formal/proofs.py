"""The list of properties, and one proof of them: proofs.toml, as types, and SymbiYosys run on it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hw.formal.tools import BUILD, PROPERTIES, environment, lay_sources

# What a proof says, by engine: sby's mode, its engine, and whether it holds for ever.
ENGINES = {
    "induction": ("prove", "smtbmc yices", True),
    "pdr": ("prove", "abc pdr", True),
    "bounded": ("bmc", "smtbmc yices", False),
    "sat": ("bmc", "abc bmc3", False),
    "cover": ("cover", "smtbmc yices", False),
}


@dataclass(frozen=True)
class Proof:
    """One run of a prover: a module's properties at one choice of parameters."""

    module: str
    engine: str
    # Induction: the longest history that a step may need. Bounded, cover: how many cycles.
    depth: int
    parameters: Mapping[str, int] = field(default_factory=dict)
    # Seconds long, for a look between two changes.
    quick: bool = False
    # Only these, and not the others; all if empty.
    only: tuple[str, ...] = ()
    # All but these.
    without: tuple[str, ...] = ()
    timeout: int = 1800

    @property
    def unbounded(self) -> bool:
        """It holds for ever, not for some cycles only."""
        return ENGINES[self.engine][2]

    @property
    def kind(self) -> str:
        """What is said of it in the table."""
        words = {"induction": f"proved, induction {self.depth}", "pdr": "proved, IC3"}
        return words.get(self.engine, f"{self.engine}, {self.depth} cycles")

    @property
    def name(self) -> str:
        """The name of its folder."""
        words = [self.module, self.engine, *(f"{key}{value}" for key, value in self.parameters.items()), *self.only]
        words += [f"no_{name}" for name in self.without]
        return "-".join(words)[:120]


@dataclass(frozen=True)
class Mutation:
    """A mistake that a property has to notice: a text in a file of the RTL, and what stands there instead."""

    module: str
    catches: str
    file: str
    old: str
    new: str
    proof: Proof


@dataclass(frozen=True)
class Module:
    """What is proved of a module."""

    name: str
    # The properties by name, in words.
    properties: Mapping[str, str]
    # Those of them that are of the model alone, which no mistake in the RTL makes fail.
    lemmas: frozenset[str]
    proofs: tuple[Proof, ...]
    mutations: tuple[Mutation, ...]


@dataclass
class Outcome:
    """What came of a proof."""

    proof: Proof
    # sby's word: PASS, FAIL, UNKNOWN, TIMEOUT, ERROR.
    status: str
    seconds: float
    # The names of properties that do not hold.
    failed: tuple[str, ...]
    folder: Path
    # All that the design has, those of the RTL itself without a name of their own.
    properties: tuple[str, ...]


def load() -> list[Module]:
    """The list, proofs.toml."""
    modules = []
    for name, table in tomllib.loads((PROPERTIES / "proofs.toml").read_text()).items():
        proofs = tuple(_proof(name, entry) for entry in table["proofs"])
        # A mistake is looked for among the first cycles, with the parameters of the first proof.
        usual = {"engine": "bounded", "timeout": 60, "parameters": proofs[0].parameters, **table.get("mutant", {})}
        mutations = tuple(
            Mutation(
                name,
                entry["catches"],
                entry["file"],
                entry["old"],
                entry["new"],
                _mutant(name, {**usual, **entry.get("proof", {})}, entry["catches"]),
            )
            for entry in table.get("mutations", [])
        )
        lemmas = table.get("lemmas", {})
        modules.append(Module(name, {**table["properties"], **lemmas}, frozenset(lemmas), proofs, mutations))
    return modules


def _mutant(module: str, entry: Mapping[str, object], catches: str) -> Proof:
    proof = _proof(module, entry)
    # Induction needs the properties of the state beside the one that is looked at.
    return proof if proof.unbounded else replace(proof, only=(catches,))


def _proof(module: str, entry: Mapping[str, object]) -> Proof:
    words = dict(entry)
    for key in ("only", "without"):
        words[key] = tuple(words.pop(key, ()))  # type: ignore[arg-type]
    return Proof(module, **words)  # type: ignore[arg-type]


def _script(proof: Proof, packages: Iterable[Path], modules: Path, folder: Path) -> str:
    top = f"{proof.module}_properties"
    mode, engine, _ = ENGINES[proof.engine]
    values = " ".join(f"-G {key}={value}" for key, value in proof.parameters.items())
    sources = " ".join(str(path) for path in (*packages, PROPERTIES / f"{top}.sv"))
    only = ""
    if proof.only and proof.engine != "cover":
        kept = " ".join(f"*/c:{name}" for name in proof.only)
        only = f"select -set kept {kept}\nchformal -assert -remove */c:* @kept %d\n"
    if proof.without:
        only += f"chformal -assert -remove {' '.join(f'*/c:{name}' for name in proof.without)}\n"
    return f"""[options]
mode {mode}
depth {proof.depth}
timeout {proof.timeout}
{"append 0" if mode == "cover" else ""}

[engines]
{engine}

[script]
read_slang --threads 1 --no-synthesis-define {values} --top {top} -y {modules} {sources}
hierarchy -check -top {top}
setundef -undriven -anyseq
tee -q -o {folder}/assertions.txt select -list t:$check r:FLAVOR=assert %i
{only}prep -top {top}
"""


def run(proof: Proof, mutation: Mutation | None = None, suffix: str = "") -> Outcome:
    """Run a proof, of the RTL as it is or with a mutation. Raises MissingToolError, MutationError."""
    folder = BUILD / (proof.name + suffix)
    shutil.rmtree(folder, ignore_errors=True)
    change = (mutation.file, mutation.old, mutation.new) if mutation else None
    packages, modules = lay_sources(folder / "rtl", change)
    script = folder / "proof.sby"
    script.write_text(_script(proof, packages, modules, folder))
    begin = time.monotonic()
    done = subprocess.run(
        ["yowasp-sby", "-f", "-d", str(folder / "sby"), str(script)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - begin
    (folder / "log").write_text(done.stdout + done.stderr)
    found = re.search(r"DONE \((\w+), rc", done.stdout)
    failed = re.findall(r"failed assertion \S*?\.([\w$:.]+) at", done.stdout)
    listed = folder / "assertions.txt"
    names = [line.strip().rpartition("/")[2] for line in listed.read_text().splitlines()] if listed.exists() else []
    return Outcome(
        proof,
        found[1] if found else "ERROR",
        round(seconds, 1),
        tuple(dict.fromkeys(failed)),
        folder,
        tuple(name for name in names if name),
    )
