"""The compiled half of `qdec.match.sparse`, whose docstring has the method and its proof.

All kernels live in this one file: numba keeps compiled code as long as the file of the function
that Python calls stays the same, whatever happens to others that it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qdec.match.sparse.state import MAX_MEMBERS, Bytes, Floats, Graph, Scratch

# How a window was answered: the values of `Route`.
EMPTY, LOCAL, FULL, INFEASIBLE, SICK = range(5)

# With whom an event is matched, if not with another event: the boundary; whatever lies outside its
# ball; nobody, since there is nothing. In a dynamic programme: it was taken by an earlier event.
BOUNDARY, OUTSIDE, NOBODY, TAKEN = -1, -2, -3, -4

# No estimate of a probability is surer than e^-64.
CLIP = 64.0
# The radius that balls get first, and by how much more than the least step they then grow. Larger
# steps take fewer rounds and enter nodes in vain: in an odd cluster every event's way out is
# tried in turn, whichever is cheapest.
FIRST_RADIUS = 1.0
STEP = 1.0

# For a literal in a call, numba compiles the function called once more; for these it does not.
_ZERO, _ONE, _NONE = (cast(int, np.int64(n)) for n in (0, 1, -1))

_F = TypeVar("_F", bound=Callable[..., object])
_njit: Any = njit  # whose types know fewer options than it has


def _part(function: _F) -> _F:
    """Compile a function that only kernels call."""
    return cast(_F, _njit(nogil=True, no_cpython_wrapper=True)(function))


def _inline(function: _F) -> _F:
    """Compile a function into those that call it: handing many arrays over costs time."""
    return cast(_F, _njit(nogil=True, no_cpython_wrapper=True, forceinline=True)(function))


def _kernel(function: _F) -> _F:
    """Compile on first use; keep the code on disk where there is a folder to keep it in."""
    try:
        return cast(_F, _njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast(_F, _njit(nogil=True)(function))


@_inline
def _set(slot: Any, key: float, node: int, edge: int, before: int) -> None:
    slot["key"] = key
    slot["node"] = node
    slot["edge"] = edge
    slot["before"] = before


@_inline
def _move(source: Any, to: Any) -> None:
    _set(to, source["key"], source["node"], source["edge"], source["before"])


@_inline
def _push(s: Scratch, size: int, key: float, node: int, edge: int, before: int) -> None:
    """Put a node on the heap of `size` nodes."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if s.heap[up]["key"] <= key:
            break
        _move(s.heap[up], s.heap[at])
        at = up
    _set(s.heap[at], key, node, edge, before)


@_inline
def _drop_first(s: Scratch, size: int) -> None:
    """Take the nearest node off the heap of which `size` nodes are to stay."""
    key = s.heap[size]["key"]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and s.heap[down + 1]["key"] < s.heap[down]["key"]:
            down += 1
        if s.heap[down]["key"] >= key:
            break
        _move(s.heap[down], s.heap[at])
        at = down
    _move(s.heap[size], s.heap[at])


@_inline
def _in_ball(s: Scratch, i: int, node: int) -> bool:
    at = s.head[node]
    while at >= 0:
        if s.entries[at]["event"] == i:
            return True
        at = s.entries[at]["at_node"]
    return False


