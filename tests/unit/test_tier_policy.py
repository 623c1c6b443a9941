"""Which tier `auto` takes: from measurements alone, with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.match import Tier
from qdec.match.escalate import Switching
from qdec.match.policy import Candidate, Measured, Needs, decide

PLAIN = Candidate(Tier.MATCHING)
STRONG = Candidate(Tier.CORRELATED)
SOFT = Candidate(Tier.SPEED)
LADDER = Candidate(Tier.MATCHING, Switching(tiers=(Tier.CORRELATED,), below=0.9))
NEEDS = Needs(deadline_us=2000)

SAFE = Measured(PLAIN, 30, 100, 25, windows=5000, commit_rounds=100, wrong=400)
BETTER = Measured(STRONG, 90, 300, 90, 5000, 100, 300, better=160, worse=60)
GUARDED = Measured(LADDER, 120, 500, 110, 5000, 100, 290, better=130, worse=20)
# The same rounds in windows of 5, of which plain matching answers as many wrongly.
SHORT = Measured(SOFT, 200, 400, 180, 100_000, 5, 250, better=180, worse=30)


def chosen(*measured: Measured, needs: Needs = NEEDS) -> Candidate:
    return decide(measured, needs).candidate


def test_what_is_shown_to_be_better_and_fast_enough_is_taken() -> None:
    decision = decide([SAFE, BETTER], NEEDS)
    assert decision.candidate == STRONG
    assert decision.reason == "300 of 5,000 windows wrong, 400 by matching; 300 µs at p99 of 2,000"
    assert decision.verdicts == (
        "correlated is better",
        f"chosen: {decision.reason}",
    )


def test_what_is_not_shown_to_be_better_is_not() -> None:
    decision = decide([SAFE, replace(BETTER, wrong=390, better=60, worse=50)], NEEDS)
    assert decision.candidate == PLAIN
    assert (
        "not shown to be better than matching: 390 of 5,000 windows wrong against 400"
        in (decision.verdicts[1])
    )
    assert "nothing was shown to be better" in decision.reason
    assert chosen(SAFE, replace(BETTER, wrong=500, better=20, worse=120)) == PLAIN


def test_deadlines_and_cycles() -> None:
    slow = decide([SAFE, replace(BETTER, us_p99=1001)], NEEDS)
    assert slow.candidate == PLAIN
    assert "over half of the deadline of 2,000" in slow.verdicts[1]
    assert "nothing that is fast enough and safe was shown to be better" in slow.reason
    assert chosen(SAFE, replace(BETTER, us_p99=1001), needs=replace(NEEDS, deadline_us=2500)) == (
        STRONG
    )
    behind = decide([SAFE, BETTER], replace(NEEDS, cycle_us=1))
    assert behind.candidate == PLAIN
    assert behind.verdicts[1] == "cannot keep up: 90 µs for each window's 100 µs"
    assert chosen(SAFE, BETTER, needs=replace(NEEDS, cycle_us=2)) == STRONG


def test_plain_matching_answers_where_nothing_can_and_says_so() -> None:
    decision = decide([replace(SAFE, us_p99=5000), replace(BETTER, us_p99=9000)], NEEDS)
    assert decision.candidate == PLAIN
    assert "neither is this: too slow" in decision.reason


def test_a_fenced_tier_must_win_by_far_at_the_streams_own_noise() -> None:
    fence = "correlated answers 6 of 219 single faults wrongly"
    fenced = replace(BETTER, fence=fence)
    assert chosen(SAFE, fenced) == STRONG  # 100 windows of 220 that differ: 6.7 sigma
    assert "fenced, but at this noise it wins by far" in decide([SAFE, fenced], NEEDS).reason
    for less in (replace(fenced, better=100, worse=60), replace(fenced, heat=2.0)):
        decision = decide([SAFE, less], NEEDS)
        assert decision.candidate == PLAIN
        assert fence in decision.verdicts[1]
    assert chosen(SAFE, replace(BETTER, heat=2.0)) == STRONG


def test_of_two_good_ones_the_dearer_must_beat_the_cheaper() -> None:
    assert chosen(SAFE, BETTER, GUARDED) == STRONG
    much = replace(GUARDED, wrong=100, better=310, worse=10)
    assert chosen(SAFE, BETTER, much) == LADDER
    assert chosen(SAFE, replace(BETTER, fence="x", heat=2.0), GUARDED) == LADDER


def test_windows_of_other_lengths_are_compared_by_what_matching_fails_there() -> None:
    """150 of 400 failures avoided, where the others avoid 100 and 110."""
    decision = decide([SAFE, BETTER, GUARDED, SHORT], NEEDS)
    assert decision.candidate == SOFT
    assert decision.reason.startswith("250 of 100,000 windows wrong, 400 by matching; 400 µs")
    # A tenth of the windows avoids the same part, but does not show it.
    few = replace(SHORT, windows=10_000, wrong=25, better=18, worse=3)
    verdict = decide([SAFE, BETTER, few], NEEDS)
    assert verdict.candidate == STRONG
    assert verdict.verdicts[2] == (
        "not shown to be better than correlated: 25 of 10,000 windows wrong against 40 by "
        "matching, 38% fewer; 25% there"
    )
    # Where matching fails much more often, to avoid as many failures is to avoid hardly any.
    assert chosen(SAFE, BETTER, replace(SHORT, wrong=9850)) == STRONG


def test_each_must_keep_up_in_its_own_windows() -> None:
    late = decide([SAFE, SHORT], replace(NEEDS, cycle_us=20))
    assert late.verdicts[1] == "cannot keep up: 180 µs for each window's 100 µs"
    assert chosen(SAFE, SHORT, needs=replace(NEEDS, cycle_us=60)) == SOFT


def test_what_cannot_be_had_says_why() -> None:
    gone = Measured(STRONG, unusable="cannot be had: p > 1/2")
    decision = decide([SAFE, gone], NEEDS)
    assert decision.candidate == PLAIN
    assert decision.verdicts[1] == "cannot be had: p > 1/2"
    with pytest.raises(ValueError, match="no tier"):
        decide([], NEEDS)


counts = st.integers(0, 500)
times = st.floats(0, 5000)


@given(
    st.lists(
        st.builds(
            Measured,
            st.sampled_from([STRONG, LADDER]),
            times,
            times,
            times,
            st.just(5000),
            st.sampled_from([5, 100]),
            counts,
            counts,
            counts,
            st.sampled_from([1.0, 2.0]),
            st.sampled_from(["", "fenced"]),
        ),
        max_size=4,
    ),
    st.floats(1, 5000),
    st.one_of(st.none(), st.floats(0.1, 20)),
)
def test_a_choice_is_never_slow_worse_or_unexplained(
    others: list[Measured], deadline: float, cycle: float | None
) -> None:
    measured = [SAFE, *others]
    decision = decide(measured, Needs(deadline, cycle))
    assert len(decision.verdicts) == len(measured)
    assert all(decision.verdicts)
    (k,) = [k for k, said in enumerate(decision.verdicts) if said.startswith("chosen")]
    one = measured[k]
    assert one.candidate == decision.candidate
    if k:
        assert one.us_p99 <= deadline / 2
        assert one.better > one.worse


def test_candidates_have_names() -> None:
    assert str(PLAIN) == "matching"
    assert str(LADDER) == "matching > correlated < 0.9"
