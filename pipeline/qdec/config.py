"""The service's configuration: TOML in, frozen values out, mistakes named by line.

::

    [service]
    state_dir = "/var/lib/qdec"

    [security]
    server_key = "/etc/qdec/service.secret"
    authorised = "/etc/qdec/authorised.toml"

    [[lane]]
    endpoints = ["tcp://127.0.0.1:7600", "ipc:///run/qdec/lane0.ipc"]

    [[stream]]
    name = "patch0"
    code = "codes/d5.stim"
    endless = true
"""

from __future__ import annotations

import difflib
import os
import platform
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from qdec.bus.endpoints import check_endpoint, check_listen, is_tcp
from qdec.bus.wire import STREAM_NAME
from qdec.errors import ConfigError, QdecError
from qdec.match.escalate import Switching
from qdec.match.tier import FALLBACK, Tier
from qdec.neural.engine import Choice, PrecisionChoice
from qdec.neural.store import SUFFIX
from qdec.security.grants import Grant, read_grants
from qdec.slo import OBJECTIVES, Slo
from qdec.windows import parse_geometry

MAX_LANES = 256
# A stream's tier that is chosen at start, from what was measured; see `qdec.supervisor.auto`.
AUTO = "auto"
# See `qdec.accelerator.exchange`.
_ORDERED_STORES = ("x86_64", "AMD64")
_MAX_PARTS = 8
# Bytes of the file, and of a path in it: half of what Linux takes, as folders come before.
_MAX_BYTES = 16 << 20
_MAX_PATH = 2048
_Path = TypeVar("_Path", Path, str)
RealTime = Literal["auto", "off", "require"]


class _Frozen(BaseModel):
    # Strict: TOML has types of its own, and "off" is true to who is not.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _a_path(value: _Path) -> _Path:
    if "\0" in str(value) or len(os.fsencode(value)) > _MAX_PATH:
        raise ValueError(f"give a path of at most {_MAX_PATH} bytes")
    return value


# What TOML (and the JSON that goes to the lanes) has other types for.
_File = Annotated[Path, Field(strict=False), AfterValidator(_a_path)]
_FromList = Field(strict=False)


def default_state_dir() -> Path:
    """Where the cursor key lives unless the configuration says otherwise."""
    base = os.environ.get("STATE_DIRECTORY")  # set by systemd
    if base:
        return Path(base.split(":", 1)[0])
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "qdec"


