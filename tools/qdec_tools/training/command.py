"""What ``qdec train`` does: train, show how it goes, leave checkpoints, curves and a model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from qdec.errors import ConfigError, DataError
from qdec.neural.store import load_model
from qdec_tools.ler.work import available_cores
from qdec_tools.service import exit_on_sigterm
from qdec_tools.training import RECIPES
from qdec_tools.training.recipe import Recipe, read_recipe

_INTERRUPTED = 130
_CHECK_BATCHES = 8
_CHECKPOINT = "checkpoint.safetensors"
_CURVE = "curve.jsonl"


def find_recipe(name: str) -> Path:
    """A recipe's file: a path, or the name of one that comes with the package.

    Raises:
        ConfigError: there is no such file or name.
    """
    shipped = RECIPES / f"{name}.toml"
    if "/" not in name and shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(one.stem for one in RECIPES.glob("*.toml")))
    raise ConfigError(f"there is no recipe '{name}': give a file, or one of {known}")


def run(
    recipe_name: str,
    *,
    out: Path,
    start: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    workers: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    every: int = 100,
    shots: int = 2000,
) -> int:
    """Train until the recipe's steps are made; whatever is in `out` already is gone on with.

    Args:
        recipe_name: see `find_recipe`.
        out: folder of the checkpoint, the curve and the model.
        start: name or path of a model to begin with; None: random weights, or the checkpoint.
        device: ``cpu``, ``cuda``, or ``auto``.
        precision: ``fp32``, ``bf16``, or ``auto``.
        threads: of the processor; 0 for all cores.
        workers: processes that draw data ahead; None: none on a CPU (drawing takes a hundredth of
            a step there), all cores but one beside a GPU.
        steps: instead of the recipe's number.
        minutes: stop after that long, with a checkpoint.
        every: steps from one checkpoint (and point of the curve) to the next.
        shots: for the early look at error rates, every ten checkpoints; 0 for none.

    Returns:
        Exit status: 0 when all steps are made, 130 when it was stopped before.

    Raises:
        ConfigError: the recipe, or the checkpoint, is no good.
        DataError: PyTorch is missing, or the device.
    """
    exit_on_sigterm()
    path = find_recipe(recipe_name)
    recipe = read_recipe(path)
    if steps is not None:
        recipe = recipe.model_copy(update={"steps": steps})
    trainer = _trainer(recipe, device, precision, threads, workers)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / _CHECKPOINT
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif start is not None:
        trainer.start_from(load_model(start))
    curve = Curve(out / _CURVE, trainer.step)
    until = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    try:
        with _bar(recipe, trainer.step) as show:
            _train(trainer, curve, checkpoint, until, every, shots, show)
    except KeyboardInterrupt:
        pass
    finally:
        trainer.data.close()
    trainer.save(checkpoint)
    _export(trainer, out, curve)
    return 0 if trainer.step >= recipe.steps else _INTERRUPTED


def _trainer(recipe: Recipe, device: str, precision: str, threads: int, workers: int | None) -> Any:
    try:
        import torch
    except ImportError:
        raise DataError("training needs PyTorch: pip install 'qdec[train]'") from None
    from qdec_tools.training.trainer import Trainer

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError("PyTorch sees no CUDA device here: train with --device cpu")
    if threads:
        torch.set_num_threads(threads)
    if workers is None:
        workers = max(0, available_cores() - 1) if device == "cuda" else 0
    return Trainer(recipe, device, precision, workers)


def _train(
    trainer: Any,
    curve: Curve,
    checkpoint: Path,
    until: float,
    every: int,
    shots: int,
    show: Callable[[int, str], None],
) -> None:
    from qdec_tools.training.evaluate import error_rates

    losses: list[float] = []
    began, cpu = time.monotonic(), time.process_time()
    while trainer.step < trainer.recipe.steps and time.monotonic() < until:
        losses.append(trainer.advance())
        show(trainer.step, f"{losses[-1]:.2f} nats")
        if trainer.step % every and trainer.step < trainer.recipe.steps:
            continue
        point: dict[str, Any] = {
            "step": trainer.step,
            "windows": trainer.windows,
            "loss": round(sum(losses) / len(losses), 4),
            "check": round(trainer.check(0, _CHECK_BATCHES), 4),
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }
        if shots and trainer.step % (10 * every) == 0:
            point["ler"] = error_rates(trainer.trained(), shots)
        losses.clear()
        began, cpu = time.monotonic(), time.process_time()
        trainer.save(checkpoint)
        curve.add(point)


class Curve:
    """Points of a run, one JSON object per line, kept across restarts."""

    def __init__(self, path: Path, step: int) -> None:
        """Go on with a file; points behind `step` are of a future that was lost with it."""
        self.path = path
        self.points = [one for one in _read(path) if one["step"] <= step]
        path.write_text("".join(json.dumps(one) + "\n" for one in self.points))

    def add(self, point: dict[str, Any]) -> None:
        """Append a point."""
        self.points.append(point)
        with self.path.open("a") as file:
            file.write(json.dumps(point) + "\n")

    def draw(self, path: Path) -> None:
        """Draw the loss, and error rates where they were measured, against the windows seen."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        loss, rate = figure.subplots(1, 2)
        seen = [one["windows"] for one in self.points]
        loss.plot(seen, [one["loss"] for one in self.points], lw=0.8, label="trained on")
        loss.plot(seen, [one["check"] for one in self.points], label="averaged weights, unseen")
        loss.set(
            xlabel="windows seen",
            ylabel="nats per window of d = 5, 6 rounds",
            xscale="log",
            yscale="log",
        )
        measured = [one for one in self.points if "ler" in one]
        for name in sorted({key for one in measured for key in one["ler"]}):
            at = [one for one in measured if name in one["ler"]]
            rate.plot(
                [one["windows"] for one in at],
                [one["ler"][name]["against_correlated"] for one in at],
                "o-",
                label=name,
            )
        rate.axhline(1.0, color="gray", lw=0.8)
        rate.set(xlabel="windows seen", ylabel="failures / correlated matching's", xscale="log")
        for axes in (loss, rate):
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8)
        figure.savefig(path, metadata={"Date": None})


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    points = []
    for line in path.read_text().splitlines():
        try:
            point = json.loads(line)
        except json.JSONDecodeError:  # cut off when the run was killed
            break
        if not isinstance(point, dict) or not isinstance(point.get("step"), int):
            raise ConfigError(f"{path} is no curve of a training run")
        points.append(point)
    return points


def _export(trainer: Any, out: Path, curve: Curve) -> None:
    from qdec_tools.training.export import export

    model = out / f"{trainer.recipe.name}.safetensors"
    export(trainer.trained(), trainer.recipe, model, windows=trainer.windows)
    console = Console(stderr=True)
    console.print(f"{trainer.step} steps, {trainer.windows:,} windows: {model}")
    if not curve.points:
        return
    try:
        curve.draw(out / "curve.svg")
    except ImportError:
        console.print("no plot: pip install 'qdec[train]' brings matplotlib")


@contextmanager
def _bar(recipe: Recipe, done: int) -> Iterator[Callable[[int, str], None]]:
    console = Console(stderr=True)
    with Progress(
        TextColumn(recipe.name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        line = bar.add_task("", total=recipe.steps, completed=done, note="")
        yield lambda step, note: bar.update(line, completed=step, note=note)
