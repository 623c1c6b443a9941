"""A shot again, with the tiers on record: alone, each gives what the offline decoder gives."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.services import CODE, rounds_of_a_shot
from qdec.commit import StreamDecoder, WindowBank, run_jobs
from qdec.errors import DataError
from qdec.match import Tier
from qdec.match.offline import decode_shots
from qdec.match.replay import Replay
from qdec.windows import Geometry

GEOMETRY = Geometry(20, 10)
RECORDS = rounds_of_a_shot(200, 9)
COUNTS = [10] * 18 + [20]


@pytest.mark.parametrize("tier", [Tier.MATCHING, Tier.CORRELATED])
def test_one_tier_all_along_is_the_offline_decoder(tier: Tier) -> None:
    windows = list(Replay(CODE, GEOMETRY).shot(RECORDS, [(tier, n) for n in COUNTS]))
    frames, feasible = decode_shots(CODE, tier, GEOMETRY, RECORDS[None])
    np.testing.assert_array_equal(windows[-1].frame, frames[0])
    assert all(one.feasible for one in windows) == feasible[0]
    assert len(windows) == len(COUNTS)


def test_larger_windows_are_replayed_as_they_were_taken() -> None:
    geometry = Geometry(20, 10, 80)
    decoder = StreamDecoder(
        WindowBank(CODE, Tier.MATCHING, geometry), length=None, ring_rounds=len(RECORDS)
    )
    commits = []
    for start in (0, 30, 160):
        end = {0: 30, 30: 160, 160: 200}[start]
        decoder.push(RECORDS[start:end], t_recv=0, t_send=0, last=end == 200)
        while jobs := decoder.jobs():
            run_jobs(jobs, 1)
            commits += decoder.commits()
    counts = [c.count for c in commits]
    assert max(counts) > 20
    again = list(Replay(CODE, geometry).shot(RECORDS, [(Tier.MATCHING, n) for n in counts]))
    for one, commit in zip(again, commits, strict=True):
        np.testing.assert_array_equal(one.frame, commit.frame)
        np.testing.assert_array_equal(one.seam, commit.seam)


@pytest.mark.parametrize("counts", [[11], [40], [*COUNTS, 10], [10] * 19])
def test_windows_that_cannot_have_been_are_refused(counts: list[int]) -> None:
    replay = Replay(CODE, GEOMETRY)
    with pytest.raises(DataError):
        list(replay.shot(RECORDS, [(Tier.MATCHING, n) for n in counts]))