class StreamDefaults(_Frozen):
    """What a stream gets that says nothing else.

    Attributes:
        tier: way to answer windows; ``auto`` is decided before lanes start.
        model: of a tier that needs one: its name in `qdec model list`, or the path of its file.
        windows: ``auto``, ``whole`` or ``W,C``.
        deadline_us: from a window's last byte in the lane to its commit.
        ring_rounds: rounds a stream may have in flight; raised to two windows where needed.
        credit: how many of them it may have: ``ring``, all of them; or ``latency``, as many as are
            answered in time, for sources that give up what there is no credit for.
        confidence: whether commits say how sure they are; matching a window then takes some four
            times as long.
        escalate: tiers that are asked next, in this order, where `tier` is not sure enough.
        escalate_below: the confidence that is not enough.
        cycle_us: time in which a round comes, for ``auto`` to know whether a tier can keep up.
        slo: what is promised, and when to ask for a pause; a stream's table changes what it names.
    """

    tier: str = "matching"
    model: Annotated[str, Field(min_length=1), AfterValidator(_a_path)] | None = None
    windows: str = "auto"
    deadline_us: Annotated[int, Field(ge=1, le=1_000_000_000)] = 2000
    ring_rounds: Annotated[int, Field(ge=2, le=1 << 22)] = 16384
    credit: Literal["ring", "latency"] = "ring"
    confidence: bool = False
    escalate: Annotated[tuple[str, ...], _FromList, Field(max_length=4)] = ()
    escalate_below: Annotated[float, Field(gt=0, lt=1)] = 0.9
    cycle_us: Annotated[float, Field(gt=0, le=1e9)] | None = None
    slo: Slo = Slo()

    @field_validator("tier")
    @classmethod
    def _tier(cls, value: str) -> str:
        if value == AUTO:
            return value
        return _checked(value, lambda: Tier.from_label(value))

    @field_validator("escalate")
    @classmethod
    def _escalate(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for label in value:
            _checked(label, lambda label=label: Tier.from_label(label))
            if Tier.from_label(label).needs_model:
                raise ValueError(f"{label} cannot be asked next: make it the stream's tier")
        if len(set(value)) < len(value):
            raise ValueError(f"{list(value)} names a tier twice: each is asked once")
        return value

    @property
    def switching(self) -> Switching:
        """What is wanted beyond the tier's bare answers."""
        tiers = tuple(Tier.from_label(label) for label in self.escalate)
        return Switching(self.confidence, tiers, self.escalate_below if tiers else 0.0)

    @field_validator("windows")
    @classmethod
    def _windows(cls, value: str) -> str:
        return _checked(value, lambda: parse_geometry(value))


def _checked(value: str, check: Any) -> str:
    try:
        check()
    except QdecError as error:
        raise ValueError(str(error)) from None
    return value


_Settings = TypeVar("_Settings", bound=StreamDefaults)


class StreamConfig(StreamDefaults):
    """One stream that the service knows by name.

    Attributes:
        name: what clients open.
        code: path of a Stim circuit or ``.dem``, relative to the configuration file.
        map: path of a file with the round of each detector, one per line, for codes without time
            coordinates; likewise.
        prior: path of a ``.dem`` of the same detectors, with the faults to decode by instead of
            those of the code; likewise.
        lane: index of the lane that owns it.
        lanes: instead of `lane`, the lanes that decode a part of it each.
        raw: rounds carry measurements instead of detectors (the code must be a circuit).
        endless: stretch the code's repeating round; otherwise shots have the code's rounds.
        distance: the code distance, if it should not be searched for.
        accelerated: the accelerator process answers, and matching where it is not in time; False
            has the lane's own thread answer. What suits the tier if left out.
    """

    name: Annotated[str, Field(pattern=f"^{STREAM_NAME}$")]
    code: _File
    map: _File | None = None
    prior: _File | None = None
    lane: Annotated[int, Field(ge=0)] = 0
    lanes: Annotated[tuple[int, ...], _FromList] = ()
    raw: bool = False
    endless: bool = False
    distance: Annotated[int, Field(ge=1, le=10_000)] | None = None
    accelerated: bool | None = None

    @field_validator("lanes")
    @classmethod
    def _lanes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) == 1:
            raise ValueError(f"one lane decodes the stream alone: write lane = {value[0]}")
        if len(value) > _MAX_PARTS:
            raise ValueError(f"at most {_MAX_PARTS} lanes can share a stream, not {len(value)}")
        if len(set(value)) < len(value):
            raise ValueError(f"{list(value)} names a lane twice: each part needs its own")
        return value

    @property
    def is_accelerated(self) -> bool:
        """Whether the accelerator process is to answer its windows."""
        # Until ``auto`` is settled, nothing is.
        return self.tier != AUTO and self.accelerates(Tier.from_label(self.tier))

    def accelerates(self, tier: Tier) -> bool:
        """Likewise if its tier were this one."""
        return tier.accelerated if self.accelerated is None else self.accelerated

    @property
    def owners(self) -> tuple[int, ...]:
        """The lane of each part."""
        return self.lanes or (self.lane,)

    @property
    def parts(self) -> int:
        """How many lanes decode it."""
        return len(self.owners)


class LaneConfig(_Frozen):
    """One lane process.

    Attributes:
        endpoints: where clients reach it.
        guests: whether clients may open streams with codes of their own here. A guest's code is
            compiled in the lane's own thread: keep guests off lanes whose streams matter.
        cpu: core to pin it to, libzmq's threads included.
    """

    endpoints: Annotated[tuple[str, ...], _FromList, Field(min_length=1, max_length=8)]
    guests: bool = True
    cpu: Annotated[int, Field(ge=0, lt=8192)] | None = None


