"""``qdec engine build``: TensorRT's plans, ahead of time."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from qdec.commit.bank import WindowBank
from qdec.config import StreamConfig, load_config
from qdec.errors import DataError, EngineError
from qdec.lane.library import Library
from qdec.neural.collect import Wanted, collecting
from qdec.neural.engine import PrecisionChoice, buckets
from qdec.neural.store import ISING, find_model
from qdec.neural.tensorrt import build, cache
from qdec.neural.tensorrt.api import Api, tensorrt
from qdec.neural.tensorrt.build import Capability, Precision, Recipe
from qdec_tools.circuits import memory

_TEMPLATE_ROUNDS = 12
_MAX_DISTANCE = 63
_DEFAULT_BATCH = 64


@dataclass(frozen=True, slots=True)
class Wish:
    """What to build, as the command line has it; see ``qdec engine build --help``."""

    config: Path | None = None
    model: str | None = None
    distance: str = "5"
    windows: str = "auto"
    rounds: int | None = None
    noise: float = 0.003
    basis: str = "z"
    batch: str | None = None
    precision: str | None = None
    capability: str | None = None


def run(wish: Wish, folder: Path | None, *, again: bool, as_json: bool) -> int:
    """Build what is missing, keep it, and say so; returns the exit status.

    Raises:
        EngineError: TensorRT is not there, or there is nothing to build for, or it refuses.
        QdecError: a stream, code or model cannot be read or compiled.
    """
    folder = folder or cache.default_folder()
    capability = parse_capability(wish.capability)
    api = tensorrt()
    gpu, target = build.here(api, capability)
    recipes = wanted(wish)
    rows = []
    with _progress(len(recipes)) as advance:
        for recipe in recipes:
            advance(f"{'×'.join(map(str, recipe.size))} {recipe.precision}")
            key = cache.key_of(recipe, api, gpu, target)
            rows.append(_kept(folder, key, recipe, capability, again=again))
            advance("", 1)
    if as_json:
        print(json.dumps({"folder": str(folder), "plans": rows}))
        return 0
    for row in rows:
        did = f"built in {row['seconds']:.1f} s" if row["built"] else "was there"
        print(
            f"{row['model'][:12]} {'×'.join(map(str, row['size']))} {row['precision']}, batches "
            f"{','.join(map(str, row['batches']))}: {did}, {row['bytes']:,} bytes"
        )
    print(f"{len(rows)} plan(s) for {_for(api, gpu, target)} in {folder}")
    return 0


def wanted(wish: Wish) -> list[Recipe]:
    """What streams will run, found out by opening them without running a network.

    Raises:
        DataError: the wish is not one.
        EngineError: nothing runs a network, or not in that precision.
        QdecError: a stream, code or model cannot be read or compiled.
    """
    if (wish.config is None) == (wish.model is None):
        raise DataError("name a configuration, or a network with --model: one of the two")
    batch = _DEFAULT_BATCH
    precision: PrecisionChoice = "auto"
    with tempfile.TemporaryDirectory() as scratch:
        if wish.config is not None:
            config = load_config(wish.config)
            batch, precision = config.accelerator.batch, config.accelerator.precision
            streams = list(config.accelerated)  # those of tier auto are not settled yet
        else:
            streams = list(_streams(wish, Path(scratch)))
        batches = buckets(batch) if wish.batch is None else _numbers("--batch", wish.batch)
        if wish.precision is not None:
            if wish.precision not in get_args(Precision):
                raise DataError(f"--precision '{wish.precision}': give fp32, fp16 or int8")
            precision = cast(PrecisionChoice, wish.precision)
        with collecting("tensorrt", precision) as found:
            for stream in streams:
                _open(stream)
    if not found.wanted:
        raise EngineError("none of the streams runs a network on the accelerator: nothing to build")
    return [_recipe(one, batches, wish.precision) for one in found.wanted]


def parse_capability(text: str | None) -> Capability | None:
    """``9.0`` → (9, 0).

    Raises:
        DataError: it is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text)
    if match is None:
        raise DataError(f"--compute-capability '{text[:20]}': give one like 9.0 (H100, H200)")
    return int(match[1]), int(match[2])


