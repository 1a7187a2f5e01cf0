"""Opening databases, and numbered migrations that only go forward."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import peewee

from appliance.errors import UserError

# Pages of a large database come from the kernel's cache without a copy (https://sqlite.org/mmap.html).
MMAP_BYTES = 2**30
# The -wal's size at which a commit carries it over to the database itself. Who needn't wait for the disk in a commit
# isn't to wait for it there either, as long as somebody else does it before (appliance/accounts/checkpoints.py).
_WAL_PAGES, _WAL_PAGES_NOT_WAITING = 1000, 8000
_PAGE_BYTES = 4096
_TRY_AGAIN_S = 0.01
_PATIENCE_S = 3.0  # a router has given up by then, and many wait behind one who shares a connection
_PATIENCE_OF_OTHERS_S = 60.0  # pages and jobs, whose longest statements take seconds


def connect(
    url: str, busy_timeout_ms: int = 5000, durable: bool = True, shared: bool = False, schema: str = ""
) -> peewee.Database:
    """An unopened database for `sqlite:////path` or `postgresql://…`.

    SQLite runs in WAL mode; with `durable` each commit is on disk before it returns (synchronous=FULL),
    else the last ones may be lost when the power goes, never the file (https://sqlite.org/wal.html).
    Of SQLite's transactions there is one at a time from its beginning: one that began by reading couldn't wait for
    another's commit, and would be refused (https://sqlite.org/isolation.html). Who only reads says atomic("DEFERRED").
    `shared`: one connection for all threads of a caller that lets only one of them in at a time. `schema`: the one of
    PostgreSQL's schemas that is seen, and is made by `make_schema`.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        pragmas = {
            "journal_mode": "wal",
            "synchronous": "full" if durable else "normal",
            "foreign_keys": 1,
            "busy_timeout": busy_timeout_ms,
            "mmap_size": MMAP_BYTES,
            "wal_autocheckpoint": _WAL_PAGES if durable else _WAL_PAGES_NOT_WAITING,
            "journal_size_limit": _WAL_PAGES_NOT_WAITING * _PAGE_BYTES,
        }
        # sqlite3's own timeout would set busy_timeout again on each open
        return _Sqlite(
            unquote(parts.path)[1:],
            pragmas=pragmas,
            lock_type="IMMEDIATE",
            timeout=busy_timeout_ms / 1000,
            thread_safe=not shared,
            check_same_thread=not shared,
        )
    from appliance import postgresql  # psycopg2 is for those who have one

    options = f"-c lock_timeout={busy_timeout_ms} -c synchronous_commit={'on' if durable else 'off'}"
    options += f" -c search_path={schema}" if schema else ""
    return postgresql.Server(
        url, options, thread_safe=not shared, patience_s=_PATIENCE_S if shared else _PATIENCE_OF_OTHERS_S
    )


class _Sqlite(peewee.SqliteDatabase):
    """Of those who open a new file together all but one are refused at once, as only one can put it into WAL mode."""

    def connect(self, reuse_if_open: bool = False) -> bool:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return bool(super().connect(reuse_if_open))
            except peewee.OperationalError as error:
                if "database is locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_TRY_AGAIN_S)


def is_sqlite(database: Any) -> bool:
    """Of a database, or of the proxy of one."""
    return isinstance(getattr(database, "obj", database), peewee.SqliteDatabase)


@contextmanager
def unhurried(database: Any) -> Iterator[None]:
    """For statements that take as long as there is data: nobody is taken for standing still."""
    server = getattr(database, "obj", database)
    with nullcontext() if is_sqlite(server) else server.unhurried():
        yield


@contextmanager
def writing(database: Any) -> Iterator[None]:
    """A transaction that is the only such one from its beginning: what it reads holds until it commits.

    On PostgreSQL that is a lock for each schema, as READ COMMITTED sees in each statement what is committed by then
    (https://www.postgresql.org/docs/15/explicit-locking.html, 13.3.5); readers and others' tables go on.
    """
    with database.atomic():
        if not is_sqlite(database):
            database.execute_sql("SELECT pg_advisory_xact_lock(%s, hashtext(current_setting('search_path')))", (_LOCK,))
        yield


_LOCK = 0x47617465  # "Gate", so that another program's locks in the same database aren't ours


@dataclass(frozen=True)
class Migration:
    """SQL that both engines run, statements ended by `;` at a line's end; `{…}` words differ by engine."""

    number: int
    name: str
    sql: str


_WORDS = {
    "sqlite": {
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "bytes": "BLOB",
        "big": "INTEGER",
        "flag": "INTEGER",
        "false": "0",
        "clustered": " WITHOUT ROWID",  # rows lie in the key's own tree: half the pages for a small row
        "refuse": "BEGIN SELECT RAISE(ABORT,",  # of a trigger FOR EACH ROW, with its reason
        "end": "); END",
        "postgresql": "-- ",  # begins a line that is only for it
    },
    "postgresql": {
        "id": "INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "bytes": "BYTEA",
        "big": "BIGINT",
        "flag": "BOOLEAN",
        "false": "false",
        "clustered": "",
        "refuse": "EXECUTE FUNCTION refuse(",
        "end": ")",
        "postgresql": "",
    },
}


