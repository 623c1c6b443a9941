"""The compiled half of `qdec.match.guarded`, whose docstring has the method and its proof.

All kernels live in this one file: numba keeps compiled code as long as the file of the function
called from Python stays the same, whatever happens to others that it calls.
"""

from __future__ import annotations

import numpy as np

from qdec.bits import Bytes
from qdec.match.compiled import compiled
from qdec.match.guarded.tables import Ints, Tables

# Marks of an edge: who uses it, and what has been done with it.
PLAIN, CORRELATED, BOTH, SEEN, PAID = 1, 2, 3, 4, 8


@compiled
def _flip(bits: Bytes, by: Bytes) -> None:
    for k in range(len(bits)):
        bits[k] ^= by[k]


@compiled
def _uses(t: Tables, mark: Bytes, way: int, who: int) -> bool:
    """Whether an explanation has all edges of a way, none of them paid for."""
    for at in range(t.way_edge_ptr[way], t.way_edge_ptr[way + 1]):
        if mark[t.way_edges[at]] & (who | PAID) != who:
            return False
    return True


@compiled
def _join(mark: Bytes, edge: int, cluster: Ints, size: int) -> int:
    if mark[edge] & BOTH and not mark[edge] & SEEN:
        mark[edge] |= SEEN
        cluster[size] = edge
        size += 1
    return size


@compiled
def _grow(t: Tables, mark: Bytes, seed: int, cluster: Ints) -> int:
    """The cluster of an edge: edges that share nodes, or a fault that one explanation has."""
    size = _join(mark, seed, cluster, 0)
    done = 0
    while done < size:
        edge = cluster[done]
        done += 1
        for node in (t.edge_u[edge], t.edge_v[edge]):
            if node >= 0:
                for at in range(t.node_edge_ptr[node], t.node_edge_ptr[node + 1]):
                    size = _join(mark, t.node_edges[at], cluster, size)
        for at in range(t.edge_way_ptr[edge], t.edge_way_ptr[edge + 1]):
            way = t.edge_ways[at]
            if _uses(t, mark, way, PLAIN) or _uses(t, mark, way, CORRELATED):
                for k in range(t.way_edge_ptr[way], t.way_edge_ptr[way + 1]):
                    size = _join(mark, t.way_edges[k], cluster, size)
    return size


@compiled
def _price(t: Tables, mark: Bytes, cluster: Ints, who: int, bits: Bytes) -> tuple[int, float]:
    """Number and weight of an explanation's faults; its answer bits go into `bits`."""
    count, weight = 0, 0.0
    for edge in cluster:
        if mark[edge] & who:
            count += 1
            weight += t.edge_weight[edge]
            _flip(bits, t.edge_bits[edge])
    while True:
        best, most = -1, 0.0
        for edge in cluster:
            if mark[edge] & (who | PAID) == who:
                for at in range(t.edge_way_ptr[edge], t.edge_way_ptr[edge + 1]):
                    way = t.edge_ways[at]
                    if t.gain[way] > most and _uses(t, mark, way, who):
                        best, most = way, t.gain[way]
        if best < 0:
            break
        start, end = t.way_edge_ptr[best], t.way_edge_ptr[best + 1]
        for at in range(start, end):
            mark[t.way_edges[at]] |= PAID
        count -= end - start - 1
        weight -= most
    for edge in cluster:
        mark[edge] &= ~np.uint8(PAID)
    return count, weight


@compiled
def _cluster_events(t: Tables, mark: Bytes, cluster: Ints) -> Ints:
    """The events that a cluster explains, increasing."""
    ends = np.empty(2 * len(cluster), dtype=np.int64)
    n = 0
    for edge in cluster:
        if mark[edge] & PLAIN:
            ends[n] = t.edge_u[edge]
            n += 1
            if t.edge_v[edge] >= 0:
                ends[n] = t.edge_v[edge]
                n += 1
    ends[:n].sort()
    kept = 0
    for k in range(n):
        if kept and ends[kept - 1] == ends[k]:
            kept -= 1
        else:
            ends[kept] = ends[k]
            kept += 1
    return ends[:kept]


@compiled
def _difference(t: Tables, events: Ints, size: int, fault: int, out: Ints) -> int:
    """Events that are left when a fault is taken away; both are increasing, and so is `out`."""
    n, i = 0, 0
    at, end = t.fault_event_ptr[fault], t.fault_event_ptr[fault + 1]
    while i < size or at < end:
        if at == end or (i < size and events[i] < t.fault_events[at]):
            out[n] = events[i]
            n += 1
            i += 1
        elif i == size or t.fault_events[at] < events[i]:
            out[n] = t.fault_events[at]
            n += 1
            at += 1
        else:
            i += 1
            at += 1
    return n


