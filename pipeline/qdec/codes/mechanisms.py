"""A detector error model as flat arrays: error instructions, their components, what each flips.

An *instruction* (`error(p) D0 D1 ^ D2 L0`) is one physical fault mechanism. Its `^`-separated
*components* are the graphlike edges it was decomposed into: one or two detectors each (one: an edge
to the boundary), plus the observables that the edge flips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import stim
from numpy.typing import NDArray

from qdec.codes.rows import owners
from qdec.errors import CodeError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """Arrays over M instructions and K components, in the DEM's own order.

    Attributes:
        p: ``(M,)`` probability of each instruction.
        group: ``(K,)`` instruction that each component belongs to, non-decreasing.
        u: ``(K,)`` first detector of the component.
        v: ``(K,)`` second detector, or -1 for an edge to the boundary.
        obs_ptr: ``(K+1,)`` component k flips ``obs[obs_ptr[k]:obs_ptr[k+1]]``.
        obs: observables flipped, sorted within a component.
        undetectable: instructions or components dropped because they touch no detector.
    """

    p: Floats
    group: Ints
    u: Ints
    v: Ints
    obs_ptr: Ints
    obs: Ints
    undetectable: int = 0


def read_mechanisms(dem: stim.DetectorErrorModel) -> Mechanisms:
    """Read a (bounded, see `limits.check_dem`) DEM; repeat blocks are read once and tiled.

    Instructions with p = 0 are dropped, as PyMatching does. Components without detectors are
    dropped and counted: no decoder can see them.

    Raises:
        CodeError: the DEM is empty, or has a component with more than two detectors.
    """
    parts: list[_Block] = []
    _read(dem, 0, parts)
    block = _concatenate(parts)
    if block.p.size == 0:
        raise CodeError("the detector error model has no error mechanisms with p > 0")
    if block.u.size == 0:
        raise CodeError("no error mechanism flips a detector: there is nothing to decode")
    return _merge_identical(block)


def mix(*columns: Ints | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash rows of integer columns to 64 bits (splitmix64 finaliser over a running sum)."""
    state = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        bits = column.astype(np.int64, copy=False).view(np.uint64)
        state = state + np.uint64(0x9E3779B97F4A7C15) + bits
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def hash_instructions(
    u: NDArray[np.uint64], v: NDArray[np.uint64], obs_ptr: Ints, obs: Ints, group: Ints
) -> NDArray[np.uint64]:
    """``(M,)`` hash of what each instruction flips and how it is decomposed.

    The order of an edge's two detectors (`u`, `v`: their hashes) and of an instruction's
    components does not count.
    """
    observables = np.zeros(len(group), dtype=np.uint64)
    np.add.at(observables, owners(obs_ptr), mix(obs))
    instructions = np.zeros(int(group[-1]) + 1 if len(group) else 0, dtype=np.uint64)
    np.add.at(instructions, group, mix(u + v, observables))
    return instructions


def combine_probabilities(p: Floats, which: Ints, count: int) -> Floats:
    """Probability that an odd number of independent causes happens, per effect.

    Args:
        p: ``(n,)`` probability of each cause, in (0, 1].
        which: ``(n,)`` the effect, in ``[0, count)``, that each cause has.
        count: number of effects.

    Returns:
        ``(count,)``: (1 - prod(1 - 2p)) / 2, computed without losing small probabilities.
    """
    odds = np.zeros(count)
    sign = np.ones(count)
    certain = np.abs(1 - 2 * p)
    with np.errstate(divide="ignore"):  # p = 1/2 leaves nothing known: log 0 → p = 1/2
        np.add.at(
            odds, which, np.where(p < 0.5, np.log1p(-2 * np.minimum(p, 0.5)), np.log(certain))
        )
    np.multiply.at(sign, which, np.where(p > 0.5, -1.0, 1.0))
    return np.where(sign > 0, -np.expm1(odds) / 2, (1 + np.exp(odds)) / 2)


def _merge_identical(block: _Block) -> Mechanisms:
    """Instructions that flip and decompose alike become one, in the place of the first.

    Stim lists a mechanism twice where its loop folding splits it between two iterations; merged,
    every round of a repeating circuit has the same list. Two independent causes of one effect
    combine to p1(1 - p2) + p2(1 - p1), as PyMatching combines parallel edges.
    """
    obs_ptr = np.concatenate([[0], np.cumsum(block.obs_count)]).astype(np.int64)
    keys = hash_instructions(mix(block.u), mix(block.v), obs_ptr, block.obs, block.group)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    merged = combine_probabilities(block.p, which.reshape(-1), len(first))
    order = np.argsort(first)
    keep = np.zeros(len(keys), dtype=np.bool_)
    keep[first] = True
    component = keep[block.group]
    counts = block.obs_count[component]
    return Mechanisms(
        merged[order],
        (np.cumsum(keep) - 1)[block.group[component]],
        block.u[component],
        block.v[component],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        block.obs[np.repeat(component, block.obs_count)],
        block.undetectable,
    )