class ServiceSection(_Frozen):
    """Settings of the whole service.

    Attributes:
        state_dir: holds the key that authenticates cursors.
        models_dir: where imported models are looked up by name before the default folder.
        plain_tcp: TCP endpoints are neither encrypted nor authenticated, and on loopback only;
            without it they speak CURVE, with the keys under ``[security]``.
        spare_lanes: warm processes ready to take a dead lane's place.
        drain_s: longest time to answer what was accepted before exiting.
        gap_ms: how long a missing round may be outstanding before it is erased.
        pause_ms: commit latency at which a stream is asked to pause.
        max_section_us: a window of which more than a quarter of the detectors fired is not decoded
            where that is expected to take longer than this, than its own deadline, or than half of
            another stream's in its lane.
        stall_s: a lane whose loop has not turned for this long is killed and replaced.
        overdue_s: likewise a lane that leaves the window it should answer next unanswered for this
            long after it was due.
        realtime: ``auto`` takes what the operating system gives (SCHED_FIFO, locked memory) as long
            as a core is left without a lane; ``off`` leaves everything as it is; with ``require`` a
            lane that cannot have it does not start.
        realtime_priority: of lanes at SCHED_FIFO; libzmq's threads get one more.
        max_streams: open streams per lane.
        max_stream_bytes: memory for one stream's rounds.
    """

    state_dir: _File = Field(default_factory=default_state_dir)
    models_dir: _File | None = None
    plain_tcp: bool = False
    spare_lanes: Annotated[int, Field(ge=0, le=4)] = 1
    drain_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    gap_ms: Annotated[float, Field(gt=0, le=60_000)] = 50.0
    pause_ms: Annotated[float, Field(gt=0, le=60_000)] = 50.0
    max_section_us: Annotated[int, Field(ge=1, le=60_000_000)] = 20_000
    stall_s: Annotated[float, Field(gt=0.5, le=600)] = 10.0
    overdue_s: Annotated[float, Field(gt=0.5, le=600)] = 10.0
    realtime: RealTime = "auto"
    realtime_priority: Annotated[int, Field(ge=1, le=98)] = 20
    max_streams: Annotated[int, Field(ge=1, le=65_536)] = 1024
    max_stream_bytes: Annotated[int, Field(ge=4096, le=1 << 34)] = 256 << 20


class AcceleratorConfig(_Frozen):
    """The process that answers accelerated streams; there is one if a configured stream is.

    Attributes:
        enabled: without it, matching answers those streams, and says so.
        cpu: core to pin it to, none of a lane's.
        threads: of the libraries that it decodes with.
        engine: what runs networks: ``openvino`` on the processor, ``tensorrt`` or ``torch`` on a
            GPU; ``auto`` takes a GPU's where it can be had.
        fallback: run networks on the processor where the engine cannot be had; without it the
            service does not start.
        precision: of networks, where engine and network have it; ``auto``: on the processor int8,
            else bf16, else fp32; on a GPU fp16.
        batch: most windows that are decoded together.
        margin_us: how much earlier than matching must begin for the deadline's sake a lane gives
            up waiting for an answer, at least: what a lane may be late itself. One that was later
            than that remembers it.
    """

    enabled: bool = True
    cpu: Annotated[int, Field(ge=0, lt=8192)] | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    engine: Choice = "auto"
    fallback: bool = True
    precision: PrecisionChoice = "auto"
    batch: Annotated[int, Field(ge=1, le=65_536)] = 64
    margin_us: Annotated[int, Field(ge=0, le=1_000_000)] = 300


class GatewayConfig(_Frozen):
    """The process that serves metrics and health over HTTP; without this table there is none.

    Attributes:
        listen: ``ADDRESS:PORT``.
        plain_http: allow addresses beyond loopback; whoever reaches one can read, not change.
    """

    listen: str = "127.0.0.1:9600"
    plain_http: bool = False


