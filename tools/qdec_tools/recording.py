"""A recorded experiment: which file holds the code, the shots, the truth, others' answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qdec.bits import Bytes
from qdec.client import CodeText
from qdec.codes import Code
from qdec.codes.code import CodeKind, read_code_text, read_round_map
from qdec.errors import DataError
from qdec_tools.shots import FORMATS, ShotFile, open_shots

CIRCUIT = "circuit_noisy.stim"
DEM = "circuit_detector_error_model.dem"
_PREDICTIONS = ("obs_flips_predicted_by_*", "*_pred_*")


@dataclass(frozen=True, slots=True)
class Sources:
    """What a person named; what they did not is looked for in `folder`.

    Attributes:
        folder: an experiment's folder, with Google's file names.
        circuit, dem: the code; the folder's own DEM, else its circuit, else its only ``*.dem``.
        dets: detection events.
        measurements, sweep: raw measurements, and the sweep bits of each shot.
        obs: the observables' actual flips.
        round_map: one round per line and detector, for codes without coordinates.
        raw: replay measurements even where there are detection events.
    """

    folder: Path | None = None
    circuit: Path | None = None
    dem: Path | None = None
    dets: Path | None = None
    measurements: Path | None = None
    sweep: Path | None = None
    obs: Path | None = None
    round_map: Path | None = None
    raw: bool = False

    def found(self, name: str) -> Path | None:
        """The file of the folder whose name is `name` and any suffix of `FORMATS`."""
        if self.folder is None:
            return None
        paths = (self.folder / (name + suffix) for suffix in FORMATS)
        return next((path for path in paths if path.exists()), None)


@dataclass(slots=True)
class Recording:
    """Shots and all that belongs to them.

    Attributes:
        name: for the title of a table.
        text: the code as it is sent to a service.
        code: the same, parsed.
        raw: the shots are measurements.
        shots: detection events or measurements.
        sweep: sweep bits, where the circuit has them.
        truth: actual flips, where they are known.
        predictions: other decoders' answers by file name.
        notes: what a person should know.
    """

    name: str
    text: CodeText
    code: Code
    raw: bool
    shots: ShotFile
    sweep: ShotFile | None = None
    truth: ShotFile | None = None
    predictions: dict[str, ShotFile] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Shots."""
        return len(self.shots)

    def records(self, start: int, stop: int) -> Bytes:
        """Shots `start` to `stop` as a stream sends them: ``(n * rounds, record_bytes)`` uint8."""
        rows = self.shots.read(start, stop)
        if self.raw:
            assert self.code.measurements is not None
            sweep = None if self.sweep is None else self.sweep.read(start, stop)
            records = self.code.measurements.to_records(rows, sweep)
        else:
            records = self.code.layout.to_records(rows)
        return records.reshape(-1, records.shape[2])


def open_recording(sources: Sources, given: CodeText | None = None) -> Recording:
    """Find, check and open everything.

    Args:
        sources: where to look.
        given: the code, if it is at hand already.

    Raises:
        DataError: a file is missing, does not fit, or it is unclear which one is meant.
        CodeError: the code cannot be served.
    """
    if sources.folder is not None and not sources.folder.is_dir():
        raise DataError(
            f"{sources.folder} is not a folder: give an experiment's folder, or single files with "
            "--circuit or --dem, and --dets or --measurements"
        )
    path, raw = _choose_shots(sources)
    text, origin = (given, "what was given") if given else _read_code(sources, raw)
    code = Code.parse(text.kind, text.text, round_map=text.round_map)
    name = (sources.folder or path.parent).resolve().name
    shots = _open_shots(path, code, raw)
    recording = Recording(name, text, code, raw, shots)
    recording.notes.append(f"code from {origin}, shots from {path.name}")
    if raw:
        recording.sweep = _open_sweep(sources, code, shots)
    elif sources.sweep is not None:
        raise DataError("--sweep goes with raw measurements: detection events do not need it")
    recording.truth = _open_truth(sources, code, shots)
    if sources.folder is not None:
        _open_predictions(sources.folder, recording)
    return recording