@dataclass(slots=True)
class _Block:
    p: Floats
    group: Ints
    u: Ints
    v: Ints
    obs_count: Ints
    obs: Ints
    undetectable: int

    def repeated(self, times: int, shift: int) -> _Block:
        """The block `times` over, each copy's detectors `shift` further on."""
        copies = np.arange(times, dtype=np.int64)
        groups = len(self.p)
        steps = np.repeat(copies * shift, len(self.u))
        v = np.tile(self.v, times)
        return _Block(
            np.tile(self.p, times),
            np.tile(self.group, times) + np.repeat(copies * groups, len(self.group)),
            np.tile(self.u, times) + steps,
            np.where(v >= 0, v + steps, -1),
            np.tile(self.obs_count, times),
            np.tile(self.obs, times),
            self.undetectable * times,
        )


def _concatenate(parts: list[_Block]) -> _Block:
    offsets = np.cumsum([0] + [len(part.p) for part in parts])
    empty = np.zeros(0, dtype=np.int64)
    return _Block(
        np.concatenate([np.zeros(0), *(part.p for part in parts)]),
        np.concatenate([empty, *(b.group + o for b, o in zip(parts, offsets, strict=False))]),
        np.concatenate([empty, *(part.u for part in parts)]),
        np.concatenate([empty, *(part.v for part in parts)]),
        np.concatenate([empty, *(part.obs_count for part in parts)]),
        np.concatenate([empty, *(part.obs for part in parts)]),
        sum(part.undetectable for part in parts),
    )


class _Instructions:
    """Collects plain instructions between repeat blocks."""

    def __init__(self) -> None:
        self.p: list[float] = []
        self.group: list[int] = []
        self.u: list[int] = []
        self.v: list[int] = []
        self.obs_count: list[int] = []
        self.obs: list[int] = []
        self.undetectable = 0

    def add(self, item: stim.DemInstruction, shift: int) -> None:
        p = item.args_copy()[0]
        if p <= 0:
            return
        seen = len(self.u)
        for targets in item.target_groups():
            detectors: list[int] = []
            observables: list[int] = []
            for target in targets:
                into = detectors if target.is_relative_detector_id() else observables
                # Listing a target twice cancels it.
                into.remove(target.val) if target.val in into else into.append(target.val)
            if len(detectors) > 2:
                raise CodeError(
                    f"undecomposed hyperedge '{item}': a component flips {len(detectors)} "
                    "detectors; make the model with decompose_errors=True"
                )
            if not detectors:
                self.undetectable += 1
                continue
            self.group.append(len(self.p))
            self.u.append(detectors[0] + shift)
            self.v.append(detectors[1] + shift if len(detectors) == 2 else -1)
            self.obs_count.append(len(observables))
            self.obs.extend(sorted(observables))
        if len(self.u) > seen:
            self.p.append(p)

    def block(self) -> _Block:
        return _Block(
            np.array(self.p, dtype=np.float64),
            np.array(self.group, dtype=np.int64),
            np.array(self.u, dtype=np.int64),
            np.array(self.v, dtype=np.int64),
            np.array(self.obs_count, dtype=np.int64),
            np.array(self.obs, dtype=np.int64),
            self.undetectable,
        )


def _read(dem: stim.DetectorErrorModel, shift: int, into: list[_Block]) -> int:
    """Append blocks for `dem` with detectors offset by `shift`; return the shift after it."""
    plain = _Instructions()
    for item in dem:
        if isinstance(item, stim.DemRepeatBlock):
            into.append(plain.block())
            plain = _Instructions()
            body: list[_Block] = []
            step = _read(item.body_copy(), 0, body)
            into.append(_shifted(_concatenate(body), shift).repeated(item.repeat_count, step))
            shift += step * item.repeat_count
        elif item.type == "error":
            plain.add(item, shift)
        elif item.type == "shift_detectors":
            shift += int(item.targets_copy()[0])
    into.append(plain.block())
    return shift


def _shifted(block: _Block, shift: int) -> _Block:
    block.u = block.u + shift
    block.v = np.where(block.v >= 0, block.v + shift, -1)
    return block
