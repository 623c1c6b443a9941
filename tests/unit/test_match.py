"""The decoders of single windows: right, and unharmed by syndromes that nothing explains."""

from __future__ import annotations

import math
import re

import numpy as np
import pymatching
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import (
    REPETITION,
    ROTATED_X,
    ROTATED_Z,
    TASKS,
    UNROTATED_Z,
    code,
    detections,
    memory,
    ring,
    two_patches,
    without_reset,
)
from helpers.google import experiment
from helpers.windowed import decode_windowed
from qdec.bits import Bytes, pack, unpack
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match import CLASSICAL, SOFT, Tier, compile_window, graph, matching
from qdec.match.offline import decode_shots
from qdec.windows import WHOLE, Geometry, Window
from qdec.windows.cut import Erasure, Problem, answer_bytes, cut, merge_parallel

TIERS = (Tier.MATCHING, Tier.CORRELATED)  # those that are PyMatching itself
ATTEMPT = Geometry(6, 3)


def pymatching_frames(dem: stim.DetectorErrorModel, shots: Bytes, tier: Tier) -> Bytes:
    """PyMatching's own answer to whole shots."""
    correlated = tier is Tier.CORRELATED
    return pymatching.Matching.from_detector_error_model(
        dem, enable_correlations=correlated
    ).decode_batch(
        shots,
        bit_packed_shots=True,
        bit_packed_predictions=True,
        enable_correlations=correlated,
    )


# Whole shots: PyMatching's answers, bit for bit.


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("task", TASKS)
def test_whole_shots_are_bit_identical_to_pymatching(task: str, tier: Tier) -> None:
    circuit, made = memory(task, 5, 10, 0.008), code(task, 5, 10, 0.008)
    shots, _ = detections(circuit, 3_000)
    frames, feasible = decode_windowed(made, made.layout.to_records(shots), WHOLE, tier)
    assert feasible.all()
    assert (frames == pymatching_frames(made.dem, shots, tier)).all()


@pytest.mark.parametrize("tier", TIERS)
def test_whole_shots_of_a_model_with_shuffled_detectors_are_bit_identical(tier: Tier) -> None:
    """The DEM goes to PyMatching in its own order, not in the records'."""
    random = np.random.default_rng(3)
    original = code(ROTATED_Z, 3, 6, 0.01)
    new = random.permutation(original.layout.num_detectors)
    text = "\n".join(_renumbered(i, new) for i in original.dem.flattened())
    made = Code.parse("dem", text)
    shots, _ = detections(memory(ROTATED_Z, 3, 6, 0.01), 3_000)
    moved = pack(unpack(shots, len(new))[:, np.argsort(new)])
    frames, _ = decode_windowed(made, made.layout.to_records(moved), WHOLE, tier)
    assert (frames == pymatching_frames(stim.DetectorErrorModel(text), moved, tier)).all()


def _renumbered(item: stim.DemInstruction, new: np.ndarray) -> str:
    def name(target: object) -> str:
        if isinstance(target, stim.DemTarget) and target.is_relative_detector_id():
            return f"D{new[target.val]}"
        return str(target)

    args = ", ".join(map(repr, item.args_copy()))
    return f"{item.type}({args}) " + " ".join(map(name, item.targets_copy()))


def test_whole_shots_keep_observables_that_nothing_flips() -> None:
    text = "error(0.1) D0 L1\ndetector(0) D0\nlogical_observable L9"
    made = Code.parse("dem", text)
    answers = compile_window(made, Tier.MATCHING, WHOLE, Window(0, 1, 1, 1)).decode(
        np.array([[1], [0]], dtype=np.uint8)
    )
    assert answers.bits[:, :2].tolist() == [[2, 0], [0, 0]]


