"""`qdec ler`: what is measured, what a file of blocks keeps, what is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymatching
import pytest

import qdec_tools.ler.collect as collecting
import qdec_tools.ler.work as work
from helpers.weights import metadata, random_stack, write
from qdec.cli import main
from qdec.errors import DataError, GeometryError, ModelError, QdecError
from qdec.match import Tier
from qdec.neural.ising.network import PUBLISHED
from qdec.neural.store import import_model
from qdec_tools.ler.blocks import BLOCK_SHOTS, Block, BlockStore
from qdec_tools.ler.collect import Plan, collect
from qdec_tools.ler.command import run
from qdec_tools.ler.points import Point, parse_points
from qdec_tools.ler.result import as_json, pooled, rows
from qdec_tools.ler.work import Job, block_key, circuit_digest, run_job

BOTH = (Tier.MATCHING, Tier.CORRELATED)
POINT = Point(3, 3, 0.01, "z")
PLAN = Plan((POINT,), BOTH, 2 * BLOCK_SHOTS)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Job]]:
    """The jobs that are worked on, in order."""
    done: list[Job] = []

    def noted(job: Job) -> list[Block]:
        done.append(job)
        return run_job(job)

    monkeypatch.setattr(collecting, "run_job", noted)
    yield done
    work._bench.cache_clear()


def found(plan: Plan, store: BlockStore) -> list[dict[str, Any]]:
    """Rows without what depends on how they were measured."""
    return [
        {k: v for k, v in as_json(row).items() if k not in ("us_per_round", "batch")}
        for row in rows(collect(plan, store), Tier.CORRELATED)
    ]


def test_points_are_all_combinations() -> None:
    points = parse_points("5,3", "d,2d,20", "0.003, 6e-3", windows="2d,d")
    assert len(points) == 2 * 3 * 2 * 2
    assert points[0] == Point(3, 3, 0.003, "x", "6,3")
    assert points[-1] == Point(5, 20, 0.006, "z", "10,5")
    # The same experiment told twice is measured once.
    assert len(parse_points("3", "d,3", "0.003", "z")) == 1
    assert parse_points("3", "d", "0.1", windows="auto")[0].windows == "auto"


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--distances", ("1", "d", "0.1")),
        ("--distances", ("3,,5", "d", "0.1")),
        ("--distances", ("99999999999999999999", "d", "0.1")),
        ("--rounds", ("3", "x", "0.1")),
        ("--rounds", ("3", "0", "0.1")),
        ("--rounds", ("3", "999999d", "0.1")),
        ("--noise", ("3", "d", "nan")),
        ("--noise", ("3", "d", "0")),
        ("--noise", ("3", "d", "0.6")),
        ("--basis", ("3", "d", "0.1", "y")),
        ("windows", ("3", "d", "0.1", "x", "d,")),
        ("--noise-model", ("3", "d", "0.1", "x", "whole", "magic")),
        ("--model", ("3", "d", "0.1", "x", "whole", "uniform", ["ising"])),
        ("--model", ("3", "d", "0.1", "x", "whole", "uniform", ["matching=speed"])),
        ("experiments", (",".join(map(str, range(3, 60))), "d,2d,3d,4d,5d", "0.1,0.2,0.3,0.4")),
    ],
)
def test_what_is_no_point_is_refused(option: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises((DataError, GeometryError), match=option):
        parse_points(*arguments)


def test_failures_are_pymatchings() -> None:
    """Counted again by hand, from the shots that the block's seed gives."""
    job = Job(POINT, BOTH, seed=5, block=3, shots=3000)
    blocks = run_job(job)
    circuit = POINT.circuit()
    dets, truth = work._bench(POINT).sample(5, 3)
    for block, correlated in zip(blocks, (False, True), strict=True):
        matching = pymatching.Matching.from_stim_circuit(circuit, enable_correlations=correlated)
        frames = matching.decode_batch(
            dets[:3000],
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=correlated,
        )
        assert block.failed == (frames != truth[:3000]).any(axis=1).nonzero()[0].tolist()
        assert block.cpu_ns > 0
    assert blocks[0].failed != blocks[1].failed
    assert run_job(job)[0].failed == blocks[0].failed
    assert run_job(replace(job, block=4))[0].failed != blocks[0].failed
    assert run_job(replace(job, seed=6))[0].failed != blocks[0].failed


