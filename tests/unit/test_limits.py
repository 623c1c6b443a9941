"""Hostile and malformed text is refused: quickly, and always as a CodeError."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import stim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.circuits import memory
from qdec.codes import Code, Limits
from qdec.codes.code import read_code_text
from qdec.codes.limits import check_circuit, check_dem, check_text, parse_circuit, parse_dem
from qdec.errors import CodeError, CodeTooLarge

LIMITS = Limits()
DEEP = 200_000  # nested blocks at which Stim's parser overflows the C stack
DEM_TAIL = "error(0.1) D0 L0\ndetector(0, 0, 0) D0\n"
CIRCUIT_TAIL = "X_ERROR(0.1) 0\nM 0\nDETECTOR(0, 0, 0) rec[-1]\nOBSERVABLE_INCLUDE(0) rec[-1]\n"
HUGE = 10**12
# Ways to open a block that a careless scanner counts wrongly: what it takes for the block's end, or
# for a comment that hides the brace, Stim reads otherwise.
OPENERS = {
    "plain": "{repeat} 2 {{\n",
    "on one line": "{repeat} 2 {{ ",
    "tag with a hash": "{repeat}[#] 2 {{\n",
    "tag with braces": "{repeat}[}}{{}}] 2 {{\n",
    "tag with a vertical tab": "{repeat}[\v}}] 2 {{\n",
    "comment with a vertical tab": "{repeat} 2 {{\n#\v}}\n",
    "comment with a form feed": "{repeat} 2 {{\n#\f}}\n",
    "comment with a carriage return": "{repeat} 2 {{\n#\r}}\n",
    "comment with a line separator": "{repeat} 2 {{\n#\u2028}}\n",
    "comment with brackets": "{repeat} 2 {{ # ]}}\n# [ }}\n",
}


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """What should be refused fails here, rather than taking the machine down."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def no_stim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stim must not see the text: it would take the whole process down."""

    def crash(text: str) -> None:
        raise AssertionError(f"Stim was handed {len(text)} characters")

    monkeypatch.setattr(stim, "DetectorErrorModel", crash)
    monkeypatch.setattr(stim, "Circuit", crash)


@pytest.mark.usefixtures("no_stim")
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
@pytest.mark.parametrize("kind", ["dem", "circuit"])
def test_deep_nesting_never_reaches_stim(kind: str, opener: str) -> None:
    word = "repeat" if kind == "dem" else "REPEAT"
    text = opener.format(repeat=word) * DEEP + "}\n" * DEEP
    with pytest.raises(CodeTooLarge, match="nesting"):
        Code.parse(kind, text)


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
def test_those_openers_are_blocks_to_stim(opener: str) -> None:
    """Otherwise the test above would prove nothing: each opens exactly one block."""
    dem = stim.DetectorErrorModel(opener.format(repeat="repeat") * 3 + "error(0.1) D0\n}\n}\n}\n")
    for _ in range(3):
        assert len(dem) == 1
        dem = dem[0].body_copy()
    assert dem == stim.DetectorErrorModel("error(0.1) D0")


def test_nesting_at_the_limit_is_accepted() -> None:
    nested = "repeat 1 {\n" * LIMITS.nesting + DEM_TAIL + "}\n" * LIMITS.nesting
    assert Code.parse("dem", nested).layout.num_detectors == 1
    with pytest.raises(CodeTooLarge, match="nesting"):
        Code.parse("dem", "repeat 1 {\n" + nested + "}\n")


def test_braces_in_tags_and_comments_are_not_blocks() -> None:
    lines = '# {"gate": {\nerror[{"a": {"b": 1}}](0.1) D0 L0 # {{\n' * 40
    assert Code.parse("dem", lines + DEM_TAIL).num_observables == 1


def test_many_blocks_side_by_side_are_not_nesting() -> None:
    assert Code.parse("dem", "repeat 2 {\nerror(0.1) D0 L0\n}\n" * 100 + DEM_TAIL)


@pytest.mark.usefixtures("no_stim")
def test_huge_text_is_refused() -> None:
    with pytest.raises(CodeTooLarge, match="size in characters"):
        Code.parse("dem", "#" * (LIMITS.text_bytes + 1))


@pytest.mark.usefixtures("no_stim")
@pytest.mark.parametrize("text", ["error(0.1) D0 L0\n\0error(0.2) D0", "\ud800"])
def test_text_that_is_not_text_is_refused(text: str) -> None:
    """At a NUL, Stim would stop reading and serve half the model."""
    with pytest.raises(CodeError):
        Code.parse("dem", text)


