"""Putting many files in the place of others: all of them, or none, whatever happens in between.

What comes is first laid beside what is there. Then a plan is written, and from this moment on the new state is the
valid one: whoever comes next (the same command, `gatehouse apply`, the next boot) carries the plan to its end before
anything else. Every move is a rename within one file system, and may be done again.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.errors import Unavailable
from appliance.files import fsync_folder, written

STAGING = ".restore"  # below each folder that gets something; only root can look into it
_PLAN = "plan.json"


@dataclass(frozen=True)
class Move:
    """`staged` takes the place of `target`, which is kept as `kept`; all three are on one file system.

    `also` are endings of files that belong to the target and go away with it, such as a database's `-wal`.
    """

    target: str
    kept: str
    staged: str
    also: tuple[str, ...] = ()


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Raises Unavailable while another process stages or moves."""
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unavailable("a restore is under way: wait until it is done") from None
    finally:
        os.close(folder)


def staging(folder: Path) -> Path:
    """An empty place on the folder's file system; what an earlier one left that was never valid is removed."""
    path = folder / STAGING
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    return path


def commit(state: Path, moves: Sequence[Move]) -> None:
    """What is staged must be on disk; afterwards it is what counts."""
    with written(state / STAGING / _PLAN, 0o600, "root", "root") as file:
        file.write(json.dumps([asdict(move) for move in moves]).encode())


def is_pending(state: Path) -> bool:
    return (state / STAGING / _PLAN).exists()


def finish_pending(state: Path) -> bool:
    """Whether there was anything to finish; raises Unavailable while its maker is at work."""
    if os.geteuid() != 0 or not is_pending(state):  # nobody else can look
        return False
    with alone(state):
        if is_pending(state):
            finish(state)
    return True


def finish(state: Path) -> None:
    """Carries out the plan; `alone` is the caller's."""
    plan = state / STAGING / _PLAN
    moves = [Move(**move) for move in json.loads(plan.read_bytes())]
    for move in moves:
        _carry_out(move)
    for folder in {_staging_of(move) for move in moves} - {plan.parent}:
        shutil.rmtree(folder, ignore_errors=True)
    plan.unlink()
    fsync_folder(plan.parent)
    shutil.rmtree(plan.parent, ignore_errors=True)


def _staging_of(move: Move) -> Path:
    return next(folder for folder in Path(move.staged).parents if folder.name == STAGING)


def _carry_out(move: Move) -> None:
    """Nothing to do where it was done before: then the staged one is gone."""
    staged, target, kept = Path(move.staged), Path(move.target), Path(move.kept)
    if not staged.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    for ending in move.also:  # first: what comes must never meet them
        other = target.with_name(target.name + ending)
        if other.exists():
            other.rename(_room(kept.with_name(kept.name + ending)))
    if target.is_dir():
        target.rename(_room(kept))
    elif target.exists() and not (kept.exists() and kept.samefile(target)):
        os.link(target, _room(kept))  # the name stays in use until the next line
    staged.rename(target)
    for folder in (kept.parent, target.parent):
        if folder.exists():
            fsync_folder(folder)


def _room(path: Path) -> Path:
    """The path, or the next that isn't in use; its folder is there then, for nobody's eyes."""
    for folder in reversed(path.parents):
        folder.mkdir(exist_ok=True, mode=0o700)
    number, free = 2, path
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}-{number}")
    return free


def discard(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder / STAGING, ignore_errors=True)