def test_a_tier_answers_with_the_network_that_is_named(tmp_path: Path) -> None:
    weights = random_stack(PUBLISHED[1])
    file = write(tmp_path / "mine.safetensors", weights, metadata(1))
    info = import_model(file, folder=tmp_path / "kept")
    (plain,) = parse_points("3", "d", "0.01", "z")
    with pytest.raises(ModelError, match="--model ising=NAME"):
        block_key(plain, Tier.ISING, 0, 0)
    (point,) = parse_points("3", "d", "0.01", "z", models=[f"ising={info.path}"])
    job = Job(point, (Tier.ISING, Tier.MATCHING), seed=0, block=0, shots=200)
    ising, matching = run_job(job)
    assert info.sha256 in ising.model
    assert len(ising.failed) > len(matching.failed)  # it knows nothing
    # The package's network by another name answers the same, and counts as the same.
    (named,) = parse_points("3", "d", "0.01", "z", models=["accuracy=speed"])
    assert block_key(named, Tier.ACCURACY, 0, 0).model == block_key(plain, Tier.SPEED, 0, 0).model
    (soft,) = run_job(Job(named, (Tier.ACCURACY,), 0, 0, 500))
    (speed,) = run_job(Job(plain, (Tier.SPEED,), 0, 0, 500))
    assert soft.failed == speed.failed


def test_a_row_says_what_was_measured() -> None:
    first, second = found(PLAN, BlockStore())
    assert (first["tier"], second["tier"]) == ("matching", "correlated")
    assert first["shots"] == second["shots"] == 2 * BLOCK_SHOTS
    paired = first["paired"]
    assert paired["both"] + paired["losses"] == first["failures"]
    assert paired["both"] + paired["wins"] == second["failures"]
    assert first["ler"] == first["failures"] / first["shots"]
    assert first["ler_low"] < first["ler"] < first["ler_high"]


def test_a_file_is_continued(tmp_path: Path, jobs: list[Job]) -> None:
    path = tmp_path / "ler.jsonl"
    plan = replace(PLAN, shots=BLOCK_SHOTS + 100)
    with BlockStore(path) as store:
        first = found(plan, store)
    assert [(job.block, job.shots) for job in jobs] == [(0, BLOCK_SHOTS), (1, 100)]
    jobs.clear()
    with BlockStore(path) as store:
        assert found(plan, store) == first
        # Fewer shots than there are: as if only those had been decoded.
        fewer = found(replace(plan, shots=1000), store)
    assert jobs == []
    assert fewer == found(replace(plan, shots=1000), BlockStore())
    jobs.clear()
    with BlockStore(path) as store:
        more = found(replace(plan, shots=2 * BLOCK_SHOTS), store)
    assert [(job.block, job.shots) for job in jobs] == [(1, BLOCK_SHOTS)]
    assert more == found(PLAN, BlockStore())


def test_a_tier_added_later_decodes_the_same_shots(tmp_path: Path, jobs: list[Job]) -> None:
    path = tmp_path / "ler.jsonl"
    with BlockStore(path) as store:
        collect(replace(PLAN, tiers=(Tier.CORRELATED,)), store)
        jobs.clear()
        both = found(PLAN, store)
    assert {job.tiers for job in jobs} == {(Tier.MATCHING,)}
    assert both == found(PLAN, BlockStore())


def test_a_killed_run_costs_its_last_line(tmp_path: Path, jobs: list[Job]) -> None:
    path = tmp_path / "ler.jsonl"
    with BlockStore(path) as store:
        whole = found(PLAN, store)
    text = path.read_bytes()
    lines = text.splitlines(keepends=True)
    for cut in (1, 5, 40, len(lines[-1]) - 1):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        jobs.clear()
        with BlockStore(path) as store:
            assert found(PLAN, store) == whole
        assert [job.tiers for job in jobs] == [(Tier.CORRELATED,)]
        with BlockStore(path) as store:
            assert len(store) == len(lines)


