"""Whole shots through windows, in batches."""

from __future__ import annotations

import numpy as np
import pymatching
import pytest

from qdec.codes import Code
from qdec.errors import DataError
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder, decode_shots
from qdec.windows import WHOLE, Geometry
from qdec_tools.circuits import memory


def test_whole_shots_are_pymatchings() -> None:
    source = memory(3, 5, 0.01)
    code = Code.from_circuit(source)
    shots = source.compile_detector_sampler(seed=1).sample(3000, bit_packed=True)
    records = code.layout.to_records(shots)
    for tier, correlated in ((Tier.MATCHING, False), (Tier.CORRELATED, True)):
        matching = pymatching.Matching.from_detector_error_model(
            code.dem, enable_correlations=correlated
        )
        expected = matching.decode_batch(
            shots,
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=correlated,
        )
        frames, feasible = decode_shots(code, tier, WHOLE, records)
        np.testing.assert_array_equal(frames, expected)
        assert feasible.all()


def test_windows_decode_about_as_well_and_do_not_depend_on_the_batch() -> None:
    source = memory(3, 30, 0.005)
    code = Code.from_circuit(source)
    shots, truth = source.compile_detector_sampler(seed=2).sample(
        4000, separate_observables=True, bit_packed=True
    )
    records = code.layout.to_records(shots)
    decoder = OfflineDecoder(code, Tier.MATCHING, Geometry(9, 6))
    frames, feasible = decoder.decode(records)
    assert feasible.all()
    whole, _ = decode_shots(code, Tier.MATCHING, WHOLE, records)
    failed, whole_failed = ((f != truth).any(axis=1).sum() for f in (frames, whole))
    # Paired shots: only those that one decodes and the other does not tell them apart.
    differ = (frames != whole).any(axis=1).sum()
    assert abs(int(failed) - int(whole_failed)) <= 4 * np.sqrt(differ) + 1
    alone = np.concatenate([decoder.decode(records[i : i + 1])[0] for i in range(200)])
    np.testing.assert_array_equal(alone, frames[:200])


def test_frames_of_many_observables() -> None:
    """Ten chains that share nothing but time, each with its own observable."""
    lines = []
    for r in range(24):
        for chain in range(10):
            here = 10 * r + chain
            lines.append(f"detector({chain}, 0, {r}) D{here}")
            lines.append(f"error(0.02) D{here} L{chain}")
            lines.append(f"error(0.01) D{here}")
            if r:
                lines.append(f"error(0.03) D{here - 10} D{here}")
    code = Code.parse("dem", "\n".join(lines))
    shots, truth, _ = code.dem.compile_sampler(seed=3).sample(2000, bit_packed=True)
    records = code.layout.to_records(shots)
    whole, _ = decode_shots(code, Tier.MATCHING, WHOLE, records)
    frames, feasible = decode_shots(code, Tier.MATCHING, Geometry(12, 6), records)
    assert frames.shape == (2000, 2) == truth.shape
    assert feasible.all()
    assert (frames == whole).all(axis=1).mean() > 0.95


def test_shots_without_an_explanation_are_flagged_alone() -> None:
    ring = "".join(
        f"error(0.1) D{2 * r} D{2 * r + 1} L0\n"
        f"detector(0, 0, {r}) D{2 * r}\ndetector(1, 0, {r}) D{2 * r + 1}\n"
        for r in range(8)
    )
    code = Code.parse("dem", ring)
    records = np.zeros((3, 8, 1), dtype=np.uint8)
    records[0, 4] = 3
    records[1, 4] = 1
    for geometry in (WHOLE, Geometry(4, 2)):
        frames, feasible = decode_shots(code, Tier.MATCHING, geometry, records)
        assert feasible.tolist() == [True, False, True]
        assert frames.tolist() == [[1], [0], [0]]


def test_records_of_another_shape_are_refused() -> None:
    code = Code.from_circuit(memory(3, 6, 0.01))
    for shape in ((2, 7, 2), (2, 7), (2, 2, 1)):
        with pytest.raises(DataError):
            decode_shots(code, Tier.MATCHING, WHOLE, np.zeros(shape, dtype=np.uint8))
