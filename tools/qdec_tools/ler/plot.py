"""Curves of a measurement: error rate and time per round against the distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qdec.errors import DataError
from qdec_tools.ler.result import Row, pooled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = ("o-", "s--", "^-.", "d:")
_FORMATS = (".svg", ".pdf", ".png")


def check_plot(path: Path) -> None:
    """Find out whether a plot can be drawn, before anything is measured for it.

    Raises:
        DataError: matplotlib is missing, or the file's name says no format that is known.
    """
    if path.suffix not in _FORMATS:
        raise DataError(f"--plot {path}: the name must end with {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise DataError(f"--plot {path}: there is no folder {path.parent}")
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError:
        raise DataError("--plot needs matplotlib: pip install 'qdec[bench]'") from None


def plot(found: Sequence[Row], path: Path) -> None:
    """Draw rows, both bases of a point as one where both are there; LER with 95 % bars.

    Raises:
        DataError: the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = pooled(found) or list(found)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    rate, cost = figure.subplots(1, 2)
    _curves(rate, drawn, lambda row: row.ler, lambda row: row.ler_interval)
    rate.set(xlabel="distance d", ylabel="logical error rate per shot", yscale="log")
    _curves(cost, drawn, lambda row: row.us_per_round)
    cost.set(xlabel="distance d", ylabel="CPU µs per round", yscale="log")
    for axes in (rate, cost):
        axes.set_xticks(sorted({row.distance for row in drawn}))
        axes.grid(alpha=0.3)
    rate.legend(fontsize=8)
    try:
        with mpl.rc_context({"svg.hashsalt": "qdec"}):  # the same file from the same rows
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise DataError(f"cannot write the plot {path}: {error.strerror}") from None


def _curves(
    axes: Axes,
    found: Sequence[Row],
    value: Callable[[Row], float],
    bounds: Callable[[Row], tuple[float, float]] | None = None,
) -> None:
    """A colour per tier, a line style per everything else."""
    tiers = list(dict.fromkeys(row.tier for row in found))
    others = list(dict.fromkeys(map(_other, found)))
    for tier in tiers:
        for other in others:
            # Without a failure there is no place for it on a logarithmic axis.
            curve = [
                row for row in found if (row.tier, _other(row)) == (tier, other) and value(row) > 0
            ]
            if not curve:
                continue
            x, y = [row.distance for row in curve], [value(row) for row in curve]
            color = f"C{tiers.index(tier) % 10}"
            style = _STYLES[others.index(other) % len(_STYLES)]
            axes.plot(x, y, style, color=color, label=f"{tier}, {other}", markersize=4)
            if bounds is not None:
                low, high = zip(*map(bounds, curve), strict=True)
                axes.vlines(x, low, high, color=color, alpha=0.6)


def _other(row: Row) -> str:
    """What tells curves apart beside the tier."""
    rounds = "d rounds" if row.rounds == row.distance else f"{row.rounds} rounds"
    basis = "" if "+" in row.basis else f", {row.basis}"
    windows = "" if row.windows == "whole" else f", windows {row.windows}"
    return f"p={row.noise:g}, {rounds}{windows}{basis}"
