"""The policy: what a peer may do. Pure: no socket, no file, no clock of its own.

A peer is known by its *user*: the public key that it proved in the handshake, or `LOCAL` for those
that file permissions (``ipc://``) or the configuration (``plain_tcp``) let in without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from qdec.security.grants import Grant
from qdec.security.keys import fingerprint

LOCAL = "local"
STATUS = "status"
_SECOND_NS = 1_000_000_000
# What keys that are not let in any more may send, all together: their connections stay open.
_STRANGERS_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Opening or resuming a stream.

    Attributes:
        stream: its name.
        guest: with a code of the client's own.
        others: streams that the key has open on the lane already, this one not counted.
    """

    stream: str
    guest: bool = False
    others: int = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """Watching a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class Administer:
    """Changing how the service runs."""


Request: TypeAlias = OpenStream | Watch | Administer


class Bucket:
    """A token bucket that holds a second's worth, full at first."""

    __slots__ = ("_at", "_level", "rate")

    def __init__(self, rate: int) -> None:
        """Refill `rate` per second."""
        self.rate = rate
        self._level = float(rate)
        self._at: int | None = None

    def take(self, amount: int, now: int) -> bool:
        """Take that much at `now` (ns), or nothing if there is not enough.

        Time that runs backwards refills nothing. What could never fit is let through by a full
        bucket, which is then in debt: how large a message may be is not a rate's business.
        """
        if self._at is not None and now > self._at:
            refill = (now - self._at) * self.rate / _SECOND_NS
            self._level = min(float(self.rate), self._level + refill)
        self._at = now if self._at is None else max(now, self._at)
        if self._level < min(amount, self.rate):
            return False
        self._level -= amount
        return True


class _Allowance:
    """What one key has left to send."""

    __slots__ = ("bytes", "grant", "messages")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.messages = _bucket(grant.messages_per_second)
        self.bytes = _bucket(grant.bytes_per_second)


class Access:
    """Who may do what on one lane."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        """Let these keys in."""
        self._allowances = {grant.public: _Allowance(grant) for grant in grants}
        self._strangers = Bucket(_STRANGERS_PER_SECOND)

    def adopt(self, grants: Iterable[Grant]) -> None:
        """Let these in instead; keys whose limits stay have no more to send than before."""
        old, self._allowances = self._allowances, {}
        for grant in grants:
            fresh, before = _Allowance(grant), old.get(grant.public)
            if before is not None:
                if before.grant.messages_per_second == grant.messages_per_second:
                    fresh.messages = before.messages
                if before.grant.bytes_per_second == grant.bytes_per_second:
                    fresh.bytes = before.bytes
            self._allowances[grant.public] = fresh

    def knows(self, user: str) -> bool:
        """Whether a peer may be connected at all."""
        return user == LOCAL or user in self._allowances

    def name(self, user: str) -> str:
        """What a log calls a peer: its key's name, or a short hash where that has none."""
        if user == LOCAL:
            return "a local client"
        found = self._allowances.get(user)
        if found is None:
            return f"an unknown key ({fingerprint(user)})" if user else "a peer without a key"
        return f"key '{found.grant.name}'"

    def authorise(self, user: str, request: Request) -> str:
        """Why a peer may not do something; empty if it may."""
        if user == LOCAL:
            return ""
        found = self._allowances.get(user)
        if found is None:
            return f"{self.name(user)} is not authorised"
        grant, name = found.grant, self.name(user)
        match request:
            case OpenStream(stream, guest, others):
                if not grant.admin and not _matches(stream, grant.streams):
                    return f"{name} may not open stream '{stream}': its streams do not include it"
                if guest and not (grant.admin or grant.guests):
                    return f"{name} may not bring a code of its own: its guests is not true"
                if grant.max_streams is not None and others >= grant.max_streams:
                    return f"{name} has {others} streams open, its max_streams"
            case Watch(topic):
                if not grant.admin and not _matches(topic, grant.topics):
                    return f"{name} may not watch '{topic}': its topics do not include it"
            case Administer():
                if not grant.admin:
                    return f"{name} may not administer the service: its admin is not true"
        return ""

    def throttle(self, user: str, size: int, now: int) -> str:
        """Which limit a message of so many bytes breaks at `now` (ns); empty if none.

        A message that is refused costs nothing of what may still be sent.
        """
        if user == LOCAL:
            return ""
        found = self._allowances.get(user)
        if found is None:
            # It may do nothing, and is told so now and then.
            return "" if self._strangers.take(1, now) else "it is not authorised any more"
        grant = found.grant
        if grant.message_bytes is not None and size > grant.message_bytes:
            return f"message_bytes = {grant.message_bytes}"
        if found.messages is not None and not found.messages.take(1, now):
            return f"messages_per_second = {grant.messages_per_second}"
        if found.bytes is not None and not found.bytes.take(size, now):
            return f"bytes_per_second = {grant.bytes_per_second}"
        return ""


def _bucket(rate: int | None) -> Bucket | None:
    return None if rate is None else Bucket(rate)


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
