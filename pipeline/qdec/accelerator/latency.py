"""How long batches take, by their size: learned from those that have come back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qdec.errors import ConfigError

# Samples that are remembered of each bucket. The second longest is expected: one odd batch changes
# nothing, two say that the engine is slower now, sixteen that it is faster again.
_SAMPLES = 16
# An estimate that nothing has confirmed for so long, and that keeps everything from being begun, is
# doubted: otherwise an engine that was slow for a while would never be asked again.
_DOUBT_NS = 10_000_000
# So much longer after its own last batch than after one of the next smaller bucket, what is known
# of a bucket is old.
_STALE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes that an engine is compiled for; a batch runs in the smallest that holds it.

    Attributes:
        sizes: in windows, ascending.
    """

    sizes: tuple[int, ...]
    _of: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ConfigError: they are no sizes in ascending order.
        """
        if not self.sizes or self.sizes[0] < 1 or sorted(set(self.sizes)) != list(self.sizes):
            raise ConfigError(f"buckets are sizes of batches in ascending order, not {self.sizes}")
        of = [self.sizes[bisect_left(self.sizes, n)] for n in range(self.most + 1)]
        object.__setattr__(self, "_of", tuple(of))

    @classmethod
    def doubling(cls, most: int) -> Buckets:
        """Powers of two below a size, and the size itself."""
        return cls((*(1 << i for i in range((most - 1).bit_length())), most))

    @property
    def most(self) -> int:
        """Windows of the largest."""
        return self.sizes[-1]

    def of(self, windows: int) -> int:
        """The bucket of so many windows; the largest if none holds them at once."""
        return self._of[windows] if windows < len(self._of) else self.sizes[-1]

    def passes(self, windows: int) -> int:
        """How many times that bucket runs for them."""
        return -(-windows // self.most)


class LatencyModel:
    """What batches of one kind of window are expected to take, ns: a high estimate.

    More at once never takes less, so a bucket is expected to take as long as any smaller one. A
    bucket that was never seen takes as long as the next larger one, or as much longer than the next
    smaller one as it is larger, whichever is less; so does one that was not seen for a while.
    Nothing is expected of a kind that was never seen at all.
    """

    def __init__(self, seeds: Mapping[int, int] | None = None) -> None:
        """Begin with what was measured before: ns by bucket."""
        self._seeds = dict(seeds or {})
        self._samples = {bucket: [took] for bucket, took in sorted(self._seeds.items())}
        self._seen_at = dict.fromkeys(self._samples, 0)
        self._learned_at = self._inferred_at = 0
        self._expected: dict[int, int] = {}
        self._infer()

    def expect(self, bucket: int) -> int:
        """What a batch in this bucket takes."""
        expected = self._expected.get(bucket)
        if expected is None:
            expected = self._expected[bucket] = self._guess(bucket)
        return expected

    def learn(self, bucket: int, took: int, now: int) -> None:
        """A batch in this bucket took so long."""
        samples = self._samples.get(bucket)
        old = -1
        if samples is None:
            samples = self._samples[bucket] = [took]
            self._samples = dict(sorted(self._samples.items()))
        else:
            old = _high(samples)
            samples.append(took)
            if len(samples) > _SAMPLES:
                del samples[0]
        self._seen_at[bucket] = self._learned_at = now
        longest = _high(samples)
        if longest == old and now - self._inferred_at < _STALE_NS:
            return  # as it mostly is
        self._inferred_at = now
        for size, others in self._samples.items():
            if size < bucket and _high(others) > longest:  # it takes no longer than this any more
                others[:] = [min(one, longest) for one in others]
        self._infer()

    def doubt(self, now: int) -> None:
        """Something was not begun for the estimate's sake alone: halve it if it is old.

        Never below what was measured at first.
        """
        if now - self._learned_at < _DOUBT_NS:
            return
        for bucket, samples in self._samples.items():
            least = self._seeds.get(bucket, 0)
            samples[:] = [max(min(one, least), one // 2) for one in samples]
        self._learned_at = now
        self._infer()

    def _infer(self) -> None:
        self._expected = {}
        nearest = expected = 0
        for bucket, samples in self._samples.items():
            own = _high(samples)
            if nearest and self._seen_at[nearest] - self._seen_at[bucket] > _STALE_NS:
                own = min(own, -(-expected * bucket // nearest))
            nearest, expected = bucket, max(own, expected)
            self._expected[bucket] = expected

    def _guess(self, bucket: int) -> int:
        larger = [size for size in self._samples if size > bucket]
        smaller = [size for size in self._samples if size < bucket]
        found = [self._expected[larger[0]]] if larger else []
        if smaller:
            found.append(-(-self._expected[smaller[-1]] * bucket // smaller[-1]))
        return min(found, default=0)


def _high(samples: Sequence[int]) -> int:
    return sorted(samples)[-2] if len(samples) > 1 else samples[0]
