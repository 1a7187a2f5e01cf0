"""A second copy on another disk: it pulls manifest and contents, verifies them, and never takes anything away.

The disk is told by a marker file with a number of its own, so that several may take turns, and that nothing lands in
an empty mount point. What it has must be the beginning of what the original says: a manifest that was changed behind
its back is refused, and the copy stays as it is.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.config import Config
from appliance.errors import UserError
from appliance.files import fsync_folder
from appliance.vault import catalog, following, manifest, objects, scrub, signing
from appliance.vault.manifest import Line, Manifest
from appliance.vault.models import Replica
from appliance.vault.scrub import Pace
from appliance.vault.store import REPLICA_MARKER as MARKER
from appliance.vault.store import Store

_LINES_AT_ONCE = 500


def prepare(path: Path, owner: tuple[int, int]) -> str:
    """Makes a mounted file system a second copy's; root's. Returns its number."""
    if not path.is_dir() or path.stat().st_dev == path.parent.stat().st_dev:
        raise UserError(f"{path}: mount the second disk there first")
    return make(path, owner)


def make(path: Path, owner: tuple[int, int]) -> str:
    if (path / MARKER).exists():
        return number_of(path)
    number = secrets.token_hex(4)
    place = path / catalog.DISK
    place.mkdir(exist_ok=True, mode=0o750)
    os.chown(place, *owner)
    objects.make_folders(place)
    (path / MARKER).write_text(f"{number}\n", encoding="ascii")
    with (path / MARKER).open("rb") as file:
        os.fsync(file.fileno())
    fsync_folder(path)
    return number


def number_of(path: Path) -> str:
    """Raises UserError where no second copy is attached."""
    try:
        return (path / MARKER).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{path}: no second disk is mounted there: attach it, or `gatehouse vault replica {path}`"
        ) from None


def place(config: Config) -> Path | None:
    """Of the one that is attached now, else None."""
    if config.vault.replica is None or not (config.vault.replica / MARKER).is_file():
        return None
    return config.vault.replica / catalog.DISK


def row(path: Path) -> Any:
    number = number_of(path)
    return Replica.get_or_none(Replica.name == number) or Replica.create(name=number, place=str(path))


def pull(store: Store, path: Path, now: int, pace: Pace | None = None) -> int:
    """Returns how many events came. Raises UserError, which is kept as the copy's problem."""
    copy = row(path)
    try:
        private = signing.key(store.state)
        _as_signed(path / catalog.DISK, private)
        count, left_out = _pull(store.place(), path / catalog.DISK, copy, pace)
        if count:
            signing.write(path / catalog.DISK, signing.signed(private, n=copy.head_n, sha256=copy.head, at=now))
        if copy.bad:
            copy.bad = _mend(store.place(), path / catalog.DISK, pace)
        copy.problem = f"{left_out} contents aren't in it, as the original hasn't them as they were" if left_out else ""
        copy.pulled_at = now
        copy.save()
    except (OSError, ValueError, manifest.Broken, UserError) as error:
        Replica.update(problem=str(error)).where(Replica.id == copy.id).execute()
        raise UserError(f"{path}: {error}") from None
    return count


def _mend(source: Path, target: Path, pace: Pace | None) -> int:
    """What was bad in the copy comes anew. Returns how many contents it lacks all the same."""
    lacks = following.absent(target)
    for sha256, size in list(lacks.items()):
        if pace:
            pace.spend(size)
        if scrub.copy(source, target, sha256, size):
            del lacks[sha256]
    return len(lacks)


def _as_signed(target: Path, private: Ed25519PrivateKey) -> None:
    """Raises UserError where the copy's manifest isn't what was signed at its last pull, or another appliance did."""
    said = signing.read(target)
    if said is None:
        return
    if not signing.is_by(signing.public(private), said):
        raise UserError("another appliance has signed this copy: take another disk, or remove its head.json")
    with Manifest(target) as own:
        if not any(line.record["n"] == said["n"] and line.sha256 == said["sha256"] for line in own.lines()):
            raise UserError("the copy's manifest isn't what was signed: it was changed; make another copy")


def _pull(source: Path, target: Path, copy: Any, pace: Pace | None) -> tuple[int, int]:
    for _ in objects.orphans(target):
        pass
    with Manifest(source, write=False) as original, Manifest(target) as own:
        last = _last(own)
        if own.size > last.end:
            own.cut(last.end)
        _same_beginning(original, own, last)
        count, missing, lines = 0, set(), []
        for line in original.lines(last.end, last.sha256, int(last.record.get("n", 0))):
            lines.append(line)
            if len(lines) == _LINES_AT_ONCE:
                missing |= _take(source, target, own, lines, pace)
                count, lines = count + len(lines), []
        missing |= _take(source, target, own, lines, pace)
        count += len(lines)
        last = _last(own) if count else last
    copy.head_n, copy.head = int(last.record.get("n", 0)), last.sha256
    return count, len(missing)


def _last(file: Manifest) -> Line:
    """The last whole line, after each was checked."""
    last = Line({}, manifest.START, 0)
    for line in file.lines():
        last = line
    return last


def _same_beginning(original: Manifest, own: Manifest, last: Line) -> None:
    for line in original.lines():
        if line.end == last.end and line.sha256 == last.sha256:
            return
        if line.end >= last.end:
            break
    if last.end:
        raise UserError(
            "the original's manifest isn't what it was: nothing is taken over; see `gatehouse vault verify`"
        )


def _take(source: Path, target: Path, own: Manifest, lines: list[Line], pace: Pace | None) -> set[str]:
    """Contents first, then the lines that name them. Returns contents that the original should have, and hasn't."""
    missing = set()
    for record in (line.record for line in lines):
        if "sha256" not in record or objects.is_there(target, record["sha256"], record["bytes"]):
            continue
        if pace:
            pace.spend(record["bytes"])
        if not scrub.copy(source, target, record["sha256"], record["bytes"]):
            missing.add(record["sha256"])
    text = b"".join(manifest.encode(line.record) + b"\n" for line in lines)
    if text:
        own.append(text, own.size)
    return missing


def verify(path: Path, now: int, pace: Pace | None, budget_s: float) -> int:
    """Goes on with the copy's own contents; returns how many are bad. Those are renamed, and come anew with a pull."""
    return verify_place(path / catalog.DISK, row(path), now, pace, budget_s)


def verify_place(place_: Path, copy: Any, now: int, pace: Pace | None, budget_s: float) -> int:
    """The same of any copy, whose row goes on with it."""
    end_s = time.monotonic() + budget_s
    for file in _after(place_, copy.cursor):
        with contextlib.suppress(OSError), file.open("rb") as opened:
            if scrub.digest(opened, pace) != file.name:
                file.rename(place_ / objects.QUARANTINE / file.name)
                copy.bad += 1
        copy.cursor = file.name
        if time.monotonic() > end_s:
            copy.save()
            return int(copy.bad)
    copy.cursor, copy.verified_at = "", now
    copy.save()
    return int(copy.bad)


def _after(place_: Path, cursor: str) -> Iterator[Path]:
    for folder in sorted((place_ / objects.OBJECTS).iterdir()):
        if folder.name >= cursor[:2]:
            yield from (file for file in sorted(folder.iterdir()) if file.name > cursor)
