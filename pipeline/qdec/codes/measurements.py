"""Raw measurements to detection events, round by round, as they stream in.

A detector is the parity of some measurements, compared with what a noiseless run would give; sweep
bits (the random initial state of Google's experiments) flip some of them. Over GF(2) that is an
affine map, read off the circuit's own annotations (the measurements) and off Stim's converter (the
constants and the sweep bits), so the stream gives bit for bit what Stim gives for the whole shot.

A round's measurement record holds the measurements that became available since the round before,
in measurement order, LSB first, padded to the same number of bytes for every round: up to the last
one that the round's detectors need, and what the same instruction read beside it. The record of a
shot's first round carries the shot's sweep bits in further bytes behind its measurements.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.bits import Bytes, num_bytes, pack, unpack
from qdec.codes.rounds import RoundLayout
from qdec.codes.spacetime import SpaceTime
from qdec.errors import CodeError, DataError

Ints = NDArray[np.int64]
_MAX_LOOKBACK = 4096
_SWEEP_BATCH = 64


@dataclass(frozen=True, slots=True)
class _RoundMap:
    """How one class of rounds makes its detectors.

    Attributes:
        measurements: measurements in the round's record.
        lookback, bit: ``(num_detectors, k)`` the detector is the parity of these measurements:
            bit `bit` of the record `lookback` rounds ago; bit -1 pads.
        constant: ``(num_detectors,)`` 0/1 to XOR.
        sweep: ``(num_sweep_bits, num_detectors)`` 0/1; sweep bits to XOR.
        observables: (observable, bit of this record) pairs that enter an observable.
    """

    measurements: int
    lookback: Ints
    bit: Ints
    constant: Bytes
    sweep: Bytes
    observables: tuple[tuple[int, int], ...]

    def fingerprint(self) -> int:
        """64-bit hash; equal for rounds that convert alike."""
        parity = sorted(
            (d, int(back), int(bit))
            for d in range(len(self.bit))
            for back, bit in zip(self.lookback[d], self.bit[d], strict=True)
            if bit >= 0
        )
        text = repr((self.measurements, parity, self.observables)).encode()
        digest = hashlib.blake2b(text, digest_size=8)
        digest.update(self.constant.tobytes())
        digest.update(self.sweep.tobytes())
        return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True, slots=True)
class MeasurementRounds:
    """The conversion of every round of the template circuit, before repetition is folded."""

    rounds: tuple[_RoundMap, ...]
    num_sweep_bits: int
    lookback: int
    measurement_starts: Ints

    @property
    def fingerprints(self) -> NDArray[np.uint64]:
        """``(num_rounds,)``, for `SpaceTime.build`."""
        return np.array([r.fingerprint() for r in self.rounds], dtype=np.uint64)


def read_measurements(circuit: stim.Circuit, layout: RoundLayout) -> MeasurementRounds:
    """Read a (bounded) circuit's detectors as parities of measurements, by round.

    Raises:
        CodeError: a detector of an early round needs a measurement thousands of rounds before it,
            or the circuit cannot be run.
    """
    detectors, observables, instruction_of = _parities(circuit)
    ends = _round_ends(detectors, instruction_of, layout)
    starts = np.concatenate([[0], ends[:-1]])
    round_of_measurement = np.repeat(np.arange(layout.num_rounds), ends - starts)

    constant, sweep = _affine_part(circuit)
    by_round: list[list[int]] = [[] for _ in range(layout.num_rounds)]
    for detector in np.argsort(layout.bit_of, kind="stable"):
        by_round[layout.round_of[detector]].append(int(detector))
    included: list[list[tuple[int, int]]] = [[] for _ in range(layout.num_rounds)]
    for observable, records in sorted(observables.items()):
        for record in sorted(records):
            r = int(round_of_measurement[record])
            included[r].append((observable, record - int(starts[r])))

    maps: list[_RoundMap] = []
    deepest = 0
    for r, members in enumerate(by_round):
        width = max((len(detectors[d]) for d in members), default=0)
        lookback = np.zeros((len(members), width), dtype=np.int64)
        bit = np.full((len(members), width), -1, dtype=np.int64)
        for i, detector in enumerate(members):
            for j, record in enumerate(sorted(detectors[detector])):
                lookback[i, j] = r - round_of_measurement[record]
                bit[i, j] = record - starts[round_of_measurement[record]]
        deepest = max(deepest, int(lookback.max(initial=0)))
        maps.append(
            _RoundMap(
                int(ends[r] - starts[r]),
                lookback,
                bit,
                constant[members],
                np.ascontiguousarray(sweep[:, members]),
                tuple(included[r]),
            )
        )
    if deepest > _MAX_LOOKBACK:
        raise CodeError(f"a detector reaches back {deepest} rounds; the limit is {_MAX_LOOKBACK}")
    return MeasurementRounds(tuple(maps), circuit.num_sweep_bits, deepest, starts)


def _round_ends(detectors: list[set[int]], instruction_of: list[int], layout: RoundLayout) -> Ints:
    """One past the last measurement of each round's record."""
    ends = np.zeros(layout.num_rounds, dtype=np.int64)
    newest = {max(records) for records in detectors if records}
    for detector, records in enumerate(detectors):
        if records:
            r = layout.round_of[detector]
            ends[r] = max(ends[r], max(records) + 1)
    ends = np.maximum.accumulate(ends)
    # A memory's first round has detectors of one basis only; its other ancillas are read at the
    # same moment, and electronics send them together. They do not wait for the next round.
    beside = 0
    for r, end in enumerate(ends.tolist()):
        beside = max(beside, end)
        while (
            0 < beside < len(instruction_of)
            and instruction_of[beside] == instruction_of[beside - 1]
            and beside not in newest
        ):
            beside += 1
        ends[r] = beside
    ends[-1] = len(instruction_of)  # what no detector needs rides with the last round
    return ends