@_part
def _grow(
    graph: Graph, s: Scratch, row: NDArray[np.float32], i: int, radius: float, entries: int
) -> int:
    """Dijkstra from event `i` to all nodes within `radius`, from where it stopped last.

    Returns:
        The number of ball entries, or -1 if there is no room for more.
    """
    me = s.events[i]
    reach = np.inf
    size = _ZERO
    if me["ball"] < 0:
        _push(s, size, 0.0, me["node"], _NONE, _NONE)
        size += 1
    at = me["ball"]
    while at >= 0:  # what the ball borders on
        entry = s.entries[at]
        for k in range(graph.ptr[entry["node"]], graph.ptr[entry["node"] + 1]):
            edge, other = graph.links[k, 0], graph.links[k, 1]
            far = entry["distance"] + min(abs(row[edge]), CLIP)
            if other >= 0 and not _in_ball(s, i, other):
                if far <= radius:
                    _push(s, size, far, other, edge, at)
                    size += 1
                else:
                    reach = min(reach, far)
        at = entry["of_event"]
    while size:
        near, node = s.heap[0]["key"], s.heap[0]["node"]
        by, before = s.heap[0]["edge"], s.heap[0]["before"]
        size -= 1
        _drop_first(s, size)
        if _in_ball(s, i, node):
            continue
        if entries == len(s.entries):
            return -1
        entry = s.entries[entries]
        entry["distance"] = near
        entry["event"] = i
        entry["node"] = node
        entry["edge"] = by
        entry["before"] = before
        entry["at_node"] = s.head[node]
        entry["of_event"] = me["ball"]
        s.head[node] = entries
        me["ball"] = entries
        for k in range(graph.ptr[node], graph.ptr[node + 1]):
            edge, other = graph.links[k, 0], graph.links[k, 1]
            far = near + min(abs(row[edge]), CLIP)
            if other < 0:
                if far < me["exit"]:
                    me["exit"] = far
                    me["exit_edge"] = edge
                    me["exit_entry"] = entries
                continue
            mine = False
            at = s.head[other]
            while at >= 0:
                j = s.entries[at]["event"]
                way = far + s.entries[at]["distance"]
                if j == i:
                    mine = True
                elif way < s.pairs[i, j]["length"]:
                    here, there = s.pairs[i, j], s.pairs[j, i]
                    here["length"] = there["length"] = way
                    here["edge"] = there["edge"] = edge
                    here["entry"] = entries
                    there["entry"] = at
                at = s.entries[at]["at_node"]
            if not mine:
                if far <= radius:
                    _push(s, size, far, other, edge, entries)
                    size += 1
                else:
                    reach = min(reach, far)
        entries += 1
    me["reach"] = reach
    return entries


@_inline
def _alone(s: Scratch, i: int) -> float:
    """What event `i` costs at least if it is matched with no event whose way to it is known."""
    cost: float = min(s.events[i]["exit"], s.events[i]["reach"])
    return cost


@_inline
def _joined(s: Scratch, i: int, j: int) -> bool:
    """Whether a way between two events is known that is no dearer than both alone."""
    way = s.pairs[i, j]["length"]
    return bool(way < np.inf and way <= _alone(s, i) + _alone(s, j))


@_part
def _label_clusters(s: Scratch, count: int) -> None:
    for i in range(count):
        s.events[i]["label"] = i
        for j in range(i):
            if _joined(s, i, j):
                low, high = s.events[i]["label"], s.events[j]["label"]
                if low > high:
                    low, high = high, low
                if low != high:
                    for k in range(i + 1):
                        if s.events[k]["label"] == high:
                            s.events[k]["label"] = low


