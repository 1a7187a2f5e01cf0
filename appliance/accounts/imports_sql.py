"""Rows of a database's tables: from a dump of mysqldump, phpMyAdmin and their like, or from an SQLite file."""

import re
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from appliance.errors import UserError

Row = dict[str, str | None]  # by column, in small letters

MAX_STATEMENT = 256 * 2**20  # bytes; mysqldump cuts at 1 MB unless told otherwise
_NAME = r"[`\"]?(\w+)[`\"]?"
_START = re.compile(rb"\s*(INSERT|REPLACE|CREATE\s+TABLE)\b", re.I)
_CREATE = re.compile(rf"\s*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:{_NAME}\.)?{_NAME}\s*\((.*)", re.I | re.S)
_INSERT = re.compile(
    rf"\s*(?:INSERT|REPLACE)\s+(?:IGNORE\s+)?INTO\s+(?:{_NAME}\.)?{_NAME}\s*(\([^)]*\))?\s*VALUES\s*", re.I
)
_COLUMN = re.compile(rf"^\s*{_NAME}\s+\w")
_NO_COLUMN = re.compile(r"\s*(PRIMARY|UNIQUE|KEY|INDEX|CONSTRAINT|FULLTEXT|SPATIAL|FOREIGN|CHECK)\b", re.I)
_VALUE = re.compile(r"\s*(?:'((?:[^'\\]|\\.|'')*)'|([^\s,()';]+)|([(),;]))", re.S)
_ESCAPE = re.compile(r"\\(.)|''", re.S)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}


def rows(path: Path, tables: Collection[str]) -> Iterator[tuple[str, Row]]:
    """Table and row for each row of the wanted tables, as they come; raises UserError when it can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            yield from _sqlite(path, tables) if head == b"SQLite format 3\0" else _dump(file, tables)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    except sqlite3.Error as error:
        raise UserError(f"{path} is no whole SQLite database: {error}") from None


def _sqlite(path: Path, tables: Collection[str]) -> Iterator[tuple[str, Row]]:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        there = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in there:
            if table.lower() not in tables:
                continue
            cursor = database.execute(f'SELECT * FROM "{table}"')
            columns = [column[0].lower() for column in cursor.description]
            for row in cursor:
                yield table.lower(), {c: None if v is None else str(v) for c, v in zip(columns, row, strict=True)}
    finally:
        database.close()


def _dump(file: BinaryIO, tables: Collection[str]) -> Iterator[tuple[str, Row]]:
    columns: dict[str, list[str]] = {}
    for statement in _statements(file):
        if create := _CREATE.match(statement):
            columns[create[2].lower()] = _columns(create[3])
        elif (insert := _INSERT.match(statement)) and insert[2].lower() in tables:
            table = insert[2].lower()
            names = re.findall(r"\w+", insert[3].lower()) if insert[3] else columns.get(table, [])
            for values in _tuples(statement, insert.end()):
                if len(values) != len(names):
                    raise UserError(
                        f"a row of {table} has {len(values)} values for {len(names)} columns: dump it whole"
                    )
                yield table, dict(zip(names, values, strict=True))


def _statements(file: BinaryIO) -> Iterator[str]:
    """Those that create tables or fill them; each ends with a `;` at a line's end, outside of quotes."""
    parts: list[bytes] = []
    size = 0
    for line in file:
        if not parts and not _START.match(line):
            continue
        parts.append(line)
        size += len(line)
        if size > MAX_STATEMENT:
            raise UserError("a statement of it has no end: this isn't an SQL dump")
        if line.rstrip().endswith(b";"):
            text = _decode(b"".join(parts))
            if _is_whole(text):
                yield text
                parts, size = [], 0


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _is_whole(text: str) -> bool:
    """Not inside of quotes: a value may have a line that ends with `;`."""
    return re.sub(r"\\.|''", "", text, flags=re.S).count("'") % 2 == 0


def _columns(body: str) -> list[str]:
    lines = body.splitlines() if "\n" in body.strip() else body.split(",")
    return [match[1].lower() for line in lines if not _NO_COLUMN.match(line) and (match := _COLUMN.match(line))]


def _tuples(text: str, start: int) -> Iterator[list[str | None]]:
    values: list[str | None] = []
    for match in _VALUE.finditer(text, start):
        quoted, bare, sign = match.groups()
        if quoted is not None:
            values.append(_ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]) if m[1] else "'", quoted))
        elif bare is not None:
            if not bare.startswith("_"):  # _binary 'value'
                values.append(None if bare.upper() == "NULL" else bare)
        elif sign == "(":
            values = []
        elif sign == ")":
            yield values
        elif sign == ";":
            return
