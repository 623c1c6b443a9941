"""The compiled half of `qdec.match.joint`: what an edge costs beside others, and what faults cost.

All kernels live in this one file: numba keeps compiled code as long as the file of the function
called from Python stays the same, whatever happens to others that it calls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.match.compiled import compiled
from qdec.match.guarded.tables import Floats, Hashes, Ints, Tables

CHOSEN, PAID = np.uint8(1), np.uint8(2)


@compiled
def reweigh(
    t: Tables, of_side: Bytes, chosen: Bytes, side: Bytes, log_odds: NDArray[np.float32]
) -> None:
    """What the edges of one side cost, given those of the other.

    An edge that makes a fault together with edges of the other side that are there costs only what
    the fault costs more than they do.

    Args:
        t: the window's edges and faults.
        of_side: ``(E,)`` the side of each edge: 0 or 1.
        chosen: ``(R, E)`` 1 for edges that are there.
        side: ``(R,)`` the side to weigh.
        log_odds: ``(R, E)``, minus the weights of that side's edges; the other entries are not
            touched.
    """
    for r in range(len(chosen)):
        mine = side[r]
        for edge in range(len(of_side)):
            if of_side[edge] == mine:
                log_odds[r, edge] = -t.edge_weight[edge]
        for edge in range(len(of_side)):
            if of_side[edge] == mine or not chosen[r, edge]:
                continue
            for at in range(t.edge_way_ptr[edge], t.edge_way_ptr[edge + 1]):
                way = t.edge_ways[at]
                open_edge, lacking = np.int64(-1), 0
                for k in range(t.way_edge_ptr[way], t.way_edge_ptr[way + 1]):
                    other = t.way_edges[k]
                    if of_side[other] == mine or not chosen[r, other]:
                        open_edge = other
                        lacking += 1
                if lacking == 1 and of_side[open_edge] == mine:
                    odds = np.float32(t.gain[way] - t.edge_weight[open_edge])
                    log_odds[r, open_edge] = max(log_odds[r, open_edge], odds)


@compiled
def price(
    t: Tables, chosen: Bytes, of_side: Bytes, edge_hash: Hashes, weight: Floats, keys: Hashes
) -> None:
    """What sets of edges weigh as faults: the fault that saves most first, as in `guarded`.

    Args:
        t: the window's edges and faults.
        chosen: ``(R, E)`` 1 for edges that are there; the same afterwards.
        of_side: ``(E,)`` the side of each edge: 0 or 1.
        edge_hash: ``(E,)``; a set's key is the XOR of its edges'.
        weight: ``(R,)``: sum of log((1 - p) / p) of the faults.
        keys: ``(R, 2)``: of the edges of either side.
    """
    edges = np.empty(chosen.shape[1], dtype=np.int64)
    for r in range(len(chosen)):
        mark = chosen[r]
        size = 0
        total = 0.0
        keys[r, 0] = keys[r, 1] = np.uint64(0)
        for edge in range(len(mark)):
            if mark[edge]:
                edges[size] = edge
                size += 1
                total += t.edge_weight[edge]
                keys[r, of_side[edge]] ^= edge_hash[edge]
        while True:
            best, most = np.int64(-1), 0.0
            for edge in edges[:size]:
                if mark[edge] != CHOSEN:
                    continue
                for at in range(t.edge_way_ptr[edge], t.edge_way_ptr[edge + 1]):
                    way = t.edge_ways[at]
                    if t.gain[way] <= most:
                        continue
                    whole = True
                    for k in range(t.way_edge_ptr[way], t.way_edge_ptr[way + 1]):
                        whole &= mark[t.way_edges[k]] == CHOSEN
                    if whole:
                        best, most = way, t.gain[way]
            if best < 0:
                break
            for k in range(t.way_edge_ptr[best], t.way_edge_ptr[best + 1]):
                mark[t.way_edges[k]] |= PAID
            total -= most
        for edge in edges[:size]:
            mark[edge] = CHOSEN
        weight[r] = total


@compiled
def weigh(
    place: Ints, weight: Floats, key: Hashes, least: Floats, total: Floats, lightest: Ints
) -> None:
    """Weigh the sets of each place, those with equal keys once.

    Args:
        place: ``(R,)`` of each set.
        weight: ``(R,)`` finite.
        key: ``(R,)``; equal sets weigh the same.
        least: ``(places,)``: the weight of its lightest set; not touched where there is none.
        total: ``(places,)``: minus the log of the sum of exp(-weight); likewise.
        lightest: ``(places,)``: which set that is, of equals the one with the least key; likewise.
    """
    ends = np.zeros(len(least) + 1, dtype=np.int64)
    for at in place:
        ends[at + 1] += 1
    ends = np.cumsum(ends)
    order = np.empty(len(place), dtype=np.int64)
    filled = ends[:-1].copy()
    for r in range(len(place)):
        # Few sets have one place: each is put where it belongs among those before it.
        at = filled[place[r]]
        filled[place[r]] += 1
        while at > ends[place[r]]:
            other = order[at - 1]
            if weight[other] < weight[r] or (weight[other] == weight[r] and key[other] <= key[r]):
                break
            order[at] = other
            at -= 1
        order[at] = r
    for which in range(len(least)):
        if ends[which] == ends[which + 1]:
            continue
        first = order[ends[which]]
        part = 1.0
        for at in range(ends[which] + 1, ends[which + 1]):
            r = order[at]
            if key[r] != key[order[at - 1]]:
                part += np.exp(weight[first] - weight[r])
        least[which] = weight[first]
        total[which] = weight[first] - np.log(part)
        lightest[which] = first


@compiled
def answer(t: Tables, chosen: Bytes, which: Ints, bits: Bytes) -> None:
    """XOR of the answer bits of the edges in rows `which` of `chosen`, into zeros."""
    for b in range(len(which)):
        for edge in range(chosen.shape[1]):
            if chosen[which[b], edge]:
                for k in range(bits.shape[1]):
                    bits[b, k] ^= t.edge_bits[edge, k]
