"""Window decoding beside CUDA-Q QEC's `sliding_window` with PyMatching inside, on the same shots.

Goals: at least 4 times less time per shot than `sliding_window` for the same windows, and at most
1.7 times what global decoding takes. Ratios compare batches with batches, single calls with single
calls.

All decoders decode both bases of a rotated memory experiment, in one process, in turns, a different
one first each time; medians of CPU and wall time are reported. Everyone gets shots in the form that
suits it best, made beforehand: PyMatching and qdec packed bytes, `Matching.decode` bits, CUDA-Q QEC
lists of floats (NumPy arrays take it 1.5 to 3 times as long). `sliding_window` answers with errors,
not observables; their product with the observables is not counted.

CUDA-Q QEC is not a dependency; without it, the other rows are measured all the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymatching
from common import show
from numpy.typing import NDArray

from qdec.bits import Bytes, unpack
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.windows import Geometry, choose_geometry, parse_geometry
from qdec_tools.circuits import memory

Bits = NDArray[np.bool_]
ONE, BATCH = "one by one", "batch"
INSTALL = """\
cudaq_qec is not installed, so its rows are missing. On a CPU (0.7 GB):
  pip install --no-deps cudaq-qec-cu12 cuda-quantum-cu12 nvidia-cuda-runtime-cu12 custabilizer-cu12
  pip install numpy scipy requests astpretty
in a virtual environment of its own, into which `pip install -e .` brings qdec."""


@dataclass
class Contender:
    """One way to decode all shots.

    Attributes:
        decoder: whose.
        windows: ``W,C`` or ``whole``.
        calls: `ONE` or `BATCH`.
        decode: decodes all shots; this is timed.
        flips: what `decode` returned → ``(shots, observables)`` bool.
    """

    decoder: str
    windows: str
    calls: str
    decode: Callable[[], Any]
    flips: Callable[[Any], Bits]
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Shots:
    """The same shots in every form: all have B rows."""

    packed: Bytes
    bits: Bytes
    records: Bytes
    lists: list[list[float]]
    truth: Bits

    @classmethod
    def sample(cls, circuit: Any, code: Code, count: int, seed: int) -> Shots:
        """Sample a circuit."""
        packed, truth = circuit.compile_detector_sampler(seed=seed).sample(
            count, separate_observables=True, bit_packed=True
        )
        bits = unpack(packed, code.layout.num_detectors)
        return cls(
            packed,
            bits,
            code.layout.to_records(packed),
            bits.astype(float).tolist(),
            unpack(truth, code.num_observables).astype(bool),
        )


def global_matching(code: Code, shots: Shots) -> list[Contender]:
    matching = pymatching.Matching.from_detector_error_model(code.dem)

    def batch() -> Bytes:
        return matching.decode_batch(shots.packed, bit_packed_shots=True)

    def one_by_one() -> list[Bytes]:
        decode = matching.decode
        return [decode(shot) for shot in shots.bits]

    def flips(predictions: Any) -> Bits:
        return np.asarray(predictions).astype(bool)

    return [
        Contender("pymatching", "whole", BATCH, batch, flips),
        Contender("pymatching", "whole", ONE, one_by_one, flips),
    ]


def qdec_windows(code: Code, shots: Shots, geometry: Geometry) -> list[Contender]:
    decoder = OfflineDecoder(code, Tier.MATCHING, geometry)
    singles = [shots.records[i : i + 1] for i in range(len(shots.records))]

    def batch() -> Bytes:
        return decoder.decode(shots.records)[0]

    def one_by_one() -> Bytes:
        decode = decoder.decode
        return np.concatenate([decode(shot)[0] for shot in singles])

    def flips(frames: Any) -> Bits:
        return unpack(frames, code.num_observables).astype(bool)

    return [
        Contender("qdec", str(geometry), BATCH, batch, flips),
        Contender("qdec", str(geometry), ONE, one_by_one, flips),
    ]


class CudaqModel:
    """The code as CUDA-Q QEC takes it: a check matrix with its columns in order of rounds."""

    def __init__(self, qec: Any, code: Code) -> None:
        """Canonicalise the model; equal columns are merged on the way."""
        self._qec = qec
        model = qec.dem_from_stim_text(str(code.dem.flattened()), True)
        self._boundary, self._bulk = (int(n) for n in code.layout.counts[:2])
        self._layers = code.layout.num_rounds
        model.canonicalize_for_rounds_with_boundary(self._bulk, self._boundary, True)
        self._checks = np.asarray(model.detector_error_matrix)
        self._observables = np.asarray(model.observables_flips_matrix)
        self._rates = np.asarray(model.error_rates)

    def takes(self, geometry: Geometry) -> bool:
        """Whether windows of these lengths end with the shot, as `sliding_window` wants it."""
        if geometry.is_whole or geometry.window > self._layers:
            return False
        return (self._layers - geometry.window) % geometry.commit == 0

    def global_matching(self, shots: Shots) -> list[Contender]:
        """Its own PyMatching on whole shots; given the observables, it answers with them."""
        decoder = self._qec.get_decoder(
            "pymatching", self._checks, O=self._observables, error_rate_vec=self._rates
        )

        def flips(predictions: NDArray[np.float64]) -> Bits:
            return predictions > 0.5

        return self._contenders("cudaq_qec pymatching", "whole", decoder, shots, flips)

    def sliding_window(self, shots: Shots, geometry: Geometry) -> list[Contender]:
        """The same windows as ours, with PyMatching inside."""
        decoder = self._qec.get_decoder(
            "sliding_window",
            self._checks,
            error_rate_vec=self._rates,
            window_size=geometry.window,
            step_size=geometry.commit,
            num_syndromes_per_round=self._bulk,
            num_boundary_syndromes=self._boundary,
            inner_decoder_name="pymatching",
            inner_decoder_params={"merge_strategy": "independent"},
        )

        def flips(errors: NDArray[np.float64]) -> Bits:
            return (errors > 0.5).astype(np.uint8) @ self._observables.T % 2 == 1

        return self._contenders("cudaq_qec sliding_window", str(geometry), decoder, shots, flips)

    @staticmethod
    def _contenders(
        name: str, windows: str, decoder: Any, shots: Shots, flips: Callable[[Any], Bits]
    ) -> list[Contender]:
        def one_by_one() -> list[Any]:
            decode = decoder.decode
            return [decode(shot) for shot in shots.lists]

        return [
            Contender(
                name,
                windows,
                BATCH,
                lambda: decoder.decode_batch(shots.lists),
                lambda answer: flips(answer.result),
            ),
            Contender(
                name,
                windows,
                ONE,
                one_by_one,
                lambda answers: flips(np.array([one.result for one in answers])),
            ),
        ]


def load_cudaq() -> Any | None:
    """CUDA-Q QEC, if it is installed; says how to install it if not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces changes of an API not used here
            import cudaq_qec
    except ModuleNotFoundError as error:
        if error.name != "cudaq_qec":
            raise
        print(INSTALL, file=sys.stderr)
        return None
    return cudaq_qec


