"""A DEM read block by block says what its flattened text says."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.circuits import TASKS, memory
from helpers.models import Component, Instruction, merged_instructions
from qdec.codes.mechanisms import Mechanisms, combine_probabilities, read_mechanisms
from qdec.errors import CodeError


def as_dict(m: Mechanisms) -> dict[Instruction, float]:
    components: list[Counter[Component]] = [Counter() for _ in m.p]
    assert (np.diff(m.group) >= 0).all()
    for k, group in enumerate(m.group):
        detectors = {int(m.u[k])} | ({int(m.v[k])} if m.v[k] >= 0 else set())
        observables = m.obs[m.obs_ptr[k] : m.obs_ptr[k + 1]].tolist()
        assert observables == sorted(observables)
        components[group][frozenset(detectors), frozenset(observables)] += 1
    keys = [frozenset(c.items()) for c in components]
    assert len(set(keys)) == len(keys)  # nothing is left to merge
    return dict(zip(keys, m.p.tolist(), strict=True))


_PROBABILITIES = st.sampled_from([0.0, 1e-15, 0.001, 0.1, 0.5, 0.7, 1.0])
_COMPONENT = st.builds(
    lambda detectors, observables: [f"D{d}" for d in detectors] + [f"L{o}" for o in observables],
    st.lists(st.integers(0, 4), max_size=2),
    st.lists(st.integers(0, 2), max_size=2),
).filter(bool)
_ERROR = st.builds(
    lambda p, parts: f"error({p}) " + " ^ ".join(" ".join(part) for part in parts),
    _PROBABILITIES,
    st.lists(_COMPONENT, min_size=1, max_size=3),
)
_SHIFT = st.integers(0, 3).map(lambda n: f"shift_detectors(0, 0, 1) {n}")
_DEM = st.recursive(
    st.lists(st.one_of(_ERROR, _ERROR, _SHIFT), max_size=4).map("\n".join),
    lambda inner: st.builds(
        "{}\nrepeat {} {{\n{}\n}}\n{}".format, inner, st.integers(0, 3), inner, inner
    ),
    max_leaves=6,
)


@given(_DEM)
@settings(max_examples=400)
def test_nested_repeats_read_like_the_flattened_model(text: str) -> None:
    dem = stim.DetectorErrorModel("error(0.01) D0 L2\n" + text)
    want, undetectable = merged_instructions(dem)
    got = read_mechanisms(dem)
    assert got.undetectable == undetectable
    assert list(as_dict(got)) == list(want)  # in the same order, too
    assert list(as_dict(got).values()) == pytest.approx(list(want.values()), rel=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_real_circuits_read_like_their_flattened_models(task: str) -> None:
    dem = memory(task, rounds=20).detector_error_model(decompose_errors=True)
    assert any(isinstance(item, stim.DemRepeatBlock) for item in dem)
    want, _ = merged_instructions(dem)
    assert as_dict(read_mechanisms(dem)) == pytest.approx(want, rel=1e-12)


def read(text: str) -> Mechanisms:
    return read_mechanisms(stim.DetectorErrorModel(text))


def test_a_target_listed_twice_cancels() -> None:
    m = read("error(0.1) D0 D0 D1 L0 L0 L1")
    assert as_dict(m) == {frozenset({((frozenset({1}), frozenset({1})), 1)}): 0.1}
    assert read("error(0.1) D0 D0 D1 D2 D2").v.tolist() == [-1]  # no hyperedge in the end


def test_what_cancels_altogether_is_counted_as_undetectable() -> None:
    m = read("error(0.1) D0 D0 L0\nerror(0.1) L0\nerror(0.1) D0 ^ L0\nerror(0) L0")
    assert m.undetectable == 3
    assert len(m.p) == 1


@pytest.mark.parametrize(
    "text",
    [
        "error(0.1) D0 D1 D2",
        "error(0.1) D0 ^ D1 D2 D3 L0",
        "repeat 3 {\nerror(0.1) D0 D1 D2\n}",
    ],
)
def test_hyperedges_are_refused(text: str) -> None:
    with pytest.raises(CodeError, match=r"hyperedge.*decompose_errors"):
        read("error(0.1) D0\n" + text)


def test_impossible_hyperedges_are_dropped_as_pymatching_drops_them() -> None:
    assert len(read("error(0) D0 D1 D2\nerror(0.1) D0").p) == 1


@pytest.mark.parametrize("text", ["", "error(0) D0 L0", "error(0.1) L0", "detector D5"])
def test_a_model_without_mechanisms_is_refused(text: str) -> None:
    with pytest.raises(CodeError):
        read(text)


def exactly(ps: list[float]) -> Fraction:
    """Probability that an odd number of independent causes happens."""
    odd = Fraction(0)
    for p in map(Fraction, ps):
        odd = odd * (1 - p) + (1 - odd) * p
    return odd


@given(
    st.lists(
        st.one_of(
            st.sampled_from([0.5, 1.0, 1e-300, 1e-17, 1e-9, 0.5 - 1e-12, 0.5 + 1e-12]),
            st.floats(1e-12, 1.0),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=300)
def test_probabilities_combine_exactly(ps: list[float]) -> None:
    combined = combine_probabilities(np.array(ps), np.zeros(len(ps), dtype=np.int64), 1)
    assert combined[0] == pytest.approx(float(exactly(ps)), rel=1e-9, abs=0)


def test_certain_and_unknown_causes() -> None:
    effects = {0: [1.0, 1.0], 1: [1.0, 0.25], 2: [0.5, 0.9], 3: [0.5, 1.0], 4: [1e-18, 1e-18]}
    which = np.array([effect for effect, ps in effects.items() for _ in ps])
    causes = np.array([p for ps in effects.values() for p in ps])
    got = combine_probabilities(causes, which, 5)
    assert got.tolist() == pytest.approx([0.0, 0.75, 0.5, 0.5, 2e-18], rel=1e-12, abs=0)
