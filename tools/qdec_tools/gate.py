"""``qdec gate``: put a code and tier through the fault-distance gate."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from qdec.codes import Code
from qdec.errors import CodeError, DataError, QdecError
from qdec.match import CLASSICAL, SOFT, Tier
from qdec.match.gate import NEAR_SETS, GateReport, try_faults
from qdec.match.offline import OfflineDecoder
from qdec.windows import Geometry, choose_geometry, parse_geometry
from qdec_tools.circuits import DEFAULT_TASK, memory

_MOST = 2_000_000
_MAX_DISTANCE = 63


def run(
    source: Path | int,
    *,
    round_map: Path | None = None,
    rounds: int | None = None,
    p: float = 0.001,
    task: str = DEFAULT_TASK,
    tier: str = "all",
    weight: int = 1,
    near: bool = False,
    windows: str = "whole",
    limit: int | None = None,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Try all faults, or pairs, of a code; print a table, or JSON.

    Args:
        source: a circuit or ``*.dem`` file, or the distance of a generated memory experiment.
        round_map: a file with the round of each detector of a code without time coordinates.
        rounds: rounds of the generated experiment; its distance by default.
        p: its noise.
        task: which experiment, as Stim names it.
        tier: labels separated by commas, or ``all``: those that can be had.
        weight: faults per shot, 1 to `MAX_WEIGHT`.
        near: faults along shortest logical errors only; always a random choice.
        windows: ``auto``, ``whole`` or ``W,C``.
        limit: most shots per tier, a random choice beyond it; 2,000,000 or `NEAR_SETS` if None.
        seed: of the random choice.
        json: print one JSON object instead of a table.

    Returns:
        Exit status: 0 if every tier passed, else 1.

    Raises:
        ValueError: `weight` is out of range.
        QdecError: the code cannot be read, or tier or windows do not suit it.
    """
    if isinstance(source, Path):
        name, code = source.name, Code.from_file(source, round_map=round_map)
    elif round_map is not None:
        raise CodeError("--map goes with a code's file: generated experiments know their rounds")
    else:
        _check_experiment(source, p)
        rounds = source if rounds is None else rounds
        name = f"{task} d={source} r={rounds} p={p:g}"
        code = Code.from_circuit(memory(source, rounds, p, task))
    geometry = choose_geometry(parse_geometry(windows), code, endless=False)
    results = []
    for one, decoder in _decoders(code, tier, geometry):
        began = time.monotonic()
        with _bar(f"{one.label}, {weight} per shot") as progress:
            report = try_faults(
                code,
                decoder,
                weight,
                name=one.label,
                limit=limit or (NEAR_SETS if near else _MOST),
                near=near,
                seed=seed,
                progress=_shown_by(progress),
            )
        results.append((report, time.monotonic() - began))
    rows = [as_row(report, seconds) for report, seconds in results]
    if json:
        print(json_module.dumps({"code": name, "windows": str(geometry), "gate": rows}))
    else:
        Console().print(table(f"{name}, windows {geometry}", rows))
    return 0 if all(report.passed for report, _ in results) else 1


def _check_experiment(distance: int, p: float) -> None:
    """Refuse numbers of which no experiment can be made.

    Raises:
        DataError: they are out of range.
    """
    if not 2 <= distance <= _MAX_DISTANCE:
        words = str(distance)[:20]
        raise DataError(f"distance {words}: give one from 2 to {_MAX_DISTANCE}, or a code's file")
    if not 0 < p <= 0.5:  # NaN is neither
        raise DataError(f"--noise {p:g}: faults have a probability above 0 and up to 0.5")


def _decoders(code: Code, tiers: str, geometry: Geometry) -> Iterator[tuple[Tier, OfflineDecoder]]:
    """The tiers asked for, each with its decoder; of all tiers, those that this code can have."""
    words = [tier.label for tier in (*CLASSICAL, *SOFT)] if tiers == "all" else tiers.split(",")
    nothing = np.zeros((1, code.layout.num_rounds, code.layout.record_bytes), dtype=np.uint8)
    for tier in dict.fromkeys(Tier.from_label(word.strip()) for word in words):
        decoder = OfflineDecoder(code, tier, geometry)
        try:
            decoder.decode(nothing)
        except QdecError as error:
            if tiers != "all" or tier is Tier.MATCHING:  # what matching cannot have, nothing can
                raise
            Console(stderr=True).print(f"{tier.label} is not tried: {escape(str(error))}")
            continue
        yield tier, decoder


def as_row(report: GateReport, seconds: float) -> dict[str, Any]:
    """A report as JSON-ready values, with `seconds` of wall time."""
    return {
        **asdict(report),
        "passed": report.passed,
        "seconds": round(seconds, 2),
    }


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Rows of `as_row` as a table, with any further keys that come before ``tier`` in front."""
    out = Table(title=title, title_justify="left")
    extra = [key for key in rows[0] if key not in _OWN] if rows else []
    for key in (*extra, "tier"):
        out.add_column(key)
    for key in ("faults", "tried", "failed", "s"):
        out.add_column(key, justify="right")
    out.add_column("gate")
    named = any(row["first_failure"] for row in rows)
    if named:
        out.add_column("first failure", overflow="fold")
    for row in rows:
        out.add_row(
            *(str(row[key]) for key in extra),
            row["tier"],
            str(row["weight"]),
            f"{row['tried']:,}{_choice(row)}",
            f"{row['failed']:,}",
            f"{row['seconds']:.1f}",
            "[green]pass[/]" if row["passed"] else "[red]FAIL[/]",
            *(["\n".join(row["first_failure"])] if named else []),
        )
    return out


def _choice(row: dict[str, Any]) -> str:
    return " (near)" if row["near"] else " (sampled)" if row["sampled"] else ""


_OWN = {*GateReport.__dataclass_fields__, "passed", "seconds"}


def _bar(text: str) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn(text),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _shown_by(bar: Progress) -> Callable[[int, int], None]:
    line = bar.add_task("", total=None)

    def show(done: int, total: int) -> None:
        bar.update(line, completed=done, total=total)

    return show