def race(contenders: list[Contender], repeats: int, shots: Shots) -> list[int]:
    """Time everyone in turns; failures of each."""
    failures = [
        int((c.flips(c.decode()) != shots.truth).any(axis=1).sum()) for c in contenders
    ]  # and so everyone is warm
    for turn in range(repeats):
        at = turn % len(contenders)
        for c in contenders[at:] + contenders[:at]:
            cpu, wall = time.process_time(), time.perf_counter()
            c.decode()
            c.cpu.append(time.process_time() - cpu)
            c.wall.append(time.perf_counter() - wall)
    return failures


def rows(contenders: list[Contender], failures: list[int], count: int) -> list[dict[str, Any]]:
    """The table: medians, and medians of ratios within a turn."""
    by_key = {(c.decoder, c.windows, c.calls): c for c in contenders}
    out = []
    for c, failed in zip(contenders, failures, strict=True):
        peer = by_key.get(("cudaq_qec sliding_window", c.windows, c.calls))
        out.append(
            {
                "decoder": c.decoder,
                "windows": c.windows,
                "calls": c.calls,
                "failures": failed,
                "CPU us/shot": statistics.median(c.cpu) / count * 1e6,
                "wall us/shot": statistics.median(c.wall) / count * 1e6,
                "/ pymatching whole": _ratio(c, by_key["pymatching", "whole", c.calls]),
                "sliding_window / this": _ratio(peer, c) if peer and c.decoder == "qdec" else None,
            }
        )
    return out


def _ratio(a: Contender, b: Contender) -> float:
    """Median CPU time of one over another's, turn by turn."""
    return statistics.median(x / y for x, y in zip(a.cpu, b.cpu, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distance", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20, help="one less than rounds of detectors")
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument(
        "--windows",
        nargs="+",
        default=["whole", "11,5", "11,10", "16,5", "16,11"],
        help="W,C each; sliding_window takes those with (rounds + 1 - W) divisible by C",
    )
    parser.add_argument("--shots", type=int, default=5_000, help="shots per turn")
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="as results/beside_cudaq.json")
    o = parser.parse_args()

    circuit = memory(o.distance, o.rounds, o.noise)
    code = Code.from_circuit(circuit)
    shots = Shots.sample(circuit, code, o.shots, o.seed)
    try:
        geometries = [choose_geometry(parse_geometry(w), code, endless=False) for w in o.windows]
    except GeometryError as error:
        parser.error(str(error))
    qec = load_cudaq()
    contenders = global_matching(code, shots)
    for geometry in geometries:
        contenders += qdec_windows(code, shots, geometry)
    if qec is not None:
        model = CudaqModel(qec, code)
        contenders += model.global_matching(shots)
        for geometry in filter(model.takes, geometries):
            contenders += model.sliding_window(shots, geometry)
    failures = race(contenders, o.repeats, shots)
    show(
        f"windows beside CUDA-Q QEC, d={o.distance}, r={o.rounds}, p={o.noise}, both bases",
        rows(contenders, failures, o.shots),
        save="beside_cudaq" if o.save else "",
        cudaq_qec=None if qec is None else qec.__version__,
        d=o.distance,
        r=o.rounds,
        p=o.noise,
        shots=o.shots,
        repeats=o.repeats,
    )


if __name__ == "__main__":
    main()
