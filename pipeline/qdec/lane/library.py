"""Codes and compiled windows that a lane has ready, shared by its streams."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from qdec.accelerator.exchange import most_windows
from qdec.accelerator.kinds import NO_NETWORKS, kinds_needed
from qdec.codes import Code, Limits, Part
from qdec.codes.code import (
    DEFAULT_LIMITS,
    CodeKind,
    code_kind,
    read_code_text,
    read_round_map,
)
from qdec.commit import ShotDecoder, StreamDecoder, WindowBank
from qdec.commit.bank import WindowKey
from qdec.config import StreamConfig
from qdec.errors import CodeError, ConfigError, ModelError, QdecError
from qdec.lane.bounds import rounds_in_flight
from qdec.lane.making import Making, identity, shape
from qdec.match import Tier
from qdec.match.escalate import NO_SWITCHING, Switching
from qdec.match.fence import is_beyond_doubt, why_fenced
from qdec.match.models import Model, served
from qdec.match.offline import WindowedDecoder
from qdec.match.tier import FALLBACK, SOFT
from qdec.neural.store import find_model, load_model
from qdec.windows import Geometry, choose_geometry, parse_geometry
from qdec.windows.cut import answer_bytes

_KEPT_CODES = 64
_KEPT_BANKS = 128
# What trying faults may take, about: when a guest opens, and before the service is ready.
_GATE_S = 0.3
WARM_GATE_S = 10.0

# Of a calibration while other streams may wait, and before the service is ready; 1 is a second.
_EFFORT = 0.2
WARM_EFFORT = 1.0


class Plan(NamedTuple):
    """What a configured stream is decoded with.

    Attributes:
        code: its rounds as the stream brings them.
        tier: what is to answer.
        geometry: its windows.
        length: rounds per shot; None if endless.
        model: name or path of the tier's model; None where it takes none, or its own.
        switching: what is wanted beyond the tier's bare answers.
    """

    code: Code
    tier: Tier
    geometry: Geometry
    length: int | None
    model: str | None
    switching: Switching


_CodeKey = tuple[str, str, tuple[int, ...] | None, str | None]
_KindsKey = tuple[bytes, tuple[int, int, int], Tier, Geometry, int | None, str | None, Switching]
_BankKey = tuple[bytes, tuple[int, int, int], Tier, Geometry, Part | None, str | None, Switching]


class Library:
    """Compile once, decode many: keyed by what was compiled, bounded, oldest out first."""

    def __init__(self) -> None:
        """Start empty."""
        self._codes: OrderedDict[_CodeKey, Code] = OrderedDict()
        self._read: dict[tuple[Path, Path | None, Path | None], Code] = {}
        self._banks: OrderedDict[_BankKey, WindowBank] = OrderedDict()
        self._kinds: OrderedDict[_KindsKey, dict[WindowKey, int]] = OrderedDict()
        self._fenced: WeakKeyDictionary[WindowBank, str] = WeakKeyDictionary()
        self._models: dict[str, Model] = {}
        self._hashes: dict[str, str] = {}

    def code(
        self,
        kind: CodeKind,
        text: str,
        round_map: Sequence[int] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        prior: str | None = None,
    ) -> Code:
        """The code of a text; parsed if it is new.

        Raises:
            CodeError: see `Code.parse`.
        """
        key = (kind, text, None if round_map is None else tuple(round_map), prior)
        code = self._codes.get(key)
        if code is None:
            code = Code.parse(kind, text, round_map=round_map, prior=prior, limits=limits)
            self._codes[key] = code
            if len(self._codes) > _KEPT_CODES:
                self._codes.popitem(last=False)
        self._codes.move_to_end(key)
        return code

    def configured(self, stream: StreamConfig) -> Code:
        """The code of a configured stream, as its files were when it was first asked for.

        Raises:
            CodeError: it cannot be read or parsed.
        """
        try:
            return self._from_files(stream)
        except CodeError as error:
            raise type(error)(f"stream '{stream.name}': {error}") from None

    def _from_files(self, stream: StreamConfig) -> Code:
        files = stream.code, stream.map, stream.prior
        if files not in self._read:
            rounds = None if stream.map is None else read_round_map(stream.map)
            prior = None if stream.prior is None else read_code_text(stream.prior)
            text = read_code_text(stream.code)
            self._read[files] = self.code(code_kind(stream.code), text, rounds, prior=prior)
        return self._read[files]

    def bank(
        self,
        code: Code,
        tier: Tier,
        geometry: Geometry,
        length: int | None,
        part: Part | None = None,
        model: str | None = None,
        switching: Switching = NO_SWITCHING,
        *,
        effort: float = _EFFORT,
    ) -> WindowBank:
        """Compiled windows (of one part of the code), warm for shots of `length` rounds.

        Args:
            code: the code.
            tier: what answers.
            geometry: the windows' lengths.
            length: rounds of a shot; None for an endless one.
            part: the part of the code to answer for.
            model: name or path of the model of a tier that takes one.
            switching: what is wanted beyond the tier's bare answers.
            effort: what a new one may spend on calibrating confidence; see `Assessor`.

        Raises:
            GeometryError: a window cannot be compiled.
            ModelError: the model is missing, damaged, or not for this code.
        """
        model = model if tier.takes_model else None
        key = (code.digest, code.spacetime.repetition, tier, geometry, part, model, switching)
        bank = self._banks.get(key)
        if bank is None:
            bank = WindowBank(
                code, tier, geometry, part, self._model(model), switching, effort=effort
            )
            self._banks[key] = bank
            if len(self._banks) > _KEPT_BANKS:
                self._banks.popitem(last=False)
        self._banks.move_to_end(key)
        bank.prepare(length)
        return bank

    def kinds(
        self,
        bank: WindowBank,
        tier: Tier,
        length: int | None,
        model: str | None,
        switching: Switching = NO_SWITCHING,
    ) -> dict[WindowKey, int]:
        """What the accelerator calls the windows of a stream that a tier answers there."""
        space = bank.code.spacetime
        key = (bank.code.digest, space.repetition, tier, bank.geometry, length, model, switching)
        kinds = self._kinds.get(key)
        if kinds is None:
            networks = self.networks(tier, model, switching)
            kinds = self._kinds[key] = kinds_needed(bank, tier, length, networks, switching)
            if len(self._kinds) > _KEPT_BANKS:
                self._kinds.popitem(last=False)
        return kinds

    def _model(self, name: str | None) -> Model | None:
        """The model of a name or path, loaded and compiled once."""
        if name is None:
            return None
        if name not in self._models:
            stored = load_model(name)
            self._models[name] = served(stored)
            self._hashes[name] = stored.info.sha256
        return self._models[name]

    def networks(
        self, tier: Tier, model: str | None = None, switching: Switching = NO_SWITCHING
    ) -> bytes:
        """8 bytes that stand for the networks that a tier and its ladder answer with.

        Zeros where there are none. They are told by their tensors' hashes, as they are when this is
        first asked, or they are first loaded.
        """
        names = [model if tier.takes_model and model else tier.label if tier in SOFT else None]
        names += [one.label for one in switching.tiers if one in SOFT]
        hashes = [self._hash(name) for name in names if name is not None]
        if not hashes:
            return NO_NETWORKS
        return hashlib.blake2b("\0".join(hashes).encode(), digest_size=8).digest()

    def _hash(self, name: str) -> str:
        """SHA-256 of a model's tensors, as its file says; empty if there is none to be read."""
        if name not in self._hashes:
            try:
                self._hashes[name] = find_model(name).sha256
            except ModelError:  # the accelerator has none either, and says so
                self._hashes[name] = ""
        return self._hashes[name]

    def warm(self, stream: StreamConfig, max_stream_bytes: int) -> None:
        """Compile everything that opening a configured stream will need, and make sure it opens.

        Of a stream in parts that is all of them: a process warms up before it knows which lane it
        is going to serve, and together they are no larger than the whole.

        Raises:
            ConfigError: the stream cannot be served; the message names it.
        """
        try:
            plan = self.plan(stream)
            code, tier, switching = plan.code, plan.tier, plan.switching
            if stream.is_accelerated:
                tier, switching = FALLBACK, switching.of_one_tier
            ring_rounds = rounds_in_flight(
                code,
                plan.geometry,
                raw=stream.raw,
                wanted=stream.ring_rounds,
                limit=max_stream_bytes,
            )
            banks = [
                self.bank(
                    code,
                    tier,
                    plan.geometry,
                    plan.length,
                    part_of(code, stream, part),
                    plan.model,
                    switching,
                    effort=WARM_EFFORT,
                )
                for part in range(stream.parts)
            ]
            self.fence(banks[0], budget_s=WARM_GATE_S)
            self.networks(plan.tier, plan.model, plan.switching)
            for bank in banks:
                make_decoder(bank, length=plan.length, ring_rounds=ring_rounds, raw=stream.raw)
        except QdecError as error:
            raise ConfigError(f"stream '{stream.name}': {error}") from None

    def plan(self, stream: StreamConfig) -> Plan:
        """What a configured stream is to be decoded with.

        Raises:
            QdecError: its code cannot be read, or the windows do not suit it.
        """
        code = self._from_files(stream).streamed(raw=stream.raw)
        tier = Tier.from_label(stream.tier)
        geometry = choose_geometry(
            parse_geometry(stream.windows),
            code,
            endless=stream.endless,
            distance=stream.distance,
            short=tier.takes_model,
        )
        length = None if stream.endless else code.spacetime.rounds
        return Plan(code, tier, geometry, length, stream.model, stream.switching)

    def making(self, stream: StreamConfig) -> Making:
        """What makes a configured stream's answers; see `qdec.lane.making`.

        Raises:
            QdecError: as `plan`.
        """
        plan = self.plan(stream)
        ladder = plan.switching.digest
        networks = self.networks(plan.tier, plan.model, plan.switching)
        return Making(
            identity(plan.code, plan.tier, plan.geometry, networks, ladder),
            shape(plan.code, plan.length, raw=stream.raw, parts=stream.parts),
        )

    def fence(self, bank: WindowBank, *, budget_s: float = _GATE_S) -> str:
        """Why what a bank answers with loses the code's distance, or an empty string.

        Its own windows are tried. What fails is labelled: every commit carries FENCED and OPENED
        says why.
        """
        tier, switching = bank.tier, bank.switching
        if is_beyond_doubt(tier, switching):
            return ""
        if bank not in self._fenced:
            decoder = WindowedDecoder(bank.code, bank.geometry, bank.get)
            self._fenced[bank] = why_fenced(
                bank.code, bank.geometry, decoder, tier, switching, budget_s=budget_s
            )
        return self._fenced[bank]


def part_of(code: Code, stream: StreamConfig, part: int) -> Part | None:
    """A configured stream's part by its number; None for a stream that one lane decodes alone.

    Raises:
        CodeError: the code cannot be divided among so many lanes.
    """
    return code.split(stream.parts)[part] if stream.parts > 1 else None


def make_decoder(
    bank: WindowBank, *, length: int | None, accelerated: bool = False, **options: Any
) -> StreamDecoder | ShotDecoder:
    """In columns where each shot is one window, else window by window."""
    if length is not None and bank.geometry.is_whole:
        if accelerated:  # jobs that fit a slot
            space = bank.code.spacetime
            size = length * space.layout.record_bytes
            options["most_shots"] = max(1, most_windows(size, sum(answer_bytes(space))))
        return ShotDecoder(bank, length=length, **options)
    return StreamDecoder(bank, length=length, **options)
