"""``qdec replay``: recorded shots through a running service, or one of its own."""

from __future__ import annotations

import json as json_module
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from qdec.client import ClientKeys, Patience, Stream
from qdec.errors import ServiceUnavailable
from qdec.match import Tier
from qdec.windows import choose_geometry, parse_geometry
from qdec_tools.flow import Flow, Pace
from qdec_tools.recording import Recording, Sources, open_recording
from qdec_tools.replay_result import Tally, as_json, table
from qdec_tools.service import COMPILE_S, exit_on_sigterm, open_patiently, running_service

# Converted at once; bounds memory whatever the file's size.
_BLOCK_SHOTS = 1024
_BLOCK_BYTES = 1 << 20
# One batch of large shots may keep a lane busy for longer than a live stream would wait.
_PATIENCE = Patience(silence_s=2.0)
_NO_PROGRESS_S = 60.0
_INTERRUPTED = 130
_PLAIN_WIDTH = 100  # in files and pipes, where there is no terminal to ask


def run(
    sources: Sources,
    *,
    tier: str = "matching",
    windows: str = "auto",
    shots: int | None = None,
    endpoint: str | None = None,
    keys: ClientKeys | None = None,
    cycle_us: float = 0.0,
    json: bool = False,
) -> int:
    """Replay a recording; print a table, or one JSON object (and the table on stderr).

    Args:
        sources: what to replay.
        tier: ``matching`` or ``correlated``.
        windows: ``auto``, ``whole`` or ``W,C``.
        shots: only the first so many; all if None.
        endpoint: of a running service; a private one is started if None.
        keys: for its TCP endpoint, if that speaks CURVE.
        cycle_us: time per round; 0 for as fast as the service answers.
        json: print one JSON object on stdout.

    Returns:
        Exit status: 0, or 130 after Ctrl-C.

    Raises:
        DataError: files are missing or do not fit.
        ServiceUnavailable: no service answers.
        QdecError: the code cannot be read, or tier or windows do not suit it.
    """
    exit_on_sigterm()
    try:
        recording = open_recording(sources)
        Tier.from_label(tier)
        geometry = parse_geometry(windows)
        if geometry != "auto":  # the lane would refuse it too, but only once it runs
            choose_geometry(geometry, recording.code, endless=False)
        count = len(recording) if shots is None else min(shots, len(recording))
        tally = Tally(recording, count)
        with _lane(endpoint) as lane, _stream(lane, recording, tier, windows, keys) as stream:
            tally.opened(stream.info)
            stream.on_event = tally.event
            with _bar(count) as progress:
                _play(stream, recording, tally, cycle_us, progress)
    except KeyboardInterrupt:
        return _INTERRUPTED
    console = Console(stderr=json)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table(tally))
    if json:
        print(json_module.dumps(as_json(tally)))
    return 0


@contextmanager
def _lane(endpoint: str | None) -> Iterator[str]:
    """The endpoint to use; our own lane may compile for as long as we wait for it."""
    if endpoint is None:
        with running_service(settings={"stall_s": COMPILE_S}) as service:
            yield service.endpoint
        return
    yield endpoint


def _stream(
    endpoint: str, recording: Recording, tier: str, windows: str, keys: ClientKeys | None
) -> Stream:
    return open_patiently(
        endpoint,
        f"replay-{os.getpid()}-{secrets.token_hex(4)}",
        code=recording.text,
        raw=recording.raw,
        tier=tier,
        windows=windows,
        patience=_PATIENCE,
        keys=keys,
    )


def _play(
    stream: Stream, recording: Recording, tally: Tally, cycle_us: float, progress: _Shown
) -> None:
    """Send every shot, never more than a few frames ahead of the commits; take all commits."""
    shot_bytes = stream.info.shot_rounds * stream.info.record_bytes
    block = max(1, min(_BLOCK_SHOTS, _BLOCK_BYTES // shot_bytes))
    flow = Flow(stream.info)
    pace = Pace(cycle_us)
    heard = time.monotonic()

    def take(timeout_s: float) -> None:
        nonlocal heard
        commits = stream.poll(timeout_s)
        if commits:
            heard = time.monotonic()
            tally.add(commits)
            typical_ns = float(np.median(commits[-1]["latency_ns"]))
            flow.heard(typical_ns, stream.committed, stream.sent_until)
            progress(tally.shots)
        elif time.monotonic() - heard > _NO_PROGRESS_S:
            raise ServiceUnavailable(f"no window was answered for {_NO_PROGRESS_S:g} s")

    for start in range(0, tally.wanted, block):
        records = recording.records(start, min(start + block, tally.wanted))
        at = 0
        while at < len(records):
            n, wait_s, ahead, due_ns = min(flow.frame, len(records) - at), 0.05, flow.ahead, None
            if pace.paced:
                # Behind the pace, all that there is credit for may be in flight.
                n, wait_s = pace.due(min(flow.most, len(records) - at))
                ahead, due_ns = max(stream.info.ring_rounds, 2 * flow.most), pace.due_ns(n)
            if not n or stream.sent_until + n > stream.committed + ahead:
                take(wait_s)
                continue
            stream.send(records[at : at + n], t_send=due_ns)
            heard = time.monotonic()
            at += n
            pace.sent += n
            take(0.0)
    while tally.shots < tally.wanted:
        take(0.05)
    tally.finish(time.monotonic() - pace.began)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} shots/s", no_wrap=True)


class _Shown:
    """A progress bar on stderr, if that is a terminal."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._line = bar.add_task("", total=total)
        self._next = 0.0

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if not self._bar.disable and now >= self._next:
            self._next = now + 0.1
            self._bar.update(self._line, completed=done)


@contextmanager
def _bar(total: int) -> Iterator[_Shown]:
    console = Console(stderr=True)
    columns = (
        TextColumn("replay"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        yield _Shown(bar, total)