class SecuritySection(_Frozen):
    """Keys for TCP endpoints; `qdec keys new` makes them.

    Attributes:
        server_key: the service's secret file.
        authorised: a file of ``[[key]]`` tables: who is let in, and to what.
    """

    server_key: _File | None = None
    authorised: _File | None = None


class Config(_Frozen):
    """The whole configuration.

    Attributes:
        keys: what the file of authorised keys says; no key of the configuration itself.
    """

    service: ServiceSection = ServiceSection()
    security: SecuritySection = SecuritySection()
    defaults: StreamDefaults = StreamDefaults()
    lane: Annotated[tuple[LaneConfig, ...], _FromList, Field(min_length=1, max_length=MAX_LANES)]
    stream: Annotated[tuple[StreamConfig, ...], _FromList] = ()
    gateway: GatewayConfig | None = None
    accelerator: AcceleratorConfig = AcceleratorConfig()
    keys: Annotated[tuple[Grant, ...], _FromList] = ()

    @property
    def speaks_curve(self) -> bool:
        """Whether there are endpoints that clients need a key for."""
        return not self.service.plain_tcp and any(
            is_tcp(endpoint) for lane in self.lane for endpoint in lane.endpoints
        )

    @property
    def accelerated(self) -> tuple[StreamConfig, ...]:
        """Streams whose windows the accelerator process answers."""
        if not self.accelerator.enabled:
            return ()
        return tuple(one for one in self.stream if one.is_accelerated)


_TABLES: dict[str, type[BaseModel]] = {
    "service": ServiceSection,
    "security": SecuritySection,
    "defaults": StreamDefaults,
    "lane": LaneConfig,
    "stream": StreamConfig,
    "gateway": GatewayConfig,
    "accelerator": AcceleratorConfig,
}


def parse_config(text: str, *, path: Path) -> Config:
    """Parse and check a configuration.

    Args:
        text: TOML.
        path: where it came from, for messages and for relative code paths.

    Raises:
        ConfigError: with the line of the first mistake and what to do.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of its own, or of numbers and depth
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else len(text.splitlines()) or None
        raise ConfigError(f"not TOML: {error}", path=str(path), line=line) from None
    if "keys" in raw:
        raise ConfigError(
            "keys is unknown: authorised under [security] names the file of [[key]] tables",
            path=str(path),
            line=_line_of(text, ("keys",)),
        )
    inherited = _inherited(raw)
    if inherited:
        raw["stream"] = [
            _with_defaults(one, raw["defaults"], keys) if keys else one
            for one, keys in zip(raw["stream"], inherited, strict=True)
        ]
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            _explain(first["type"], first["loc"], first["msg"]),
            path=str(path),
            line=_line_of(text, first["loc"]),
        ) from None
    _cross_check(config, inherited, text, path)
    models = config.service.models_dir
    streams = tuple(_at_home(stream, path.parent, models) for stream in config.stream)
    defaults = _with_model(config.defaults, path.parent, models)
    security = config.security.model_copy(
        update={
            name: (path.parent / file).resolve()
            for name, file in config.security
            if file is not None
        }
    )
    keys = () if security.authorised is None else read_grants(security.authorised)
    return config.model_copy(
        update={"stream": streams, "defaults": defaults, "security": security, "keys": keys}
    )


def _inherited(raw: dict[str, Any]) -> list[tuple[str, ...]]:
    """The keys that each stream of a parsed file gets from ``[defaults]``."""
    defaults, streams = raw.get("defaults"), raw.get("stream")
    if not isinstance(streams, list):
        return []
    given = defaults if isinstance(defaults, dict) else {}
    return [
        tuple(key for key in given if key not in one or key == "slo")
        if isinstance(one, dict)
        else ()
        for one in streams
    ]


def _with_defaults(
    stream: dict[str, Any], defaults: dict[str, Any], keys: tuple[str, ...]
) -> dict[str, Any]:
    """A stream of a parsed file with what it gets from ``[defaults]``."""
    merged = {**{key: defaults[key] for key in keys}, **stream}
    ours, general = stream.get("slo"), defaults.get("slo")
    if isinstance(ours, dict) and isinstance(general, dict):
        merged["slo"] = {**general, **ours}
    return merged


def _at_home(stream: StreamConfig, folder: Path, models: Path | None) -> StreamConfig:
    """The stream with its files' paths made absolute."""
    files = {"code": stream.code, "map": stream.map, "prior": stream.prior}
    return _with_model(stream, folder, models).model_copy(
        update={key: (folder / file).resolve() for key, file in files.items() if file is not None}
    )


