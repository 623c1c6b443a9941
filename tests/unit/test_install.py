"""``qdec install`` into a folder: what it writes and leaves alone, what systemd makes of it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from helpers.command import Run
from qdec.config import load_config
from qdec_tools import install as tool
from qdec_tools.shipped import shipped

ROOT = Path(__file__).parents[2]
UNIT = "etc/systemd/system/qdec@.service"
DROP_INS = "etc/systemd/system/qdec@.service.d"
OURS = (UNIT, f"{DROP_INS}/realtime.conf", "etc/sysusers.d/qdec.conf", "etc/tmpfiles.d/qdec.conf")
EXECUTABLE = "/opt/qdec/bin/qdec"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def install(qdec: Run, root: Path, *more: object) -> str:
    status, out, err = qdec(
        "install", "--root", root, "--executable", EXECUTABLE, "--no-gpu", *more
    )
    assert (status, err) == (0, "")
    return out


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_everything_is_written_and_said(qdec: Run, tmp_path: Path) -> None:
    out = install(qdec, tmp_path, "--instance", "fridge1", "--user", "decoder")
    assert contents(tmp_path).keys() == {*OURS, "etc/qdec/fridge1.toml"}
    for path in contents(tmp_path):
        assert f"wrote   {tmp_path / path}\n" in out
    unit = (tmp_path / UNIT).read_text()
    assert f"\nExecStart={EXECUTABLE} serve --config /etc/qdec/%i.toml\n" in unit
    assert "\nUser=decoder\nGroup=decoder\n" in unit
    assert mode(tmp_path / UNIT) == 0o644
    assert mode(tmp_path / "etc/qdec") == 0o750
    assert mode(tmp_path / "etc/qdec/keys") == 0o700
    assert mode(tmp_path / "etc/qdec/fridge1.toml") == 0o640
    assert "systemctl enable --now qdec@fridge1" in out


def test_the_first_configuration_serves_without_keys(qdec: Run, tmp_path: Path) -> None:
    install(qdec, tmp_path, "--instance", "fridge1")
    config = load_config(tmp_path / "etc/qdec/fridge1.toml")
    assert config.lane[0].endpoints == ("ipc:///run/qdec/fridge1/lane0.ipc",)
    assert not config.speaks_curve
    # What is commented out works, too, when the comments are taken away.
    text = "\n".join(
        line.removeprefix("# ") if line.startswith(("# [", "# server_key", "# name")) else line
        for line in (tmp_path / "etc/qdec/fridge1.toml").read_text().splitlines()
    )
    assert {"security", "stream"} <= tomllib.loads(text).keys()


def test_again_changes_nothing_and_another_instance_adds_its_own(qdec: Run, tmp_path: Path) -> None:
    install(qdec, tmp_path, "--instance", "a")
    before = contents(tmp_path)
    out = install(qdec, tmp_path, "--instance", "a")
    assert contents(tmp_path) == before
    assert "wrote" not in out
    install(qdec, tmp_path, "--instance", "b")
    assert contents(tmp_path).keys() - before.keys() == {"etc/qdec/b.toml"}


def test_a_newer_version_replaces_what_is_still_ours_alone(qdec: Run, tmp_path: Path) -> None:
    install(qdec, tmp_path)
    current = contents(tmp_path)
    (tmp_path / UNIT).write_text(tool.seal("[Service]\nExecStart=/an/older/one\n"))
    tmpfiles = tmp_path / "etc/tmpfiles.d/qdec.conf"
    tmpfiles.write_text(tmpfiles.read_text() + "d /etc/qdec/mine 0750 root qdec -\n")
    config = tmp_path / "etc/qdec/default.toml"
    config.write_text("# mine")
    status, out, _ = qdec("install", "--root", tmp_path, "--executable", EXECUTABLE, "--no-gpu")
    assert status == 1
    assert f"kept    {tmpfiles}: it was changed" in out
    assert (tmp_path / UNIT).read_bytes() == current[UNIT]
    assert "/etc/qdec/mine" in tmpfiles.read_text()
    assert config.read_text() == "# mine"


def test_real_time_work_may_be_left_out(qdec: Run, tmp_path: Path) -> None:
    install(qdec, tmp_path, "--no-realtime")
    assert not (tmp_path / DROP_INS).exists()


def test_a_dry_run_writes_nothing(qdec: Run, tmp_path: Path) -> None:
    out = install(qdec, tmp_path / "root", "--dry-run")
    assert not (tmp_path / "root").exists()
    assert out.count("would write") == len(OURS) + 1
    assert out.count("would make") == 2


def test_uninstalling_takes_what_is_ours_and_unchanged(qdec: Run, tmp_path: Path) -> None:
    install(qdec, tmp_path, "--gpu")
    changed = tmp_path / DROP_INS / "gpu.conf"
    changed.write_text(changed.read_text().replace("char-nvidia*", "char-nvidia0"))
    found = qdec("install", "--root", tmp_path, "--uninstall")
    assert found[0] == 1
    assert contents(tmp_path).keys() == {f"{DROP_INS}/gpu.conf", "etc/qdec/default.toml"}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--instance", "a/b", "letters, digits"),
        ("--instance", "%h", "letters, digits"),
        ("--instance", "-x", "letters, digits"),
        ("--instance", "authorised", "the name of another file"),
        ("--user", "Root", "small letters"),
        ("--user", "root", "not root"),
        ("--user", "a\nExecStart=/bin/sh", "small letters"),
        ("--executable", "qdec", "absolute path"),
        ("--executable", "/opt/q dec", "absolute path"),
        ("--executable", "/opt/%h", "absolute path"),
    ],
)
def test_names_that_a_unit_would_misread_are_refused(
    qdec: Run, tmp_path: Path, option: str, value: str, words: str
) -> None:
    arguments = ["--root", tmp_path, "--executable", EXECUTABLE, f"{option}={value}"]
    status, out, err = qdec("install", *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert contents(tmp_path) == {}


def test_a_root_whose_links_lead_out_of_it_is_refused(qdec: Run, tmp_path: Path) -> None:
    """An image's absolute link means the image's own folder, and would be followed to ours."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    outside.mkdir()
    arguments = ("install", "--root", root, "--executable", EXECUTABLE)
    for link, target in (("etc/systemd", outside), ("etc/qdec", "../../outside")):
        (root / link).symlink_to(target)
        for more in ((), ("--uninstall",)):
            status, _, err = qdec(*arguments, *more)
            assert status == 2
            assert "leads out of" in err
        assert list(outside.iterdir()) == []
        (root / link).unlink()
    (root / "usr/lib/systemd").mkdir(parents=True)
    (root / "etc/systemd").symlink_to("../usr/lib/systemd")
    assert qdec(*arguments)[0] == 0


