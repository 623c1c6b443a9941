"""What `qdec priors fit` does: a detector error model, and shots of a device, to a better model."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from qdec import __version__
from qdec.codes.code import code_kind, read_code_text, read_dem
from qdec.neural.tensor_file import write_whole
from qdec.priors import FaultModel, Fitted, Moments, fit
from qdec_tools.shots import ShotFile, open_shots

Which = Literal["all", "even", "odd"]
_CHUNK = 1 << 14
_SHOWN = 8


@dataclass(frozen=True)
class Wish:
    """What to fit to what.

    Attributes:
        model: ``*.dem``, or a circuit.
        dets: recorded detection events.
        shots: which of them, counted from 0.
        out: the model to write.
    """

    model: Path
    dets: Path
    shots: Which
    out: Path


def run(wish: Wish, *, as_json: bool) -> int:
    """Fit, write, tell. Returns the exit status.

    Raises:
        CodeError: the model cannot be read or fitted.
        DataError: the shots do not fit it.
    """
    text = read_code_text(wish.model)
    model = FaultModel.read(read_dem(code_kind(wish.model), text)[0])
    file = open_shots(wish.dets, "detectors", model.dem.num_detectors)
    moments = Moments(model.dem.num_detectors, model.pairs)
    _count(file, wish.shots, moments)
    with Console(stderr=True).status(f"fitting {len(model.symptoms):,} probabilities"):
        fitted = fit(model, moments)
    head = (
        f"# qdec {__version__} priors fit: {wish.shots} shots, {moments.shots:.0f}\n"
        f"# of {wish.dets.name}; from {wish.model.name}, sha256 "
        f"{hashlib.sha256(text.encode()).hexdigest()}\n"
    )
    write_whole(wish.out, (head + str(fitted.dem) + "\n").encode())
    told: dict[str, Any] = {
        "shots": round(moments.shots),
        "symptoms": len(model.symptoms),
        "kinds": len(fitted.by_kind),
        "event_rate": float(moments.rates.mean()),
        "strength": float(fitted.strength.sum() / model.strength.sum()),
        "out": str(wish.out),
    }
    if as_json:
        print(json.dumps(told))
        return 0
    console = Console()
    console.print(_changes(fitted))
    console.print(
        f"{told['shots']:,} shots, {100 * told['event_rate']:.2f} % of detectors fire; "
        f"{told['symptoms']:,} probabilities of {told['kinds']:,} kinds, "
        f"all together {told['strength']:.2f} times the model's"
    )
    console.print(f'written: {wish.out}  (prior = "{wish.out.name}" in a \\[\\[stream]] table)')
    return 0


def _count(file: ShotFile, which: Which, moments: Moments) -> None:
    first, step = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}[which]
    steps = range(0, len(file), _CHUNK)  # an even number: parity is the file's
    for start in track(
        steps, "counting events", console=Console(stderr=True), disable=not sys.stderr.isatty()
    ):
        rows = file.read(start, min(start + _CHUNK, len(file)))
        moments.add(np.ascontiguousarray(rows[first::step]))


def _changes(fitted: Fitted) -> Table:
    """The kinds whose probability differs most surely from the model's."""
    model = fitted.model
    table = Table(title="kinds that differ most from the model", title_justify="left")
    for name in ("detectors", "times", "p by the model", "p fitted", "ratio"):
        table.add_column(name, justify="left" if name == "detectors" else "right")
    sure = np.abs(np.log(fitted.strength / model.strength)) * fitted.strength / fitted.sigma
    kinds = len(fitted.by_kind)
    times = np.bincount(model.kind, minlength=kinds)
    total = np.bincount(model.kind, fitted.strength, kinds)
    before = np.bincount(model.kind, model.strength, kinds)
    for kind in np.argsort(-np.bincount(model.kind, sure, kinds))[:_SHOWN]:
        example = model.symptoms[int(np.argmax(model.kind == kind))]
        old, new = (-np.expm1(-sums[kind] / times[kind]) / 2 for sums in (before, total))
        table.add_row(
            " ".join(f"D{one}" for one in example),
            f"{times[kind]}",
            f"{old:.2e}",
            f"{new:.2e}",
            f"{new / old:.2f}",
        )
    return table
