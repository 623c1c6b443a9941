"""Noise models: where faults are put, how often they are, and what is refused."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import Any

import pytest
import stim
from hypothesis import given
from hypothesis import strategies as st

from helpers.circuits import ROTATED_X, ROTATED_Z, UNROTATED_Z, without_reset
from qdec.errors import CodeError, ConfigError
from qdec.neural.ising.patch import KINDS, Basis, Orientation
from qdec_tools.circuits import circuit, experiment
from qdec_tools.noise import (
    NOISE_MODELS,
    NoiseModel,
    named_noise,
    parse_noise,
    si1000,
    uniform,
    with_noise,
)

TASKS = (
    ROTATED_Z,
    ROTATED_X,
    UNROTATED_Z,
    "surface_code:unrotated_memory_x",
    "repetition_code:memory",
    "color_code:memory_xyz",
)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rounds", [2, 3, 9])
def test_the_four_channels_of_stim_are_put_where_stim_puts_them(task: str, rounds: int) -> None:
    theirs = stim.Circuit.generated(
        task,
        distance=3,
        rounds=rounds,
        after_clifford_depolarization=0.001,
        before_round_data_depolarization=0.002,
        before_measure_flip_probability=0.003,
        after_reset_flip_probability=0.004,
    )
    ours = NoiseModel(
        after_clifford1=0.001,
        after_clifford2=0.001,
        before_round_idle=0.002,
        measure_flip=0.003,
        reset_flip=0.004,
    )
    made = experiment(3, rounds, ours, task)
    assert made.detector_error_model() == theirs.detector_error_model()
    assert len(made) == len(theirs) or "z" in task  # blocks stay blocks; Stim resets twice


def counted(text: str, noise: NoiseModel) -> Counter[str]:
    """How often each channel, with its probability, hits each qubit."""
    found: Counter[str] = Counter()
    for item in with_noise(stim.Circuit(text), noise).flattened():
        if item.name.endswith("_ERROR") or item.name.startswith("DEPOLARIZE"):
            for target in item.targets_copy():
                found[f"{item.name}({item.gate_args_copy()[0]:g}) {target.value}"] += 1
    return found


def test_si1000_is_table_1_of_the_honeycomb_paper() -> None:
    layers = """
        R 0 1 2
        TICK
        H 0
        TICK
        CZ 0 1
        TICK
        MR 1
        TICK
        M 0 1 2
    """
    assert counted(layers, si1000(0.01)) == {
        # all are reset together, and nobody waits
        "X_ERROR(0.02) 0": 1,
        "X_ERROR(0.02) 1": 2,  # the second time after MR
        "X_ERROR(0.02) 2": 1,
        # H and the idle have the same p/10: qubit 1 idles beside H, 2 beside H and CZ; while 1 is
        # measured and reset, 0 and 2 idle
        "DEPOLARIZE1(0.001) 0": 2,
        "DEPOLARIZE1(0.001) 1": 1,
        "DEPOLARIZE1(0.001) 2": 3,
        "DEPOLARIZE2(0.01) 0": 1,
        "DEPOLARIZE2(0.01) 1": 1,
        # and wait, which is worse
        "DEPOLARIZE1(0.02) 0": 1,
        "DEPOLARIZE1(0.02) 2": 1,
        "X_ERROR(0.05) 0": 1,
        "X_ERROR(0.05) 1": 2,
        "X_ERROR(0.05) 2": 1,
    }


@pytest.mark.parametrize(("letter", "flip"), [("X", "Z_ERROR"), ("Y", "X_ERROR"), ("", "X_ERROR")])
def test_flips_are_seen_in_every_basis(letter: str, flip: str) -> None:
    noise = NoiseModel(measure_flip=0.01, reset_flip=0.02)
    text = f"R{letter} 0\nTICK\nMR{letter} 0\nTICK\nM{letter} 0"
    assert counted(text, noise) == {f"{flip}(0.02) 0": 2, f"{flip}(0.01) 0": 2}


def test_what_software_does_takes_no_time_and_never_fails() -> None:
    noise = parse_noise({"model": "si1000", "p": 0.01})
    text = "M 0 1\nTICK\nCX rec[-1] 0 sweep[0] 1\nTICK\nM 0 1"
    assert counted(text, noise) == {f"X_ERROR(0.05) {q}": 2 for q in range(2)}
    mixed = counted(
        "R 0 1 2\nTICK\nCX rec[-1] 2 0 1\nTICK\nM 0 1 2", NoiseModel(after_clifford2=0.1)
    )
    assert mixed == {"DEPOLARIZE2(0.1) 0": 1, "DEPOLARIZE2(0.1) 1": 1}


def test_blocks_stay_blocks_though_their_first_turn_differs() -> None:
    text = "R 0 1\nTICK\nH 0\nREPEAT 50 {\n TICK\n MR 1\n TICK\n CX 0 1\n}\nTICK\nM 0 1"
    noisy = with_noise(stim.Circuit(text), si1000(0.001))
    blocks = [item for item in noisy if isinstance(item, stim.CircuitRepeatBlock)]
    assert [block.repeat_count for block in blocks] == [49]
    flat = with_noise(stim.Circuit(text).flattened(), si1000(0.001))
    assert noisy.flattened() == flat


@given(
    st.integers(1, 4),
    st.sampled_from(TASKS[:5]),
    st.builds(si1000, st.floats(0, 0.1)) | st.builds(uniform, st.floats(0, 0.5)),
)
def test_written_out_or_in_blocks_the_noise_is_the_same(
    rounds: int, task: str, noise: NoiseModel
) -> None:
    plain = stim.Circuit.generated(task, distance=3, rounds=rounds)
    assert with_noise(plain, noise).flattened() == with_noise(plain.flattened(), noise)


def test_without_resets_a_round_begins_after_measurements() -> None:
    plain = without_reset(experiment(3, 4, NoiseModel()), flip=0)
    plain = stim.Circuit(str(plain).replace("M(0)", "M"))
    noisy = with_noise(plain, NoiseModel(before_round_idle=0.01))
    rounds = [item for item in noisy.flattened() if item.name == "DEPOLARIZE1"]
    assert len(rounds) == 4
    assert {len(item.targets_copy()) for item in rounds} == {9}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("H 0\nX_ERROR(0.1) 0", "noise already"),
        ("M(0.1) 0", "noise already"),
        ("REPEAT 3 {\n DEPOLARIZE1(0.1) 0\n}", "noise already"),
        ("HERALDED_ERASE(0.1) 0", "noise already"),
        ("MPP X0*X1", "no noise model covers"),
        ("MXX 0 1", "no noise model covers"),
        ("SPP X0*X1", "no noise model covers"),
    ],
)
def test_what_the_models_say_nothing_of_is_refused(text: str, why: str) -> None:
    with pytest.raises(CodeError, match=why):
        with_noise(stim.Circuit(text), uniform(0.01))


def test_a_configuration_gives_channels_or_a_model_or_both() -> None:
    def read(text: str) -> NoiseModel:
        return parse_noise(tomllib.loads(text))

    assert read("idle = 0.01") == NoiseModel(idle=0.01)
    assert read('model = "si1000"\np = 0.002') == si1000(0.002)
    both = read('model = "si1000"\np = 0.002\nmeasure_flip = 0.015\nidle = 0')
    assert both == si1000(0.002).model_copy(update={"measure_flip": 0.015, "idle": 0.0})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"p": 0.1}, "go together"),
        ({"model": "uniform"}, "go together"),
        ({"model": "willow", "p": 0.1}, 'there are "uniform" or "si1000"'),
        ({"model": ["uniform"], "p": 0.1}, "no noise model"),
        ({"model": "uniform", "p": "0.1"}, "not a number"),
        ({"model": "uniform", "p": True}, "not a number"),
        ({"model": "uniform", "p": -0.1}, "greater than or equal to 0"),
        ({"model": "uniform", "p": float("nan")}, "finite"),
        ({"model": "si1000", "p": 0.11}, "measure_flip = 0.55"),
        ({"measureflip": 0.1}, "did you mean 'measure_flip'"),
        ({"idle": 0.76}, "less than or equal to 0.75"),
        ({"after_clifford2": 0.94}, "less than or equal to 0.9375"),
        ({"reset_flip": float("inf")}, "finite"),
        ({"reset_flip": "0.1"}, "valid number"),
    ],
)
def test_tables_that_describe_no_noise_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_noise(table)
    if table.keys() == {"model", "p"}:
        with pytest.raises(CodeError, match=says):
            named_noise(name=table["model"], p=table["p"])


def test_models_are_scaled_by_their_largest_channel() -> None:
    scaled = si1000(0.001).scaled_to(0.006)
    assert scaled.largest == pytest.approx(0.006) == scaled.measure_flip
    assert scaled.after_clifford2 == pytest.approx(0.0012)
    assert uniform(0.001).scaled_to(0.006).model_dump() == pytest.approx(
        uniform(0.006).model_dump()
    )
    with pytest.raises(ConfigError, match="cannot be scaled"):
        NoiseModel().scaled_to(0.006)
    with pytest.raises(ConfigError, match="after_clifford1"):
        NoiseModel(after_clifford1=0.01, idle=0.001).scaled_to(0.9)


def test_names_are_those_of_the_models() -> None:
    assert {name: named_noise(name, 0.01) for name in NOISE_MODELS} == {
        name: make(0.01) for name, make in NOISE_MODELS.items()
    }


# --- the four ways a rotated surface code lies


def supports(made: stim.Circuit) -> dict[str, list[tuple[int, ...]]]:
    """Data qubits (3 row + col) of each X and Z plaquette of a d=3 circuit, by its gates."""
    at = {qubit: tuple(place) for qubit, place in made.get_final_qubit_coordinates().items()}
    found: dict[tuple[str, int], set[int]] = {}
    for item in made.flattened():
        if item.name == "CX":
            pairs = [[t.value for t in group] for group in item.target_groups()]
            for control, target in pairs:
                kind, ancilla, data = (
                    ("X", control, target) if at[control][0] % 2 == 0 else ("Z", target, control)
                )
                x, y = at[data]
                found.setdefault((kind, ancilla), set()).add(int(y // 2 * 3 + x // 2))
    return {
        kind: sorted(tuple(sorted(v)) for (k, _), v in found.items() if k == kind) for kind in "XZ"
    }


CORNERS = [(0, 1, 3, 4), (4, 5, 7, 8)]  # bulk plaquettes at the top left and lower right
OTHERS = [(1, 2, 4, 5), (3, 4, 6, 7)]
LIES: dict[Orientation, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {
    Orientation.XV: ([*CORNERS, (2, 5), (3, 6)], [*OTHERS, (0, 1), (7, 8)]),
    Orientation.XH: ([*CORNERS, (1, 2), (6, 7)], [*OTHERS, (0, 3), (5, 8)]),
    Orientation.ZV: ([*OTHERS, (0, 1), (7, 8)], [*CORNERS, (2, 5), (3, 6)]),
    Orientation.ZH: ([*OTHERS, (0, 3), (5, 8)], [*CORNERS, (1, 2), (6, 7)]),
}


@pytest.mark.parametrize("basis", KINDS)
@pytest.mark.parametrize("orientation", Orientation)
def test_orientations_have_their_plaquettes_and_keep_the_distance(
    orientation: Orientation, basis: Basis
) -> None:
    made = circuit(3, 3, uniform(0.01), basis, orientation)
    x, z = LIES[orientation]
    assert supports(made) == {"X": sorted(x), "Z": sorted(z)}
    assert len(made.shortest_graphlike_error()) == 3
    made.detector_error_model(decompose_errors=True)  # deterministic, observable included


@pytest.mark.parametrize("basis", KINDS)
def test_the_orientation_that_stim_has_is_stims_circuit(basis: Basis) -> None:
    task = f"surface_code:rotated_memory_{basis.lower()}"
    ours, theirs = circuit(5, 4, si1000(0.01), basis), experiment(5, 4, si1000(0.01), task)
    assert ours.detector_error_model() == theirs.detector_error_model()


@pytest.mark.parametrize("distance", [1, 2, 4, -3])
def test_codes_that_do_not_lie_on_the_grid_are_refused(distance: int) -> None:
    with pytest.raises(CodeError, match="odd distances"):
        circuit(distance, 3, uniform(0.01))


def test_what_stim_cannot_generate_is_an_error_with_a_sentence() -> None:
    with pytest.raises(CodeError, match="cannot generate 'surface_code:klein_bottle'"):
        experiment(3, 3, uniform(0.01), "surface_code:klein_bottle")