def _streams(wish: Wish, scratch: Path) -> Iterator[StreamConfig]:
    """Memory experiments of the distances, as streams of a configuration."""
    name = wish.model or ""
    info = find_model(name)
    tier = "ising" if info.family == ISING else name if info.origin == "shipped" else "speed"
    if wish.basis.lower() not in ("x", "z"):
        raise DataError(f"--basis '{wish.basis[:20]}': give x or z")
    if not 0 < wish.noise <= 0.5:
        raise DataError(f"--noise {wish.noise:g}: faults have a probability above 0 and up to 0.5")
    for distance in _numbers("--distance", wish.distance):
        if distance > _MAX_DISTANCE:
            raise DataError(f"--distance {distance}: give one up to {_MAX_DISTANCE}")
        task = f"surface_code:rotated_memory_{wish.basis.lower()}"
        rounds = _TEMPLATE_ROUNDS if wish.rounds is None else wish.rounds - 1
        path = scratch / f"d{distance}.stim"
        path.write_text(str(memory(distance, rounds, wish.noise, task)), encoding="utf-8")
        yield StreamConfig(
            name=f"d{distance}",
            code=path,
            tier=tier,
            model=None if info.origin == "shipped" else name,
            windows=wish.windows,
            endless=wish.rounds is None,
            accelerated=True,
        )


def _open(stream: StreamConfig) -> None:
    """Compile a stream's windows for each of its tiers, and have each decode nothing once."""
    library = Library()
    plan = library.plan(stream)
    for tier in (plan.tier, *plan.switching.tiers):
        bank = library.bank(plan.code, tier, plan.geometry, plan.length, model=plan.model)
        for window in bank.needed(plan.length):
            bank.get(window).decode(np.zeros((1, _bytes(bank, window)), dtype=np.uint8))


def _bytes(bank: WindowBank, window: Any) -> int:
    return int((window.end - window.start) * bank.code.spacetime.layout.record_bytes)


def _recipe(one: Wanted, batches: tuple[int, ...], asked: str | None) -> Recipe:
    if asked is not None and one.precision != asked:
        raise EngineError(
            f"the network cannot run in {asked}: `qdec model quantise` prepares those of the own "
            "family for int8; others have fp32 and fp16"
        )
    return Recipe(one.content, one.size, batches, cast(Precision, one.precision))


def _kept(
    folder: Path, key: cache.Key, recipe: Recipe, capability: Capability | None, *, again: bool
) -> dict[str, Any]:
    """Build a plan unless it is there, and keep it; returns what is said of it."""
    start = time.monotonic()
    plan, _ = (None, "") if again else cache.read(folder, key)
    built = plan is None
    if plan is None:
        plan = build.build(recipe, capability)
        cache.write(folder, key, plan)
    row = {name: key[name] for name in ("model", "size", "batches", "precision")}
    took = round(time.monotonic() - start, 3)
    path = str(cache.path_of(folder, key))
    return {**row, "built": built, "seconds": took, "bytes": len(plan), "path": path}


def _for(api: Api, gpu: str, target: Capability) -> str:
    which = f"{gpu or 'any GPU'} of compute capability {target[0]}.{target[1]}"
    return f"{which} ({api.flavour} {api.version})"


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise DataError(f"{option} '{text[:40]}': give numbers, like 1,8,64") from None
    if numbers[0] < 1:
        raise DataError(f"{option} '{text[:40]}': numbers start at 1")
    return numbers


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal's stderr."""
    console = Console(stderr=True)
    columns = (
        TextColumn("plans"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[at]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        line = bar.add_task("", total=total, at="")

        def advance(at: str, by: int = 0) -> None:
            bar.update(line, advance=by, at=at)

        yield advance
