"""A core database and those of modules, out of SQLite into an empty PostgreSQL database: all of them, or nothing.

One transaction makes the tables, copies the rows, compares each table with what was read, and has each module look at
its own; until it is over nothing is there. The files are put aside then, so that nobody goes on with them, core.db as
the last. Who was killed in between finds the same rows there the next time, and only puts aside what is left.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peewee

from appliance import db, modules
from appliance.config import Config
from appliance.errors import UserError
from appliance.files import fsync_folder

ASIDE = ".moved"  # ends the name of a file whose rows are in PostgreSQL
_SAID_EVERY, _FETCHED = 200_000, 5000  # rows
_WAITS_S = 10  # for somebody's last write
_OTHERS_END_S = 30  # who waits for the file's lock gives up before (db.connect, dealers.ledger_db)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """An SQLite file and its schema in PostgreSQL, "" for the connection's; `check` says what is wrong there."""

    path: Path
    schema: str
    migrations: str
    check: Callable[[Any], Iterable[str]] = lambda database: ()


def parts(config: Config) -> list[Part]:
    """Those that there are."""
    core = db.sqlite_path(config.database_url)
    if core is None:
        raise UserError("the database is PostgreSQL's already: [database] url names it")
    if not core.exists():
        raise UserError(f"{core}: there is no database to move")
    return [Part(core, "", "appliance.migrations"), *_of_modules(config)]


def _of_modules(config: Config) -> list[Part]:
    """A file that was put aside while core.db wasn't yet belongs to it still."""
    return [
        Part(file, kept.schema, kept.migrations, kept.check)
        for module in modules.MODULES
        for kept in module.databases
        if kept.schema and (file := _found(config.paths.state / kept.path)).exists()
    ]


def _found(file: Path) -> Path:
    return file if file.exists() else _aside(file)


def _aside(file: Path) -> Path:
    return file if file.name.endswith(ASIDE) else file.with_name(file.name + ASIDE)


def move(config: Config, url: str, say: Say) -> int:
    """How many rows are there afterwards, in a database whose `url` becomes that of [database]. Raises UserError."""
    chosen = parts(config)
    try:
        with ExitStack() as stack:
            sources = [(part, stack.enter_context(_source(part))) for part in chosen]
            target = db.connect(url)
            stack.enter_context(closing(target))
            target.connect()
            stack.enter_context(db.unhurried(target))
            count = _moved(target, sources, say)
            target.execute_sql("ANALYZE")
            for part in reversed(chosen):
                _put_aside(part.path)
            _others_end([_aside(part.path) for part in chosen], say)
    except (peewee.PeeweeException, sqlite3.Error) as error:
        raise UserError(f"it broke off: {str(error).partition(chr(10))[0]}") from error
    return count


def refuse_beginning_anew(config: Config) -> None:
    """Raises UserError where the accounts of this appliance are in the other engine."""
    used = db.sqlite_path(config.database_url)
    own = used or config.paths.state / "core" / "core.db"
    if used is None and _has_accounts(own):
        words = "move them there with `gatehouse database move`, or put that file aside"
        raise UserError(f"{own} has accounts that aren't in the database which [database] url names: {words}")
    if used is not None and not used.exists() and _aside(own).exists():
        raise UserError(f"{own} was moved to PostgreSQL: write its URL into {config.file}, [database] url")
    begun = [part.path for part in _of_modules(config) if part.path.name.endswith(ASIDE)]
    if used is not None and used.exists() and begun:
        words = f"{begun[0].stem} was moved to PostgreSQL, but {used} wasn't yet: run `gatehouse database move` again"
        raise UserError(f"{words}; or, to stay with files, take {ASIDE} off the name of {begun[0]}")


def _has_accounts(file: Path) -> bool:
    if not file.exists():
        return False
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute("SELECT 1 FROM account LIMIT 1").fetchone() is not None
        except sqlite3.Error:  # none of ours
            return False


