"""A window's edges and faults as flat arrays, for `qdec.match.guarded.kernels`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes.mechanisms import combine_probabilities, mix
from qdec.codes.rows import gather_rows, owners
from qdec.windows.cut import Problem, merge_parallel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
_LEAST_P = 1e-300  # weights stay finite


class Tables(NamedTuple):
    """Edges are numbered by pair of nodes; faults are those that differ in what they flip.

    A *way* is a set of edges that a fault of several edges was decomposed into: the same fault may
    have more than one.

    Attributes:
        edge_key: ``(E,)`` increasing: what `edge_keys` makes of an edge's nodes.
        edge_u, edge_v: ``(E,)`` nodes; v = -1 for the boundary.
        edge_weight: ``(E,)`` of the fault that is this edge alone.
        edge_bits: ``(E, answer_bytes)`` answer bits.
        node_edge_ptr, node_edges: the edges at each node.
        edge_way_ptr, edge_ways: the ways that each edge is of.
        way_edge_ptr, way_edges: edges of each way, increasing.
        gain: ``(ways,)`` weight that the fault saves over the way's edges apart; positive.
    fault_event_ptr, fault_events: nodes that each fault flips, increasing.
        fault_bits: ``(F, answer_bytes)`` answer bits.
        node_fault_ptr, node_faults: the faults that flip each node.
        node_hash: ``(num_nodes,)``; a set's hash is the XOR of its nodes'.
        hash, hash_fault: ``(F,)`` hashes of the faults' events, increasing, and whose they are.
        most_events: nodes that a fault flips at most.
    """

    edge_key: Ints
    edge_u: Ints
    edge_v: Ints
    edge_weight: Floats
    edge_bits: Bytes
    node_edge_ptr: Ints
    node_edges: Ints
    edge_way_ptr: Ints
    edge_ways: Ints
    way_edge_ptr: Ints
    way_edges: Ints
    gain: Floats
    fault_event_ptr: Ints
    fault_events: Ints
    fault_bits: Bytes
    node_fault_ptr: Ints
    node_faults: Ints
    node_hash: Hashes
    hash: Hashes
    hash_fault: Ints
    most_events: int


def edge_keys(u: Ints, v: Ints, num_nodes: int) -> Ints:
    """One number per pair of nodes in either order, v = -1 for the boundary."""
    low, high = np.minimum(u, v), np.maximum(u, v)
    return np.asarray((low + 1) * (num_nodes + 1) + high, dtype=np.int64)


def tabulate(problem: Problem) -> Tables:
    """Number a problem's edges and faults, and say who meets whom."""
    edges = merge_parallel(problem)
    order = np.argsort(edge_keys(edges.u, edges.v, problem.num_nodes))
    u, v = edges.u[order], edges.v[order]
    key = edge_keys(u, v, problem.num_nodes)
    num_edges, answer_bytes = len(u), problem.num_ids // 8
    edge_bits = _packed(
        *gather_rows(problem.id_ptr, problem.ids, edges.component[order]), answer_bytes
    )

    # What the components of an instruction flip together.
    starts = np.flatnonzero(np.diff(problem.group, prepend=-1))
    item = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(problem.group)))
    pair = problem.v >= 0
    event_ptr, events = _odd(
        np.concatenate([item, item[pair]]),
        np.concatenate([problem.u, problem.v[pair]]),
        len(starts),
    )
    id_ptr, ids = _odd(item[owners(problem.id_ptr)], problem.ids, len(starts))
    edge_of = np.searchsorted(key, edge_keys(problem.u, problem.v, problem.num_nodes))
    way_ptr, way_edges = _odd(item, edge_of, len(starts))

    # Instructions that flip the same are one fault.
    node_hash = mix(np.arange(problem.num_nodes))
    event_hash = _xor_rows(event_ptr, node_hash[events])
    same = mix(event_hash, _xor_rows(id_ptr, mix(ids, np.ones_like(ids))))
    _, first, fault = np.unique(same, return_index=True, return_inverse=True)
    fault = fault.reshape(-1)
    weight = _weights(combine_probabilities(problem.p[starts], fault, len(first)))

    # Its ways, each once; those of one edge say what that edge weighs alone.
    _, distinct = np.unique(
        mix(fault, _xor_rows(way_ptr, mix(way_edges, np.full_like(way_edges, 2)))),
        return_index=True,
    )
    way_weight = weight[fault[distinct]]
    way_ptr, way_edges = gather_rows(way_ptr, way_edges, distinct)
    edge_weight = _weights(edges.p[order])
    alone = np.flatnonzero(np.diff(way_ptr) == 1)
    edge_weight[way_edges[way_ptr[alone]]] = way_weight[alone]
    apart = np.bincount(owners(way_ptr), weights=edge_weight[way_edges], minlength=len(distinct))
    useful = np.flatnonzero((np.diff(way_ptr) > 1) & (apart > way_weight))
    gain = (apart - way_weight)[useful]
    way_ptr, way_edges = gather_rows(way_ptr, way_edges, useful)

    seen = first[np.diff(event_ptr)[first] > 0]
    event_ptr, events = gather_rows(event_ptr, events, seen)
    by_hash = np.argsort(event_hash[seen], kind="stable")
    inner = v >= 0
    return Tables(
        key,
        u,
        v,
        edge_weight,
        edge_bits,
        *_by_value(
            np.concatenate([np.arange(num_edges), np.flatnonzero(inner)]),
            np.concatenate([u, v[inner]]),
            problem.num_nodes,
        ),
        *_by_value(owners(way_ptr), way_edges, num_edges),
        way_ptr,
        way_edges,
        gain,
        event_ptr,
        events,
        _packed(*gather_rows(id_ptr, ids, seen), answer_bytes),
        *_by_value(owners(event_ptr), events, problem.num_nodes),
        node_hash,
        event_hash[seen][by_hash],
        by_hash,
        int(np.diff(event_ptr).max(initial=0)),
    )


def _weights(p: Floats) -> Floats:
    """log((1 - p) / p)."""
    p = np.maximum(p, _LEAST_P)
    return np.asarray(np.log1p(-p) - np.log(p))


def _odd(owner: Ints, value: Ints, rows: int) -> tuple[Ints, Ints]:
    """Rows of the values that each owner has an odd number of times, increasing."""
    order = np.lexsort((value, owner))
    owner, value = owner[order], value[order]
    new = (np.diff(owner, prepend=-1) != 0) | (np.diff(value, prepend=-1) != 0)
    starts = np.flatnonzero(new)
    odd = starts[np.diff(starts, append=len(owner)) % 2 == 1]
    counts = np.bincount(owner[odd], minlength=rows)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), value[odd]


def _by_value(owner: Ints, value: Ints, rows: int) -> tuple[Ints, Ints]:
    """For each value, who has it."""
    order = np.argsort(value, kind="stable")
    counts = np.bincount(value, minlength=rows)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), owner[order]


def _xor_rows(ptr: Ints, hashes: Hashes) -> Hashes:
    out = np.zeros(len(ptr) - 1, dtype=np.uint64)
    np.bitwise_xor.at(out, owners(ptr), hashes)
    return out


def _packed(ptr: Ints, ids: Ints, width: int) -> Bytes:
    """``(rows, width)`` uint8 with each row's bits set."""
    out = np.zeros((len(ptr) - 1, width), dtype=np.uint8)
    np.bitwise_xor.at(out, (owners(ptr), ids >> 3), (1 << (ids & 7)).astype(np.uint8))
    return out
