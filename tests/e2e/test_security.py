"""Keys over real sockets: who is let in, to what, how much, and what everybody is told."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import zmq

from helpers.circuits import memory
from helpers.keys import Locksmith, locked_service, reload
from helpers.services import GEOMETRY, TEXT, answers_in, rounds_of_a_shot, undisturbed, wait_for_log
from qdec.bus.wire import Ping, Status, encode
from qdec.client import ClientKeys, CodeText, Patience, Stream, open_stream, service_status
from qdec.errors import NotAdmitted, Refused, WireCode
from qdec.security.keys import fingerprint, new_pair
from qdec_tools.service import Service, running_service

HASTY = Patience(open_s=3, give_up_s=5, silence_s=0.05)
RIGHTS = {
    "right": {"streams": ["patch*"], "topics": ["status"]},
    "other": {"streams": ["lab.*"]},
    "guest": {"streams": ["guest.*"], "guests": True},
    "boss": {"admin": True},
}


@pytest.fixture
def smith(tmp_path: Path) -> Locksmith:
    return Locksmith.at(tmp_path / "keys")


def tables(folder: Path, *names: str) -> str:
    code = folder / "code.stim"
    code.write_text(TEXT)
    return "".join(
        f'[[stream]]\nname = "{name}"\ncode = "{code}"\nendless = true\nwindows = "{GEOMETRY}"\n'
        "deadline_us = 1000000000\n"
        for name in names
    )


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Locksmith]]:
    """One service for all tests that change nothing about it."""
    folder = tmp_path_factory.mktemp("locked")
    smith = Locksmith.at(folder / "keys")
    streams = tables(folder, "patch0", "patch1")
    with locked_service(smith, RIGHTS, streams, lanes=2) as service:
        yield service, smith


def opened(service: Service, keys: ClientKeys | None, name: str = "patch0") -> Stream:
    return open_stream(service.endpoint, name, keys=keys, patience=HASTY)


def refused_as(code: WireCode, *words: str, act: Callable[[], object]) -> None:
    with pytest.raises(Refused) as refusal:
        act()
    assert refusal.value.wire is code
    for word in words:
        assert word in str(refusal.value)


def test_the_right_key_gets_the_right_answers(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    records = rounds_of_a_shot(200, seed=1)
    with opened(service, smith.keys("right")) as stream:
        stream.send(records, last=True)
        assert answers_in(stream.drain()) == undisturbed(records)
    status = service_status(service.endpoint, keys=smith.keys("right"))
    assert status["opened"] >= 1
    # Another lane leads there, and its word can be trusted as well.
    other, keys = service.endpoints[1], smith.keys("right")
    open_stream(other, "patch0", keys=keys, patience=HASTY).close()


def test_an_unknown_key_is_told_what_to_do(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    stranger = ClientKeys(new_pair("stranger"), smith.server.public)
    started = time.monotonic()
    with pytest.raises(NotAdmitted) as told:
        opened(service, stranger)
    assert time.monotonic() - started < HASTY.open_s
    assert told.value.by_service
    for word in ("'stranger'", stranger.own.public, "authorised keys", "SIGHUP"):
        assert word in str(told.value)
    assert stranger.own.secret not in str(told.value)
    line = wait_for_log(service, "unknown key")
    assert fingerprint(stranger.own.public) in line or "more such" in line
    assert stranger.own.public not in service.log.read_text()
    before = service_status(service.endpoint, keys=smith.keys("right"))["auth_failures"]
    with pytest.raises(NotAdmitted):
        service_status(service.endpoint, keys=stranger)
    after = service_status(service.endpoint, keys=smith.keys("right"))["auth_failures"]
    assert after > before > 0


def test_a_stream_that_is_not_ones_own(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    refused_as(
        WireCode.NOT_ALLOWED,
        "key 'other'",
        "'patch0'",
        act=lambda: opened(service, smith.keys("other")),
    )
    # Nor does another lane say where it is.
    refused_as(
        WireCode.NOT_ALLOWED,
        act=lambda: open_stream(
            service.endpoints[1], "patch0", keys=smith.keys("other"), patience=HASTY
        ),
    )
    with opened(service, smith.keys("boss"), "patch1"):
        pass  # an administrator may


def test_watching_takes_its_topic(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    refused_as(
        WireCode.NOT_ALLOWED,
        "'status'",
        act=lambda: service_status(service.endpoint, keys=smith.keys("other")),
    )
    assert service_status(service.endpoint, keys=smith.keys("boss"))["denied"] >= 1


def test_a_code_of_ones_own_takes_a_right_of_its_own(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    code = CodeText("circuit", str(memory(d=3, rounds=3, p=0.01)))

    def bring(who: str, name: str) -> Stream:
        keys = smith.keys(who)
        return open_stream(service.endpoint, name, code=code, keys=keys, patience=HASTY)

    bring("guest", "guest.a").close()
    refused_as(WireCode.NOT_ALLOWED, "'mine'", act=lambda: bring("guest", "mine"))
    refused_as(WireCode.NOT_ALLOWED, "guests", act=lambda: bring("right", "patch9"))


def test_plain_clients_and_clients_of_another_service(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    with pytest.raises(NotAdmitted, match=r"speaks CURVE.* --key FILE"):
        opened(service, None)
    with pytest.raises(NotAdmitted, match=r"speaks CURVE"):
        service_status(service.endpoint)
    elsewhere = ClientKeys(smith.keys("right").own, new_pair("elsewhere").public)
    with pytest.raises(NotAdmitted, match="not its public key") as told:
        opened(service, elsewhere)
    assert fingerprint(elsewhere.server) in str(told.value)
    wait_for_log(service, "handshake failed")


def test_a_client_with_keys_talks_to_no_plain_service(smith: Locksmith) -> None:
    with (
        running_service(transport="tcp") as service,
        pytest.raises(NotAdmitted, match="could be anybody"),
    ):
        open_stream(service.endpoint, "patch0", keys=smith.keys("right"), patience=HASTY)


def test_one_key_cannot_touch_anothers_stream(locked: tuple[Service, Locksmith]) -> None:
    """Handle and epoch are no secret; the connection and its key decide."""
    service, smith = locked
    records = rounds_of_a_shot(100, seed=2)
    with opened(service, smith.keys("right")) as stream:
        stream.send(records[:50])
        with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
            sock.linger = 0
            smith.keys("boss").secure(sock)
            sock.connect(service.endpoint)
            for handle in range(1, 20):
                sock.send(encode(Ping(handle, time.time_ns())))
            for _ in range(19):
                assert sock.poll(5000)
                assert b"no such stream" in sock.recv()
        stream.send(records[50:], last=True)
        assert answers_in(stream.drain()) == undisturbed(records)


def test_noise_at_the_door_disturbs_no_stream(locked: tuple[Service, Locksmith]) -> None:
    """Bytes that are no handshake, halves of one, and strangers, while a stream goes on."""
    service, smith = locked
    host, port = service.endpoint.removeprefix("tcp://").split(":")
    random = np.random.default_rng(5)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15) + b"\x00" + bytes(31)
    records = rounds_of_a_shot(1000, seed=6)
    commits = []
    with ExitStack() as stack, opened(service, smith.keys("right")) as stream:
        context = stack.enter_context(zmq.Context())
        for start in range(0, 1000, 10):
            sock = stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            cut = int(random.integers(0, len(greeting) + 1))
            with suppress(OSError):
                sock.sendall(greeting[:cut] + random.bytes(int(random.integers(0, 300))))
            if start % 100 == 0:
                stranger = stack.enter_context(context.socket(zmq.DEALER))
                stranger.linger = 0
                ClientKeys(new_pair("stranger"), smith.server.public).secure(stranger)
                stranger.connect(service.endpoint)
                stranger.send(encode(Status(1)))
            stream.send(np.ascontiguousarray(records[start : start + 10]), last=start == 990)
            commits += stream.poll(0.001)
        assert answers_in(commits + stream.drain()) == undisturbed(records)
        assert stream.resumes == 0
    assert wait_for_log(service, "unknown key")


def test_a_routing_id_of_ones_own_is_no_way_in(locked: tuple[Service, Locksmith]) -> None:
    """The same id, first with one key, then with another: each message counts as its own key's."""
    service, smith = locked
    answers = []
    with zmq.Context() as context:
        for name in ("right", "other", "right"):
            with context.socket(zmq.DEALER) as sock:
                sock.linger = 0
                sock.routing_id = b"the-same"
                smith.keys(name).secure(sock)
                for _ in range(200):
                    with suppress(zmq.Again):  # the one before may still have the id
                        sock.connect(service.endpoint)
                        sock.send(encode(Status(1)))
                        if sock.poll(100):
                            answers.append(b"NOT" if b"may not watch" in sock.recv() else b"yes")
                            break
                        sock.disconnect(service.endpoint)
    assert answers == [b"yes", b"NOT", b"yes"]