@contextmanager
def _source(part: Part) -> Iterator[sqlite3.Connection]:
    """Nobody writes to it meanwhile, and what was written is in the file itself afterwards."""
    with closing(sqlite3.connect(part.path, isolation_level=None, timeout=_WAITS_S)) as source:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        source.execute("BEGIN IMMEDIATE")
        (schema,) = source.execute("SELECT max(number) FROM schema_version").fetchone()
        known = len(db.migrations(part.migrations))
        if schema != known:
            words = f"is at version {schema}, this program knows {known}"
            raise UserError(f"{part.path} {words}: run `gatehouse apply` first")
        if source.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise UserError(f"{part.path} is damaged: restore a backup first")
        yield source
        source.execute("ROLLBACK")


def _moved(target: Any, sources: list[tuple[Part, sqlite3.Connection]], say: Say) -> int:
    with target.atomic():
        filled = [part.path.name for part, _ in sources if _is_filled(target, part)]
        for part, source in sources:
            _enter(target, part)
            if not filled:
                _make(target, part)
                _fill(target, part, source, say)
        return sum(_compared(target, part, source, say, bool(filled)) for part, source in sources)


def _make(target: Any, part: Part) -> None:
    steps = db.migrations(part.migrations)
    if part.schema:
        db.make_schema(target, part.schema, steps)
    else:
        db.migrate(target, steps)


def _enter(target: Any, part: Part) -> None:
    target.execute_sql(f"SET LOCAL search_path TO {part.schema or 'DEFAULT'}")


