"""A reading of the arena as Prometheus' metric families.

Names and help texts are part of what the service promises (README.md has the table). Labels are
bounded by the configuration: lanes, tiers, and the streams that it names.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from qdec import __version__
from qdec.accelerator.stats import SKIP_REASONS
from qdec.bus.wire import PauseReason
from qdec.config import Config, StreamConfig
from qdec.gateway.reading import Reader, Reading
from qdec.lane.stats import (
    LATE,
    OUTCOMES,
    PREEMPTED,
    Histogram,
    LaneStats,
    Octaves,
    StreamStats,
    tally_name,
)
from qdec.match import Tier
from qdec.slo import OBJECTIVES, WINDOWS

# Buckets of durations end at powers of two ns, which are edges of the lanes' own buckets: from
# 1.024 µs to 1.07 s. A duration of exactly such an edge is counted in the bucket above it.
_FIRST_EDGE, _LAST_EDGE = 10, 30

# Attribute of `LaneStats`, metric, help.
_LANE_COUNTERS = (
    ("turns", "qdec_loop_turns", "Turns of the lane's loop."),
    ("messages", "qdec_messages", "Messages received from clients."),
    ("bytes_in", "qdec_received_bytes", "Bytes received from clients."),
    ("bytes_out", "qdec_sent_bytes", "Bytes sent to clients."),
    ("rounds", "qdec_rounds", "Rounds accepted."),
    ("rounds_erased", "qdec_erased_rounds", "Rounds given up as lost."),
    ("infeasible", "qdec_infeasible_windows", "Windows whose syndrome nothing explains."),
    ("erased", "qdec_erased_windows", "Windows decoded with lost bits."),
    ("errors", "qdec_errors", "ERROR messages sent."),
    ("gaps", "qdec_gaps", "Times that rounds were missing and asked for again."),
    ("duplicates", "qdec_duplicates", "Frames of rounds that had been received before."),
    ("unroutable", "qdec_unroutable_messages", "Messages to clients that had gone."),
    ("discarded", "qdec_discarded_answers", "Answers of the accelerator that came too late."),
    ("opened", "qdec_streams_opened", "Streams opened or resumed."),
    ("closed", "qdec_streams_closed", "Streams closed or given up."),
    ("auth_failures", "qdec_auth_failures", "Handshakes that failed for want of a right key."),
    ("denied", "qdec_denied_requests", "Requests that the client's key has no right to."),
    ("throttled", "qdec_throttled_messages", "Messages dropped: their key had sent too many."),
)
_ACCELERATOR_COUNTERS = (
    ("windows", "qdec_accelerator_windows", "Windows that the accelerator decoded."),
    ("batches", "qdec_accelerator_batches", "Batches in which it decoded them."),
    ("unknown", "qdec_accelerator_unknown_windows", "Windows of a kind that it has not compiled."),
    ("failed", "qdec_accelerator_failed_windows", "Windows on which its decoder failed."),
)
_LANE_GAUGES = (
    ("open_streams", "qdec_open_streams", "Streams open now."),
    ("backlog_rounds", "qdec_backlog_rounds", "Rounds received and not yet committed."),
    ("credits_rounds", "qdec_credits_rounds", "Rounds that clients may still send."),
)
_STREAM_COUNTERS = (
    ("rounds", "qdec_stream_rounds", "Rounds accepted."),
    ("rounds_erased", "qdec_stream_erased_rounds", "Rounds given up as lost."),
)
_STREAM_GAUGES = (
    ("open", "qdec_stream_open", "1 while a client has the stream open."),
    ("backlog_rounds", "qdec_stream_backlog_rounds", "Rounds received and not yet committed."),
    ("credits_rounds", "qdec_stream_credits_rounds", "Rounds that the client may still send."),
)


class ArenaCollector(Collector):
    """Reads the arena whenever Prometheus asks."""

    def __init__(self, reader: Reader, config: Callable[[], Config]) -> None:
        """Expose the lanes and streams of what `config` says at the time."""
        self._reader = reader
        self._config = config
        self._build = {
            "version": __version__,
            "python": platform.python_version(),
            "pymatching": version("pymatching"),
        }

    def collect(self) -> Iterator[Metric]:
        """Every family, for every lane and stream configured, counted or not."""
        config, reading = self._config(), self._reader.read()
        yield InfoMetricFamily("qdec_build", "Version of the service.", value=self._build)
        yield from _service(len(config.lane), reading)
        yield from _accelerator(reading)
        nothing = LaneStats()
        lanes = [reading.lanes.get(i, nothing) for i in range(len(config.lane))]
        yield from _lanes(lanes)
        silence = StreamStats()
        parts = ((s.name, part) for s in config.stream for part in range(s.parts))
        streams = {one: reading.streams.get(tally_name(*one), silence) for one in parts}
        yield from _streams(streams)
        yield from _objectives(config.stream, streams)


def _service(lanes: int, reading: Reading) -> Iterator[Metric]:
    head = reading.head
    yield GaugeMetricFamily(
        "qdec_start_time_seconds",
        "When the service was started, in seconds since 1970.",
        value=head.started_ns / 1e9,
    )
    yield CounterMetricFamily(
        "qdec_gateway_restarts",
        "Processes that served metrics and died.",
        value=head.gateway_restarts,
    )
    yield CounterMetricFamily(
        "qdec_rollbacks",
        "Changes of codes, priors, networks or settings that were taken back.",
        value=head.rollbacks,
    )
    up = GaugeMetricFamily("qdec_lane_up", "1 while the lane is served.", labels=["lane"])
    since = GaugeMetricFamily(
        "qdec_lane_start_time_seconds",
        "Since when the lane's process has served it, in seconds since 1970; 0 if it never was.",
        labels=["lane"],
    )
    restarts = CounterMetricFamily(
        "qdec_lane_restarts", "Processes that served the lane and died.", labels=["lane"]
    )
    for lane in range(lanes):
        up.add_metric([str(lane)], head.up[lane])
        since.add_metric([str(lane)], head.up_since_ns[lane] / 1e9)
        restarts.add_metric([str(lane)], head.restarts[lane])
    yield from (up, since, restarts)


def _accelerator(reading: Reading) -> Iterator[Metric]:
    counted = reading.accelerator
    yield GaugeMetricFamily(
        "qdec_accelerator_up",
        "1 while there is an accelerator that serves.",
        value=int(counted.generation != 0),
    )
    yield CounterMetricFamily(
        "qdec_accelerator_restarts",
        "Accelerators that served and died.",
        value=reading.head.accelerator_restarts,
    )
    for attribute, name, words in _ACCELERATOR_COUNTERS:
        yield CounterMetricFamily(name, words, value=getattr(counted, attribute))
    skipped = CounterMetricFamily(
        "qdec_accelerator_skipped_windows",
        "Windows that the accelerator did not begin, because they would have been late.",
        labels=["reason"],
    )
    for reason, windows in zip(SKIP_REASONS, counted.skipped, strict=False):
        skipped.add_metric([reason], windows)
    yield skipped
    for name, words, durations in (
        ("batch", "What the engine worked at a batch in the accelerator.", counted.batch_words),
        ("wait", "Time of a window in the accelerator before it was begun.", counted.wait_words),
    ):
        family = HistogramMetricFamily(f"qdec_accelerator_{name}_duration_seconds", words)
        _add_histogram(family, [], Histogram(durations))
        yield family


def _lanes(lanes: list[LaneStats]) -> Iterator[Metric]:
    for attribute, name, words in _LANE_COUNTERS:
        counter = CounterMetricFamily(name, words, labels=["lane"])
        for i, lane in enumerate(lanes):
            counter.add_metric([str(i)], getattr(lane, attribute))
        yield counter
    for attribute, name, words in _LANE_GAUGES:
        gauge = GaugeMetricFamily(name, words, labels=["lane"])
        for i, lane in enumerate(lanes):
            gauge.add_metric([str(i)], getattr(lane, attribute))
        yield gauge
    yield from _answers(lanes)
    fallbacks = CounterMetricFamily(
        "qdec_fallback_windows",
        "Windows of accelerated streams that the lane answered itself, by reason.",
        labels=["lane", "reason"],
    )
    for i, lane in enumerate(lanes):
        for reason, count in lane.fallbacks.items():
            fallbacks.add_metric([str(i), reason], count)
    yield fallbacks
    breakers = GaugeMetricFamily(
        "qdec_breaker_open",
        "1 while the lane asks the accelerator for this tier by probes only.",
        labels=["lane", "tier"],
    )
    overdue = GaugeMetricFamily(
        "qdec_overdue_seconds",
        "How far past its deadline the oldest window is that is accepted and not answered.",
        labels=["lane"],
    )
    now = time.monotonic_ns()
    for i, lane in enumerate(lanes):
        for tier in Tier:
            breakers.add_metric([str(i), tier.label], lane.breaker_words[tier])
        due = lane.oldest_due_ns
        overdue.add_metric([str(i)], max(0, now - due) / 1e9 if due else 0)
    yield from (breakers, overdue)
    stages = HistogramMetricFamily(
        "qdec_stage_duration_seconds",
        "Time of a window in each stage: queue, decode or accelerator, answer; window for all.",
        labels=["lane", "stage"],
    )
    for i, lane in enumerate(lanes):
        for stage in LaneStats.STAGES:
            _add_histogram(stages, [str(i), stage], getattr(lane, stage))
    yield stages


def _answers(lanes: list[LaneStats]) -> Iterator[Metric]:
    windows = CounterMetricFamily(
        "qdec_windows",
        "Windows answered: in_time, late, or preempted (late by the operating system's doing).",
        labels=["lane", "tier", "outcome"],
    )
    misses = CounterMetricFamily(
        "qdec_deadline_misses",
        "Windows answered after their deadline, for whatever reason.",
        labels=["lane"],
    )
    for i, lane in enumerate(lanes):
        missed = 0
        for tier in Tier:
            answers = lane.answers(tier)
            missed += answers[LATE] + answers[PREEMPTED]
            for outcome, count in zip(OUTCOMES, answers, strict=True):
                windows.add_metric([str(i), tier.label, outcome], count)
        misses.add_metric([str(i)], missed)
    yield from (windows, misses)


def _streams(streams: dict[tuple[str, int], StreamStats]) -> Iterator[Metric]:
    for attribute, name, words in _STREAM_COUNTERS:
        counter = CounterMetricFamily(name, words, labels=["stream", "part"])
        for (stream, part), counted in streams.items():
            counter.add_metric([stream, str(part)], getattr(counted, attribute))
        yield counter
    for attribute, name, words in _STREAM_GAUGES:
        gauge = GaugeMetricFamily(name, words, labels=["stream", "part"])
        for (stream, part), counted in streams.items():
            gauge.add_metric([stream, str(part)], getattr(counted, attribute))
        yield gauge
    windows = CounterMetricFamily(
        "qdec_stream_windows", "Windows answered, by outcome.", labels=["stream", "part", "outcome"]
    )
    durations = HistogramMetricFamily(
        "qdec_stream_window_duration_seconds",
        "From a window's last byte in the lane to its commit.",
        labels=["stream", "part"],
    )
    for (stream, part), counted in streams.items():
        for outcome in OUTCOMES:
            windows.add_metric([stream, str(part), outcome], getattr(counted, outcome))
        _add_histogram(durations, [stream, str(part)], counted.window)
    yield from (windows, durations)


def _objectives(
    configured: Sequence[StreamConfig], counted: dict[tuple[str, int], StreamStats]
) -> Iterator[Metric]:
    """Of a stream that lanes share, what its parts count adds up, and the worst burn rate is its.

    (Each part of a window is answered for itself, and is a window to them.)
    """
    windows = CounterMetricFamily(
        "qdec_slo_windows", "Windows answered: what objectives are shares of.", labels=["stream"]
    )
    violations = CounterMetricFamily(
        "qdec_slo_violations",
        "Windows that broke an objective: latency, deadline, confidence or fallback.",
        labels=["stream", "objective"],
    )
    budget = GaugeMetricFamily(
        "qdec_slo_budget_ratio",
        "Share of windows that may break the objective.",
        labels=["stream", "objective"],
    )
    rate = GaugeMetricFamily(
        "qdec_slo_burn_rate",
        "How many times faster than allowed the objective's budget is spent.",
        labels=["stream", "objective", "window"],
    )
    paused = GaugeMetricFamily(
        "qdec_stream_paused",
        "1 while the stream's controller is asked to pause, for this reason.",
        labels=["stream", "reason"],
    )
    for stream in configured:
        name = stream.name
        parts = [counted[name, part] for part in range(stream.parts)]
        totals = [part.answers_and_violations for part in parts]
        windows.add_metric([name], sum(answers for answers, _ in totals))
        for i, objective in enumerate(OBJECTIVES):
            violations.add_metric([name, objective], sum(broken[i] for _, broken in totals))
            budget.add_metric([name, objective], stream.slo.budgets[i])
            for j, (window, _) in enumerate(WINDOWS):
                worst = max(part.burn[i][j] for part in parts)
                rate.add_metric([name, objective, window], worst)
        for reason in PauseReason:
            asked = any(part.paused == reason for part in parts)
            paused.add_metric([name, reason.name.lower()], int(asked))
    yield from (windows, violations, budget, rate, paused)


def _add_histogram(
    family: HistogramMetricFamily, labels: list[str], durations: Histogram | Octaves
) -> None:
    octaves = durations.octaves
    buckets = []
    below = sum(octaves[:_FIRST_EDGE])
    for edge in range(_FIRST_EDGE, _LAST_EDGE + 1):
        buckets.append((repr((1 << edge) / 1e9), below))
        below += octaves[edge]
    buckets.append(("+Inf", below + sum(octaves[_LAST_EDGE + 1 :])))
    family.add_metric(labels, buckets, sum_value=durations.total_ns / 1e9)
