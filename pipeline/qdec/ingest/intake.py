"""Frames of round records in, detection-event records and known losses out.

One `Intake` per stream. It knows where shots begin, checks that padding bits are zero, converts raw
measurements where that is what the stream carries, and keeps what a resumed stream will need (the
last measurements before a boundary, the shot's sweep bits).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdec.bits import Bytes, padding_mask, unpack
from qdec.codes import Code
from qdec.errors import WireCode, WireError
from qdec.windows.cut import Erasure
from qdec.windows.ring import RoundRing


@dataclass(frozen=True, slots=True)
class ShotPosition:
    """Where a run of rounds lies in its shot.

    Attributes:
        base: stream round at which the shot starts.
        start: first round of the run, within the shot.
        count: rounds of the run.
        length: rounds of the shot, where its end is known.
    """

    base: int
    start: int
    count: int
    length: int | None


class Intake:
    """Checks and converts one stream's frames.

    Attributes:
        record_bytes: bytes per round on the wire.
        tail_in_one_frame: trailing rounds of a shot that must arrive in one frame with the `last`
            flag, where the shots' length is not fixed.
    """

    def __init__(self, code: Code, *, raw: bool, ring_rounds: int) -> None:
        """Set up for one stream.

        Args:
            code: the stream's code; it needs `measurements` if `raw`.
            raw: frames carry measurements instead of detectors.
            ring_rounds: rounds that may be in flight, to keep as many raw records.
        """
        self._space = code.spacetime
        self._layout = code.layout
        self._map = code.measurements if raw else None
        if raw and self._map is None:
            raise WireError(
                WireCode.BAD_OPTION,
                "the stream's code is a DEM, which does not say how measurements make detectors: "
                "send detectors, or give the circuit",
            )
        self.record_bytes = self._map.record_bytes if self._map else self._layout.record_bytes
        self.lookback = self._map.lookback if self._map else 0
        self._raw = RoundRing(ring_rounds + self.lookback, max(1, self.lookback), self.record_bytes)
        self._sweeps: dict[int, Bytes] = {}
        self._masks: dict[int, Bytes | None] = {}
        self._whole_mask: Bytes | None = None
        # A window that ends among the tail is not one of the repeating ones, and must not be
        # complete before the end is announced: its answer would depend on when it was decoded.
        self.tail_in_one_frame = self._space.tail if self._space.period else 0

    @property
    def nbytes(self) -> int:
        """Memory held for resuming."""
        return self._raw.nbytes if self._map else 0

    def accept(self, records: Bytes, positions: list[ShotPosition]) -> Bytes:
        """Check a frame's records and turn them into detection events.

        Args:
            records: ``(n, record_bytes)`` uint8 as they came.
            positions: the frame's rounds, shot by shot.

        Returns:
            ``(n, layout.record_bytes)`` uint8 detector records.

        Raises:
            WireError: BAD_BITS if a padding bit is set. Nothing was changed then.
        """
        self._check_padding(records, positions)
        if self._map is None:
            return records
        out = np.empty((len(records), self._layout.record_bytes), dtype=np.uint8)
        done = 0
        while positions:
            alike = _leading_whole_shots(positions)
            first = positions[0]
            n = first.count * alike
            part = records[done : done + n].reshape(alike, first.count, -1)
            out[done : done + n] = self._convert(part, positions[:alike]).reshape(n, -1)
            self._raw.write(first.base + first.start, records[done : done + n])
            done += n
            positions = positions[alike:]
        return out

    def accept_shots(self, records: Bytes, length: int) -> Bytes | None:
        """`accept` for whole shots of `length` rounds and nothing else, all at once.

        Returns:
            As `accept`; None if padding bits are set somewhere, for `accept` to say where.
        """
        shots = records.reshape(-1, length, self.record_bytes)
        masks = self._shot_masks(length)
        if masks is not None and (shots & masks).any():
            return None
        if self._map is None:
            return records
        nothing = np.zeros((len(shots), self.lookback, self.record_bytes), dtype=np.uint8)
        at = self._map.sweep_offset
        sweep = shots[:, 0, at : at + self._map.sweep_bytes]
        made = self._map.convert(shots, 0, length, nothing, sweep)
        return made.reshape(len(records), -1)

    def repeats(self, records: Bytes, round_: int) -> bool:
        """Whether `accept` would return these rounds of an endless shot unchanged."""
        space = self._space
        if self._map is not None or space.period != 1 or round_ < space.head:
            return False
        mask = self._mask(round_, None)
        return mask is None or not (records & mask).any()

    def lost_bits(self, plane: Bytes, round_: int, length: int | None) -> list[int]:
        """Bits marked lost in ``(record_bytes,)`` uint8, of those that a round's record uses."""
        used = self._used_bits(round_, length)
        return [int(bit) for bit in np.flatnonzero(unpack(plane, used))]

    def lacks_sweep_bits(self, plane: Bytes) -> bool:
        """Whether the plane of a shot's first round marks any of its sweep bits as lost."""
        if self._map is None or not self._map.num_sweep_bits:
            return False
        at = self._map.sweep_offset
        return bool(plane[at : at + self._map.sweep_bytes].any())

    def erasure(self, round_: int, bit: int, length: int | None) -> Erasure | None:
        """What a lost bit leaves unknown, or None if no pair of detectors can stand for it.

        A lost measurement may or may not have flipped the detectors and observables it enters; a
        lost detector may or may not have fired.
        """
        if self._map is None:
            return Erasure(((round_, bit),))
        detectors, observables = self._map.effect_of(round_, bit, length)
        if not 1 <= len(detectors) <= 2:
            return None
        return Erasure(tuple(detectors), tuple(observables))

    def history(self, base: int, boundary: int) -> tuple[bytes, bytes]:
        """(records before `boundary`, sweep bits) that resuming at a stream round needs."""
        if self._map is None:
            return b"", b""
        known = min(self.lookback, boundary - base)
        before = self._raw.view(boundary - known, known).tobytes()
        return before, self._sweeps[base].tobytes() if base in self._sweeps else b""

    def restore(self, base: int, boundary: int, history: bytes, sweep: bytes) -> None:
        """Inverse of `history`, on a fresh intake.

        Raises:
            WireError: BAD_CURSOR if the sizes do not fit.
        """
        known = min(self.lookback, boundary - base) * self.record_bytes if self._map else 0
        expect_sweep = self._map.sweep_bytes if self._map and boundary > base else 0
        if len(history) != known or len(sweep) != expect_sweep:
            raise WireError(WireCode.BAD_CURSOR, "the cursor's history does not fit the stream")
        if known:
            rows = np.frombuffer(history, dtype=np.uint8).reshape(-1, self.record_bytes)
            self._raw.write(boundary - len(rows), rows)
        if self._map and boundary > base:  # without sweep bits, too: rounds look their shot up
            self._sweeps[base] = np.frombuffer(sweep, dtype=np.uint8).copy()

    def forget(self, base: int) -> None:
        """The shot that started at stream round `base` is over."""
        self._sweeps.pop(base, None)

    def _convert(self, part: Bytes, shots: list[ShotPosition]) -> Bytes:
        """Convert the same rounds of consecutive shots, ``(k, n, record_bytes)``."""
        assert self._map is not None
        first = shots[0]
        history = np.zeros((len(shots), self.lookback, self.record_bytes), dtype=np.uint8)
        if first.start == 0:
            at = self._map.sweep_offset
            sweep = part[:, 0, at : at + self._map.sweep_bytes]
            for shot, bits in zip(shots, sweep, strict=True):
                self._sweeps[shot.base] = bits.copy()
        else:
            sweep = self._sweeps[first.base][None, :]
            known = min(self.lookback, first.start)
            if known:
                boundary = first.base + first.start
                history[0, self.lookback - known :] = self._raw.view(boundary - known, known)
        return self._map.convert(part, first.start, first.length, history, sweep)

    def _used_bits(self, round_: int, length: int | None) -> int:
        if self._map is not None:
            return self._map.used_bits(round_, length)
        return self._space.detectors_in(round_, length)

    def _check_padding(self, records: Bytes, positions: list[ShotPosition]) -> None:
        done = 0
        alike = _leading_whole_shots(positions)
        if alike > 1:
            first = positions[0]
            done = alike * first.count
            shots = records[:done].reshape(alike, first.count, -1)
            masks = self._shot_masks(first.count)
            # Round by round only if something is wrong, to say where.
            if masks is None or not (shots & masks).any():
                positions = positions[alike:]
            else:
                done = 0
        for position in positions:
            stop = position.start + position.count
            round_ = position.start
            while round_ < stop:
                mask = self._mask(round_, position.length)
                run = self._run(round_, stop, position.length)
                if mask is not None and (records[done : done + run] & mask).any():
                    raise WireError(
                        WireCode.BAD_BITS,
                        f"padding bits are set in round {position.base + round_} or one of the "
                        f"{run - 1} after it: a record holds "
                        f"{self._used_bits(round_, position.length)} bits there",
                    )
                round_ += run
                done += run

    def _run(self, round_: int, stop: int, length: int | None) -> int:
        """Rounds from `round_` on that are of the same class (the repetition counts as one)."""
        space = self._space
        steady_end = stop if length is None else min(stop, length - space.tail)
        if space.period == 1 and space.head <= round_ < steady_end:
            return steady_end - round_
        return 1

    def _shot_masks(self, rounds: int) -> Bytes | None:
        """``(rounds, record_bytes)`` uint8: ones where a whole shot's records must hold zeros.

        None if there is no padding.
        """
        if self._whole_mask is None or len(self._whole_mask) != rounds:
            masks = [self._mask(r, rounds) for r in range(rounds)]
            nothing = np.zeros(self.record_bytes, dtype=np.uint8)
            self._whole_mask = np.stack([nothing if m is None else m for m in masks])
        return self._whole_mask if self._whole_mask.any() else None

    def _mask(self, round_: int, length: int | None) -> Bytes | None:
        class_ = self._space.class_of(round_, length)
        key = class_ if round_ else -1  # round 0 may carry sweep bits too
        if key not in self._masks:
            mask = padding_mask(self._used_bits(round_, length), self.record_bytes)
            if round_ == 0 and self._map is not None and self._map.num_sweep_bits:
                at, n = self._map.sweep_offset, self._map.sweep_bytes
                mask[at : at + n] &= padding_mask(self._map.num_sweep_bits, n)
            self._masks[key] = mask if mask.any() else None
        return self._masks[key]


def _leading_whole_shots(positions: list[ShotPosition]) -> int:
    """How many leading positions are whole shots that can be converted together (at least 1)."""
    first = positions[0]
    if first.start or first.count != first.length:
        return 1
    alike = 1
    for position in positions[1:]:
        if position.start or position.count != first.count or position.length != first.length:
            break
        alike += 1
    return alike
