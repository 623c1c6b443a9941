"""Shots in columns answer as shots one by one do, whatever the frames, the losses and the order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.recordings import Recording, recording
from qdec.bits import pack
from qdec.codes import Code
from qdec.commit import CommittedShots, Job, ShotDecoder, StreamDecoder, WindowBank, run_jobs
from qdec.errors import WireCode, WireError
from qdec.match import Tier
from qdec.windows import WHOLE

NAMES = ("shots, whole", "shots, whole, correlated", "raw, whole", "raw, sweep bits, whole")
Row = tuple[int, int, int, int, bytes]


def made(name: str) -> tuple[Recording, Code, dict[str, object]]:
    rec = recording(name)
    code = Code.parse("circuit", rec.text)
    tier = Tier.CORRELATED if "correlated" in name else Tier.MATCHING
    bank = WindowBank(code, tier, WHOLE)
    options = {"length": code.spacetime.rounds, "raw": "raw" in name}
    return rec, code, {"bank": bank, **options}


MADE = {name: made(name) for name in NAMES}


def decoders(name: str, ring_rounds: int = 64) -> tuple[ShotDecoder, StreamDecoder]:
    options = dict(MADE[name][2])
    bank = options.pop("bank")
    both = (kind(bank, ring_rounds=ring_rounds, **options) for kind in (ShotDecoder, StreamDecoder))
    return next(both), next(both)


def rows(decoder: ShotDecoder | StreamDecoder) -> list[Row]:
    """Commits that are next in order: window, first round, rounds, flags, frame."""
    found: list[Row] = []
    for c in decoder.commits():
        if isinstance(c, CommittedShots):
            for i, (flags, frame) in enumerate(zip(c.flags.tolist(), c.frames, strict=True)):
                first = c.first_round + i * c.count
                found.append((c.window + i, first, c.count, flags, frame.tobytes()))
        else:
            assert not c.seam.any()
            found.append((c.window, c.first_round, c.count, c.flags, c.frame.tobytes()))
    return found


def settle(decoder: ShotDecoder | StreamDecoder) -> list[Row]:
    found = []
    while jobs := decoder.jobs():
        run_jobs(jobs, 64)
        found += rows(decoder)
    return found


def marks(t: int) -> dict[str, int]:
    return {"t_recv": t, "t_send": t}


@pytest.mark.parametrize("name", NAMES)
@given(
    cuts=st.sets(st.integers(1, 200), max_size=12),
    lossy=st.booleans(),
    lazy=st.lists(st.booleans(), min_size=1, max_size=5),
)
@settings(max_examples=30)
def test_columns_agree_with_one_by_one(
    name: str, cuts: set[int], lossy: bool, lazy: list[bool]
) -> None:
    records = np.concatenate([MADE[name][0].records] * 3)
    bits = np.random.default_rng(1).random((len(records), 8 * records.shape[1])) < 1 / 150
    lost = pack(bits) if lossy else None
    answered: tuple[list[Row], list[Row]] = ([], [])
    both = decoders(name, ring_rounds=len(records))
    edges = [0, *sorted(c for c in cuts if c < len(records)), len(records)]
    for (a, b), wait in zip(itertools.pairwise(edges), itertools.cycle(lazy), strict=False):
        for decoder, found in zip(both, answered, strict=True):
            part = None if lost is None else lost[a:b]
            decoder.push(records[a:b], lost=part, **marks(a))
            if not wait:
                found += settle(decoder)
            assert decoder.received == b
    for decoder, found in zip(both, answered, strict=True):
        found += settle(decoder)
        assert decoder.retain_from == len(records)
    assert answered[0] == answered[1]
    assert len(answered[0]) == 3 * len(MADE[name][0].ends)
    assert both[0].state == both[1].state


@given(order=st.randoms(use_true_random=False), cuts=st.sets(st.integers(1, 62), max_size=6))
@settings(max_examples=30)
def test_jobs_finished_out_of_order_commit_in_order(order, cuts) -> None:
    name = "shots, whole"
    records = MADE[name][0].records
    columns, single = decoders(name)
    for a, b in itertools.pairwise([0, *sorted(c for c in cuts if c < len(records)), len(records)]):
        for decoder in (columns, single):
            decoder.push(records[a:b], **marks(a))
    jobs: list[Job] = columns.jobs(2) + columns.jobs()
    order.shuffle(jobs)
    found = []
    for job in jobs:
        run_jobs([job], 1)
        found += rows(columns)
        assert columns.retain_from == sum(count for _, _, count, _, _ in found)
    assert found == settle(single)


def test_a_ring_that_wraps_and_a_limit_split_jobs() -> None:
    name = "shots, whole"
    records = MADE[name][0].records
    length = MADE[name][1].spacetime.rounds
    columns, single = decoders(name, ring_rounds=4 * length + 3)
    expected, found = [], []
    for at in range(0, 8 * length, 2 * length):
        part = np.resize(records[at:], (2 * length, records.shape[1]))
        for decoder in (columns, single):
            decoder.push(part, **marks(at))
            assert decoder.oldest() == decoder.first_ready()[0]
        assert columns.ready(1) == 1
        assert columns.ready(9) == 2
        (one,) = columns.jobs(1)
        assert len(one.syndrome) == 1
        run_jobs([one], 64)
        found += rows(columns) + settle(columns)
        expected += settle(single)
    assert found == expected
    assert columns.oldest() is single.oldest() is None
    with pytest.raises(LookupError):
        columns.first_ready()


def test_what_is_refused_changes_nothing() -> None:
    name = "shots, whole"
    records = MADE[name][0].records
    length = MADE[name][1].spacetime.rounds
    columns, _ = decoders(name)
    bad = records[: 2 * length].copy()
    bad[length] |= 0xF0  # a first round has four bits
    with pytest.raises(WireError, match=f"round {length} ") as caught:
        columns.push(bad, **marks(1))
    assert caught.value.wire is WireCode.BAD_BITS
    with pytest.raises(WireError) as caught:
        columns.push(records[:3], last=True, **marks(1))
    assert caught.value.wire is WireCode.BAD_LENGTH
    assert (columns.received, columns.ready(1)) == (0, 0)
