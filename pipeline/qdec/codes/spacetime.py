"""The space-time structure of a code: head, repeating rounds, tail.

Most circuits say the same thing every round. Found once, that repetition gives two things: windows
that are the same share one matching graph, and a finite circuit describes an endless stream: its
middle repeats for as long as rounds arrive.

Rounds fall into *classes*: the first `head` rounds each have their own, then `period` classes
repeat, then each of the last `tail` rounds has its own. Everything that starts in a round (its
detectors, and the mechanisms whose earliest detector lies in it) depends only on its class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.codes.mechanisms import Mechanisms, hash_instructions, mix
from qdec.codes.rounds import RoundLayout
from qdec.codes.rows import gather_rows
from qdec.errors import GeometryError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_MAX_PERIOD = 8


@dataclass(frozen=True, slots=True)
class Components:
    """Components in absolute rounds, ordered by the round their instruction starts in.

    Attributes:
        p: ``(K,)`` probability of the instruction each component belongs to.
        group: ``(K,)`` instruction, numbered from 0 within this selection, non-decreasing.
        u_round, u_bit: ``(K,)`` first detector.
        v_round, v_bit: ``(K,)`` second detector; -1 for both where the edge goes to the boundary.
        obs_ptr, obs: observables flipped, as in `Mechanisms`.
    """

    p: Floats
    group: Ints
    u_round: Ints
    u_bit: Ints
    v_round: Ints
    v_bit: Ints
    obs_ptr: Ints
    obs: Ints

    def shifted(self, rounds: int) -> Components:
        """The same components `rounds` later."""
        v_round = np.where(self.v_round >= 0, self.v_round + rounds, -1)
        return Components(
            self.p,
            self.group,
            self.u_round + rounds,
            self.u_bit,
            v_round,
            self.v_bit,
            self.obs_ptr,
            self.obs,
        )

    @property
    def first_round(self) -> Ints:
        """``(K,)`` round of each component's earliest detector."""
        return np.where(self.v_round >= 0, np.minimum(self.u_round, self.v_round), self.u_round)

    @property
    def last_round(self) -> Ints:
        """``(K,)`` round of each component's latest detector."""
        return np.maximum(self.u_round, self.v_round)


