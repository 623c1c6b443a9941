"""One stream from rounds to commits: however it is pushed and whenever it is decoded."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import code, detections, memory
from qdec.bits import Bytes, pack
from qdec.codes import Code
from qdec.commit import Committed, Flag, Job, StreamDecoder, WindowBank, run_jobs
from qdec.errors import WireCode, WireError
from qdec.match import CLASSICAL, Tier, compile_window
from qdec.match.offline import decode_shots
from qdec.windows import WHOLE, Geometry
from qdec.windows.cut import answer_bytes
from qdec.windows.geometry import Window

CODE = code(rounds=15, p=0.01)
ROUNDS = CODE.spacetime.rounds
BANKS = {
    (tier, geometry): WindowBank(CODE, tier, geometry)
    for tier in CLASSICAL
    for geometry in (WHOLE, Geometry(6, 3))
}


def recorded(shots: int, rounds: int = 15) -> Bytes:
    """``(shots, rounds + 1, record_bytes)``."""
    circuit = memory(rounds=rounds, p=0.01)
    return code(rounds=rounds, p=0.01).layout.to_records(detections(circuit, shots)[0])


def decoder(bank: WindowBank, length: int | None, ring_rounds: int = 512) -> StreamDecoder:
    return StreamDecoder(bank, length=length, ring_rounds=ring_rounds)


def push(stream: StreamDecoder, rounds: Bytes, **more: object) -> None:
    stream.push(rounds, t_recv=1, t_send=2, **more)


def settle(stream: StreamDecoder) -> list[Committed]:
    commits: list[Committed] = []
    while jobs := stream.jobs():
        run_jobs(jobs, 64)
        commits += stream.commits()
    return commits


def frames_at_ends(commits: list[Committed]) -> Bytes:
    return np.stack([c.frame for c in commits if c.flags & Flag.SHOT_END])


def covers(commits: list[Committed], rounds: int) -> None:
    """Windows follow one another, without a gap, up to a round."""
    at = 0
    for n, c in enumerate(commits):
        assert (c.window, c.first_round) == (n, at)
        at += c.count
    assert at == rounds


@pytest.mark.parametrize("key", BANKS, ids=str)
@given(
    cuts=st.sets(st.integers(1, 8 * ROUNDS - 1), max_size=30),
    turns=st.lists(st.booleans(), min_size=1, max_size=7),
)
@settings(max_examples=30)
def test_any_split_answers_as_the_offline_decoder(
    key: tuple[Tier, Geometry], cuts: set[int], turns: list[bool]
) -> None:
    shots = recorded(8)
    rounds = shots.reshape(8 * ROUNDS, -1)
    stream = decoder(BANKS[key], ROUNDS)
    commits = []
    edges = [0, *sorted(cuts), len(rounds)]
    for (a, b), turn in zip(itertools.pairwise(edges), itertools.cycle(turns), strict=False):
        push(stream, rounds[a:b])
        if turn:
            commits += settle(stream)
    commits += settle(stream)
    covers(commits, len(rounds))
    expected, feasible = decode_shots(CODE, *key, shots)
    assert feasible.all()
    assert expected.any()
    np.testing.assert_array_equal(frames_at_ends(commits), expected)


@pytest.mark.parametrize("tier", CLASSICAL)
@given(
    lengths=st.lists(st.sampled_from([5, 12, 15, 31]), min_size=1, max_size=4),
    step=st.integers(1, 40),
)
@settings(max_examples=30)
def test_endless_shots_of_any_length_answer_as_the_offline_decoder(
    tier: Tier, lengths: list[int], step: int
) -> None:
    geometry = Geometry(6, 3)
    stream = decoder(BANKS[tier, geometry], None)
    tail = stream.intake.tail_in_one_frame
    commits = []
    expected = []
    for n in lengths:
        shot = recorded(1, n)
        ends = [*range(step, n + 1 - tail, step), n + 1]
        for a, b in itertools.pairwise([0, *ends]):
            push(stream, shot[0, a:b], last=b == n + 1)
            commits += settle(stream)
        expected.append(decode_shots(CODE, tier, geometry, shot)[0])
    covers(commits, sum(n + 1 for n in lengths))
    np.testing.assert_array_equal(frames_at_ends(commits), np.concatenate(expected))


def changing_at_the_end(rounds: int) -> Code:
    """Three-bit rounds; in a shot's last three, other things go wrong than before."""
    lines = []
    for r in range(rounds):
        a, b, c = (f"D{3 * r + i}" for i in range(3))
        p, q = (0.2, 0.001) if r >= rounds - 3 else (0.01, 0.02)
        lines += [f"detector({i}, 0, {r}) D{3 * r + i}" for i in range(3)]
        lines += [f"error({p}) {what}" for what in (f"{a} L0", f"{a} {b}", f"{b} {c}", c)]
        lines += [f"error({q}) D{3 * r + i} D{3 * r + 3 + i}" for i in range(3) if r + 1 < rounds]
    return Code.parse("dem", "\n".join(lines))


