"""One window as a matching problem: the seam trick.

The window's nodes are its round records' bits as they lie in memory: round r of the window, bit b
is node ``r * 8 * record_bytes + b``, so packed rounds go to the matcher without being repacked.

Mechanisms that touch rounds before the window are left out (they were committed earlier);
mechanisms that reach past its end lose the detectors there. A component *commits* if its earliest
detector lies in the commit region; it then carries ids: the logical observables it flips, and one
seam id per detector it flips outside the commit region. The matcher's ordinary prediction is then
the frame update and the syndrome to XOR into the next window, both.

The answer of a window is ``frame_bytes`` of observables followed by ``seam_bytes``: the seam as
round records for the `span` rounds behind the commit region.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits, Bytes, num_bytes
from qdec.codes.mechanisms import combine_probabilities, mix
from qdec.codes.rows import gather_rows, owners
from qdec.codes.spacetime import Components, SpaceTime, concatenate, select
from qdec.errors import GeometryError
from qdec.windows.geometry import Window

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Erasure:
    """A fault known to be as likely as not: a lost measurement or detector.

    Attributes:
        detectors: one or two (round within the shot, bit) that it flips.
        observables: observables it flips.
    """

    detectors: tuple[tuple[int, int], ...]
    observables: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A window's components over its nodes.

    Attributes:
        num_nodes: rounds * 8 * record_bytes.
        num_ids: bits of the answer: 8 * (frame_bytes + seam_bytes); an id is a bit position in it.
        frame_bytes: bytes of logical observables at the front of the answer.
        seam_bytes: bytes of seam records behind them.
        p, group: ``(K,)`` as in `Components`.
        u, v: ``(K,)`` nodes; v = -1 for an edge to the boundary.
        id_ptr, ids: component k has ids ``ids[id_ptr[k]:id_ptr[k+1]]``, empty unless it commits.
        far: ``(K,)`` v, or the node that it would be where the window's end cuts it off: a node
            past ``num_nodes``.
        nodes: ``(num_nodes,)`` True for the nodes whose events are to be explained; None for all.
    """

    num_nodes: int
    num_ids: int
    frame_bytes: int
    seam_bytes: int
    p: NDArray[np.float64]
    group: Ints
    u: Ints
    v: Ints
    id_ptr: Ints
    ids: Ints
    far: Ints
    nodes: Bits | None = None


def seam_rounds(space: SpaceTime) -> int:
    """Rounds that a seam covers: the longest reach of a component past its first round."""
    return space.span


def answer_bytes(space: SpaceTime) -> tuple[int, int]:
    """(frame_bytes, seam_bytes) of every answer for this code."""
    return num_bytes(space.num_observables), seam_rounds(space) * space.layout.record_bytes


def carry_seam(space: SpaceTime, window: Window, seam: Bytes, answer_seam: Bytes) -> Bytes:
    """The seam behind a window: what it committed, and what it was handed and did not reach.

    A window that commits fewer rounds than a seam covers leaves the rest of its own seam to the
    next window.

    Args:
        space: the code's mechanisms by round.
        window: the window answered.
        seam: ``(..., seam_bytes)`` uint8: the seam that went into it.
        answer_seam: ``(..., seam_bytes)`` uint8: the seam of its answer.

    Returns:
        ``(..., seam_bytes)`` uint8; `answer_seam` itself where nothing is left over.
    """
    done = window.commit * space.layout.record_bytes
    if done >= seam.shape[-1]:
        return answer_seam
    carried = answer_seam.copy()
    carried[..., : seam.shape[-1] - done] ^= seam[..., done:]
    return carried


def cut(space: SpaceTime, window: Window, erasures: tuple[Erasure, ...] = ()) -> Problem:
    """Cut the matching problem of one window out of the code.

    Args:
        space: the code's mechanisms by round.
        window: which rounds, and how many of them commit.
        erasures: faults of probability one half to add, in rounds of the shot.

    Raises:
        GeometryError: a mechanism that commits reaches past the window's end, or an erasure past
            the seam.
    """
    c = _starting_inside(space, window, erasures)
    rounds = window.end - window.start
    commits = c.first_round < window.commit
    truncated = c.last_round >= rounds
    if (commits & truncated).any():
        raise GeometryError(
            f"a mechanism of {space.span} rounds commits and reaches past the window's end"
        )

    row = 8 * space.layout.record_bytes
    # Of a truncated pair, the detector inside is the one that stays.
    u_inside = c.u_round < rounds
    pair = (c.v_round >= 0) & ~truncated
    first, second = c.u_round * row + c.u_bit, c.v_round * row + c.v_bit
    u = np.where(u_inside, first, second)
    v = np.where(pair, second, -1)
    far = np.where(c.v_round >= 0, np.where(u_inside, second, first), -1)

    frame_bytes, seam_bytes = answer_bytes(space)
    seam_start = 8 * frame_bytes - window.commit * row
    of_component = [owners(c.obs_ptr)]
    ids = [c.obs]
    for round_, bit in ((c.u_round, c.u_bit), (c.v_round, c.v_bit)):
        outside = np.flatnonzero(round_ >= window.commit)
        of_component.append(outside)
        ids.append(seam_start + round_[outside] * row + bit[outside])
    owner, id_ = np.concatenate(of_component), np.concatenate(ids)
    committed = commits[owner]
    owner, id_ = owner[committed], id_[committed]
    order = np.lexsort((id_, owner))
    counts = np.bincount(owner, minlength=len(u))
    return Problem(
        rounds * row,
        8 * (frame_bytes + seam_bytes),
        frame_bytes,
        seam_bytes,
        c.p,
        c.group,
        u,
        v,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        id_[order],
        far,
    )


