"""What a lane says of its answers where a stream asks, and that nothing else changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from helpers.lanes import Lane, Stream, config
from helpers.recordings import recording
from qdec.config import StreamDefaults
from qdec.match import Tier


def answered(name: str, **defaults: Any) -> np.ndarray:
    """The commit records of a recording whose stream gets these defaults."""
    settings = config()
    wish = StreamDefaults(deadline_us=1_000_000_000, ring_rounds=256, **defaults)
    rec = recording(name)
    stream: Stream = rec.open(Lane(settings.model_copy(update={"defaults": wish})))
    for first, end, last in rec.frames(0, []):
        assert stream.send(first, rec.records[first:end], last=last) is None
        stream.lane.work()
    return stream.collect()


@pytest.mark.parametrize("name", ["shots, windows", "shots, whole", "endless, raw, no reset"])
def test_records_carry_what_was_asked_for(name: str) -> None:
    plain = answered(name)
    assert np.isnan(plain["confidence"]).all()
    sure = answered(name, confidence=True)
    assert (sure["frame"] == plain["frame"]).all()
    assert (sure["seam"] == plain["seam"]).all()
    assert ((sure["confidence"] > 0) & (sure["confidence"] <= 1)).all()
    assert set(sure["tier"].tolist()) == {Tier.MATCHING}


@pytest.mark.parametrize("name", ["shots, windows", "shots, whole"])
def test_records_name_the_tier_that_answered(name: str) -> None:
    sure = answered(name, confidence=True)
    threshold = float(np.quantile(sure["confidence"], 0.3))
    switched = answered(name, escalate=("correlated",), escalate_below=threshold)
    assert set(switched["tier"].tolist()) == {Tier.MATCHING, Tier.CORRELATED}
    assert not np.isnan(switched["confidence"]).any()
    if name == "shots, whole":  # no seam leads from one to the next
        up = sure["confidence"] < np.float32(threshold)
        assert (switched["tier"] == np.where(up, Tier.CORRELATED, Tier.MATCHING)).all()


def test_nothing_is_asked_of_streams_that_do_not_want_it() -> None:
    assert not StreamDefaults().switching
    assert math.isnan(answered("shots, whole")["confidence"][0])
