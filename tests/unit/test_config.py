"""A configuration is right, or its mistake is named: the file, the line, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.config import Config, default_state_dir, load_config, parse_config, stream_error
from qdec.errors import ConfigError
from qdec.match import Tier
from qdec.match.escalate import Switching
from qdec.slo import Slo

GOOD = """\
[service]
drain_s = 5
plain_tcp = true
[defaults]
tier = "correlated"
deadline_us = 1500

[[lane]]
endpoints = ["tcp://127.0.0.1:7600", "ipc:///run/qdec/lane0.ipc"]
guests = false

[[lane]]
endpoints = ["tcp://127.0.0.1:7601"]
cpu = 1

[[stream]]
name = "patch0"
code = "d3.stim"
endless = true

[[stream]]
name = "patch1"
code = "d3.stim"
lane = 1
tier = "matching"
windows = "20,10"

[gateway]
listen = "127.0.0.1:9601"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "d3.stim").write_text("# the code itself is not read here")
    return tmp_path / "qdec.toml"


def test_switching(path: Path) -> None:
    wish = """
[defaults]
confidence = true
[[lane]]
endpoints = ["ipc:///run/qdec/lane0.ipc"]
[[stream]]
name = "patch0"
code = "d3.stim"
escalate = ["correlated"]
escalate_below = 0.95
[[stream]]
name = "patch1"
code = "d3.stim"
confidence = false
"""
    config = parse_config(wish, path=path)
    assert config.stream[0].switching == Switching(True, (Tier.CORRELATED,), 0.95)
    assert not config.stream[1].switching
    assert config.defaults.switching == Switching(True)
    for wrong, told in (
        ('escalate = ["strong"]', "unknown tier 'strong'"),
        ('escalate = "correlated"', "escalate: write a list"),
        ('escalate = ["correlated"]\nescalate_below = 1.0', "less than 1"),
        ('escalate = ["correlated"]\nlanes = [0, 1]', "cannot escalate"),
    ):
        text = f"""[[lane]]
endpoints = ["ipc:///run/qdec/lane0.ipc"]
[[lane]]
endpoints = ["ipc:///run/qdec/lane1.ipc"]
[[stream]]
name = "patch0"
code = "d3.stim"
{wrong}
"""
        with pytest.raises(ConfigError, match=told) as caught:
            parse_config(text, path=path)
        assert caught.value.line in (8, 9)


def test_a_good_one(path: Path) -> None:
    config = parse_config(GOOD, path=path)
    assert config.service.drain_s == 5
    assert [lane.guests for lane in config.lane] == [False, True]
    assert config.gateway is not None
    assert config.gateway.listen == "127.0.0.1:9601"
    first, second = config.stream
    assert (first.tier, first.deadline_us, first.windows) == ("correlated", 1500, "auto")
    assert (second.tier, second.deadline_us, second.windows) == ("matching", 1500, "20,10")
    assert first.code == path.parent / "d3.stim"
    assert first.code.is_absolute()
    # It goes to the lanes as JSON.
    assert Config.model_validate(config.model_dump(mode="json")) == config


SLO = """\
[defaults]
deadline_us = 900
[defaults.slo]
deadline_misses = 0.01
pause_on = ["deadline"]
[[lane]]
endpoints = ["ipc:///run/qdec/lane0.ipc"]
[[stream]]
name = "patch0"
code = "d3.stim"
[[stream]]
name = "patch1"
code = "d3.stim"
[stream.slo]
latency_us = 500
percentile = 99.9
"""


