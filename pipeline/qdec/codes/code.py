"""A code as the decoder sees it, made once from a Stim circuit or detector error model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import stim

from qdec.codes.limits import (
    Limits,
    check_bound,
    check_circuit,
    check_dem,
    parse_circuit,
    parse_dem,
)
from qdec.codes.measurements import MeasurementMap, MeasurementRounds, read_measurements
from qdec.codes.mechanisms import read_mechanisms
from qdec.codes.parts import Part, split
from qdec.codes.rounds import RoundLayout
from qdec.codes.spacetime import SpaceTime
from qdec.errors import CodeError

CodeKind = Literal["circuit", "dem"]
Basis = Literal["X", "Z"]
DEFAULT_LIMITS = Limits()
# Finding a shortest graphlike error takes time that grows with the model; beyond this the
# distance must be given.
_DISTANCE_SEARCH_DETECTORS = 20_000


@dataclass(frozen=True, eq=False)
class Code:
    """A circuit or DEM with its rounds, repetition, and (for circuits) measurement conversion.

    Attributes:
        digest: 32-byte SHA-256 of what it was made from; the code's identity everywhere.
        dem: the detector error model, as given or as Stim derives it from the circuit.
        layout: detectors by round.
        spacetime: mechanisms by round, and what repeats.
        measurements: raw measurements → detectors; None for a code given as a DEM.
        undetectable: mechanisms, or parts of them, that flip no detector: no decoder sees them.
        detector_spacetime: the same as `spacetime`, for streams of detectors, whatever their
            measurements: it may repeat where those do not.
        shape: 32-byte digest of what its rounds look like, whatever the probabilities of faults:
            which bit of which round is which detector, and how measurements become detectors.
            Codes with equal shapes take over from one another at any commit boundary.
        readout: the Pauli basis in which the circuit reads its data out at the end; None for a
            code given as a DEM, or where it is neither X nor Z.
    """

    digest: bytes
    dem: stim.DetectorErrorModel
    layout: RoundLayout
    spacetime: SpaceTime
    measurements: MeasurementMap | None
    undetectable: int
    detector_spacetime: SpaceTime
    shape: bytes
    readout: Basis | None = None

    @classmethod
    def parse(
        cls,
        kind: CodeKind,
        text: str,
        *,
        round_map: Sequence[int] | None = None,
        prior: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Code:
        """Make a code from text.

        Args:
            kind: what the text is.
            text: Stim's text format.
            round_map: round of each detector, where there are no time coordinates.
            prior: a DEM of the same detectors and observables, with the faults (and their
                probabilities) to decode by instead of the text's own.
            limits: bounds, checked before anything is expanded.

        Raises:
            CodeTooLarge: a bound is exceeded.
            CodeError: the text is malformed, empty, has no observables, undecomposed hyperedges,
                or detectors without a round; or the prior is of another code.
        """
        faults = None if prior is None else parse_dem(prior, limits)
        dem, circuit = read_dem(kind, text, limits)
        digest = _digest(kind, text, round_map, prior)  # of what is known to be text
        return cls._make(digest, dem, faults, circuit, round_map, limits)

    @classmethod
    def from_circuit(cls, circuit: stim.Circuit, **options: Any) -> Code:
        """Make a code from a circuit that is already in memory (same checks)."""
        check_circuit(circuit, DEFAULT_LIMITS)
        return cls.parse("circuit", str(circuit), **options)

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        round_map: Path | None = None,
        prior: Path | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Code:
        """Make a code from a file, and others with its rounds and its prior; see `parse`.

        Raises:
            CodeError: as `parse`, or a file cannot be read.
        """
        rounds = None if round_map is None else read_round_map(round_map, limits)
        text = read_code_text(path, limits)
        faults = None if prior is None else read_code_text(prior, limits)
        return cls.parse(code_kind(path), text, round_map=rounds, prior=faults, limits=limits)

    @classmethod
    def _make(
        cls,
        digest: bytes,
        dem: stim.DetectorErrorModel,
        prior: stim.DetectorErrorModel | None,
        circuit: stim.Circuit | None,
        round_map: Sequence[int] | None,
        limits: Limits,
    ) -> Code:
        if dem.num_detectors == 0:
            raise CodeError("the detector error model is empty: it has no detectors")
        if dem.num_observables == 0:
            raise CodeError("the code has no logical observables: there is no frame to keep")
        layout = RoundLayout.from_dem(dem, round_map)
        if prior is not None:
            dem = _with_faults(dem, prior)
        mechanisms = read_mechanisms(dem)
        # One crowded round among many sparse ones: every record is as long as the longest.
        slots = layout.num_rounds * layout.record_bytes * 8
        check_bound("bits of a shot's round records", slots, limits.slots)
        parts = None if circuit is None else read_measurements(circuit, layout)
        detector_spacetime, spacetime = SpaceTime.build(
            layout, mechanisms, dem.num_observables, None if parts is None else parts.fingerprints
        )
        measured = None if parts is None else MeasurementMap(parts, spacetime)
        if measured is not None:
            slots = layout.num_rounds * measured.record_bytes * 8
            check_bound("bits of a shot's measurement records", slots, limits.slots)
        return cls(
            digest,
            dem,
            layout,
            spacetime,
            measured,
            mechanisms.undetectable,
            detector_spacetime,
            _shape(layout, dem.num_observables, parts),
            None if circuit is None else readout_basis(circuit),
        )

    def streamed(self, *, raw: bool) -> Code:
        """The code as it is to a stream of measurements (`raw`) or of detectors.

        They differ where detectors repeat and their measurements do not: in a circuit that runs
        one patch after the other, say. To a stream of detectors such a code has no measurements.
        """
        return self if raw or self.detector_spacetime is self.spacetime else self._as_detectors

    @cached_property
    def _as_detectors(self) -> Code:
        return replace(self, spacetime=self.detector_spacetime, measurements=None)

    @property
    def num_observables(self) -> int:
        """Logical observables: bits of a frame."""
        return self.spacetime.num_observables

    def split(self, count: int) -> tuple[Part, ...]:
        """The code's parts, if its matching graph falls apart; worked out once for each count.

        Raises:
            CodeError: it does not, or not into so many.
        """
        if count not in self._splits:
            self._splits[count] = split(self.spacetime, count)
        return self._splits[count]

    @cached_property
    def _splits(self) -> dict[int, tuple[Part, ...]]:
        return {}

    @cached_property
    def distance(self) -> int | None:
        """Graphlike distance: mechanisms in the smallest undetected logical error.

        None where the model is too large to search, or has no such error. Measured on the
        template; a stretched stream has the same spacelike distance.
        """
        if self.layout.num_detectors > _DISTANCE_SEARCH_DETECTORS:
            return None
        return graphlike_distance(self.dem)


def read_dem(
    kind: CodeKind, text: str, limits: Limits = DEFAULT_LIMITS
) -> tuple[stim.DetectorErrorModel, stim.Circuit | None]:
    """The detector error model of a text, and the circuit that it was derived from, if any.

    Raises:
        CodeTooLarge: a bound is exceeded.
        CodeError: the text is malformed, or the circuit has faults that cannot be decomposed.
    """
    if kind == "dem":
        return parse_dem(text, limits), None
    circuit = parse_circuit(text, limits)
    try:
        dem = circuit.detector_error_model(decompose_errors=True, approximate_disjoint_errors=True)
    except ValueError as error:
        first_line = str(error).strip().splitlines()[0]
        raise CodeError(f"Stim cannot derive a matchable DEM: {first_line}") from None
    check_dem(dem, limits)
    return dem, circuit


def readout_basis(circuit: stim.Circuit) -> Basis | None:
    """The basis of a circuit's last measurement, by its instruction's name: MX or M."""
    for i in range(len(circuit) - 1, -1, -1):
        item = circuit[i]
        if isinstance(item, stim.CircuitRepeatBlock):
            found = readout_basis(item.body_copy())
            if found is not None:
                return found
        elif item.num_measurements:
            named: dict[str, Basis] = {"M": "Z", "MR": "Z", "MX": "X", "MRX": "X"}
            return named.get(item.name)
    return None


def graphlike_distance(dem: stim.DetectorErrorModel) -> int | None:
    """Mechanisms in the smallest undetected logical error, however long the search takes.

    None where there is no such error.
    """
    try:
        return len(dem.shortest_graphlike_error())
    except ValueError:
        return None


def _with_faults(
    dem: stim.DetectorErrorModel, prior: stim.DetectorErrorModel
) -> stim.DetectorErrorModel:
    """The detectors of one model (and where they are), the faults of another.

    Raises:
        CodeError: they have not the same detectors and observables.
    """
    ours = dem.num_detectors, dem.num_observables
    its = prior.num_detectors, prior.num_observables
    if ours != its:
        raise CodeError(
            f"the prior has {its[0]} detectors and {its[1]} observables, the code {ours[0]} and "
            f"{ours[1]}: it is another code's"
        )
    both = stim.DetectorErrorModel()
    for instruction in prior.flattened():
        if instruction.type == "error":
            both.append(instruction)
    for instruction in dem.flattened():
        if instruction.type != "error":
            both.append(instruction)
    return both


def _shape(layout: RoundLayout, observables: int, readings: MeasurementRounds | None) -> bytes:
    """See `Code.shape`."""
    key = hashlib.sha256(f"{layout.num_rounds} {layout.num_detectors} {observables}".encode())
    key.update(layout.round_of.astype("<i8").tobytes())
    key.update(layout.bit_of.astype("<i8").tobytes())
    if readings is not None:
        key.update(f"{readings.num_sweep_bits} {readings.lookback}".encode())
        key.update(readings.fingerprints.astype("<u8").tobytes())
    return key.digest()


def _digest(kind: CodeKind, text: str, round_map: Sequence[int] | None, prior: str | None) -> bytes:
    key = hashlib.sha256(f"{kind}\0{text}".encode())
    if prior is not None:
        key.update(b"\0prior\0" + hashlib.sha256(prior.encode()).digest())
    if round_map is not None:
        try:
            key.update(np.asarray(round_map, dtype="<i8").tobytes())
        except (OverflowError, TypeError, ValueError) as error:
            raise CodeError(f"the round map does not hold round numbers: {error}") from None
    return key.digest()


def code_kind(path: Path) -> CodeKind:
    """What a code file holds: ``*.dem`` a DEM, anything else a circuit."""
    return "dem" if path.suffix == ".dem" else "circuit"


def read_code_text(path: Path, limits: Limits = DEFAULT_LIMITS) -> str:
    """Read a code file, refusing one larger than `limits.text_bytes` before reading it.

    Raises:
        CodeError: the file is missing, unreadable, too large or not UTF-8.
    """
    return _read_text(path, "code", limits)


def read_round_map(path: Path, limits: Limits = DEFAULT_LIMITS) -> list[int]:
    """Read the round of each detector, one per line.

    Raises:
        CodeError: as `read_code_text`, or a line holds no number.
    """
    rounds = []
    for number, line in enumerate(_read_text(path, "round map", limits).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rounds.append(int(line))
        except ValueError:
            raise CodeError(
                f"{path}:{number}: '{line.strip()[:40]}' is not a round number (one per detector "
                "and line)"
            ) from None
    return rounds


def _read_text(path: Path, what: str, limits: Limits) -> str:
    try:
        size = path.stat().st_size
        if size > limits.text_bytes:
            raise CodeError(f"{path}: {size:,} bytes exceed the limit of {limits.text_bytes:,}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise CodeError(f"cannot read the {what} {path}: {why}") from None
