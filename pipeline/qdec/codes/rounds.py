"""Detectors grouped into rounds: the record that carries one round on the wire.

A round's record holds one bit per detector of that round, in order of detector index, LSB first,
padded with zeros to the same number of bytes for every round of the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.bits import Bytes, num_bytes, pack, unpack
from qdec.errors import CodeError, DataError, RoundsUnknown

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RoundLayout:
    """Which detector stands where: detector ``D`` is bit ``bit_of[D]`` of round ``round_of[D]``.

    Attributes:
        round_of: ``(num_detectors,)`` round of each detector, 0-based and without holes.
        bit_of: ``(num_detectors,)`` its bit within the round's record.
        counts: ``(num_rounds,)`` detectors per round.
    """

    round_of: Ints
    bit_of: Ints
    counts: Ints

    @classmethod
    def from_rounds(cls, round_of: Sequence[int] | Ints) -> RoundLayout:
        """Lay out detectors by an explicit map, detector → round.

        Raises:
            CodeError: rounds are negative or a round between the first and last has no detector.
        """
        rounds = np.asarray(round_of, dtype=np.int64)
        if rounds.size == 0:
            raise CodeError("the code has no detectors")
        if rounds.ndim != 1:
            raise CodeError("the round map must be a list: one round per detector")
        if rounds.min() < 0:
            raise CodeError(f"the round map holds a negative round ({rounds.min()})")
        if rounds.max() >= rounds.size:
            raise CodeError(
                f"the round map names round {rounds.max()} for {rounds.size} detectors: "
                "some rounds have none"
            )
        counts = np.bincount(rounds)
        if (counts == 0).any():
            raise CodeError(f"round {int(np.argmin(counts))} of the round map has no detector")
        order = np.argsort(rounds, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        bit_of = np.empty_like(rounds)
        bit_of[order] = np.arange(rounds.size) - np.repeat(starts, counts)
        return cls(rounds, bit_of, counts)

    @classmethod
    def from_dem(
        cls, dem: stim.DetectorErrorModel, round_map: Sequence[int] | None = None
    ) -> RoundLayout:
        """Lay out a DEM's detectors by their time coordinate, or by `round_map` where given.

        The time coordinate is the third one, or the last where there are fewer than three (as in
        Stim's generated circuits, Google's data and Chromobius' four-coordinate annotations).
        Distinct times, in increasing order, are rounds 0, 1, 2, ….

        Raises:
            RoundsUnknown: a detector has no coordinates, and there is no map.
            CodeError: a coordinate is not finite, or the map has the wrong length.
        """
        count = dem.num_detectors
        if count == 0:
            raise CodeError("the detector error model is empty: it has no detectors")
        if round_map is not None:
            if len(round_map) != count:
                raise CodeError(f"the round map has {len(round_map)} entries, not {count}")
            return cls.from_rounds(round_map)
        coordinates = dem.get_detector_coordinates()
        times = np.empty(count)
        for detector in range(count):
            where = coordinates.get(detector)
            if not where:
                raise RoundsUnknown(
                    f"detector D{detector} has no coordinates, so its round is unknown: "
                    "give a round map (detector → round), or annotate the detectors"
                )
            times[detector] = where[2] if len(where) >= 3 else where[-1]
        if not np.isfinite(times).all():
            raise CodeError("a detector's time coordinate is not finite")
        return cls.from_rounds(np.unique(times, return_inverse=True)[1].reshape(-1))

    @property
    def num_rounds(self) -> int:
        """Rounds of detectors (a memory experiment of r rounds has r + 1)."""
        return len(self.counts)

    @property
    def num_detectors(self) -> int:
        """Detectors in all rounds."""
        return len(self.round_of)

    @cached_property
    def record_bytes(self) -> int:
        """Bytes of one round's record: the same for all rounds."""
        return num_bytes(int(self.counts.max()))

    @cached_property
    def _slots(self) -> Ints:
        """Each detector's bit index in a shot's concatenated records."""
        return self.round_of * (8 * self.record_bytes) + self.bit_of

    def to_records(self, shots: Bytes) -> Bytes:
        """Whole shots in detector order → round records.

        Args:
            shots: ``(B, ceil(num_detectors/8))`` uint8, bit-packed as Stim's ``b8``.

        Returns:
            ``(B, num_rounds, record_bytes)`` uint8.

        Raises:
            DataError: the width does not fit.
        """
        if shots.ndim != 2 or shots.shape[1] != num_bytes(self.num_detectors):
            raise DataError(
                f"a shot has {num_bytes(self.num_detectors)} bytes for {self.num_detectors} "
                f"detectors, not {shots.shape[-1]}"
            )
        bits = np.zeros((len(shots), self.num_rounds * self.record_bytes * 8), dtype=np.uint8)
        bits[:, self._slots] = unpack(shots, self.num_detectors)
        return pack(bits).reshape(len(shots), self.num_rounds, self.record_bytes)

    def from_records(self, records: Bytes) -> Bytes:
        """Inverse of `to_records`: ``(B, num_rounds * record_bytes)`` → packed shots as Stim's."""
        bits = unpack(records, self.num_rounds * self.record_bytes * 8)
        return pack(bits[:, self._slots])
