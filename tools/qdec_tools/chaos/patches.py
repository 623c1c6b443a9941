"""The streams that a service is put to the test with, and their rounds, which can be made again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import stim

from qdec.bits import Bytes
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler

_TEMPLATE_ROUNDS = 12
_SHOTS_AT_ONCE = 256


@dataclass(frozen=True)
class Patch:
    """One stream of the configuration, and how its client sends.

    Attributes:
        name: of the stream.
        distance: of its surface code.
        windows: ``W,C`` or ``W,C,M`` in rounds, or ``whole``.
        noise: of everything in its circuit.
        tier: what answers.
        lanes: the lane that decodes it, or those that share it.
        shot_rounds: rounds of a shot's memory experiment; 0: one shot without end.
        raw: it sends measurements.
        accelerated: the accelerator answers, where it is in time.
        deadline_us: of a window.
        cycle_us: time per round.
        frame: rounds per message.
        way: what its client connects through: nothing, a ``proxy`` of bytes, a ``relay`` of
            messages.
    """

    name: str
    distance: int
    windows: str
    noise: float = 0.004
    tier: str = "matching"
    lanes: tuple[int, ...] = (0,)
    shot_rounds: int = 0
    raw: bool = False
    accelerated: bool = False
    deadline_us: int = 10_000
    cycle_us: float = 500.0
    frame: int = 10
    way: str = ""

    @cached_property
    def circuit(self) -> stim.Circuit:
        """The experiment; an endless stream stretches its repeating round."""
        return memory(self.distance, self.shot_rounds or _TEMPLATE_ROUNDS, self.noise)

    @cached_property
    def code(self) -> Code:
        """The code as the stream's lane has it."""
        return Code.parse("circuit", str(self.circuit)).streamed(raw=self.raw)

    @property
    def endless(self) -> bool:
        """Whether it is one shot without end."""
        return not self.shot_rounds

    @property
    def length(self) -> int:
        """Rounds of a shot; 0 if endless."""
        return 0 if self.endless else self.code.spacetime.rounds

    def table(self, folder: Path) -> str:
        """Its ``[[stream]]`` table; the circuit is written into a folder."""
        path = folder / f"{self.name}.stim"
        path.write_text(str(self.circuit), encoding="utf-8")
        given: dict[str, object] = {
            "name": self.name,
            "code": str(path),
            "endless": self.endless,
            "raw": self.raw,
            "windows": self.windows,
            "tier": self.tier,
            "deadline_us": self.deadline_us,
        }
        if len(self.lanes) > 1:
            given["lanes"] = list(self.lanes)
        else:
            given["lane"] = self.lanes[0]
        if self.accelerated:
            given["accelerated"] = True
        rows = (f"{key} = {json.dumps(value)}\n" for key, value in given.items())
        return "[[stream]]\n" + "".join(rows)

    def source(self, seed: int) -> Rounds:
        """Its rounds, from the first: the same ones for the same seed."""
        return EndlessRounds(self.code, seed) if self.endless else ShotRounds(self, seed)

    def detectors(self, seed: int, rounds: int) -> Bytes:
        """The detectors of the rounds that a client has sent, ``(rounds, record_bytes)`` uint8."""
        if not self.endless:
            return ShotRounds(self, seed).detectors(rounds)
        return EndlessSampler(self.code, seed, track=False).close(rounds)


class Rounds:
    """Rounds as a client sends them."""

    def next(self, count: int) -> Bytes:
        """The next rounds, ``(count, record_bytes)`` uint8."""
        raise NotImplementedError

    def end(self) -> Bytes | None:
        """What ends the shot that has begun; None if none has."""
        raise NotImplementedError


class EndlessRounds(Rounds):
    """A code's repeating round, for ever."""

    def __init__(self, code: Code, seed: int) -> None:
        """Start at round 0."""
        self._sampler = EndlessSampler(code, seed, track=False)

    def next(self, count: int) -> Bytes:
        """See `Rounds.next`."""
        return self._sampler.next(count)

    def end(self) -> Bytes | None:
        """See `Rounds.end`."""
        return self._sampler.close()


class ShotRounds(Rounds):
    """Shots of a fixed length, one behind the other."""

    def __init__(self, patch: Patch, seed: int) -> None:
        """Start at the first shot."""
        self._patch = patch
        self._blocks = self._sampled(seed)
        self._rest: Bytes = np.zeros((0, 0), np.uint8)

    def next(self, count: int) -> Bytes:
        """See `Rounds.next`."""
        parts: list[Bytes] = []
        while count:
            if not len(self._rest):
                self._rest, _ = next(self._blocks)
            parts.append(self._rest[:count])
            self._rest = self._rest[count:]
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def end(self) -> Bytes | None:
        """See `Rounds.end`."""
        left = len(self._rest) % self._patch.length
        return self.next(left) if left else None

    def detectors(self, rounds: int) -> Bytes:
        """See `Patch.detectors`."""
        found: list[Bytes] = []
        have = 0
        while have < rounds:
            found.append(next(self._blocks)[1])
            have += len(found[-1])
        return np.concatenate(found)[:rounds]

    def _sampled(self, seed: int) -> Iterator[tuple[Bytes, Bytes]]:
        """Blocks of shots: what is sent, and its detectors."""
        circuit, code = self._patch.circuit, self._patch.code
        sampler = circuit.compile_sampler(seed=seed)
        convert = circuit.compile_m2d_converter()
        while True:
            measured = sampler.sample(_SHOTS_AT_ONCE)
            fired, _ = convert.convert(
                measurements=measured, separate_observables=True, bit_packed=True
            )
            detectors = code.layout.to_records(fired)
            sent = detectors
            if self._patch.raw:
                assert code.measurements is not None
                sent = code.measurements.to_records(np.packbits(measured, 1, bitorder="little"))
            yield _flat(sent), _flat(detectors)


def _flat(shots: Bytes) -> Bytes:
    return np.ascontiguousarray(shots.reshape(-1, shots.shape[-1]))


# Mixed distances, tiers and ways; each tells something that the others do not.
PATCHES: tuple[Patch, ...] = (
    Patch("plain", 3, "12,6", way="proxy"),
    Patch("behind", 5, "20,10,80", noise=0.003, frame=20),  # larger windows when it is behind
    Patch("strong", 5, "15,5", noise=0.003, tier="correlated", lanes=(1,)),
    Patch("shared", 3, "12,6", lanes=(0, 1)),
    Patch("shots", 3, "whole", shot_rounds=6, raw=True, frame=7, way="relay"),
    Patch(
        "network",
        3,
        "8,3",
        tier="speed",
        lanes=(1,),
        accelerated=True,
        deadline_us=50_000,
        cycle_us=2000.0,
        frame=3,
    ),
)
# Opened by those who do not behave; its answers are not looked at.
UNKIND = Patch("unkind", 3, "12,6")


def tables(patches: Sequence[Patch], folder: Path) -> str:
    """The configuration's tables of streams."""
    return "".join(patch.table(folder) for patch in (*patches, UNKIND))
