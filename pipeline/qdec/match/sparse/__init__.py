"""Exact minimum-weight matching where every window brings its own edge weights.

A network says, per window, how likely each edge is in the error; an edge's weight is minus its
log-odds. What the network is sure of needs no matching, so the cost is that of the few places where
it is not:

1. *Likely edges* (log-odds > 0, negative weight) are taken first; every edge then counts |weight|
   for changing sides, and what is left to explain is the syndrome that they leave. If that is
   empty, they are the optimum.
2. Else a *ball* grows around each event i of the residual (Dijkstra): it holds the nodes nearer
   than its reach r_i. Where balls meet, the way between two events is known; so is the way out of
   event i once it is no longer than r_i. An event may leave its ball at the price r_i.
3. Events joined by ways that are no dearer than both events alone are a *cluster*. Each is matched
   at the least cost by dynamic programming over its events. Where an event leaves its ball in the
   best solution, the ball grows and its cluster is matched again; where none does, it is done.
   With it grow the balls of the cluster that might be left for little more: one would be next.
4. The programme skips what cannot be the least. Each event has a *share* of the cost, such that no
   two pay more than their way and none more than alone: what a choice costs *beyond* the shares is
   never negative. First only matchings that cost little beyond them are looked for; where there
   are none, the limit rises. Whatever was skipped costs more than the limit, and so more than
   what was found within it.

**The answer is the minimum over all edges, not an approximation.** In any set of edges that
explains the syndrome, events are joined in pairs or to the boundary by disjoint ways. A way between
events i and j that is longer than r_i + r_j, or one out of i longer than r_i, costs more than to
leave the balls, and the shorter ones are all known. So the price at which clusters are matched is a
lower bound for every explanation, and where no event leaves its ball it is the weight of one. There
is no probability below which edges are forgotten: those too unlikely to matter are not reached.

Work is bounded: a window with too many events, nodes in balls, or states of the programme is given
to PyMatching with all its weights (`Route.FULL`), which rounds them to 2^-24 of the largest.
Sums are in float64, where those of float32 log-odds below 64 are as good as exact.
"""

from qdec.match.sparse.matcher import Route, SparseAnswers, SparseMatcher

__all__ = ["Route", "SparseAnswers", "SparseMatcher"]
