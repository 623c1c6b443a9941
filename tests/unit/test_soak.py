"""Drift that is there is found, and noise is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

soak = pytest.importorskip("soak", reason="needs perf/ on the path")


def samples(per_hour: float, seed: int, generations: int = 4, seconds: int = 200) -> object:
    """A lane's memory in MB: noise of neighbouring samples alike, steps, and growth."""
    rng = np.random.default_rng(seed)
    found = soak.Samples()
    for generation in range(generations):
        level = 100 + rng.normal(0, 3)
        noise = 0.0
        for at in range(seconds):
            noise = 0.9 * noise + rng.normal(0, 0.02)
            value = level + noise + per_hour * at / 3600 + (5 if at < 10 else 0)
            found.add("uss MB", "lane", generation, float(at), value)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_drift(seed: int) -> None:
    (row,) = soak.verdicts(samples(0.0, seed), 20.0, 5.0)
    assert not row["drifts"], row


@pytest.mark.parametrize("seed", range(5))
def test_growth_over_short_lives_is_found(seed: int) -> None:
    (row,) = soak.verdicts(samples(20.0, seed), 20.0, 5.0)
    assert row["drifts"], row
    assert 15 < row["per hour"] < 25
    assert row["generations"] == 4


def test_a_generation_that_is_hardly_there_says_nothing() -> None:
    (row,) = soak.verdicts(samples(1000.0, 1, seconds=30), 20.0, 5.0)
    assert row["generations"] == 0
    assert not row["drifts"]
