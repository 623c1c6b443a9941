"""Recordings on disk as Stim writes them, and ``qdec replay`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pymatching
import stim

from qdec.bits import Bytes, unpack
from qdec.codes import Code


@dataclass(frozen=True)
class Recorded:
    """Sampled shots of a circuit, all that belongs to them in a folder.

    Attributes:
        folder: where the files are.
        circuit: with noise.
        dets, obs, measurements, sweep: packed.
        predicted: PyMatching's own frames.
    """

    folder: Path
    circuit: stim.Circuit
    dets: Bytes
    obs: Bytes
    measurements: Bytes
    sweep: Bytes
    predicted: Bytes

    @property
    def failures(self) -> int:
        """Shots that PyMatching gets wrong."""
        return int((self.predicted != self.obs).any(axis=1).sum())

    def save(self, name: str, packed: Bytes, bits: int, kind: str = "detectors") -> Path:
        """Write packed rows in the format of the suffix."""
        path = self.folder / name
        stim.write_shot_data_file(
            data=unpack(packed, bits).astype(np.bool_),
            path=str(path),
            format=path.suffix[1:],
            **{f"num_{kind}": bits},
        )
        return path


def record(folder: Path, circuit: stim.Circuit, shots: int, seed: int = 7) -> Recorded:
    """Sample shots, with random sweep bits where the circuit has any."""
    measured = circuit.compile_sampler(seed=seed).sample(shots)
    sweep = np.random.default_rng(seed).integers(0, 2, (shots, circuit.num_sweep_bits))
    # Stim's sampler takes no sweep bits; the converter does, so readings and events agree.
    dets, obs = circuit.compile_m2d_converter().convert(
        measurements=measured,
        sweep_bits=sweep.astype(np.bool_),
        separate_observables=True,
        bit_packed=True,
    )
    predicted = pymatching.Matching.from_detector_error_model(
        Code.from_circuit(circuit).dem
    ).decode_batch(dets, bit_packed_shots=True, bit_packed_predictions=True)

    def pack(bits: np.ndarray) -> Bytes:
        return np.packbits(bits, axis=1, bitorder="little")

    return Recorded(folder, circuit, dets, obs, pack(measured), pack(sweep), predicted)


def qdec(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line tool."""
    return subprocess.run(
        [sys.executable, "-m", "qdec", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )


def replay(*arguments: object) -> dict[str, Any]:
    """Run ``qdec replay --json``, which must succeed; the object on its last line."""
    done = qdec("replay", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