class MeasurementMap:
    """Streaming conversion of measurement records to detector records.

    Attributes:
        record_bytes: bytes of one round's measurement record.
        lookback: how many earlier records a round's detectors need (0 or more; typically 1 with
            ancilla reset and 2 without).
        num_sweep_bits: sweep bits per shot.
    """

    def __init__(self, parts: MeasurementRounds, spacetime: SpaceTime) -> None:
        """Keep one conversion per class of rounds."""
        self._spacetime = spacetime
        template = [
            *range(spacetime.head + spacetime.period),
            *range(spacetime.rounds - spacetime.tail, spacetime.rounds),
        ]
        self._maps: list[_RoundMap] = [parts.rounds[r] for r in template]
        self._starts = parts.measurement_starts
        self._template = parts.rounds
        self.num_sweep_bits = parts.num_sweep_bits
        self.lookback = parts.lookback
        self.sweep_bytes = num_bytes(parts.num_sweep_bits)
        self.record_bytes = max(
            max(num_bytes(m.measurements) for m in parts.rounds),
            self.sweep_offset + self.sweep_bytes,
        )
        self._row = self.record_bytes * 8 + 8  # a byte of zeros behind each record, for padding
        self._columns = [self._gather(m) for m in self._maps]

    @property
    def sweep_offset(self) -> int:
        """Byte of the first round's record at which the sweep bits start."""
        return num_bytes(self._template[0].measurements)

    @property
    def num_measurements(self) -> int:
        """Measurements of the template shot."""
        return int(self._starts[-1]) + self._template[-1].measurements

    def _gather(self, m: _RoundMap) -> Ints:
        zero = self.lookback * self._row + self.record_bytes * 8
        at = (self.lookback - m.lookback) * self._row + m.bit
        return np.where(m.bit >= 0, at, zero).T.copy()

    def used_bits(self, round_: int, length: int | None) -> int:
        """Leading bits of a round's record that may be set; sweep bits follow in round 0."""
        return self._maps[self._spacetime.class_of(round_, length)].measurements

    def converts_alike(self, class_: int, other: int) -> bool:
        """Whether two classes of rounds make their detectors in the same way."""
        return self._maps[class_].fingerprint() == self._maps[other].fingerprint()

    def convert(
        self, records: Bytes, first_round: int, length: int | None, history: Bytes, sweep: Bytes
    ) -> Bytes:
        """Convert consecutive rounds of one or more shots at once.

        Args:
            records: ``(k, n, record_bytes)`` uint8: the same `n` rounds of `k` shots.
            first_round: round within the shot of ``records[:, 0]``.
            length: rounds per shot; None where no end is in sight.
            history: ``(k, lookback, record_bytes)`` the records before (zeros before a shot's
                start).
            sweep: ``(k, sweep_bytes)`` packed sweep bits of each shot.

        Returns:
            ``(k, n, layout.record_bytes)`` uint8 detector records.
        """
        shots, count, _ = records.shape
        layout = self._spacetime.layout
        rows = np.zeros((shots, self.lookback + count, self._row), dtype=np.uint8)
        rows[:, : self.lookback, : self._row - 8] = unpack(history, self._row - 8)
        rows[:, self.lookback :, : self._row - 8] = unpack(records, self._row - 8)
        flat = rows.reshape(shots, -1)
        out = np.zeros((shots, count, layout.record_bytes), dtype=np.uint8)
        start = 0
        while start < count:
            class_ = self._spacetime.class_of(first_round + start, length)
            stop = start + 1
            while stop < count and self._spacetime.class_of(first_round + stop, length) == class_:
                stop += 1
            m = self._maps[class_]
            at = np.arange(start, stop)[:, None] * self._row
            bits = np.broadcast_to(m.constant, (shots, stop - start, len(m.constant))).copy()
            for column in self._columns[class_]:
                bits ^= flat[:, at + column[None, :]]
            if m.sweep.any():
                flips = (unpack(sweep, self.num_sweep_bits).astype(np.int64) @ m.sweep) & 1
                bits ^= flips.astype(np.uint8)[:, None, :]
            packed = pack(bits)
            out[:, start:stop, : packed.shape[-1]] = packed
            start = stop
        return out

    def effect_of(
        self, round_: int, bit: int, length: int | None
    ) -> tuple[list[tuple[int, int]], list[int]]:
        """What one flipped measurement flips: detectors as (round, bit), and observables."""
        here = self._maps[self._spacetime.class_of(round_, length)]
        detectors: list[tuple[int, int]] = []
        last = round_ + self.lookback + 1
        for r in range(round_, last if length is None else min(last, length)):
            m = self._maps[self._spacetime.class_of(r, length)]
            hits = (m.bit == bit) & (m.lookback == r - round_)
            detectors.extend((r, int(d)) for d in np.flatnonzero(hits.sum(axis=1) % 2))
        observables = [o for o, at in here.observables if at == bit]
        return detectors, sorted({o for o in observables if observables.count(o) % 2})

    def to_records(self, shots: Bytes, sweep: Bytes | None = None) -> Bytes:
        """Whole recorded shots → round records, for replay.

        Args:
            shots: ``(B, ceil(num_measurements/8))`` packed measurements, as Stim's ``b8``.
            sweep: ``(B, sweep_bytes)`` packed sweep bits; needed where the circuit has any.

        Returns:
            ``(B, rounds, record_bytes)`` uint8.

        Raises:
            DataError: widths do not fit, or the sweep bits are missing.
        """
        total = self.num_measurements
        if shots.ndim != 2 or shots.shape[1] != num_bytes(total):
            raise DataError(
                f"a shot has {num_bytes(total)} bytes for {total} measurements, "
                f"not {shots.shape[-1]}"
            )
        bits = unpack(shots, total)
        out = np.zeros((len(shots), len(self._template), self.record_bytes), dtype=np.uint8)
        for r, m in enumerate(self._template):
            packed = pack(bits[:, self._starts[r] : self._starts[r] + m.measurements])
            out[:, r, : packed.shape[1]] = packed
        if self.num_sweep_bits:
            if sweep is None or sweep.shape != (len(shots), self.sweep_bytes):
                raise DataError(
                    f"the circuit has {self.num_sweep_bits} sweep bits: give one row of "
                    f"{self.sweep_bytes} bytes per shot"
                )
            out[:, 0, self.sweep_offset : self.sweep_offset + self.sweep_bytes] = sweep
        return out


