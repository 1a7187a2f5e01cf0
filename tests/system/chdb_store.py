"""The current ClickHouse in a process of ours, asked as a server of a cluster is (collector/cluster/client.py)."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from collector.cluster import tables

DATABASE = "flows"
_ESCAPES = {ord("\\"): "\\\\", ord("\t"): "\\t", ord("\n"): "\\n"}


class Embedded:
    """One server with the tables of its version. Only one at a time: the library keeps one for a process."""

    def __init__(self, folder: Path) -> None:
        self.name, self._folder = "chdb", folder
        from chdb import session  # large, so only `make test-system` has it, and `make test` reads this file, too

        self._session = session.Session(str(folder / "chdb"))
        self.rows(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        self.rows(f"USE {DATABASE}")
        ((version,),) = self.rows("SELECT version()")
        major, minor = (int(part) for part in version.split(".")[:2])
        self.version = (major, minor)
        for statement in tables.statements(self.version, DATABASE, "", 1):
            self.rows(statement)

    def close(self) -> None:
        self._session.close()

    def rows(self, sql: str, *_: object) -> list[tuple[Any, ...]]:
        plain = "output_format_json_quote_64bit_integers = 0"
        settings = f" SETTINGS {plain}" if sql.startswith("SELECT") else ""
        text = str(self._session.query(sql + settings, "JSONCompact"))
        return [tuple(row) for row in json.loads(text)["data"]] if text else []

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        path = self._folder / "rows.tsv"
        with path.open("wb") as file:
            for row in zip(*columns.values(), strict=True):
                file.write(b"\t".join(map(_cell, row, columns)) + b"\n")
        names = ", ".join(columns)
        kinds = ", ".join(f"{name} {kind}" for name, kind in tables.types(table) if name in columns)
        self.rows(f"INSERT INTO {table} ({names}) SELECT {names} FROM file('{path}', 'TSV', '{kinds}')")


def _cell(value: Any, name: str) -> bytes:
    if name == "day" and not isinstance(value, date):
        value = date(1970, 1, 1) + timedelta(days=int(value))
    if isinstance(value, bytes):
        return value.decode("latin-1").translate(_ESCAPES).encode("latin-1")
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S").encode()
    if isinstance(value, date):
        return value.isoformat().encode()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]".encode()
    return str(value).encode()
