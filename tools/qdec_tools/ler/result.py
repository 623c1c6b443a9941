"""What a measurement found: one row per point and tier, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table

from qdec.match import Tier
from qdec_tools.ler.blocks import Block
from qdec_tools.ler.collect import PointRun
from qdec_tools.statistics import Paired, interval


@dataclass(frozen=True, slots=True)
class Row:
    """One tier at one point.

    Attributes:
        distance, rounds, noise, noise_model, basis, windows: the point; basis ``x+z`` in `pooled`.
        tier: its label.
        model: identity of what it decodes with.
        shots: decoded.
        failures: shots with any observable wrong, or without an explanation.
        cpu_ns: CPU time of the decode calls, warm.
        batch: most shots per call.
        reference: the tier that it is compared with.
        paired: the comparison, on the shots that both decoded.
    """

    distance: int
    rounds: int
    noise: float
    noise_model: str
    basis: str
    windows: str
    tier: str
    model: str
    shots: int
    failures: int
    cpu_ns: int
    batch: int
    reference: str
    paired: Paired

    @property
    def ler(self) -> float:
        """Failures per shot."""
        return self.failures / self.shots

    @property
    def ler_interval(self) -> tuple[float, float]:
        """95 % likelihood-ratio interval of `ler`."""
        return interval(self.failures, self.shots)

    @property
    def us_per_round(self) -> float:
        """CPU time per round of the experiment (of which there is one fewer than of detectors)."""
        return self.cpu_ns / 1e3 / self.shots / self.rounds


def rows(runs: Iterable[PointRun], reference: Tier) -> list[Row]:
    """A row per point and tier, in order.

    Args:
        runs: finished ones.
        reference: the tier to compare with; one of each run's tiers.
    """
    out = []
    for run in runs:
        point = run.point
        for tier in run.blocks[0]:
            blocks = [by_tier[tier] for by_tier in run.blocks]
            others = [by_tier[reference] for by_tier in run.blocks]
            row = Row(
                distance=point.distance,
                rounds=point.rounds,
                noise=point.noise,
                noise_model=point.noise_model,
                basis=point.basis,
                windows=point.windows,
                tier=tier.label,
                model=blocks[0].model,
                shots=sum(block.shots for block in blocks),
                failures=sum(len(block.failed) for block in blocks),
                cpu_ns=sum(block.cpu_ns for block in blocks),
                batch=max(block.batch for block in blocks),
                reference=reference.label,
                paired=sum(map(_paired, others, blocks), Paired()),
            )
            out.append(row)
    return out


def _paired(reference: Block, other: Block) -> Paired:
    if reference.events != other.events:
        return Paired()  # the same seed, but other shots
    theirs, mine = set(reference.failed), set(other.failed)
    return Paired(
        other.shots, len(theirs & mine), wins=len(theirs - mine), losses=len(mine - theirs)
    )


def pooled(found: Sequence[Row]) -> list[Row]:
    """Both bases of each point as one row, ``x+z``, where both were measured."""
    by_tier: dict[tuple[object, ...], list[Row]] = {}
    for row in found:
        by_tier.setdefault((*_experiment(row), row.tier), []).append(row)
    return [
        replace(
            group[0],
            basis="+".join(row.basis for row in group),
            shots=sum(row.shots for row in group),
            failures=sum(row.failures for row in group),
            cpu_ns=sum(row.cpu_ns for row in group),
            paired=sum((row.paired for row in group), Paired()),
        )
        for group in by_tier.values()
        if len(group) > 1
    ]


def _experiment(row: Row) -> tuple[object, ...]:
    """A row's point, basis aside."""
    return row.distance, row.rounds, row.noise, row.noise_model, row.windows


def as_json(row: Row) -> dict[str, Any]:
    """A row as scripts read it; its keys are part of the interface.

    ``paired`` compares with the tier it names, on `shots` that both decoded: `wins` were failed by
    that tier alone and `losses` by this row's alone, `sigma` is McNemar's statistic (positive: this
    row's tier is better), `ratio` that tier's failures for each of this one's, with its interval.
    """
    low, high = row.ler_interval
    paired = asdict(row.paired)
    ratio_low, ratio_high = row.paired.ratio_interval or (None, None)
    more = {"ratio": row.paired.ratio, "ratio_low": ratio_low, "ratio_high": ratio_high}
    return {
        "distance": row.distance,
        "rounds": row.rounds,
        "noise": row.noise,
        "noise_model": row.noise_model,
        "basis": row.basis,
        "windows": row.windows,
        "tier": row.tier,
        "model": row.model,
        "shots": row.shots,
        "failures": row.failures,
        "ler": row.ler,
        "ler_low": low,
        "ler_high": high,
        "us_per_round": row.us_per_round,
        "batch": row.batch,
        "paired": {
            "reference": row.reference,
            **paired,
            "sigma": row.paired.sigma,
            **more,
        },
    }


def table(found: Sequence[Row]) -> Table:
    """For a person: every row, and both bases together."""
    out = Table(
        title="Logical error rate per shot, CPU time per round",
        caption=_caption(found),
        title_justify="left",
        caption_justify="left",
    )
    for name in ("d", "rounds", "p", "basis"):
        out.add_column(name, justify="right")
    out.add_column("tier")
    for name in ("failures", "shots", "LER", "95 %", "µs/round", "wins : losses", "σ", "ratio"):
        out.add_column(name, justify="right", no_wrap=True)
    sections: dict[tuple[object, ...], list[Row]] = {}
    for row in [*found, *pooled(found)]:
        sections.setdefault(_experiment(row), []).append(row)
    for section in sections.values():
        for row in section:
            out.add_row(*_cells(row), end_section=row is section[-1])
    return out


def _caption(found: Sequence[Row]) -> str:
    if not found:
        return ""
    reference = found[0].reference
    batch = max(row.batch for row in found)
    return (
        f"95 % likelihood-ratio intervals; µs of CPU time in the decode calls, warm, up to {batch} "
        f"shots per call. Beside {reference} on the same shots: wins were failed by {reference} "
        "alone, losses by the other alone; σ as McNemar has it, positive where the other is "
        f"better; ratio: failures of {reference} for each of the other's."
    )


def _cells(row: Row) -> list[str]:
    low, high = row.ler_interval
    cells = [
        str(row.distance),
        str(row.rounds),
        f"{row.noise:g}",
        row.basis,
        row.tier,
        f"{row.failures:,}",
        f"{row.shots:,}",
        f"{row.ler:.3g}",
        f"{low:.3g} to {high:.3g}",
        f"{row.us_per_round:.3g}",
    ]
    paired = row.paired
    if row.tier == row.reference or not paired.shots:
        return [*cells, "", "", ""]
    ratio = "–" if paired.ratio is None else f"{paired.ratio:.3f}"
    return [*cells, f"{paired.wins:,} : {paired.losses:,}", f"{paired.sigma:+.1f}", ratio]
