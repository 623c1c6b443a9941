"""Where windows lie, and which geometries are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.circuits import REPETITION, ROTATED_Z, code, memory, without_reset
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.windows import WHOLE, Geometry, choose_geometry, parse_geometry, window_at
from qdec.windows.geometry import Window, window_end


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 200))
def test_commit_regions_tile_the_shot(commit: int, buffer: int, length: int) -> None:
    geometry = Geometry(commit + buffer, commit)
    at = 0
    while True:
        window = window_at(geometry, at, length)
        assert window.start == at
        assert window.end == window_end(geometry, at, length) == min(at + geometry.window, length)
        assert window.closes == (window.end == length)
        if window.closes:
            break
        assert window.commit == commit
        at += window.commit
    assert at + window.commit == length


def test_a_window_that_ends_with_its_shot_commits_all_of_it() -> None:
    assert window_at(Geometry(6, 4), 4, 10) == Window(4, 10, 6, 10)
    assert window_at(Geometry(6, 4), 4, 11) == Window(4, 10, 4, 11)
    assert window_at(Geometry(6, 4), 8, 11) == Window(8, 11, 3, 11)


def test_endless_windows_never_close() -> None:
    for start in (0, 4, 10**9):
        window = window_at(Geometry(6, 4), start, None)
        assert (window.end - window.start, window.commit, window.closes) == (6, 4, False)
    with pytest.raises(GeometryError, match="endless"):
        window_at(WHOLE, 0, None)


@pytest.mark.parametrize(
    ("text", "geometry"),
    [
        ("auto", "auto"),
        (" WHOLE\n", WHOLE),
        ("10,5", Geometry(10, 5)),
        (" 10 , 5 ", Geometry(10, 5)),
    ],
)
def test_texts_of_geometries(text: str, geometry: object) -> None:
    assert parse_geometry(text) == geometry
    if isinstance(geometry, Geometry):
        assert parse_geometry(str(geometry)) == geometry


@pytest.mark.parametrize(
    "text", ["", "10", "10,", "10,5,2,1", "a,b", "1e3,1", "0,0", "0,5", "-4,2"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(GeometryError, match="auto, whole, W,C "):
        parse_geometry(text)


@pytest.mark.parametrize("wanted", [Geometry(5, 6), Geometry(5, 0), Geometry(5, -1)])
@pytest.mark.parametrize("endless", [False, True])
def test_impossible_lengths_are_refused(wanted: Geometry, endless: bool) -> None:
    with pytest.raises(GeometryError, match="need 1 <= C <= W"):
        choose_geometry(wanted, code(), endless=endless)
    with pytest.raises(GeometryError, match="1048576"):
        choose_geometry(Geometry((1 << 20) + 1, 5), code(), endless=endless)


@pytest.mark.parametrize("endless", [False, True])
def test_the_buffer_must_cover_the_longest_mechanism(endless: bool) -> None:
    with_reset = code(ROTATED_Z, 3, 12)
    without = Code.from_circuit(without_reset(memory(ROTATED_Z, 3, 12)))
    assert (with_reset.spacetime.span, without.spacetime.span) == (1, 2)
    for made, span in ((with_reset, 1), (without, 2)):
        wanted = Geometry(5 + span, 5)
        assert choose_geometry(wanted, made, endless=endless) == wanted
        with pytest.raises(GeometryError, match=f"longest mechanism, {span} rounds"):
            choose_geometry(Geometry(5 + span - 1, 5), made, endless=endless)


def test_auto_takes_short_shots_whole() -> None:
    assert choose_geometry("auto", code(REPETITION, 3, 102), endless=False) == WHOLE
    assert choose_geometry("auto", code(REPETITION, 3, 103), endless=False) == Geometry(103, 100)


@pytest.mark.parametrize("d", [3, 5, 7])
def test_auto_follows_the_distance_found_or_given(d: int) -> None:
    made = code(ROTATED_Z, d, 8)
    assert made.distance == d
    commit = max(20 * d, 100)
    assert choose_geometry("auto", made, endless=True) == Geometry(commit + d, commit)
    assert choose_geometry("auto", made, endless=True, distance=9) == Geometry(99, 90)
    assert choose_geometry("auto", made, endless=True, distance=13) == Geometry(56, 43)
    assert choose_geometry("auto", made, endless=True, distance=31) == Geometry(93, 62)


def test_auto_for_networks_is_short() -> None:
    made = code(ROTATED_Z, 5, 40)
    assert choose_geometry("auto", made, endless=True, short=True) == Geometry(12, 5)
    assert choose_geometry("auto", code(ROTATED_Z, 5, 11), endless=False, short=True) == WHOLE
    longer = code(ROTATED_Z, 5, 12)
    assert choose_geometry("auto", longer, endless=False, short=True) == Geometry(12, 5)


def test_autos_buffer_covers_the_longest_mechanism() -> None:
    made = Code.from_circuit(without_reset(memory(ROTATED_Z, 3, 12)))
    assert choose_geometry("auto", made, endless=True, distance=1) == Geometry(102, 100)


def test_endless_streams_need_windows_and_a_repetition() -> None:
    with pytest.raises(GeometryError, match="whole shots"):
        choose_geometry(WHOLE, code(), endless=True)
    short = code(ROTATED_Z, 3, 2)
    assert choose_geometry(WHOLE, short, endless=False) == WHOLE
    for wanted in ("auto", WHOLE, Geometry(6, 3)):
        with pytest.raises(GeometryError, match="no repeating round"):
            choose_geometry(wanted, short, endless=True)


def test_larger_windows_for_streams_that_are_behind() -> None:
    geometry = parse_geometry("10,5,50")
    assert geometry == Geometry(10, 5, 50)
    assert str(geometry) == "10,5,50"
    assert geometry.larger_commits == (40, 20, 10)
    assert geometry.longest == 55
    assert Geometry(10, 5).larger_commits == ()
    assert Geometry(10, 5).longest == 10
    with pytest.raises(GeometryError, match="at least C"):
        choose_geometry(Geometry(10, 5, 4), code(rounds=15), endless=True)