def test_a_streams_objectives_are_the_defaults_but_for_what_it_names(path: Path) -> None:
    first, second = (one.slo for one in parse_config(SLO, path=path).stream)
    assert first == Slo(deadline_misses=0.01, pause_on=("deadline",))
    assert second == first.model_copy(update={"latency_us": 500, "percentile": 99.9})
    assert second.budgets == pytest.approx((0.001, 0.01, 0.01, 0.05))
    inline = (
        SLO.replace("[stream.slo]", "slo = {").replace("500\n", "500,").replace("99.9", "99.9}")
    )
    inline = inline.replace("{\n", "{")
    assert parse_config(inline, path=path).stream[1].slo == second
    config = parse_config(SLO, path=path)
    assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("latency_us = 500", 'latency_us = "500"', 15, ("slo.latency_us", "without quotes")),
        ("latency_us = 500", "latency = 500", 15, ("latency is unknown", "latency_us")),
        ("percentile = 99.9", "percentile = 100.0", 16, ("less than 100",)),
        ("deadline_misses = 0.01", "deadline_misses = 0.0", 4, ("greater than 0",)),
        ('["deadline"]', '"deadline"', 5, ("write a list",)),
        ('["deadline"]', '["lateness"]', 5, ("latency, deadline, confidence, fallback",)),
        ("latency_us = 500", "resume_burn = 20.0", 14, ("resume_burn", "less than pause_burn")),
        ("latency_us = 500", "deadline_misses = 0.5", 14, ("never pause", "burn rate is 2")),
        ("[stream.slo]", "slo = 3\n[stream.other]", 14, ("slo", "as a table: [stream.slo]")),
    ],
)
def test_objectives_that_make_no_sense(
    path: Path, old: str, new: str, line: int, words: tuple[str, ...]
) -> None:
    assert old in SLO
    with pytest.raises(ConfigError) as caught:
        parse_config(SLO.replace(old, new, 1), path=path)
    assert caught.value.line == line, caught.value
    for word in words:
        assert word in str(caught.value)


def test_which_streams_the_accelerator_answers(path: Path) -> None:
    assert not parse_config(GOOD, path=path).accelerated
    text = GOOD.replace("endless = true", "endless = true\naccelerated = true")
    config = parse_config(text, path=path)
    assert [one.name for one in config.accelerated] == ["patch0"]
    assert config.accelerator.enabled
    off = parse_config(text + "[accelerator]\nenabled = false\n", path=path)
    assert not off.accelerated
    assert off.stream[0].is_accelerated, "its lane answers instead, and says so"


def test_an_accelerator_needs_stores_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    parse_config(GOOD, path=path)
    text = GOOD.replace("endless = true", "endless = true\naccelerated = true")
    with pytest.raises(ConfigError, match="enabled = false"):
        parse_config(text, path=path)


def test_the_shipped_one() -> None:
    shipped = Path(__file__).resolve().parents[2] / "configs" / "qdec.toml"
    assert len(load_config(shipped).lane) >= 1


