"""Whether contents are still what they were, those first that nobody has looked at for longest; and mending them."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from appliance.vault import faults, objects
from appliance.vault.models import BAD, GOOD, MISSING, Fault, Object
from appliance.vault.store import Store

EVERY_S = 30 * 86_400  # each of them


class Pace:
    """So many bytes a second at most."""

    def __init__(self, bytes_s: float, sleep: Callable[[float], object] = time.sleep) -> None:
        self._bytes_s, self._sleep = bytes_s, sleep
        self._due_s = time.monotonic()

    def spend(self, size: int) -> None:
        self._due_s = max(self._due_s, time.monotonic() - 1) + size / self._bytes_s
        if (wait_s := self._due_s - time.monotonic()) > 0:
            self._sleep(wait_s)


def digest(file: BinaryIO, pace: Pace | None = None) -> str:
    """Of what is on the disk, not in the kernel's memory (posix_fadvise(2)). Raises OSError."""
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    found = hashlib.sha256()
    while piece := file.read(objects.PIECE_BYTES):
        found.update(piece)
        if pace:
            pace.spend(len(piece))
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return found.hexdigest()


def run(store: Store, now: int, pace: Pace | None, budget_s: float, every_s: int = EVERY_S) -> tuple[int, int]:
    """Verifies for so long, or what is due; returns how many, and how many of them were bad and couldn't be mended."""
    end_s, count, bad = time.monotonic() + budget_s, 0, 0
    while not count or time.monotonic() <= end_s:
        due = (Object.verified_at <= now - every_s) & (Object.state == GOOD)
        item = Object.select().where(due).order_by(Object.verified_at).first()
        if item is None:
            break
        count += 1
        bad += not check(store, item.sha256, item.bytes, now, pace)
    return count, bad


def check(store: Store, sha256: str, size: int, now: int, pace: Pace | None = None) -> bool:
    """Whether a content is right, or was mended. Raises Refused while the disk is away."""
    place = store.place()
    state = _state(place, sha256, size, pace)
    if state == GOOD:
        Object.update(verified_at=now, state=GOOD).where(Object.sha256 == sha256).execute()
        return True
    with store.turns.take():
        # An upload may have brought it anew meanwhile.
        if (state := _state(place, sha256, size, None)) != GOOD:
            with contextlib.suppress(FileNotFoundError):
                objects.file_of(place, sha256).rename(place / objects.QUARANTINE / sha256)
            Object.update(verified_at=now, state=state).where(Object.sha256 == sha256).execute()
            Fault.create(
                kind=faults.SCRUB, subject=sha256, text=f"content {sha256[:12]} is {_WORDS[state]}", at_ms=now * 1000
            )
    return state == GOOD or mend(store, sha256, size, now)


_WORDS = {BAD: "not what it was", MISSING: "gone"}


def _state(place: Path, sha256: str, size: int, pace: Pace | None) -> str:
    try:
        with objects.file_of(place, sha256).open("rb") as file:
            return GOOD if os.fstat(file.fileno()).st_size == size and digest(file, pace) == sha256 else BAD
    except FileNotFoundError:
        return MISSING
    except OSError:
        return BAD


def mend(store: Store, sha256: str, size: int, now: int) -> bool:
    """From the second copy, if that is there and has it as it was."""
    for source in store.copies():
        if copy(source, store.place(), sha256, size):
            Object.update(verified_at=now, state=GOOD).where(Object.sha256 == sha256).execute()
            faults.close(faults.SCRUB, sha256)
            return True
    return False


def mend_all(store: Store, now: int) -> int:
    """What was bad, once a second copy is back; how many of them."""
    return sum(mend(store, item.sha256, item.bytes, now) for item in list(Object.select().where(Object.state != GOOD)))


def copy(source: Path, target: Path, sha256: str, size: int) -> bool:
    """A content from one disk to another, verified on its way; False where the source hasn't it as it was.

    Raises OSError where the target can't be written.
    """
    try:
        file = objects.read(source, sha256, size)
    except OSError:
        return False
    name, fd = objects.new_spool(target)
    found = hashlib.sha256()
    try:
        with file:
            while piece := _read(file):
                found.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
        if found.hexdigest() != sha256:
            return False
        os.fchmod(fd, objects.MODE)
        os.fsync(fd)
        objects.publish(target, name, sha256)
        return True
    finally:
        os.close(fd)
        (target / objects.SPOOL / name).unlink(missing_ok=True)


def _read(file: BinaryIO) -> bytes:
    """What can't be read ends it, so that its hash is another one."""
    try:
        return file.read(objects.PIECE_BYTES)
    except OSError:
        return b""
