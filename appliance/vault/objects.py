"""Contents on the data disk by their SHA-256, and the spool where they are written. Raises OSError where it fails."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from appliance.files import fsync_folder

OBJECTS, SPOOL, QUARANTINE = "objects", "spool", "quarantine"
MODE = 0o440
PIECE_BYTES = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_BEGIN, _WAIT = 2, 1 | 4  # sync_file_range(2), which reports what failed since the file was written


def make_folders(place: Path) -> None:
    """Those below `vault/`, with its owner."""
    for name in (OBJECTS, SPOOL, "manifest", QUARANTINE, *(f"{OBJECTS}/{number:02x}" for number in range(256))):
        make_folder(place / name, place)
    fsync_folder(place / OBJECTS)
    fsync_folder(place)


def make_folder(path: Path, like: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o750)
        give(path, like)


def give(path: Path, like: Path) -> None:
    """What root makes belongs to whom the rest belongs to."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def file_of(place: Path, sha256: str) -> Path:
    return place / OBJECTS / sha256[:2] / sha256


def new_spool(place: Path) -> tuple[str, int]:
    """Its name and a descriptor; locked for as long as that is open, so that nobody sweeps it away."""
    while True:
        name = secrets.token_hex(16)
        path = place / SPOOL / name
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # else somebody swept it away before it was locked
            give(path, place)
            return name, fd
        os.close(fd)


def orphans(place: Path) -> Iterator[str]:
    """Names of spool files that nobody writes any more; each is gone once the next is asked for."""
    for path in sorted((place / SPOOL).iterdir()):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            yield path.name
            path.unlink(missing_ok=True)
        finally:
            os.close(fd)


def link(place: Path, spool: str, sha256: str) -> bool:
    """A name among the objects for a spool file that needn't be on disk; False where there is one already."""
    try:
        os.link(place / SPOOL / spool, file_of(place, sha256))
    except FileExistsError:
        return False
    return True


def put(place: Path, content: bytes) -> None:
    """A content as an object, unless it is one; not on disk yet."""
    sha256 = hashlib.sha256(content).hexdigest()
    target = file_of(place, sha256)
    with contextlib.suppress(OSError):
        if target.read_bytes() == content:
            return
    spool, fd = new_spool(place)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.fchmod(fd, MODE)
        (place / SPOOL / spool).rename(target)
    finally:
        os.close(fd)
        (place / SPOOL / spool).unlink(missing_ok=True)


def sync(place: Path, contents: Sequence[str]) -> None:
    """Those that are still there are on disk with their names when it returns, and what else its file system has.

    A file of its own each would have the disk empty its cache; that a file couldn't be written only its own says.
    """
    for flags in (_BEGIN, _BEGIN | _WAIT):  # all are begun with before the first is waited for
        for sha256 in contents:
            with contextlib.suppress(FileNotFoundError), file_of(place, sha256).open("rb") as file:
                _done(_LIBC.sync_file_range(file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), flags))
    folder = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _done(_LIBC.syncfs(folder))
    finally:
        os.close(folder)


def _done(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def publish(place: Path, spool: str, sha256: str) -> None:
    """The spool file, which is on disk, gets its name among the objects.

    One that is there already gives way to it: it may have gone bad since, and this one was just written.
    """
    source, target = place / SPOOL / spool, file_of(place, sha256)
    try:
        os.link(source, target)
    except FileExistsError:
        double = source.with_suffix(".new")
        os.link(source, double)
        double.rename(target)
    fsync_folder(target.parent)


def published(place: Path, spool: str) -> str:
    """Under which hash a spool file is among the objects; empty where it has no second name."""
    path = place / SPOOL / spool
    if path.stat().st_nlink < 2:
        return ""
    with path.open("rb") as file:
        return hash_of(file)


def is_there(place: Path, sha256: str, size: int) -> bool:
    try:
        return file_of(place, sha256).stat().st_size == size
    except FileNotFoundError:
        return False


def read(place: Path, sha256: str, size: int) -> BinaryIO:
    file = file_of(place, sha256).open("rb")
    if os.fstat(file.fileno()).st_size != size:
        file.close()
        raise OSError(errno.EIO, f"object {sha256[:12]} has another length than it had")
    return file


def hash_of(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while piece := file.read(PIECE_BYTES):
        found.update(piece)
    return found.hexdigest()


def erase(place: Path, sha256: str) -> None:
    file_of(place, sha256).unlink(missing_ok=True)