def _is_filled(target: Any, part: Part) -> bool:
    """Whether there is a row in any table of its schema; raises UserError for tables that aren't ours."""
    _enter(target, part)
    there = target.get_tables()
    if there and not db.version(target):
        raise UserError(f"that database has tables of something else, such as {there[0]}: make an empty one")
    return any(target.execute_sql(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() for table in _own(there))  # noqa: S608


def _own(tables: Iterable[str]) -> list[str]:
    return [table for table in tables if table != "schema_version"]


# Copying


def _fill(target: Any, part: Part, source: sqlite3.Connection, say: Say) -> None:
    for table in _in_order(target):
        columns = _columns(target, table)
        rows = _counted(_rows(source, table, columns), f"{part.path.name}: {table}", say)
        stream = _Stream(_line(row, columns, table) for row in rows)
        names = ", ".join(f'"{name}"' for name, _ in columns)
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            target.cursor().copy_expert(f'COPY "{table}" ({names}) FROM STDIN', stream)
    _numbers_go_on(target, source)


def _in_order(target: Any) -> list[str]:
    """Tables after those that they refer to."""
    tables = _own(target.get_tables())
    left = {table: {key.dest_table for key in target.get_foreign_keys(table)} - {table} for table in tables}
    found: list[str] = []
    while left:
        free = sorted(table for table, needs in left.items() if not needs & left.keys())
        if not free:
            raise ValueError(f"tables refer to each other: {', '.join(sorted(left))}")
        found += free
        for table in free:
            del left[table]
    return found


def _columns(target: Any, table: str) -> list[tuple[str, str]]:
    """Names, with PostgreSQL's types."""
    return [(column.name, column.data_type) for column in target.get_columns(table)]


def _rows(source: sqlite3.Connection, table: str, columns: list[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
    there = {row[1] for row in source.execute(f'PRAGMA table_info("{table}")')}
    if there != {name for name, _ in columns}:
        raise UserError(f"{table} has other columns there: run `gatehouse apply` first")
    names = ", ".join(f'"{name}"' for name, _ in columns)
    yield from source.execute(f'SELECT {names} FROM "{table}"')  # noqa: S608


def _counted(rows: Iterable[tuple[Any, ...]], what: str, say: Say) -> Iterator[tuple[Any, ...]]:
    count = 0
    for row in rows:
        yield row
        count += 1
        if count % _SAID_EVERY == 0:
            say(f"{what}: {count:,} rows …")
    if count:
        say(f"{what}: {count:,} rows")


class _Stream:
    """What is read from it is made while it is read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines, self._rest = lines, b""

    def read(self, size: int) -> bytes:
        pieces, length = [self._rest], len(self._rest)
        while length < size and (line := next(self._lines, None)) is not None:
            pieces.append(line)
            length += len(line)
        text = b"".join(pieces)
        self._rest = text[size:]
        return text[:size]


_ESCAPED = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _line(row: tuple[Any, ...], columns: list[tuple[str, str]], table: str) -> bytes:
    """As COPY has it (PostgreSQL's manual, COPY, Text Format)."""
    fields = []
    for value, (name, kind) in zip(row, columns, strict=True):
        if value is None:
            fields.append(r"\N")
        elif isinstance(value, bytes):
            fields.append(rf"\\x{value.hex()}" if kind == "bytea" else value.decode().translate(_ESCAPED))
        elif "\0" in str(value):
            raise UserError(f"{table}.{name} has a character that PostgreSQL can't keep (NUL) in {str(value)[:40]!r}")
        else:
            fields.append(str(value).translate(_ESCAPED))
    return ("\t".join(fields) + "\n").encode()


def _numbers_go_on(target: Any, source: sqlite3.Connection) -> None:
    """After the last id that was ever given, so that none is given twice."""
    if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone() is None:
        return
    there = set(target.get_tables())
    for table, last in source.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
        if table in there and last:
            text = "SELECT setval(pg_get_serial_sequence(%s, column_name), %s) FROM information_schema.columns"
            where = " WHERE table_schema = current_schema() AND table_name = %s AND is_identity = 'YES'"
            target.execute_sql(text + where, (table, last, table))


# Comparing


def _compared(target: Any, part: Part, source: sqlite3.Connection, say: Say, was_there: bool) -> int:
    """How many rows; raises UserError where one of them isn't the same."""
    _enter(target, part)
    total = 0
    for table in _own(target.get_tables()):
        columns = _columns(target, table)
        before, after = _sum(_rows(source, table, columns)), _sum(_there(target, table, columns))
        if before != after:
            if was_there:
                raise UserError("that database isn't empty, and has other rows: make an empty one")
            raise UserError(f"{table} isn't there as it was: {after[0]} rows of {before[0]}")
        total += before[0]
    for problem in part.check(target):
        raise UserError(f"{part.path.name} can't be moved: {problem}")
    say(f"{part.path.name}: {total:,} rows are there, each as it was")
    return total


def _there(target: Any, table: str, columns: list[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
    names = ", ".join(f'"{name}"' for name, _ in columns)
    target.execute_sql(f'DECLARE moved CURSOR FOR SELECT {names} FROM "{table}"')  # noqa: S608
    while rows := target.execute_sql(f"FETCH {_FETCHED} FROM moved").fetchall():
        yield from rows
    target.execute_sql("CLOSE moved")


def _sum(rows: Iterable[tuple[Any, ...]]) -> tuple[int, int]:
    """How many, and a sum over their hashes, whatever their order."""
    count = total = 0
    for row in rows:
        digest = hashlib.sha256(repr(tuple(map(_plain, row))).encode()).digest()
        count, total = count + 1, (total + int.from_bytes(digest, "big")) % 2**256
    return count, total


def _plain(value: Any) -> Any:
    if isinstance(value, memoryview):
        return bytes(value)
    return int(value) if isinstance(value, bool) else value


def _put_aside(file: Path) -> None:
    """While its lock is held; what isn't in the file itself yet goes with it."""
    aside = _aside(file)
    if file == aside:  # it was already
        return
    file.replace(aside)
    with suppress(FileNotFoundError):
        file.with_name(f"{file.name}-wal").replace(aside.with_name(f"{aside.name}-wal"))
    file.with_name(f"{file.name}-shm").unlink(missing_ok=True)
    fsync_folder(file.parent)


def _others_end(files: list[Path], say: Say) -> None:
    """Who opened one before it was put aside waits for its lock: they are to fail, not to write where nobody looks."""
    until = time.monotonic() + _OTHERS_END_S
    while (pids := _who_has(files)) and time.monotonic() < until:
        time.sleep(0.1)
    if pids:
        names = ", ".join(file.name for file in files)
        say(f"{names}: open still in process {', '.join(pids)}, whose writes from now on are in no database: end it")


def _who_has(files: list[Path]) -> list[str]:
    """Other processes (proc_pid_fd(5))."""
    names, found = {str(file.resolve()) for file in files}, set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it ended, or isn't ours
            if os.readlink(link) in names:  # noqa: PTH115 (most name no file)
                found.add(link.parts[2])
    return sorted(found - {str(os.getpid())})
