"""The manifest on the data disk: one JSON line an event, each with the hash of the line before.

It is the truth: the catalogue is what follows from it, and can be made anew. A line counts once it is whole; a torn
one at the end is what a crash left of an event that nobody was told of.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

FOLDER, NAME = "manifest", "manifest.jsonl"
START = "0" * 64  # what the first record has as its predecessor's hash
MAX_LINE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


class Broken(Exception):
    """It isn't what was written; the message says where."""


class Line(NamedTuple):
    """`end` is the offset behind it."""

    record: dict[str, Any]
    sha256: str
    end: int


def encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def size(place: Path) -> int:
    try:
        return (place / FOLDER / NAME).stat().st_size
    except FileNotFoundError:
        return 0


def digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


class Manifest:
    """Opened for each turn, so that a disk that went away isn't held, nor taken for the one that came.

    Raises OSError where the disk fails.
    """

    def __init__(self, place: Path, write: bool = True, name: str = NAME) -> None:
        path = place / FOLDER / name
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        if write and os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(self._fd, folder.st_uid, folder.st_gid)

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def at(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def write(self, text: bytes, at: int) -> None:
        view = memoryview(text)
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written

    def append(self, text: bytes, at: int) -> None:
        """On disk when it returns."""
        self.write(text, at)
        self.sync()

    def sync(self) -> None:
        os.fsync(self._fd)

    def cut(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def lines(self, at: int = 0, previous: str = START, n: int = 0) -> Iterator[Line]:
        """The whole lines from an offset on, whose predecessor is given. Raises Broken, and ends before a torn one."""
        rest = b""
        begin = at
        while piece := os.pread(self._fd, _PIECE_BYTES, at):
            at += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                begin += len(line) + 1
                record = _checked(line, previous, n)
                previous, n = digest(line), n + 1
                yield Line(record, previous, begin)
            if len(rest) > MAX_LINE_BYTES:
                raise Broken(f"record {n + 1}: it has no end")


def _checked(line: bytes, previous: str, n: int) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        raise Broken(f"record {n + 1}: it isn't JSON") from None
    if not isinstance(record, dict) or record.get("n") != n + 1 or record.get("previous") != previous:
        raise Broken(f"record {n + 1}: it doesn't follow from the one before")
    return record
