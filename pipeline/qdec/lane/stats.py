"""Counters and histograms of a lane: fixed memory, cheap to add to, mergeable.

Every number is an aligned 64-bit word with one writer, so another process may read it at any
time. The words lie in the arena (`qdec.arena`) where a supervisor gave the lane a slot, and in
private memory otherwise; who counts does not notice.
"""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, Self, TypeAlias

from qdec.match import Tier
from qdec.slo import OBJECTIVES, WINDOWS

_WORD = ctypes.c_uint64
_Memory: TypeAlias = "mmap.mmap | bytearray | array[int]"
# Streams with counters of their own that one slot can hold; the lane's totals have them all.
MAX_NAMED = 1024
# Tier numbers that windows are counted by. Room for more than there are: the layout stays.
_MAX_TIER = 16
NAME_BYTES = 72

# What became of a window: exactly one of these. Preempted ones missed their deadline, too, but
# would have kept it had the operating system not run something else meanwhile.
OUTCOMES = ("in_time", "late", "preempted")
IN_TIME, LATE, PREEMPTED = range(len(OUTCOMES))

# Why the lane itself answered a window of an accelerated stream: no answer came in time; there is
# no accelerator, or it is left alone after misses; all slots are out; what came was no answer; the
# accelerator did not compile such windows.
REASONS = ("deadline", "down", "refused", "sick", "unfit")
DEADLINE, DOWN, REFUSED, SICK, UNFIT = range(len(REASONS))
# Room for more than there are: the layout stays.
_MAX_REASON = 8
# Burn rates are kept in thousandths.
_BURN_UNIT = 1000


class _Durations:
    """Durations in ns in logarithmic buckets: the sum of all, then the buckets."""

    SUB_BITS: int
    WORDS: int

    __slots__ = ("_words",)

    def __init__(self, words: ctypes.Array[ctypes.c_uint64] | None = None) -> None:
        """Count in these words, or in private ones."""
        self._words: Any = (_WORD * self.WORDS)() if words is None else words

    @property
    def total_ns(self) -> int:
        """Sum of all durations."""
        return int(self._words[0])

    @property
    def counts(self) -> list[int]:
        """Durations in each bucket."""
        return list(self._words[1:])

    @property
    def count(self) -> int:
        """Durations counted."""
        return sum(self.counts)

    @property
    def octaves(self) -> list[int]:
        """Durations from 2^i to just under 2^(i+1) ns, for i from 0 to 63."""
        counts, step = self.counts, 1 << self.SUB_BITS
        return [sum(counts[i : i + step]) for i in range(0, len(counts), step)]


class Histogram(_Durations):
    """Durations in ns; eight buckets per factor of two: at most 12 % wide."""

    SUB_BITS = 3
    BUCKETS = 64 << SUB_BITS
    WORDS = 1 + BUCKETS

    __slots__ = ()

    def add(self, ns: int, times: int = 1) -> None:
        """Count a duration."""
        if ns < 16:
            ns = 16
        top = ns.bit_length() - 1
        words = self._words
        words[1 + ((top << 3) | ((ns >> (top - 3)) & 7))] += times
        words[0] += ns * times

    def quantile(self, q: float) -> float:
        """Upper end, in ns, of the bucket that holds quantile `q`; NaN if empty."""
        return quantile(self.counts, q)

    def sparse(self) -> dict[str, int]:
        """Non-empty buckets, for STATUS_REPLY (msgpack map keys are strings)."""
        return {str(i): n for i, n in enumerate(self.counts) if n}


class Octaves(_Durations):
    """Durations in ns; one bucket per factor of two: an eighth of the memory, for many streams."""

    SUB_BITS = 0
    WORDS = 1 + 64

    __slots__ = ()

    def add(self, ns: int, times: int = 1) -> None:
        """Count a duration."""
        words = self._words
        words[ns.bit_length() or 1] += times
        words[0] += ns * times


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
    top, sub = index >> Histogram.SUB_BITS, index & 7
    return float((8 + sub + 1) << top) / 8


