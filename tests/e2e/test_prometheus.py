"""The gateway of a running service, scraped by a real Prometheus and by hand."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from helpers.prometheus import free_port, get, prometheus, query, until
from helpers.services import serving_pid
from qdec.client import Commits, Patience, Stream, open_stream, service_status
from qdec.codes import Code
from qdec.commit import Flag
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import Service, running_service

TEXT = str(memory(3, 8, 0.003))
PATIENT = Patience(silence_s=0.05, give_up_s=30)
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def service_with_gateway(tmp_path: Path, **options: Any) -> Iterator[tuple[Service, str]]:
    """A service of two streams, of which "hasty" allows a microsecond; and its gateway's URL."""
    code = tmp_path / "d3.stim"
    code.write_text(TEXT)
    listen = f"127.0.0.1:{free_port()}"
    tables = f'[gateway]\nlisten = "{listen}"\n'
    for name, deadline_us in (("hasty", 1), ("patient", 10**9)):
        tables += (
            f'[[stream]]\nname = "{name}"\ncode = "{code}"\nendless = true\n'
            f'windows = "20,10"\ndeadline_us = {deadline_us}\n'
        )
    with running_service(tables=tables, **options) as service:
        url = f"http://{listen}"
        until(lambda: get(f"{url}/readyz")[0], wanted=lambda s: s == 200, log=service.log)
        yield service, url