def test_answers_do_not_depend_on_when_a_window_was_decoded() -> None:
    """A window that ends just before its shot does may be decoded before `last` comes, or after.

    Or it may be decoded elsewhere while `last` comes.
    """
    template = changing_at_the_end(10)
    bank = WindowBank(template, Tier.MATCHING, Geometry(6, 3))
    rng = np.random.default_rng(1)
    for length in (11, 12, 13, 14, 15) * 12:
        rounds = pack(rng.random((length, 3)) < 0.2)
        answers = []
        for when in ("late", "at once", "elsewhere"):
            stream = decoder(bank, None)
            tail = stream.intake.tail_in_one_frame
            commits = []
            for r in range(length - tail):
                push(stream, rounds[r : r + 1])
                commits += settle(stream) if when == "at once" else []
            away = stream.jobs() if when == "elsewhere" else []
            push(stream, rounds[length - tail :], last=True)
            assert not away or not stream.jobs(), "the window is decoded already"
            run_jobs(away, 64)
            commits += settle(stream)
            answers.append([(c.frame.tobytes(), c.seam.tobytes(), c.flags) for c in commits])
        assert answers[0] == answers[1] == answers[2]


def test_a_tail_in_two_frames_is_refused() -> None:
    template = changing_at_the_end(10)
    stream = decoder(WindowBank(template, Tier.MATCHING, Geometry(6, 3)), None)
    assert stream.intake.tail_in_one_frame == 3
    quiet = np.zeros((8, 1), dtype=np.uint8)
    push(stream, quiet)
    for few in (1, 2):
        with pytest.raises(WireError, match="last 3 rounds") as caught:
            push(stream, quiet[:few], last=True)
        assert caught.value.wire is WireCode.BAD_LENGTH
    push(stream, quiet[:3], last=True)
    assert sum(c.count for c in settle(stream)) == 11


