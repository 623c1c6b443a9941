"""A small disk that can be filled: for the service's state and log."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_SIZE = "4m"
_CHUNK = 1 << 12


class Disk:
    """A folder on a disk of its own.

    It is a tmpfs, mounted where only this process and its children see it, so that it goes when
    they go. Where mounting is not permitted, filling it stands for a limit on how long files of the
    service may be (RLIMIT_FSIZE): writes to its log then fail as on a full disk, with EFBIG instead
    of ENOSPC.

    Attributes:
        folder: where.
        mounted: whether it is a disk of its own.
    """

    def __init__(self, folder: Path) -> None:
        """Mount it, if that is permitted."""
        folder.mkdir()
        self.folder = folder
        self._filler = folder / "filler"
        self.mounted = _mount(folder)

    def fill(self, processes: Iterable[int]) -> None:
        """Leave no room for what these processes write."""
        if not self.mounted:
            for pid in processes:
                with suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(_CHUNK)):
                pass

    def free(self, processes: Iterable[int]) -> None:
        """Undo `fill`."""
        self._filler.unlink(missing_ok=True)
        if not self.mounted:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            for pid in processes:
                with suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)

    def let_go(self) -> None:
        """Unmount it: what is on it is gone."""
        if self.mounted:
            _libc().umount2(os.fsencode(self.folder), 2)  # MNT_DETACH


def _mount(folder: Path) -> bool:
    libc = _libc()
    if libc.unshare(_CLONE_NEWNS):
        return False
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return False
    done = libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={_SIZE}".encode())
    return bool(done == 0)


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    return libc
