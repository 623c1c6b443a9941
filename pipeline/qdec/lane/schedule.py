"""Which windows to decode next, and how many before looking again: a pure policy.

A call of the decoder cannot be interrupted, so what it may take is bounded by what the others can
wait: no section is longer than the tightest slack in the lane, unless one window alone is. The most
urgent stream goes first (EDF). A stream that is behind would win for ever, so its next window is
due one deadline after it was last served, if it is not due later: everybody's turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

NEVER = 1 << 62
_SHORTEST_TURN_NS = 500_000


class Waiting(NamedTuple):
    """A stream with a window that is ready.

    Attributes:
        stream: its handle.
        due: ns by which the window should be answered.
        cost: ns that decoding it is expected to take; 0 if that is not known.
        ready: windows of the stream that are ready, it and others.
    """

    stream: int
    due: int
    cost: int
    ready: int = 1


class Turn(NamedTuple):
    """What a stream gets.

    Attributes:
        stream: its handle.
        windows: how many of its windows at most.
        until: ns from the section's start by which they should be decoded. (Others of its windows
            may take longer than the first, by which `windows` is reckoned.)
    """

    stream: int
    windows: int
    until: int


def effective_due(came: int, deadline: int, served: int) -> int:
    """When a window is due, ns: a deadline after it came, or after its stream was last served.

    A stream that is behind is owed a turn, and not its deadline: with a shorter one than
    `_SHORTEST_TURN_NS` it would be the most urgent of all for ever.
    """
    if served > came:
        return served + max(deadline, _SHORTEST_TURN_NS)
    return came + deadline


def latest_start(windows: Iterable[tuple[int, int]]) -> int:
    """When decoding must begin at the latest for all of some windows to be answered when due, ns.

    Args:
        windows: (when it is due, what decoding it is expected to take) of each, in ns. They are
            decoded one after the other, the one that is due first before the others.
    """
    start = NEVER
    for due, cost in sorted(windows, reverse=True):
        start = min(start, due) - cost
    return start


def patience_of_others(patience: Mapping[int, int]) -> dict[int, int]:
    """For each of some streams, how long the least patient of the others can wait, ns."""
    first, second = (*sorted(patience.values()), NEVER, NEVER)[:2]
    return {one: second if ns == first else first for one, ns in patience.items()}


def _urgency(one: Waiting, now: int) -> int:
    """When it is due; where that cannot be met, later by its own cost: others still can make it."""
    hopeless = one.due - now < one.cost
    return one.due + one.cost if hopeless else one.due


def plan(waiting: Sequence[Waiting], now: int, longest: int) -> list[Turn]:
    """The next section: streams in the order of their turns.

    Args:
        waiting: streams with a ready window; at least one.
        now: ns.
        longest: ns that a section may take for the sake of streams that wait for nothing yet.

    Returns:
        At least one turn of at least one window. All are answered when the last is decoded:
        together they are expected to take no longer than `longest`, nor to make a stream late, be
        it among them or not, unless the first window alone does. A window of unknown cost is
        decoded by itself.
    """
    order = sorted(waiting, key=lambda w: _urgency(w, now))
    latest = NEVER
    starts = [NEVER] * len(order)
    for i in range(len(order) - 1, 0, -1):
        slack = order[i].due - now - order[i].cost
        # Who is late already loses no more by waiting for a section of ordinary length.
        latest = min(latest, slack if slack >= 0 else longest)
        starts[i - 1] = latest
    turns: list[Turn] = []
    used = 0
    mine = longest  # what those that get a turn can wait
    for one, room in zip(order, starts, strict=True):
        patience = one.due - now
        until = min(mine, room, patience if patience >= used + one.cost else longest)
        windows = min(one.ready, (until - used) // one.cost) if one.cost else 0
        if not turns:
            windows = max(1, windows)
        if windows <= 0:
            break
        turns.append(Turn(one.stream, windows, until))
        if not one.cost:
            break
        used += windows * one.cost
        if patience >= used:
            mine = min(mine, patience)
    return turns