def _with_model(settings: _Settings, folder: Path, models: Path | None) -> _Settings:
    """The same with the path of its model made absolute, if it is one or becomes one."""
    model = settings.model
    if model is None:
        return settings
    if "/" in model or model.endswith(SUFFIX):
        model = str((folder / model).resolve())
    elif models is not None and (kept := folder / models / f"{model}{SUFFIX}").is_file():
        model = str(kept.resolve())
    return settings.model_copy(update={"model": model})


def stream_error(message: str, path: Path, index: int) -> ConfigError:
    """The error of a stream that can be read and not be served, with the line of its table.

    What the stream has from ``[defaults]`` is named, for it may be to blame.

    Args:
        message: what is wrong.
        path: the configuration.
        index: of its ``[[stream]]`` tables.
    """
    line = None
    try:
        text = path.read_text(encoding="utf-8")
        line = _line_of(text, ("stream", index))
        keys = _inherited(tomllib.loads(text))[index]
        if keys:
            where = _line_of(text, ("defaults",))
            message += f" (its {', '.join(keys)}: from [defaults], line {where})"
    except (OSError, ValueError, IndexError):  # it was good a moment ago
        pass
    return ConfigError(message, path=str(path), line=line)


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, or `parse_config` refuses it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration: {error}", path=str(path)) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"it has more than {_MAX_BYTES} bytes", path=str(path))
    return parse_config(text, path=path)


