"""The arena as Prometheus sees it: read by its own parsers, held to its own rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from helpers.lanes import Lane, Stream, config
from helpers.recordings import recording
from qdec import __version__
from qdec.accelerator.stats import SKIP_REASONS
from qdec.arena import Arena, Head
from qdec.bus.wire import Close, encode
from qdec.config import StreamConfig
from qdec.gateway.process import Gateway
from qdec.lane.stats import REASONS
from qdec.match import Tier
from qdec.slo import OBJECTIVES, Slo
from qdec.supervisor.slots import Slots

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
REC = recording("endless")
MS = 1_000_000


class Service:
    """A lane that counts in an arena, and a gateway that reads there; no sockets."""

    def __init__(self, code: Path) -> None:
        common = {"code": code, "endless": True, "windows": "6,3", "ring_rounds": 256}
        self.settings = config(
            StreamConfig(name="patch0", deadline_us=5_000, **common),
            StreamConfig(name="patch1", deadline_us=10**9, **common),
            lanes=2,
        )
        arena = self.arena = Arena.create()
        self.head: Head = arena.write_head()
        slot = Slots(self.head).take(0, child=1)
        assert slot is not None
        self.lane = Lane(self.settings, slot=arena.write_slot(slot))
        self.gateway = Gateway(Arena(arena.reader()), self.settings)

    def page(self, accept: str = "") -> str:
        return self.gateway.metrics(accept).body.decode()

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        found = {}
        for sample in all_samples(self.page()):
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        return self.samples()[name, frozenset(labels.items())]


def all_samples(page: str) -> Iterator[Sample]:
    for family in parse_text(page):
        yield from family.samples


@pytest.fixture
def service(tmp_path: Path) -> Service:
    code = tmp_path / "d3.stim"
    code.write_text(REC.text)
    return Service(code)


def play(service: Service) -> None:
    """Two windows of patch0, one of them late; three of a guest; a message that is refused."""
    lane = service.lane
    patch = Stream(lane, b"a").open(stream="patch0")
    assert patch.send(0, REC.records[:6]) is None
    lane.now += 3 * MS
    assert len(patch.collect()) == 1
    assert patch.send(6, REC.records[6:10]) is None
    lane.now += 7 * MS
    assert len(patch.collect()) == 1
    assert patch.send(6, REC.records[6:10]) is not None  # a duplicate
    guest = REC.open(lane, b"b", stream="guest", windows="6,3")
    assert guest.send(0, REC.records[:12]) is None
    assert len(guest.collect()) == 3
    lane.core.show()


def test_windows_and_rounds_of_lanes_and_of_named_streams(service: Service) -> None:
    play(service)
    lane, patch, other = (
        {"lane": "0"},
        {"stream": "patch0", "part": "0"},
        {"stream": "patch1", "part": "0"},
    )
    value = service.value
    outcomes = {
        outcome: value("qdec_windows_total", tier="matching", outcome=outcome, **lane)
        for outcome in ("in_time", "late", "preempted")
    }
    assert outcomes["in_time"] == 4
    # The test's clock is not the one by which CPU time is known: late for either reason.
    assert outcomes["late"] + outcomes["preempted"] == 1
    assert value("qdec_deadline_misses_total", **lane) == 1
    assert value("qdec_windows_total", tier="correlated", outcome="in_time", **lane) == 0
    assert value("qdec_rounds_total", **lane) == 22
    assert value("qdec_duplicates_total", **lane) == value("qdec_errors_total", **lane) == 1
    assert value("qdec_stream_windows_total", outcome="in_time", **patch) == 1
    assert value("qdec_stream_rounds_total", **patch) == 10
    assert value("qdec_stream_rounds_total", **other) == 0
    assert value("qdec_rounds_total", lane="1") == 0


def test_gauges_show_what_is_and_not_what_was(service: Service) -> None:
    play(service)
    value = service.value
    assert value("qdec_open_streams", lane="0") == 2
    assert value("qdec_stream_open", stream="patch0", part="0") == 1
    # 10 rounds came of patch0, of which 6 are committed; of the guest's 12, 9.
    assert value("qdec_stream_backlog_rounds", stream="patch0", part="0") == 4
    assert value("qdec_backlog_rounds", lane="0") == 4 + 3
    rings = 256 + 256
    assert value("qdec_credits_rounds", lane="0") == rings - 7
    assert value("qdec_stream_credits_rounds", stream="patch0", part="0") == 256 - 4
    (session,) = (s for s in service.lane.core._sessions.values() if s.terms.stream == "patch0")
    service.lane.tell(b"a", encode(Close(session.handle, session.epoch)))
    assert value("qdec_stream_open", stream="patch0", part="0") == 0
    assert value("qdec_stream_backlog_rounds", stream="patch0", part="0") == 0
    assert value("qdec_stream_rounds_total", stream="patch0", part="0") == 10


def test_objectives_breakers_and_pauses(service: Service) -> None:
    play(service)
    value = service.value
    name = {"stream": "patch0"}
    assert value("qdec_slo_windows_total", **name) == 2
    broken = {one: value("qdec_slo_violations_total", objective=one, **name) for one in OBJECTIVES}
    # Half of the deadline of 5 ms is the latency that is meant: one window took 3 ms, one 7.
    assert broken == {"latency": 2, "deadline": 1, "confidence": 0, "fallback": 0}
    budgets = {one: value("qdec_slo_budget_ratio", objective=one, **name) for one in OBJECTIVES}
    assert budgets == dict(zip(OBJECTIVES, Slo().budgets, strict=True))
    core = service.lane.core
    stream = Stream(service.lane, b"c").open(stream="patch1")
    for at in range(0, 60, 3):  # all of it late for patch1's latency, none for its deadline
        stream.send(at, REC.records[at : at + 3])
        service.lane.now += 600_000 * MS
        stream.collect()
        for _ in range(10):
            core.show()
    rate = {"stream": "patch1", "objective": "latency"}
    assert value("qdec_slo_burn_rate", window="1m", **rate) == pytest.approx(100)
    assert value("qdec_slo_burn_rate", window="10m", **rate) == pytest.approx(100)
    rate["objective"] = "deadline"
    assert value("qdec_slo_burn_rate", window="1m", **rate) == 0
    assert value("qdec_breaker_open", lane="0", tier="correlated") == 0
    core.stats.breaker_words[Tier.CORRELATED] = 1
    assert value("qdec_breaker_open", lane="0", tier="correlated") == 1
    assert value("qdec_stream_paused", stream="patch1", reason="draining") == 0
    core.drain()
    core.show()
    assert value("qdec_stream_paused", stream="patch1", reason="draining") == 1
    assert value("qdec_stream_paused", stream="patch1", reason="degraded") == 0
    core.farewell()
    assert value("qdec_slo_burn_rate", window="1m", stream="patch1", objective="latency") == 0
    assert value("qdec_stream_paused", stream="patch1", reason="draining") == 0


def test_what_is_overdue(service: Service) -> None:
    value = service.value
    assert value("qdec_overdue_seconds", lane="0") == 0
    service.lane.core.stats.oldest_due_ns = time.monotonic_ns() - 5_000_000_000
    assert 5 <= value("qdec_overdue_seconds", lane="0") < 65
    service.lane.core.stats.oldest_due_ns = time.monotonic_ns() + 5_000_000_000
    assert value("qdec_overdue_seconds", lane="0") == 0


def test_each_part_of_a_shared_stream_has_its_own_series(tmp_path: Path) -> None:
    """Both lanes see every round: added up, each would count twice."""
    code = tmp_path / "d3.stim"
    code.write_text(REC.text)
    shared = StreamConfig(
        name="s" * 64, code=code, endless=True, windows="6,3", ring_rounds=256, lanes=(0, 1)
    )
    settings = config(shared, lanes=2)
    arena = Arena.create()
    slots = Slots(arena.write_head())
    for part in (0, 1):
        slot = slots.take(part, child=part + 1)
        assert slot is not None
        stream = Stream(Lane(settings, lane=part, slot=arena.write_slot(slot)))
        stream.open(stream=shared.name, part=part)
        assert stream.send(0, REC.records[: 6 + part]) is None
        assert len(stream.collect()) == 1
        stream.lane.core.show()
    page = Gateway(Arena(arena.reader()), settings).metrics("").body.decode()
    found = {
        (sample.name, sample.labels["part"]): sample.value
        for sample in all_samples(page)
        if sample.labels.get("stream") == shared.name and "part" in sample.labels
    }
    for part in (0, 1):
        assert found["qdec_stream_rounds_total", str(part)] == 6 + part
        assert found["qdec_stream_open", str(part)] == 1
        assert found["qdec_stream_window_duration_seconds_count", str(part)] == 1


def test_labels_are_bounded_by_the_configuration(service: Service) -> None:
    play(service)
    streams = {s.labels["stream"] for s in all_samples(service.page()) if "stream" in s.labels}
    lanes = {s.labels["lane"] for s in all_samples(service.page()) if "lane" in s.labels}
    assert (streams, lanes) == ({"patch0", "patch1"}, {"0", "1"})
    service.gateway.config = config(service.settings.stream[1])
    samples = list(all_samples(service.page()))
    assert {s.labels["stream"] for s in samples if "stream" in s.labels} == {"patch1"}
    assert {s.labels["lane"] for s in samples if "lane" in s.labels} == {"0"}


def test_buckets_are_exact_and_in_seconds(service: Service) -> None:
    durations = [1, 1023, 1025, 2047, 123_456, 5_000_000, 2**30 - 1, 2**30 + 1, 2**40]
    for ns in durations:
        service.lane.core.stats.decode.add(ns)
    buckets = {
        s.labels["le"]: s.value
        for s in all_samples(service.page())
        if s.name == "qdec_stage_duration_seconds_bucket"
        and (s.labels["lane"], s.labels["stage"]) == ("0", "decode")
    }
    assert len(buckets) == 22
    assert next(iter(buckets)) == "1.024e-06"
    assert list(buckets)[-2:] == ["1.073741824", "+Inf"]
    for edge, count in buckets.items():
        assert count == sum(ns / 1e9 <= float(edge) for ns in durations), edge
    lane = {"lane": "0", "stage": "decode"}
    assert service.value("qdec_stage_duration_seconds_count", **lane) == len(durations)
    total = service.value("qdec_stage_duration_seconds_sum", **lane)
    assert total == pytest.approx(sum(durations) / 1e9, rel=1e-6)


def test_every_stage_has_its_histogram(service: Service) -> None:
    play(service)
    for stage in ("queue", "decode", "answer", "window"):
        count = service.value("qdec_stage_duration_seconds_count", lane="0", stage=stage)
        assert count == 5, stage
    patch = service.value("qdec_stream_window_duration_seconds_count", stream="patch0", part="0")
    assert patch == 2


def test_what_the_supervisor_knows(service: Service) -> None:
    service.head.up[0] = 1
    service.head.up_since_ns[0] = 1_700_000_000_500_000_000
    service.head.restarts[1] = 3
    service.head.gateway_restarts = 2
    value = service.value
    assert (value("qdec_lane_up", lane="0"), value("qdec_lane_up", lane="1")) == (1, 0)
    assert value("qdec_lane_start_time_seconds", lane="0") == 1_700_000_000.5
    assert value("qdec_lane_restarts_total", lane="1") == 3
    assert value("qdec_gateway_restarts_total") == 2
    assert value("qdec_start_time_seconds") == pytest.approx(service.head.started_ns / 1e9)
    (build,) = (s for s in all_samples(service.page()) if s.name == "qdec_build_info")
    assert (build.value, build.labels["version"]) == (1, __version__)


def test_ready_means_that_every_lane_is_served(service: Service) -> None:
    page = service.gateway.pages["/readyz"]
    assert (page("").status, page("").body) == (503, b"not served: lane 0, 1\n")
    service.head.up[0] = 1
    assert (page("").status, page("").body) == (503, b"not served: lane 1\n")
    service.head.up[1] = 1
    assert page("").status == 200
    assert service.gateway.pages["/healthz"]("").status == 200


def test_what_the_accelerator_and_lanes_in_its_stead_have_done(service: Service) -> None:
    service.lane.core.stats.fell_back(REASONS.index("deadline"), 3)
    service.lane.core.stats.discarded = 2
    words = service.arena.share_accelerator()
    value = service.value
    assert value("qdec_accelerator_up") == 0
    words.generation, words.windows, words.batches = 7, 40, 5
    words.batch.add(3 * MS)
    words.wait.add(2 * MS, 8)
    words.skipped[SKIP_REASONS.index("busy")] = 6
    service.head.accelerator_restarts = 1
    assert value("qdec_accelerator_up") == 1
    assert value("qdec_accelerator_restarts_total") == 1
    assert value("qdec_accelerator_windows_total") == 40
    assert value("qdec_accelerator_batches_total") == 5
    assert value("qdec_accelerator_batch_duration_seconds_count") == 1
    assert value("qdec_accelerator_batch_duration_seconds_sum") == 0.003
    assert value("qdec_accelerator_wait_duration_seconds_count") == 8
    skipped = {r: value("qdec_accelerator_skipped_windows_total", reason=r) for r in SKIP_REASONS}
    assert skipped == {reason: 6 * (reason == "busy") for reason in SKIP_REASONS}
    counted = {r: value("qdec_fallback_windows_total", lane="0", reason=r) for r in REASONS}
    assert counted == {reason: 3 * (reason == "deadline") for reason in REASONS}
    assert value("qdec_discarded_answers_total", lane="0") == 2


def test_openmetrics_says_the_same(service: Service) -> None:
    play(service)
    page = service.gateway.metrics(OPENMETRICS)
    assert page.content_type.startswith("application/openmetrics-text; version=1.0.0")
    ours = {
        (s.name, frozenset(s.labels.items())): s.value
        for family in parse_openmetrics(page.body.decode())
        for s in family.samples
        if s.name.startswith("qdec_")
    }
    text = {key: v for key, v in service.samples().items() if key[0].startswith("qdec_")}
    assert ours == text


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/html", "application/openmetrics-text;version=x", ";;,=,", "a" * 9000],
)
def test_whatever_is_accepted_there_is_an_answer(service: Service, accept: str) -> None:
    page = service.gateway.metrics(accept)
    assert page.content_type.startswith(("text/plain; version=0.0.4", "application/openmetrics"))
    assert b"qdec_build_info" in page.body


def test_promtool_finds_nothing_to_say(service: Service) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    play(service)
    page = service.page()
    told = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_pages_table_has_every_metric(service: Service) -> None:
    section = PAGE.read_text()
    documented = set(re.findall(r"`(qdec_\w+)", section.split("| metric |")[1]))
    suffix = re.compile("_(bucket|count|sum)$")
    exposed = {
        suffix.sub("", s.name) for s in all_samples(service.page()) if s.name.startswith("qdec_")
    }
    assert documented == exposed
