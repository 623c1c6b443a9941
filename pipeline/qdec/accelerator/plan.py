"""What batches are expected to take, and which are worth making: arithmetic for the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace

from qdec.accelerator.latency import Buckets, LatencyModel

# Of the time from arrival to deadline, what a batch may take for everything to be done in such
# batches: what comes just when another was begun waits for all of that, then takes as long itself;
# what comes later waits less.
_SUSTAINED = 0.6


def takes(model: LatencyModel, buckets: Buckets, windows: int) -> int:
    """ns for so many windows in one batch."""
    if windows <= buckets.most:
        return model.expect(buckets.of(windows))
    return buckets.passes(windows) * model.expect(buckets.most)


def batches(model: LatencyModel, buckets: Buckets, windows: int, least: int = 0) -> list[int]:
    """ns of each batch of so many windows, all but the last of them full; of one at least.

    If `least` is given, batches have that size, the last one, too: others are still to come.
    """
    full, rest = divmod(windows - 1, least or buckets.most)
    last = model.expect(least or buckets.of(rest + 1))
    return [*[model.expect(least or buckets.most)] * full, last] if full else [last]


def affordable(model: LatencyModel, buckets: Buckets, longest: int, wanted: int) -> int:
    """The largest bucket up to the wanted one that takes no longer; the smallest if none does."""
    for size in reversed(buckets.sizes):
        if size <= wanted and model.expect(size) <= longest:
            return size
    return buckets.sizes[0]


def sustained(model: LatencyModel, buckets: Buckets, allowed: int) -> int:
    """The bucket in which everything can be done that has so many ns from when it comes."""
    return affordable(model, buckets, int(_SUSTAINED * allowed), buckets.most)


def spread(free: list[int], work: Sequence[int]) -> None:
    """Have streams run batches one after the other, each where it can begin first.

    Args:
        free: ns when each stream is free, a heap; moves on.
        work: ns that each batch takes.
    """
    if len(free) == 1:
        free[0] += sum(work)
    else:
        for took in work:
            heapreplace(free, free[0] + took)
