"""A training run's averaged weights as a model file that the service loads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from qdec.neural.folded_model import as_metadata
from qdec.neural.network import Network
from qdec.neural.tensor_file import tensors_sha256, write_tensors
from qdec_tools.training.recipe import Recipe


def export(
    network: Network, recipe: Recipe, path: Path, *, windows: int, ler: Iterable[Any] = ()
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
    tensors = {name: value.astype(np.float16) for name, value in network.weights.items()}
    distances = sorted({one.distance for one in recipe.data})
    rounds = sorted({r for one in recipe.data for r in one.rounds})
    noise = sorted({p for one in recipe.data for p in one.noise})
    metadata = {
        **as_metadata(network.arch),
        "sha256": tensors_sha256(tensors),
        "noise": "uniform circuit noise, p = " + ", ".join(map(str, noise)),
        "distances": ", ".join(map(str, distances)),
        "rounds": ", ".join(map(str, rounds)),
        "shots_seen": str(windows),
        "seed": str(recipe.seed),
        "ler": json.dumps(list(ler)),
    }
    write_tensors(path, tensors, metadata)
