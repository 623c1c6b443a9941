"""A lane without its sockets: messages in, messages out, windows decoded in between.

The process around it (`qdec.lane.process`) receives, calls `receive` and `work`, and sends what is
in `outbox`. Tests step it message by message.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from qdec import __version__
from qdec.accelerator.link import Link
from qdec.bus import wire
from qdec.bus.wire import (
    Closed,
    Error,
    FromLane,
    Open,
    Opened,
    Pause,
    PauseReason,
    Proceed,
    Redirect,
    Rounds,
    StatusReply,
    encode,
)
from qdec.commit import Job, run_jobs
from qdec.config import Config
from qdec.errors import QdecError, WireCode, WireError
from qdec.lane.burn import NO_BURN
from qdec.lane.degraded import Verdict
from qdec.lane.library import Library
from qdec.lane.offload import Offload
from qdec.lane.opening import Doorkeeper, ElsewhereError, Opening, opened_body
from qdec.lane.schedule import NEVER
from qdec.lane.sections import Sections
from qdec.lane.session import Arrival, Session
from qdec.lane.stats import Slot
from qdec.lane.watchdog import Watches
from qdec.security.access import LOCAL, STATUS, Access, OpenStream, Watch
from qdec.security.rarely import Rarely

Outgoing = tuple[bytes, list[bytes]]
log = logging.getLogger("qdec.lane")
# Windows per call of a decoder.
_MAX_BATCH = 64
# How long `work` goes on before input is looked at again.
_SLICE_NS = 500_000
# Who sends more than it may is told so at most this often; what it sends meanwhile is dropped.
_TELL_NS = 100_000_000
# A stream's objectives are judged at one in so many calls of `show`: about once a second, and not
# all streams' at a time.
_SHOWS_PER_STEP = 10


class LaneCore:
    """The state of one lane.

    Attributes:
        outbox: (peer, message parts) to send, oldest first.
        stats: counters.
        draining: no new streams; what was accepted is still answered.
        arrived: the last time at which the receive queue was empty, so that what is received now
            came after it; None where the caller does not know.
        idle: the last time at which there was nothing to receive and nothing to decode.
        access: who may do what.
    """

    def __init__(
        self,
        config: Config,
        lane: int,
        key: bytes,
        library: Library,
        clock: Callable[[], int] = time.monotonic_ns,
        slot: Slot | None = None,
        link: Link | None = None,
    ) -> None:
        """Serve a lane.

        Args:
            config: of the service.
            lane: which of its lanes.
            key: authenticates cursors.
            library: what is compiled.
            clock: ns of CLOCK_MONOTONIC.
            slot: where to count; privately if None.
            link: to the accelerator.
        """
        self.outbox: list[Outgoing] = []
        self._slot = slot or Slot()
        self.stats = self._slot.lane
        self.draining = False
        self.arrived: Arrival | None = None
        self.idle: Arrival | None = None
        self._key = key
        self._clock = clock
        self._doorkeeper = Doorkeeper(config, lane, key, library)
        self._sessions: dict[int, Session] = {}
        self._by_name: dict[str, Session] = {}
        self._sections = Sections(self._cannot_go_on)
        self._ready = self._sections.ready
        self._link = link
        self._offload: Offload | None = None  # for who needs it
        self._next_handle = 1
        self._last_epoch = 0
        self._probed: dict[bytes, list[tuple[bytes, Open, list[bytes], str]]] = {}
        self.access = Access(config.keys)
        self._rarely = Rarely(log)
        self._tell_at: dict[str, int] = {}
        self._watches = Watches(self._slot, config)
        self._shown = 0

    @property
    def sessions(self) -> int:
        """Open streams."""
        return len(self._sessions)

    @property
    def waiting(self) -> bool:
        """Whether `work` has left something to do."""
        return bool(self._ready)

    @property
    def awaiting(self) -> bool:
        """Whether windows are in the accelerator's hands."""
        return self._offload is not None and self._offload.busy

    @property
    def wake_at(self) -> float:
        """When `work` has to be called again at the latest, in seconds of CLOCK_MONOTONIC."""
        return math.inf if self._offload is None else self._offload.wake_at / 1e9

    def configure(self, config: Config) -> None:
        """Use a new configuration for streams that open from now on, and its objectives for all.

        A stream that belongs to another lane now is closed here: resuming leads its client there.
        So is one whose client has no right to it any more.
        """
        self._doorkeeper.config = config
        self.access.adopt(config.keys)
        self._watches.adopt(config)
        if self._offload is not None:
            self._offload.margin.least = config.accelerator.margin_us * 1000
        owns = self._doorkeeper.owns
        for session in list(self._sessions.values()):
            revoked = self.access.authorise(session.user, OpenStream(session.terms.stream))
            if revoked:
                name = session.terms.stream
                log.warning("stream %s is closed: %s", name, revoked, extra={"stream": name})
            if revoked or not owns(session.terms):
                self._drop(session)
                self._send(session.peer, Closed(session.handle, session.epoch))
        self._bound_sections()

    # -- in ------------------------------------------------------------------------------------

    def receive(self, peer: bytes, parts: list[bytes], user: str = LOCAL) -> None:
        """Take one message of a client; `parts` are header and body parts."""
        self.stats.messages += 1
        size = 0
        for part in parts:
            size += len(part)
        self.stats.bytes_in += size
        if user != LOCAL and not self._within_limits(peer, size, user):
            return
        reference = 0
        handle = epoch = 0
        try:
            message = wire.decode_from_client(parts[0])
            match message:
                case Rounds():
                    reference, handle, epoch = message.seq, message.handle, message.epoch
                    if len(parts) != 2:
                        raise WireError(WireCode.BAD_FRAME, "ROUNDS has a header and one body")
                    session = self._session(peer, user, handle)
                    session.on_rounds(message, parts[1], self._clock(), self.stats, self.arrived)
                    if session.decoder.ready(1):
                        self._ready[handle] = session
                case Open():
                    reference = message.request
                    _bound_parts(parts, wire.MAX_PARTS)
                    self._on_open(peer, user, message, parts[1:])
                case wire.Ping():
                    handle, epoch = message.handle, message.epoch
                    _bound_parts(parts, 1)
                    session = self._session(peer, user, handle, epoch)
                    self._send(peer, session.credit)
                case wire.Close():
                    handle, epoch = message.handle, message.epoch
                    _bound_parts(parts, 1)
                    session = self._session(peer, user, handle, epoch)
                    self._drop(session)
                    self._send(peer, Closed(handle, epoch))
                case wire.Status():
                    reference = message.request
                    _bound_parts(parts, 1)
                    self._authorise(user, Watch(STATUS))
                    self._send(peer, StatusReply(message.request, self.status()))
        except QdecError as error:
            self._refuse(peer, handle, epoch, reference, error)
        except Exception as error:
            log.exception("a message of %d parts broke something", len(parts))
            self._refuse(peer, handle, epoch, reference, error)

    def _refuse(
        self, peer: bytes, handle: int, epoch: int, reference: int, error: Exception
    ) -> None:
        self.stats.errors += 1
        code, detail = WireCode.INTERNAL, 0
        words = "the service failed at this request; its log says how"
        if isinstance(error, QdecError):
            code, words = error.wire, str(error)[:1000]
        if isinstance(error, WireError):
            detail = error.detail
        self._send(peer, Error(handle, epoch, reference, code, words, detail))

    def _within_limits(self, peer: bytes, size: int, user: str) -> bool:
        """Whether a message is to be looked at; what is not is dropped, and its sender told."""
        now = self._clock()
        broken = self.access.throttle(user, size, now)
        if not broken:
            return True
        self.stats.throttled += 1
        if now >= self._tell_at.get(user, 0):
            self._tell_at[user] = now + _TELL_NS
            words = f"{self.access.name(user)} has sent more than it may: {broken}"
            self._rarely.warning(f"throttled {user}", words)
            told = [(s.handle, s.epoch) for s in self._sessions.values() if s.peer == peer]
            for handle, epoch in told or [(0, 0)]:
                self._refuse(peer, handle, epoch, 0, WireError(WireCode.LIMIT, words))
        return False

    def _authorise(self, user: str, request: OpenStream | Watch) -> None:
        refusal = self.access.authorise(user, request)
        if refusal:
            self.stats.denied += 1
            self._rarely.warning("denied", refusal)
            raise WireError(WireCode.NOT_ALLOWED, refusal)

    def refused_handshake(self) -> None:
        """Count one."""
        self.stats.auth_failures += 1

    def _session(self, peer: bytes, user: str, handle: int, epoch: int | None = None) -> Session:
        session = self._sessions.get(handle)
        if session is None or session.peer != peer or session.user != user:
            raise WireError(WireCode.NOT_OPEN, "no such stream is open here: open or resume it")
        if epoch is not None and epoch != session.epoch:
            raise WireError(WireCode.STALE_EPOCH, "this epoch of the stream is over: resume")
        return session

    def _on_open(self, peer: bytes, user: str, message: Open, parts: list[bytes]) -> None:
        name, guest = message.body.stream, bool(message.body.code)
        others = 0
        if user != LOCAL:
            mine = (s for s in self._sessions.values() if s.user == user)
            others = sum(s.terms.stream != name for s in mine)
        self._authorise(user, OpenStream(name, guest, others))
        if self.draining:
            raise WireError(WireCode.DRAINING, "the service is shutting down: try again later")
        holder = self._by_name.get(message.body.stream)
        if (
            holder is not None
            and not message.resume
            and (message.body.part or 0) == holder.terms.share[0]  # another part is another lane's
        ):
            if holder.peer == peer:
                raise WireError(WireCode.STREAM_BUSY, "you have this stream open already")
            # Its client may be dead: ROUTER knows, once something is sent there.
            self._probed.setdefault(holder.peer, []).append((peer, message, parts, user))
            self._send(holder.peer, holder.credit)
            return
        if holder is None and not self._doorkeeper.has_room(message.body.stream, self._by_name):
            raise WireError(WireCode.LIMIT, f"{len(self._sessions)} streams are open: no more fit")
        try:
            opening = self._doorkeeper.admit(
                message,
                parts,
                busy=bool(self._sessions),
                may_know=lambda one: not self.access.authorise(user, OpenStream(one)),
            )
        except ElsewhereError as elsewhere:
            self._send(peer, Redirect(message.request, elsewhere.endpoint))
            return
        if holder is not None:  # the cursor proves that it is the same client's
            self._drop(holder)
        self._begin(peer, user, message, opening)

    def _begin(self, peer: bytes, user: str, message: Open, opening: Opening) -> None:
        terms, decoder = opening.terms, opening.decoder
        self._last_epoch = max(self._last_epoch + 1, time.time_ns())
        handle = self._next_handle
        self._next_handle += 1
        watch = self._watches.of(terms.stream, terms.share[0], terms.slo, terms.deadline_ns)
        session = Session(handle, self._last_epoch, peer, terms, decoder, self._key, watch, user)
        self._sessions[handle] = session
        self._by_name[terms.stream] = session
        if terms.kinds is not None and self._offload is None:
            margin_ns = self._doorkeeper.config.accelerator.margin_us * 1000
            self._offload = Offload(self._link, self.stats, margin_ns)
            self._sections.offload = self._offload
        self._bound_sections()
        self.stats.opened += 1
        body = opened_body(opening, session)
        self._send(peer, Opened(message.request, handle, session.epoch, body))
        if watch.degradation.paused:
            self._pause(session, PauseReason.DEGRADED)

    def _drop(self, session: Session) -> None:
        session.tally.show(is_open=False)
        session.tally.show_burn(NO_BURN)
        del self._sessions[session.handle]
        self._ready.pop(session.handle, None)
        if self._offload is not None:
            self._offload.forget(session)
        self._bound_sections()
        if self._by_name.get(session.terms.stream) is session:
            del self._by_name[session.terms.stream]
        self.stats.closed += 1

    def _bound_sections(self) -> None:
        most = self._doorkeeper.config.service.max_section_us * 1000
        self._sections.bound(self._sessions.values(), most)

    # -- decode --------------------------------------------------------------------------------

    def work(self) -> int:
        """Decode what is ready, for a while, and put the commits in the outbox.

        Returns:
            Windows answered; 0 when there is nothing left to do.
        """
        offload = self._offload
        if not self._ready and (offload is None or not offload.busy):
            return 0
        answered: dict[int, Session] = {}
        decoded = 0
        now = self._clock()
        until = now + min(_SLICE_NS, self._sections.longest_ns)
        if offload is not None:
            for session in offload.collect(now):
                decoded += 1
                self._answered(session, now)
                answered[session.handle] = session
        while self._ready or (offload is not None and offload.is_urgent(now)):
            jobs = self._sections.next(now)
            if not jobs:
                continue
            self._announce(jobs)
            for job in jobs:
                self.stats.queue.add(max(0, now - job.came.t_recv), len(job.syndrome))
            windows = run_jobs(jobs, _MAX_BATCH)
            ended = self._clock()
            if offload is not None:
                offload.matched(ended)
            self.stats.decode.add((ended - now) // windows, windows)
            decoded += windows
            for session in self._sections.served:
                self._answered(session, ended)
                answered[session.handle] = session
            now = ended
            if now >= until:
                break
        for session in answered.values():
            self._commit(session, now)
        if not self._ready and not self.awaiting:
            self.stats.oldest_due_ns = 0
        return decoded

    def _announce(self, jobs: list[Job]) -> None:
        """Before what cannot be interrupted: who hangs there has said since when."""
        if not self.stats.oldest_due_ns:
            first = jobs[0].came.t_recv + self._sections.served[0].terms.deadline_ns
            self.stats.oldest_due_ns = first

    def _answered(self, session: Session, now: int) -> None:
        """A stream had windows answered; where it waited for them, it may have another now."""
        session.served = now
        if session.terms.kinds is not None and session.decoder.ready(1):
            self._ready[session.handle] = session

    def _cannot_go_on(self, session: Session, error: Exception) -> None:
        log.error("stream %s cannot go on", session.terms.stream, exc_info=error)
        self._refuse(session.peer, session.handle, session.epoch, 0, error)
        self._drop(session)

    def _commit(self, session: Session, decoded: int) -> None:
        """Encode what is next in order; `decoded` is when the last of it was."""
        commits = session.decoder.commits()
        if not commits:
            return
        session.refresh_cursor()
        now = self._clock()
        header, body, windows, worst = session.encode_commits(commits, now, self.stats, self.idle)
        self.stats.answer.add(self._clock() - decoded, windows)
        self.outbox.append((session.peer, [header, body]))
        if session.paused is None and worst > session.terms.pause_ns:
            self._pause(session, PauseReason.OVERLOAD)
        elif session.paused is PauseReason.OVERLOAD and worst < session.terms.deadline_ns:
            session.paused = None
            self._send(session.peer, Proceed(session.handle, session.epoch))

    # -- out -----------------------------------------------------------------------------------

    def _send(self, peer: bytes, message: FromLane) -> None:
        self.outbox.append((peer, [encode(message)]))

    def _pause(self, session: Session, reason: PauseReason) -> None:
        session.paused = reason
        self._send(session.peer, Pause(session.handle, session.epoch, reason))

    def peer_gone(self, peer: bytes) -> None:
        """A message could not be routed: the peer's streams are free for others."""
        self.stats.unroutable += 1
        for session in [s for s in self._sessions.values() if s.peer == peer]:
            self._drop(session)

    def sent(self, peer: bytes, ok: bool) -> None:
        """What became of a message to a peer; settles opens that waited for it."""
        if not ok:
            self.peer_gone(peer)
        for asker, message, parts, user in self._probed.pop(peer, ()):
            if ok:
                self.stats.errors += 1
                reply = Error(
                    0,
                    0,
                    message.request,
                    WireCode.STREAM_BUSY,
                    f"stream '{message.body.stream}' is open for another client",
                    0,
                )
                self._send(asker, reply)
            else:
                self.receive(asker, [encode(message), *parts], user)

    def drain(self) -> None:
        """Stop taking streams and ask every client to pause."""
        self.draining = True
        for session in self._sessions.values():
            self._pause(session, PauseReason.DRAINING)

    def farewell(self) -> None:
        """Tell every client that its stream is closed here; its cursor resumes it elsewhere."""
        for session in list(self._sessions.values()):
            self._drop(session)
            self._send(session.peer, Closed(session.handle, session.epoch))

    def probe(self) -> None:
        """Touch every client, so that dead ones are noticed even if nothing else is sent."""
        for session in self._sessions.values():
            self._send(session.peer, session.credit)

    def show(self) -> None:
        """Bring the gauges up to date; called a few times a second."""
        backlog = credit = 0
        oldest = NEVER
        now = self._clock()
        self._shown += 1
        for session in self._sessions.values():
            decoder = session.decoder
            waiting, free = (
                decoder.received - decoder.retain_from,
                session.credit_until - decoder.received,
            )
            if session.paused is PauseReason.OVERLOAD and session.handle not in self._ready:
                # A client that pauses sends nothing whose answer could say so.
                session.paused = None
                self._send(session.peer, Proceed(session.handle, session.epoch))
            if (session.handle + self._shown) % _SHOWS_PER_STEP == 0:
                self._judge(session, now)
            paused = session.paused or 0
            session.tally.show(is_open=True, backlog=waiting, credit=free, paused=paused)
            came = decoder.oldest()
            if came is not None:
                oldest = min(oldest, came.t_recv + session.terms.deadline_ns)
            backlog += waiting
            credit += free
        self.stats.open_streams = len(self._sessions)
        self.stats.backlog_rounds = backlog
        self.stats.credits_rounds = credit
        self.stats.oldest_due_ns = 0 if oldest == NEVER else oldest
        if self._offload is not None:
            self._offload.show()

    def _judge(self, session: Session, now: int) -> None:
        """Look at a stream's objectives; have its controller pause, or go on."""
        watch, name = session.watch, session.terms.stream
        typical, cap = session.decoder.cost.typical, session.cap_ns
        if typical > cap and not watch.told_slow:
            watch.told_slow = True
            log.warning(
                "windows of stream %s take %.2g ms to decode, and the lane's streams can wait for "
                "%.2g ms: give it a lane of its own, smaller windows, or all of them longer "
                "deadlines",
                name,
                typical / 1e6,
                cap / 1e6,
            )
        verdict = watch.step(now)
        if verdict is None or session.paused is PauseReason.DRAINING:
            return
        if verdict is Verdict.PAUSE:
            log.warning("stream %s is asked to pause: %s", name, watch.degradation.why)
            self._pause(session, PauseReason.DEGRADED)
        elif session.paused is PauseReason.DEGRADED:
            log.warning("stream %s may proceed: its objectives are watched", name)
            session.paused = None
            self._send(session.peer, Proceed(session.handle, session.epoch))

    def status(self) -> dict[str, Any]:
        """Counters and streams, for STATUS_REPLY. Nothing of the data itself."""
        return {
            "version": __version__,
            "draining": self.draining,
            "streams": [
                {
                    "stream": s.terms.stream,
                    "part": str(s.terms.part or ""),
                    "tier": s.terms.tier.label,
                    "windows": str(s.terms.geometry),
                    "next_round": s.decoder.received,
                    "committed": s.decoder.retain_from,
                    "backlog": s.decoder.received - s.decoder.retain_from,
                    "paused": s.paused.name.lower() if s.paused else "",
                    "bytes": s.decoder.nbytes,
                    "code": s.terms.code.digest.hex()[:12],
                    "identity": f"{s.terms.identity:016x}",
                }
                for s in list(self._sessions.values())[:64]
            ],
            **self.stats.as_dict(),
        }


def _bound_parts(parts: list[bytes], most: int) -> None:
    if len(parts) > most:
        raise WireError(
            WireCode.BAD_FRAME, f"this message has at most {most} parts, not {len(parts)}"
        )
