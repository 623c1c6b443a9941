"""What a commit says about itself."""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """Bits of a commit's `flags`; they are on the wire and never change.

    PREEMPTED goes with LATE: the window would have been in time had the operating system not run
    something else meanwhile (CPU time beside wall time). UNCERTAIN windows were not decoded, see
    `qdec.commit.dense`: the commit corrects nothing.
    """

    SHOT_END = 1
    LATE = 2
    INFEASIBLE = 4
    ERASURE = 8
    ERASURE_IGNORED = 16
    FENCED = 32
    PREEMPTED = 64
    UNCERTAIN = 128
