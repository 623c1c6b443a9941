"""What `qdec chaos` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from qdec.errors import DataError
from qdec.security.keys import forget_environment
from qdec_tools.chaos.accounts import Account
from qdec_tools.chaos.course import Result
from qdec_tools.chaos.course import run as run_course
from qdec_tools.chaos.faults import BY_NAME, FAULTS, Fault
from qdec_tools.chaos.stage import Stage
from qdec_tools.service import exit_on_sigterm
from qdec_tools.view import count

_INTERRUPTED = 130


def chosen(names: str | None) -> tuple[Fault, ...]:
    """The faults of a list of names; all of them if there is none.

    Raises:
        DataError: a name is of no fault.
    """
    if names is None:
        return FAULTS
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in BY_NAME]
    if unknown or not wanted:
        raise DataError(
            f"there is no fault {', '.join(map(repr, unknown)) or 'in an empty list'}: "
            f"there are {', '.join(BY_NAME)}"
        )
    return tuple(BY_NAME[name] for name in dict.fromkeys(wanted))


def run(seconds: float, seed: int, names: str | None, *, as_json: bool) -> int:
    """Run it; print tables, or one JSON object (and the tables on stderr).

    Returns:
        1 if a window was lost, delivered twice or answered wrongly, or a client ended; else 0.

    Raises:
        DataError: a name is of no fault.
        ServiceUnavailable: the service does not start.
    """
    faults = chosen(names)
    exit_on_sigterm()
    forget_environment()  # our own service is plain
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = 160
    try:
        with _bar(seconds) as tick, Stage(seed) as stage:
            how = "a tmpfs" if stage.disk.mounted else "a limit on files, for want of a mount"
            result = run_course(stage, faults, Random(seed), seconds, tick)
    except KeyboardInterrupt:
        return _INTERRUPTED
    show(result, console)
    if "disk-full" in result.faults:
        console.print(f"the disk that was full: {how}")
    if as_json:
        print(json.dumps(as_object(result)))
    return 0 if result.clean else 1


def as_object(result: Result) -> dict[str, Any]:
    """The object that scripts read."""
    total = result.total
    return {
        "sent": total.sent,
        "answered": total.answered,
        "lost": total.lost,
        "twice": total.twice,
        "wrong": total.wrong,
        "late": total.late,
        "by_tier": dict(total.by_tier),
        "faults": dict(result.faults),
        "recovery_s": {name: round(s, 4) for name, s in result.recovery_s.items()},
    }


def show(result: Result, console: Console) -> None:
    """Print it for a person."""
    console.print(_faults(result))
    console.print(_streams(result))
    for line in result.wrongs:
        console.print(f"[red]wrong: {line}[/]")
    for line in result.problems:
        console.print(f"[red]{line}[/]")


def _faults(result: Result) -> Table:
    table = Table(title="faults", title_justify="left")
    for name in ("fault", "what", "whom", "undone", "times", "answered, s", "expected"):
        table.add_column(name, justify="right" if name in ("times",) else "left")
    for fault in FAULTS:
        if not result.faults[fault.name]:
            continue
        took = result.recovery_s.get(fault.name)
        slow = took is not None and took > fault.within_s
        words = "" if took is None else f"[{'yellow' if slow else 'green'}]{took:.3f}[/]"
        table.add_row(
            fault.name,
            fault.does,
            fault.whom,
            fault.undone,
            str(result.faults[fault.name]),
            words,
            f"{fault.within_s:g}",
        )
    return table


def _streams(result: Result) -> Table:
    table = Table(title="windows", title_justify="left")
    columns = ("sent", "answered", "lost", "twice", "wrong", "late", "preempted", "erased")
    for name in ("stream", *columns, "by tier", "resumes"):
        table.add_column(name, justify="left" if name in ("stream", "by tier") else "right")
    rows: Sequence[tuple[str, Account]] = [*result.accounts.items(), ("all", result.total)]
    for name, account in rows:
        tiers = ", ".join(f"{tier} {count(n)}" for tier, n in account.by_tier.most_common())
        resumes = result.clients.get(name, {}).get("resumes", "")
        cells = [count(getattr(account, column)) for column in columns]
        table.add_row(name, *cells, tiers, str(resumes))
    return table


@contextmanager
def _bar(seconds: float) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    now = TextColumn("{task.fields[now]}")
    columns = (TextColumn("chaos"), BarColumn(), TimeElapsedColumn(), now)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=seconds, now="starting a service")
        started: list[float] = []

        def tick(now: str) -> None:
            started.append(monotonic())
            progress.update(task, completed=min(seconds, monotonic() - started[0]), now=now)

        yield tick