@pytest.mark.parametrize(("kind", "text"), [("circuit", "H[x"), ("dem", "error[x")])
def test_a_tag_cut_off_by_the_end_is_refused(
    kind: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stim reads on past the end, into ever more memory, unless a newline stops it."""
    original = {"circuit": stim.Circuit, "dem": stim.DetectorErrorModel}[kind]

    def guard(text: str) -> object:
        assert text.endswith("\n")
        return original(text)

    monkeypatch.setattr(stim, original.__name__, guard)
    with pytest.raises(CodeError, match="tag"):
        Code.parse(kind, text)
    with pytest.raises(CodeError, match="NUL"):  # which would end the text before our newline
        Code.parse(kind, text + "\0\n")


HOSTILE_DEMS = {
    "repeat": f"repeat {HUGE} {{\nerror(0.1) D0\n}}",
    "empty repeat": f"repeat {HUGE} {{\n}}",
    "repeated error without targets": f"repeat {HUGE} {{\nerror(0.1)\n}}",
    "repeated errors without targets": "repeat 10000000 {\nerror(0.1)\nerror(0.1)\n}",
    "repeated annotation": f"repeat {HUGE} {{\ndetector(0, 0, 1) D0\n}}",
    "repeated observable": f"repeat {HUGE} {{\nlogical_observable L0\n}}",
    "repeated coordinate shift": f"repeat {HUGE} {{\nshift_detectors(0, 0, 1) 0\n}}",
    # Stim's own count of these wraps round modulo 2**64.
    "repeated shift": f"repeat {HUGE} {{\nerror(0.1) D0\nshift_detectors {HUGE}\n}}",
    "wrapping shift": "repeat 4294967296 {\nrepeat 4294967296 {\nerror(0.1) D0\n"
    "shift_detectors 1\n}\n}",
    "shift, then detector": f"shift_detectors {HUGE}\nerror(0.1) D0",
    "detector index": "error(0.1) D1000000",
    "largest detector index": f"error(0.1) D{2**59}",
    "annotated detector index": f"detector D{HUGE}",
    "observable index": "error(0.1) D0 L4096",
    "largest observable index": "error(0.1) D0 L4294967295",
    "long instruction, repeated": "repeat 4000 {\nrepeat 4000 {\nerror(0.1) "
    + " ^ ".join(["D0 D1"] * 1000)
    + "\n}\n}",
    "nested repeats": "repeat 1000 {\n" * 5 + "error(0.1) D0\n" + "}\n" * 5,
}


@pytest.mark.parametrize("text", HOSTILE_DEMS.values(), ids=HOSTILE_DEMS.keys())
def test_hostile_dem_is_refused_before_it_is_expanded(text: str) -> None:
    with pytest.raises(CodeTooLarge):
        Code.parse("dem", DEM_TAIL + text)


def test_stim_would_have_miscounted() -> None:
    """Why sizes are computed here: delete this guard when Stim counts right."""
    dem = stim.DetectorErrorModel(HOSTILE_DEMS["wrapping shift"])
    assert dem.num_detectors < 2**64
    with pytest.raises(CodeTooLarge, match="18,446,744,073,709,551,616"):
        check_dem(dem, LIMITS)


HOSTILE_CIRCUITS = {
    "repeat": f"REPEAT {HUGE} {{\nH 0\n}}",
    "repeated annotation": f"REPEAT {HUGE} {{\nSHIFT_COORDS(0, 0, 1)\n}}",
    "repeated detector": f"REPEAT {HUGE} {{\nDETECTOR rec[-1]\n}}",
    "ticks": "REPEAT 4000000 {\nTICK\n}",  # 20 s of one core and 2 GB, if they are walked through
    "wrapping repeats": f"REPEAT {2**40} {{\n" * 2 + "M 0\n" + "}\n" * 2,
    "measurements": "REPEAT 1000 {\nM " + "0 " * 4001 + "\n}",
    "long instruction, repeated": "REPEAT 20001 {\nH " + "0 " * 1000 + "\n}",
    "qubit index": "H 16384",  # its reference sample would take the square of that in bits
    "largest qubit index": "H 16777215",
    "sweep bit": "CX sweep[50000] 0",
    "largest sweep bit": "CX sweep[16777215] 0",
    "sweep bits times detectors": "CX sweep[49999] 0\nREPEAT 6000 {\nDETECTOR(0, 0, 0) rec[-1]\n}",
    "observable index": "OBSERVABLE_INCLUDE(4096) rec[-1]",
    "observable index beyond integers": "OBSERVABLE_INCLUDE(1e300) rec[-1]",
}


@pytest.mark.parametrize("text", HOSTILE_CIRCUITS.values(), ids=HOSTILE_CIRCUITS.keys())
def test_hostile_circuit_is_refused_before_it_is_expanded(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expand(*args: object, **options: object) -> None:
        raise AssertionError("the circuit was expanded")

    monkeypatch.setattr(stim.Circuit, "detector_error_model", expand)
    monkeypatch.setattr(stim.Circuit, "flattened", expand)
    with pytest.raises(CodeTooLarge):
        Code.parse("circuit", CIRCUIT_TAIL + text)


def test_a_crowded_round_among_sparse_ones_is_refused() -> None:
    """Records are all as long as the longest: 2,000 detectors would take 3 million bits here."""
    rounds = [0] * 1000 + list(range(1, 1001))
    dem = "error(0.1) D0 L0\n" + "".join(f"detector D{d}\n" for d in range(2000))
    assert Code.parse("dem", dem, round_map=rounds).layout.num_rounds == 1001
    with pytest.raises(CodeTooLarge, match="records"):
        Code.parse("dem", dem, round_map=rounds, limits=Limits(slots=1_000_000))


MALFORMED = {
    "dem": [
        "",
        "nonsense",
        "error(0.1) D0",  # no observable
        "error(0.1) D0 L0",  # no coordinates
        "error(1.5) D0 L0",
        "error(nan) D0 L0",
        "error(0.1) D-1 L0",
        "error(0.1) D99999999999999999999 L0",
        "error(0.1) D0 ^ ^ D1",
        "repeat 2 {\nerror(0.1) D0 L0",
        "error(0.1) D0 L0\n}",
        "error(0) D0 L0\ndetector(0) D0",  # nothing can happen
        "error(0.1) L0\ndetector(0) D0",  # nothing can be seen
        "repeat 0 {\nerror(0.1) D0 L0\ndetector(0) D0\n}",
        "error(0.1) D0 D1 D2 L0\n" + "".join(f"detector({d}) D{d}\n" for d in range(3)),
    ],
    "circuit": [
        "",
        "nonsense",
        "H 0",
        "M 0\nDETECTOR(0) rec[-2]\nOBSERVABLE_INCLUDE(0) rec[-1]",
        "M 0\nDETECTOR(0) rec[-1]\nOBSERVABLE_INCLUDE(-1) rec[-1]",
        "REPEAT 0 {\nH 0\n}",
        "REPEAT 2 {\nH 0",
        "X_ERROR(0.1) 0\nM 0\nDETECTOR(0) rec[-1]",  # no observable
        "H 0\nX_ERROR(0.1) 0\nM 0\nDETECTOR(0) rec[-1]\nOBSERVABLE_INCLUDE(0) rec[-1]",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(k, t) for k, ts in MALFORMED.items() for t in ts])
def test_malformed_text_is_a_code_error(kind: str, text: str) -> None:
    with pytest.raises(CodeError) as caught:
        Code.parse(kind, text)
    assert not isinstance(caught.value, CodeTooLarge)
    assert str(caught.value)


@pytest.mark.parametrize("rounds", [[10**30], [-1], [], ["x"], [None], [[0]], [0, 0], [1]])
def test_bad_round_map_is_a_code_error(rounds: list[object]) -> None:
    with pytest.raises(CodeError):
        Code.parse("dem", "error(0.1) D0 L0", round_map=rounds)


_TAG = st.sampled_from(["", "[x]", "[{]", "[}]", "[#]", "[", "]"])
_NUMBER = st.sampled_from(["0", "1", "2", "7", "63", "4096", "1000000", "1e3", "-1", str(2**63)])
_DEM_LINE = st.one_of(
    st.sampled_from(["}", "repeat 2 {", "repeat 0 {", "# {", "#\r}", "", "D0", "^", "\v}", "}}"]),
    st.builds("repeat{} {} {{".format, _TAG, _NUMBER),
    st.builds("shift_detectors{}({}, 0, {}) {}".format, _TAG, _NUMBER, _NUMBER, _NUMBER),
    st.builds("detector{}(0, 0, {}) D{}".format, _TAG, _NUMBER, _NUMBER),
    st.builds("logical_observable{} L{}".format, _TAG, _NUMBER),
    st.builds(
        "error{}({}) {}".format,
        _TAG,
        st.sampled_from(["0.1", "0", "1", "0.5", "2", "", "nan", "1e-300"]),
        st.lists(
            st.sampled_from(["D0", "D1", "D2", "D7", "L0", "L70", "^", "X1", "D", "D0 D1 ^ D2"]),
            max_size=5,
        ).map(" ".join),
    ),
)
_CIRCUIT_LINE = st.one_of(
    st.sampled_from(["}", "REPEAT 2 {", "TICK", "H 0", "R 0 1", "M !0 1", "# {", "#\v}", "MR 0"]),
    st.sampled_from(["DEPOLARIZE2(0.1) 0 1", "CX sweep[3] 0", "CX rec[-1] 1", "MPP X0*Z1", "MX 1"]),
    st.builds("REPEAT{} {} {{".format, _TAG, _NUMBER),
    st.builds("X_ERROR({}) {}".format, st.sampled_from(["0.1", "0", "1", "2"]), _NUMBER),
    st.builds("DETECTOR({}) rec[-{}]".format, _NUMBER, st.integers(1, 3)),
    st.builds("OBSERVABLE_INCLUDE({}) rec[-{}]".format, _NUMBER, st.integers(1, 3)),
)
# Small bounds, so that what passes them is quick to make.
_SMALL = Limits(detectors=500, targets=5_000, operations=5_000, instructions=5_000, qubits=500)


def _assert_code_or_code_error(kind: str, text: str) -> None:
    try:
        made = Code.parse(kind, text, limits=_SMALL)
    except CodeError:
        return
    assert made.spacetime.rounds > 0


@given(st.lists(_DEM_LINE, max_size=8), st.booleans())
@example(["repeat[#] 0 {", "error(0.1) D7", "}"], True)
@settings(max_examples=600)
def test_any_dem_text_is_a_code_or_a_code_error(lines: list[str], tail: bool) -> None:
    _assert_code_or_code_error("dem", "\n".join(lines) + "\n" + DEM_TAIL * tail)


@given(st.lists(_CIRCUIT_LINE, max_size=8), st.booleans())
@settings(max_examples=400)
def test_any_circuit_text_is_a_code_or_a_code_error(lines: list[str], tail: bool) -> None:
    _assert_code_or_code_error("circuit", "\n".join(lines) + "\n" + CIRCUIT_TAIL * tail)


@given(st.text(max_size=60))
def test_any_text_at_all_is_a_code_or_a_code_error(text: str) -> None:
    for kind in ("dem", "circuit"):
        _assert_code_or_code_error(kind, text)


def test_sizes_are_exact() -> None:
    """A bound one above what Stim counts passes, Stim's count minus one is refused."""
    circuit = memory(rounds=30)
    dem = circuit.detector_error_model(decompose_errors=True)
    assert any(isinstance(item, stim.DemRepeatBlock) for item in dem)
    count = dem.num_detectors
    parse_dem(str(dem), Limits(detectors=count))
    with pytest.raises(CodeTooLarge, match=f"detectors: {count:,}"):
        parse_dem(str(dem), Limits(detectors=count - 1))
    for what, value in {
        "detectors": circuit.num_detectors,
        "measurements": circuit.num_measurements,
        "qubits": circuit.num_qubits,
        "observables": 1,
        "instructions": len(circuit.flattened()) + 29,  # SHIFT_COORDS is flattened away
    }.items():
        parse_circuit(str(circuit), Limits(**{what: value}))
        with pytest.raises(CodeTooLarge, match=f"{what}: {value:,}"):
            check_circuit(circuit, Limits(**{what: value - 1}))


def test_code_files_are_read_with_the_same_bounds(tmp_path: Path) -> None:
    path = tmp_path / "code.dem"
    path.write_text(DEM_TAIL)
    assert Code.from_file(path).digest == Code.parse("dem", DEM_TAIL).digest
    with pytest.raises(CodeError, match="limit"):
        read_code_text(path, Limits(text_bytes=3))
    path.write_bytes(b"\xff\xfe")
    for unreadable in (path, tmp_path, tmp_path / "missing.dem"):
        with pytest.raises(CodeError, match="cannot read"):
            Code.from_file(unreadable)


def test_check_text_keeps_count_of_closed_blocks() -> None:
    check_text("repeat 2 {\n  error(0.1) D0\n  }\n" * 1000, LIMITS)