def _choose_shots(sources: Sources) -> tuple[Path, bool]:
    """The file of shots, and whether they are raw measurements."""
    if sources.dets is not None and (sources.raw or sources.measurements is not None):
        raise DataError("--dets goes without --measurements and --raw: choose one of the two")
    if sources.measurements is not None:
        return sources.measurements, True
    if sources.dets is not None:
        return sources.dets, False
    if sources.folder is None:
        raise DataError("what should be replayed? Give a folder, --dets or --measurements")
    names = ("measurements",) if sources.raw else ("detection_events", "measurements")
    for name in names:
        path = sources.found(name)
        if path is not None:
            return path, name == "measurements"
    wanted = " nor ".join(f"{name}.b8" for name in names)
    raise DataError(f"{sources.folder} holds no {wanted} (nor with suffix .01 or .dets)")


def _read_code(sources: Sources, raw: bool) -> tuple[CodeText, str]:
    """The code, and the name of its file."""
    kind, path = _choose_code(sources, raw)
    round_map = None if sources.round_map is None else read_round_map(sources.round_map)
    return CodeText(kind, read_code_text(path), round_map), path.name


def _choose_code(sources: Sources, raw: bool) -> tuple[CodeKind, Path]:
    if sources.circuit is not None and sources.dem is not None:
        raise DataError("--circuit and --dem both name the code: give one of them")
    if sources.circuit is not None:
        return "circuit", sources.circuit
    if sources.dem is not None:
        if raw:
            raise DataError(
                "a DEM does not say how measurements make detectors: replay detection events "
                "with --dem, or measurements with --circuit"
            )
        return "dem", sources.dem
    if sources.folder is None:
        raise DataError("which code is it? Give --circuit or --dem")
    circuit, dem = sources.folder / CIRCUIT, sources.folder / DEM
    if raw:
        if circuit.is_file():
            return "circuit", circuit
        raise DataError(
            f"{sources.folder} has no {CIRCUIT}, which says how measurements make detectors: "
            "give --circuit"
        )
    if dem.is_file():
        return "dem", dem
    if circuit.is_file():
        return "circuit", circuit
    others = sorted(sources.folder.glob("*.dem"))
    if len(others) == 1:
        return "dem", others[0]
    if others:
        names = ", ".join(path.name for path in others)
        raise DataError(f"{sources.folder} holds several DEMs ({names}): choose one with --dem")
    raise DataError(f"{sources.folder} has neither {CIRCUIT} nor a *.dem: give --circuit or --dem")


def _open_shots(path: Path, code: Code, raw: bool) -> ShotFile:
    if raw:
        assert code.measurements is not None
        return open_shots(path, "measurements", code.measurements.num_measurements)
    layout = code.layout
    return open_shots(path, "detectors", layout.num_detectors, observables=code.num_observables)


def _open_sweep(sources: Sources, code: Code, shots: ShotFile) -> ShotFile | None:
    assert code.measurements is not None
    bits = code.measurements.num_sweep_bits
    path = sources.sweep or sources.found("sweep")
    if not bits:
        if sources.sweep is not None:
            raise DataError(f"--sweep {sources.sweep}: the circuit has no sweep bits")
        return None
    if path is None:
        raise DataError(f"the circuit has {bits} sweep bits per shot: give them with --sweep")
    return _matching(open_shots(path, "sweep bits", bits), shots)


def _open_truth(sources: Sources, code: Code, shots: ShotFile) -> ShotFile | None:
    path = sources.obs or sources.found("obs_flips_actual")
    if path is None:
        return shots.flips
    return _matching(open_shots(path, "observables", code.num_observables), shots)


def _matching(file: ShotFile, shots: ShotFile) -> ShotFile:
    if len(file) != len(shots):
        raise DataError(
            f"{file.path} holds {len(file):,} shots and {shots.path} {len(shots):,}: "
            "they do not belong together, or one is truncated"
        )
    return file


def _open_predictions(folder: Path, recording: Recording) -> None:
    """Other decoders' answers are a courtesy: one that does not fit is a note, not an error."""
    paths = {path for pattern in _PREDICTIONS for path in folder.glob(pattern)}
    for path in sorted(path for path in paths if path.suffix in FORMATS):
        try:
            file = open_shots(path, "observables", recording.code.num_observables)
            recording.predictions[path.name] = _matching(file, recording.shots)
        except DataError as error:
            recording.notes.append(f"not compared: {error}")
