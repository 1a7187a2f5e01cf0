"""A vault, or a copy of one, as whoever copies it reads it: its manifest and its contents, a piece at a time.

`Original` is alike for a folder here and for another appliance (peer.py), so that all copying is the same.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple, Protocol

from appliance.vault import manifest, objects
from appliance.vault.manifest import Manifest

PIECE_BYTES = 1 << 20  # of an answer at most, so that neither side holds more, and each is soon over
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
MOST = 1 << 53  # bytes of anything, and events


class Head(NamedTuple):
    """How far a manifest goes: events, the last one's hash, bytes."""

    n: int
    sha256: str
    bytes: int


NOTHING = Head(0, manifest.START, 0)


class Original(Protocol):
    """Raises OSError, or UserError, where it can't be read now."""

    def head(self) -> Head: ...
    def manifest(self, at: int) -> bytes:
        """What follows from there, at most a piece; nothing at its end."""

    def content(self, sha256: str, at: int) -> bytes | None:
        """The same of a content; None where it hasn't that."""


class Folder:
    """What lies at a place; `head` is what is there up to an event, or all of it."""

    def __init__(self, place: Path, upto: int = MOST) -> None:
        self._place, self._upto = place, upto

    def head(self) -> Head:
        last = manifest.Line({}, manifest.START, 0)
        with Manifest(self._place, write=False) as file:
            for line in file.lines():
                last = line
                if line.record["n"] == self._upto:
                    break
        return Head(int(last.record.get("n", 0)), last.sha256, last.end)

    def manifest(self, at: int) -> bytes:
        return _piece(self._place / manifest.FOLDER / manifest.NAME, at)

    def content(self, sha256: str, at: int) -> bytes | None:
        if not SHA256.fullmatch(sha256):
            return None
        try:
            return _piece(objects.file_of(self._place, sha256), at)
        except FileNotFoundError:
            return None


def _piece(path: Path, at: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(fd, PIECE_BYTES, at)
    finally:
        os.close(fd)