def _cross_check(config: Config, inherited: list[tuple[str, ...]], text: str, path: Path) -> None:
    def fail(message: str, *loc: str | int) -> None:
        table, index, *key = loc
        if table == "stream" and isinstance(index, int) and key and key[0] in inherited[index]:
            loc = "defaults", key[0]
            message += f" ({key[0]} stands under [defaults])"
        raise ConfigError(message, path=str(path), line=_line_of(text, loc))

    taken: dict[str, int] = {}
    for i, lane in enumerate(config.lane):
        for endpoint in lane.endpoints:
            try:
                check_endpoint(endpoint, secured=not config.service.plain_tcp)
            except ConfigError as error:
                fail(str(error), "lane", i, "endpoints")
            if endpoint in taken:
                fail(
                    f"lanes {taken[endpoint]} and {i} both bind {endpoint}: give each its own",
                    "lane",
                    i,
                    "endpoints",
                )
            taken[endpoint] = i
            if is_tcp(endpoint) and config.speaks_curve and config.security.server_key is None:
                fail(
                    f"endpoint '{endpoint}' speaks CURVE, and there is no key for it: run qdec "
                    "keys new service, and name its file as server_key under [security]; or, where "
                    "only users of this machine connect, set plain_tcp = true under [service]",
                    "lane",
                    i,
                    "endpoints",
                )
    if config.speaks_curve and config.security.authorised is None:
        fail(
            "nobody could connect: name a file of [[key]] tables as authorised (qdec keys new "
            "prints such a table for each client)",
            "security",
            "authorised",
        )
    limit = config.service.max_streams
    for i in range(len(config.lane)):
        if sum(i in stream.owners for stream in config.stream) > limit:
            fail(
                f"lane {i} has more [[stream]] tables than max_streams = {limit}",
                "service",
                "max_streams",
            )
    cpu = config.accelerator.cpu
    if cpu is not None and cpu in [lane.cpu for lane in config.lane]:
        fail(
            f"core {cpu} is a lane's: an accelerator there would wait for it, and it for nobody; "
            "choose another, or leave cpu out",
            "accelerator",
            "cpu",
        )
    if config.accelerated and platform.machine() not in _ORDERED_STORES:
        fail(
            f"the accelerator needs a processor that keeps stores in order ({_ORDERED_STORES[0]}), "
            f"and this is {platform.machine()}: set enabled = false under [accelerator]",
            "accelerator",
            "enabled",
        )
    if config.gateway is not None:
        listen = config.gateway.listen
        try:
            check_listen(listen, allow_remote=config.gateway.plain_http)
        except ConfigError as error:
            fail(str(error), "gateway", "listen")
        if f"tcp://{listen}" in taken:
            fail(f"lane {taken[f'tcp://{listen}']} binds {listen}, too", "gateway", "listen")
    names: set[str] = set()
    for i, stream in enumerate(config.stream):
        if stream.name in names:
            fail(f"stream '{stream.name}' is defined twice", "stream", i, "name")
        names.add(stream.name)
        key = "lanes" if stream.lanes else "lane"
        for owner in stream.owners:
            if not 0 <= owner < len(config.lane):
                fail(
                    f"stream '{stream.name}' is on lane {owner}, but there are only "
                    f"{len(config.lane)} [[lane]] tables (counted from 0)",
                    "stream",
                    i,
                    key,
                )
        if stream.lanes and "lane" in stream.model_fields_set:
            fail(
                f"stream '{stream.name}' has both lane and lanes: give lane where one lane decodes "
                "it alone, lanes where several share it",
                "stream",
                i,
                "lane",
            )
        if stream.lanes and stream.escalate:
            fail(
                f"stream '{stream.name}': lanes that share a stream cannot escalate its windows: "
                "each sees a part of them; leave out lanes or escalate",
                "stream",
                i,
                "escalate",
            )
        if stream.escalate and stream.tier == AUTO:
            fail(
                f"stream '{stream.name}': tier = \"auto\" decides on its own whether windows "
                "escalate: leave out escalate",
                "stream",
                i,
                "escalate",
            )
        if stream.model is not None and "model" not in inherited[i]:
            takes = stream.tier != AUTO and Tier.from_label(stream.tier).takes_model
            if not takes:
                fail(
                    f"stream '{stream.name}': tier = \"{stream.tier}\" takes no model: leave model "
                    "out, or name the tier that it is for",
                    "stream",
                    i,
                    "model",
                )
        if stream.tier in stream.escalate:
            fail(
                f"stream '{stream.name}': {stream.tier} is asked first: leave it out of escalate",
                "stream",
                i,
                "escalate",
            )
        slow = [one for one in stream.escalate if Tier.from_label(one).accelerated]
        if slow and not stream.is_accelerated:
            fail(
                f"stream '{stream.name}': {slow[0]} is too slow for a lane's own thread, so it can "
                "be asked next only where the accelerator answers: make tier one that is "
                "accelerated, like speed, or leave it out of escalate",
                "stream",
                i,
                "escalate",
            )
        # Parts of an ``auto`` stream get matching.
        tier = Tier.MATCHING if stream.tier == AUTO else Tier.from_label(stream.tier)
        if tier is FALLBACK and stream.is_accelerated:
            fail(
                f"stream '{stream.name}': {FALLBACK.label} is what a lane answers with by itself: "
                "accelerated = true goes with another tier",
                "stream",
                i,
                "accelerated",
            )
        if stream.lanes and tier is not Tier.MATCHING:
            fail(
                f"stream '{stream.name}': lanes that share a stream cannot correlate its parts: "
                f'tier = "{Tier.MATCHING.label}" goes with lanes, {stream.tier} with lane',
                "stream",
                i,
                "lanes",
            )
        if tier.needs_model and stream.model is None:
            fail(
                f"stream '{stream.name}': tier = \"{stream.tier}\" needs a model: write model = "
                '"NAME", with a name that `qdec model list` shows',
                "stream",
                i,
                "tier",
            )
        wish = parse_geometry(stream.windows)
        if stream.lanes and wish != "auto" and wish.most:
            fail(
                f"stream '{stream.name}': lanes that share a stream must have the same windows, "
                f'whichever of them is behind: leave M out of windows = "{stream.windows}"',
                "stream",
                i,
                "windows",
            )
        if not (path.parent / stream.code).is_file():
            fail(
                f"stream '{stream.name}': there is no code file {path.parent / stream.code}",
                "stream",
                i,
                "code",
            )
        if stream.map is not None and not (path.parent / stream.map).is_file():
            fail(
                f"stream '{stream.name}': there is no round map {path.parent / stream.map}",
                "stream",
                i,
                "map",
            )
        if stream.prior is not None and not (path.parent / stream.prior).is_file():
            fail(
                f"stream '{stream.name}': there is no prior {path.parent / stream.prior}",
                "stream",
                i,
                "prior",
            )