@pytest.mark.parametrize(
    ("name", "plain", "correlated"),
    [
        ("surface_code_bX_d3_r05_center_3_5", 7_825, 7_263),
        ("surface_code_bX_d5_r11_center_5_5", 15_254, 13_326),
    ],
)
def test_googles_data_fail_as_often_as_pymatching_fails(
    name: str, plain: int, correlated: int
) -> None:
    data = experiment(name)
    made = Code.parse("dem", data.dem)
    records = made.layout.to_records(data.packed("detection_events.b8", made.layout.num_detectors))
    assert len(records) == data.expected["shots"] == 50_000
    frames, _ = decode_windowed(made, records, WHOLE, Tier.MATCHING)
    assert (frames == data.packed("pm2.4_pred_circuit_dem.b8", 1)).all()  # every shot
    assert (frames != data.flips).sum() == plain
    frames, _ = decode_windowed(made, records, WHOLE, Tier.CORRELATED)
    assert (frames != data.flips).sum() == correlated


# Windows: what is committed explains what it must.


def jittered(made: Code, seed: int) -> Code:
    """The same code with probabilities all different, so that no two matchings tie."""
    random = np.random.default_rng(seed)
    lines = []
    for item in made.dem.flattened():
        if item.type == "error":
            p = item.args_copy()[0] * random.uniform(0.5, 2.0)
            item = stim.DemInstruction("error", [p], item.targets_copy())
        lines.append(str(item))
    return Code.parse("dem", "\n".join(lines))


def matched_edges(problem: Problem, syndrome: Bytes) -> list[int]:
    """The window's edges that PyMatching uses, found without any ids."""
    edges = merge_parallel(problem)
    graph = pymatching.Matching()
    number: dict[tuple[int, int], int] = {}
    boundary = problem.num_nodes
    for e, (u, v) in enumerate(zip(edges.u.tolist(), edges.v.tolist(), strict=True)):
        weight = math.log((1 - edges.p[e]) / edges.p[e])
        if v < 0:
            graph.add_boundary_edge(u, weight=weight)
        else:
            graph.add_edge(u, v, weight=weight)
        number[min(u, v), max(u, v)] = int(edges.component[e])
    if graph.num_nodes < boundary:
        graph.add_edge(boundary - 2, boundary - 1, weight=1e6)
    used = graph.decode_to_edges_array(unpack(syndrome, boundary))
    return [number[int(min(a, b)), int(max(a, b))] for a, b in used]


@pytest.mark.parametrize(
    "made",
    [
        jittered(code(ROTATED_Z, 3, 12), 1),
        jittered(code(REPETITION, 5, 12), 2),
        jittered(Code.from_circuit(ring(rounds=12)), 3),
        jittered(Code.from_circuit(without_reset(memory(ROTATED_X, 3, 12))), 4),
    ],
    ids=["rotated Z", "repetition", "ring", "rotated X without reset"],
)
@pytest.mark.parametrize("density", [0.03, 0.3])
def test_the_answer_is_what_the_committed_edges_flip(made: Code, density: float) -> None:
    """For any syndrome: seam and commit explain all events of the commit region, and the frame
    is the parity of what the committed edges flip.
    """
    layout, space = made.layout, made.spacetime
    row = 8 * layout.record_bytes
    window = Window(3, 9, 3, space.rounds)
    problem = cut(space, window)
    compiled = compile_window(made, Tier.MATCHING, ATTEMPT, window)
    random = np.random.default_rng(7)
    rounds = range(window.start, window.end)
    real = np.concatenate([r * row + np.arange(layout.counts[q]) for r, q in enumerate(rounds)])
    for _ in range(40):
        bits = np.zeros(problem.num_nodes, dtype=np.uint8)
        bits[real] = random.random(len(real)) < density
        answer = compiled.decode(pack(bits)[None])
        assert answer.feasible.all()
        explained = np.zeros_like(bits)
        seam = np.zeros((window.end - window.start) * row, dtype=np.uint8)
        frame = 0
        for k in matched_edges(problem, pack(bits)):
            ends = [n for n in (int(problem.u[k]), int(problem.v[k])) if n >= 0]
            explained[ends] ^= 1
            if min(ends) < window.commit * row:
                seam[[n for n in ends if n >= window.commit * row]] ^= 1
                flips = problem.ids[problem.id_ptr[k] : problem.id_ptr[k + 1]]
                frame ^= sum(1 << i for i in flips.tolist() if i < made.num_observables)
        assert (explained == bits).all()
        assert answer.bits[0, 0] == frame
        got = unpack(answer.bits[0, 1:], space.span * row)
        at = window.commit * row
        assert (got == seam[at : at + len(got)]).all()
        assert not seam[at + len(got) :].any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, 1), (4, 3), (6, 3), (5, 1), (9, 8)]))