# What is changed in GOOD, the line that must be named, and words the message must have.
MISTAKES: dict[str, tuple[str, str, int | None, tuple[str, ...]]] = {
    "not TOML": ("drain_s = 5", "drain_s = = 5", 2, ("TOML",)),
    "cut off": ('"127.0.0.1:9601"\n', '"127', 29, ("TOML",)),
    "unknown section": ("[defaults]", "[default]", 4, ("default", "unknown", "defaults")),
    "unknown key": ("drain_s = 5", "drain_s = 5\ndrian_s = 5", 3, ("drian_s", "drain_s")),
    "unknown key of a stream": ("endless = true", "endles = true", 19, ("endles", "endless")),
    "unknown key of a lane": ("guests = false", "guest = false", 10, ("guest", "guests")),
    "wrong type": ("drain_s = 5", 'drain_s = "soon"', 2, ("drain_s", "number")),
    "a number in quotes": ("drain_s = 5", 'drain_s = "3"', 2, ("without quotes",)),
    "a switch in quotes": ("endless = true", 'endless = "yes"', 19, ("true or false",)),
    "plain TCP in quotes": ("plain_tcp = true", 'plain_tcp = "off"', 3, ("true or false",)),
    "a switch for a number": ("deadline_us = 1500", "deadline_us = true", 6, ("whole number",)),
    "a fraction of a µs": ("deadline_us = 1500", "deadline_us = 1.5", 6, ("whole number",)),
    "a number for a name": ('name = "patch1"', "name = 1", 22, ("in quotes",)),
    "a number for a path": ('code = "d3.stim"\nlane', "code = 3\nlane", 23, ("in quotes",)),
    "one endpoint": (
        'endpoints = ["tcp://127.0.0.1:7601"]',
        'endpoints = "tcp://127.0.0.1:7601"',
        13,
        ('write a list of at least one: endpoints = ["tcp://',),
    ),
    "a table too many": ("[service]", "[[service]]", 1, ("one pair of brackets",)),
    "out of range": ("drain_s = 5", "drain_s = -5", 2, ("drain_s", "greater than 0")),
    "realtime": ("drain_s = 5", 'realtime = "always"', 2, ("auto", "off", "require")),
    "realtime priority": ("drain_s = 5", "realtime_priority = 99", 2, ("98",)),
    "a core beyond all": ("cpu = 1", "cpu = 8192", 14, ("cpu", "8192")),
    "tier in defaults": ('tier = "correlated"', 'tier = "magic"', 5, ("matching",)),
    "tier of a stream": ('tier = "matching"', 'tier = "magic"', 25, ("matching", "correlated")),
    "the fallback accelerated": (
        'tier = "matching"',
        'tier = "matching"\naccelerated = true',
        26,
        ("patch1", "another tier"),
    ),
    "a lane's core": (
        "[gateway]",
        "[accelerator]\ncpu = 1\n[gateway]",
        29,
        ("core 1", "another"),
    ),
    "an engine that there is not": (
        "[gateway]",
        '[accelerator]\nengine = "cuda"\n[gateway]',
        29,
        ("engine", "tensorrt"),
    ),
    "accelerated by default": (
        'tier = "correlated"',
        "accelerated = true",
        5,
        ("accelerated", "unknown"),
    ),
    "windows": ('windows = "20,10"', 'windows = "20"', 26, ("W,C", "10,5")),
    "deadline": ("deadline_us = 1500", "deadline_us = 0", 6, ("deadline_us", "1")),
    "misspelt lane": ("[[lane]]", "[[lanes]]", 8, ("lanes", "'lane'")),
    "unlike anything": ("drain_s = 5", "x = 5", 2, ("service.x", "drain_s, gap_ms")),
    "lane without endpoints": (
        'endpoints = ["tcp://127.0.0.1:7601"]\n',
        "",
        12,
        ("endpoints",),
    ),
    "empty endpoints": (
        'endpoints = ["tcp://127.0.0.1:7601"]',
        "endpoints = []",
        13,
        ("endpoints",),
    ),
    "malformed endpoint": ("tcp://127.0.0.1:7601", "tcp://127.0.0.1", 13, ("tcp://ADDRESS:PORT",)),
    "endpoint beyond loopback": ("127.0.0.1:7601", "0.0.0.0:7601", 13, ("plain_tcp out", "keys")),
    "endpoint twice": ("127.0.0.1:7601", "127.0.0.1:7600", 13, ("both bind", "own")),
    "name twice": ('name = "patch1"', 'name = "patch0"', 22, ("patch0", "twice")),
    "bad name": ('name = "patch1"', 'name = "patch 1"', 22, ("name",)),
    "no name": ('name = "patch1"\n', "", 21, ("name",)),
    "no such lane": ("lane = 1", "lane = 2", 24, ("patch1", "lane 2", "only 2")),
    "lane and lanes": ("lane = 1", "lane = 1\nlanes = [0, 1]", 24, ("patch1", "both", "alone")),
    "one of lanes is none": ("lane = 1", "lanes = [0, 2]", 24, ("patch1", "lane 2", "only 2")),
    "one of lanes is negative": (
        "lane = 1",
        "lanes = [0, -1]",
        24,
        ("patch1", "lane -1", "only 2"),
    ),
    "lanes twice": ("lane = 1", "lanes = [1, 1]", 24, ("twice", "[1, 1]", "its own")),
    "a single one of lanes": ("lane = 1", "lanes = [1]", 24, ("lane = 1",)),
    "too many lanes": ("lane = 1", f"lanes = {list(range(9))}", 24, ("at most 8", "not 9")),
    "lanes that are none": ("lane = 1", 'lanes = [0, "x"]', 24, ("lanes", "whole number")),
    "lanes that are one": ("lane = 1", "lanes = 1", 24, ("list", "lanes = [0, 1]")),
    "lanes for defaults": ('tier = "correlated"', "lanes = [0, 1]", 5, ("lanes", "unknown")),
    "lanes with windows of their own": (
        'lane = 1\ntier = "matching"\nwindows = "20,10"',
        'lanes = [0, 1]\ntier = "matching"\nwindows = "20,10,80"',
        26,
        ("patch1", "same windows", "leave M out"),
    ),
    "correlated lanes": (
        'lane = 1\ntier = "matching"',
        "lanes = [0, 1]",
        24,
        ("patch1", 'tier = "matching"'),
    ),
    "a tier without its model": (
        'tier = "matching"',
        'tier = "ising"',
        25,
        ("patch1", "needs a model", "qdec model list"),
    ),
    "a model that is no name": (
        'tier = "matching"',
        'tier = "ising"\nmodel = 3',
        26,
        ("model", "text, in quotes"),
    ),
    "no such map": (
        'code = "d3.stim"\nlane',
        'map = "no"\ncode = "d3.stim"\nlane',
        23,
        ("patch1", "round map", "/no"),
    ),
    "unknown key of the gateway": ("listen = ", "lisen = ", 29, ("lisen", "listen")),
    "no port": ("127.0.0.1:9601", "127.0.0.1", 29, ("ADDRESS:PORT",)),
    "port out of range": ("127.0.0.1:9601", "127.0.0.1:70000", 29, ("ADDRESS:PORT",)),
    "gateway beyond loopback": ("127.0.0.1:9601", "0.0.0.0:9601", 29, ("plain_http = true",)),
    "gateway where a lane is": ("127.0.0.1:9601", "127.0.0.1:7601", 29, ("lane 1", "binds")),
    "no such code": ('code = "d3.stim"\nlane', 'code = "d5.stim"\nlane', 23, ("d5.stim",)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(path: Path, name: str) -> None:
    old, new, line, words = MISTAKES[name]
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new, 1), path=path)
    assert caught.value.line == line, caught.value
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_lanes_that_share_a_stream(path: Path) -> None:
    first, second = parse_config(GOOD.replace("lane = 1", "lanes = [1, 0]"), path=path).stream
    assert (first.owners, first.parts) == ((0,), 1)
    assert (second.owners, second.parts) == ((1, 0), 2)