def test_local_sockets_ask_for_no_key(smith: Locksmith, tmp_path: Path) -> None:
    """One lane, both ways in: files' permissions for one, keys for the other."""
    smith.authorise(RIGHTS)
    lane = f'[[lane]]\nendpoints = ["ipc://{tmp_path}/local.ipc"]\n'
    text = smith.tables + lane + tables(tmp_path, "patch0").replace("endless", "lane = 0\nendless")
    with running_service(transport="tcp", tables=text, keys=smith.keys("porter")) as service:
        local = f"ipc://{tmp_path}/local.ipc"
        assert service_status(local)["denied"] == 0
        edited = service.config.read_text().replace(
            f'endpoints = ["{service.endpoint}"]',
            f'endpoints = ["{service.endpoint}", "ipc://{tmp_path}/both.ipc"]',
        )
        service.config.write_text(edited)
        reload(service)
        wait_for_log(service, "configuration reloaded")
        for _ in range(100):
            with suppress(Exception):
                service_status(f"ipc://{tmp_path}/both.ipc", 0.2)
                break
        # Keys that the environment or the caller has do no harm at such an endpoint.
        both = f"ipc://{tmp_path}/both.ipc"
        open_stream(both, "patch0", keys=smith.keys("right"), patience=HASTY).close()
        open_stream(both, "patch0", patience=HASTY).close()
        with pytest.raises(NotAdmitted):
            service_status(service.endpoint)


