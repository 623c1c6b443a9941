"""What a new configuration, or new files under the same names, mean for the processes that run."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qdec.config import Config
from qdec.lane.making import Making
from qdec.supervisor.table import ACCELERATOR, LANE

Makings = Mapping[str, Making]


def outdated(
    old: Config, new: Config, wanted: Makings, warm: Mapping[int, Makings]
) -> set[tuple[str, int]]:
    """(role, post) of processes that are warm with something else than is wanted.

    Args:
        old, new: the configurations before and after.
        wanted: what is to make the answers of each stream, from now on.
        warm: what makes them at each lane's post.
    """
    before = {stream.name: stream for stream in old.stream}
    found: set[tuple[str, int]] = set()
    for stream in new.stream:
        name = stream.name
        for post in stream.owners:
            known = warm.get(post)
            if known is None:  # who comes will be warm with the new
                continue
            if before.get(name) == stream and known.get(name) == wanted.get(name):
                continue
            found.add((LANE, post))
            if stream in new.accelerated:
                found.add((ACCELERATOR, 0))
    if old.accelerated and new.accelerated and accelerator_settings(old, new):
        found.add((ACCELERATOR, 0))
    if not (old.accelerated and new.accelerated):
        found.discard((ACCELERATOR, 0))
    return found


def accelerator_settings(old: Config, new: Config) -> bool:
    """Whether the accelerator has others; it hears only lanes that were there at its start."""
    was = old.accelerated, old.accelerator, len(old.lane)
    return was != (new.accelerated, new.accelerator, len(new.lane))


def incomplete(wanted: Makings, warm: Makings) -> list[str]:
    """Streams that a process which got warm for a change could not compile."""
    return sorted(wanted.keys() - warm.keys())


def torn(wanted: Makings, warm: Mapping[int, Makings], is_open: Collection[str]) -> list[str]:
    """Open streams that a change would end: their rounds would look otherwise from now on."""
    return sorted(
        name
        for name, one in wanted.items()
        if name in is_open
        and any(known[name].shape != one.shape for known in warm.values() if name in known)
    )
