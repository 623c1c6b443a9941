"""What `qdec doctor` does: run the table, show it, say whether the service can run here."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qdec import __version__
from qdec.doctor.check import Group
from qdec.doctor.checks import GROUPS
from qdec.doctor.machine import Machine
from qdec.findings import Finding, Status, user

_STYLES = {
    Status.OK: "green",
    Status.UNKNOWN: "dim",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report."""

    group: str
    name: str
    finding: Finding

    def as_dict(self) -> dict[str, str]:
        """As JSON has it."""
        f = self.finding
        return {
            "group": self.group,
            "name": self.name,
            "status": f.status.value,
            "value": f.value,
            "fix": f.fix,
        }


def examine(machine: Machine, groups: Iterable[Group] = GROUPS) -> Iterator[Line]:
    """Run all checks that apply, one after another."""
    for group in groups:
        for check in group.checks:
            if check.applies(machine):
                yield Line(group.name, check.name, check.run(machine))


def verdict(lines: Iterable[Line]) -> dict[str, Any]:
    """``checks``, ``ok`` (nothing failed), and how many ``warnings`` and ``failures`` there are."""
    lines = list(lines)
    counts = Counter(line.finding.status for line in lines)
    return {
        "checks": [line.as_dict() for line in lines],
        "ok": not counts[Status.FAIL],
        "warnings": counts[Status.WARN],
        "failures": counts[Status.FAIL],
    }


def run(config: Path | None, *, as_json: bool) -> int:
    """Examine this machine. Returns the exit status: 1 if something fails that is needed."""
    machine = Machine(config_path=config)
    if as_json:
        result = verdict(examine(machine))
        print(json.dumps(result))
    else:
        result = verdict(_shown(examine(machine), Console()))
    return 0 if result["ok"] else 1


def _shown(lines: Iterable[Line], console: Console) -> Iterator[Line]:
    """Show each line as it comes, and at the end what it comes to."""
    console.print(
        Text(f"qdec {__version__} on Linux {platform.release()}, as user {user()}", style="bold")
    )
    group, counts = "", Counter[Status]()
    for line in lines:
        if line.group != group:
            group = line.group
            console.print(Text(f"\n{group}", style="bold"))
        console.print(_row(line))
        counts[line.finding.status] += 1
        yield line
    warnings, failures = counts[Status.WARN], counts[Status.FAIL]
    console.print(
        Text(
            f"\n{warnings} warning(s), {failures} failure(s): "
            + ("the service cannot run like this" if failures else "the service can run here"),
            style="bold red" if failures else "bold",
        )
    )


def _row(line: Line) -> Table:
    """Status, name, value; the fix below. Text, not markup: ``[Service]`` is no style."""
    row = Table.grid(padding=(0, 1))
    row.add_column(width=7, justify="right")
    row.add_column(width=15)
    row.add_column(overflow="fold")
    finding = line.finding
    row.add_row(
        Text(finding.status.value, style=_STYLES[finding.status]),
        Text(line.name),
        Text(finding.value),
    )
    if finding.fix:
        row.add_row("", Text("fix", style="cyan", justify="right"), Text(finding.fix, style="cyan"))
    return row
