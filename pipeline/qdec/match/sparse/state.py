"""What the kernels of `qdec.match.sparse` work on: a window's edges, and memory to work in.

Few arrays of records rather than many arrays: each that is handed from one compiled function to
another costs time. All their integers are 64 bits wide, so that each kernel is compiled once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]
Records = NDArray[np.void]

# Events of one cluster are bits of a 64-bit mask.
MAX_MEMBERS = 64

# A node in an event's ball: its distance from the event, the edge to it and the entry of the node
# before it (-1 at the centre), the next entries at the same node and of the same event.
ENTRY = np.dtype(
    [("distance", "f8")]
    + [(name, "i8") for name in ("event", "node", "edge", "before", "at_node", "of_event")]
)
# A node: its latest ball entry, -1 for none. While a ball grows: how near its centre the node has
# been seen, -inf in the ball and inf if not at all; and the node first seen before it, -1 for none.
NODE = np.dtype([("latest", "i8"), ("near", "f8"), ("noted", "i8")])
# A node about to enter a ball: its distance, and as above.
HEAP = np.dtype([("key", "f8"), ("node", "i8"), ("edge", "i8"), ("before", "i8")])
# A residual event: no node outside its ball is nearer than `reach`; `exit` is the length of the
# cheapest way to the boundary seen so far, which ends with `exit_edge` behind entry `exit_entry`;
# `ball`: its latest entry; `mate`: see kernels; `label`: the lowest event in its cluster; `grow`:
# whether its ball is too small for a proof.
EVENT = np.dtype(
    [("reach", "f8"), ("exit", "f8")]
    + [
        (name, "i8")
        for name in ("exit_edge", "exit_entry", "node", "ball", "mate", "label", "grow")
    ]
)
# Row i, column j: the shortest way between two events seen so far, the edge on which their balls
# met, and event i's entry at that edge.
PAIR = np.dtype([("length", "f8"), ("edge", "i8"), ("entry", "i8")])
# Of a dynamic programme: the events behind that were picked, the cost so far, the state before, and
# what the latest event picked.
STATE = np.dtype([("mask", "u8"), ("cost", "f8"), ("before", "i8"), ("choice", "i8")])


# A member of the cluster at hand: its event, its number of links and which is the first to a member
# behind it; its share of the cost, what it costs beyond that to leave it alone, and the least that
# this costs of it and those behind it.
MEMBER = np.dtype(
    [(name, "i8") for name in ("event", "degree", "later")]
    + [(name, "f8") for name in ("share", "alone", "single")]
)
# To a member with which another may be matched, and what that costs beyond the shares of both.
LINK = np.dtype([("to", "i8"), ("beyond", "f8")])


class Graph(NamedTuple):
    """A window's edges, by edge and by node.

    Attributes:
        ends: ``(E, 2)`` nodes; the second is -1 for the boundary.
        id_ptr, ids: edge e flips answer bits ``ids[id_ptr[e]:id_ptr[e+1]]``.
        ptr, links: node n has links ``links[ptr[n]:ptr[n+1]]``: an edge, and the node at its
            other end.
    """

    ends: Int64s
    id_ptr: Int64s
    ids: Int64s
    ptr: Int64s
    links: Int64s


class Scratch(NamedTuple):
    """Memory for one window at a time.

    Attributes:
        flags: ``(E padded to 8,)`` 1 where an edge is more likely in the error than not.
        syndrome: ``(nodes/8,)`` packed residual events.
        nodes: ``(nodes,)`` of `NODE`.
        entries: of `ENTRY`.
        heap: of `HEAP`.
        events: ``(K,)`` of `EVENT`.
        pairs: ``(K, K)`` of `PAIR`.
        member: ``(MAX_MEMBERS,)`` of `MEMBER`.
        links: ``(MAX_MEMBERS, MAX_MEMBERS)`` of `LINK`: row n has those of member n, rising.
        states: of `STATE`.
        table: hash table of states by mask. Its first word is a number that grows from programme
            to programme; words below it are of earlier ones.
    """

    flags: Bytes
    syndrome: Bytes
    nodes: Records
    entries: Records
    heap: Records
    events: Records
    pairs: Records
    member: Records
    links: Records
    states: Records
    table: Int64s


def make_graph(num_nodes: int, u: Int64s, v: Int64s, id_ptr: Int64s, ids: Int64s) -> Graph:
    """Sort edges by node; for the arguments, see `SparseMatcher`."""
    pair = np.flatnonzero(v >= 0)
    node = np.concatenate([u, v[pair]])
    edge = np.concatenate([np.arange(len(u)), pair])
    other = np.concatenate([v, u[pair]])
    order = np.argsort(node, kind="stable")
    ptr = np.searchsorted(node[order], np.arange(num_nodes + 1))
    links = np.stack([edge, other], axis=1)[order]
    arrays = (np.stack([u, v], axis=1), id_ptr, ids, ptr, links)
    return Graph(*(np.ascontiguousarray(x, dtype=np.int64) for x in arrays))


def make_scratch(
    num_nodes: int, num_edges: int, max_events: int, max_settled: int, max_states: int
) -> Scratch:
    """Memory for windows of this size: about 2 MB at the usual bounds, little of it touched."""
    table = np.full(1 + (1 << (2 * max_states - 1).bit_length()), -1, dtype=np.int64)
    table[0] = 0
    nodes = np.zeros(num_nodes, dtype=NODE)
    nodes["latest"], nodes["near"] = -1, np.inf
    return Scratch(
        flags=np.zeros(-(-num_edges // 8) * 8, dtype=np.uint8),
        syndrome=np.zeros(num_nodes // 8, dtype=np.uint8),
        nodes=nodes,
        entries=np.zeros(max_settled, dtype=ENTRY),
        # While a ball grows, each end of each edge enters at most once, and the centre.
        heap=np.zeros(2 * num_edges + 1, dtype=HEAP),
        events=np.zeros(max_events, dtype=EVENT),
        pairs=np.zeros((max_events, max_events), dtype=PAIR),
        member=np.zeros(MAX_MEMBERS, dtype=MEMBER),
        links=np.zeros((MAX_MEMBERS, MAX_MEMBERS), dtype=LINK),
        states=np.zeros(max_states, dtype=STATE),
        table=table,
    )