def migrations(package: str) -> tuple[Migration, ...]:
    """The package's `NNNN_name.sql` files in order; a gap in the numbers is an error."""
    files = sorted((f for f in resources.files(package).iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    found = tuple(Migration(int(f.name[:4]), f.name[5:-4], f.read_text(encoding="utf-8")) for f in files)
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"{package}: the migrations' numbers have a gap or a double")
    return found


def version(database: peewee.Database) -> int:
    """Number of the last migration that was applied, 0 for a new database."""
    if isinstance(database, peewee.SqliteDatabase):
        there = database.table_exists("schema_version")
    else:  # in the first schema of the search path, whichever that is
        there = database.execute_sql("SELECT to_regclass('schema_version')").fetchone()[0]
    if not there:
        return 0
    row = database.execute_sql("SELECT max(number) FROM schema_version").fetchone()
    return int(row[0] or 0)


def clock(database: peewee.Database, here: int) -> int:
    """UTC seconds by a server's clock, which all appliances share; `here` where the database is a file."""
    if isinstance(database, peewee.SqliteDatabase):
        return here
    return int(database.execute_sql("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0])


BREAKING = "breaking_"  # a migration's name begins so when programs before it can't work with its result


def migrate(database: peewee.Database, steps: Sequence[Migration]) -> list[Migration]:
    """Applies what is missing, each step in its own transaction; returns those that weren't there before.

    Of several who do this at once one applies a step, and the others wait for it and go on behind it.
    A newer database is left as it is: after an update that failed the older program has to serve again, so
    migrations only add what it needn't know. Raises UserError when one of them says that it does more.
    """
    done = version(database)
    for name in _names_after(database, len(steps)):
        if name.startswith(BREAKING):
            raise UserError(
                f"the database is at version {done}, this program knows {len(steps)}: install the newer program,"
                " or put back the copy that was made before (core.db.before-*)"
            )
    return [step for step in steps[done:] if _apply(database, step)]


def keep_copy(path: Path, steps: Sequence[Migration]) -> Path | None:
    """A copy of an SQLite database that `migrate` would change, beside it; the one of the time before gives way."""
    with closing(sqlite3.connect(path)) as database:
        try:
            (done,) = database.execute("SELECT max(number) FROM schema_version").fetchone()
        except sqlite3.OperationalError:
            return None  # a new one
        if done is None or done >= len(steps):
            return None
        copy = path.with_name(f"{path.name}.before-{done + 1:04}")
        new = copy.with_suffix(".new")
        new.unlink(missing_ok=True)
        database.execute("VACUUM INTO ?", (str(new),))
    with new.open("rb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    for old in path.parent.glob(f"{path.name}.before-*"):
        if old != new:
            old.unlink()
    new.rename(copy)
    return copy


def make_schema(database: peewee.Database, schema: str, steps: Sequence[Migration]) -> None:
    """A schema of PostgreSQL with what is missing in it; several may do so at once."""
    if version(database) < len(steps):
        with writing(database):
            if not database.execute_sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
                database.execute_sql(f"CREATE SCHEMA {schema}")
    migrate(database, steps)


def _names_after(database: peewee.Database, number: int) -> list[str]:
    if version(database) <= number:
        return []
    return [name for (name,) in database.execute_sql(f"SELECT name FROM schema_version WHERE number > {number:d}")]  # noqa: S608


def _apply(database: peewee.Database, step: Migration) -> bool:
    """False where somebody else has applied it meanwhile."""
    words = _WORDS["sqlite" if is_sqlite(database) else "postgresql"]
    sql = step.sql
    for word, meaning in words.items():
        sql = sql.replace("{" + word + "}", meaning)
    with unhurried(database), _alone(database):
        if version(database) >= step.number:
            return False
        database.execute_sql(
            "CREATE TABLE IF NOT EXISTS schema_version (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
        )
        for statement in sql.split(";\n"):
            if statement.strip():
                database.execute_sql(statement)
        marks = f"({database.param}, {database.param})"
        database.execute_sql(f"INSERT INTO schema_version VALUES {marks}", (step.number, step.name))  # noqa: S608
    return True


_MIGRATING = 0x6D696772617465  # key of PostgreSQL's advisory lock


@contextmanager
def _alone(database: peewee.Database) -> Iterator[None]:
    """A transaction of the only one who migrates. For its tables it waits no longer than any other writer."""
    if is_sqlite(database):
        with database.atomic():
            yield
        return
    with database.atomic():
        (waits,) = database.execute_sql("SHOW lock_timeout").fetchone()
        database.execute_sql("SET LOCAL lock_timeout = '10min'")
        database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
        database.execute_sql("SELECT set_config('lock_timeout', %s, true)", (waits,))
        yield


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL, None for PostgreSQL."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)[1:]) if parts.scheme == "sqlite" else None