@_part
def _enter(
    s: Scratch, layer: int, count: int, mask: np.uint64, cost: float, before: int, choice: int
) -> int:
    """Enter a state of the layer that begins at state `layer`, or lower its cost.

    Returns:
        The number of states, or -1 if there is no room for more.
    """
    base = s.table[0]
    last = len(s.table) - 2
    at = np.int64((mask * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & last
    while s.table[1 + at] >= base + layer:
        known = s.states[s.table[1 + at] - base]
        if known["mask"] == mask:
            if cost < known["cost"]:
                known["cost"] = cost
                known["before"] = before
                known["choice"] = choice
            return count
        at = (at + 1) & last
    if count == len(s.states):
        return -1
    s.table[1 + at] = base + count
    state = s.states[count]
    state["mask"] = mask
    state["cost"] = cost
    state["before"] = before
    state["choice"] = choice
    return count + 1


@_part
def _match_cluster(s: Scratch, size: int) -> bool:
    """Match the events in `s.member` at the least cost; whether there was room to find it.

    One event after the other picks its partner among those behind it, and a state is the set of
    events behind that were picked. Ways are short, so few sets occur.
    """
    member, one = s.member, np.uint64(1)
    s.table[0] += len(s.states)  # nothing in the table is of this programme
    s.states[0]["mask"] = 0
    s.states[0]["cost"] = 0.0
    first, count = _ZERO, _ONE
    for n in range(size):
        layer = count
        i, bit = member[n], one << np.uint64(n)
        alone = _alone(s, i)
        exits = BOUNDARY if s.events[i]["exit"] <= s.events[i]["reach"] else OUTSIDE
        for state in range(first, layer):
            mask, cost = s.states[state]["mask"], s.states[state]["cost"]
            # m = n - 1: taken before; m = n: alone; m > n: with a later event.
            for m in range(n - 1 if mask & bit else n, n if mask & bit else size):
                picked, dearer, choice = mask, cost, TAKEN
                if m < n:
                    picked ^= bit
                elif m == n:
                    dearer += alone
                    choice = exits
                    if alone == np.inf:
                        continue
                else:
                    choice = member[m]
                    picked |= one << np.uint64(m)
                    if picked == mask or not _joined(s, i, choice):
                        continue
                    dearer += s.pairs[i, choice]["length"]
                count = _enter(s, layer, count, picked, dearer, state, choice)
                if count < 0:
                    return False
        first = layer
    for n in range(size):
        s.events[member[n]]["mate"] = NOBODY
    if count > first:
        state = first
        for n in range(size - 1, -1, -1):
            i, choice = member[n], s.states[state]["choice"]
            if choice != TAKEN:
                s.events[i]["mate"] = choice
                if choice >= 0:
                    s.events[choice]["mate"] = i
            state = s.states[state]["before"]
    return True


@_part
def _match_few(s: Scratch, size: int) -> None:
    """`_match_cluster` for one event, or for two, which would be no cluster were they dearer."""
    i, j = s.member[0], s.member[1]
    me = s.events[i]
    if size == 2:
        me["mate"] = j
        s.events[j]["mate"] = i
    elif me["exit"] <= me["reach"]:
        me["mate"] = BOUNDARY if me["exit"] < np.inf else NOBODY
    else:
        me["mate"] = OUTSIDE


@_part
def _list_events(s: Scratch) -> int:
    """Prepare the events in `s.syndrome`: how many, or -1 if there is no room for them."""
    count = 0
    for index in range(len(s.syndrome)):
        byte = np.int64(s.syndrome[index])
        for bit in range(8):
            if byte >> bit == 0:
                break
            if byte >> bit & 1:
                if count == len(s.events):
                    return -1
                event = s.events[count]
                event["node"] = 8 * index + bit
                event["ball"] = -1
                event["reach"] = 0.0
                event["exit"] = np.inf
                event["grow"] = 1
                for i in range(count):
                    s.pairs[count, i]["length"] = s.pairs[i, count]["length"] = np.inf
                count += 1
    return count


@_part
def _match(graph: Graph, s: Scratch, row: NDArray[np.float32]) -> tuple[int, int, int]:
    """Match the events in `s.syndrome`: the route, and numbers of events and ball entries."""
    count = _list_events(s)
    if count < 0:
        return FULL, 0, 0
    entries = _ZERO
    while True:
        for i in range(count):
            if s.events[i]["grow"]:
                # At least to the next node, however far, so that each round gets further.
                radius = FIRST_RADIUS
                if s.events[i]["ball"] >= 0:
                    radius = s.events[i]["reach"] + STEP
                entries = _grow(graph, s, row, i, radius, entries)
                if entries < 0:
                    return FULL, count, len(s.entries)
        _label_clusters(s, count)
        again = False
        for low in range(count):
            if s.events[low]["label"] != low:
                continue
            size, changed = _ZERO, False
            for i in range(low, count):
                if s.events[i]["label"] == low:
                    if size == MAX_MEMBERS:
                        return FULL, count, entries
                    s.member[size] = i
                    size += 1
                    changed |= s.events[i]["grow"] != 0
            if not changed:
                continue
            if size < 3:
                _match_few(s, size)
            elif not _match_cluster(s, size):
                return FULL, count, entries
            for k in range(size):
                event = s.events[s.member[k]]
                if event["mate"] == NOBODY:
                    return INFEASIBLE, count, entries
                event["grow"] = event["mate"] == OUTSIDE
                again |= event["mate"] == OUTSIDE
        if not again:
            return LOCAL, count, entries


@_inline
def _flip(graph: Graph, edge: int, bits: Bytes, chosen: Bytes) -> None:
    """Put an edge into the answer, or take it out again."""
    for k in range(graph.id_ptr[edge], graph.id_ptr[edge + 1]):
        bits[graph.ids[k] >> 3] ^= np.uint8(1 << (graph.ids[k] & 7))
    if len(chosen):
        chosen[edge] ^= np.uint8(1)


@_part
def _flip_matches(graph: Graph, s: Scratch, count: int, bits: Bytes, chosen: Bytes) -> float:
    """Put the ways between matched events into the answer; their length."""
    length = 0.0
    for i in range(count):
        j = s.events[i]["mate"]
        if j > i:
            # The way has two halves, of which this event's has the edge between them.
            length += s.pairs[i, j]["length"]
            edge, entry = s.pairs[i, j]["edge"], s.pairs[i, j]["entry"]
        elif j >= 0:
            edge, entry = _NONE, s.pairs[i, j]["entry"]
        else:
            length += s.events[i]["exit"]
            edge, entry = s.events[i]["exit_edge"], s.events[i]["exit_entry"]
        if edge >= 0:
            _flip(graph, edge, bits, chosen)
        while s.entries[entry]["before"] >= 0:
            _flip(graph, s.entries[entry]["edge"], bits, chosen)
            entry = s.entries[entry]["before"]
    return length


@_part
def _take_likely(
    graph: Graph, s: Scratch, row: NDArray[np.float32], bits: Bytes, chosen: Bytes
) -> float:
    """Put the edges that `s.flags` marks into the answer: their weight."""
    weight = 0.0
    words = s.flags.view(np.uint64)
    for word in range(len(words)):
        if not words[word]:
            continue
        for edge in range(8 * word, 8 * word + 8):
            if not s.flags[edge]:
                continue
            u, v = graph.ends[edge, 0], graph.ends[edge, 1]
            s.syndrome[u >> 3] ^= np.uint8(1 << (u & 7))
            if v >= 0:
                s.syndrome[v >> 3] ^= np.uint8(1 << (v & 7))
            _flip(graph, edge, bits, chosen)
            weight -= min(row[edge], CLIP)
    return weight


@_kernel
def decode_shots(
    graph: Graph,
    s: Scratch,
    log_odds: NDArray[np.float32],
    syndromes: Bytes,
    bits: Bytes,
    weight: Floats,
    residual: Floats,
    route: Bytes,
    chosen: Bytes,
) -> int:
    """Decode B windows.

    Args:
        graph: the window's edges.
        s: working memory, left fit for the next call.
        log_odds: ``(B, E)`` of each edge.
        syndromes: ``(B, nodes/8)`` packed events.
        bits: ``(B, W)`` zeros: the packed answers.
        weight: ``(B,)``: weight of each answer's edges.
        residual: ``(B,)`` zeros: how much heavier that is than taking each edge's likelier side.
        route: ``(B,)``: how each was answered. Where it is FULL the answer is unfinished: `bits`,
            `weight` and `chosen` are those of the likely edges.
        chosen: ``(B, E)`` zeros: 1 for each edge in the answer; or ``(B, 0)``.

    Returns:
        How many are left to be matched in full.
    """
    unfinished = 0
    for b in range(len(log_odds)):
        row = log_odds[b]
        # A float is above 0 where its bits are, read as an integer: this loop is all vectors.
        raw = row.view(np.int32)
        largest = np.int32(0)
        for edge in range(len(raw)):
            s.flags[edge] = raw[edge] > 0
            largest = max(largest, raw[edge] & np.int32(0x7FFFFFFF))
        if largest > 0x7F800000:
            route[b] = SICK
            weight[b] = residual[b] = np.nan
            continue
        s.syndrome[:] = syndromes[b]
        weight[b] = _take_likely(graph, s, row, bits[b], chosen[b])
        some = np.uint8(0)
        for byte in s.syndrome:
            some |= byte
        if not some:
            route[b] = EMPTY
            continue
        route[b], count, entries = _match(graph, s, row)
        if route[b] == LOCAL:
            residual[b] = _flip_matches(graph, s, count, bits[b], chosen[b])
            weight[b] += residual[b]
        elif route[b] == FULL:
            unfinished += 1
        else:
            bits[b] = 0
            chosen[b] = 0
            weight[b] = residual[b] = np.inf
        for k in range(entries):
            s.head[s.entries[k]["node"]] = -1
    return unfinished
