"""Google's 2022 experiments, where they are at hand."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qdec.bits import Bytes, num_bytes

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Experiment:
    """One folder of the data set."""

    folder: Path

    @property
    def circuit(self) -> str:
        return (self.folder / "circuit_noisy.stim").read_text()

    @property
    def dem(self) -> str:
        return (self.folder / "circuit_detector_error_model.dem").read_text()

    @property
    def expected(self) -> dict[str, int]:
        return json.loads((self.folder / "expected.json").read_text())

    def packed(self, name: str, bits: int) -> Bytes:
        """``(shots, bytes)`` of a `b8` file."""
        return np.fromfile(self.folder / name, dtype=np.uint8).reshape(-1, num_bytes(bits))

    @property
    def flips(self) -> Bytes:
        """``(shots, 1)`` 0/1: whether the observable came out flipped."""
        text = (self.folder / "obs_flips_actual.01").read_bytes().split()
        return np.array([int(one) for one in text], dtype=np.uint8)[:, None]


def experiment(name: str) -> Experiment:
    """An experiment's data; skips the test where there are none."""
    data = Path(os.environ.get("QDEC_DATA", _REPOSITORY.parent / "shared" / "data"))
    folder = data / "google_sycamore" / name
    if not folder.is_dir():
        pytest.skip(f"Google's data are not at {folder} (set QDEC_DATA to the folder above them)")
    return Experiment(folder)
