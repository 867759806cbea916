"""A reload: the new configuration is checked as a whole, and only what differs is applied."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.config.model import Config
from appliance.config.problem import ConfigError, Problem
from appliance.console.protocol import ProblemRow, ReloadResult
from appliance.daemon.desired import Desired
from appliance.reasons import Reason, Refusal


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration that can be applied, what it wants, and what to tell about the difference."""

    config: Config
    desired: Desired
    result: ReloadResult
    nothing: bool


def plan(old: Config, was: Desired, new: Config, wanted: Desired) -> Change:
    """What a reload would change. Raises Refusal(RESTART_NEEDED): it touches what only a new daemon can apply."""
    from appliance.config.diff import diff  # it brings the schema, which a daemon without reloads does not need

    difference = diff(old, new)
    if difference.restart:
        raise Refusal(
            Reason.RESTART_NEEDED, f"{', '.join(difference.restart)} in {new.path}; nothing of the file was applied"
        )
    added = [*difference.added, *(f"interface.{name}" for name in difference.interfaces_added)]
    removed = [*difference.removed, *(f"interface.{name}" for name in difference.interfaces_removed)]
    changed: list[str] = []
    by_name = {change.name: change for change in difference.changed}
    unchanged = 0
    for name, connection in wanted.connections.items():
        before = was.connections.get(name)
        if before is None:
            continue
        change = by_name.get(name)
        if change is None:
            # The same words in the file, but perhaps another certificate or key in the files that it names.
            if before.same_peer(connection):
                unchanged += 1
            else:
                changed.append(name)
            continue
        if change.keys or not before.same_peer(connection):
            changed.append(name)
        added += [f"{name}/{child}" for child in change.children_added]
        removed += [f"{name}/{child}" for child in change.children_removed]
        changed += [f"{name}/{child.name}" for child in change.children_changed]
    policies = bool(
        difference.policies_added or difference.policies_removed or difference.policies_changed or difference.reordered
    )
    nothing = not (added or removed or changed or policies or difference.live)
    result = ReloadResult(
        added=added,
        removed=removed,
        changed=[*changed, *difference.live],
        unchanged=unchanged,
        policies_changed=policies,
        warnings=[problem_row(problem) for problem in new.warnings],
    )
    return Change(new, wanted, result, nothing)


def problem_row(problem: Problem) -> ProblemRow:
    """A mistake of a configuration as it travels."""
    return ProblemRow(
        level="warning" if problem.warning else "error",
        file=str(problem.file),
        line=problem.line,
        column=problem.column,
        where=problem.where,
        reason=problem.reason.name,
        what=problem.what,
        cause=problem.cause,
        remedy=problem.remedy,
    )


def problem_rows(refusal: Refusal) -> list[ProblemRow]:
    """The mistakes that a refusal carries, if it is a configuration's."""
    return [problem_row(problem) for problem in refusal.problems] if isinstance(refusal, ConfigError) else []
