"""What an island has to tell the central database, in order, on disk before anybody is answered."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peewee

from appliance import db
from appliance.island import places

PACKET, FIRST, ADDRESS, DEVICE = "packet", "first", "address", "device"
_ABOUT = ("account", "mac", "ip", "framed_ip")
_SCHEMA = (
    # AUTOINCREMENT: a number is never given twice, also when all that was there is delivered and gone
    "CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,"
    " kind TEXT NOT NULL, body TEXT NOT NULL, token TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS queue (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL,"
    " told INTEGER NOT NULL DEFAULT 0)",
)

# One statement, as another one who delivers may be taking them out.
_HAS_TOLD = "SELECT ? <= told OR EXISTS (SELECT 1 FROM entry WHERE id = ? AND token = ?) FROM queue"


class Entry(NamedTuple):
    """`body` is JSON as it was put in; `at` UTC seconds; no other entry has its `token`, whatever file it is in."""

    id: int
    at: int
    kind: str
    body: str
    token: str

    def account(self) -> str:
        """Whose it is; empty where that can't be read."""
        return self._text("account")

    def names(self) -> set[str]:
        """The account, device and address that it is about."""
        return {self._text(name) for name in _ABOUT} - {""}

    def _text(self, name: str) -> str:
        try:
            return str(self.values().get(name) or "").replace("\0", "")
        except ValueError:
            return ""

    def values(self) -> dict[str, Any]:
        """Raises ValueError."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found


class Queue:
    """A file that several processes write and one empties. Raises peewee.PeeweeException.

    Its `name` is its own: the numbers of another file, made after this one was lost, begin anew.
    """

    def __init__(self, path: Path, durable: bool = True, busy_timeout_ms: int = 5000, shared: bool = False) -> None:
        places.make_file(path)
        self._database = db.connect(f"sqlite:///{path}", busy_timeout_ms, durable, shared)
        for statement in _SCHEMA:
            self._execute(statement)
        self._execute("INSERT OR IGNORE INTO queue (one, name) VALUES (1, ?)", secrets.token_hex(8))

    @property
    def name(self) -> str:
        return str(self._execute("SELECT name FROM queue").fetchone()[0])

    def put(self, kind: str, at: int, values: Mapping[str, object]) -> None:
        """On disk when it returns, if the queue is durable."""
        text = json.dumps(values, separators=(",", ":"))
        token = secrets.token_hex(8)
        self._execute("INSERT INTO entry (at, kind, body, token) VALUES (?, ?, ?, ?)", at, kind, text, token)

    def after(self, number: int, most: int) -> Sequence[Entry]:
        rows = self._execute(
            "SELECT id, at, kind, body, token FROM entry WHERE id > ? ORDER BY id LIMIT ?", number, most
        )
        return [Entry(*row) for row in rows.fetchall()]

    def drop(self, number: int) -> None:
        """What has been delivered, up to that number."""
        with self._database.atomic():
            self._execute("DELETE FROM entry WHERE id <= ?", number)
            self._execute("UPDATE queue SET told = max(told, ?)", number)

    def has_told(self, number: int, token: str) -> bool:
        """Whether it is this file's own entries, up to that number, which have been delivered.

        Not where the file is an older one that was put back, or the power took what wasn't on disk yet and its numbers
        were given again.
        """
        return bool(self._execute(_HAS_TOLD, number, number, token).fetchone()[0])

    def begin_anew(self) -> None:
        """All that is in it is to be delivered, by whatever number it has."""
        self._execute("UPDATE queue SET name = ?, told = 0", secrets.token_hex(8))

    def is_empty(self) -> bool:
        return self._execute("SELECT 1 FROM entry LIMIT 1").fetchone() is None

    def waiting(self) -> tuple[int, int | None]:
        """How many entries, and when the first of them was put in (UTC seconds)."""
        count, oldest = self._execute("SELECT count(*), min(at) FROM entry").fetchone()
        return int(count), oldest

    def close(self) -> None:
        self._database.close()

    def _execute(self, sql: str, *values: object) -> Any:
        return self._database.execute_sql(sql, values)


def waiting(path: Path) -> tuple[int, int | None]:
    """Of a queue that may not be there yet; nothing is made."""
    if not path.exists():
        return 0, None
    queue = Queue(path)
    try:
        return queue.waiting()
    except peewee.OperationalError:
        return 0, None
    finally:
        queue.close()