def _explain(kind: str, loc: tuple[str | int, ...], message: str) -> str:
    where = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        table = _TABLES.get(str(loc[0]), Config) if len(loc) > 1 else Config
        if "slo" in loc[:-1]:
            table = Slo
        known = list(table.model_fields)
        close = difflib.get_close_matches(str(loc[-1]), known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
        return f"{where} is unknown: {hint}"
    if kind == "missing":
        return f"{where} is missing" + (
            ": add a [[lane]] table with endpoints" if where == "lane" else ""
        )
    return f"{where}: {_fix(kind, loc) or message.removeprefix('Value error, ')}"


# What to write where a value has another type, by pydantic's name of the mistake.
_WRITE = {
    "bool_type": "write true or false, without quotes",
    "int_type": "write a whole number, without quotes or decimal point",
    "float_type": "write a number, without quotes",
    "string_type": "write text, in quotes",
    "path_type": "write a path, in quotes",
}


def _fix(kind: str, loc: tuple[str | int, ...]) -> str:
    """What to write instead of a value of the wrong shape; empty if it is not about the shape."""
    table = str(loc[0])
    if kind == "model_type" and loc[-1] == "slo":
        return f"write it as a table: [{table}.slo]"
    if kind == "literal_error" and "pause_on" in loc:
        return f"write some of {', '.join(OBJECTIVES)}"
    if (len(loc) == 1 and kind == "tuple_type") or (len(loc) == 2 and kind == "model_type"):
        return f"write [[{table}]] with two brackets, one such table for each"
    if kind == "model_type":
        return f"write it as a table: [{table}], with one pair of brackets"
    if len(loc) == 1 and kind == "too_short":
        return f"there is none: add a [[{table}]] table"
    if kind == "tuple_type" and loc[-1] == "lanes":
        return "write a list: lanes = [0, 1]"
    if kind == "tuple_type" and loc[-1] == "escalate":
        return 'write a list: escalate = ["guarded"]'
    if kind == "tuple_type" and loc[-1] == "pause_on":
        return 'write a list: pause_on = ["deadline"]'
    if kind in ("tuple_type", "too_short"):
        return f'write a list of at least one: {loc[-1]} = ["tcp://127.0.0.1:7600"]'
    return _WRITE.get(kind, "")


def _line_of(text: str, loc: tuple[str | int, ...]) -> int | None:
    """Line of the key at `loc`, or of the innermost table around it that the file has."""
    table = str(loc[0]) if loc else ""
    index = loc[1] if len(loc) > 1 and isinstance(loc[1], int) else None
    keys = [str(part) for part in loc[1:] if isinstance(part, str)]
    seen = -1
    inside = False
    depth = 0  # how many of the keys the tables around this line are
    found_at: tuple[int, int | None] = 0, None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        header = re.match(r"^\[\[?\s*([A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*)\s*\]\]?", stripped)
        if header:
            name, *below = header[1].split(".")
            if not below and name == table:
                seen += 1
            inside = (
                name == table and (index is None or seen == index) and below == keys[: len(below)]
            )
            depth = len(below)
            if inside and (found_at[1] is None or depth > found_at[0]):
                found_at = depth, number
            continue
        key = keys[depth] if inside and depth < len(keys) else None
        if key and re.match(rf"^[\"']?{re.escape(key)}[\"']?\s*=", stripped):
            return number
    return found_at[1]
