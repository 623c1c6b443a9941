"""`tier = "auto"`: measured, remembered, settled before a lane sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.circuits import ROTATED_Z, code, memory
from qdec.codes import Code
from qdec.config import Config, StreamConfig, load_config
from qdec.errors import ConfigError
from qdec.lane.library import Library
from qdec.match import Tier
from qdec.match.escalate import Switching
from qdec.match.policy import Candidate, Measured
from qdec.match.tier import SOFT
from qdec.match.tuning import candidates, measure, steady_window
from qdec.supervisor import auto
from qdec.windows import WHOLE, Geometry

CODE = code(ROTATED_Z, 3, 12, 0.004)
WINDOWS = Geometry(12, 6)
LADDER = Candidate(Tier.MATCHING, Switching(tiers=(Tier.GUARDED,), below=0.9))


def tuned(folder: Path | None, **options: Any) -> auto.Tuned:
    found = auto.tune(CODE, WINDOWS, endless=True, deadline_us=2000, kept_in=folder, **options)
    assert found is not None
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Measurements that take no time, and how often they were asked for."""
    asked = []

    def invented(*_: Any, **__: Any) -> list[Measured]:
        asked.append(1)
        plain, *others = candidates()
        found = [Measured(plain, 10, 20, 10, 5000, 1, 400)]
        for one in others:
            wins = one == LADDER
            found.append(Measured(one, 20, 40, 20, 5000, 1, 500 - 200 * wins, 120 * wins, 20))
        return found

    monkeypatch.setattr(auto, "measure", invented)
    return asked


def configured(folder: Path, extra: str = "", tier: str = "auto") -> Config:
    (folder / "d3.stim").write_text(str(memory(ROTATED_Z, 3, 12, 0.004)))
    path = folder / "qdec.toml"
    path.write_text(
        f'[service]\nstate_dir = "{folder}"\n[[lane]]\nendpoints = ["ipc://{folder}/lane"]\n'
        f'[[stream]]\nname = "patch0"\ncode = "d3.stim"\nendless = true\ntier = "{tier}"\n{extra}'
    )
    return load_config(path)


def test_every_candidate_is_measured_on_the_same_windows() -> None:
    wanted = candidates()
    assert wanted[0] == Candidate(Tier.MATCHING)
    assert len(set(wanted)) == len(wanted)
    found = measure(
        CODE,
        wanted,
        served=lambda _: WINDOWS,
        endless=True,
        fence=lambda tier, _: tier.label,
        budget_s=0.2,
    )
    assert [one.candidate for one in found] == list(wanted)
    plain = found[0]
    assert (plain.better, plain.worse) == (0, 0)
    for one in found:
        assert not one.unusable
        assert one.windows == plain.windows > 0
        assert one.wrong == plain.wrong - one.better + one.worse
        assert 0 < one.us_p50 <= one.us_p99
        assert one.fence == one.candidate.tier.label


def test_each_tier_is_measured_in_the_windows_that_it_would_be_served_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(auto, "BUDGET_S", 0.3)
    found = auto.tune(CODE, "auto", endless=True, deadline_us=2000, distance=3)
    assert found is not None
    long, short = Geometry(103, 100), Geometry(8, 3)
    by_matching = {}
    for one, geometry in zip(found.measured, found.geometries, strict=True):
        assert not one.unusable
        assert geometry == (short if one.candidate.tier in SOFT else long)
        assert one.commit_rounds == geometry.commit
        # All in windows of one kind are compared on the same ones.
        there = by_matching.setdefault(geometry, one.wrong + one.better - one.worse)
        assert one.wrong == there - one.better + one.worse
    # The service gives the stream those windows.
    library, path = Library(), tmp_path / "d3.stim"
    path.write_text(str(memory(ROTATED_Z, 3, 12, 0.004)))
    stream = StreamConfig(name="s", code=path, endless=True, distance=3)
    for one, geometry in zip(found.measured, found.geometries, strict=True):
        tiered = stream.model_copy(update={"tier": one.candidate.tier.label})
        assert library.plan(tiered).geometry == geometry


def test_what_cannot_be_compiled_is_told_apart() -> None:
    text = str(code(ROTATED_Z, 3, 4, 0.004).dem).replace("error(0.00", "error(0.90", 1)
    odd = Code.parse("dem", text)
    wanted = (Candidate(Tier.MATCHING), Candidate(Tier.CORRELATED))
    found = measure(
        odd, wanted, served=lambda _: WHOLE, endless=False, fence=lambda *_: "", budget_s=0.05
    )
    assert not found[0].unusable
    assert "cannot be had: correlated matching needs every p <= 1/2" in found[1].unusable


