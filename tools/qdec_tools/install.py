"""``qdec install``: what systemd needs to run the service, put where it looks for it.

Files that belong to qdec (units, drop-ins, sysusers.d, tmpfiles.d) begin with a line that has a
digest of the rest. One that still fits its digest is replaced by a newer version; one that somebody
has changed is left alone, as a configuration always is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import qdec
from qdec.errors import InstallError
from qdec_tools.shipped import shipped

INSTANCE = r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}"
USER = r"[a-z_][a-z0-9_\-]{0,30}"
# As the unit that we ship calls it.
UNIT_EXECUTABLE = "/usr/local/bin/qdec"
# Where these are, ProtectHome= and PrivateTmp= of the unit have the service see nothing.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
_EXECUTABLE = re.compile(r"/[A-Za-z0-9_./+@:,=\-]+")
_UNITS = Path("etc/systemd/system")
_DROP_INS = _UNITS / "qdec@.service.d"
_CONFIGS = Path("etc/qdec")
_KEYS = _CONFIGS / "keys"
_SYSUSERS, _TMPFILES = Path("etc/sysusers.d/qdec.conf"), Path("etc/tmpfiles.d/qdec.conf")
_OURS = re.compile(r"# Written by qdec install\b[^\n]*\[([0-9a-f]{16})\]\n")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be installed.

    Attributes:
        root: the machine's, or a folder that a package or an image is made from.
        instance: name of the QPU.
        user: whom the service runs as; its group has the same name.
        executable: ``qdec`` as the unit calls it.
        realtime, gpu: whether to have these drop-ins.
    """

    root: Path
    instance: str
    user: str
    executable: str
    realtime: bool = True
    gpu: bool = False

    def __post_init__(self) -> None:
        """Refuse names that mean something else to systemd.

        Raises:
            InstallError: one does.
        """
        if not re.fullmatch(INSTANCE, self.instance) or self.instance == "authorised":
            raise InstallError(
                f"--instance {self.instance}: letters, digits and _.- please, at most 63, and not "
                "authorised, which is the name of another file"
            )
        if not re.fullmatch(USER, self.user) or self.user == "root":
            raise InstallError(
                f"--user {self.user}: small letters, digits and _- please, and not root"
            )
        if not _EXECUTABLE.fullmatch(self.executable):
            raise InstallError(
                f"{self.executable} cannot be named in a unit: --executable with an absolute path "
                "of plain characters"
            )

    @property
    def live(self) -> bool:
        """Whether this is the machine that runs."""
        return self.root.resolve() == Path("/")

    @property
    def files(self) -> dict[Path, str]:
        """What belongs to qdec: texts by path below `root`."""
        files = {
            _UNITS / "qdec@.service": self._unit(),
            _SYSUSERS: self._named(shipped("systemd/sysusers.conf")),
            _TMPFILES: self._named(shipped("systemd/tmpfiles.conf")),
        }
        if self.realtime:
            files[_DROP_INS / "realtime.conf"] = shipped("systemd/realtime.conf")
        if self.gpu:
            files[_DROP_INS / "gpu.conf"] = shipped("systemd/gpu.conf")
        return files

    @property
    def config(self) -> Path:
        """Of the instance, below `root`."""
        return _CONFIGS / f"{self.instance}.toml"

    def _unit(self) -> str:
        text = shipped("systemd/qdec@.service").replace(UNIT_EXECUTABLE, self.executable)
        return re.sub(r"^(User|Group)=.*$", rf"\1={self.user}", text, flags=re.MULTILINE)

    def _named(self, text: str) -> str:
        return re.sub(r"(?<=\s)qdec(?=\s)", self.user, text)


def find_executable() -> str:
    """``qdec`` beside the interpreter that runs this.

    Raises:
        InstallError: the service would not see it there.
    """
    beside = Path(sys.executable).parent / "qdec"
    found = str(beside) if beside.is_file() else shutil.which("qdec")
    if found is None:
        raise InstallError(f"there is no qdec beside {sys.executable}: name it with --executable")
    for path in (Path(found), Path(sys.executable).resolve(), Path(qdec.__file__).resolve()):
        hidden = next((h for h in _HIDDEN if path.is_relative_to(h)), None)
        if hidden is not None:
            raise InstallError(
                f"the service will not see {path}: its unit hides {hidden}. Have qdec in a place "
                "of its own (python3 -m venv /opt/qdec, /opt/qdec/bin/pip install qdec, "
                "/opt/qdec/bin/qdec install), or name another one with --executable"
            )
    return found


def install(wishes: Wishes, *, dry_run: bool = False) -> int:
    """Write what is missing or old, and say so. Returns the exit status: 1 if something was kept.

    Raises:
        InstallError: it cannot be written.
    """
    _may_write(wishes, dry_run)
    kept = False
    for path, text in wishes.files.items():
        kept |= _put(wishes.root / path, seal(text), dry_run)
    if wishes.live:
        _call("systemd-sysusers", f"/{_SYSUSERS}", dry_run=dry_run)
    for folder, mode in ((_CONFIGS, 0o750), (_KEYS, 0o700)):
        _make_folder(wishes.root / folder, mode, dry_run)
    config = wishes.root / wishes.config
    if config.exists():
        print(f"kept    {config}: it is yours")
    else:
        text = shipped("systemd/example.toml").replace("INSTANCE", wishes.instance)
        _write(config, text, 0o640, dry_run)
    if wishes.live:
        _call("systemd-tmpfiles", "--create", f"/{_TMPFILES}", dry_run=dry_run)
        _reload(dry_run)
    print()
    print("\n".join(_next(wishes)))
    return int(kept)