@pytest.mark.parametrize(
    "text",
    [
        "distance,rounds\n3,3\n",
        "no line end",
        "{}\n",
        '{"point":"' + "x" * 70_000,
        "\n",
        "\xff\n",
    ],
)
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(DataError, match="notes:1: not a block"):
        BlockStore(path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "change",
    [
        {"failed": [5, 5]},
        {"failed": [-1]},
        {"failed": [100]},
        {"failed": [2, 1]},
        {"failed": "1"},
        {"shots": 0},
        {"shots": BLOCK_SHOTS + 1},
        {"cpu_ns": -1},
        {"more": 1},
        {"tier": "x" * 1000},
    ],
)
def test_blocks_are_checked(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "ler.jsonl"
    (block,) = run_job(Job(POINT, (Tier.MATCHING,), 0, 0, 100))
    path.write_text(json.dumps(block.model_dump() | change) + "\n")
    with pytest.raises(DataError, match="not a block"):
        BlockStore(path)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "ler.jsonl"
    with BlockStore(path), pytest.raises(DataError, match="another run"):
        BlockStore(path)
    with BlockStore(path):
        pass
    with pytest.raises(DataError, match="cannot save"):
        BlockStore(tmp_path / "no" / "ler.jsonl")


def test_other_shots_of_the_same_seed_are_not_compared(tmp_path: Path) -> None:
    store = BlockStore()
    matching, correlated = run_job(Job(POINT, BOTH, 0, 0, BLOCK_SHOTS))
    store.add([matching, correlated.model_copy(update={"events": "elsewhere"})])
    first, second = found(replace(PLAN, shots=BLOCK_SHOTS), store)
    assert first["paired"]["shots"] == 0
    assert first["failures"] == len(matching.failed)
    assert second["shots"] == BLOCK_SHOTS


def test_failures_end_a_point_where_they_would_without_processes(jobs: list[Job]) -> None:
    plan = replace(PLAN, shots=10 * BLOCK_SHOTS, until_failures=300)
    store = BlockStore()
    few = found(plan, store)
    blocks = len(jobs)
    assert 1 < blocks < 10
    assert {row["shots"] for row in few} == {blocks * BLOCK_SHOTS}
    assert min(row["failures"] for row in few) >= 300
    # What other processes had under way when it was enough is not counted.
    store.add(run_job(Job(POINT, BOTH, 0, blocks, BLOCK_SHOTS)))
    store.add(run_job(Job(POINT, BOTH, 0, blocks + 2, BLOCK_SHOTS)))
    assert found(plan, store) == few


def test_processes_find_the_same() -> None:
    points = parse_points("3", "d", "0.01,0.02")
    plan = Plan(points, BOTH, BLOCK_SHOTS + 50, processes=2)
    seen: list[float] = []
    store = BlockStore()
    collect(plan, store, lambda share, _: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    alone = BlockStore()
    collect(replace(plan, processes=1), alone)
    assert found(plan, store) == found(plan, alone)
    assert len(pooled(rows(collect(plan, store), Tier.MATCHING))) == 4


def test_a_workers_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan((POINT, Point(3, 12, 0.01, "z", "4,4")), BOTH, 10, processes=2)
    with pytest.raises(QdecError, match="buffer"):
        collect(plan, BlockStore())


def test_run_prints_rows_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    points = parse_points("3", "d,2d", "0.01")
    svg = tmp_path / "ler.svg"
    options: dict[str, Any] = {"tiers": "correlated,matching", "shots": 500, "processes": "1"}
    assert run(points, **options, as_rows=True, plot_to=svg) == 0
    out, err = capsys.readouterr()
    (last,) = out.splitlines()
    listed = json.loads(last)
    assert [(row["rounds"], row["basis"], row["tier"]) for row in listed] == [
        (rounds, basis, tier)
        for rounds in (3, 6)
        for basis in ("x", "z")
        for tier in ("correlated", "matching")
    ]
    needed = {"distance", "rounds", "noise", "basis", "tier", "shots", "failures", "ler"}
    assert all(needed | {"us_per_round"} <= row.keys() for row in listed)
    assert "x+z" in err
    drawn = svg.read_text()
    assert drawn.lstrip().startswith("<?xml")
    svg.unlink()
    assert run(points, **options, plot_to=svg) == 0
    assert "correlated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tiers", "magic"), "the tiers are matching"),
        (("--tiers", "matching,"), "unknown tier"),
        (("--tiers", "matching", "--reference", "correlated"), "one of the --tiers"),
        (("--processes", "0"), "--processes 0: give auto"),
        (("--plot", "x.txt"), "must end with .svg"),
        (("--plot", "/no/where.svg"), "there is no folder"),
        (("--windows", "9,9", "-r", "20"), "buffer"),
        (("-d", "3", "-r", "0"), "--rounds"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    jobs: list[Job],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["qdec", "ler", "-d", "3", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("qdec: ")
    assert words in line
    assert jobs == []


def test_circuits_are_told_apart() -> None:
    changes: list[dict[str, Any]] = [
        {"distance": 5},
        {"rounds": 4},
        {"noise": 0.02},
        {"basis": "x"},
    ]
    points = [POINT, *(replace(POINT, **change) for change in changes)]
    assert len({circuit_digest(point) for point in points}) == 5
