"""Counters and histograms of a lane: fixed memory, cheap to add to, mergeable."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

_SUB_BITS = 3  # eight buckets per factor of two: at most 12 % wide
_BUCKETS = 64 << _SUB_BITS


class Histogram:
    """Durations in ns, in logarithmic buckets."""

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        """Start empty."""
        self.counts = [0] * _BUCKETS
        self.total_ns = 0

    def add(self, ns: int, times: int = 1) -> None:
        """Count a duration."""
        if ns < 16:
            ns = 16
        top = ns.bit_length() - 1
        self.counts[(top << _SUB_BITS) | ((ns >> (top - _SUB_BITS)) & 7)] += times
        self.total_ns += ns * times

    @property
    def count(self) -> int:
        """Durations counted."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Upper end, in ns, of the bucket that holds quantile `q`; NaN if empty."""
        return quantile(self.counts, q)

    def sparse(self) -> dict[str, int]:
        """Non-empty buckets, for STATUS_REPLY (msgpack map keys are strings)."""
        return {str(i): n for i, n in enumerate(self.counts) if n}


def quantile(counts: list[int], q: float) -> float:
    """See `Histogram.quantile`."""
    total = sum(counts)
    if not total:
        return float("nan")
    rank = q * total
    seen = 0
    for i, n in enumerate(counts):
        seen += n
        if n and seen >= rank:
            return bucket_end(i)
    return bucket_end(len(counts) - 1)


def bucket_end(index: int) -> float:
    """Upper end of a bucket, in ns."""
    top, sub = index >> _SUB_BITS, index & 7
    return float((8 + sub + 1) << top) / 8


def dense(sparse: dict[str, int]) -> list[int]:
    """Inverse of `Histogram.sparse`."""
    counts = [0] * _BUCKETS
    for index, n in sparse.items():
        counts[int(index)] = n
    return counts


@dataclass(slots=True)
class LaneStats:
    """What a lane counts.

    Attributes:
        turns: turns of its loop.
        messages, bytes_in: received.
        rounds: accepted.
        windows: answered.
        late: of those, later than their deadline.
        preempted: of the late, those that would have been in time had the operating system not
            run something else meanwhile.
        infeasible: of those, with a syndrome that nothing explains.
        erased: of those, decoded with lost bits.
        errors: ERROR messages sent.
        gaps, duplicates: frames out of order.
        rounds_erased: rounds given up as lost after a gap.
        unroutable: messages to peers that had gone.
        opened, closed: streams.
        queue: received -> decoding starts.
        decode: a batch, divided by its windows.
        answer: decoded -> encoded.
        window: received -> encoded.
    """

    turns: int = 0
    messages: int = 0
    bytes_in: int = 0
    rounds: int = 0
    windows: int = 0
    late: int = 0
    preempted: int = 0
    infeasible: int = 0
    erased: int = 0
    errors: int = 0
    gaps: int = 0
    duplicates: int = 0
    rounds_erased: int = 0
    unroutable: int = 0
    opened: int = 0
    closed: int = 0
    queue: Histogram = field(default_factory=Histogram)
    decode: Histogram = field(default_factory=Histogram)
    answer: Histogram = field(default_factory=Histogram)
    window: Histogram = field(default_factory=Histogram)

    def as_dict(self) -> dict[str, Any]:
        """Everything, msgpack- and JSON-able."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            out[f.name] = value.sparse() if isinstance(value, Histogram) else value
        return out
