"""Answers as people and programs want them: a table, an object of JSON a line, or CSV. None holds the whole answer."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TextIO

from appliance.units import format_bytes
from collector.search import Prepared, Result
from collector.showing import DURATION, OCTETS, TEXT, TIME, Field
from collector.store import duck

_MEASURED = 200  # rows that the widths of a table are taken from
_BLOCK = 2**20
_EVERY_S = 0.2

Row = tuple[Any, ...]


def table(result: Result) -> Iterator[str]:
    """Lines, as wide as the first rows need."""
    rows = (_cells(result.columns, row) for row in result.rows)
    seen = list(islice(rows, _MEASURED))
    heads = [column.title.upper() for column in result.columns]
    widths = [max(len(line[place]) for line in (heads, *seen)) for place in range(len(heads))]
    right = [column.kind not in (TEXT, TIME) for column in result.columns]
    for line in chain([heads], seen, rows):
        cells = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _cells(columns: Sequence[Field], row: Row) -> list[str]:
    return [human(column.kind, value) for column, value in zip(columns, row, strict=True)]


def human(kind: str, value: object) -> str:
    """One value for people."""
    if value is None or value == "":
        return "-"
    if kind == OCTETS and isinstance(value, int):
        return format_bytes(value)
    if kind == DURATION and isinstance(value, int):
        return f"{value / 1000:.3f}s"
    text = str(value)
    if kind == TIME:
        return text[:23].replace("T", " ")
    return text if text.isprintable() else ascii(text)[1:-1]


def json_lines(result: Result) -> Iterator[str]:
    names = [column.name for column in result.columns]
    for row in result.rows:
        yield json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)


def csv(prepared: Prepared) -> Iterator[bytes]:
    """Blocks of bytes, the names of the columns first. DuckDB writes them: Python would take ten times as long.

    Whoever stops taking them ends the search too.
    """
    cells = ", ".join(f"{_safe(column)} AS {column.name}" for column in prepared.columns)
    con, (reader, writer) = prepared.con, os.pipe()
    target = duck.text(f"/dev/fd/{writer}")
    failed: list[Exception] = []

    def write() -> None:
        try:
            con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")  # it counts, silently
            for number, statement in enumerate(prepared.statements):
                names = "false" if number else "true"
                form = f"(FORMAT csv, HEADER {names}, USE_TMP_FILE false)"
                con.execute(f"COPY (SELECT {cells} FROM ({statement})) TO {target} {form}")
        except Exception as error:  # noqa: BLE001 (raised again where the blocks are taken)
            failed.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        while block := os.read(reader, _BLOCK):
            yield block
    finally:
        os.close(reader)  # a writer that still writes is told so
        if thread.is_alive() and not failed:
            con.interrupt()
        thread.join()
    if failed:
        raise failed[0]


def _safe(column: Field) -> str:
    """A text that a spreadsheet would take for a formula stays a text (OWASP, "CSV Injection")."""
    name = column.name
    if not column.free:
        return name
    return f"CASE WHEN regexp_matches({name}, '^[=+@\\t\\r-]') THEN concat('''', {name}) ELSE {name} END"


class Progress:
    """A line on a terminal that says how far it is; nothing where there is no terminal."""

    def __init__(self, share: Callable[[], float], out: TextIO | None = None) -> None:
        self._share, self._out = share, out or sys.stderr
        self._shown = self._out.isatty()
        self._next = 0.0
        self.rows = self.bytes = 0

    def block(self, block: bytes) -> None:
        self.rows += block.count(b"\n")
        self.bytes += len(block)
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            share = min(100.0, max(0.0, self._share()))
            bar = "#" * int(share / 4)
            self._out.write(f"\r[{bar:<25}] {share:3.0f} %  {self.rows:,} rows, {format_bytes(self.bytes)}B \x1b[K")
            self._out.flush()

    def done(self) -> None:
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
