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

from qdec.match.compiled import compiled
from qdec.match.sparse.state import MAX_MEMBERS, Bytes, Floats, Graph, Records, Scratch

# How a window was answered: the values of `Route`.
EMPTY, LOCAL, FULL, INFEASIBLE, SICK = range(5)

# With whom an event is matched, if not with another event: the boundary; whatever lies outside its
# ball; nobody, since there is nothing. In a dynamic programme: it was taken by an earlier event.
BOUNDARY, OUTSIDE, NOBODY, TAKEN = -1, -2, -3, -4

# No estimate of a probability is surer than e^-64.
CLIP = 64.0
# The radius that balls get first, and by how much more than the least step they then grow. Larger
# steps take fewer rounds and enter nodes in vain.
FIRST_RADIUS = 1.0
STEP = 4.0
# How often shares are raised before a cluster is matched. How much beyond them it may cost at the
# first try, and how much more at each further one. Higher limits are found too low less often, and
# let more states live.
SHARINGS = 3
FIRST_LIMIT = 1.0
LIMIT_STEP = 2.0

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
    return compiled(function, nogil=True)


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
def _nearer(s: Scratch, node: int, far: float, last: int) -> int:
    """Note that a node is as near as `far`; returns the node that was last first seen."""
    if s.nodes[node]["near"] == np.inf:
        s.nodes[node]["noted"] = last
        last = node
    s.nodes[node]["near"] = far
    return last


@_part
def _grow(
    graph: Graph, s: Scratch, row: NDArray[np.float32], i: int, radius: float, entries: int
) -> int:
    """Dijkstra from event `i` to all nodes within `radius`, from where it stopped last.

    Other balls are looked for only where a node is seen nearer than before, which finds the
    shortest way over an edge between two balls. Of the edges on such ways, take the one whose ends
    were the first to be both in their balls. When the latter of them entered, either the other was
    seen nearer than before, or as near from a node that was in the ball by then: on an edge of a
    way no longer, and earlier.

    Returns:
        The number of ball entries, or -1 if there is no room for more.
    """
    me = s.events[i]
    size = _ZERO
    noted = _NONE
    at = me["ball"]
    if at < 0:
        noted = _nearer(s, me["node"], 0.0, noted)
        _push(s, size, 0.0, me["node"], _NONE, _NONE)
        size += 1
    while at >= 0:
        noted = _nearer(s, s.entries[at]["node"], -np.inf, noted)
        at = s.entries[at]["of_event"]
    at = me["ball"]
    while at >= 0:  # what the ball borders on
        entry = s.entries[at]
        for k in range(graph.ptr[entry["node"]], graph.ptr[entry["node"] + 1]):
            edge, other = graph.links[k, 0], graph.links[k, 1]
            if other < 0:
                continue
            far = entry["distance"] + min(abs(row[edge]), CLIP)
            if far < s.nodes[other]["near"]:
                noted = _nearer(s, other, far, noted)
                if far <= radius:
                    _push(s, size, far, other, edge, at)
                    size += 1
        at = entry["of_event"]
    while size:
        near, node = s.heap[0]["key"], s.heap[0]["node"]
        by, before = s.heap[0]["edge"], s.heap[0]["before"]
        size -= 1
        _drop_first(s, size)
        if s.nodes[node]["near"] != near:
            continue
        s.nodes[node]["near"] = -np.inf  # it is in the ball
        if entries == len(s.entries):
            entries = _NONE
            break
        entry = s.entries[entries]
        entry["distance"] = near
        entry["event"] = i
        entry["node"] = node
        entry["edge"] = by
        entry["before"] = before
        entry["at_node"] = s.nodes[node]["latest"]
        entry["of_event"] = me["ball"]
        s.nodes[node]["latest"] = entries
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
            if far >= s.nodes[other]["near"]:
                continue
            noted = _nearer(s, other, far, noted)
            if far <= radius:
                _push(s, size, far, other, edge, entries)
                size += 1
            at = s.nodes[other]["latest"]
            while at >= 0:
                j = s.entries[at]["event"]
                way = far + s.entries[at]["distance"]
                if way < s.pairs[i, j]["length"]:
                    here, there = s.pairs[i, j], s.pairs[j, i]
                    here["length"] = there["length"] = way
                    here["edge"] = there["edge"] = edge
                    here["entry"] = entries
                    there["entry"] = at
                at = s.entries[at]["at_node"]
        entries += 1
    reach = np.inf
    while noted >= 0:
        if s.nodes[noted]["near"] > radius:
            reach = min(reach, s.nodes[noted]["near"])
        s.nodes[noted]["near"] = np.inf
        noted = s.nodes[noted]["noted"]
    me["reach"] = reach
    return entries