def cut_closed(space: SpaceTime, window: Window, erasures: tuple[Erasure, ...] = ()) -> Problem:
    """A window as if its rounds were all there are: what its end cuts off is left out.

    Every component has the observables it flips as its ids, in the buffer as well; there is no
    seam. Nothing may be committed from it, but it has logical classes, which an open end has not.

    Raises:
        GeometryError: an erasure reaches past the seam.
    """
    c = _starting_inside(space, window, erasures)
    rounds = window.end - window.start
    c = select(c, np.flatnonzero(c.last_round < rounds))
    row = 8 * space.layout.record_bytes
    v = np.where(c.v_round >= 0, c.v_round * row + c.v_bit, -1)
    frame_bytes, _ = answer_bytes(space)
    return Problem(
        rounds * row,
        8 * frame_bytes,
        frame_bytes,
        0,
        c.p,
        c.group,
        c.u_round * row + c.u_bit,
        v,
        c.obs_ptr,
        c.obs,
        v,
    )


def _starting_inside(space: SpaceTime, window: Window, erasures: tuple[Erasure, ...]) -> Components:
    """Components whose earliest detector lies in the window, rounds counted from its start."""
    c = space.components(window.start, window.end, window.length)
    if erasures:
        _check_erasures(space, erasures)
        c = concatenate([c, _as_components(erasures)])
    inside = (c.first_round >= window.start) & (c.first_round < window.end)
    return select(c, np.flatnonzero(inside)).shifted(-window.start)


def restrict(problem: Problem, nodes: Bits) -> Problem:
    """What of a problem lies on some of its nodes: ``(num_nodes,)`` bool.

    Raises:
        GeometryError: a component joins one of them to one of the others.
    """
    pair = problem.v >= 0
    if (nodes[problem.u[pair]] != nodes[problem.v[pair]]).any():
        raise GeometryError("a mechanism or an erasure joins detectors of two parts of the code")
    which = np.flatnonzero(nodes[problem.u])
    id_ptr, ids = gather_rows(problem.id_ptr, problem.ids, which)
    return replace(
        problem,
        p=problem.p[which],
        group=problem.group[which],
        u=problem.u[which],
        v=problem.v[which],
        id_ptr=id_ptr,
        ids=ids,
        far=problem.far[which],
        nodes=nodes,
    )


def _check_erasures(space: SpaceTime, erasures: tuple[Erasure, ...]) -> None:
    for one in erasures:
        rounds = [round_ for round_, _ in one.detectors]
        if not 1 <= len(rounds) <= 2:
            raise GeometryError(f"an erasure flips one or two detectors, not {len(rounds)}")
        if max(rounds) - min(rounds) > space.span:
            raise GeometryError(
                f"an erasure joins rounds {min(rounds)} and {max(rounds)}; the longest mechanism, "
                f"and so the seam, spans {space.span}"
            )


def _as_components(erasures: tuple[Erasure, ...]) -> Components:
    first = [e.detectors[0] for e in erasures]
    second = [e.detectors[1] if len(e.detectors) > 1 else (-1, -1) for e in erasures]
    counts = [len(e.observables) for e in erasures]
    return Components(
        np.full(len(erasures), 0.5),
        np.arange(len(erasures)),
        np.array([r for r, _ in first], dtype=np.int64),
        np.array([b for _, b in first], dtype=np.int64),
        np.array([r for r, _ in second], dtype=np.int64),
        np.array([b for _, b in second], dtype=np.int64),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([o for e in erasures for o in e.observables], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class Edges:
    """A problem's components merged by their pair of nodes: what uncorrelated matching sees.

    Attributes:
        p: ``(E,)`` probability that an odd number of an edge's mechanisms fired.
        u, v: ``(E,)`` nodes, v = -1 for the boundary.
        component: ``(E,)`` index into the problem of the first mechanism, whose ids the edge has.
        conflicts: edges whose mechanisms disagree about their ids; the first one's stay, as
            PyMatching does.
    """

    p: NDArray[np.float64]
    u: Ints
    v: Ints
    component: Ints
    conflicts: int


def merge_parallel(problem: Problem) -> Edges:
    """Merge mechanisms on the same pair of nodes, independently, keeping the first one's ids."""
    low = np.where(problem.v >= 0, np.minimum(problem.u, problem.v), -1)
    high = np.where(problem.v >= 0, np.maximum(problem.u, problem.v), problem.u)
    key = (low + 1) * (problem.num_nodes + 1) + high
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    p = combine_probabilities(problem.p, which, len(first))
    own = _id_hash(problem)
    conflicts = len(np.unique(which[own != own[first][which]]))
    order = np.argsort(first, kind="stable")
    chosen = first[order]
    return Edges(p[order], problem.u[chosen], problem.v[chosen], chosen, conflicts)


def _id_hash(problem: Problem) -> NDArray[np.uint64]:
    out = np.zeros(len(problem.u), dtype=np.uint64)
    np.add.at(out, owners(problem.id_ptr), mix(problem.ids))
    return out