@settings(max_examples=40)
def test_seams_keep_parity(seed: int, geometry: tuple[int, int]) -> None:
    """On a ring every shot has an even number of events, and nothing but the last window's
    feasibility shows whether each seam was carried whole: one bit lost, and it is odd.
    """
    made = Code.from_circuit(ring(rounds=14))
    events = np.random.default_rng(seed).integers(
        0, 2, (20, made.layout.num_detectors), dtype=np.uint8
    )
    events[:, 0] ^= events.sum(axis=1) % 2 == 1
    records = made.layout.to_records(pack(events))
    for tier in TIERS:
        assert decode_windowed(made, records, Geometry(*geometry), tier)[1].all()
    records[:, 5, 0] ^= 1
    for tier in TIERS:
        assert not decode_windowed(made, records, Geometry(*geometry), tier)[1].any()


@pytest.mark.parametrize("geometry", [Geometry(6, 3), Geometry(4, 1), Geometry(9, 6)])
@pytest.mark.parametrize("task", TASKS)
def test_every_single_fault_is_corrected_wherever_windows_end(
    task: str, geometry: Geometry
) -> None:
    """Cut through by any seam, one fault is still one fault, and d=3 corrects it."""
    made = code(task, 3, 12)
    shots, flips = single_faults(made)
    frames, feasible = decode_windowed(made, made.layout.to_records(shots), geometry)
    assert feasible.all()
    assert (frames == flips).all()


def single_faults(made: Code) -> tuple[Bytes, Bytes]:
    """A shot for each of the model's instructions: packed events, and packed observables."""
    items = errors(made)
    events = np.zeros((len(items), made.layout.num_detectors), dtype=np.uint8)
    flips = np.zeros((len(items), made.num_observables), dtype=np.uint8)
    for n, item in enumerate(items):
        for target in item.targets_copy():
            if not target.is_separator():
                (events if target.is_relative_detector_id() else flips)[n, target.val] ^= 1
    return pack(events), pack(flips)


# Many observables; graphs split to stay on PyMatching's fast path.


