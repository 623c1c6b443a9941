"""``qdec tune``: what each tier does on this machine, and which one ``auto`` takes."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from qdec.codes import Code
from qdec.config import StreamDefaults, default_state_dir, load_config
from qdec.errors import DataError, GeometryError
from qdec.supervisor.auto import Tuned, kept_in, tune, tune_stream
from qdec.windows import parse_geometry
from qdec_tools.circuits import memory

# Rounds of a template that is stretched: enough for the repetition to be found.
_TEMPLATE_ROUNDS = 12
_MOST = 100
_FILE_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Wish:
    """What to tune.

    Attributes:
        config: a configuration, whose streams are tuned; or None, and then
        distances, noise: comma-separated, of endless memory experiments;
        windows: theirs.
        deadline_us, cycle_us: instead of what the configuration says.
    """

    config: Path | None
    distances: str
    noise: str
    windows: str
    deadline_us: int | None
    cycle_us: float | None


def run(wish: Wish, *, again: bool, json: bool) -> int:
    """Tune, and print a table for each stream, or JSON.

    Returns:
        Exit status 0.

    Raises:
        QdecError: a stream cannot be read or compiled.
    """
    works = list(_works(wish, again=again))
    results: list[tuple[str, Tuned]] = []
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        line = progress.add_task("", total=len(works))
        for name, work in works:
            progress.update(line, description=name)
            results.append((name, work()))
            progress.advance(line)
    if json:
        print(json_module.dumps({"streams": [as_row(*result) for result in results]}))
        return 0
    out = Console()
    if not out.is_terminal:
        out = Console(width=_FILE_WIDTH)
    for name, tuned in results:
        out.print(table(name, tuned))
        for one, verdict in zip(tuned.measured, tuned.decision.verdicts, strict=True):
            style = "bold" if verdict.startswith("chosen") else "dim"
            out.print(f"  [{style}]{one.candidate}: {escape(verdict)}[/]", highlight=False)
        out.print()
    return 0


class _Work:
    """One stream to tune, later."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(self) -> Tuned:
        stream = self._options.pop("stream", None)
        tuned = tune_stream(stream, **self._options) if stream else tune(**self._options)
        assert tuned is not None  # only where nothing may be measured
        return tuned


def _works(wish: Wish, *, again: bool) -> Iterator[tuple[str, _Work]]:
    if wish.cycle_us is not None and not 0 < wish.cycle_us <= 1e9:
        raise DataError(f"--cycle-us {wish.cycle_us:g}: a time per round is above 0 and up to 1e9")
    if wish.config is not None:
        config = load_config(wish.config)
        changed = {
            name: value
            for name, value in (("deadline_us", wish.deadline_us), ("cycle_us", wish.cycle_us))
            if value is not None
        }
        if not config.stream:
            raise DataError(f"{wish.config} has no [[stream]] tables: there is nothing to tune")
        for stream in config.stream:
            wanted = stream.model_copy(update=changed)
            yield stream.name, _Work(stream=wanted, kept_in=kept_in(config), again=again)
        return
    distances, noise = _numbers(wish.distances, "--distances"), _numbers(wish.noise, "--noise")
    if len(distances) * len(noise) > _MOST:
        raise DataError(f"that is {len(distances) * len(noise)} streams; at most {_MOST} at once")
    for d in distances:
        if d != int(d) or not 2 <= d <= 63:
            raise DataError(f"--distances: {d:g} is not a distance from 2 to 63")
        for p in noise:
            code = Code.from_circuit(memory(int(d), _TEMPLATE_ROUNDS, p))
            geometry = parse_geometry(wish.windows)
            if geometry != "auto" and geometry.is_whole:
                raise GeometryError("endless patches have no whole shots: give auto or W,C")
            work = _Work(
                code=code,
                windows=geometry,
                endless=True,
                distance=int(d),
                deadline_us=wish.deadline_us or StreamDefaults().deadline_us,
                cycle_us=wish.cycle_us,
                kept_in=default_state_dir() / "tuning",
                again=again,
            )
            yield f"d={d:g} p={p:g}", work


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise DataError(f"{option} '{text}': give numbers separated by commas") from None


def as_row(name: str, tuned: Tuned) -> dict[str, Any]:
    """A result as JSON-ready values."""
    choice = tuned.decision.candidate
    return {
        "stream": name,
        "windows": str(tuned.geometries[0]),
        "deadline_us": tuned.needs.deadline_us,
        "cycle_us": tuned.needs.cycle_us,
        "measured_now": tuned.fresh,
        "chosen": str(choice),
        "tier": choice.tier.label,
        "escalate": [tier.label for tier in choice.switching.tiers],
        "escalate_below": choice.switching.below,
        "reason": tuned.decision.reason,
        "candidates": [
            {
                "candidate": str(one.candidate),
                "served_in": str(geometry),
                "commit_rounds": one.commit_rounds,
                "us_p50": round(one.us_p50, 1),
                "us_p99": round(one.us_p99, 1),
                "us_window": round(one.us_window, 2),
                "windows": one.windows,
                "wrong": one.wrong,
                "better": one.better,
                "worse": one.worse,
                "heat": one.heat,
                "fence": one.fence,
                "verdict": verdict,
            }
            for one, geometry, verdict in zip(
                tuned.measured, tuned.geometries, tuned.decision.verdicts, strict=True
            )
        ],
    }


def table(name: str, tuned: Tuned) -> Table:
    """What was measured and said of each candidate."""
    needs = tuned.needs
    cycle = "" if needs.cycle_us is None else f", {needs.cycle_us:g} µs per round"
    title = f"{name}, windows {tuned.geometries[0]}, deadline {needs.deadline_us:,.0f} µs{cycle}"
    out = Table(title=title, title_justify="left")
    columns = ["tier", "µs p50", "p99", "batched", "wrong", "of", "better", "worse"]
    several = len(set(tuned.geometries)) > 1
    if several:  # networks are served in shorter ones
        columns.insert(1, "windows")
    for key in columns:
        out.add_column(key, justify="left" if key == "tier" else "right", no_wrap=True)
    out.add_column("gate")
    for one, geometry in zip(tuned.measured, tuned.geometries, strict=True):
        first = [str(one.candidate), *([str(geometry)] if several else [])]
        if one.unusable:
            out.add_row(*first, *["–"] * 8)
            continue
        numbers = (one.us_p50, one.us_p99, one.us_window)
        counts = (one.wrong, one.windows, one.better, one.worse)
        out.add_row(
            *first,
            *(f"{number:,.0f}" for number in numbers),
            *(f"{count:,}" for count in counts),
            "[yellow]fenced[/]" if one.fence else "[green]pass[/]",
        )
    return out