def dense(sparse: dict[str, int]) -> list[int]:
    """Inverse of `Histogram.sparse`."""
    counts = [0] * Histogram.BUCKETS
    for index, n in sparse.items():
        counts[int(index)] = n
    return counts


class Words(ctypes.Structure):
    """Named words; `ctypes` makes ``stats.rounds += 1`` a load and a store without a call."""

    # How the words of several slots make one number: counters add up always, gauges while their
    # writers live; of moments the earliest counts, of peaks the largest, as long as somebody lives.
    COUNTERS: tuple[str, ...] = ()
    GAUGES: tuple[str, ...] = ()
    MOMENTS: tuple[str, ...] = ()
    PEAKS: tuple[str, ...] = ()

    @classmethod
    def at(cls, memory: _Memory, offset: int = 0) -> Self:
        """The words that lie at `offset` bytes of writable memory."""
        self = cls.from_buffer(memory, offset)
        self._attach()
        return self

    def __init__(self, **values: int) -> None:
        """Begin with these values and zeros, in private memory."""
        super().__init__(**values)
        self._attach()

    def _attach(self) -> None:
        """Make what is reached through objects once, not at each access."""

    @classmethod
    def words_of(cls, names: tuple[str, ...]) -> list[int]:
        """Where the words of these fields lie, counted from the first."""
        fields = [getattr(cls, name) for name in names]
        return [
            word
            for field in fields
            for word in range(field.offset // 8, (field.offset + field.size) // 8)
        ]

    @classmethod
    def fleeting(cls) -> list[int]:
        """Words that say what is, not what was counted: nothing, once their writer is gone."""
        return cls.words_of((*cls.GAUGES, *cls.MOMENTS, *cls.PEAKS))


class LaneStats(Words):
    """What a lane counts.

    Attributes:
        turns: turns of its loop.
        messages, bytes_in, bytes_out: received and sent.
        rounds: accepted.
        infeasible: windows answered with a syndrome that nothing explains.
        erased: windows decoded with lost bits.
        errors: ERROR messages sent.
        gaps, duplicates: frames out of order.
        rounds_erased: rounds given up as lost after a gap.
        unroutable: messages to peers that had gone.
        discarded: answers of the accelerator that came too late to be used.
        opened, closed: streams.
        auth_failures: handshakes that failed for want of a right key.
        denied: requests that a key has no right to.
        throttled: messages dropped because their key had sent more than it may.
        open_streams, backlog_rounds, credits_rounds: as they were a moment ago.
        oldest_due_ns: when the oldest window that is accepted and not answered is due, ns of
            CLOCK_MONOTONIC; 0 if there is none. It is written before a section begins, too, so that
            it tells how overdue a window is whose lane hangs.
        named: streams that the slot has counters for.
        breaker_words: of each tier, 1 while the accelerator is not asked for it but by probes.
        queue: received -> decoding starts.
        decode: a batch, divided by its windows.
        answer: decoded -> encoded.
        window: received -> encoded.
        overhead: the same, without the decoder's call.
        accelerator: handed over to the accelerator -> its answer taken.
    """

    COUNTERS = (
        "turns",
        "messages",
        "bytes_in",
        "bytes_out",
        "rounds",
        "infeasible",
        "erased",
        "errors",
        "gaps",
        "duplicates",
        "rounds_erased",
        "unroutable",
        "discarded",
        "opened",
        "closed",
        "auth_failures",
        "denied",
        "throttled",
    )
    GAUGES = ("open_streams", "backlog_rounds", "credits_rounds")
    MOMENTS = ("oldest_due_ns",)
    PEAKS = ("breaker_words",)
    STAGES = ("queue", "decode", "answer", "window", "overhead", "accelerator")

    turns: int
    messages: int
    bytes_in: int
    bytes_out: int
    rounds: int
    infeasible: int
    erased: int
    errors: int
    gaps: int
    duplicates: int
    rounds_erased: int
    unroutable: int
    discarded: int
    opened: int
    closed: int
    auth_failures: int
    denied: int
    throttled: int
    open_streams: int
    backlog_rounds: int
    credits_rounds: int
    oldest_due_ns: int
    named: int

    _fields_ = (
        *((name, _WORD) for name in (*COUNTERS, *GAUGES, *MOMENTS, "named")),
        ("answered_words", _WORD * (_MAX_TIER * len(OUTCOMES))),
        ("fallback_words", _WORD * _MAX_REASON),
        ("breaker_words", _WORD * _MAX_TIER),
        *((f"{stage}_words", _WORD * Histogram.WORDS) for stage in STAGES),
    )

    def _attach(self) -> None:
        self._answered: Any = self.answered_words
        self.queue = Histogram(self.queue_words)
        self.decode = Histogram(self.decode_words)
        self.answer = Histogram(self.answer_words)
        self.window = Histogram(self.window_words)
        self.overhead = Histogram(self.overhead_words)
        self.accelerator = Histogram(self.accelerator_words)

    def answered(self, tier: int, windows: int, late: int = 0, preempted: int = 0) -> None:
        """Count windows that a tier answered; the late are some of them, the preempted of those."""
        answered, first = self._answered, 3 * int(tier)
        answered[first + IN_TIME] += windows - late
        if late:
            answered[first + LATE] += late - preempted
            answered[first + PREEMPTED] += preempted

    def fell_back(self, reason: int, windows: int) -> None:
        """Count windows that the lane answered in the accelerator's stead."""
        self.fallback_words[reason] += windows

    @property
    def fallbacks(self) -> dict[str, int]:
        """Windows that the lane answered in the accelerator's stead, by reason."""
        return dict(zip(REASONS, self.fallback_words, strict=False))

    def answers(self, tier: Tier) -> list[int]:
        """Windows that a tier answered, one number per outcome."""
        return list(self._answered[tier * 3 : tier * 3 + 3])

    @property
    def windows(self) -> int:
        """Windows answered."""
        return int(sum(self._answered))

    @property
    def late(self) -> int:
        """Windows answered later than their deadline, for whatever reason."""
        return int(sum(self._answered[LATE::3])) + self.preempted

    @property
    def preempted(self) -> int:
        """Of the late, those that were in time but for the operating system."""
        return int(sum(self._answered[PREEMPTED::3]))

    def as_dict(self) -> dict[str, Any]:
        """What STATUS_REPLY says: everything counted, msgpack- and JSON-able."""
        counted = {name: getattr(self, name) for name in self.COUNTERS}
        windows = {name: getattr(self, name) for name in ("windows", "late", "preempted")}
        stages = {name: getattr(self, name).sparse() for name in self.STAGES}
        return {**counted, **windows, "fallbacks": self.fallbacks, **stages}


class StreamStats(Words):
    """What is counted for one stream.

    Attributes:
        rounds: accepted.
        rounds_erased: rounds given up as lost after a gap.
        in_time, late, preempted: windows answered; see `OUTCOMES`.
        slow, unsure: windows that took longer, and of which less is sure, than its objectives say.
        fallbacks: windows that the lane answered in the accelerator's stead.
        open, backlog_rounds, credits_rounds: as they were a moment ago.
        paused: the `PauseReason` for which its controller was asked to pause; 0 if it was not.
        window: received -> encoded.
        overhead: the same, without the decoder's call.
    """

    COUNTERS = ("rounds", "rounds_erased", *OUTCOMES, "slow", "unsure", "fallbacks")
    GAUGES = ("open", "backlog_rounds", "credits_rounds")
    PEAKS = ("paused", "burn_words")

    name_bytes: bytes
    rounds: int
    rounds_erased: int
    in_time: int
    late: int
    preempted: int
    slow: int
    unsure: int
    fallbacks: int
    open: int
    backlog_rounds: int
    credits_rounds: int
    paused: int

    _fields_ = (
        ("name_bytes", ctypes.c_char * NAME_BYTES),
        *((name, _WORD) for name in (*COUNTERS, *GAUGES, "paused")),
        ("burn_words", _WORD * (len(OBJECTIVES) * len(WINDOWS))),
        ("window_words", _WORD * Octaves.WORDS),
    )

    def _attach(self) -> None:
        self.window = Octaves(self.window_words)

    @property
    def name(self) -> str:
        """What it is counted under, see `tally_name`; empty if that is nobody's here."""
        return self.name_bytes.decode("ascii", "replace")

    def answered(self, windows: int, late: int = 0, preempted: int = 0) -> None:
        """Count windows; the late are some of them, the preempted some of those."""
        self.in_time += windows - late
        if late:
            self.late += late - preempted
            self.preempted += preempted

    @property
    def answers_and_violations(self) -> tuple[int, tuple[int, int, int, int]]:
        """Windows answered, and how many of them broke each of `qdec.slo.OBJECTIVES`."""
        missed = self.late + self.preempted
        return self.in_time + missed, (self.slow, missed, self.unsure, self.fallbacks)

    def show(self, *, is_open: bool, backlog: int = 0, credit: int = 0, paused: int = 0) -> None:
        """Set the gauges."""
        self.open = is_open
        self.backlog_rounds = backlog
        self.credits_rounds = credit
        self.paused = paused

    def show_burn(self, rates: Sequence[Sequence[float]]) -> None:
        """Set the burn rates: of each of `qdec.slo.OBJECTIVES`, over each of its `WINDOWS`."""
        words = self.burn_words
        for i, rate in enumerate(chain.from_iterable(rates)):
            words[i] = int(rate * _BURN_UNIT)

    @property
    def burn(self) -> list[list[float]]:
        """Likewise, as they were a moment ago."""
        rates = [word / _BURN_UNIT for word in self.burn_words]
        return [rates[i : i + len(WINDOWS)] for i in range(0, len(rates), len(WINDOWS))]


class Slot:
    """All that one lane process counts: the lane's words, then those of streams by name.

    One process at a time writes to a slot. The next one goes on where the last one was killed, so
    that counters never fall.

    Attributes:
        lane: the lane's totals.
    """

    BYTES = ctypes.sizeof(LaneStats) + MAX_NAMED * ctypes.sizeof(StreamStats)

    def __init__(self, memory: _Memory | None = None) -> None:
        """Count in the first `BYTES` of this memory, or in private memory."""
        self._memory = bytearray(self.BYTES) if memory is None else memory
        self.lane = LaneStats.at(self._memory)
        self._streams = {one.name: one for one in map(self._stream_at, range(self.lane.named))}
        for one in (self.lane, *self._streams.values()):
            words = (_WORD * (ctypes.sizeof(one) // 8)).from_buffer(one)
            for word in one.fleeting():  # whoever set them is gone
                words[word] = 0

    def stream(self, name: str) -> StreamStats:
        """The counters under a name, which lie in the slot as long as there is room."""
        found = self._streams.get(name)
        if found is None:
            index = self.lane.named
            if index == MAX_NAMED:
                return StreamStats()
            found = self._stream_at(index)
            found.name_bytes = name.encode("ascii")
            self.lane.named = index + 1  # a reader sees the name with it
            self._streams[name] = found
        return found

    def _stream_at(self, index: int) -> StreamStats:
        return StreamStats.at(self._memory, stream_offset(index))


def tally_name(stream: str, part: int) -> str:
    """What a part of a stream is counted under; a stream in one piece is its own part 0."""
    return f"{stream}/{part}" if part else stream


def stream_offset(index: int) -> int:
    """Where in a slot a stream's words begin."""
    return ctypes.sizeof(LaneStats) + index * ctypes.sizeof(StreamStats)