@pytest.mark.parametrize("table", ["lane", "stream"])
@pytest.mark.parametrize("text", ["[{}]\nname = 1\n", "{} = 3\n", "{} = [3]\n"])
def test_tables_of_which_there_may_be_several(path: Path, table: str, text: str) -> None:
    lane = '[[lane]]\nendpoints = ["tcp://127.0.0.1:7600"]\n' if table == "stream" else ""
    with pytest.raises(ConfigError, match=rf"write \[\[{table}\]\] with two brackets"):
        parse_config(text.format(table) + lane, path=path)


def test_no_lane_at_all(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lane.*\[\[lane\]\]"):
        parse_config("[service]\ndrain_s = 5\n", path=path)


def test_more_streams_than_may_be_open(path: Path) -> None:
    text = GOOD.replace("drain_s = 5", "max_streams = 1")
    assert len(parse_config(text, path=path).stream) == 2  # one on each lane
    with pytest.raises(ConfigError, match=r"lane 0 has more.*max_streams = 1") as caught:
        parse_config(text.replace("\nlane = 1", ""), path=path)
    assert caught.value.line == 2


def test_keys_may_be_quoted_spaced_and_commented(path: Path) -> None:
    text = GOOD.replace('windows = "20,10"', '# windows = "5,4"\n  "windows"   = "20"')
    with pytest.raises(ConfigError) as caught:
        parse_config(text, path=path)
    assert caught.value.line == 27


def test_models_lie_beside_the_configuration_or_in_their_folder(path: Path) -> None:
    (path.parent / "kept").mkdir()
    (path.parent / "kept" / "mine.safetensors").touch()
    text = GOOD.replace("drain_s = 5", 'models_dir = "kept"')
    for wanted, found in {
        "mine": str(path.parent / "kept" / "mine.safetensors"),
        "theirs": "theirs",
        "here.safetensors": str(path.parent / "here.safetensors"),
        "/elsewhere/m": "/elsewhere/m",
    }.items():
        config = parse_config(
            text.replace('tier = "matching"', f'tier = "ising"\nmodel = "{wanted}"'), path=path
        )
        assert config.stream[1].model == found
        assert config.stream[0].model is None


@pytest.mark.parametrize(
    ("default", "stream", "key", "told"),
    [
        ('escalate = ["guarded"]', "lanes = [0, 1]", "escalate", "cannot escalate"),
        ('escalate = ["guarded"]', 'tier = "guarded"', "escalate", "is asked first"),
        ('escalate = ["guarded"]', 'tier = "auto"', "escalate", "decides on its own"),
        ('escalate = ["accuracy"]', "", "escalate", "too slow for a lane"),
        ('tier = "ising"', "", "tier", "needs a model"),
        ('windows = "20,10,40"', "lanes = [0, 1]", "windows", "leave M out"),
    ],
)
def test_a_mistake_that_stands_under_defaults_is_told_from_there(
    path: Path, default: str, stream: str, key: str, told: str
) -> None:
    text = f"""[[lane]]
endpoints = ["ipc:///run/qdec/lane0.ipc"]
[[lane]]
endpoints = ["ipc:///run/qdec/lane1.ipc"]
[defaults]
deadline_us = 1500
{default}
[[stream]]
name = "patch0"
code = "d3.stim"
{stream}
"""
    with pytest.raises(ConfigError, match=told) as caught:
        parse_config(text, path=path)
    assert caught.value.line == 7
    assert f"({key} stands under [defaults])" in str(caught.value)
    own = text.replace(default, "").replace('"d3.stim"', f'"d3.stim"\n{default}')
    with pytest.raises(ConfigError, match=told) as caught:
        parse_config(own, path=path)
    assert caught.value.line == 11
    assert "[defaults]" not in str(caught.value)


def test_what_a_stream_has_from_defaults_is_named_where_it_cannot_be_served(path: Path) -> None:
    path.write_text(GOOD)
    first, second = stream_error("no", path, 0), stream_error("no", path, 1)
    assert str(first) == f"{path}:16: no (its tier, deadline_us: from [defaults], line 4)"
    assert str(second) == f"{path}:21: no (its deadline_us: from [defaults], line 4)"
    path.write_text(GOOD.replace("[defaults]", "[gone").replace("[[stream]]", "[[other]]"))
    assert str(stream_error("no", path, 0)) == f"{path}: no"


def test_a_default_model_is_for_the_streams_that_take_one(path: Path) -> None:
    text = GOOD.replace('tier = "correlated"', 'model = "mine"')
    assert [one.tier for one in parse_config(text, path=path).stream] == ["matching"] * 2


def test_a_round_map_lies_beside_the_configuration(path: Path) -> None:
    (path.parent / "d3.rounds").touch()
    text = GOOD.replace("endless = true", 'map = "d3.rounds"')
    first, second = parse_config(text, path=path).stream
    assert (first.map, second.map) == (path.parent / "d3.rounds", None)


def test_a_gateway_is_had_for_the_asking(path: Path) -> None:
    without = GOOD.split("[gateway]")[0]
    assert parse_config(without, path=path).gateway is None
    asked = parse_config(without + "[gateway]\n", path=path).gateway
    assert asked is not None
    assert asked.listen == "127.0.0.1:9600"
    text = without + '[gateway]\nlisten = "[::]:9600"\nplain_http = true\n'
    assert parse_config(text, path=path).gateway is not None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.toml")
    odd = tmp_path / "odd.toml"
    odd.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(odd)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000 + "]" * 5000,
        "x = " + "9" * 5000,
        '[security]\nserver_key = "a\\u0000b"',
        '[security]\nauthorised = "a\\u0000b"',
        '[service]\nstate_dir = "a\\u0000b"',
        '[[stream]]\nname = "a"\ncode = "' + "a/" * 3000 + '"',
        '[defaults]\nmodel = "./a\\u0000b"',
    ],
)
def test_what_would_break_its_reader_is_a_mistake_like_others(path: Path, text: str) -> None:
    """The supervisor reads it at SIGHUP, and is not to end with it."""
    with pytest.raises(ConfigError):
        parse_config(f"{text}\n[[lane]]\nendpoints = ['ipc:///run/x.ipc']\n", path=path)