def concatenate(parts: list[Components]) -> Components:
    """Join selections; instructions stay distinct."""
    groups = np.cumsum([0] + [int(part.group[-1]) + 1 if len(part.group) else 0 for part in parts])
    ints: Ints = np.zeros(0, dtype=np.int64)
    counts = np.concatenate([ints, *(np.diff(part.obs_ptr) for part in parts)])
    return Components(
        np.concatenate([np.zeros(0), *(part.p for part in parts)]),
        np.concatenate([ints, *(c.group + o for c, o in zip(parts, groups, strict=False))]),
        np.concatenate([ints, *(part.u_round for part in parts)]),
        np.concatenate([ints, *(part.u_bit for part in parts)]),
        np.concatenate([ints, *(part.v_round for part in parts)]),
        np.concatenate([ints, *(part.v_bit for part in parts)]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([ints, *(part.obs for part in parts)]),
    )


@dataclass(frozen=True)
class SpaceTime:
    """A code's rounds and mechanisms by class.

    Attributes:
        layout: detectors of the template (the circuit or DEM as given).
        num_observables: logical observables.
        head: rounds before the repetition; all of them if nothing repeats.
        period: rounds that repeat; 0 if nothing repeats.
        tail: rounds after the repetition.
        span: largest number of rounds between two detectors of one component.
        reach: the same for whole instructions (components may start at different rounds).
    """

    layout: RoundLayout
    num_observables: int
    head: int
    period: int
    tail: int
    span: int
    reach: int
    _by_class: tuple[Components, ...]
    _class_round: tuple[int, ...]

    @classmethod
    def build(
        cls,
        layout: RoundLayout,
        mechanisms: Mechanisms,
        num_observables: int,
        measured: NDArray[np.uint64] | None = None,
    ) -> tuple[SpaceTime, SpaceTime]:
        """Sort mechanisms by the round they start in and find the repetition.

        Args:
            layout: where each detector stands.
            mechanisms: the DEM's mechanisms.
            num_observables: observables of the DEM.
            measured: ``(num_rounds,)`` fingerprints of how measurements make up the detectors.

        Returns:
            What a stream of detectors sees, and what a stream of measurements sees, whose rounds
            repeat only where they are made up alike. One and the same where that changes nothing.
        """
        everything = _in_rounds(layout, mechanisms)
        span = int((everything.last_round - everything.first_round).max())
        starts = np.full(len(mechanisms.p), layout.num_rounds, dtype=np.int64)
        ends = np.zeros(len(mechanisms.p), dtype=np.int64)
        np.minimum.at(starts, everything.group, everything.first_round)
        np.maximum.at(ends, everything.group, everything.last_round)
        prints = _fingerprints(layout, everything, starts)
        reach = int((ends - starts).max())

        def folded(repetition: tuple[int, int, int]) -> SpaceTime:
            head, period, tail = repetition
            template = [*range(head + period), *range(layout.num_rounds - tail, layout.num_rounds)]
            by_class = tuple(_by_starting_round(everything, starts, template))
            return cls(layout, num_observables, *repetition, span, reach, by_class, tuple(template))

        of_detectors = find_repetition(prints)
        detectors = folded(of_detectors)
        if measured is None:
            return detectors, detectors
        of_measurements = find_repetition(prints * np.uint64(3) + measured)
        alike = of_measurements == of_detectors
        return detectors, detectors if alike else folded(of_measurements)

    @property
    def rounds(self) -> int:
        """Rounds of the template shot."""
        return self.layout.num_rounds

    @property
    def components_per_round(self) -> int:
        """Components that start in the fullest round: what windows cost, per round."""
        return max(len(c.p) for c in self._by_class)

    @property
    def repetition(self) -> tuple[int, int, int]:
        """(head, period, tail): with the code, all that this depends on."""
        return self.head, self.period, self.tail

    def fits(self, length: int) -> bool:
        """Whether a shot of `length` rounds can be made by stretching the repetition."""
        if length == self.rounds:
            return True
        if self.period == 0 or length < self.head + self.tail:
            return False
        return (length - self.rounds) % self.period == 0

    def class_of(self, round_: int, length: int | None) -> int:
        """Class of a round in a shot of `length` rounds (None: no end in sight)."""
        if length is not None and round_ >= length - self.tail:
            return self.head + self.period + self.tail - (length - round_)
        if round_ < self.head:
            return round_
        if self.period == 0:
            raise GeometryError("the code has no repeating round, so its shots cannot be stretched")
        return self.head + (round_ - self.head) % self.period

    def seen_length(self, end: int, length: int | None) -> int | None:
        """The length of a shot as far as a window that stops at round `end` has to know it.

        A stream announces its end late, together with the tail. What a window before that answers
        must not depend on whether it was decoded before or after the announcement.
        """
        if length is None or (self.period and end <= length - self.tail):
            return None
        return length

    @property
    def class_rounds(self) -> tuple[int, ...]:
        """The template's round that stands for each class."""
        return self._class_round

    @property
    def detectors_by_class(self) -> Ints:
        """``(classes,)`` number of detectors in a round of each class."""
        return self.layout.counts[list(self._class_round)]

    def detectors_in(self, round_: int, length: int | None) -> int:
        """Number of detectors in a round."""
        return int(self.layout.counts[self._class_round[self.class_of(round_, length)]])

    @property
    def settled(self) -> int:
        """Windows that start later than this round differ by the period only."""
        return self.head + self.reach

    def window_key(self, start: int, end: int, length: int | None) -> tuple[int, int, int]:
        """What windows with equal components have in common: (place, rounds, rounds to the end).

        The place tells the repeating rounds apart only by their class, but those just behind the
        head singly: instructions that start up to `reach` rounds before a window may have
        components in it. The last number is -1 unless the window sees the tail.
        """
        place = start
        if self.period and start > self.settled:
            place = self.settled + (start - self.settled) % self.period
        seen = self.seen_length(end, length)
        return place, end - start, -1 if seen is None else seen - start

    def starting_in(self, round_: int, length: int | None) -> Components:
        """Components of every instruction whose earliest detector lies in a round.

        Rounds are relative to that round, so that the answer depends only on its class. (A
        component may start later than its instruction.)
        """
        return self._by_class[self.class_of(round_, length)]

    def components(self, start: int, end: int, length: int | None) -> Components:
        """Components of every instruction that can touch rounds ``[start, end)``.

        Args:
            start: first round of the window.
            end: one past its last round.
            length: rounds of the shot; None if it has no end in sight.

        Returns:
            Components in the shot's rounds, ordered by the starting round of their instruction and
            then as in the DEM. Some may lie outside the window.
        """
        first = max(0, start - self.reach)
        last = end if length is None else min(end, length)
        return concatenate([self.starting_in(r, length).shifted(r) for r in range(first, last)])


def find_repetition(fingerprints: NDArray[np.uint64]) -> tuple[int, int, int]:
    """(head, period, tail) of a sequence of round fingerprints; period 0 if nothing repeats.

    The shortest period whose longest run covers at least two full repetitions wins, and longer
    periods only where they cover more rounds by at least a period.
    """
    rounds = len(fingerprints)
    best = (rounds, 0, 0)
    covered = 0
    for period in range(1, min(_MAX_PERIOD, rounds // 2) + 1):
        same = fingerprints[period:] == fingerprints[:-period]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.view(np.int8), [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            length = int(stop - start) + period
            if length >= 2 * period and length >= covered + period:
                covered = length
                best = (int(start), period, rounds - int(stop) - period)
    return best


def _in_rounds(layout: RoundLayout, m: Mechanisms) -> Components:
    pair = m.v >= 0
    v = np.where(pair, m.v, 0)
    return Components(
        m.p[m.group],
        m.group,
        layout.round_of[m.u],
        layout.bit_of[m.u],
        np.where(pair, layout.round_of[v], -1),
        np.where(pair, layout.bit_of[v], -1),
        m.obs_ptr,
        m.obs,
    )


def _by_starting_round(c: Components, starts: Ints, rounds: list[int]) -> list[Components]:
    """For each of `rounds`, what starts in it, in the DEM's order and relative to that round."""
    start_of = starts[c.group]
    order = np.argsort(start_of, kind="stable")
    begin = np.searchsorted(start_of[order], rounds)
    end = np.searchsorted(start_of[order], rounds, side="right")
    return [select(c, order[i:j]).shifted(-r) for r, i, j in zip(rounds, begin, end, strict=True)]


def select(c: Components, which: Ints) -> Components:
    """The components at indices `which` (ascending within each instruction), renumbered."""
    obs_ptr, obs = gather_rows(c.obs_ptr, c.obs, which)
    group = c.group[which]
    renumbered = (
        np.concatenate([[0], np.cumsum(np.diff(group) != 0)]) if len(group) else group
    ).astype(np.int64)
    return Components(
        c.p[which],
        renumbered,
        c.u_round[which],
        c.u_bit[which],
        c.v_round[which],
        c.v_bit[which],
        obs_ptr,
        obs,
    )


def _fingerprints(layout: RoundLayout, c: Components, starts: Ints) -> NDArray[np.uint64]:
    """``(num_rounds,)`` hash of what starts in each round, independent of the DEM's order."""
    start = starts[c.group]
    v_round = np.where(c.v_round >= 0, c.v_round - start, -1)
    groups = hash_instructions(
        mix(c.u_round - start, c.u_bit), mix(v_round, c.v_bit), c.obs_ptr, c.obs, c.group
    )
    p = np.zeros(len(starts))
    p[c.group] = c.p
    # Equal up to a part in a million: tools print probabilities with differing care.
    digits = np.round(np.log(np.maximum(p, 1e-300)) * 1e6).astype(np.int64)
    rounds = mix(layout.counts)
    np.add.at(rounds, starts, mix(groups, digits))
    return rounds
