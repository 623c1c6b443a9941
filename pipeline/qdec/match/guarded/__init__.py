"""Correlated matching where it is safe: of two explanations, the one that is more likely as faults.

Correlated matching does better than plain matching at high noise and worse at low noise, where it
fails on faults that the code could correct. Both find an *explanation*: a set of edges. Neither
counts what that costs as faults: a fault of several edges happens at once, and matching pays for
each edge. So, wherever the two answers to a window differ:

1. Both sets of edges are taken apart into *clusters* that no edge and no fault of theirs joins. A
   cluster in which both agree is settled.
2. An explanation's faults are found greedily: first the fault that saves the most over its edges
   apart, as long as all its edges are there; what is left are faults of one edge. That gives their
   number and their weight, the sum of log((1 - p) / p).
3. Of the two, the one of at most t = (d - 1) / 2 faults is taken. If that is neither, a search
   looks for t faults that explain the cluster's events, and their answer is taken. If there are
   none (or both have as few), the explanation of less weight is taken; plain matching's in a tie.

**No distance is lost that plain matching keeps.** Let a shot hold at most t faults, in a code whose
smallest undetected logical error has 2t + 1 or more. Where both answers agree, it is plain
matching's. Where they differ, and there are few enough events that t faults might have caused them,
all edges count as one cluster. Explanations of at most t faults exist then, and all of them flip
the same observables as the shot's own, since two that did not would make a logical error of 2t
faults together. One is taken: by 2, or by the search of 3, which leaves none out. (Its work is
bounded: at t > 3, where events are many, it may give up before it has found one.)

In a long window the same holds from cluster to cluster, which is where more than t faults in all
leave (d - 1) / 2 in one place uncorrected.
"""

from qdec.match.guarded.window import GuardedWindow, guarded_window

__all__ = ["GuardedWindow", "guarded_window"]
