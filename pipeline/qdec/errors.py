"""Every error that qdec raises, in one tree.

::

    QdecError
    ├── ConfigError          the service's configuration is wrong (file, line, fix)
    ├── CodeError            a circuit or detector error model cannot be served
    │   ├── CodeTooLarge     ... because it exceeds a bound, found before it was expanded
    │   └── RoundsUnknown    ... because nothing says which round a detector belongs to
    ├── GeometryError        a window geometry does not fit its code
    ├── CursorError          a resume cursor is not ours, or not for this stream
    ├── DataError            recorded data does not fit its code
    ├── ModelError           a network, or the file it came from, cannot be used
    │   └── EngineError      ... because the engine cannot compile it, or failed while it ran
    ├── DeviceError          an accelerator's device cannot go on (carries its kind)
    ├── FeedError            a process that makes training data failed or died
    ├── CalibrationError     a calibration message cannot be taken as it is
    │   ├── UnitError        ... because a unit is unknown, or of another dimension
    │   └── ObservationError ... because its data are not what its experiment needs
    ├── KeyFileError         a file with a key is missing, readable by others, or none
    ├── ArenaError           the processes' shared segment is not what this version knows
    ├── WireError            a message broke the protocol (carries its wire code)
    ├── Refused              the service answered with an error message (client side)
    └── ServiceUnavailable   no service answered in time (client side)
        └── NotAdmitted      ... because it, or we, refused the handshake: keys do not fit

`WireCode` numbers are part of the protocol (docs/protocol.md) and never change meaning.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class WireCode(IntEnum):
    """Stable numbers that `error` messages carry."""

    BAD_FRAME = 1
    BAD_VERSION = 2
    BAD_TYPE = 3
    TOO_LARGE = 4
    UNKNOWN_STREAM = 5
    STREAM_BUSY = 6
    NOT_OPEN = 7
    STALE_EPOCH = 8
    GAP = 9
    DUPLICATE = 10
    NO_CREDIT = 11
    BAD_BITS = 12
    BAD_CODE = 13
    CODE_TOO_LARGE = 14
    BAD_CURSOR = 15
    BAD_OPTION = 16
    DRAINING = 17
    LIMIT = 18
    BAD_LENGTH = 19
    INTERNAL = 20
    NOT_ALLOWED = 21


class QdecError(Exception):
    """Base of everything qdec raises on purpose."""

    wire: WireCode = WireCode.INTERNAL


class ConfigError(QdecError):
    """The configuration is wrong.

    Args:
        message: what is wrong and how to mend it.
        path: the file it stands in, if any.
        line: 1-based line in that file, if known.
    """

    wire = WireCode.BAD_OPTION

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None) -> None:
        """Prefix the message with where the mistake stands."""
        where = "" if path is None else f"{path}:{line}: " if line else f"{path}: "
        super().__init__(where + message)
        self.path = path
        self.line = line


class CodeError(QdecError):
    """A circuit or detector error model cannot be served; the message says why."""

    wire = WireCode.BAD_CODE


class CodeTooLarge(CodeError):
    """A code exceeds a bound. Raised before anything of that size is allocated."""

    wire = WireCode.CODE_TOO_LARGE


class RoundsUnknown(CodeError):
    """A detector has no time coordinate, and there is no round map."""


class GeometryError(QdecError):
    """A window geometry does not fit the code it was asked for."""

    wire = WireCode.BAD_OPTION


class CursorError(QdecError):
    """A resume cursor is not ours, of another stream, or would now get other answers."""

    wire = WireCode.BAD_CURSOR


class DataError(QdecError):
    """Recorded data does not fit the code it is replayed with."""

    wire = WireCode.BAD_BITS


class ModelError(QdecError):
    """A network, or the file it came from, cannot be used; the message says why."""

    wire = WireCode.BAD_OPTION


class EngineError(ModelError):
    """The inference engine cannot compile a network on this machine, or failed while running it."""

    wire = WireCode.INTERNAL


class DeviceFault(Enum):
    """What is wrong with a device, in the words of a log."""

    START = "an engine could not be started on the device"
    ERROR = "the device reported an error"
    LOST = "the device is gone"
    MEMORY = "the device has no memory left"
    HUNG = "work on the device does not end"


class DeviceError(QdecError):
    """An accelerator's device cannot go on; its process ends, and another one begins anew.

    Args:
        kind: what is wrong; says with which status the process exits.
        message: what it was doing, or the driver's own words.
    """

    def __init__(self, kind: DeviceFault, message: str) -> None:
        """Say what is wrong in front of the details."""
        super().__init__(f"{kind.value}: {message}")
        self.kind = kind


class FeedError(QdecError):
    """A process that makes training data failed or died; the run can go on from its checkpoint."""


class CalibrationError(QdecError):
    """A calibration message cannot be taken as it is; the message says which field and why."""

    wire = WireCode.BAD_OPTION


class UnitError(CalibrationError):
    """A unit is unknown, or measures something else than what is asked for."""


class ObservationError(CalibrationError):
    """The data of a calibration experiment are not what its kind needs."""

    wire = WireCode.BAD_LENGTH


class KeyFileError(QdecError):
    """A file with a CURVE key cannot be used; the message says what to do, and no secret."""


class InstallError(QdecError):
    """The service cannot be installed like this; the message says what to do."""


class ArenaError(QdecError):
    """The segment that processes share is not one, or was made by another version of qdec."""


class WireError(QdecError):
    """A message broke the protocol.

    Args:
        wire: the stable code that the `error` reply carries.
        message: one line for a person.
        detail: a number whose meaning depends on the code (GAP: the round expected next).
    """

    def __init__(self, wire: WireCode, message: str, detail: int = 0) -> None:
        """Keep the code and detail for the reply."""
        super().__init__(message)
        self.wire = wire
        self.detail = detail


class Refused(QdecError):
    """The service refused what the client asked; `wire` says which rule."""

    def __init__(self, wire: WireCode, message: str, detail: int = 0) -> None:
        """Name the rule in front of the service's own words."""
        super().__init__(f"{wire.name}: {message}")
        self.wire = wire
        self.detail = detail


class ServiceUnavailable(QdecError):
    """Nobody answered at the endpoint within the time allowed."""


class NotAdmitted(ServiceUnavailable):
    """The handshake failed: wrong keys, or keys on one side only. Asking again would not help.

    Args:
        message: what does not fit, and what to do.
        by_service: the service itself, known by its key, has refused ours.
    """

    def __init__(self, message: str, *, by_service: bool = False) -> None:
        """Keep who refused whom."""
        super().__init__(message)
        self.by_service = by_service
