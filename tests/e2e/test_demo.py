"""``qdec demo``: two patches, each told only by what ran at the pace that is shown."""

from __future__ import annotations

import json

from helpers.replays import qdec


def test_the_summary_is_of_the_pace_it_shows() -> None:
    done = qdec("demo", "--seconds", 4, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == []
    assert [row["stream"] for row in found["patches"]] == ["patch-d5", "patch-d3"]
    for row in found["patches"]:
        assert row["rounds"] == row["committed"] > 0
        # No round leaves before its time, so no more of them than the time has room for, but for
        # those that end the shot.
        assert (row["rounds"] - 100) * row["cycle_us"] * 1e-6 <= row["seconds"]
        assert row["late_share"] == (row["late"] - row["preempted"]) / row["windows"]
    first = found["patches"][0]
    words = " ".join(done.stderr.split())
    assert f"{first['rounds']:,} rounds, every window answered in order" in words
    assert f"{first['late_share']:.3%} of them late beyond the scheduler's own delays" in words
