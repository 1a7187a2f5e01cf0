"""Where an appliance keeps what it goes on with while the central database can't be reached."""

import contextlib
from pathlib import Path

from appliance import db
from appliance.config import Config

FOLDER = "island"  # below `paths.state`


def is_wanted(config: Config) -> bool:
    """Nobody is cut off from a file of their own."""
    return db.sqlite_path(config.database_url) is None


def folder(config: Config) -> Path:
    return config.paths.state / FOLDER


def written(config: Config) -> list[Path]:
    """Folders that FreeRADIUS and the jobs write in."""
    return [folder(config)] if is_wanted(config) else []


def make_file(path: Path) -> None:
    """Empty, unless it is there: for all of the folder's group, as SQLite itself would let the group only read it."""
    with contextlib.suppress(FileExistsError):
        path.touch(exist_ok=False)
        path.chmod(0o660)


def queue_file(config: Config) -> Path:
    return folder(config) / "queue.db"


def copy_link(config: Config) -> Path:
    """Names the copy that is good now; each copy is a file of its own, as SQLite's -wal belongs to one."""
    return folder(config) / "core.db"
