"""``python -m hw.formal [MODULE...]``: proves the properties of proofs.toml, or with --mutate that each can fail."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hw.formal.proofs import Module, Mutation, Outcome, Proof, load, run
from hw.formal.tools import BUILD, ROOT, MissingToolError, MutationError, environment

Item = TypeVar("Item")


def _show(parameters: dict[str, int]) -> str:
    return ", ".join(f"{key} {value}" for key, value in parameters.items()) or "-"


def _mistakes(module: Module, outcome: Outcome) -> list[str]:
    """What is wrong with a proof: it does not hold, or the list is not what the design has."""
    said = []
    if outcome.status != "PASS":
        what = ", ".join(outcome.failed) or f"see {outcome.folder.relative_to(ROOT) / 'log'}"
        said.append(f"{outcome.status}: {what}")
    named = {name for name in outcome.properties if not name.startswith("$")}
    for name in sorted(named ^ set(module.properties)):
        said.append(f"{name} is {'not in proofs.toml' if name in named else 'not in the design'}")
    return said


def records(module: Module, outcome: Outcome) -> list[dict[str, object]]:
    """A proof as the records of formal.json, one a property; the assertions of the RTL itself are one."""
    proof = outcome.proof
    own = sum(name.startswith("$") for name in outcome.properties)
    texts = {
        name: text
        for name, text in module.properties.items()
        if (not proof.only or name in proof.only) and name not in proof.without
    }
    if own and not proof.only:
        texts["(in the RTL)"] = f"its own assertions, and those of what it is made of: {own}"
    if proof.engine == "cover":
        texts = {"(cover)": "what the properties are about does happen"}
    return [
        {
            "module": module.name,
            "property": name,
            "text": text,
            "result": "FAIL" if name in outcome.failed else "open" if outcome.status == "FAIL" else outcome.status,
            "kind": proof.kind,
            "unbounded": proof.unbounded,
            "parameters": dict(proof.parameters),
            "seconds": outcome.seconds,
        }
        for name, text in texts.items()
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _write(name: str, content: object) -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / name
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _each(work: Callable[[Item], tuple[bool, str]], items: Iterable[Item], jobs: int) -> bool:
    """Do the work on all items, some at a time, telling of each when it is done; returns whether all is well."""
    well = True
    with ThreadPoolExecutor(jobs) as pool:
        for good, text in pool.map(work, items):
            well &= good
            print(text, flush=True)
    return well


def prove(modules: Sequence[Module], quick: bool, jobs: int) -> bool:
    """Run the proofs; prints a line for each, and the table; writes formal.json. Returns whether all hold."""
    by_name = {module.name: module for module in modules}
    outcomes: list[Outcome] = []

    def work(proof: Proof) -> tuple[bool, str]:
        outcome = run(proof)
        outcomes.append(outcome)
        mistakes = _mistakes(by_name[proof.module], outcome)
        text = f"{outcome.status:8} {proof.module:16} {proof.kind:22} {outcome.seconds:7.1f} s"
        text += f"  {_show(dict(proof.parameters))}"
        return not mistakes, "\n".join((text, *(f"    {word}" for word in mistakes)))

    proofs = [proof for module in modules for proof in module.proofs if proof.quick or not quick]
    begin = time.monotonic()
    well = _each(work, proofs, jobs)
    order = {proof: number for number, proof in enumerate(map(id, proofs))}
    outcomes.sort(key=lambda outcome: order[id(outcome.proof)])
    listed = [record for outcome in outcomes for record in records(by_name[outcome.proof.module], outcome)]
    head = ["module", "property", "result", "kind", "parameters", "seconds", "what it says"]
    rows = [
        [
            str(record["module"]),
            str(record["property"]),
            str(record["result"]),
            str(record["kind"]),
            _show(record["parameters"]),  # type: ignore[arg-type]
            str(record["seconds"]),
            str(record["text"]),
        ]
        for record in listed
    ]
    print("\n" + _table([head, *rows]))
    path = _write("formal.json", {"passed": well, "seconds": round(time.monotonic() - begin, 1), "properties": listed})
    forever = len({(record["module"], record["property"]) for record in listed if record["unbounded"]})
    print(f"\n{forever} properties proved for ever, in {len(outcomes)} proofs" if well else "\nNOT PROVED", "->", path)
    return well


def mutate(modules: Sequence[Module], jobs: int) -> bool:
    """Put each mutation into the RTL, and see the property fail that is there for it. Returns whether all did."""
    records = []
    well = True
    for module in modules:
        shown = {mutation.catches for mutation in module.mutations}
        for name in sorted(set(module.properties) - module.lemmas - shown):
            print(f"NONE     {module.name:16} no mutation shows that {name} can fail")
            well = False

    def work(item: tuple[int, Mutation]) -> tuple[bool, str]:
        number, mutation = item
        outcome = run(mutation.proof, mutation, f"-mutant{number}")
        # Too deep for a trace from reset: the proof does not go through any more.
        caught, how = outcome.status in (("FAIL", "UNKNOWN") if mutation.proof.unbounded else ("FAIL",)), "unproved"
        # Elsewhere, and where others are left out for it, it is this property that fails.
        if not mutation.proof.unbounded or mutation.proof.without:
            caught, how = caught and mutation.catches in outcome.failed, "caught"
        records.append(
            {
                "module": mutation.module,
                "property": mutation.catches,
                "file": mutation.file,
                "old": mutation.old,
                "new": mutation.new,
                "caught": caught,
                "how": how,
                "seconds": outcome.seconds,
            }
        )
        word = how if caught else f"MISSED ({outcome.status})"
        where = "" if caught else f"\n    see {outcome.folder.relative_to(ROOT) / 'log'}"
        return caught, f"{word:8} {mutation.module:16} {mutation.catches:26} {outcome.seconds:6.1f} s{where}"

    mutations = [mutation for module in modules for mutation in module.mutations]
    well &= _each(work, enumerate(mutations), jobs)
    path = _write("mutations.json", {"passed": well, "mutations": records})
    print(f"\n{sum(bool(record['caught']) for record in records)} of {len(mutations)} mutations caught -> {path}")
    return well


def main() -> int:
    """Returns the exit code: 0 if all holds."""
    parser = argparse.ArgumentParser(prog="hw.formal", description=__doc__)
    parser.add_argument("modules", nargs="*", help="all if none is named")
    parser.add_argument("--mutate", action="store_true", help="see each property fail on a mistake put into the RTL")
    parser.add_argument("--quick", action="store_true", help="only the proofs that take seconds")
    parser.add_argument("--jobs", type=int, default=2, help="proofs at the same time")
    arguments = parser.parse_args()
    modules = load()
    if unknown := set(arguments.modules) - {module.name for module in modules}:
        parser.error(f"not in proofs.toml: {', '.join(sorted(unknown))}")
    modules = [module for module in modules if not arguments.modules or module.name in arguments.modules]
    try:
        environment()
        well = mutate(modules, arguments.jobs) if arguments.mutate else prove(modules, arguments.quick, arguments.jobs)
    except (MissingToolError, MutationError) as error:
        print(f"formal: {error}", file=sys.stderr)
        return 2
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
