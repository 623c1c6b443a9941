"""``tier = "auto"``: measured once on this machine, remembered, and settled before lanes start.

Lanes never see ``auto``: what a stream is answered with is decided here, in one place, so that the
lane, its spare and whoever takes over agree. Measurements are kept in ``tuning/`` of the state
directory, under the digest of all that they depend on; the decision is made anew from them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qdec import __version__
from qdec.codes import Code
from qdec.config import AUTO, Config, StreamConfig, stream_error
from qdec.errors import ConfigError, QdecError
from qdec.lane.library import Library
from qdec.match.escalate import Switching
from qdec.match.fence import why_fenced
from qdec.match.offline import OfflineDecoder
from qdec.match.policy import Candidate, Decision, Measured, Needs, decide
from qdec.match.tier import FALLBACK, Tier
from qdec.match.tuning import candidates, measure
from qdec.windows import Geometry, choose_geometry, parse_geometry

log = logging.getLogger("qdec.auto")
# What a stream's measurement may take, beside compiling: for decoding windows of one length (there
# are two at most, networks' and the others'), and for the gate.
BUDGET_S = 3.0
_FENCE_S = 1.0
# Of a file: a measurement of ten candidates has some 3 KB.
_MAX_BYTES = 1 << 16
_Count = Annotated[int, Field(ge=0, le=1 << 40)]
_Time = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_Words = Annotated[str, Field(max_length=2000)]


class _Kept(BaseModel):
    """A measurement as it is kept; the candidate is told by its place."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    us_p50: _Time
    us_p99: _Time
    us_window: _Time
    windows: _Count
    commit_rounds: Annotated[int, Field(ge=1, le=1 << 20)]
    wrong: _Count
    better: _Count
    worse: _Count
    heat: _Time
    fence: _Words
    unusable: _Words


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[2]
    measured: Annotated[list[_Kept], Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a stream was tuned to.

    Attributes:
        measured: what was measured of each candidate; empty where there was no choice.
        needs: what the stream asks.
        decision: the choice.
        geometries: the windows that each candidate was tried in, and would be served in.
        fresh: measured now, not remembered.
    """

    measured: tuple[Measured, ...]
    needs: Needs
    decision: Decision
    geometries: tuple[Geometry, ...]
    fresh: bool


def tune(
    code: Code,
    windows: Geometry | Literal["auto"],
    *,
    endless: bool,
    deadline_us: float,
    distance: int | None = None,
    cycle_us: float | None = None,
    kept_in: Path | None = None,
    again: bool = False,
    only_kept: bool = False,
) -> Tuned | None:
    """Decide for a code; measure first, unless that is remembered.

    Args:
        code, windows, endless, distance: the stream's, as `choose_geometry` takes them.
        deadline_us, cycle_us: what it asks; see `Needs`.
        kept_in: folder of remembered measurements; None for no memory.
        again: measure even so.
        only_kept: None instead of a measurement.

    Raises:
        QdecError: the windows do not suit the code, or plain matching cannot be compiled.
    """

    def served(tier: Tier) -> Geometry:
        return choose_geometry(
            windows, code, endless=endless, distance=distance, short=tier.takes_model
        )

    def fence(tier: Tier, switching: Switching) -> str:
        decoder = OfflineDecoder(code, tier, served(tier), switching=switching)
        return why_fenced(code, served(tier), decoder, tier, switching, budget_s=_FENCE_S)

    wanted = candidates()
    geometries = tuple(served(one.tier) for one in wanted)
    library = Library()
    # Of what is served only the package's own networks are measured.
    networks = [library.networks(one.tier, None, one.switching) for one in wanted]
    key = _key(code, endless, zip(wanted, geometries, networks, strict=True))
    path = None if kept_in is None else kept_in / f"{key}.json"
    found = None if again or path is None else _read(path, wanted)
    fresh = found is None
    if found is None:
        if only_kept:
            return None
        found = measure(
            code,
            wanted,
            served=served,
            endless=endless,
            fence=fence,
            budget_s=BUDGET_S,
        )
        if path is not None:
            _keep(path, found)
    needs = Needs(deadline_us, cycle_us)
    return Tuned(tuple(found), needs, decide(found, needs), geometries, fresh)


def tune_stream(
    stream: StreamConfig, kept_in: Path | None, *, again: bool = False, only_kept: bool = False
) -> Tuned | None:
    """`tune` for a configured stream.

    Raises:
        ConfigError: the stream cannot be served; the message names it.
    """
    try:
        code = Library().configured(stream).streamed(raw=stream.raw)
        return tune(
            code,
            parse_geometry(stream.windows),
            endless=stream.endless,
            distance=stream.distance,
            deadline_us=stream.deadline_us,
            cycle_us=stream.cycle_us,
            kept_in=kept_in,
            again=again,
            only_kept=only_kept,
        )
    except QdecError as error:
        raise ConfigError(f"stream '{stream.name}': {error}") from None


def settle(config: Config, path: Path | None = None, *, only_kept: bool = False) -> Config:
    """The configuration with every ``auto`` decided.

    Guests' codes are not known beforehand, and parts of a stream go with plain matching only: those
    get it unmeasured, as does, with `only_kept`, a stream whose measurement is not remembered.

    Args:
        config: as it was read.
        path: where from, for messages.
        only_kept: measure nothing.

    Raises:
        ConfigError: a stream cannot be served; the message names it.
    """
    defaults = config.defaults
    if defaults.tier == AUTO:
        defaults = defaults.model_copy(update={"tier": FALLBACK.label})
    streams = []
    for index, stream in enumerate(config.stream):
        try:
            streams.append(_settled(stream, config, only_kept=only_kept))
        except ConfigError as error:
            raise stream_error(str(error), path, index) if path else error from None
    return config.model_copy(update={"defaults": defaults, "stream": tuple(streams)})


def _settled(stream: StreamConfig, config: Config, *, only_kept: bool) -> StreamConfig:
    if stream.tier != AUTO:
        return stream
    # Lanes match by themselves: there is nothing to accelerate.
    matching = stream.model_copy(update={"tier": FALLBACK.label, "accelerated": None})
    if stream.parts > 1:
        return matching
    tuned = tune_stream(stream, kept_in(config), only_kept=only_kept)
    if tuned is None:
        log.warning(
            "stream %s: nothing is remembered of its tiers: matching",
            stream.name,
            extra={"stream": stream.name},
        )
        return matching
    choice = tuned.decision.candidate
    log.info(
        "stream %s: %s (%s)",
        stream.name,
        choice,
        tuned.decision.reason,
        extra={"stream": stream.name},
    )
    ladder: dict[str, Any] = {}
    if choice.switching.tiers:
        ladder["escalate"] = tuple(tier.label for tier in choice.switching.tiers)
        ladder["escalate_below"] = choice.switching.below
    if choice.tier is FALLBACK:
        return matching.model_copy(update=ladder)
    # What was measured are the package's own networks.
    return stream.model_copy(update={"tier": choice.tier.label, "model": None, **ladder})


def kept_in(config: Config) -> Path:
    """Where a service remembers measurements."""
    return config.service.state_dir / "tuning"


def _key(code: Code, endless: bool, wanted: Iterable[tuple[Candidate, Geometry, bytes]]) -> str:
    """What a measurement depends on: the work, the candidates, the machine, the versions."""
    versions = [f"{name} {version(name)}" for name in ("pymatching", "numpy", "stim")]
    parts = [
        code.digest.hex(),
        str(code.spacetime.repetition),
        str(endless),
        *(f"{one} in {geometry} by {networks.hex()}" for one, geometry, networks in wanted),
        _processor(),
        __version__,
        *versions,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    """The machine, as far as it is known to itself."""
    model = platform.machine()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        model = next((line for line in file if line.startswith("model name")), model)
    return f"{model.strip()} {os.cpu_count()}"


def _read(path: Path, wanted: Sequence[Candidate]) -> list[Measured] | None:
    """What is remembered; None if there is nothing that can be believed."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        kept = _File.model_validate_json(path.read_bytes()).measured
    except (OSError, ValidationError):
        return None
    if len(kept) != len(wanted):
        return None
    return [Measured(one, **row.model_dump()) for one, row in zip(wanted, kept, strict=True)]


def _keep(path: Path, found: Sequence[Measured]) -> None:
    """Remember; nobody sees half a file, and to be unable to is no failure."""
    rows = [{k: v for k, v in asdict(one).items() if k != "candidate"} for one in found]
    for row in rows:
        row["fence"], row["unusable"] = row["fence"][:2000], row["unusable"][:2000]
    text = json.dumps({"format": 2, "measured": rows})
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        log.warning("measured tiers cannot be remembered in %s: %s", path.parent, error.strerror)
