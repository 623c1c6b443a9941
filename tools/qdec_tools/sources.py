"""Where a simulated QPU's rounds come from, and what the service's answers are checked against."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
import stim

from qdec.bits import Bytes
from qdec.client import Commits
from qdec.codes import Code
from qdec.commit import Flag
from qdec_tools.recording import Recording
from qdec_tools.sampler import EndlessSampler, LogicalErrors

_SHOTS_AT_ONCE = 256


class Source(Protocol):
    """Rounds in order, and their truth."""

    @property
    def errors(self) -> int:
        """Logical errors so far."""
        ...

    @property
    def checked(self) -> int:
        """What they are counted over: closed boundaries, or shots."""
        ...

    def next(self, count: int) -> Bytes:
        """The next rounds, ``(n, record_bytes)`` uint8; fewer than `count`, or none, at the end."""
        ...

    def close(self) -> Bytes | None:
        """The rounds that end an endless shot, or None if there is nothing to end."""
        ...

    def check(self, commits: Commits) -> None:
        """Compare commits with the truth."""
        ...

    def forget(self) -> None:
        """Count logical errors from here on."""
        ...

    @property
    def rate(self) -> float:
        """Logical errors per round (endless) or per shot."""
        ...


class EndlessSource:
    """The code's repeating round, sampled for ever."""

    def __init__(self, code: Code, seed: int) -> None:
        """Start at round 0."""
        # Small chunks: while one is sampled, no frame leaves.
        self._sampler = EndlessSampler(code, seed, chunk=1024)
        self._logical = LogicalErrors(self._sampler.truth)
        self._observables = code.num_observables

    @property
    def errors(self) -> int:
        """See `LogicalErrors`."""
        return self._logical.errors

    @property
    def checked(self) -> int:
        """Closed boundaries."""
        return self._logical.intervals

    def next(self, count: int) -> Bytes:
        """See `Source.next`."""
        return self._sampler.next(count)

    def close(self) -> Bytes | None:
        """See `Source.close`."""
        return self._sampler.close()

    def check(self, commits: Commits) -> None:
        """See `Source.check`."""
        boundaries = commits["first_round"].astype(np.int64) + commits["count"]
        truths = self._sampler.truths(boundaries)
        self._logical.observe_many(boundaries, commits["frame"], commits["seam"], truths)

    def forget(self) -> None:
        """See `Source.forget`."""
        self._logical.forget()

    @property
    def rate(self) -> float:
        """Logical errors per round and observable."""
        return self._logical.rate(self._observables)


class ShotSource:
    """Finite shots sampled by Stim, as detectors or as raw measurements."""

    def __init__(self, circuit: stim.Circuit, code: Code, seed: int, *, raw: bool) -> None:
        """Sample batches of shots as they are needed."""
        self._code = code
        self._raw = raw
        self._num_measurements = circuit.num_measurements
        self._measurements = circuit.compile_sampler(seed=seed)
        self._detectors = circuit.compile_detector_sampler(seed=seed)
        self._convert = circuit.compile_m2d_converter()
        self._pending: Bytes = np.zeros((0, 1), dtype=np.uint8)
        self._truth: deque[bytes] = deque()
        self.errors = 0
        self.checked = 0

    def next(self, count: int) -> Bytes:
        """See `Source.next`."""
        if not len(self._pending):
            self._pending = self._sample()
        part, self._pending = self._pending[:count], self._pending[count:]
        return part

    def _sample(self) -> Bytes:
        if not self._raw:
            shots, truth = self._detectors.sample(
                _SHOTS_AT_ONCE, separate_observables=True, bit_packed=True
            )
            records = self._code.layout.to_records(shots)
        else:
            shots = self._measurements.sample(_SHOTS_AT_ONCE, bit_packed=True)
            bits = np.unpackbits(shots, axis=1, count=self._num_measurements, bitorder="little")
            _, truth = self._convert.convert(
                measurements=bits.astype(np.bool_), separate_observables=True, bit_packed=True
            )
            assert self._code.measurements is not None
            records = self._code.measurements.to_records(shots)
        self._truth.extend(row.tobytes() for row in truth)
        return records.reshape(-1, records.shape[-1])

    def close(self) -> Bytes | None:
        """See `Source.close`: the rest of the shot that has begun."""
        rest = len(self._pending) % self._code.spacetime.rounds
        part, self._pending = self._pending[:rest], self._pending[:0]
        return part if rest else None

    def check(self, commits: Commits) -> None:
        """See `Source.check`."""
        for row in commits[(commits["flags"] & Flag.SHOT_END) != 0]:
            self.checked += 1
            self.errors += row["frame"].tobytes() != self._truth.popleft()

    def forget(self) -> None:
        """See `Source.forget`."""
        self.errors = self.checked = 0

    @property
    def rate(self) -> float:
        """Logical errors per shot."""
        return self.errors / self.checked if self.checked else float("nan")


class RecordedSource:
    """Recorded shots, once through."""

    def __init__(self, recording: Recording) -> None:
        """Start at the first shot; without a truth nothing is checked."""
        self._recording = recording
        self._rounds = recording.code.spacetime.rounds
        self._at = 0
        self._answered = 0
        self.errors = 0
        self.checked = 0

    def next(self, count: int) -> Bytes:
        """See `Source.next`."""
        shot, within = divmod(self._at, self._rounds)
        stop = min(len(self._recording), shot - (-(within + count) // self._rounds))
        part = self._recording.records(shot, stop)[within : within + count]
        self._at += len(part)
        return part

    def close(self) -> Bytes | None:
        """See `Source.close`: the rest of the shot that has begun."""
        within = self._at % self._rounds
        return self.next(self._rounds - within) if within else None

    def check(self, commits: Commits) -> None:
        """See `Source.check`."""
        frames = commits["frame"][(commits["flags"] & Flag.SHOT_END) != 0]
        start, self._answered = self._answered, self._answered + len(frames)
        if self._recording.truth is not None:
            truth = self._recording.truth.read(start, self._answered)
            self.errors += int((frames != truth).any(axis=1).sum())
            self.checked += len(frames)

    def forget(self) -> None:
        """See `Source.forget`."""
        self.errors = self.checked = 0

    @property
    def rate(self) -> float:
        """Logical errors per shot."""
        return self.errors / self.checked if self.checked else float("nan")
