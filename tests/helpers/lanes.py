"""A lane without sockets, stepped message by message, with its clock and its peers in hand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdec.accelerator.link import Link
from qdec.bits import Bytes
from qdec.bus import wire
from qdec.bus.records import commit_dtype, read_records
from qdec.bus.wire import Commit, Error, Open, OpenBody, Opened, OpenedBody, Rounds, RoundsFlag
from qdec.config import Config, LaneConfig, ServiceSection, StreamConfig, StreamDefaults
from qdec.errors import WireCode
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec.lane.stats import Slot

KEY = b"k" * 32
# Compiled codes and windows are shared by all tests: they hold nothing of a stream.
LIBRARY = Library()
SAME_AFTER_RESUME = ("window", "first_round", "count", "frame", "seam", "flags")


def config(*streams: StreamConfig, lanes: int = 1, guests: bool = True, **service: Any) -> Config:
    # No LATE flags and no pauses unless a test asks for them: the tests' clock is their own.
    return Config(
        service=ServiceSection(**service),
        defaults=StreamDefaults(deadline_us=1_000_000_000, ring_rounds=256),
        lane=tuple(
            LaneConfig(endpoints=(f"tcp://127.0.0.1:{7600 + i}",), guests=guests)
            for i in range(lanes)
        ),
        stream=streams,
    )


Reply = tuple[wire.FromLane, bytes]


class Lane:
    """A `LaneCore` and what it sent to whom."""

    def __init__(
        self,
        settings: Config | None = None,
        *,
        key: bytes = KEY,
        lane: int = 0,
        tick: int = 0,
        slot: Slot | None = None,
        link: Link | None = None,
        library: Library = LIBRARY,
    ) -> None:
        """With a `tick`, each look at the clock takes so many ns: then slices end."""
        self.now = 1_000_000_000
        self._tick = tick
        self.core = LaneCore(settings or config(), lane, key, library, self._clock, slot, link)
        self.gone: set[bytes] = set()
        self._inbox: dict[bytes, list[Reply]] = defaultdict(list)

    def _clock(self) -> int:
        self.now += self._tick
        return self.now

    def tell(self, peer: bytes, *parts: bytes) -> list[Reply]:
        """Hand the lane a message; what `peer` got since it was last asked."""
        self.core.receive(peer, list(parts))
        return self.hear(peer)

    def deliver(self) -> None:
        """Send what is in the outbox, as the process around the core does."""
        while self.core.outbox:
            outbox, self.core.outbox = self.core.outbox, []
            for peer, parts in outbox:
                if peer not in self.gone:
                    body = parts[1] if len(parts) > 1 else b""
                    self._inbox[peer].append((wire.decode_from_lane(parts[0]), body))
                self.core.sent(peer, peer not in self.gone)

    def hear(self, peer: bytes) -> list[Reply]:
        self.deliver()
        return self._inbox.pop(peer, [])

    def work(self) -> None:
        while self.core.work():
            self.deliver()

    @property
    def stats(self) -> dict[str, Any]:
        return self.core.stats.as_dict()


@dataclass
class Stream:
    """The least a client must do, and nothing of `qdec.client`."""

    lane: Lane
    peer: bytes = b"peer"
    code: tuple[bytes, ...] = ()
    handle: int = 0
    epoch: int = 0
    seq: int = 0
    info: OpenedBody | None = None
    credit_until: int = 0
    retain_from: int = 0
    cursor: bytes = b""
    taken: list[np.ndarray] = field(default_factory=list)
    others: list[wire.FromLane] = field(default_factory=list)

    def ask(
        self, *, stream: str = "s", cursor: bytes = b"", request: int = 7, **options: Any
    ) -> wire.FromLane:
        """OPEN, or RESUME if there is a cursor; the reply."""
        body = OpenBody(stream=stream, cursor=cursor, **options)
        header = wire.encode(Open(request, body, bool(cursor)))
        replies = self.lane.tell(self.peer, header, *self.code)
        assert len(replies) == 1, replies
        return replies[0][0]

    def open(self, **options: Any) -> Stream:
        """Open or resume, which must succeed."""
        reply = self.ask(**options)
        assert isinstance(reply, Opened), reply
        assert reply.request == options.get("request", 7)
        self.handle, self.epoch, self.info = reply.handle, reply.epoch, reply.body
        self.credit_until, self.cursor = reply.body.credit_until, reply.body.cursor
        self.retain_from = reply.body.next_round
        return self

    @property
    def dtype(self) -> np.dtype[np.void]:
        assert self.info is not None
        return commit_dtype(self.info.frame_bytes, self.info.seam_bytes)

    def rounds(
        self,
        first: int,
        records: Bytes,
        *,
        last: bool = False,
        lost: Bytes | None = None,
        **changed: Any,
    ) -> tuple[bytes, bytes]:
        """Header and body of a ROUNDS message, with fields to one's liking."""
        flags = (RoundsFlag.LAST if last else 0) | (RoundsFlag.LOST if lost is not None else 0)
        self.seq += 1
        fields = {
            "handle": self.handle,
            "epoch": self.epoch,
            "seq": self.seq,
            "first_round": first,
            "count": len(records),
            "flags": int(flags),
            "t_send": 1000 + first,
        }
        body = records.tobytes() + (lost.tobytes() if lost is not None else b"")
        return wire.encode(Rounds(**{**fields, **changed})), body

    def send(self, first: int, records: Bytes, **options: Any) -> Error | None:
        """Send rounds; the ERROR that came back, if any. Commits wait for `collect`."""
        self._sort(self.lane.tell(self.peer, *self.rounds(first, records, **options)))
        errors = [m for m in self.others if isinstance(m, Error)]
        assert len(errors) <= 1, errors
        self.others = [m for m in self.others if not isinstance(m, Error)]
        return errors[0] if errors else None

    def collect(self) -> np.ndarray:
        """Let the lane work; the commits that it sent, one row per window."""
        self.lane.work()
        return self.collect_once()

    def collect_once(self) -> np.ndarray:
        """The commits that the lane has sent so far."""
        self._sort(self.lane.hear(self.peer))
        taken, self.taken = self.taken, []
        return np.concatenate([np.zeros(0, self.dtype), *taken])

    def _sort(self, replies: list[Reply]) -> None:
        for message, body in replies:
            if isinstance(message, Commit) and message.epoch == self.epoch:
                self.taken.append(read_records(body, message.n, self.dtype))
                self.credit_until, self.cursor = message.credit_until, message.cursor
                self.retain_from = message.retain_from
            else:
                self.others.append(message)


def code_of(kind: WireCode | None, reply: wire.FromLane | None) -> None:
    """Assert that a reply is the ERROR with this code (or that there is none)."""
    if kind is None:
        assert reply is None
        return
    assert isinstance(reply, Error), reply
    assert WireCode(reply.code) is kind, reply


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Assert that commits agree in everything but times."""
    for name in SAME_AFTER_RESUME:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
