"""A code whose matching graph falls apart, divided into parts that can be matched by themselves.

X and Z detectors of a surface code share no edge: what is matched on one side never depends on the
other, and the whole's answer is the XOR of the two. So one stream may be answered by several
processes, each with a part of its own.

Detectors are told apart by the class of their round and their bit in it, so that a division holds
for shots of every length that the code can be stretched to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qdec.bits import Bits
from qdec.codes.spacetime import Components, SpaceTime, select
from qdec.errors import CodeError

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a code's detectors; no mechanism's component joins one of them to another part's.

    Attributes:
        index: number of this part.
        of: number of parts.
    """

    index: int
    of: int
    _space: SpaceTime = field(compare=False, repr=False)
    _members: Bits = field(compare=False, repr=False)  # (classes, 8 * record_bytes)

    def __str__(self) -> str:
        """For people, counted from 0 as in requests."""
        return f"{self.index} of {self.of}"

    def nodes(self, start: int, end: int, length: int | None) -> Bits:
        """Which bits of rounds ``[start, end)`` of a shot are this part's detectors.

        Args:
            start: first round, within the shot.
            end: one past the last round.
            length: rounds of the shot; None if it has no end in sight.

        Returns:
            ``((end - start) * 8 * record_bytes,)`` bool.
        """
        classes = [self._space.class_of(round_, length) for round_ in range(start, end)]
        return self._members[classes].reshape(-1)

    def holds(self, round_: int, bit: int, length: int | None) -> bool:
        """Whether a detector is this part's."""
        return bool(self._members[self._space.class_of(round_, length), bit])


def split(space: SpaceTime, count: int) -> tuple[Part, ...]:
    """Divide a code into parts of about as many mechanisms each.

    Connected components of the matching graph go, the largest first, to the part with the fewest
    mechanisms so far. The same code is divided the same way everywhere.

    Args:
        space: the code's mechanisms by round.
        count: how many parts, at least 2.

    Raises:
        CodeError: the graph has fewer components than that.
    """
    label = _labels(space)
    load = np.bincount(_mechanisms(space, label), minlength=int(label.max()) + 1)
    components = int((load > 0).sum())
    if components < count:
        most = f"{components} lanes can share it" if components > 1 else "one lane can decode it"
        raise CodeError(
            f"the code cannot be divided into {count} parts: its matching graph falls apart into "
            f"{components} without a common edge, so at most {most}"
        )
    part_of = np.zeros(len(load), dtype=np.int64)  # detectors that nothing flips are part 0's
    loads = np.zeros(count, dtype=np.int64)
    for one in np.argsort(-load, kind="stable")[:components]:
        part_of[one] = np.argmin(loads)
        loads[part_of[one]] += load[one]
    used = np.arange(label.shape[1]) < space.detectors_by_class[:, None]
    return tuple(Part(k, count, space, (part_of[label] == k) & used) for k in range(count))


def _labels(space: SpaceTime) -> Ints:
    """``(classes, 8 * record_bytes)``: the connected component of each class's bits."""
    row = 8 * space.layout.record_bytes
    classes = space.head + space.period + space.tail
    u, v = (np.concatenate(ends) for ends in zip(*_links(space, row), strict=True))
    links = coo_array((np.ones(len(u)), (u, v)), shape=(classes * row, classes * row))
    label = connected_components(links, directed=False)[1]
    return np.asarray(label, dtype=np.int64).reshape(classes, row)


def _links(space: SpaceTime, row: int) -> Iterator[tuple[Ints, Ints]]:
    """Edges between two detectors, as nodes ``class * row + bit``, for every length of a shot."""
    for length in _lengths(space):
        c = space.components(0, length, length)
        c = select(c, np.flatnonzero((c.v_round >= 0) & (c.last_round < length)))
        class_of = _classes(space, length)
        yield class_of[c.u_round] * row + c.u_bit, class_of[c.v_round] * row + c.v_bit


def _lengths(space: SpaceTime) -> list[int]:
    """Shots in which all pairs of classes meet that a mechanism may join in a shot of any length.

    The template alone does not do: where only two of its rounds repeat, no mechanism of three
    rounds both begins and ends in a repeating one, as it will in a longer shot.
    """
    if not space.period:
        return [space.rounds]
    shortest = space.head + space.tail
    most = space.reach // space.period + 2
    return [n for i in range(most + 1) if (n := shortest + i * space.period)]


def _classes(space: SpaceTime, length: int) -> Ints:
    return np.array([space.class_of(r, length) for r in range(length)], dtype=np.int64)


def _mechanisms(space: SpaceTime, label: Ints) -> Ints:
    """Label of every component of the template's mechanisms."""
    c: Components = space.components(0, space.rounds, space.rounds)
    return np.asarray(label[_classes(space, space.rounds)[c.u_round], c.u_bit], dtype=np.int64)
