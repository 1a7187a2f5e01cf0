"""Lists: filters, order and page stand in the URL, so a view can be sent to a colleague; CSV and JSON are of that view.

Exports stream: a million rows need no memory.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import bottle
import peewee

from appliance.accounts.models import core_db
from appliance.admin.frame import Ask
from appliance.tables import harmless

PAGE_ROWS = 50
COUNTED = 10_000  # more are "more than": counting a million rows for each page would be all that it does
_CHUNK = 1000

Row = Mapping[str, object]


@dataclass(frozen=True)
class Column:
    """`key` is the row's, and the name in CSV and JSON. `sort` is what it is ordered by, None if it can't be.

    `show` makes the text for people, `link` the address behind it.
    """

    key: str
    title: str
    sort: Any = None
    number: bool = False
    show: Callable[[Any], str] = str
    link: Callable[[Row], str] | None = None

    def text(self, row: Row) -> str:
        value = row[self.key]
        return "–" if value is None or value == "" else self.show(value)


@dataclass(frozen=True)
class Choice:
    """A filter: `where` by value, in the order of the menu; `words` where people say something else than the URL."""

    key: str
    title: str
    where: Mapping[str, Any]
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class List:
    """`query` selects dicts with the columns' keys; `search` makes a condition of what was typed.

    `keeps` names what else the URL says, such as the folder that is listed.
    `empty` teaches the next step. `order` names the first column to sort by, `-key` the other way round.
    `fill` adds to a page of rows what their query doesn't have. A `live` list is looked at again and again by its page
    (live.js), so its columns show nothing that grows older by itself.
    """

    title: str
    query: Any
    columns: Sequence[Column]
    order: str
    search: Callable[[str], Any] | None = None
    choices: Sequence[Choice] = ()
    empty: str = ""
    row_id: str = "id"
    fill: Callable[[Sequence[Row]], Sequence[Row]] = lambda rows: rows
    live: bool = False
    keeps: Sequence[str] = ()

    def respond(self, ask: Ask, template: str = "list.html", **values: Any) -> Any:
        asked = ask.query()
        view = View(self, asked)
        if asked.get("format") in ("csv", "json"):
            return _export(view, str(asked["format"]))
        rows, more = view.rows()
        count = view.count()
        as_of = datetime.fromtimestamp(ask.now, ask.config.site.timezone).strftime("%H:%M:%S") if self.live else ""
        tag = _tag(rows, more, count) if self.live else ""
        if self.live and _is_known(tag, as_of):
            return ""
        return ask.page(template, view=view, rows=rows, more=more, count=count, as_of=as_of, tag=tag, **values)


def begins(field: Any, text: str) -> Any:
    """By the field's index where the database sorts by code points (SQLite), which tells capitals apart."""
    if isinstance(core_db.obj, peewee.SqliteDatabase):
        return (field >= text) & (field < text + chr(0x10FFFF))
    return field.startswith(text)


def _tag(*shown: object) -> str:
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:20]


def _is_known(tag: str, as_of: str) -> bool:
    """Whether the page that asks has these rows already (RFC 9110, 13.1.2); only the time is new then."""
    bottle.response.set_header("ETag", f'"{tag}"')
    bottle.response.set_header("X-As-Of", as_of)
    known = str(bottle.request.get_header("If-None-Match", "")) == f'"{tag}"'
    if known:
        bottle.response.status = 304
    return known


def counted(query: Any) -> str:
    """Rows, for people: no further than COUNTED."""
    number = int(query.limit(COUNTED + 1).count())
    return f"more than {COUNTED:,}" if number > COUNTED else f"{number:,}"


class View:
    """One list as a URL asks for it; what the URL says wrongly is left out."""

    def __init__(self, of: List, asked: Mapping[str, str]) -> None:
        self.of = of
        self.text = asked.get("q", "").strip()[:200]
        self.chosen = {c.key: asked[c.key] for c in of.choices if asked.get(c.key) in c.where}
        self.kept = {key: asked[key] for key in of.keeps if asked.get(key)}
        self._sortable = {column.key: column.sort for column in of.columns if column.sort is not None}
        order = asked.get("sort", of.order)
        self.order = order if order.lstrip("-") in self._sortable else of.order
        number = asked.get("page", "1")
        self.page = min(int(number), 1_000_000) if number.isdecimal() and int(number) > 0 else 1

    def query(self) -> Any:
        conditions = [choice.where[self.chosen[choice.key]] for choice in self.of.choices if choice.key in self.chosen]
        if self.text and self.of.search is not None:
            conditions.append(self.of.search(self.text))
        query = self.of.query
        for condition in conditions:
            query = query.where(condition)
        return query

    def ordered(self) -> Any:
        by = self._sortable[self.order.lstrip("-")]
        return self.query().order_by(by.desc() if self.order.startswith("-") else by.asc())

    def rows(self) -> tuple[list[Row], bool]:
        """This page's, and whether there is another one."""
        found = list(self.ordered().offset((self.page - 1) * PAGE_ROWS).limit(PAGE_ROWS + 1).dicts())
        return list(self.of.fill(found[:PAGE_ROWS])), len(found) > PAGE_ROWS

    def count(self) -> str:
        return counted(self.query())

    def url(self, **other: object) -> str:
        """This view with something changed; a change of anything but the page begins at the first one."""
        values = {
            **self.kept,
            "q": self.text,
            **self.chosen,
            "sort": self.order,
            "page": self.page if "page" in other else 1,
        }
        values |= other
        plain = {"sort": self.of.order, "page": 1, "q": ""}
        return "?" + urlencode({k: str(v) for k, v in values.items() if v not in ("", plain.get(k))})

    def plain(self) -> str:
        """Without what narrows it down."""
        return "?" + urlencode(self.kept)

    def sorted_url(self, column: Column) -> str:
        return self.url(sort=f"-{column.key}" if self.order == column.key else column.key)

    def aria_sort(self, column: Column) -> str:
        return {column.key: "ascending", f"-{column.key}": "descending"}.get(self.order, "none")


def _export(view: View, kind: str) -> Iterator[bytes]:
    name = view.of.title.lower().replace(" ", "-")
    bottle.response.content_type = {"csv": "text/csv; charset=utf-8", "json": "application/json"}[kind]
    bottle.response.set_header("Content-Disposition", f'attachment; filename="{name}.{kind}"')
    keys = [column.key for column in view.of.columns]
    return (_csv if kind == "csv" else _json)(view, keys)


def _all(view: View) -> Iterator[Sequence[Row]]:
    """Sent after the handler has returned, so with a connection of its own."""
    with core_db.connection_context(), _connected(view.of.query):
        rows = view.ordered().dicts().iterator()
        while chunk := [row for _, row in zip(range(_CHUNK), rows, strict=False)]:
            yield view.of.fill(chunk)


def _connected(query: Any) -> AbstractContextManager[Any]:
    """For what lies in a module's own database."""
    model = getattr(query, "model", None)
    database = core_db if model is None else model._meta.database
    return nullcontext() if database is core_db else database.connection_context()


def _csv(view: View, keys: Sequence[str]) -> Iterator[bytes]:
    yield (",".join(keys) + "\r\n").encode()
    for rows in _all(view):
        text = io.StringIO()
        csv.writer(text).writerows([harmless(row[key]) for key in keys] for row in rows)
        yield text.getvalue().encode()


def _json(view: View, keys: Sequence[str]) -> Iterator[bytes]:
    first = True
    yield b"["
    for rows in _all(view):
        for row in rows:
            yield (b"" if first else b",") + json.dumps({key: row[key] for key in keys}).encode()
            first = False
    yield b"]"