def series(url: str) -> Series:
    status, page = get(f"{url}/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def only(found: Series, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def play(stream: Stream, rounds: int, seed: int = 0) -> np.ndarray:
    """Stream one shot; the commits of its windows."""
    sampler = EndlessSampler(Code.parse("circuit", TEXT), seed)
    records = np.concatenate([sampler.next(rounds - 20), sampler.close(rounds)])
    commits: list[Commits] = []
    for start in range(0, rounds, 25):
        chunk = np.ascontiguousarray(records[start : start + 25])
        stream.send(chunk, last=start + 25 >= rounds)
        commits += stream.poll(0.001)
    return np.concatenate(commits + stream.drain())


def test_a_real_prometheus_counts_what_the_client_saw(tmp_path: Path) -> None:
    with (
        service_with_gateway(tmp_path) as (service, url),
        prometheus(tmp_path, url.removeprefix("http://")) as prom,
    ):
        with open_stream(service.endpoint, "hasty") as hasty:
            hasty_rows = play(hasty, 600, seed=1)
        with open_stream(service.endpoint, "patient") as patient:
            patient_rows = play(patient, 900, seed=2)
        late = int(((hasty_rows["flags"] & Flag.LATE) != 0).sum())
        windows = len(hasty_rows) + len(patient_rows)
        assert late == len(hasty_rows)
        assert not (patient_rows["flags"] & Flag.LATE).any()
        expected = {
            "sum(qdec_windows_total)": windows,
            'sum(qdec_windows_total{tier="matching"})': windows,
            'sum(qdec_windows_total{outcome!="in_time"})': late,
            "sum(qdec_deadline_misses_total)": late,
            'sum(qdec_stream_windows_total{stream="patient"})': len(patient_rows),
            'sum(qdec_stream_windows_total{stream="hasty",outcome="in_time"})': 0,
            "sum(qdec_rounds_total)": 1500,
            'qdec_stage_duration_seconds_count{stage="window"}': windows,
            'qdec_stage_duration_seconds_bucket{stage="decode",le="+Inf"}': windows,
            "qdec_lane_up": 1,
            "qdec_build_info": 1,
            "qdec_open_streams": 0,
            "qdec_backlog_rounds": 0,
            'up{job="qdec"}': 1,
        }
        answers = until(
            lambda: {promql: query(prom, promql) for promql in expected},
            wanted=lambda found: found == expected,
            log=service.log,
        )
        assert answers == expected
        # And over the histogram: the median, in seconds, is a time that a window can take.
        promql = (
            "histogram_quantile(0.5, "
            'sum by (le) (qdec_stage_duration_seconds_bucket{stage="decode"}))'
        )
        median = query(prom, promql)
        assert median is not None
        assert 0 < median < 1


def children(service: Service, module: str) -> list[psutil.Process]:
    return [c for c in psutil.Process(service.pid).children() if module in c.cmdline()]


def falling(before: Series, after: Series) -> list[object]:
    """Counters of lanes and streams that are less than they were, or gone."""
    ends = ("_total", "_bucket", "_count", "_sum")
    return [
        key
        for key, value in before.items()
        if key[0].startswith("qdec_") and key[0].endswith(ends) and after.get(key, -1.0) < value
    ]


def test_counters_go_on_when_a_lane_is_killed(tmp_path: Path) -> None:
    with (
        service_with_gateway(tmp_path, spare_lanes=1) as (service, url),
        open_stream(service.endpoint, "patient", patience=PATIENT) as stream,
    ):
        seen = len(play(stream, 500, seed=1))
        readings = [series(url)]
        assert only(readings[0], "qdec_stream_rounds_total", stream="patient", part="0") == 500
        for restarts in (1, 2):
            os.kill(serving_pid(service), signal.SIGKILL)
            seen += len(play(stream, 500, seed=1 + restarts))
            found = until(
                lambda: series(url),
                wanted=lambda s, n=restarts: only(s, "qdec_lane_restarts_total", lane="0") == n,
                log=service.log,
            )
            assert falling(readings[-1], found) == []
            readings.append(found)
            # Let the next spare get warm: a lane's place is taken at once, but by somebody.
            until(
                lambda: len(children(service, "qdec.lane.process")),
                wanted=lambda n: n == 2,
                log=service.log,
            )
        assert stream.resumes >= 2
        # Rounds and windows may have been answered twice, but none is forgotten.
        last = readings[-1]
        answered = sum(v for (name, _), v in last.items() if name == "qdec_windows_total")
        assert answered >= seen
        assert only(last, "qdec_rounds_total", lane="0") >= 1500
        assert only(last, "qdec_lane_up", lane="0") == 1
        until(
            lambda: only(series(url), "qdec_open_streams", lane="0"),
            wanted=lambda n: n == 1,
            log=service.log,
        )


def test_a_killed_gateway_comes_back_and_no_stream_notices(tmp_path: Path) -> None:
    with (
        service_with_gateway(tmp_path) as (service, url),
        open_stream(service.endpoint, "patient") as stream,
    ):
        seen = len(play(stream, 300, seed=1))
        before = series(url)
        (gateway,) = children(service, "qdec.gateway.process")
        gateway.kill()
        seen += len(play(stream, 300, seed=2))
        until(lambda: get(f"{url}/healthz")[0], wanted=lambda s: s == 200, log=service.log)
        after = series(url)
        assert falling(before, after) == []
        assert stream.resumes == 0
        assert only(after, "qdec_gateway_restarts_total") == 1
        assert only(after, "qdec_lane_restarts_total", lane="0") == 0
        windows = (v for (name, _), v in after.items() if name == "qdec_stream_windows_total")
        assert sum(windows) == seen


def test_a_gateway_that_cannot_bind_keeps_nobody_from_serving(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        tables = f'[gateway]\nlisten = "127.0.0.1:{port}"\n'
        with running_service(tables=tables) as service:
            until(
                lambda: service.log.read_text(),
                wanted=lambda text: "cannot serve metrics on" in text,
                log=service.log,
            )
            assert service_status(service.endpoint)["streams"] == []


def test_not_ready_while_a_lane_is_missing_and_gone_with_the_service(tmp_path: Path) -> None:
    with service_with_gateway(tmp_path) as (service, url):
        # There is no spare: until another child is warm, nobody serves the lane.
        os.kill(serving_pid(service), signal.SIGKILL)
        until(
            lambda: get(f"{url}/readyz"),
            wanted=lambda answer: answer == (503, "not served: lane 0\n"),
            log=service.log,
        )
        assert get(f"{url}/healthz")[0] == 200
        until(lambda: get(f"{url}/readyz")[0], wanted=lambda s: s == 200, log=service.log)
        (gateway,) = children(service, "qdec.gateway.process")
        os.kill(service.pid, signal.SIGTERM)
        gateway.wait(30)
        assert get(f"{url}/healthz")[0] == 0


def test_sighup_moves_the_gateway_and_takes_it_away(tmp_path: Path) -> None:
    with (
        service_with_gateway(tmp_path) as (service, url),
        open_stream(service.endpoint, "patient") as stream,
    ):
        seen = len(play(stream, 200, seed=1))
        text = service.config.read_text()
        moved = f"127.0.0.1:{free_port()}"
        service.config.write_text(text.replace(url.removeprefix("http://"), moved))
        os.kill(service.pid, signal.SIGHUP)
        moved_url = f"http://{moved}"
        until(lambda: get(f"{moved_url}/readyz")[0], wanted=lambda s: s == 200, log=service.log)
        until(lambda: get(f"{url}/healthz")[0], wanted=lambda s: s == 0, log=service.log)
        windows = (
            v for (name, _), v in series(moved_url).items() if name == "qdec_stream_windows_total"
        )
        assert sum(windows) == seen

        service.config.write_text(text.replace(f'[gateway]\nlisten = "{url[7:]}"\n', ""))
        os.kill(service.pid, signal.SIGHUP)
        until(lambda: get(f"{moved_url}/healthz")[0], wanted=lambda s: s == 0, log=service.log)
        play(stream, 200, seed=2)
        assert stream.resumes == 0
        assert children(service, "qdec.gateway.process") == []