def side_by_side(copies: int, rounds: int = 9) -> str:
    """Repetition codes of distance 3, each with an observable of its own."""
    lines = []
    for r in range(rounds):
        for k in range(copies):
            first = 2 * (r * copies + k)
            p = 0.01 + k / 10_000
            lines += [f"detector({k}, {i}, {r}) D{first + i}" for i in range(2)]
            lines.append(f"error({p}) D{first} L{k}\nerror({p}) D{first} D{first + 1}")
            lines.append(f"error({p}) D{first + 1}")
            if r < rounds - 1:
                lines += [f"error({p}) D{d} D{d + 2 * copies}" for d in (first, first + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize("tier", TIERS)
def test_a_hundred_observables(tier: Tier) -> None:
    made = Code.parse("dem", side_by_side(100))
    shots, flips = single_faults(made)
    assert flips.shape[1] == 13
    records = made.layout.to_records(shots)
    for geometry in (WHOLE, Geometry(5, 2)):
        frames, feasible = decode_windowed(made, records, geometry, tier)
        assert feasible.all()
        assert (frames == flips).all()
    # Faults in every copy at once: each observable is decoded as if it were alone.
    random = np.random.default_rng(1)
    mixed = [random.choice(len(shots), 30, replace=False) for _ in range(50)]
    shots = np.array([np.bitwise_xor.reduce(shots[pick]) for pick in mixed])
    frames, _ = decode_windowed(made, made.layout.to_records(shots), WHOLE, tier)
    assert (frames == pymatching_frames(made.dem, shots, tier)).all()


def test_an_observable_may_lie_in_several_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every copy flips the same one: their answers add up modulo 2."""
    made = Code.parse("dem", re.sub(r"L\d+", "L0", side_by_side(5)))
    monkeypatch.setattr(matching, "FAST_IDS", 0)
    assert graphs_of(made, Window(2, 7, 2, 9)) == 5
    shots, flips = single_faults(made)
    random = np.random.default_rng(1)
    copy = np.array([item.targets_copy()[0].val // 2 % 5 for item in errors(made)])
    # One fault in each copy.
    picks = np.array([random.choice(np.flatnonzero(copy == k), 300) for k in range(5)])
    shots, flips = (np.bitwise_xor.reduce(x[picks], axis=0) for x in (shots, flips))
    assert 50 < flips.sum() < 250
    frames, feasible = decode_windowed(made, made.layout.to_records(shots), Geometry(5, 2))
    assert feasible.all()
    assert (frames == flips).all()


def errors(made: Code) -> list[stim.DemInstruction]:
    return [item for item in made.dem.flattened() if item.type == "error"]


def graphs_of(made: Code, window: Window) -> int:
    return matching.MatchingWindow(cut(made.spacetime, window)).num_graphs


def test_windows_are_split_only_beyond_64_ids() -> None:
    small, large = code(ROTATED_Z, 5, 12), code(ROTATED_Z, 9, 22)
    assert cut(small.spacetime, Window(2, 12, 5, None)).num_ids <= graph.FAST_IDS
    assert cut(large.spacetime, Window(2, 20, 9, None)).num_ids > graph.FAST_IDS
    assert graphs_of(small, Window(2, 12, 5, None)) == 1
    assert graphs_of(large, Window(2, 20, 9, None)) == 2  # one for each basis


def test_split_windows_answer_like_unsplit_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, made = memory(ROTATED_Z, 9, 27, 0.006), code(ROTATED_Z, 9, 27, 0.006)
    shots, flips = detections(circuit, 400)
    records = made.layout.to_records(shots)
    split, _ = decode_windowed(made, records, Geometry(18, 9))
    monkeypatch.setattr(matching, "FAST_IDS", 10**9)
    assert graphs_of(made, Window(2, 20, 9, None)) == 1
    one, _ = decode_windowed(made, records, Geometry(18, 9))
    # Where two matchings weigh the same, the order of edges decides.
    differ = int((split != one).any(axis=1).sum())
    failures = [int((frames != flips).any(axis=1).sum()) for frames in (split, one)]
    assert differ <= 4, (differ, failures)
    assert 0 < failures[0] < 40, failures


@pytest.mark.parametrize("limit", [0, 4, 8])
def test_split_windows_without_ties_answer_alike(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers (seams and all) of one window; few ids to a graph force many graphs."""
    made = jittered(Code.from_circuit(two_patches(memory(ROTATED_Z, 3, 12))), 5)
    window = Window(2, 8, 3, None)
    syndromes = np.random.default_rng(2).integers(
        0, 256, (200, cut(made.spacetime, window).num_nodes // 8), dtype=np.uint8
    )
    one = matching.MatchingWindow(cut(made.spacetime, window))
    monkeypatch.setattr(matching, "FAST_IDS", limit)
    split = matching.MatchingWindow(cut(made.spacetime, window))
    assert (one.num_graphs, split.num_graphs > 1) == (1, True)
    want, got = one.decode(syndromes), split.decode(syndromes)
    assert want.feasible.all()
    assert (got.bits == want.bits).all()
    assert (got.feasible == want.feasible).all()


def apart(circuit: stim.Circuit, shots: Bytes) -> list[Bytes]:
    """The detectors of each of two patches, packed as that patch alone has them."""
    second = [at[0] >= 1000 for _, at in sorted(circuit.get_detector_coordinates().items())]
    bits = unpack(shots, len(second))
    return [pack(bits[:, np.array(second) == which]) for which in (False, True)]


@pytest.mark.parametrize("geometry", [WHOLE, Geometry(10, 5)], ids=str)
@pytest.mark.parametrize("tier", TIERS)
def test_two_patches_decoded_together_equal_two_apart(tier: Tier, geometry: Geometry) -> None:
    circuit = two_patches(memory(UNROTATED_Z, 3, 14, 0.004))
    together = Code.from_circuit(circuit)
    shots, _ = detections(circuit, 3_000)
    both, _ = decode_windowed(together, together.layout.to_records(shots), geometry, tier)
    alone = code(UNROTATED_Z, 3, 14, 0.004)
    frames = [
        decode_windowed(alone, alone.layout.to_records(part), geometry, tier)[0][:, 0]
        for part in apart(circuit, shots)
    ]
    assert sum(f.sum() for f in frames) > 500
    differ = int((both[:, 0] != (frames[0] | frames[1] << 1)).sum())
    assert differ <= 6, f"{differ} of 3,000 differ; ties account for a few at most"


def test_two_patches_do_not_disturb_each_other() -> None:
    """Without ties: not a bit of one patch's answer depends on the other's events."""
    made = jittered(Code.from_circuit(two_patches(memory(ROTATED_Z, 3, 14))), 9)
    circuit = two_patches(memory(ROTATED_Z, 3, 14, 0.01))
    shots, _ = detections(circuit, 500)
    second = [at[0] >= 1000 for _, at in sorted(circuit.get_detector_coordinates().items())]
    bits = unpack(shots, len(second))
    records = [
        made.layout.to_records(pack(bits & mask))
        for mask in (
            np.ones(len(second), np.uint8),
            np.array(second, np.uint8),
            1 - np.array(second, np.uint8),
        )
    ]
    both, one, other = (decode_windowed(made, r, Geometry(6, 3))[0] for r in records)
    assert (both == one ^ other).all()
    assert not (one & 1).any()
    assert not (other & 2).any()


# Syndromes that nothing explains.


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("fast_ids", [64, 0], ids=["one graph", "split"])
def test_infeasible_shots_are_flagged_and_disturb_nothing(
    tier: Tier, fast_ids: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last window of a ring has no boundary: an odd number of events has no explanation."""
    monkeypatch.setattr(matching, "FAST_IDS", fast_ids)
    made = Code.from_circuit(ring(rounds=12))
    rounds = made.spacetime.rounds
    for window in (Window(rounds - 5, rounds, 5, rounds), Window(0, rounds, rounds, rounds)):
        geometry = WHOLE if window.start == 0 else ATTEMPT
        random = np.random.default_rng(4)
        size = (60, window.end - window.start, 4)  # four detectors to a round
        bits = random.integers(0, 2, size, dtype=np.uint8)
        odd = bits.sum(axis=(1, 2)) % 2 == 1
        assert 10 < odd.sum() < 50
        syndromes = pack(bits).reshape(60, -1)
        # A fresh decoder for each even shot knows nothing of the odd ones.
        want = np.concatenate(
            [
                compile_window(made, tier, geometry, window).decode(syndromes[i : i + 1]).bits
                for i in np.flatnonzero(~odd)
            ]
        )
        compiled = compile_window(made, tier, geometry, window)
        answers = compiled.decode(syndromes)
        assert (answers.feasible == ~odd).all()
        assert (answers.bits[~odd] == want).all()
        assert not answers.bits[odd].any()
        for i in np.flatnonzero(odd):  # alone, the same
            alone = compiled.decode(syndromes[i : i + 1])
            assert not alone.feasible.any()
            assert not alone.bits.any()
        again = compiled.decode(syndromes[~odd])
        assert again.feasible.all()
        assert (again.bits == want).all()


def test_any_part_of_a_split_window_can_be_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rings, a graph each: what one cannot explain says nothing about the other's answer."""
    circuit = two_patches(ring(rounds=12))
    made = Code.from_circuit(circuit)
    shots = np.random.default_rng(8).integers(0, 2, (200, made.layout.num_detectors), np.uint8)
    records = made.layout.to_records(pack(shots))
    rounds = made.spacetime.rounds
    window = Window(rounds - 5, rounds, 5, rounds)
    syndromes = records[:, window.start :].reshape(len(records), -1)
    want = compile_window(made, Tier.MATCHING, ATTEMPT, window).decode(syndromes)
    monkeypatch.setattr(matching, "FAST_IDS", 0)
    compiled = matching.MatchingWindow(cut(made.spacetime, window))
    assert compiled.num_graphs == 2
    got = compiled.decode(syndromes)
    first = np.array([at[0] < 1000 for _, at in sorted(circuit.get_detector_coordinates().items())])
    inside = made.layout.round_of >= window.start
    odd = [shots[:, inside & part].sum(axis=1) % 2 == 1 for part in (first, ~first)]
    assert all(30 < both.sum() < 70 for both in (odd[0] & odd[1], ~odd[0] & ~odd[1]))
    assert (got.feasible == ~(odd[0] | odd[1])).all()
    assert (want.feasible == got.feasible).all()
    for part, bit in enumerate((1, 2)):
        assert not (got.bits[odd[part], 0] & bit).any()
    good = want.feasible
    assert (got.bits[good] == want.bits[good]).mean() > 0.9  # ties apart
    assert (got.bits[odd[0] & ~odd[1], 0] & 2).any()


@pytest.mark.parametrize("fast_ids", [64, 0], ids=["one graph", "split"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("geometry", [WHOLE, Geometry(4, 2)], ids=str)
def test_an_event_where_no_mechanism_is_has_no_explanation(
    tier: Tier, geometry: Geometry, fast_ids: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "FAST_IDS", fast_ids)
    # Two chains, which may be split, and a third place between them without any mechanism.
    text = "".join(f"detector({k}, 0, {r}) D{3 * r + k}\n" for r in range(8) for k in range(3))
    for d, observable in [(3 * r + k, k // 2) for r in range(7) for k in (0, 2)]:
        text += f"error(0.1) D{d} L{observable}\nerror(0.1) D{d} D{d + 3}\n"
    made = Code.parse("dem", text)
    records = np.zeros((4, 8, 1), dtype=np.uint8)
    records[1:, 3, 0] = [2, 1, 4]
    frames, feasible = decode_windowed(made, records, geometry, tier)
    assert feasible.tolist() == [True, False, True, True]
    assert frames.tolist() == [[0], [0], [1], [2]]


@pytest.mark.parametrize("tier", TIERS)
def test_pairs_may_be_listed_either_way_round(tier: Tier) -> None:
    text = "".join(f"detector(0, 0, {r}) D{r}\nerror(0.0{r + 1}) D{r} L0\n" for r in range(6))
    pairs = [(r, r + 1) for r in range(5)]
    forward, backward = (
        Code.parse("dem", text + "".join(f"error(0.2) D{a} D{b} L1\n" for a, b in one))
        for one in (pairs, [(b, a) for a, b in pairs])
    )
    records = np.array([[(n >> r) & 1 for r in range(6)] for n in range(64)], dtype=np.uint8)
    answers = [
        decode_windowed(made, records[:, :, None], Geometry(3, 1), tier)[0]
        for made in (forward, backward)
    ]
    assert (answers[0] == answers[1]).all()
    assert (answers[0] & 2).any()


@pytest.mark.parametrize("copies", [1, 40])
def test_a_window_without_any_mechanism_takes_no_events(copies: int) -> None:
    """Beyond 64 ids, too, where there is not even a graph to put its nodes in."""
    lines = [f"detector({k}, 0, {r}) D{r * copies + k}" for r in range(9) for k in range(copies)]
    lines += [f"error(0.1) D{k} L{k}\nerror(0.1) D{k} D{k + copies}" for k in range(copies)]
    made = Code.parse("dem", "\n".join(lines))
    compiled = compile_window(made, Tier.MATCHING, ATTEMPT, Window(4, 7, 2, 9))
    syndromes = np.zeros((2, 3 * made.layout.record_bytes), dtype=np.uint8)
    syndromes[1, 0] = 1
    answers = compiled.decode(syndromes)
    assert answers.feasible.tolist() == [True, False]
    assert not answers.bits.any()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("geometry", [WHOLE, ATTEMPT], ids=str)
def test_no_shots_have_no_answers(tier: Tier, geometry: Geometry) -> None:
    made = code(ROTATED_Z, 3, 12)
    records = np.zeros((0, 13, made.layout.record_bytes), dtype=np.uint8)
    frames, feasible = decode_windowed(made, records, geometry, tier)
    assert (frames.shape, feasible.shape) == ((0, 1), (0,))
    frames, feasible = decode_shots(made, tier, geometry, records)
    assert (frames.shape, feasible.shape) == ((0, 1), (0,))


# Erasures.


def far_apart(rounds: int = 10, width: int = 7) -> str:
    """A repetition code of distance 8, unlike probabilities, one time step at a time."""
    lines = []
    for r in range(rounds):
        first = r * width
        lines += [f"detector({k}, 0, {r}) D{first + k}" for k in range(width)]
        lines.append(f"error(0.01) D{first} L0\nerror(0.011) D{first + width - 1}")
        lines += [f"error(0.01{k}) D{first + k} D{first + k + 1}" for k in range(width - 1)]
        if r < rounds - 1:
            lines += [f"error(0.02) D{d} D{d + width}" for d in range(first, first + width)]
    return "\n".join(lines)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("window", [Window(0, 10, 10, 10), Window(2, 8, 3, 10)])
def test_a_syndrome_explained_by_an_erasure_uses_no_other_edge(tier: Tier, window: Window) -> None:
    """Its two detectors lie three ordinary edges apart, and only the erasure flips the frame."""
    made = Code.parse("dem", far_apart())
    geometry = WHOLE if window.start == 0 else ATTEMPT
    lost = Erasure(((3, 2), (3, 5)), (0,))
    syndrome = np.zeros((1, window.end - window.start), dtype=np.uint8)
    syndrome[0, 3 - window.start] = 1 << 2 | 1 << 5
    plain = compile_window(made, tier, geometry, window).decode(syndrome)
    assert not plain.bits.any()
    answer = compile_window(made, tier, geometry, window, (lost,)).decode(syndrome)
    assert answer.feasible.all()
    assert answer.bits[0, 0] == 1
    assert not answer.bits[0, 1:].any()


@pytest.mark.parametrize("tier", TIERS)
def test_an_erasure_across_the_seam_is_carried_by_it(tier: Tier) -> None:
    made = Code.parse("dem", far_apart())
    lost = Erasure(((4, 2), (5, 6)), (0,))
    syndrome = np.zeros((1, 6), dtype=np.uint8)
    syndrome[0, 2] = 1 << 2
    syndrome[0, 3] = 1 << 6
    window = Window(2, 8, 3, 10)
    answer = compile_window(made, tier, ATTEMPT, window, (lost,)).decode(syndrome)
    assert answer.bits.tolist() == [[1, 1 << 6]]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("windowed", [False, True])
def test_knowing_what_was_lost_beats_ignoring_it(tier: Tier, windowed: bool) -> None:
    """Four ancillas unread for three rounds, their bits replaced by coin tosses."""
    d, rounds, shots = 5, 9, 4_000
    circuit, made = memory(ROTATED_Z, d, rounds, 0.004), code(ROTATED_Z, d, rounds, 0.004)
    m, length = made.measurements, rounds + 1
    assert m is not None
    lost = [(r, bit) for r in (3, 4, 5) for bit in (6, 9, 13, 18)]
    measured = circuit.compile_sampler(seed=5).sample(shots)
    _, flips = circuit.compile_m2d_converter().convert(
        measurements=measured, separate_observables=True, bit_packed=True
    )
    records = m.to_records(pack(measured))
    random = np.random.default_rng(6)
    erasures = []
    for r, bit in lost:
        detectors, observables = m.effect_of(r, bit, length)
        assert len(detectors) == 2
        erasures.append(Erasure(tuple(detectors), tuple(observables)))
        tosses = random.integers(0, 2, shots, dtype=np.uint8)
        records[:, r, bit // 8] ^= tosses << (bit % 8)
    history = np.zeros((shots, m.lookback, m.record_bytes), dtype=np.uint8)
    sweep = np.zeros((shots, 0), dtype=np.uint8)
    events = m.convert(records, 0, length, history, sweep)

    window = Window(0, length, length, length)
    # A geometry that is not `whole` takes the way of windows even where there is one only.
    geometry = Geometry(length, length) if windowed else WHOLE
    failures = []
    for known in ((), tuple(erasures)):
        compiled = compile_window(made, tier, geometry, window, known)
        answers = compiled.decode(events.reshape(shots, -1))
        failures.append(int((answers.bits[:, :1] != flips).sum()))
    ignored, known_ = failures
    assert known_ < 0.5 * ignored, failures
    assert ignored > 100, failures


# What compiling says and refuses.


def test_tiers_have_names() -> None:
    numbers = {"matching": 1, "correlated": 2, "speed": 3, "accuracy": 4, "ising": 5, "guarded": 6}
    assert {t.label: int(t) for t in Tier} == numbers
    assert {t for t in Tier if not t.needs_model} == {*CLASSICAL, *SOFT}
    assert all(Tier.from_label(t.label) is t for t in Tier)
    with pytest.raises(GeometryError, match="the tiers are matching, correlated"):
        Tier.from_label("neural")


@pytest.mark.parametrize("geometry", [WHOLE, Geometry(3, 1)], ids=str)
def test_correlated_matching_refuses_likely_mechanisms(geometry: Geometry) -> None:
    text = "".join(f"detector(0, 0, {r}) D{r}\nerror(0.1) D{r} L0\n" for r in range(5))
    likely = Code.parse("dem", text + "repeat 1 {\nerror(0.6) D1 D2\n}")
    window = Window(0, 5, 5, 5) if geometry.is_whole else Window(0, 3, 1, 5)
    with pytest.raises(GeometryError, match=r"every p <= 1/2.*0\.6"):
        compile_window(likely, Tier.CORRELATED, geometry, window)
    # Plain matching knows what to do: the likely mechanism is taken to have happened.
    answers = compile_window(likely, Tier.MATCHING, WHOLE, Window(0, 5, 5, 5)).decode(
        np.array([[0, 1, 1, 0, 0]], dtype=np.uint8)
    )
    assert answers.feasible.all()


def test_conflicting_edges_are_noted() -> None:
    text = "".join(f"detector(0, 0, {r}) D{r}\nerror(0.1) D{r} L0\n" for r in range(5))
    made = Code.parse("dem", text + "error(0.01) D0\nerror(0.01) D2\n")
    noted = compile_window(made, Tier.MATCHING, Geometry(4, 2), Window(0, 4, 2, 5)).notes
    assert noted == (
        "1 edges join mechanisms that disagree about what they flip; the first one's answer stands",
    )
    assert compile_window(code(), Tier.MATCHING, ATTEMPT, Window(0, 6, 3, 11)).notes == ()


def test_correlated_windows_off_the_fast_path_say_so() -> None:
    made = code(ROTATED_Z, 9, 20)
    (note,) = compile_window(made, Tier.CORRELATED, Geometry(12, 3), Window(3, 15, 3, None)).notes
    assert "64-bit fast path" in note
    assert compile_window(code(), Tier.CORRELATED, ATTEMPT, Window(3, 9, 3, None)).notes == ()


def test_answers_have_the_codes_width() -> None:
    for task in TASKS:
        made = code(task, 3, 12)
        for tier in TIERS:
            for window in (Window(3, 9, 3, 13), Window(7, 13, 6, 13), Window(0, 13, 13, 13)):
                geometry = WHOLE if window.start == 0 else ATTEMPT
                rounds = (window.end - window.start) * made.layout.record_bytes
                answers = compile_window(made, tier, geometry, window).decode(
                    np.zeros((2, rounds), dtype=np.uint8)
                )
                assert answers.bits.shape == (2, sum(answer_bytes(made.spacetime)))
