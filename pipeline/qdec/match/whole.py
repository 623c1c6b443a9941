"""Whole shots: the DEM goes to PyMatching untouched, in Stim's detector order."""

from __future__ import annotations

import numpy as np
import pymatching
import stim

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match.correlated import check_probabilities
from qdec.match.graph import decode_feasibly
from qdec.match.tier import Answers
from qdec.windows.cut import Erasure, answer_bytes


class WholeWindow:
    """Bit-identical to PyMatching on the shot: even the order of detectors is kept.

    (Reordering detectors alone changes how ties are broken, on about 1 shot in 7,000.)
    """

    notes: tuple[str, ...] = ()

    def __init__(self, code: Code, *, correlated: bool, erasures: tuple[Erasure, ...]) -> None:
        """Compile the code's DEM, plus one p = 1/2 mechanism per erasure."""
        dem = code.dem
        if correlated:
            check_probabilities(_largest_p(dem))
        if erasures:
            # Flattened, so that a detector's number stands for itself behind the last shift, too.
            dem = dem.flattened() + stim.DetectorErrorModel("\n".join(_lines(code, erasures)))
        self._layout = code.layout
        self._correlated = correlated
        try:
            self._matching = pymatching.Matching.from_detector_error_model(
                dem, enable_correlations=correlated
            )
        except ValueError as error:
            raise GeometryError(f"PyMatching cannot take this model whole: {error}") from None
        self._matching.ensure_num_fault_ids(dem.num_observables)
        self._frame_bytes, seam_bytes = answer_bytes(code.spacetime)
        self._bytes = self._frame_bytes + seam_bytes
        rounds = code.spacetime.rounds * code.layout.record_bytes
        self.decode(np.zeros((1, rounds), dtype=np.uint8))

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        shots = self._layout.from_records(syndromes)
        frames, feasible = decode_feasibly(
            self._matching, shots, self._frame_bytes, correlated=self._correlated
        )
        answer = np.zeros((len(syndromes), self._bytes), dtype=np.uint8)
        answer[:, : self._frame_bytes] = frames
        return Answers(answer, feasible)


def _lines(code: Code, erasures: tuple[Erasure, ...]) -> list[str]:
    layout = code.layout
    detector_at = {
        (int(r), int(b)): d
        for d, (r, b) in enumerate(zip(layout.round_of, layout.bit_of, strict=True))
    }
    return [
        "error(0.5)"
        + "".join(f" D{detector_at[at]}" for at in e.detectors)
        + "".join(f" L{o}" for o in e.observables)
        for e in erasures
    ]


def _largest_p(dem: stim.DetectorErrorModel) -> float:
    largest = 0.0
    for item in dem:
        if isinstance(item, stim.DemRepeatBlock):
            largest = max(largest, _largest_p(item.body_copy()))
        elif item.type == "error":
            largest = max(largest, item.args_copy()[0])
    return largest
