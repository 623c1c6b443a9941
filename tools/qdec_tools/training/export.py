"""A training run's averaged weights as a model file that the service loads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from qdec.neural.tensor_file import tensors_sha256, write_tensors
from qdec_tools.training.recipe import Recipe
from qdec_tools.training.trained import Trained


def export(
    network: Trained, recipe: Recipe, path: Path, *, windows: int, ler: Iterable[Any] = ()
) -> None:
    """Write a model in half precision, with what is known of it.

    Args:
        network: the averaged weights.
        recipe: that it was trained with.
        path: the file.
        windows: that it has seen.
        ler: rows of ``qdec ler --json`` measured with it.

    Raises:
        ModelError: the file cannot be written.
    """
    tensors = {name: value.astype(np.float16) for name, value in network.tensors.items()}
    distances = sorted({one.distance for one in recipe.data})
    rounds = sorted({r for one in recipe.data for r in one.rounds})
    metadata = {
        **network.metadata(),
        "sha256": tensors_sha256(tensors),
        "noise": "; ".join(_noises(recipe)),
        "distances": ", ".join(map(str, distances)),
        "rounds": ", ".join(map(str, rounds)),
        "shots_seen": str(windows),
        "seed": str(recipe.seed),
        "ler": json.dumps(list(ler)),
    }
    write_tensors(path, tensors, metadata)


def _noises(recipe: Recipe) -> list[str]:
    """Each noise model trained on, with its strengths."""
    strengths: dict[str, set[float]] = {}
    for one in recipe.data:
        name = f"{one.model} circuit noise" if one.channels is None else "own channels"
        strengths.setdefault(name, set()).update(one.noise)
    return [f"{name}, p = {', '.join(map(str, sorted(p)))}" for name, p in strengths.items()]
