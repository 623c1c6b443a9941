"""What a lane agrees to when a client opens or resumes a stream."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdec.bus.cursor import Cursor, unseal
from qdec.bus.wire import Open, OpenBody, OpenedBody
from qdec.codes import Code, Limits
from qdec.codes.code import DEFAULT_LIMITS
from qdec.commit import Flag, ShotDecoder, StreamDecoder, StreamState, WindowBank
from qdec.config import Config, StreamConfig
from qdec.errors import CursorError, GeometryError, WireCode, WireError
from qdec.lane.bounds import rounds_in_flight
from qdec.lane.library import Library, kept_geometry, make_decoder, part_of
from qdec.lane.making import identity
from qdec.lane.session import Session, Terms
from qdec.match import Tier
from qdec.match.escalate import Switching
from qdec.match.tier import FALLBACK
from qdec.windows import Geometry, choose_geometry, parse_geometry
from qdec.windows.cut import answer_bytes

# A guest's code is compiled in the lane's own thread. About five seconds of that are fine where
# nobody else waits, and about one where somebody does: windows of 100 rounds at d=9, say.
_GUEST_COMPONENTS = 1_500_000
_HURRIED_COMPONENTS = {
    Tier.MATCHING: 400_000,
    Tier.CORRELATED: 130_000,
    Tier.GUARDED: 90_000,
    Tier.SPEED: 90_000,
    Tier.ACCURACY: 90_000,
    Tier.ISING: 130_000,
}
_HURRIED = Limits(operations=500_000, targets=1_500_000, detectors=50_000, instructions=100_000)


@dataclass(frozen=True, slots=True)
class Opening:
    """Terms, the decoder that serves them, and what to tell the client.

    Attributes:
        endpoints: of the lanes that share the stream; empty where it is this one's alone.
    """

    terms: Terms
    decoder: StreamDecoder | ShotDecoder
    notes: tuple[str, ...]
    endpoints: tuple[str, ...] = ()


def opened_body(opening: Opening, session: Session) -> OpenedBody:
    """What OPENED says of a stream that has just been opened."""
    terms, decoder = opening.terms, opening.decoder
    frame_bytes, seam_bytes = answer_bytes(terms.code.spacetime)
    return OpenedBody(
        stream=terms.stream,
        next_round=decoder.received,
        next_window=decoder.state.window,
        credit_until=session.credit_until,
        record_bytes=decoder.intake.record_bytes,
        shot_rounds=terms.shot_rounds or 0,
        frame_bytes=frame_bytes,
        seam_bytes=seam_bytes,
        observables=terms.code.num_observables,
        window=terms.geometry.window,
        commit=terms.geometry.commit,
        tier=terms.tier.label,
        deadline_us=terms.deadline_ns // 1000,
        ring_rounds=decoder.credit_until - decoder.retain_from,
        tail_in_one_frame=decoder.intake.tail_in_one_frame,
        code_sha256=terms.code.digest.hex(),
        identity=f"{terms.identity:016x}",
        cursor=session.cursor,
        notes=list(opening.notes),
        part=terms.share[0],
        parts=list(opening.endpoints),
    )


class ElsewhereError(Exception):
    """The stream lives on another lane."""

    def __init__(self, endpoint: str) -> None:
        """Name the endpoint to go to."""
        super().__init__(endpoint)
        self.endpoint = endpoint


class Doorkeeper:
    """Decides on OPEN and RESUME for one lane; compiles what they need."""

    def __init__(self, config: Config, lane: int, key: bytes, library: Library) -> None:
        """See `Config`; `key` authenticates cursors."""
        self.config = config
        self._lane = lane
        self._key = key
        self._library = library

    def has_room(self, stream: str, open_streams: Collection[str]) -> bool:
        """Whether one more stream may open; guests leave room for configured streams."""
        configured = {s.name for s in self.config.stream}
        limit = self.config.service.max_streams
        if stream in configured:
            return len(open_streams) < limit
        absent = len(configured.difference(open_streams))
        return len(open_streams) < limit - absent

    def owns(self, terms: Terms) -> bool:
        """Whether an open stream (or this part of it) still belongs here."""
        stream = self._find(terms.stream)
        part, parts = terms.share
        return stream is None or (stream.parts == parts and stream.owners[part] == self._lane)

    def _find(self, name: str) -> StreamConfig | None:
        return next((s for s in self.config.stream if s.name == name), None)

    def admit(
        self,
        message: Open,
        parts: list[bytes],
        *,
        busy: bool = False,
        may_know: Callable[[str], bool] = lambda _: True,
    ) -> Opening:
        """Agree on terms.

        Args:
            message: the request.
            parts: what came behind its header: code text, round map.
            busy: other streams are served, and wait while a guest's code is compiled. (What is
                resumed was accepted before.)
            may_know: whether the client may be told that there is a stream of this name.

        Raises:
            ElsewhereError: another lane owns the stream.
            QdecError: it was refused, with the wire code to say so.
        """
        body = message.body
        cursor = unseal(body.cursor, body.stream, self._key) if message.resume else None
        configured = self._find(body.stream)
        if configured is not None:
            wanted = self._configured(configured, body, parts)
        else:
            wanted = self._guest(body, may_know)
        hurry = busy and configured is None and cursor is None
        limits = _HURRIED if hurry else DEFAULT_LIMITS
        code = self._code(configured, body, parts, limits).streamed(raw=wanted.raw)
        tier = Tier.from_label(wanted.tier)
        endless = wanted.endless
        if cursor is not None:
            _check_work(cursor, code, wanted, body.part or 0)
            if configured is None:
                tier = Tier(cursor.tier)
        geometry = None
        if cursor is None or (configured is not None and wanted.parts == 1):
            geometry = choose_geometry(
                parse_geometry(wanted.windows),
                code,
                endless=endless,
                distance=wanted.distance,
                short=tier.takes_model,
            )
        if cursor is not None and not (geometry and _begins_at(cursor, geometry)):
            geometry = _pinned(cursor, code, wanted)
        assert geometry is not None
        accelerated = tier.accelerated or (tier is not FALLBACK and wanted.accelerates(tier))
        by_lane = FALLBACK if accelerated else tier
        if configured is None:
            asked = (by_lane, *wanted.switching.tiers)
            most = min(_HURRIED_COMPONENTS[one] for one in asked) if hurry else _GUEST_COMPONENTS
            # What tells how sure answers are is compiled and tried out as well.
            self._check_guest(code, geometry, most // 2 if wanted.switching else most)
        shot_rounds = None if endless else code.spacetime.rounds
        part = part_of(code, wanted, body.part or 0)
        model = wanted.model
        switching = wanted.switching
        mine = switching.of_one_tier if accelerated else switching
        networks = self._library.networks(tier, model, switching)
        # A guest's windows are compiled in no other process.
        if cursor is not None and configured is None and not accelerated:
            _check_answers(cursor, tier, networks, switching)
        bank = self._library.bank(code, by_lane, geometry, shot_rounds, part, model, mine)
        kinds = None
        if accelerated:
            kinds = {}
            if configured is not None:
                kinds = self._library.kinds(bank, tier, shot_rounds, model, switching)
        terms = Terms(
            body.stream,
            code,
            wanted.raw,
            tier,
            geometry,
            shot_rounds,
            wanted.deadline_us * 1000,
            int(self.config.service.gap_ms * 1e6),
            int(self.config.service.pause_ms * 1e6),
            wanted.slo,
            networks,
            switching.digest,
            identity(code, tier, geometry, networks, switching.digest),
            part,
            kinds,
            wanted.credit == "latency",
        )
        return self._open(terms, bank, wanted, cursor)

    def _check_guest(self, code: Code, geometry: Geometry, most: int) -> None:
        """A guest's windows are compiled in the lane's own thread: keep that short."""
        space = code.spacetime
        rounds = geometry.longest or space.rounds
        components = rounds * space.components_per_round
        if components > most:
            raise WireError(
                WireCode.LIMIT,
                f"windows of {rounds} rounds have {components:,} "
                f"mechanisms, too many to compile while serving (limit {most:,}): "
                "choose smaller windows, have the stream configured, or open it on a lane that "
                "serves nobody else",
            )

    def _open(
        self, terms: Terms, bank: WindowBank, wanted: StreamConfig, cursor: Cursor | None
    ) -> Opening:
        code = terms.code
        ring_rounds = rounds_in_flight(
            code,
            terms.geometry,
            raw=terms.raw,
            wanted=wanted.ring_rounds,
            limit=self.config.service.max_stream_bytes,
        )
        fence = self._library.fence(bank)
        decoder = make_decoder(
            bank,
            length=terms.shot_rounds,
            ring_rounds=ring_rounds,
            raw=terms.raw,
            state=None if cursor is None else _state(cursor),
            flags=int(Flag.FENCED) if fence else 0,
            accelerated=terms.kinds is not None,
        )
        hidden = (
            f"{code.undetectable} mechanisms flip no detector: no decoder can correct them"
            if code.undetectable
            else ""
        )
        notes = tuple(note for note in (*bank.notes, _who_answers(terms), fence, hidden) if note)
        lanes = self.config.lane
        return Opening(terms, decoder, notes, tuple(lanes[i].endpoints[0] for i in wanted.lanes))

    def _configured(self, stream: StreamConfig, body: OpenBody, parts: list[bytes]) -> StreamConfig:
        part = body.part or 0
        if body.part is None and stream.parts > 1:
            raise WireError(
                WireCode.BAD_OPTION,
                f"{stream.parts} lanes share stream '{stream.name}': open it in parts, with a "
                "client that can merge them",
            )
        if part >= stream.parts:
            raise WireError(
                WireCode.BAD_OPTION,
                f"stream '{stream.name}' has no part {part}: {stream.parts} "
                f"{'lanes share' if stream.parts > 1 else 'lane decodes'} it (counted from 0)",
            )
        owner = stream.owners[part]
        if owner != self._lane:
            raise ElsewhereError(self.config.lane[owner].endpoints[0])
        given = body.model_dump(exclude_defaults=True, exclude={"stream", "cursor", "raw", "part"})
        if any(parts):
            given["code"] = ...
        for name, value in given.items():
            if value != getattr(stream, name, None):
                raise WireError(
                    WireCode.BAD_OPTION,
                    f"'{name}' of stream '{stream.name}' is set by the service's configuration: "
                    "open it without, or under another name",
                )
        return stream.model_copy(update={"raw": body.raw or stream.raw})

    def _guest(self, body: OpenBody, may_know: Callable[[str], bool]) -> StreamConfig:
        if not body.code:
            names = (stream.name for stream in self.config.stream)
            known = ", ".join(filter(may_know, names)) or "none"
            raise WireError(
                WireCode.UNKNOWN_STREAM,
                f"no stream '{body.stream}' is configured ({known}), and no code was sent",
            )
        if body.part is not None:
            raise WireError(
                WireCode.BAD_OPTION, "only a configured stream can have parts: leave 'part' out"
            )
        if not self.config.lane[self._lane].guests:
            hosts = [lane for lane in self.config.lane if lane.guests]
            if not hosts:
                raise WireError(WireCode.UNKNOWN_STREAM, "this service does not take guests' codes")
            raise ElsewhereError(hosts[0].endpoints[0])
        defaults = self.config.defaults
        options: dict[str, Any] = {
            "name": body.stream,
            "code": ".",
            "raw": body.raw,
            "endless": bool(body.endless),
            "tier": body.tier or defaults.tier,
            "model": defaults.model,
            "windows": body.windows or defaults.windows,
            "deadline_us": body.deadline_us or defaults.deadline_us,
            "ring_rounds": defaults.ring_rounds,
            "credit": defaults.credit,
            "confidence": defaults.confidence,
            # A guest is served by the lane's own thread, which has no time for networks.
            "escalate": tuple(
                one for one in defaults.escalate if not Tier.from_label(one).accelerated
            ),
            "escalate_below": defaults.escalate_below,
            "slo": defaults.slo,
        }
        return StreamConfig.model_construct(**options)

    def _code(
        self, configured: StreamConfig | None, body: OpenBody, parts: list[bytes], limits: Limits
    ) -> Code:
        if configured is not None:
            return self._library.configured(configured)
        if not parts or not parts[0]:
            raise WireError(WireCode.BAD_CODE, "the message's second part should hold the code")
        try:
            text = parts[0].decode("utf-8")
        except UnicodeDecodeError:
            raise WireError(WireCode.BAD_CODE, "the code is not UTF-8 text") from None
        round_map = None
        if len(parts) > 1 and parts[1]:
            if len(parts[1]) % 4:
                raise WireError(WireCode.BAD_CODE, "the round map is not a list of u32")
            round_map = np.frombuffer(parts[1], dtype="<u4").tolist()
        assert body.code
        return self._library.code(body.code, text, round_map, limits)


def _check_work(cursor: Cursor, code: Code, wanted: StreamConfig, part: int) -> None:
    """See that a cursor is for the same work.

    Raises:
        CursorError: it is not.
    """
    shot_rounds = 0 if wanted.endless else code.spacetime.rounds
    if (cursor.shape, cursor.raw, cursor.shot_rounds) != (code.shape, wanted.raw, shot_rounds):
        raise CursorError("the cursor is for another code, kind of rounds or shot length")
    if (cursor.part, cursor.parts) != (part, wanted.parts):
        raise CursorError(
            f"the cursor is for part {cursor.part} of {cursor.parts}, and this is part {part} "
            f"of {wanted.parts}"
        )
    if cursor.tier not in set(Tier):
        raise CursorError("the cursor names a tier this version does not have")


def _pinned(cursor: Cursor, code: Code, wanted: StreamConfig) -> Geometry:
    """The geometry a cursor names."""
    try:
        # A rule may be newer than the cursor, and windows that break it could hang the lane.
        return kept_geometry(wanted, code, cursor.window_rounds, cursor.commit_rounds)
    except GeometryError as error:
        raise CursorError(f"the cursor does not fit any more: {error}") from None


def _begins_at(cursor: Cursor, geometry: Geometry) -> bool:
    """Whether windows of a geometry begin where a cursor stands in its shot."""
    return not cursor.start or bool(geometry.commit and cursor.start % geometry.commit == 0)


def _check_answers(cursor: Cursor, tier: Tier, networks: bytes, switching: Switching) -> None:
    """See that a guest's rounds get the same answers as before the break.

    What a configured stream is answered with is the configuration's to say, at any boundary.

    Raises:
        CursorError: another network would answer, or other tiers be asked.
    """
    if cursor.ladder != switching.digest:
        now = ", then ".join(one.label for one in (tier, *switching.tiers))
        below = f" below {switching.below:g}" if switching.tiers else ""
        raise CursorError(
            "the cursor is for another escalation: escalate or escalate_below has changed since, "
            f"and the stream is now answered by {now}{below}"
        )
    if cursor.networks != networks:
        raise CursorError(
            f"the cursor is for another network: a model that {tier.label}"
            f"{' or a tier asked next' if switching.tiers else ''} answers with was replaced since"
        )


def _who_answers(terms: Terms) -> str:
    """What to know about the answers to a stream that the lane does not answer by itself."""
    if terms.kinds is None:
        return ""
    if not terms.kinds:
        return (
            f"{terms.tier.label} is for streams whose configuration names it: {FALLBACK.label} "
            "answers this one"
        )
    return (
        f"the accelerator answers with {terms.tier.label}, the lane with {FALLBACK.label} where "
        "that would be too late: each commit says which"
    )


def _state(cursor: Cursor) -> StreamState:
    return StreamState(
        cursor.window,
        cursor.base,
        cursor.start,
        cursor.sweep_lost,
        cursor.frame,
        cursor.seam,
        cursor.history,
        cursor.sweep,
        cursor.lost,
    )
