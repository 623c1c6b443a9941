"""Intervals and paired comparisons, beside sinter's and SciPy's."""

from __future__ import annotations

import math

import pytest
import sinter
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from qdec_tools.statistics import Z95, Paired, interval


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_sinters(counts: tuple[int, int]) -> None:
    hits, trials = counts
    low, high = interval(hits, trials)
    fit = sinter.fit_binomial(
        num_shots=trials, num_hits=hits, max_likelihood_factor=math.exp(Z95**2 / 2)
    )
    # sinter searches in steps of a hundredth of a hit, with logarithms of factorials in between;
    # beyond a million trials those lose more than this allows.
    assert low == pytest.approx(fit.low, rel=1e-4, abs=0.02 / trials)
    assert high == pytest.approx(fit.high, rel=1e-4, abs=0.02 / trials)
    assert 0 <= low <= hits / trials <= high <= 1


def test_the_interval_of_nothing_is_everything() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(0, 10)[0] == 0.0
    assert interval(10, 10)[1] == 1.0
    # Without a failure: (1 - p)^n falls to 1 / 6.83 there.
    assert interval(0, 100)[1] == pytest.approx(1 - math.exp(-(Z95**2) / 200))


@given(st.integers(0, 400), st.integers(0, 400))
def test_sigma_is_the_coin_toss_test(wins: int, losses: int) -> None:
    paired = Paired(10_000, 50, wins, losses)
    assert math.copysign(1, paired.sigma) == math.copysign(1, wins - losses)
    if wins + losses >= 100:  # where the normal approximation holds
        exact = binomtest(wins, wins + losses).pvalue
        assert 2 * norm.sf(abs(paired.sigma)) == pytest.approx(exact, abs=0.1)


def test_the_ratio_and_its_interval() -> None:
    paired = Paired(10_000, 80, wins=40, losses=20)
    assert paired.ratio == pytest.approx(1.2)
    bounds = paired.ratio_interval
    assert bounds is not None
    low, high = bounds
    assert low * high == pytest.approx(1.2**2)
    assert 1 < low < 1.1  # 2.6 sigma
    assert Paired(10, 0, 5, 0).ratio is None
    assert Paired(10, 0, 0, 5).ratio == 0
    assert Paired(10, 0, 0, 5).ratio_interval is None
    assert Paired(5, 1, 2, 0) + Paired(5, 1, 0, 3) == Paired(10, 2, 2, 3)