def test_no_more_is_read_than_makes_sense() -> None:
    with pytest.raises(ConfigError, match="more than"):
        load_config(Path("/dev/zero"))


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/qdec:/var/lib/other")
    assert default_state_dir() == Path("/var/lib/qdec")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/state")
    assert default_state_dir() == Path("/home/x/state/qdec")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_state_dir() == Path.home() / ".local" / "state" / "qdec"


@given(
    drop=st.sets(st.integers(0, 26), max_size=3),
    twice=st.integers(0, 26),
    cut=st.integers(0, len(GOOD)),
)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, drop: set[int], twice: int, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "qdec.toml"
    (path.parent / "d3.stim").touch()
    lines = GOOD[:cut].splitlines()
    lines = [line for n, line in enumerate(lines) if n not in drop]
    text = "\n".join([*lines, *lines[twice : twice + 1]])
    try:
        config = parse_config(text, path=path)
    except ConfigError as error:
        said = error
    else:
        said = None
        assert config.lane
    if said is not None:
        assert said.path == str(path)
        assert said.line is None or 1 <= said.line <= len(lines) + 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('tier = "matching"\nescalate = ["accuracy"]', "too slow for a lane's own thread"),
        ('tier = "correlated"\nescalate = ["correlated"]', "asked first"),
        ('tier = "matching"\nescalate = ["guarded", "guarded"]', "names a tier twice"),
        ('tier = "matching"\nmodel = "accuracy"', "takes no model"),
        ('tier = "auto"\nmodel = "accuracy"', "takes no model"),
    ],
)
def test_ladders_and_models_that_make_no_sense(tmp_path: Path, settings: str, words: str) -> None:
    path = tmp_path / "qdec.toml"
    (tmp_path / "a.stim").write_text("")
    path.write_text(
        '[[lane]]\nendpoints = ["ipc:///run/qdec/lane.ipc"]\n'
        f'[[stream]]\nname = "a"\ncode = "a.stim"\nendless = true\n{settings}\n'
    )
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_networks_may_be_asked_next_on_the_accelerator(tmp_path: Path) -> None:
    path = tmp_path / "qdec.toml"
    (tmp_path / "a.stim").write_text("")
    path.write_text(
        '[[lane]]\nendpoints = ["ipc:///run/qdec/lane.ipc"]\n'
        '[[stream]]\nname = "a"\ncode = "a.stim"\n'
        'endless = true\ntier = "speed"\nescalate = ["accuracy"]\n'
    )
    assert load_config(path).stream[0].is_accelerated