def test_rates_and_sizes(smith: Locksmith, tmp_path: Path) -> None:
    rights = {
        "right": {"streams": ["*"], "topics": ["status"]},
        "slow": {"streams": ["patch0"], "messages_per_second": 20},
        "small": {"streams": ["patch0"], "message_bytes": 200},
        "few": {"streams": ["*"], "max_streams": 1},
    }
    records = rounds_of_a_shot(2000, seed=3)
    with locked_service(smith, rights, tables(tmp_path, "patch0", "patch1")) as service:
        with opened(service, smith.keys("small")) as stream:
            stream.send(records[:10])
            refused_as(
                WireCode.LIMIT,
                "key 'small'",
                "message_bytes = 200",
                act=lambda: (stream.send(records[10:1010]), stream.drain()),
            )
        with (
            opened(service, smith.keys("slow")) as stream,
            opened(service, smith.keys("right"), "patch1") as neighbour,
        ):

            def flood() -> None:
                for start in range(0, 600, 10):
                    stream.send(np.ascontiguousarray(records[start : start + 10]))
                stream.drain()

            refused_as(WireCode.LIMIT, "messages_per_second = 20", act=flood)
            neighbour.send(records, last=True)
            assert answers_in(neighbour.drain()) == undisturbed(records)
        with opened(service, smith.keys("few")):
            refused_as(
                WireCode.NOT_ALLOWED,
                "max_streams",
                act=lambda: opened(service, smith.keys("few"), "patch1"),
            )
        counted = service_status(service.endpoint, keys=smith.keys("right"))
        assert counted["throttled"] > 1
        assert counted["denied"] == 1
        # Told now and then, not for every message.
        assert service.log.read_text().count("messages_per_second") <= 3


def test_keys_come_and_go_while_the_service_runs(smith: Locksmith, tmp_path: Path) -> None:
    """A revoked key's streams are closed at once, and its connections may do nothing any more."""
    rights = {"old": {"streams": ["patch0"]}, "right": {"streams": ["*"], "topics": ["status"]}}
    new = {"new": {"streams": ["patch0"]}, "right": {"streams": ["patch1"], "topics": ["status"]}}
    records = rounds_of_a_shot(400, seed=4)
    with locked_service(smith, rights, tables(tmp_path, "patch0", "patch1")) as service:
        with pytest.raises(NotAdmitted):
            opened(service, smith.keys("new"))
        stays = opened(service, smith.keys("right"), "patch1")
        stays.send(records[:200])
        goes = opened(service, smith.keys("old"))
        goes.send(records[:100])
        with zmq.Context() as context, context.socket(zmq.DEALER) as open_still:
            open_still.linger = 0
            smith.keys("old").secure(open_still)
            open_still.connect(service.endpoint)
            open_still.send(encode(Status(1)))
            assert open_still.poll(5000)
            assert b"status" in open_still.recv()  # no topic of its own

            smith.authorise(new)
            reload(service)
            wait_for_log(service, "stream patch0 is closed: an unknown key")
            with pytest.raises(NotAdmitted, match="'old'"):
                goes.drain()
            open_still.send(encode(Status(2)))
            assert open_still.poll(5000)
            assert b"is not authorised" in open_still.recv()
        with opened(service, smith.keys("new")) as stream:
            stream.send(records, last=True)
            assert answers_in(stream.drain()) == undisturbed(records)
        # Whose right to the stream stayed has noticed nothing.
        stays.send(records[200:], last=True)
        assert answers_in(stays.drain()) == undisturbed(records)
        assert stays.resumes == 0
        stays.close()
        refused_as(
            WireCode.NOT_ALLOWED, "'right'", act=lambda: opened(service, smith.keys("right"))
        )
        # A file that is wrong changes nothing.
        (smith.folder / "authorised.toml").write_text("[[key]]\nname = 5\n")
        reload(service)
        wait_for_log(service, "the old one stays")
        opened(service, smith.keys("new")).close()


