"""Recorded experiments on disk: which file is meant, and what is refused before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.circuits import memory, with_sweeps
from helpers.replays import Recorded, record
from qdec.codes import Code
from qdec.errors import CodeError, DataError
from qdec_tools.recording import DEM, Sources, open_recording
from qdec_tools.shots import open_shots

SHOTS = 20


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    one = record(tmp_path, with_sweeps(memory(d=3, rounds=4, p=0.01)), SHOTS)
    circuit = one.circuit
    circuit.to_file(tmp_path / "circuit_noisy.stim")
    one.save("detection_events.b8", one.dets, circuit.num_detectors)
    one.save("measurements.b8", one.measurements, circuit.num_measurements, "measurements")
    one.save("sweep.b8", one.sweep, circuit.num_sweep_bits, "measurements")
    one.save("obs_flips_actual.01", one.obs, 1, "observables")
    return one


def dem_text(one: Recorded) -> str:
    return str(Code.from_circuit(one.circuit).dem)


def test_records_are_the_codes_own(recorded: Recorded) -> None:
    dets = open_recording(Sources(recorded.folder))
    raw = open_recording(Sources(recorded.folder, raw=True))
    assert (len(dets), dets.raw, len(raw), raw.raw) == (SHOTS, False, SHOTS, True)
    layout = dets.code.layout
    rounds = layout.num_rounds
    want = layout.to_records(recorded.dets).reshape(-1, layout.record_bytes)
    assert (dets.records(0, SHOTS) == want).all()
    assert (dets.records(3, 7) == want[3 * rounds : 7 * rounds]).all()
    assert raw.code.measurements is not None
    measured = raw.code.measurements.to_records(recorded.measurements, recorded.sweep)
    assert (raw.records(5, 9) == measured[5:9].reshape(-1, measured.shape[2])).all()


def test_the_folders_own_dem_goes_before_its_circuit_before_any_other(recorded: Recorded) -> None:
    def kind() -> str:
        return open_recording(Sources(recorded.folder)).text.kind

    (recorded.folder / "other.dem").write_text(dem_text(recorded))
    assert kind() == "circuit"
    (recorded.folder / DEM).write_text(dem_text(recorded))
    assert kind() == "dem"
    (recorded.folder / DEM).unlink()
    (recorded.folder / "circuit_noisy.stim").unlink()
    assert kind() == "dem"


def test_measurements_are_replayed_where_there_are_no_events(recorded: Recorded) -> None:
    (recorded.folder / "detection_events.b8").unlink()
    assert open_recording(Sources(recorded.folder)).raw


def test_predictions_are_found_and_a_wrong_one_is_a_note(recorded: Recorded) -> None:
    recorded.save("obs_flips_predicted_by_a.01", recorded.predicted, 1, "observables")
    recorded.save("b_pred_c.b8", recorded.predicted, 1, "observables")
    recorded.save("obs_flips_predicted_by_short.01", recorded.predicted[1:], 1, "observables")
    found = open_recording(Sources(recorded.folder))
    assert sorted(found.predictions) == ["b_pred_c.b8", "obs_flips_predicted_by_a.01"]
    assert any("not compared" in note and "short" in note for note in found.notes)


def _several_dems(one: Recorded) -> Sources:
    (one.folder / "circuit_noisy.stim").unlink()
    for name in ("a.dem", "b.dem"):
        (one.folder / name).write_text(dem_text(one))
    return Sources(one.folder)


def _no_code(one: Recorded) -> Sources:
    (one.folder / "circuit_noisy.stim").unlink()
    return Sources(one.folder)


def _no_circuit_for_raw(one: Recorded) -> Sources:
    (one.folder / "circuit_noisy.stim").rename(one.folder / "c.stim")
    (one.folder / DEM).write_text(dem_text(one))
    return Sources(one.folder, raw=True)


def _no_shots(one: Recorded) -> Sources:
    (one.folder / "detection_events.b8").unlink()
    (one.folder / "measurements.b8").unlink()
    return Sources(one.folder)


def _no_sweep(one: Recorded) -> Sources:
    (one.folder / "sweep.b8").unlink()
    return Sources(one.folder, raw=True)


def _other_count(one: Recorded) -> Sources:
    return Sources(one.folder, obs=one.save("o.b8", one.obs[1:], 1, "observables"))


def _sweep_without_need(one: Recorded) -> Sources:
    return Sources(one.folder, sweep=one.folder / "sweep.b8")


def _dem_for_raw(one: Recorded) -> Sources:
    (one.folder / "a.dem").write_text(dem_text(one))
    return Sources(one.folder, dem=one.folder / "a.dem", raw=True)


def _bad_map(one: Recorded) -> Sources:
    (one.folder / "map").write_text("0\n1\nx\n")
    return Sources(one.folder, round_map=one.folder / "map")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_several_dems, r"several DEMs \(a.dem, b.dem\).*--dem"),
        (_no_code, "neither circuit_noisy.stim nor"),
        (_no_circuit_for_raw, "no circuit_noisy.stim"),
        (_no_shots, "no detection_events.b8 nor measurements.b8"),
        (_no_sweep, "10 sweep bits.*--sweep"),
        (_other_count, "19 shots.*20.*do not belong together"),
        (_sweep_without_need, "--sweep goes with raw"),
        (_dem_for_raw, "does not say how measurements"),
        (lambda one: Sources(one.folder / "no"), "not a folder"),
        (lambda one: Sources(one.folder, dets=one.folder / "a.b8", raw=True), "choose one"),
        (lambda one: Sources(dem=one.folder / "a.dem"), "what should be replayed"),
        (lambda one: Sources(dets=one.folder / "detection_events.b8"), "which code"),
        (
            lambda one: Sources(one.folder, circuit=one.folder, dem=one.folder),
            "--circuit and --dem",
        ),
        (lambda one: Sources(one.folder, dets=one.folder / "no.b8"), "cannot read .*no.b8"),
    ],
)
def test_what_is_unclear_or_missing_is_said(
    recorded: Recorded, make: Callable[[Recorded], Sources], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_recording(make(recorded))


def test_a_code_or_map_that_cannot_be_read_is_a_code_error(recorded: Recorded) -> None:
    with pytest.raises(CodeError, match=r"cannot read the code .*no.dem: No such file"):
        open_recording(Sources(recorded.folder, dem=recorded.folder / "no.dem"))
    with pytest.raises(CodeError, match=r"cannot read the round map .*no.map: No such file"):
        open_recording(Sources(recorded.folder, round_map=recorded.folder / "no.map"))
    with pytest.raises(CodeError, match="map:3: 'x' is not a round number"):
        open_recording(_bad_map(recorded))


def test_another_codes_events_are_refused(recorded: Recorded) -> None:
    other = memory(d=3, rounds=6, p=0.01)
    other.to_file(recorded.folder / "other.stim")
    with pytest.raises(DataError, match="belongs to another code"):
        open_recording(Sources(recorded.folder, circuit=recorded.folder / "other.stim"))


def test_bits_beyond_the_last_detector_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.b8").write_bytes(bytes([255, 15] * 4 + [0, 16]))
    file = open_shots(tmp_path / "a.b8", "detectors", 12)
    assert len(file.read(0, 4)) == 4
    with pytest.raises(DataError, match="shot 4 has bits set beyond its 12 detectors"):
        file.read(2, 5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.b8", b"", "empty"),
        ("a.01", b"", "empty"),
        ("a.b8", b"123", "3 bytes are not whole shots of 2 bytes .12 detectors.*1 are left over"),
        ("a.01", b"000000000000\n0000", "17 bytes are not whole lines of 13"),
        ("a.01", b"00000000000\n", "first line has 11 characters and the code 12"),
        ("a.01", b"0000000000000\n", "first line has 13"),
        ("a.01", b"000000000000", "truncated"),
        ("a.01", b"0000000x0000\n", "cannot be read as 01: Unexpected character"),
        ("a.dets", b"shot D1\nshot D1", "ends in the middle of a line"),
        ("a.dets", b"shot D12\n", "larger than expected"),
        ("a.dets", b"nonsense\n", "cannot be read as dets"),
        ("a.dets", b"shot D99999999999999999999999\n", "cannot be read as dets"),
        ("a.dets", b"shot M0\n", "larger than expected"),
        ("a.csv", b"0,1\n", "one of .b8, .01, .dets"),
    ],
)
def test_files_are_checked_before_they_are_used(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_shots(tmp_path / name, "detectors", 12, observables=1)


def test_a_dets_file_holds_flips_only_if_it_mentions_one(tmp_path: Path) -> None:
    (tmp_path / "without.dets").write_bytes(b"shot D0\nshot\n")
    assert open_shots(tmp_path / "without.dets", "detectors", 3, observables=2).flips is None
    (tmp_path / "with.dets").write_bytes(b"shot D0 D2 L1\nshot\n")
    file = open_shots(tmp_path / "with.dets", "detectors", 3, observables=2)
    assert file.flips is not None
    assert file.read(0, 2).tolist() == [[5], [0]]
    assert file.flips.read(0, 2).tolist() == [[2], [0]]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.01").write_bytes(b"0011\r\n1000\r\n")
    file = open_shots(tmp_path / "a.01", "observables", 4)
    assert file.read(0, len(file)).tolist() == [[12], [1]]


def test_large_b8_files_are_not_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse.b8"
    with path.open("wb") as file:
        file.truncate(1 << 36)
    shots = open_shots(path, "detectors", 64)
    assert len(shots) == 1 << 33
    assert not shots.read((1 << 33) - 2, 1 << 33).any()


def test_sources_replace_what_the_folder_has(recorded: Recorded) -> None:
    flipped = recorded.save("o.b8", recorded.obs ^ 1, 1, "observables")
    found = open_recording(replace(Sources(recorded.folder), obs=flipped))
    assert found.truth is not None
    assert np.array_equal(found.truth.read(0, SHOTS), recorded.obs ^ 1)
