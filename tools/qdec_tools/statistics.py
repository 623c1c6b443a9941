"""What counts say: intervals for a proportion, and two decoders compared on the same shots."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959964  # standard deviations on either side that hold 95 % of a normal distribution
# Hypotheses at most so many times less likely than the best one: 95 %, as counts grow.
_FACTOR95 = math.exp(Z95 * Z95 / 2)
_HALVINGS = 80


def interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % likelihood-ratio interval of a proportion, as `sinter.fit_binomial` has it.

    The proportions whose likelihood is within a factor e^(1.96²/2) = 6.83 of the best one's.
    """
    if not trials:
        return 0.0, 1.0
    best = hits / trials
    target = _log_likelihood(best, hits, trials) - math.log(_FACTOR95)

    def edge(outside: float) -> float:
        inside = best
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            if _log_likelihood(middle, hits, trials) < target:
                outside = middle
            else:
                inside = middle
        return inside

    return edge(0.0) if hits else 0.0, edge(1.0) if hits < trials else 1.0


def _log_likelihood(p: float, hits: int, trials: int) -> float:
    hit = hits * math.log(p) if hits else 0.0
    missed = (trials - hits) * math.log1p(-p) if hits < trials else 0.0
    return hit + missed


@dataclass(frozen=True, slots=True)
class Paired:
    """Two decoders on the same shots: only those that one of them fails tell them apart.

    Attributes:
        shots: decoded by both.
        both: failed by both.
        wins: failed by the reference alone.
        losses: failed by the other alone.
    """

    shots: int = 0
    both: int = 0
    wins: int = 0
    losses: int = 0

    def __add__(self, other: Paired) -> Paired:
        """More shots."""
        return Paired(
            self.shots + other.shots,
            self.both + other.both,
            self.wins + other.wins,
            self.losses + other.losses,
        )

    @property
    def sigma(self) -> float:
        """McNemar's statistic: standard deviations by which the reference is worse.

        Were both equally good, the discordant shots would be wins or losses like coin tosses.
        """
        discordant = self.wins + self.losses
        return (self.wins - self.losses) / math.sqrt(discordant) if discordant else 0.0

    @property
    def ratio(self) -> float | None:
        """Failures of the reference for each of the other's; None if that has none."""
        mine = self.both + self.losses
        return (self.both + self.wins) / mine if mine else None

    @property
    def ratio_interval(self) -> tuple[float, float] | None:
        """95 % interval of `ratio`: the delta method on its logarithm, the pairing counted."""
        ratio = self.ratio
        if not ratio:
            return None
        mine, theirs = self.both + self.losses, self.both + self.wins
        width = Z95 * math.sqrt((self.wins + self.losses) / (mine * theirs))
        return ratio * math.exp(-width), ratio * math.exp(width)