def _parities(circuit: stim.Circuit) -> tuple[list[set[int]], dict[int, set[int]], list[int]]:
    """Measurement indices of each detector and observable; and each measurement's instruction."""
    detectors: list[set[int]] = []
    observables: dict[int, set[int]] = {}
    instruction_of: list[int] = []
    for number, item in enumerate(circuit.flattened()):
        measured = len(instruction_of)
        if item.name in ("DETECTOR", "OBSERVABLE_INCLUDE"):
            records: set[int] = set()
            for target in item.targets_copy():
                if target.is_measurement_record_target:
                    records ^= {measured + target.value}
            if item.name == "DETECTOR":
                detectors.append(records)
            else:
                index = int(item.gate_args_copy()[0])
                observables[index] = observables.get(index, set()) ^ records
        else:
            instruction_of.extend([number] * item.num_measurements)
    return detectors, observables, instruction_of


def _affine_part(circuit: stim.Circuit) -> tuple[Bytes, Bytes]:
    """Detectors of an all-zero readout, ``(D,)``, and what each sweep bit flips, ``(S, D)``."""
    try:
        converter = circuit.compile_m2d_converter()
    except (ValueError, IndexError) as error:  # feedback from before the first measurement
        raise CodeError(f"Stim cannot run the circuit: {error}") from None
    count, sweeps = circuit.num_detectors, circuit.num_sweep_bits

    def detectors(sweep_bits: NDArray[np.bool_]) -> Bytes:
        zeros = np.zeros((len(sweep_bits), circuit.num_measurements), dtype=np.bool_)
        packed = converter.convert(
            measurements=zeros,
            sweep_bits=sweep_bits,
            separate_observables=True,
            bit_packed=True,
        )[0]
        return unpack(packed, count)

    constant = detectors(np.zeros((1, sweeps), dtype=np.bool_))[0]
    sweep = np.zeros((sweeps, count), dtype=np.uint8)
    for start in range(0, sweeps, _SWEEP_BATCH):
        stop = min(sweeps, start + _SWEEP_BATCH)
        units = np.zeros((stop - start, sweeps), dtype=np.bool_)
        units[np.arange(stop - start), np.arange(start, stop)] = True
        sweep[start:stop] = detectors(units) ^ constant
    return constant, sweep
