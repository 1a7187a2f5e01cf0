"""A copy goes on from an original, of which nothing is believed: each byte is what the signed head stands for, or goes.

First the manifest's new lines come into a file of their own, and only once the chain has led to the head they are
taken over: contents first, then the lines that name them. What was cut off at any point goes on from there.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from appliance.errors import Unavailable, UserError
from appliance.files import fsync_folder
from appliance.units import format_bytes
from appliance.vault import manifest, objects
from appliance.vault.manifest import Line, Manifest
from appliance.vault.pieces import MOST, NOTHING, SHA256, Head, Original
from appliance.vault.scrub import Pace

INCOMING = "incoming.jsonl"
LINES_AT_ONCE = 200
RESERVE_SHARE, RESERVE_BYTES = 10, 1 << 30  # a tenth of the disk is left to others, or this where that is less


class Rewritten(UserError):
    """The original's history isn't the one that the copy has: somebody changed it, or it is another one."""


class Later(Exception):
    """Its time is over for now; it goes on from there."""


class Taken(NamedTuple):
    """Events that came, and how many of their contents the original hasn't."""

    events: int
    missing: int


@dataclass
class Limits:
    """`room_bytes` is what the copy may still grow by, None where only the disk says so."""

    pace: Pace | None = None
    room_bytes: int | None = None
    end_s: float = float("inf")  # of time.monotonic()
    step: Callable[[str], None] = lambda name: None  # a test stops there
    spent: int = 0

    def check(self, place: Path, size: int) -> None:
        """Raises UserError where so much has no room, Later when there is no more time."""
        if time.monotonic() > self.end_s:
            raise Later
        disk = shutil.disk_usage(place)
        reserve = min(disk.total // RESERVE_SHARE, RESERVE_BYTES)
        if size > disk.free - reserve:
            more, free = format_bytes(size), format_bytes(reserve)
            raise UserError(f"the disk has no room for it: {more}B more, and {free}B are to stay free")
        if self.room_bytes is not None and self.spent + size > self.room_bytes:
            raise UserError(f"its quota is used up: {format_bytes(size)}B more are needed")

    def spend(self, size: int) -> None:
        self.spent += size
        if self.pace:
            self.pace.spend(size)


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Raises UserError where somebody else is at it."""
    fd = os.open(place / manifest.FOLDER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unavailable("somebody is at this copy just now: try again") from None
    finally:
        os.close(fd)


def follow(
    original: Original,
    place: Path,
    limits: Limits,
    since: Head = NOTHING,
    took: Callable[[Head], None] = lambda head: None,
) -> Taken:
    """`since` is how far the copy is known to be; `took` hears how far it is after each lot of lines.

    Raises Rewritten, Broken where the copy isn't whole, UserError and OSError; what was taken over by then stays.
    """
    with alone(place), Manifest(place) as own:
        last = last_of(own, since)
        if own.size > last.end:
            own.cut(last.end)
        head = original.head()
        _goes_on(head, last)
        with incoming(original, place, last, head, limits) as new:
            return _take_over(original, place, own, new, last, limits, took)


def last_of(file: Manifest, since: Head = NOTHING, known: tuple[int, str] | None = None) -> Line:
    """The last whole line, after each since then was checked.

    Raises Broken, also where the `known` event, by its number and hash, isn't among them.
    """
    last = Line({"n": since.n}, since.sha256, since.bytes)
    for line in file.lines(since.bytes, since.sha256, since.n):
        if known == (line.record["n"], line.sha256):
            known = None
        last = line
    if (known and known[0]) or file.size < since.bytes:
        raise manifest.Broken("the copy's manifest isn't what was signed at the last pull: it was changed here")
    return last


def _goes_on(head: Head, last: Line) -> None:
    n = last.record["n"]
    if head.n < n:
        raise Rewritten(f"its history was cut: it has {head.n} events, the copy {n}")
    same = {head.n == n, head.sha256 == last.sha256, head.bytes == last.end}
    if head.bytes < last.end or len(same) > 1:
        raise Rewritten(f"its history was rewritten: what it says of event {n} isn't what it said before")


@contextlib.contextmanager
def incoming(original: Original, place: Path, last: Line, head: Head, limits: Limits) -> Iterator[Manifest]:
    """The new lines, proven to lead from the copy's last one to the head."""
    path = place / manifest.FOLDER / INCOMING
    path.unlink(missing_ok=True)
    try:
        with Manifest(place, name=INCOMING) as new:
            wanted = head.bytes - last.end
            while (got := new.size) < wanted:
                limits.check(place, wanted - got)
                piece = original.manifest(last.end + got)[: wanted - got]
                if not piece:
                    raise Rewritten("its manifest is shorter than its signed head says")
                new.append(piece, got)
                limits.spend(len(piece))
            limits.step("manifest")
            _prove(new, last, head)
            yield new
    finally:
        path.unlink(missing_ok=True)


def _prove(new: Manifest, last: Line, head: Head) -> None:
    n, sha256, end = last.record["n"], last.sha256, 0
    try:
        for line in new.lines(0, sha256, n):
            _fits(line)
            n, sha256, end = n + 1, line.sha256, line.end
    except manifest.Broken as error:
        raise Rewritten(f"its history was rewritten, or isn't whole: {error}") from None
    if (n, sha256, end) != (head.n, head.sha256, new.size):
        raise Rewritten("its history was rewritten: the chain doesn't lead to its signed head")


def _fits(line: Line) -> None:
    """Raises Broken for what no vault of ours has written."""
    record, n = line.record, line.record["n"]
    try:
        plain = manifest.digest(manifest.encode(record)) == line.sha256
    except (ValueError, RecursionError):
        plain = False
    good = plain and isinstance(record.get("event"), str) and isinstance(record.get("vault"), str)
    if "sha256" in record:
        content = record["sha256"]
        good &= isinstance(content, str) and bool(SHA256.fullmatch(content))
        good &= is_number(record.get("bytes")) and is_number(record.get("version")) and record["version"] == n
    gone = record.get("versions", [])
    good &= isinstance(gone, list) and all(is_number(one) and one < n for one in gone)
    if not good:
        raise manifest.Broken(f"record {n}: no vault has written it so")


def is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _take_over(
    original: Original,
    place: Path,
    own: Manifest,
    new: Manifest,
    last: Line,
    limits: Limits,
    took: Callable[[Head], None],
) -> Taken:
    count, missing, lines = 0, set(), []
    for line in new.lines(0, last.sha256, last.record["n"]):
        lines.append(line)
        if len(lines) == LINES_AT_ONCE or line.end == new.size:
            missing |= fetch_all(original, place, {r["sha256"]: r["bytes"] for r in _stored(lines)}, limits)
            limits.step("contents")
            own.append(b"".join(manifest.encode(one.record) + b"\n" for one in lines), own.size)
            limits.step("appended")
            took(Head(line.record["n"], line.sha256, own.size))
            count, lines = count + len(lines), []
    return Taken(count, len(missing))


def _stored(lines: list[Line]) -> Iterator[dict[str, Any]]:
    return (line.record for line in lines if "sha256" in line.record)


def fetch_all(original: Original, place: Path, wanted: dict[str, int], limits: Limits) -> set[str]:
    """Those of the contents that the original hasn't, or not as they were."""
    return {
        sha256
        for sha256, size in wanted.items()
        if not objects.is_there(place, sha256, size) and not fetch(original, place, sha256, size, limits)
    }


def fetch(original: Original, place: Path, sha256: str, size: int, limits: Limits) -> bool:
    """Goes on with what came before it was cut off. False where the original hasn't it as it was."""
    part = place / objects.SPOOL / sha256
    fd = _part(part)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # so that nobody sweeps it away
        found = hashlib.sha256()
        at = _again(fd, size, found)
        while at < size:
            limits.check(place, size - at)
            piece = original.content(sha256, at)
            if not piece or len(piece) > size - at:
                part.unlink()
                return False
            written = os.pwrite(fd, piece, at)
            found.update(piece[:written])
            at += written
            limits.spend(written)
            limits.step("piece")
        if found.hexdigest() != sha256:
            part.unlink()
            return False
        os.fchmod(fd, objects.MODE)
        os.fsync(fd)
        objects.publish(place, sha256, sha256)
        limits.step("published")
        part.unlink()
        return True
    finally:
        os.close(fd)


def _part(path: Path) -> int:
    """What was cut off just before or after it became an object is that one's, or may be written again."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_nlink > 1:
            path.unlink()
        else:
            path.chmod(0o640)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def _again(fd: int, size: int, found: Any) -> int:
    """How much of it is there; a part that can't be it is none."""
    if os.fstat(fd).st_size > size:
        os.ftruncate(fd, 0)
    at = 0
    while piece := os.pread(fd, objects.PIECE_BYTES, at):
        found.update(piece)
        at += len(piece)
    return at


def absent(place: Path) -> dict[str, int]:
    """Contents that the copy's manifest names, and that aren't there; without those that the original has erased."""
    found: dict[int, tuple[str, int]] = {}
    with Manifest(place, write=False) as file:
        for record in (line.record for line in file.lines()):
            if "sha256" in record and not objects.is_there(place, record["sha256"], record["bytes"]):
                found[record["version"]] = (record["sha256"], record["bytes"])
            for version in record.get("versions", ()):
                found.pop(version, None)
    return dict(found.values())


def sweep(place: Path) -> None:
    """Parts of contents that are wanted no more."""
    for _ in objects.orphans(place):
        pass
    fsync_folder(place / objects.SPOOL)
