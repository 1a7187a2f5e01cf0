"""The redo log on the data disk: what a change adds is on disk with one short write (fdatasync of what has its room).

The manifest's lines, and the content of a small upload, are written here first; then where they belong, which the disk
may do when it likes. Before the log begins anew, all that it has is synced there. So after a crash a content or a line
is either on disk where it belongs, or here: whoever takes the first turn puts it there. A record counts once it is
whole; a torn one at the end is what a crash left of a change that nobody was told of.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appliance.files import fsync_folder
from appliance.vault import objects
from appliance.vault.manifest import FOLDER, Manifest

NAME = "redo"
LOG_BYTES = 8 * 2**20
CONTENT_BYTES = 128 * 1024  # more is written once, and synced where it belongs
_MAGIC = b"gatehouse redo 1"
_HEADER = struct.Struct("<16s16s32s")  # magic, epoch, hash of both
_RECORD = struct.Struct("<16s32sQII")  # epoch, hash of all that follows, the lines' offset, bytes of them, of a content
_AT = struct.Struct("<QII")
_FIRST = 4096
_IN_DELETE_SELF, _FLAGS = 0x400, os.O_NONBLOCK | os.O_CLOEXEC  # inotify(7)


class Record(NamedTuple):
    """Lines, where they belong in the manifest, and the content that they are about, or nothing."""

    at: int
    lines: bytes
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def size(self) -> int:
        return _RECORD.size + len(self.lines) + len(self.content)


class Redo:
    """What a process knows of the log; used in turns only. Raises OSError where the disk fails."""

    def __init__(self) -> None:
        self._epoch, self._end = b"", _FIRST
        self._last: Record | None = None
        self._fd = -1
        self._watch = Watch()

    @contextlib.contextmanager
    def opened(self, place: Path) -> Iterator[bool]:
        """For a turn, so that a disk that went away isn't held; False where there is no room for a log."""
        path = place / FOLDER / NAME
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._fd = _made(path)
        try:
            yield self._fd >= 0
        finally:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def follow(self, place: Path, manifest: Manifest) -> list[Record]:
        """Records that this process hasn't seen, whose lines are in the manifest now.

        All of them are, once after the process or the file system has begun: what wasn't written then may be gone.
        """
        epoch = self._read_header() or self._begin()
        if self._watch.is_over(place / FOLDER / NAME, self._fd) or epoch != self._epoch:
            self._epoch, self._end = epoch, _FIRST
        found = []
        while record := self._record(self._end):
            _put(manifest, record)
            found.append(record)
            self._end += record.size
        return found

    def is_to_be_used(self, place: Path, manifest: Manifest) -> bool:
        """Not where the kernel has no watch for it: then it is emptied, once all of it was followed and put back."""
        if not self._watch.is_there and self._end > _FIRST:
            self._carry_over(place, manifest)
        return self._watch.is_there

    def append(self, place: Path, manifest: Manifest, record: Record) -> bool:
        """On disk when it returns; False where it is too large for the log, which is empty then."""
        if self._end + record.size > LOG_BYTES:
            self._carry_over(place, manifest)
        if self._end + record.size > LOG_BYTES:
            return False
        rest = _AT.pack(record.at, len(record.lines), len(record.content)) + record.lines + record.content
        self._last, at, self._end = record, self._end, self._end + record.size
        _write(self._fd, self._epoch + hashlib.sha256(self._epoch + rest).digest() + rest, at)
        os.fdatasync(self._fd)
        return True

    def forget(self) -> None:
        """The next turn looks at all of the log anew."""
        self._epoch = b""

    def take_back(self, record: Record) -> None:
        """If it is the last one that was added, or was being added."""
        if self._last is record:
            _write(self._fd, bytes(_RECORD.size), self._end - record.size)
            os.fdatasync(self._fd)

    def _carry_over(self, place: Path, manifest: Manifest) -> None:
        at, contents = _FIRST, []
        while at < self._end and (record := self._record(at)):
            at += record.size
            if record.content:
                contents.append(record.sha256)
        objects.sync(place, contents)
        manifest.sync()
        self._epoch, self._end = self._begin(), _FIRST

    def _begin(self) -> bytes:
        epoch = secrets.token_bytes(16)
        _write(self._fd, _MAGIC + epoch + hashlib.sha256(_MAGIC + epoch).digest(), 0)
        os.fdatasync(self._fd)
        return epoch

    def _read_header(self) -> bytes:
        """The epoch; empty in a new log, or where the power went as it began anew, which is after all was synced."""
        data = os.pread(self._fd, _HEADER.size, 0)
        magic, epoch, proof = _HEADER.unpack(data.ljust(_HEADER.size, b"\0"))
        return bytes(epoch) if magic == _MAGIC and proof == hashlib.sha256(magic + epoch).digest() else b""

    def _record(self, at: int) -> Record | None:
        data = os.pread(self._fd, _RECORD.size, at)
        if len(data) < _RECORD.size or data[:16] != self._epoch:
            return None
        _, proof, where, lines, content = _RECORD.unpack(data)
        if at + _RECORD.size + lines + content > LOG_BYTES:
            return None
        rest = os.pread(self._fd, lines + content, at + _RECORD.size)
        if proof != hashlib.sha256(self._epoch + _AT.pack(where, lines, content) + rest).digest():
            return None
        return Record(where, rest[:lines], rest[lines:])


class Watch:
    """Whether a file's file system was unmounted since the last look, with all that wasn't written. Holds neither."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd, self._seen = -1, (0, 0)

    def is_over(self, path: Path, file: int) -> bool:
        """`file` is open: where another namespace still has the file system that is gone here, it is another one's."""
        found, seen = os.fstat(file), self._seen
        self._seen = (found.st_dev, found.st_ino)
        if self._fd >= 0:
            try:
                if self._seen != seen:
                    self.close()
                    return self.is_over(path, file)
                os.read(self._fd, 4096)
            except BlockingIOError:
                return False
            os.close(self._fd)
        self._fd = self._libc.inotify_init1(_FLAGS)
        if self._fd < 0 or self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_DELETE_SELF) < 0:
            self.close()
        return True

    @property
    def is_there(self) -> bool:
        return self._fd >= 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    __del__ = close  # there are few of them for a user


def _made(path: Path) -> int:
    """A log whose room the disk has given already; -1 where it has none."""
    new = path.with_name(f"{NAME}.{secrets.token_hex(8)}")
    try:
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            objects.give(new, path.parent)
            _write(fd, bytes(LOG_BYTES), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.link(new, path)
        fsync_folder(path.parent)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return -1
        raise
    finally:
        new.unlink(missing_ok=True)


def _put(manifest: Manifest, record: Record) -> None:
    """Unless it is there, or something else is, as when somebody has put another copy's manifest there."""
    there = manifest.at(record.at, len(record.lines))
    if there == record.lines or (there.startswith(b"{") and not record.lines.startswith(there)):
        return
    if manifest.size >= record.at:
        manifest.write(record.lines, record.at)


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count
