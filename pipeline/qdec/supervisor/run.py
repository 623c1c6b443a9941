"""The supervisor's own loop: children started, watched, replaced, drained, reconfigured."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import Any

from qdec.accelerator.doorbells import Doorbells
from qdec.accelerator.exits import in_words
from qdec.arena import SLOTS, Arena
from qdec.config import Config, stream_error
from qdec.control import Message
from qdec.errors import ConfigError
from qdec.gateway.reading import Reader
from qdec.lane.making import Making
from qdec.supervisor.change import incomplete, outdated, windows_of
from qdec.supervisor.children import Children, ending
from qdec.supervisor.keys import cursor_key, curve_secret
from qdec.supervisor.listeners import Listeners
from qdec.supervisor.lookout import Lookout
from qdec.supervisor.notify import notify
from qdec.supervisor.policy import (
    WARM_UP_S,
    Action,
    Assign,
    Drain,
    HandOver,
    Kill,
    Policy,
    Role,
    Spawn,
)
from qdec.supervisor.reload import Reload
from qdec.supervisor.slots import Slots
from qdec.supervisor.table import ACCELERATOR, GATEWAY, LANE, changed_posts, process_table
from qdec.supervisor.telling import Teller, describe, extension
from qdec.supervisor.vigil import Vigil

log = logging.getLogger("qdec.supervisor")
_TICK_S = 0.1
# Processes that may die of a change, one after the other, before it is taken back.
_TRIES = 3


class Supervisor:
    """Runs a service until it is told to stop; no stream's tier is ``auto`` any more."""

    def __init__(self, config: Config, config_path: Path | None) -> None:
        """Check what can be checked without children.

        Raises:
            ConfigError: the state directory or the service's key cannot be used, or an endpoint
                cannot be bound.
        """
        self._config = config
        self._path = config_path
        self._secrets = {"key": cursor_key(config.service.state_dir).hex()}
        curve = curve_secret(config)
        if curve is not None:
            self._secrets["curve"] = curve
        self._arena = Arena.create()
        self._arena_reader = self._arena.reader()
        self._head = self._arena.write_head()
        self._slots = Slots(self._head)
        self._accelerator = self._arena.share_accelerator()
        self._doorbells = Doorbells.create(_slots_in_use(config))
        self._policy = Policy(process_table(config), config.service.stall_s, config.service.drain_s)
        self._lookout = Lookout(self._arena, self._slots, self._policy)
        self._vigil = Vigil(config.service.stall_s, config.service.overdue_s)
        self._teller = Teller(WARM_UP_S)
        self._reload = Reload(config_path)
        self._selector = selectors.DefaultSelector()
        self._children = Children(self._selector)
        self._signals: list[int] = []
        self._announced = False
        self._give_up: float | None = None
        self._failure: ConfigError | None = None
        self._wanted: dict[str, Making] = {}
        # What to return to, and who had no successor yet by that.
        self._previous: tuple[Config, frozenset[tuple[str, int]]] | None = None
        self._shown = 0
        self._listeners = Listeners()
        self._listeners.adopt(config)

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit status.

        Raises:
            ConfigError: a lane could not start with this configuration.
        """
        wake = self._catch_signals()
        patience_s = 0.0
        try:
            while not self._policy.stopped:
                self._selector.select(patience_s)
                # The supervisor may stand still anywhere. So children are judged by what they have
                # said until now, all of which is read: what comes later speaks for them alone.
                now = time.monotonic()
                for selected, _ in self._selector.select(0):
                    if selected.data is None:
                        wake.recv(64)
                    else:
                        self._listen(selected.data)
                patience_s = _TICK_S
                self._reap()
                self._obey_signals()
                self._finish_reload()
                for action in self._policy.decide(now):
                    self._carry_out(action)
                self._children.flush()
                self._show()
                self._report()
                self._enforce_drain()
        finally:
            self._children.end()
            self._reload.give_up()
            self._listeners.close()
        if self._failure is not None:
            raise self._failure
        log.info("stopped")
        return 0

    # -- children ------------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        match action:
            case Spawn(role):
                self._spawn(role)
            case Assign(child, post, again):
                self._assign(child, post)
                if again:
                    self._roll_back(f"what served lane {post} with it has died")
            case HandOver(child):
                log.info("child %d hands over", child)
                self._children.tell(child, "hand_over")
            case Kill(child, reason):
                log.error("killing child %d: %s", child, reason)
                self._children[child].popen.kill()
            case Drain(child):
                self._children.tell(child, "drain", seconds=self._config.service.drain_s)

    def _assign(self, child: int, post: int) -> None:
        role = self._policy.child(child).role
        slot = self._slots.take(post, child) if role.name == LANE else None
        self._children.tell(
            child,
            "serve",
            post=post,
            slot=slot,
            generation=child,
            config=self._config_json(),
            listening=self._children[child].listening,
        )

    def _spawn(self, role: Role) -> None:
        arena = self._arena.fd if role.writes else self._arena_reader
        bells = self._doorbells.fds if role.writes else []
        listening = self._listeners.fds if role.name == LANE else {}
        process = self._children.start(role, arena, bells, listening)
        child = self._policy.spawned(role, time.monotonic())
        self._children.add(child, process)
        secrets = self._secrets if role.trusted else {}
        strict = not self._announced
        former = windows_of(self._warm().values())
        self._children.tell(
            child, "warm", config=self._config_json(), strict=strict, former=former, **secrets
        )
        log.info("child %d started for %s, pid %d", child, role.name, process.popen.pid)

    def _config_json(self) -> dict[str, Any]:
        return self._config.model_dump(mode="json")

    def _listen(self, child: int) -> None:
        messages = self._children.listen(child)
        if messages is None:
            self._gone(child)
            return
        for message in messages:
            self._heard(child, message)

    def _heard(self, child: int, message: Message) -> None:
        now = time.monotonic()
        match message["op"]:
            case "warm":
                told = message.get("makings", {})
                self._children[child].makings = {name: Making(*one) for name, one in told.items()}
                self._policy.warmed(child, now)
                self._judge(child)
            case "handed_over":
                if self._policy.child(child).holds is None:  # else it has been called back
                    self._slots.release(child)
            case "serving":
                self._policy.serving(child, now)
                one = self._policy.child(child)
                log.info("child %d serves %s %s", child, one.role.name, one.post)
                if one.role.name == ACCELERATOR:
                    self._accelerator.generation = child
            case "beat":
                self._policy.beat(child, now)
            case "failed":
                log.error("child %d: %s", child, message["message"])
                role = self._policy.child(child).role
                if (role.vital or role.awaited) and not self._announced and self._failure is None:
                    self._failure = self._blame(message)
                    self._policy.stop()
            case "drained":
                log.info("child %d drained", child)

    def _blame(self, message: Message) -> ConfigError:
        """Why a child could not start, with the place in the configuration that is to blame."""
        if self._path is None or "stream" not in message:
            return ConfigError(message["message"])
        return stream_error(message["message"], self._path, message["stream"])

    def _reap(self) -> None:
        for child, last_words in self._children.reap():
            for message in last_words:
                self._heard(child, message)
            self._gone(child)

    def _gone(self, child: int) -> None:
        process = self._children.bury(child)
        status = process.popen.returncode
        if status:
            role = self._policy.child(child).role
            words = in_words(status) if role.name == ACCELERATOR else ""
            log.warning(
                "child %d (pid %d) ended: %s", child, process.popen.pid, ending(status, words)
            )
        self._slots.release(child)
        if self._accelerator.generation == child:
            self._accelerator.generation = 0  # nobody writes into lanes' slots any more
        self._policy.exited(child, time.monotonic())
        if self._policy.failures >= _TRIES and self._policy.succeeding:
            self._roll_back(f"{_TRIES} processes in turn died of it before they served")

    def _show(self) -> None:
        """Write into the arena's head what the supervisor knows of lanes."""
        head = self._head
        served = self._policy.served(LANE)
        for lane in range(max(len(self._config.lane), self._shown)):
            up = lane in served
            if up and not head.up[lane]:
                head.up_since_ns[lane] = time.time_ns()
            head.up[lane] = up
            head.restarts[lane] = self._policy.restarts[LANE, lane]
        self._shown = len(self._config.lane)
        head.gateway_restarts = self._policy.restarts[GATEWAY, 0]
        head.accelerator_restarts = self._policy.restarts[ACCELERATOR, 0]

    # -- signals -------------------------------------------------------------------------------

    def _catch_signals(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._wakeup = theirs

        def remember(number: int, _frame: object) -> None:
            self._signals.append(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, remember)
        self._selector.register(ours, selectors.EVENT_READ, data=None)
        return ours

    def _obey_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number == signal.SIGHUP and self._give_up is None:
                self._reload.begin(self._config)
            elif number in (signal.SIGTERM, signal.SIGINT) and self._give_up is None:
                log.info("draining: answering what was accepted")
                patience = self._config.service.drain_s + 5
                self._give_up = time.monotonic() + patience
                notify("STOPPING=1", "STATUS=draining", extension(patience + 5))
                self._policy.stop()

    def _enforce_drain(self) -> None:
        if self._give_up is not None and time.monotonic() > self._give_up:
            self._children.kill()

    def _finish_reload(self) -> None:
        if self._give_up is not None:
            return
        found = self._reload.result(self._config, self._warm(), self._open_streams)
        if found is None:
            return
        new, wanted = found
        try:
            self._listeners.adopt(new)
        except ConfigError as error:
            self._listeners.adopt(self._config)
            self._reload.refuse(str(error))
            return
        # Who waits for a successor since the change before goes on waiting.
        behind = self._policy.succeeding
        posts = outdated(self._config, new, wanted, self._warm()) | behind
        if posts:
            log.info("%d processes get successors that are warm with what is new", len(posts))
        if posts or new.stream != self._config.stream:
            self._previous = self._config, behind
        self._wanted = wanted
        self._adopt(new, posts)
        log.info("configuration reloaded: %d lanes, %d streams", len(new.lane), len(new.stream))
        self._reload.end()

    def _open_streams(self) -> set[str]:
        """Configured streams that clients have open, as far as lanes have shown it."""
        streams = Reader(self._arena).read().streams
        return {name.split("/", 1)[0] for name, one in streams.items() if one.open}

    def _warm(self) -> dict[int, dict[str, Making]]:
        """What makes the answers at each lane's post."""
        lanes = [one for one in self._policy.children if one.role.name == LANE]
        return {one.holds: self._children[one.id].makings for one in lanes if one.holds is not None}

    def _judge(self, child: int) -> None:
        """Give a change up whose first process got warm without some stream that it should have."""
        one = self._policy.child(child)
        if one.role.name != LANE or not self._policy.succeeding:
            return
        missing = incomplete(self._wanted, self._children[child].makings)
        if one.edition == self._policy.edition and missing:
            self._roll_back(f"streams {', '.join(missing)} cannot be served with it")

    def _roll_back(self, why: str) -> None:
        """Return to the configuration before the last change; what still serves by that stays."""
        if self._previous is None:
            return
        before, behind = self._previous
        log.error("the last change is taken back, because %s: mend it, then SIGHUP", why)
        self._head.rollbacks += 1
        edition = self._policy.edition
        posts = {
            (one.role.name, one.post)
            for one in self._policy.children
            if one.holds is not None and one.edition == edition
        } | behind
        self._previous = None
        try:
            self._listeners.adopt(before)
        except ConfigError as error:  # somebody else has taken an endpoint that was let go
            log.error("%s", error)
        back = {(role, post) for role, post in posts if post is not None}
        self._adopt(before, back, again=True)
        self._reload.end("the last change was taken back")

    def _adopt(self, new: Config, posts: set[tuple[str, int]], *, again: bool = False) -> None:
        """Go by a configuration; processes at some posts get successors that are warm with it.

        `again`: it is the one before the last change.
        """
        now = time.monotonic()
        changed = changed_posts(self._config, new)
        for role, post in changed:
            log.info("%s %d has a new configuration: draining it", role, post)
            for child in self._policy.retire(role, post, now):
                self._children.tell(child, "drain", seconds=new.service.drain_s)
        self._doorbells.extend(_slots_in_use(new))
        # Spares have neither doorbells nor listening sockets of lanes that are new.
        stale = [LANE] if _doors(new) != _doors(self._config) else []
        stale += [GATEWAY] if new.gateway != self._config.gateway else []
        stale += [ACCELERATOR] if (ACCELERATOR, 0) in changed else []
        for role in stale:
            for child in self._policy.retire_spares(role, now):
                self._children.tell(child, "drain", seconds=0)
        kept = (post for post in posts if post not in changed)
        if again:
            self._policy.restore(kept)
        elif posts or new.stream != self._config.stream:
            self._policy.supersede(kept)
        self._config = new
        self._policy.adopt(process_table(new), new.service.stall_s, new.service.drain_s)
        self._vigil.adopt(new.service.stall_s, new.service.overdue_s)
        for one in self._policy.children:
            self._children.tell(one.id, "configure", config=self._config_json())

    def _report(self) -> None:
        if self._policy.started and not self._announced and self._give_up is None:
            self._announced = True
            endpoints = ", ".join(e for lane in self._config.lane for e in lane.endpoints)
            log.info("ready: %s", endpoints)
            notify("READY=1", f"MAINPID={os.getpid()}")
        now = time.monotonic()
        if self._give_up is not None:
            self._teller.ping(now)  # it will be given up in time
            return
        verdict = self._vigil.look(now, self._lookout.sights(self._config))
        for one in verdict.give_up:
            self._carry_out(Kill(one.child, one.reason))
        if not self._announced:
            self._teller.warming(now)
        state = self._lookout.state(self._config)
        words = describe(state, verdict.worry, self._reload.words, started=self._announced)
        self._teller.words(now, words)
        if self._announced and not verdict.worry:
            self._teller.ping(now)


def _doors(config: Config) -> list[tuple[str, ...]]:
    return [lane.endpoints for lane in config.lane]


def _slots_in_use(config: Config) -> int:
    """Slots of the arena that lanes may have at a time: while one drains, another replaces it."""
    return min(SLOTS, 2 * len(config.lane))