def uninstall(wishes: Wishes, *, dry_run: bool = False) -> int:
    """Remove what `install` wrote, but nothing that somebody changed. Returns the exit status.

    Raises:
        InstallError: it cannot be removed.
    """
    _may_write(wishes, dry_run)
    kept = False
    everything = Wishes(wishes.root, wishes.instance, wishes.user, wishes.executable, True, True)
    for path in (wishes.root / path for path in everything.files):
        if not path.exists():
            continue
        if not _is_ours(path.read_text(encoding="utf-8", errors="replace")):
            print(f"kept    {path}: it was changed")
            kept = True
            continue
        print(f"{'would remove' if dry_run else 'removed'} {path}")
        if not dry_run:
            path.unlink()
    if wishes.live:
        _reload(dry_run)
    print(f"left alone: /{_CONFIGS}, /var/lib/qdec, /var/cache/qdec, and the user {wishes.user}")
    return int(kept)


def seal(text: str) -> str:
    """A file's text behind the line by which it is known again."""
    told = "Changes belong in a drop-in, or this file will be taken for yours."
    return f"# Written by qdec install. {told} [{_digest(text)}]\n{text}"


def _is_ours(content: str) -> bool:
    found = _OURS.match(content)
    return found is not None and found[1] == _digest(content[found.end() :])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stays_inside(wishes: Wishes) -> None:
    """Refuse a root whose links lead out of it: an image's mean its own files, not this machine's.

    Raises:
        InstallError: one does.
    """
    root = wishes.root.resolve()
    for path in (*wishes.files, wishes.config, _KEYS):
        folder = (root / path).parent.resolve()
        if not folder.is_relative_to(root):
            raise InstallError(
                f"{wishes.root / path.parent} leads out of {wishes.root}, to {folder}: "
                "install in a root without such a link, or make it relative"
            )


def _others_write(executable: str) -> str:
    """What of an executable's path everybody may replace; empty if nothing."""
    path = Path(executable)
    for one in (path, path.resolve()):
        for part in (one, *one.parents):
            try:
                mode = part.stat().st_mode
            except OSError:
                continue
            if mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
                return str(part)
    return ""


def _may_write(wishes: Wishes, dry_run: bool) -> None:
    _stays_inside(wishes)
    if wishes.live and (found := _others_write(wishes.executable)):
        raise InstallError(
            f"everybody may write to {found}, and so choose what the service runs: chmod o-w it"
        )
    if wishes.live and os.geteuid() != 0 and not dry_run:
        raise InstallError(
            f"this writes into /etc: sudo {wishes.executable} install. --dry-run shows what it "
            "would do, --root DIR does it in a folder"
        )


def _put(path: Path, text: str, dry_run: bool) -> bool:
    """Write one of qdec's own files. Returns whether somebody's changes kept it from that."""
    if path.exists():
        found = path.read_text(encoding="utf-8", errors="replace")
        if found == text:
            print(f"same    {path}")
            return False
        if not _is_ours(found):
            print(
                f"kept    {path}: it was changed since it was written. To have the new one, move "
                "your changes into a drop-in, remove it, and run this again"
            )
            return True
    _write(path, text, 0o644, dry_run)
    return False


def _write(path: Path, text: str, mode: int, dry_run: bool) -> None:
    print(f"{'would write' if dry_run else 'wrote  '} {path}")
    if dry_run:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError as error:
        raise InstallError(f"cannot write {path}: {error.strerror}") from None


def _make_folder(path: Path, mode: int, dry_run: bool) -> None:
    if path.is_dir():
        return
    print(f"{'would make' if dry_run else 'made   '} {path}, mode {mode:04o}")
    if dry_run:
        return
    try:
        path.mkdir(parents=True)
        path.chmod(mode)
    except OSError as error:
        raise InstallError(f"cannot make {path}: {error.strerror}") from None


def _reload(dry_run: bool) -> None:
    if Path("/run/systemd/system").is_dir():
        _call("systemctl", "daemon-reload", dry_run=dry_run)


def _call(program: str, *arguments: str, dry_run: bool) -> None:
    """Run one of systemd's programs.

    Raises:
        InstallError: it is not there, or failed.
    """
    print(f"{'would call' if dry_run else 'called '} {' '.join((program, *arguments))}")
    if dry_run:
        return
    try:
        done = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise InstallError(
            f"cannot run {program}: {error.strerror}; is systemd installed?"
        ) from None
    if done.returncode:
        raise InstallError(f"{program} failed: {done.stderr.strip() or done.returncode}")


def _next(wishes: Wishes) -> Iterator[str]:
    """What comes now."""
    qdec_, user, unit = wishes.executable, wishes.user, f"qdec@{wishes.instance}"
    config = f"/{wishes.config}"
    yield "Next:"
    if not wishes.live:
        yield f"  systemd-sysusers /{_SYSUSERS}; systemd-tmpfiles --create /{_TMPFILES}"
        yield "  systemctl daemon-reload"
    yield f"  edit {config}"
    yield f"  sudo -u {user} {qdec_} keys new service --out /{_KEYS}   # for TCP (docs/security.md)"
    yield f"  sudo -u {user} {qdec_} serve --config {config} --check"
    yield f"  systemd-run --pipe --uid={user} -p LimitRTPRIO=21 -p LimitMEMLOCK=infinity \\"
    yield f"      {qdec_} doctor --config {config}"
    yield f"  systemctl enable --now {unit}"
    yield f"  systemctl status {unit}; journalctl -u {unit} -f"