def test_windows_stand_for_most_of_a_stream() -> None:
    window = steady_window(CODE, WINDOWS, endless=True)
    assert window.start > CODE.spacetime.settled
    assert window.length is None
    whole = steady_window(CODE, WHOLE, endless=False)
    assert whole.closes
    assert whole.commit == CODE.spacetime.rounds
    short = steady_window(CODE, WINDOWS, endless=False)
    assert short.length == CODE.spacetime.rounds


def test_measurements_are_remembered(tmp_path: Path, quick: list[int]) -> None:
    first = tuned(tmp_path / "tuning")
    assert first.fresh
    again = tuned(tmp_path / "tuning")
    assert not again.fresh
    assert again.measured == first.measured
    assert again.decision == first.decision
    assert str(again.decision.candidate) == "matching > guarded < 0.9"
    assert len(quick) == 1
    assert tuned(tmp_path / "tuning", again=True).fresh
    assert tuned(None).fresh
    (file,) = (tmp_path / "tuning").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    # Another deadline is decided anew from the same measurements.
    other = auto.tune(
        CODE, WINDOWS, endless=True, deadline_us=30, kept_in=tmp_path / "tuning", only_kept=True
    )
    assert other is not None
    assert other.decision.candidate == Candidate(Tier.MATCHING)
    elsewhere = auto.tune(
        CODE, Geometry(13, 6), endless=True, deadline_us=30, kept_in=tmp_path, only_kept=True
    )
    assert elsewhere is None


def spoiled(text: str) -> list[str]:
    data = json.loads(text)
    wrong = json.loads(text)
    wrong["measured"][0]["wrong"] = -1
    nothing = json.loads(text)
    nothing["measured"][0]["commit_rounds"] = 0
    more = json.loads(text)
    more["measured"][0]["name"] = "x"
    nan = text.replace('"us_p50": 10', '"us_p50": NaN', 1)
    fewer = {**data, "measured": data["measured"][:1]}
    later = {**data, "format": 3}
    return [
        "",
        text[:-5],
        nan,
        "[" * 1000,
        text + " " * (1 << 17),
        *map(json.dumps, (wrong, nothing, more, fewer, later)),
    ]


def test_a_memory_that_was_tampered_with_is_not_believed(tmp_path: Path, quick: list[int]) -> None:
    tuned(tmp_path)
    (file,) = tmp_path.iterdir()
    good = file.read_text()
    for n, bad in enumerate(spoiled(good), start=2):
        file.write_text(bad)
        assert tuned(tmp_path).fresh
        assert len(quick) == n
        assert not tuned(tmp_path).fresh


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path, quick: list[int]) -> None:
    (tmp_path / "file").write_text("")
    assert tuned(tmp_path / "file" / "tuning").fresh
    assert len(quick) == 1


def test_auto_is_settled_before_lanes_see_it(tmp_path: Path, quick: list[int]) -> None:
    config = configured(tmp_path)
    settled = auto.settle(config)
    (stream,) = settled.stream
    assert (stream.tier, stream.escalate, stream.escalate_below) == (
        "matching",
        ("guarded",),
        0.9,
    )
    assert auto.settle(config, only_kept=True) == settled
    assert Config.model_validate(settled.model_dump(mode="json")) == settled
    assert len(quick) == 1
    plain = configured(tmp_path, tier="correlated")
    assert auto.settle(plain) == plain


def test_without_a_memory_a_reload_takes_matching(tmp_path: Path, quick: list[int]) -> None:
    (stream,) = auto.settle(configured(tmp_path), only_kept=True).stream
    assert (stream.tier, stream.escalate) == ("matching", ())
    assert not quick


def test_guests_and_parts_get_matching(tmp_path: Path, quick: list[int]) -> None:
    config = configured(tmp_path)
    shared = config.stream[0].model_copy(update={"lanes": (0, 1)})
    defaults = config.defaults.model_copy(update={"tier": "auto"})
    settled = auto.settle(config.model_copy(update={"stream": (shared,), "defaults": defaults}))
    assert settled.stream[0].tier == settled.defaults.tier == "matching"
    assert not quick


def test_a_stream_that_cannot_be_served_is_named(tmp_path: Path) -> None:
    config = configured(tmp_path, 'windows = "3,3"\n')
    with pytest.raises(ConfigError, match="stream 'patch0': windows 3,3") as caught:
        auto.settle(config, tmp_path / "qdec.toml")
    assert caught.value.line == 5
    with pytest.raises(ConfigError, match="decides on its own"):
        configured(tmp_path, 'escalate = ["correlated"]\n')