def test_commands_take_keys(locked: tuple[Service, Locksmith]) -> None:
    service, smith = locked
    smith.keys("right")
    key, server = smith.folder / "right.secret", smith.folder / "service.public"
    keys = ["--key", str(key), "--server-key", str(server)]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "qdec", *arguments, "--endpoint", service.endpoint]
        if arguments[0] == "status":
            command = [*command[:-2], service.endpoint]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    told = run("status", "--json", *keys)
    assert told.returncode == 0, told.stderr
    without = run("status", "--json")
    assert without.returncode == 69
    assert "--key FILE" in without.stderr
    half = run("status", "--key", str(key))
    assert half.returncode == 2
    assert "--server-key FILE" in half.stderr
    twisted = run("status", "--key", str(server), "--server-key", str(server))
    assert "give the .secret file" in twisted.stderr
    for ran in (told, without, half, twisted):
        assert not any(secret in ran.stdout + ran.stderr for secret in smith.secrets)


def test_a_simulator_and_a_replay_with_keys(
    locked: tuple[Service, Locksmith], tmp_path: Path
) -> None:
    service, smith = locked
    own = smith.keys("boss").own.name
    keys = [
        *("--key", str(smith.folder / f"{own}.secret")),
        *("--server-key", str(smith.folder / "service.public")),
    ]

    def run(*arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "qdec", *arguments, *keys, "--endpoint", service.endpoint]
        ran = subprocess.run(
            [*command, "--json"], capture_output=True, text=True, timeout=100, check=False
        )
        assert ran.returncode == 0, ran.stderr
        last: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
        return last

    streamed = run("qpu", "-d", "3", "-c", "100", "-s", "1")
    assert streamed["rounds"] == streamed["committed"] != 0
    circuit = memory(d=3, rounds=5, p=0.01)
    (tmp_path / "c.stim").write_text(str(circuit))
    events = circuit.compile_detector_sampler(seed=1).sample(50, append_observables=False)
    (tmp_path / "d.01").write_text(
        "".join("".join("01"[int(b)] for b in row) + "\n" for row in events)
    )
    replayed = run("replay", "--circuit", f"{tmp_path}/c.stim", "--dets", f"{tmp_path}/d.01")
    assert replayed["shots"] == 50


def test_the_doctor_knows_its_service_without_a_key(locked: tuple[Service, Locksmith]) -> None:
    """A refusal that only the service's key can have made is proof enough."""
    service, _ = locked
    command = [sys.executable, "-m", "qdec", "doctor", "--json", "-c", str(service.config)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = {row["name"]: row for row in json.loads(ran.stdout)["checks"]}
    assert found["endpoints"]["value"] == "2 in use by a running qdec"
    assert found["security"]["status"] == "ok"
    assert "5 authorised key(s)" in found["security"]["value"]


def test_a_service_with_a_loose_key_does_not_start(smith: Locksmith, tmp_path: Path) -> None:
    smith.authorise(RIGHTS)
    secret = smith.folder / "service.secret"
    config = tmp_path / "qdec.toml"
    config.write_text(
        smith.tables + '[[lane]]\nendpoints = ["tcp://127.0.0.1:7600"]\n[service]\n'
        f'state_dir = "{tmp_path}"\n'
    )
    command = [sys.executable, "-m", "qdec", "serve", "--check", "--config", str(config)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    secret.chmod(0o640)
    for arguments in (command, [c for c in command if c != "--check"]):
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 78
        assert f"chmod 600 {secret}" in ran.stderr
        assert smith.server.secret not in ran.stderr


def test_no_secret_in_anything_a_client_logs(
    locked: tuple[Service, Locksmith], caplog: pytest.LogCaptureFixture
) -> None:
    service, smith = locked
    with caplog.at_level(logging.DEBUG):
        opened(service, smith.keys("right")).close()
    keys = smith.keys("right")
    for text in (caplog.text, repr(keys), repr(smith.server)):
        assert not any(secret in text for secret in smith.secrets)
    assert re.search(r"secret", repr(keys)) is None