@_inline
def _alone(events: Records, i: int) -> float:
    """What event `i` costs at least if it is matched with no event whose way to it is known."""
    cost: float = min(events[i]["exit"], events[i]["reach"])
    return cost


@_part
def _label_clusters(events: Records, pairs: Records, count: int) -> None:
    """Join the events between which a way is known that is no dearer than both alone."""
    for i in range(count):
        events[i]["label"] = i
        alone = _alone(events, i)
        for j in range(i):
            way = pairs[i, j]["length"]
            if way < np.inf and way <= alone + _alone(events, j):
                low, high = events[i]["label"], events[j]["label"]
                if low > high:
                    low, high = high, low
                if low != high:
                    for k in range(i + 1):
                        if events[k]["label"] == high:
                            events[k]["label"] = low


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
def _share_out(s: Scratch, size: int) -> None:
    """Split the costs among the events in `s.member`, and list what each choice costs beyond.

    No pair is charged more than its way, no event more than alone; so the shares together are a
    lower bound, and a matching costs that much and what its choices cost beyond their shares.
    """
    member, links = s.member, s.links
    for n in range(size):
        i = member[n]["event"]
        alone = share = _alone(s.events, i)
        degree = _ZERO
        for m in range(size):
            j = member[m]["event"]
            if m == n:
                member[n]["later"] = degree
                continue
            way = s.pairs[i, j]["length"]
            if way < np.inf and way <= alone + _alone(s.events, j):
                links[n, degree]["to"] = m
                links[n, degree]["beyond"] = way
                degree += 1
                share = min(share, 0.5 * way)
        member[n]["alone"] = alone
        member[n]["share"] = share
        member[n]["degree"] = degree
    for left in range(SHARINGS - 1, -1, -1):
        part = 0.5 if left else 1.0
        for n in range(size):
            share = member[n]["share"]
            slack = member[n]["alone"] - share
            for k in range(member[n]["degree"]):
                other = member[links[n, k]["to"]]["share"]
                slack = min(slack, links[n, k]["beyond"] - share - other)
            if slack > 0:
                member[n]["share"] = share + part * slack
    single = np.inf
    for n in range(size - 1, -1, -1):
        member[n]["alone"] -= member[n]["share"]
        single = min(single, member[n]["alone"])
        member[n]["single"] = single
        for k in range(member[n]["degree"]):
            other = member[links[n, k]["to"]]["share"]
            links[n, k]["beyond"] -= member[n]["share"] + other


@_inline
def _odd(mask: np.uint64) -> int:
    """The parity of the bits that are set."""
    for shift in (32, 16, 8, 4, 2, 1):
        mask ^= mask >> np.uint64(shift)
    return int(np.int64(mask & np.uint64(1)))