@given(order=st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_shots_finished_out_of_order_commit_in_order(order) -> None:
    shots = recorded(6)
    stream = decoder(BANKS[Tier.MATCHING, Geometry(6, 3)], ROUNDS)
    push(stream, shots.reshape(6 * ROUNDS, -1))
    waiting: list[Job] = []
    commits: list[Committed] = []
    while True:
        waiting += stream.jobs()
        if not waiting:
            break
        order.shuffle(waiting)
        run_jobs([waiting.pop()], 1)
        commits += stream.commits()
        # What has left is a prefix, and resuming would go on right behind it.
        assert stream.retain_from == sum(c.count for c in commits)
    covers(commits, 6 * ROUNDS)
    expected, _ = decode_shots(CODE, Tier.MATCHING, Geometry(6, 3), shots)
    np.testing.assert_array_equal(frames_at_ends(commits), expected)


def test_jobs_are_given_out_once_and_no_more_than_asked_for() -> None:
    stream = decoder(BANKS[Tier.MATCHING, WHOLE], ROUNDS)
    push(stream, recorded(5).reshape(5 * ROUNDS, -1))
    first, second, rest = stream.jobs(2), stream.jobs(1), stream.jobs()
    assert [len(first), len(second), len(rest)] == [2, 1, 2]
    assert stream.jobs() == []
    run_jobs([*rest, *second], 64)
    assert stream.commits() == []  # the first two are still out
    run_jobs(first, 64)
    assert len(stream.commits()) == 5


def test_credit_follows_what_was_committed() -> None:
    stream = decoder(BANKS[Tier.MATCHING, Geometry(6, 3)], None, ring_rounds=40)
    assert (stream.retain_from, stream.credit_until) == (0, 40)
    rounds = recorded(1, 31)[0]
    push(stream, rounds[:20])
    assert stream.credit_until == 40  # accepted, not committed
    settle(stream)
    assert (stream.retain_from, stream.credit_until) == (15, 55)


@pytest.mark.parametrize("raw", [False, True], ids=["detectors", "raw"])
def test_a_long_run_needs_no_more_memory_as_it_goes_on(raw: bool) -> None:
    stream = StreamDecoder(
        BANKS[Tier.MATCHING, Geometry(6, 3)], length=None, ring_rounds=64, raw=raw
    )
    quiet = np.zeros((5, stream.intake.record_bytes), dtype=np.uint8)

    def run(frames: int) -> int:
        for n in range(frames):
            # Frames are cut across windows, shots end all the time, now and then bits are lost.
            lost = np.zeros_like(quiet)
            lost[3, 0] = n % 200 == 7
            push(stream, quiet, last=n % 3 == 2, lost=lost)
            settle(stream)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        held = run(300)
        # 2400 frames and 800 shots: what each left behind would show.
        assert run(2400) < held + 20_000
    finally:
        tracemalloc.stop()
    rings = stream._ring.nbytes + stream._losses.nbytes + raw * stream.intake._raw.nbytes
    assert stream.nbytes == rings


def refusals() -> dict[str, tuple[int | None, int, dict[str, object], WireCode]]:
    """Name → (shot length, rounds pushed before, what is wrong, code)."""
    return {
        "last inside a shot": (ROUNDS, 4, {"count": 5, "last": True}, WireCode.BAD_LENGTH),
        "last just after a shot": (ROUNDS, 14, {"count": 3, "last": True}, WireCode.BAD_LENGTH),
        "shot too short": (None, 0, {"count": 3, "last": True}, WireCode.BAD_LENGTH),
        "tail in two frames": (None, 19, {"count": 1, "last": True}, WireCode.BAD_LENGTH),
        "padding in the first round": (None, 0, {"count": 2, "bits": (0, 0xF0)}, WireCode.BAD_BITS),
        "padding in the last round": (
            None,
            9,
            {"count": 4, "bits": (3, 0x10), "last": True},
            WireCode.BAD_BITS,
        ),
        "padding in the next shot": (
            ROUNDS,
            12,
            {"count": 9, "bits": (4, 0x80)},
            WireCode.BAD_BITS,
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_a_refused_push_changes_nothing(name: str) -> None:
    length, before, wrong, expected = refusals()[name]
    rounds = recorded(1, 31)[0] if length is None else recorded(2).reshape(2 * ROUNDS, -1)
    undisturbed, stream = (decoder(BANKS[Tier.MATCHING, Geometry(6, 3)], length) for _ in "ab")
    for one in (undisturbed, stream):
        if before:
            push(one, rounds[:before])
    bad = rounds[before : before + int(str(wrong["count"]))].copy()
    if "bits" in wrong:
        at, mask = wrong["bits"]
        bad[at] |= mask
    with pytest.raises(WireError) as caught:
        push(stream, bad, last=bool(wrong.get("last")))
    assert caught.value.wire is expected
    assert (stream.received, stream.credit_until) == (
        undisturbed.received,
        undisturbed.credit_until,
    )
    answers = []
    for one in (undisturbed, stream):
        push(one, rounds[before:], last=length is None)
        answers.append([(c.first_round, c.frame.tobytes(), c.flags) for c in settle(one)])
    assert answers[0] == answers[1]
    assert answers[0][-1][2] & Flag.SHOT_END


def test_padding_is_judged_by_each_rounds_own_width() -> None:
    """First and last rounds of a memory have half the detectors: the same byte differs in use."""
    stream = decoder(BANKS[Tier.MATCHING, WHOLE], ROUNDS)
    full = np.full((ROUNDS, 1), 0xFF, dtype=np.uint8)
    full[0] = full[-1] = 0x0F
    push(stream, full)
    for r in (0, ROUNDS - 1):
        more = full.copy()
        more[r] = 0x1F
        with pytest.raises(WireError, match=f"round {ROUNDS + r} "):
            push(stream, more)


BEHIND = Geometry(6, 3, 24)
BANKS[Tier.MATCHING, BEHIND] = WindowBank(CODE, Tier.MATCHING, BEHIND)


def replayed(rounds: Bytes, commits: list[Committed]) -> list[tuple[bytes, bytes]]:
    """Frames and seams of the very windows that were answered, decoded anew."""
    space = CODE.spacetime
    frame_bytes, _ = answer_bytes(space)
    rounds = rounds.copy()
    frame = np.zeros(frame_bytes, dtype=np.uint8)
    found = []
    for c in commits:
        end = min(c.first_round + c.count + 3, len(rounds))
        length = len(rounds) if end == len(rounds) else None
        window = Window(c.first_round, end, c.count, length)
        decoder = compile_window(CODE, Tier.MATCHING, BEHIND, window)
        (answer,) = decoder.decode(rounds[c.first_round : end].reshape(1, -1)).bits
        frame = frame ^ answer[:frame_bytes]
        seam = answer[frame_bytes:].reshape(-1, rounds.shape[1])
        boundary = c.first_round + c.count
        rounds[boundary : boundary + len(seam)] ^= seam[: len(rounds) - boundary]
        found.append((frame.tobytes(), seam.tobytes()))
    return found


@given(
    steps=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    turns=st.lists(st.booleans(), min_size=1, max_size=5),
    limit=st.integers(1, 10),
)
@settings(max_examples=30)
def test_a_stream_that_is_behind_takes_larger_windows(
    steps: list[int], turns: list[bool], limit: int
) -> None:
    """Which ones depends on when they were decoded; what they answer does not."""
    rounds = recorded(1, 150)[0]
    stream = decoder(BANKS[Tier.MATCHING, BEHIND], None)
    tail = stream.intake.tail_in_one_frame
    edges = [0, *(e for e in np.cumsum(steps).tolist() if e < len(rounds) - tail), len(rounds)]
    commits: list[Committed] = []
    for (a, b), turn in zip(itertools.pairwise(edges), itertools.cycle(turns), strict=False):
        push(stream, rounds[a:b], last=b == len(rounds))
        while turn and (jobs := stream.jobs(limit)):
            assert sum(job.regions for job in jobs) <= limit
            run_jobs(jobs, 64)
            commits += stream.commits()
    commits += settle(stream)
    covers(commits, len(rounds))
    assert {c.count for c in commits[:-1]} <= {3, 6, 12, 24}
    answers = [(c.frame.tobytes(), c.seam.tobytes()) for c in commits]
    assert answers == replayed(rounds, commits)


def test_a_stream_that_keeps_up_takes_ordinary_windows() -> None:
    rounds = recorded(1, 150)[0]
    answers = []
    for geometry in (BEHIND, Geometry(6, 3)):
        stream = decoder(BANKS[Tier.MATCHING, geometry], None)
        commits = []
        for r in range(140):
            push(stream, rounds[r : r + 1])
            commits += settle(stream)
        answers.append([(c.count, c.frame.tobytes(), c.seam.tobytes()) for c in commits])
    assert answers[0] == answers[1]
    # And one that is far behind takes the largest that there are, without compiling any.
    bank = WindowBank(CODE, Tier.MATCHING, BEHIND)
    bank.prepare(None)
    compiled = bank.num_compiled
    stream = decoder(bank, None)
    push(stream, rounds[:140])
    assert stream.ready(99) == 1  # the first windows are the shot's own
    counts = [c.count for c in settle(stream)]
    assert counts.count(24) == 5
    assert bank.num_compiled == compiled
