"""Key files, the file of authorised keys, and the commands around them. No secret gets out."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import zmq

from helpers.command import Run
from helpers.keys import Locksmith
from qdec.config import Config, load_config
from qdec.doctor.security import insecure
from qdec.errors import ConfigError, KeyFileError
from qdec.security.grants import parse_grants, read_grants
from qdec.security.keys import (
    ClientKeys,
    client_keys,
    fingerprint,
    is_public_key,
    new_pair,
    read_public,
    read_secret,
    secret_trouble,
    write_pair,
)
from qdec.supervisor.keys import cursor_key


def test_a_pair_survives_its_files(tmp_path: Path) -> None:
    pair = new_pair("qpu.1")
    before = os.umask(0o002)
    try:
        secret, public = write_pair(pair, tmp_path / "keys")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (secret, public)] == [0o600, 0o644]
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert read_secret(secret) == pair
    assert read_public(secret) == read_public(public) == ("qpu.1", pair.public)
    assert pair.secret not in public.read_text()
    assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    with pytest.raises(KeyFileError, match="is there already"):
        write_pair(new_pair("qpu.1"), tmp_path / "keys")
    assert read_secret(secret) == pair


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "x" * 65, ".hidden", "ä"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(KeyFileError, match="is no name for a key"):
        new_pair(name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_secret_that_others_can_reach_is_not_used(tmp_path: Path, mode: int) -> None:
    pair = new_pair("a")
    secret, _ = write_pair(pair, tmp_path)
    secret.chmod(mode)
    for read in (read_secret, read_public):
        with pytest.raises(KeyFileError, match=f"mode 0{mode:o}.*chmod 600 {secret}") as told:
            read(secret)
        assert pair.secret not in str(told.value)
    secret.chmod(0o400)
    assert read_secret(secret) == pair


def test_files_that_are_no_keys_and_nothing_of_them_in_the_message(tmp_path: Path) -> None:
    pair, other = new_pair("a"), new_pair("b")
    path = tmp_path / "x.secret"
    texts = {
        pair.secret: "no key file",
        f'secret = "{pair.secret}': "no key file",
        f'secret = "{pair.secret}"': "no public key",
        f'public = "{pair.public}"': "give the .secret file",
        f'secret = "{pair.secret}"\npublic = "{other.public}"': "no pair",
        f'secret = "{pair.secret[:-1]}"\npublic = "{pair.public}"': "no pair",
        f'secret = 5\npublic = "{pair.public}"': "give the .secret file",
        f'secret = "{pair.secret}"\npublic = "{"~" * 40}"': "no public key",
        f'secret = "{pair.secret}"\npublic = 5': "no public key",
        "": "no secret key",
    }
    for text, words in texts.items():
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match=words) as told:
            read_secret(path)
        assert pair.secret[:-1] not in str(told.value)
    with pytest.raises(KeyFileError, match="qdec keys new"):
        read_secret(tmp_path / "missing")
    path.write_bytes(b"\xff\x00" * 5000)
    with pytest.raises(KeyFileError, match="no key file"):
        read_secret(path)


def test_public_keys() -> None:
    assert is_public_key(new_pair("a").public)
    for text in ("", "local", "x" * 39, "x" * 41, "~" * 40, "#" * 40, "a" * 39 + "\n"):
        assert not is_public_key(text), text


def test_a_clients_keys_from_files_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smith = Locksmith.at(tmp_path / "keys")
    expected = smith.keys("me")
    key, server = smith.folder / "me.secret", smith.folder / "service.public"
    for name in ("QDEC_KEY", "QDEC_SERVER_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert client_keys() is None
    assert client_keys(key, server) == expected
    with pytest.raises(KeyFileError, match="--server-key FILE"):
        client_keys(key)
    with pytest.raises(KeyFileError, match="--key FILE"):
        client_keys(None, server)
    monkeypatch.setenv("QDEC_KEY", str(key))
    monkeypatch.setenv("QDEC_SERVER_KEY", str(server))
    assert client_keys() == expected
    assert isinstance(expected, ClientKeys)
    assert expected.own.secret not in repr(expected)


# -- the file of authorised keys -------------------------------------------------------------------

PUBLIC = new_pair("x").public
GOOD = f'[[key]]\nname = "a"\npublic = "{PUBLIC}"\nstreams = ["patch*"]\n'


def test_authorised_keys(tmp_path: Path) -> None:
    (grant,) = parse_grants(GOOD, tmp_path / "keys.toml")
    assert (grant.name, grant.streams, grant.topics, grant.admin) == ("a", ("patch*",), (), False)
    assert parse_grants("", tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[[key]", None, "not TOML"),
        ("key = 5", None, "[[key]] tables"),
        (f"{GOOD}[other]\n", None, "nothing else"),
        (GOOD.replace('"a"', '"a b"'), 1, "name"),
        (GOOD.replace('"a"', "5"), 1, "name"),
        (GOOD.replace(PUBLIC, "short"), 1, "qdec keys show"),
        (GOOD.replace(f'public = "{PUBLIC}"\n', ""), 1, "public"),
        (GOOD + "admin = 1\n", 1, "admin"),
        (GOOD + "stream = 1\n", 1, "there are name, public, streams"),
        (GOOD + "messages_per_second = 0\n", 1, "messages_per_second"),
        (GOOD.replace('"patch*"', '"a b"'), 1, "streams"),
        (GOOD + GOOD, 5, "same name"),
        (GOOD + GOOD.replace('"a"', '"b"'), 5, "same public"),
    ],
    ids=lambda value: "keys" if "\n" in str(value) else None,  # they are others in each process
)
def test_mistakes_are_named(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    path = tmp_path / "authorised.toml"
    with pytest.raises(ConfigError) as told:
        parse_grants(text, path)
    assert words in str(told.value)
    assert told.value.line == line
    assert str(path) in str(told.value)


def test_who_can_write_to_the_file_could_let_himself_in(tmp_path: Path) -> None:
    path = tmp_path / "authorised.toml"
    path.write_text(GOOD)
    path.chmod(0o644)
    assert len(read_grants(path)) == 1
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod go-w"):
            read_grants(path)
    with pytest.raises(ConfigError, match="qdec keys new"):
        read_grants(tmp_path / "missing")


# -- the configuration -----------------------------------------------------------------------------


def configured(folder: Path, text: str, service: str = "") -> Config:
    path = folder / "qdec.toml"
    path.write_text(f'[service]\nstate_dir = "{folder}"\n{service}{text}')
    return load_config(path)


LANE = '[[lane]]\nendpoints = ["tcp://0.0.0.0:7600"]\n'


def test_tcp_needs_keys_and_then_may_be_anywhere(tmp_path: Path) -> None:
    smith = Locksmith.at(tmp_path / "keys")
    smith.authorise({"me": {"streams": ["*"]}})
    config = configured(tmp_path, smith.tables + LANE)
    assert config.speaks_curve
    assert [key.name for key in config.keys] == ["porter", "me"]
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert not any(secret in repr(config) for secret in smith.secrets)
    assert insecure(config) == []
    relative = smith.tables.replace(str(tmp_path) + "/", "")
    assert configured(tmp_path, relative + LANE).security == config.security
    with pytest.raises(ConfigError, match="qdec keys new service"):
        configured(tmp_path, LANE)
    with pytest.raises(ConfigError, match="nobody could connect"):
        configured(tmp_path, smith.tables.split("authorised")[0] + LANE)
    with pytest.raises(ConfigError, match="neither encrypted nor authenticated"):
        configured(tmp_path, smith.tables + LANE, "plain_tcp = true\n")
    with pytest.raises(ConfigError, match="keys is unknown"):
        configured(tmp_path, smith.tables + LANE + '[[keys]]\nname = "x"\n')


def test_set_ups_that_let_in_more_than_they_need(tmp_path: Path) -> None:
    smith = Locksmith.at(tmp_path / "keys")
    loopback = LANE.replace("0.0.0.0", "127.0.0.1")
    (plain,) = insecure(configured(tmp_path, loopback, "plain_tcp = true\n"))
    assert "every user of this machine" in plain
    smith.authorise({"a": {"admin": True}, "b": {"admin": True}})
    assert "a, b are all admin" in insecure(configured(tmp_path, smith.tables + LANE))[0]
    smith.authorise({"a": {"streams": ["*"], "guests": True}})
    assert "under any name" in insecure(configured(tmp_path, smith.tables + LANE))[0]
    (smith.folder / "authorised.toml").write_text("")
    assert "nobody can connect" in insecure(configured(tmp_path, smith.tables + LANE))[0]
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    lane = f'[[lane]]\nendpoints = ["ipc://{shared}/lane.ipc"]\n'
    gateway = '[gateway]\nlisten = "0.0.0.0:9600"\nplain_http = true\n'
    folder, http = insecure(configured(tmp_path, lane + gateway))
    assert str(shared) in folder
    assert "plain HTTP" in http


# -- commands --------------------------------------------------------------------------------------


def test_making_and_showing_keys(qdec: Run, tmp_path: Path) -> None:
    status, out, err = qdec("keys", "new", "fridge1", "--out", tmp_path)
    assert (status, err) == (0, "")
    pair = read_secret(tmp_path / "fridge1.secret")
    assert "[[key]]" in out
    (grant,) = parse_grants(out[out.index("[[key]]") : out.index("\n\nFor the service")], tmp_path)
    assert (grant.name, grant.public) == ("fridge1", pair.public)
    for file in ("fridge1.secret", "fridge1.public"):
        status, shown, _ = qdec("keys", "show", tmp_path / file)
        assert status == 0
        assert pair.public in shown
        assert fingerprint(pair.public) in shown
        assert pair.secret not in shown + out
    status, _, err = qdec("keys", "new", "fridge1", "--out", tmp_path)
    assert status == 2
    assert "is there already" in err
    _, out, _ = qdec("keys", "new", "two", "--out", tmp_path, "--json")
    assert json.loads(out)["secret_file"] == str(tmp_path / "two.secret")


def test_listing_keys(qdec: Run, tmp_path: Path) -> None:
    smith = Locksmith.at(tmp_path / "keys")
    smith.authorise({"me": {"streams": ["*"], "messages_per_second": 5}})
    status, out, _ = qdec("keys", "list", smith.folder, "--json")
    assert status == 0
    rows = json.loads(out)
    assert {(row["name"], row["kind"]) for row in rows} == {
        (name, kind) for name in ("service", "porter", "me") for kind in ("secret", "public")
    }
    assert not any(secret in out for secret in smith.secrets)
    (smith.folder / "me.secret").chmod(0o644)
    status, out, _ = qdec("keys", "list", smith.folder)
    assert status == 1
    status, out, _ = qdec("keys", "list", smith.folder / "authorised.toml")
    assert status == 0
    assert "5 messages/s" in out
    assert "no keys in" in qdec("keys", "list", tmp_path / "none")[1]


# -- who owns what ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_other_users_are_not_trusted(tmp_path: Path) -> None:
    """Through a symbolic link or not: their owners could write something else into them."""
    secret, _ = write_pair(new_pair("a"), tmp_path)
    authorised, theirs = tmp_path / "authorised.toml", tmp_path / "theirs.toml"
    theirs.write_text(GOOD)
    theirs.chmod(0o644)
    authorised.symlink_to(theirs)
    assert len(read_grants(authorised)) == 1
    cursor_key(tmp_path)
    for file in (secret, theirs, tmp_path / "cursor.key"):
        os.chown(file, 12345, -1)
    with pytest.raises(KeyFileError, match="uid 12345"):
        read_secret(secret)
    assert "uid 12345" in secret_trouble(secret)
    with pytest.raises(ConfigError, match="uid 12345"):
        read_grants(authorised)
    with pytest.raises(ConfigError, match="others' reach"):
        cursor_key(tmp_path)


def test_the_cursor_key_is_the_services_alone(tmp_path: Path) -> None:
    # Somebody who can write there knows which name to expect.
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"cursor.key.{os.getpid()}").symlink_to(victim)
    key = cursor_key(tmp_path)
    assert victim.read_text() == "precious"
    path = tmp_path / "cursor.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert cursor_key(tmp_path) == key
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others' reach"):
        cursor_key(tmp_path)
