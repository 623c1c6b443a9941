"""What ``qdec ler`` does: check what is asked, measure it, show it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from qdec.errors import DataError
from qdec.match import Tier
from qdec_tools.ler.blocks import BlockStore
from qdec_tools.ler.collect import Plan, collect
from qdec_tools.ler.collect import Progress as Report
from qdec_tools.ler.plot import check_plot, plot
from qdec_tools.ler.points import Point
from qdec_tools.ler.result import as_json, rows, table
from qdec_tools.ler.work import available_cores
from qdec_tools.service import exit_on_sigterm

_INTERRUPTED = 130
_PLAIN_WIDTH = 160  # in files and pipes, where there is no terminal to ask
_MAX_PROCESSES = 1024
_REFERENCE = Tier.CORRELATED


def run(
    points: tuple[Point, ...],
    *,
    tiers: str,
    shots: int,
    until_failures: int = 0,
    reference: str | None = None,
    seed: int = 0,
    processes: str = "auto",
    save: Path | None = None,
    plot_to: Path | None = None,
    as_rows: bool = False,
) -> int:
    """Measure, print a table, then JSON if that is wanted (the table goes to stderr then).

    Args:
        points: the experiments.
        tiers: labels, separated by commas.
        shots: per experiment.
        until_failures: end one early when every tier has failed so often; 0: never.
        reference: label of the tier to compare with; ``correlated`` if None and that is among
            them, else the first.
        seed: of the shots.
        processes: a number, or ``auto`` for every core.
        save: a file of finished blocks to continue, and to add to.
        plot_to: an image to draw.
        as_rows: print the list of rows as the last line of stdout.

    Returns:
        Exit status: 0, or 130 after Ctrl-C (with `save`, the same command goes on from there).

    Raises:
        DataError: an option is wrong, or a file cannot be used.
        QdecError: a tier is not available, or cannot decode an experiment.
    """
    exit_on_sigterm()
    chosen = _tiers(tiers)
    for tier, name in points[0].models:
        if tier not in chosen:
            raise DataError(f"--model {tier.label}={name}: {tier.label} is not among the --tiers")
    beside = _reference(reference, chosen)
    plan = Plan(points, chosen, shots, until_failures, seed, _processes(processes))
    if plot_to is not None:
        check_plot(plot_to)
    try:
        with BlockStore(save) as store, _bar() as report:
            runs = collect(plan, store, report)
    except KeyboardInterrupt:
        return _INTERRUPTED
    found = rows(runs, beside)
    if plot_to is not None:
        plot(found, plot_to)
    console = Console(stderr=as_rows)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table(found))
    if as_rows:
        print(json.dumps([as_json(row) for row in found]))
    return 0


def _tiers(text: str) -> tuple[Tier, ...]:
    words = [word.strip() for word in text.split(",")]
    return tuple(dict.fromkeys(Tier.from_label(word) for word in words))


def _reference(label: str | None, tiers: tuple[Tier, ...]) -> Tier:
    if label is None:
        return _REFERENCE if _REFERENCE in tiers else tiers[0]
    tier = Tier.from_label(label)
    if tier not in tiers:
        raise DataError(f"--reference {label}: it must be one of the --tiers")
    return tier


def _processes(text: str) -> int:
    if text.strip().lower() == "auto":
        return available_cores()
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_PROCESSES:
        raise DataError(
            f"--processes {text}: give auto, or a number of processes from 1 to {_MAX_PROCESSES}"
        )
    return int(text)


@contextmanager
def _bar() -> Iterator[Report]:
    """A progress bar on stderr, if that is a terminal.

    It draws when a block is done and has no thread of its own: CPU time is measured beside it.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
    )
    drawn = 0.0

    def report(share: float, words: str) -> None:
        nonlocal drawn
        now = time.monotonic()
        if not bar.disable and now - drawn >= 0.1:
            drawn = now
            bar.update(line, completed=share, description=words, refresh=True)

    with bar:
        line = bar.add_task("compiling", total=1.0)
        bar.refresh()
        yield report
