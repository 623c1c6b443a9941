"""Which tier should answer a stream? From measurements to a choice, and why. Nothing is measured
here.

Plain matching is the choice unless another rule is shown to be better: fast enough for the
deadline, able to keep up, and wrong on significantly fewer of the same windows. What loses the
code's distance (`qdec.match.gate`) must show more: its own faults count at lower noise than was
sampled, and nobody knows a machine's noise that well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qdec.match.escalate import NO_SWITCHING, Switching
from qdec.match.tier import Tier

# Of the deadline, and of the time that rounds take to come: the rest is the socket's, the other
# streams' and the operating system's.
_OF_DEADLINE = 0.5
_OF_CYCLE = 0.7
# Standard deviations by which a rule must be better, on the same windows.
_BETTER = 2.0
_FENCED_BETTER = 4.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to answer a stream.

    Attributes:
        tier: who is asked first.
        switching: who is asked where that is not sure enough.
    """

    tier: Tier
    switching: Switching = NO_SWITCHING

    def __str__(self) -> str:
        """``matching``, or ``matching > correlated < 0.9``: below which confidence who is asked."""
        chain = " > ".join(tier.label for tier in (self.tier, *self.switching.tiers))
        return f"{chain} < {self.switching.below:g}" if self.switching.tiers else chain


@dataclass(frozen=True, slots=True)
class Measured:
    """What a candidate did on this machine, in windows such as it would be served in.

    Attributes:
        candidate: who.
        us_p50, us_p99: CPU µs of a call with one window.
        us_window: CPU µs per window in batches.
        windows: windows it was judged on, drawn from the stream's own model.
        commit_rounds: rounds that each of them commits.
        wrong: those it answered wrongly.
        better, worse: those that it answered rightly and plain matching wrongly, and the reverse.
        heat: how many times likelier every error was in those windows than in the model.
        fence: why it does not keep the code's distance; empty if it does.
        unusable: why it cannot be had at all; empty if it can. (Nothing else counts then.)
    """

    candidate: Candidate
    us_p50: float = 0.0
    us_p99: float = 0.0
    us_window: float = 0.0
    windows: int = 0
    commit_rounds: int = 1
    wrong: int = 0
    better: int = 0
    worse: int = 0
    heat: float = 1.0
    fence: str = ""
    unusable: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a stream asks of its tier.

    Attributes:
        deadline_us: from a window's last byte to its commit.
        cycle_us: time in which a round comes; None if nobody said.
    """

    deadline_us: float
    cycle_us: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice.

    Attributes:
        candidate: what to answer with.
        reason: why, in a sentence.
        verdicts: what was said of each candidate, in their order; the chosen one's begins with
            ``chosen``.
    """

    candidate: Candidate
    reason: str
    verdicts: tuple[str, ...]


def decide(measured: Sequence[Measured], needs: Needs) -> Decision:
    """Choose among candidates; the first of them, plain matching, is what they must beat.

    Raises:
        ValueError: there are none.
    """
    if not measured:
        raise ValueError("there is no tier to choose from")
    safe = measured[0]
    verdicts = {0: _too_slow(safe, needs)}
    best = 0
    by_cost = sorted(
        range(1, len(measured)), key=lambda k: measured[k].us_window / measured[k].commit_rounds
    )
    for k in by_cost:
        one = measured[k]
        said = one.unusable or _too_slow(one, needs) or _not_better(one, measured[best], safe)
        if not said and one.fence:
            said = _not_safe(one)
        verdicts[k] = said
        if not said:
            verdicts[best] = verdicts[best] or f"{one.candidate} is better"
            best = k
    chosen = measured[best]
    reason = _reason(chosen, measured, verdicts, needs)
    verdicts[best] = f"chosen: {reason}"
    return Decision(chosen.candidate, reason, tuple(verdicts[k] for k in range(len(measured))))


def _too_slow(one: Measured, needs: Needs) -> str:
    if one.us_p99 > _OF_DEADLINE * needs.deadline_us:
        return (
            f"too slow: 1 % of its windows take {one.us_p99:,.0f} µs and more, over half of the "
            f"deadline of {needs.deadline_us:,.0f}"
        )
    if needs.cycle_us is not None:
        has = one.commit_rounds * needs.cycle_us
        if one.us_window > _OF_CYCLE * has:
            return f"cannot keep up: {one.us_window:,.0f} µs for each window's {has:,.0f} µs"
    return ""


def _not_better(one: Measured, than: Measured, safe: Measured) -> str:
    """Compared by how much of plain matching's failures each avoids, on its own windows.

    So it matters little that windows, or their noise, differ. Where they are the same, to compare
    by way of matching is conservative.
    """
    mine, my_variance = _avoided(one)
    other, its_variance = _avoided(than)
    gain, spread = mine - other, math.sqrt(my_variance + its_variance)
    if gain >= _BETTER * spread and gain > 0:
        return ""
    against = f"{_by_matching(one) if than is safe else than.wrong:,}"
    if than is not safe and (than.windows, than.heat) != (one.windows, one.heat):
        against = f"{_by_matching(one):,} by {safe.candidate}, {mine:.0%} fewer; {other:.0%} there"
    return f"not shown to be better than {than.candidate}: {_wrong(one)} against {against}"


def _avoided(one: Measured) -> tuple[float, float]:
    """The part of plain matching's failures that it avoids on balance, and the variance."""
    failures = max(1, _by_matching(one))
    return (one.better - one.worse) / failures, (one.better + one.worse) / failures**2


def _by_matching(one: Measured) -> int:
    """How many of the same windows plain matching answered wrongly."""
    return one.wrong + one.better - one.worse


def _not_safe(one: Measured) -> str:
    """A fenced tier is safe where the noise itself is: where it wins by far, as sampled."""
    gain, spread = one.better - one.worse, math.sqrt(one.better + one.worse)
    if one.heat == 1.0 and gain >= _FENCED_BETTER * spread and gain > 0:
        return ""
    return f"fenced, and not better by far at this noise: {one.fence}"


def _wrong(one: Measured) -> str:
    heat = f" with {one.heat:g} times the noise" if one.heat != 1 else ""
    return f"{one.wrong:,} of {one.windows:,} windows wrong{heat}"


def _reason(
    chosen: Measured, measured: Sequence[Measured], verdicts: dict[int, str], needs: Needs
) -> str:
    safe, *others = measured
    if chosen is safe:
        if verdicts[0]:
            return f"nothing that is better is fast enough, and neither is this: {verdicts[0]}"
        better = any(not one.unusable and not _not_better(one, safe, safe) for one in others)
        what = "that is fast enough and safe " if better else ""
        return f"nothing {what}was shown to be better ({_wrong(safe)})"
    less = f"{_wrong(chosen)}, {_by_matching(chosen):,} by {safe.candidate}"
    fence = "; fenced, but at this noise it wins by far" if chosen.fence else ""
    return f"{less}; {chosen.us_p99:,.0f} µs at p99 of {needs.deadline_us:,.0f}{fence}"
