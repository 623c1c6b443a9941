"""How the service is, told to systemd: in words that `systemctl status` shows, and by pings."""

from __future__ import annotations

from dataclasses import dataclass

from qdec.supervisor.notify import notify, watchdog_interval_s

# How often words may change, and how often a slow start asks for time.
_WORDS_S = 1.0
_EXTEND_EVERY_S, _EXTEND_BY_S = 5.0, 60.0


@dataclass(frozen=True, slots=True)
class State:
    """What words are made of.

    Attributes:
        lanes, served: how many there should be, and how many of them are served.
        streams: open ones.
        accelerator: whether there should be one that serves; None where no stream needs it.
        accelerator_restarts, gateway_restarts: how many have died while they served.
        gateway: likewise whether it should be there and is; None without one.
    """

    lanes: int
    served: int
    streams: int = 0
    accelerator: bool | None = None
    accelerator_restarts: int = 0
    gateway: bool | None = None
    gateway_restarts: int = 0


def describe(state: State, worry: str = "", reload: str = "", *, started: bool = True) -> str:
    """One line: ``serving 3 streams on 2 lanes; accelerator restarting (2nd time)``.

    Args:
        state: of the service.
        worry: see `qdec.supervisor.vigil`.
        reload: what became of the last one, if that is worth a word.
        started: whether it has been announced.
    """
    if not started:
        waits = [] if state.accelerator is not False else ["accelerator"]
        lanes = f"{state.served} of {_count(state.lanes, 'lane')} ready"
        return "; ".join([f"warming up: {lanes}", *(f"waiting for the {one}" for one in waits)])
    parts = [f"serving {_count(state.streams, 'stream')} on {_count(state.served, 'lane')}"]
    parts += _away("accelerator", state.accelerator, state.accelerator_restarts)
    parts += _away("gateway", state.gateway, state.gateway_restarts)
    missing = state.lanes - state.served
    troubles = [f"{_count(missing, 'lane')} not served"] if missing > 0 else []
    troubles += [worry] if worry else []
    if troubles:
        parts.append(f"degraded: {', '.join(troubles)}")
    return "; ".join([*parts, reload] if reload else parts)


def _away(name: str, there: bool | None, restarts: int) -> list[str]:
    if there is None or there:
        return []
    return [f"{name} restarting ({_ordinal(restarts)} time)" if restarts else f"no {name} yet"]


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


class Teller:
    """Tells systemd, not more often than it should hear it."""

    def __init__(self, start_s: float) -> None:
        """Nothing has been told.

        Args:
            start_s: for how long a start may ask for more time.
        """
        self._start_s = start_s
        self._begun: float | None = None
        self._said = ""
        self._next_words = 0.0
        self._next_extension = 0.0
        self._next_ping = 0.0

    def words(self, now: float, words: str) -> None:
        """Say how things are, if that is new."""
        if words != self._said and now >= self._next_words:
            self._said, self._next_words = words, now + _WORDS_S
            notify(f"STATUS={words}")

    def warming(self, now: float) -> None:
        """Ask systemd for more time to start in."""
        self._begun = now if self._begun is None else self._begun
        if now >= self._next_extension and now - self._begun < self._start_s:
            self._next_extension = now + _EXTEND_EVERY_S
            notify(extension(_EXTEND_BY_S))

    def ping(self, now: float) -> None:
        """Tell the watchdog that all is well, if it listens and it is time."""
        interval = watchdog_interval_s()
        if interval and now >= self._next_ping:
            self._next_ping = now + interval
            notify("WATCHDOG=1")


def extension(seconds: float) -> str:
    """Ask that starting or stopping may take so much longer, from now on."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"