@compiled
def _exactly(t: Tables, events: Ints, size: int) -> int:
    """A fault that flips just these nodes, or -1."""
    wanted = np.uint64(0)
    for k in range(size):
        wanted ^= t.node_hash[events[k]]
    at = np.searchsorted(t.hash, wanted)
    while at < len(t.hash) and t.hash[at] == wanted:
        fault = t.hash_fault[at]
        start, end = t.fault_event_ptr[fault], t.fault_event_ptr[fault + 1]
        if end - start == size:
            same = True
            for k in range(size):
                same &= events[k] == t.fault_events[start + k]
            if same:
                return int(fault)
        at += 1
    return -1


@compiled
def few_faults(t: Tables, events: Ints, few: int, budget: int, bits: Bytes) -> bool:
    """Whether at most `few` faults explain the events; their answer bits then go into `bits`.

    The lowest event must be flipped by one of them: all that do are tried in turn, and the last
    fault is looked up by what it would have to flip. Gives up after `budget` faults were tried.
    """
    if few < 1 or len(events) > t.most_events * few:
        return False
    left = np.empty((few, len(events) + t.most_events * few), dtype=np.int64)
    sizes = np.empty(few, dtype=np.int64)
    tried = np.empty(few, dtype=np.int64)  # place of the next fault to try, per fault before it
    chosen = np.empty(few, dtype=np.int64)
    left[0, : len(events)] = events
    sizes[0] = len(events)
    depth = 0
    entering = True
    while depth >= 0:
        size, remain = sizes[depth], few - depth
        if entering:
            last = _exactly(t, left[depth], size) if size <= t.most_events else -1
            if last >= 0:
                _flip(bits, t.fault_bits[last])
                for k in range(depth):
                    _flip(bits, t.fault_bits[chosen[k]])
                return True
            if remain == 1 or size > t.most_events * remain:
                depth -= 1
                entering = False
                continue
            tried[depth] = t.node_fault_ptr[left[depth, 0]]
        if tried[depth] == t.node_fault_ptr[left[depth, 0] + 1]:
            depth -= 1
            entering = False
            continue
        fault = t.node_faults[tried[depth]]
        tried[depth] += 1
        budget -= 1
        if budget < 0:
            return False
        chosen[depth] = fault
        sizes[depth + 1] = _difference(t, left[depth], size, fault, left[depth + 1])
        depth += 1
        entering = True
    return False


@compiled
def _decide(
    t: Tables, mark: Bytes, cluster: Ints, few: int, budget: int, surely: bool, bits: Bytes
) -> bool:
    """Put the better explanation of a cluster into `bits`.

    With `surely`, only if that is one of few faults; returns whether something was put there.
    """
    plain, correlated = np.zeros_like(bits), np.zeros_like(bits)
    plain_count, plain_weight = _price(t, mark, cluster, PLAIN, plain)
    count, weight = _price(t, mark, cluster, CORRELATED, correlated)
    better = weight < plain_weight
    if (count <= few) != (plain_count <= few):
        better = count <= few
    elif count > few:
        events = _cluster_events(t, mark, cluster)
        if few_faults(t, events, few, budget, bits):
            return True
        if surely:
            return False
    _flip(bits, correlated if better else plain)
    return True


@compiled
def settle(
    t: Tables,
    mark: Bytes,
    plain: Ints,
    correlated: Ints,
    num_events: int,
    few: int,
    budget: int,
    bits: Bytes,
) -> None:
    """Choose between two explanations of a window, cluster by cluster.

    Args:
        t: the window's edges and faults.
        mark: ``(E,)`` zeros, and zeros again afterwards.
        plain, correlated: edges of the explanations; one that comes twice is not there.
        num_events: events of the window.
        few: faults that are taken in any case where they explain a cluster.
        budget: faults that a search may try.
        bits: ``(answer_bytes,)`` zeros; gets the answer.
    """
    used = np.empty(len(plain) + len(correlated), dtype=np.int64)
    size = 0
    for edge in plain:
        mark[edge] ^= PLAIN
        if not mark[edge] & SEEN:
            mark[edge] |= SEEN
            used[size] = edge
            size += 1
    for edge in correlated:
        mark[edge] ^= CORRELATED
        if not mark[edge] & SEEN:
            mark[edge] |= SEEN
            used[size] = edge
            size += 1
    used = used[:size]
    for edge in used:
        mark[edge] &= BOTH
    settled = False
    if num_events <= t.most_events * few:
        settled = _decide(t, mark, used, few, budget, True, bits)
    if not settled:
        cluster = np.empty(size, dtype=np.int64)
        for edge in used:
            if mark[edge] == PLAIN or mark[edge] == CORRELATED:
                grown = _grow(t, mark, int(edge), cluster)
                if grown:
                    _decide(t, mark, cluster[:grown], few, budget, False, bits)
        for edge in used:
            if mark[edge] == BOTH:  # in no cluster where the explanations differ
                _flip(bits, t.edge_bits[edge])
    for edge in used:
        mark[edge] = 0