def test_what_everybody_can_replace_is_not_run_as_a_service(
    qdec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    folder = tmp_path / "opt"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin/qdec"
    program.touch(mode=0o755)
    arguments = ("install", "--dry-run", "--executable", program)
    assert qdec(*arguments)[0] in (0, 1)
    for one in (program, folder):
        before = mode(one)
        one.chmod(0o777)
        status, _, err = qdec(*arguments)
        assert status == 2
        assert f"everybody may write to {one}" in err
        one.chmod(before)


def test_without_root_it_says_what_to_do(
    qdec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    status, out, err = qdec("install", "--executable", EXECUTABLE)
    assert (status, out) == (2, "")
    assert f"sudo {EXECUTABLE} install" in err
    # What it would do may be asked by anybody.
    assert qdec("install", "--executable", EXECUTABLE, "--dry-run")[0] in (0, 1)


def test_what_the_service_could_not_see_is_refused(
    qdec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qdec").touch()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr(tool, "_HIDDEN", (str(tmp_path),))
    status, _, err = qdec("install", "--root", tmp_path / "root")
    assert status == 2
    assert f"its unit hides {tmp_path}" in err
    monkeypatch.setattr(tool, "_HIDDEN", ("/nowhere",))
    assert tool.find_executable() == str(tmp_path / "qdec")


def test_a_wheel_would_have_the_files() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"configs": "qdec_tools/configs"}
    assert shipped("systemd/qdec@.service") == (ROOT / "configs/systemd/qdec@.service").read_text()


@needs_root
@needs("systemd-sysusers")
@needs("systemd-tmpfiles")
def test_systemd_makes_the_user_and_the_folders(qdec: Run, tmp_path: Path) -> None:
    install(qdec, tmp_path, "--user", "decoder")
    run = {"check": True, "capture_output": True}
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "qdec.conf"], **run)
    users = dict(line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines())
    _, uid, gid, *_, home, shell = users["decoder"].split(":")
    assert (home, shell) == ("/var/lib/qdec", "/usr/sbin/nologin")
    subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", "qdec.conf"], **run)
    owners = {
        name: ((tmp_path / name).stat().st_uid, (tmp_path / name).stat().st_gid)
        for name in ("etc/qdec", "etc/qdec/keys", "etc/qdec/default.toml")
    }
    assert owners == {
        "etc/qdec": (0, int(gid)),
        "etc/qdec/keys": (int(uid), int(gid)),
        "etc/qdec/default.toml": (0, int(gid)),
    }