@_part
def _match_within(s: Scratch, size: int, limit: float) -> tuple[int, int, float]:
    """Match the events in `s.member` at the least cost, at most `limit` beyond their shares.

    One event after the other picks its partner among those behind it, and a state is the set of
    events behind that were picked. Ways are short, so few sets occur. Of an odd number of events
    that are left, at least one will be alone.

    Returns:
        The last layer of states, which is empty if the limit is too low: where it begins and ends,
        -1 if there was no room; and a lower bound of the costs that were beyond the limit.
    """
    member, one = s.member, np.uint64(1)
    s.table[0] += len(s.states)  # nothing in the table is of this programme
    s.states[0]["mask"] = 0
    s.states[0]["cost"] = 0.0
    first, count = _ZERO, _ONE
    least = np.inf
    for n in range(size):
        layer = count
        i, bit = member[n]["event"], one << np.uint64(n)
        later, degree = member[n]["later"], member[n]["degree"]
        single = member[n + 1]["single"] if n + 1 < size else np.inf
        exits = BOUNDARY if s.events[i]["exit"] <= s.events[i]["reach"] else OUTSIDE
        for state in range(first, layer):
            mask, cost = s.states[state]["mask"], s.states[state]["cost"]
            odd = ((size - n) ^ _odd(mask)) & 1
            # First: taken before, or alone. Then: with a later event.
            for k in range(later - 1, later if mask & bit else degree):
                picked, dearer, choice = mask, cost, TAKEN
                bound = single if odd else 0.0
                if k >= later:
                    m = s.links[n, k]["to"]
                    choice = member[m]["event"]
                    picked |= one << np.uint64(m)
                    if picked == mask:
                        continue
                    dearer += s.links[n, k]["beyond"]
                elif mask & bit:
                    picked ^= bit
                else:
                    choice = exits
                    dearer += member[n]["alone"]
                    bound = 0.0 if odd else single
                bound += dearer
                if bound > limit:
                    least = min(least, bound)
                    continue
                count = _enter(s, layer, count, picked, dearer, state, choice)
                if count < 0:
                    return first, count, least
        first = layer
    return first, count, least


@_part
def _match_cluster(s: Scratch, size: int) -> float:
    """Match the events in `s.member` at the least cost.

    Returns:
        How much that is beyond their shares; inf if they cannot be matched, -1 if there was no room
        to find it.
    """
    _share_out(s, size)
    limit = FIRST_LIMIT
    while True:
        first, count, least = _match_within(s, size, limit)
        if count < 0:
            return -1.0
        if count > first or least == np.inf:
            break
        limit = max(limit + LIMIT_STEP, 1.25 * limit, least)
    for n in range(size):
        s.events[s.member[n]["event"]]["mate"] = NOBODY
    if count == first:
        return np.inf
    state = first
    for n in range(size - 1, -1, -1):
        i, choice = s.member[n]["event"], s.states[state]["choice"]
        if choice != TAKEN:
            s.events[i]["mate"] = choice
            if choice >= 0:
                s.events[choice]["mate"] = i
        state = s.states[state]["before"]
    # Rounding may leave shares that are a trifle too large.
    return max(0.0, float(s.states[first]["cost"]))


@_part
def _match_few(s: Scratch, size: int) -> None:
    """`_match_cluster` for one event, or for two, which would be no cluster were they dearer."""
    i, j = s.member[0]["event"], s.member[1]["event"]
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
        _label_clusters(s.events, s.pairs, count)
        again = False
        for low in range(count):
            if s.events[low]["label"] != low:
                continue
            size, changed = _ZERO, False
            for i in range(low, count):
                if s.events[i]["label"] == low:
                    if size == MAX_MEMBERS:
                        return FULL, count, entries
                    s.member[size]["event"] = i
                    size += 1
                    changed |= s.events[i]["grow"] != 0
            if not changed:
                continue
            beyond = 0.0
            if size < 3:
                _match_few(s, size)
            else:
                beyond = _match_cluster(s, size)
                if beyond < 0:
                    return FULL, count, entries
            leaves = False
            for k in range(size):
                event = s.events[s.member[k]["event"]]
                if event["mate"] == NOBODY:
                    return INFEASIBLE, count, entries
                event["grow"] = event["mate"] == OUTSIDE
                leaves |= event["mate"] == OUTSIDE
            again |= leaves
            if leaves and size > 2:
                # In an odd cluster one event after the other would leave, whichever costs least.
                for k in range(size):
                    event = s.events[s.member[k]["event"]]
                    if event["reach"] < event["exit"] and s.member[k]["alone"] <= beyond + STEP:
                        event["grow"] = 1
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
            s.nodes[s.entries[k]["node"]]["latest"] = -1
    return unfinished
