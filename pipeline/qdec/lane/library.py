"""Codes and compiled windows that a lane has ready, shared by its streams."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from qdec.codes import Code
from qdec.codes.code import CodeKind, code_kind, read_code_text, read_round_map
from qdec.commit import StreamDecoder, WindowBank
from qdec.config import StreamConfig
from qdec.errors import CodeError, ConfigError, QdecError
from qdec.lane.bounds import rounds_in_flight
from qdec.match import Tier
from qdec.match.gate import fault_pairs, single_faults
from qdec.windows import Geometry, choose_geometry, parse_geometry

_KEPT_CODES = 64
_KEPT_BANKS = 128
# Faults tried before a correlated stream opens; a sample of them where there are more.
_GATED_FAULTS = 5000
_GATED_PAIRS = 50_000

_BankKey = tuple[bytes, tuple[int, int, int], Tier, Geometry]


class Library:
    """Compile once, decode many: keyed by what was compiled, bounded, oldest out first."""

    def __init__(self) -> None:
        """Start empty."""
        self._codes: OrderedDict[tuple[str, str, tuple[int, ...] | None], Code] = OrderedDict()
        self._banks: OrderedDict[_BankKey, WindowBank] = OrderedDict()
        self._fenced: dict[tuple[bytes, Tier], str] = {}

    def code(self, kind: CodeKind, text: str, round_map: Sequence[int] | None = None) -> Code:
        """The code of a text; parsed if it is new.

        Raises:
            CodeError: see `Code.parse`.
        """
        key = (kind, text, None if round_map is None else tuple(round_map))
        code = self._codes.get(key)
        if code is None:
            code = Code.parse(kind, text, round_map=round_map)
            self._codes[key] = code
            if len(self._codes) > _KEPT_CODES:
                self._codes.popitem(last=False)
        self._codes.move_to_end(key)
        return code

    def configured(self, stream: StreamConfig) -> Code:
        """The code of a configured stream, from its file.

        Raises:
            CodeError: it cannot be read or parsed.
        """
        try:
            return self._from_files(stream)
        except CodeError as error:
            raise type(error)(f"stream '{stream.name}': {error}") from None

    def _from_files(self, stream: StreamConfig) -> Code:
        rounds = None if stream.map is None else read_round_map(stream.map)
        return self.code(code_kind(stream.code), read_code_text(stream.code), rounds)

    def bank(self, code: Code, tier: Tier, geometry: Geometry, length: int | None) -> WindowBank:
        """Compiled windows, warm for shots of `length` rounds.

        Raises:
            GeometryError: a window cannot be compiled.
        """
        key = (code.digest, code.spacetime.repetition, tier, geometry)
        bank = self._banks.get(key)
        if bank is None:
            bank = WindowBank(code, tier, geometry)
            self._banks[key] = bank
            if len(self._banks) > _KEPT_BANKS:
                self._banks.popitem(last=False)
        self._banks.move_to_end(key)
        bank.prepare(length)
        return bank

    def warm(self, stream: StreamConfig, max_stream_bytes: int) -> None:
        """Compile everything that opening a configured stream will need, and make sure it opens.

        Raises:
            ConfigError: the stream cannot be served; the message names it.
        """
        try:
            code = self._from_files(stream).streamed(raw=stream.raw)
            geometry = choose_geometry(
                parse_geometry(stream.windows),
                code,
                endless=stream.endless,
                distance=stream.distance,
            )
            tier = Tier.from_label(stream.tier)
            ring_rounds = rounds_in_flight(
                code, geometry, raw=stream.raw, wanted=stream.ring_rounds, limit=max_stream_bytes
            )
            length = None if stream.endless else code.spacetime.rounds
            bank = self.bank(code, tier, geometry, length)
            self.fence(code, tier)
            StreamDecoder(bank, length=length, ring_rounds=ring_rounds, raw=stream.raw)
        except QdecError as error:
            raise ConfigError(f"stream '{stream.name}': {error}") from None

    def fence(self, code: Code, tier: Tier) -> str:
        """Why a tier does not keep this code's distance, or an empty string.

        Plain matching corrects every single fault of a code of distance 3 or more; what does not is
        labelled: every commit carries FENCED and OPENED says why.
        """
        if tier is Tier.MATCHING:
            return ""
        key = (code.digest, tier)
        if key not in self._fenced:
            self._fenced[key] = _gate(code, tier)
        return self._fenced[key]


def _gate(code: Code, tier: Tier) -> str:
    report = single_faults(code, tier, limit=_GATED_FAULTS)
    what = "single faults"
    if report.passed and (code.distance or 0) >= 5:
        report, what = fault_pairs(code, tier, limit=_GATED_PAIRS), "pairs of faults"
    if report.passed:
        return ""
    return (
        f"{tier.label} answers {report.failed} of {report.tried} {what} wrongly on this code "
        "(plain matching is safer at low noise)"
    )
