"""What the pages ask the worker, which has numpy and DuckDB loaded so that the pages' own process needn't.

Raises UserError in the worker's words, Unavailable where it gives no answer in time.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from appliance.config import Config
from appliance.errors import Unavailable
from collector import worker
from collector.periods import Period
from collector.store.models import Certificate, Lost
from collector.sums import Figures
from collector.views import View

Row = Mapping[str, Any]
TIMEOUT_S = 30.0
MOST_FILES = 1  # at once: each keeps a thread of the pages, and one of the worker's processes, as long as it takes
_files = threading.BoundedSemaphore(MOST_FILES)


@dataclass(frozen=True)
class Answer:
    """`exporters` are names by the certificate's numbers."""

    rows: Sequence[Row]
    certificate: Certificate
    exporters: Mapping[int, str]


def search(config: Config, view: View, span: Period) -> Answer:
    """As many rows as fit a page: `view.limit` is for the caller to bound."""
    names: list[str] = []
    rows: list[Row] = []
    certificate = Certificate(0, 0)
    exporters: Mapping[int, str] = {}
    with _answer(config, asked("search", view, span)) as pieces:
        for piece in pieces:
            names = [column["name"] for column in piece.get("columns", ())] or names
            rows += [dict(zip(names, row, strict=True)) for row in piece.get("rows", ())]
            if "certificate" in piece:
                certificate, exporters = _certificate(piece["certificate"]), dict(piece["exporters"])
    return Answer(rows, certificate, exporters)


@contextmanager
def _answer(config: Config, request: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> Iterator[Iterator[Any]]:
    """Pieces as they come. The search ends with the block, whether all of them were taken or not."""
    pieces: Any = worker.ask(config, request, timeout_s)
    with closing(pieces):
        yield pieces


def asked(kind: str, view: View, span: Period) -> dict[str, Any]:
    """As the worker reads it."""
    return {
        "ask": kind,
        "site": view.site,
        "filter": view.filter,
        "since_ms": span.since_ms,
        "until_ms": span.until_ms,
        "order": view.sort,
        "limit": view.limit or None,
        "columns": [] if view.group else list(view.shown),
        "group": list(view.group),
    }


def _certificate(given: Mapping[str, Any]) -> Certificate:
    losses = [Lost(*loss) for loss in given["losses"]]
    return Certificate(given["present"], given["lost"], losses, given["complete_until_ms"], given["notes"])


def file(config: Config, view: View, span: Period, kind: str) -> Iterator[bytes]:
    """CSV or JSON piece by piece; who stops taking them ends the search."""
    if not _files.acquire(blocking=False):
        raise Unavailable("another file of flows is being made: try again when it is done")
    try:
        yield from _csv(config, view, span) if kind == "csv" else _json(config, view, span)
    finally:
        _files.release()


def _csv(config: Config, view: View, span: Period) -> Iterator[bytes]:
    with _answer(config, asked("csv", view, span)) as pieces:
        yield from (piece for piece in pieces if isinstance(piece, bytes))


def _json(config: Config, view: View, span: Period) -> Iterator[bytes]:
    """Rows, and beside them how complete they are."""
    names: list[str] = []
    lines: Sequence[str] = ()
    between = ""
    with _answer(config, asked("search", view, span)) as pieces:
        for piece in pieces:
            if "columns" in piece:
                names = [column["name"] for column in piece["columns"]]
                yield b'{"flows": ['
            if found := piece.get("rows"):
                rows = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in found)
                yield (between + ",\n".join(rows)).encode()
                between = ",\n"
            lines = piece.get("lines", lines)
    yield f'],\n"certificate": {json.dumps(list(lines), ensure_ascii=False)}}}\n'.encode()


# Statistics of another site


def figures(config: Config, site: str, span: Period, order: str) -> Figures:
    """As sums.figures makes them of what this appliance counted."""
    request = {"ask": "totals", "site": site, "since_ms": span.since_ms, "until_ms": span.until_ms, "order": order}
    with _answer(config, request) as pieces:
        (found,) = [piece for piece in pieces if not isinstance(piece, bytes)]
    certificate, exporters = _certificate(found["certificate"]), dict(found["exporters"])
    return Figures(found["steps"], found["clients"], found["tables"], certificate, exporters)


# Whose an address was


@dataclass(frozen=True)
class Question:
    """`slack_ms` is by how much the time may be wrong; no `site` is this one."""

    site: str
    address: str
    port: int | None
    protocol: int | None
    at_ms: int
    slack_ms: int
    reason: str


@dataclass(frozen=True)
class Whose:
    """`found` has the likeliest first, `slack_ms` is the question and what clocks add, `lines` how complete all is.

    `site` is empty where there is only one.
    """

    site: str
    found: Sequence[Row]
    accounts: Sequence[str]
    slack_ms: int
    clocks: Sequence[Row]
    lines: Sequence[str]


def who(config: Config, question: Question, asker: str) -> Whose:
    """The worker writes the question, its reason and its answer into the record before it gives the answer."""
    request = {
        "ask": "who",
        "site": question.site,
        "ip": question.address,
        "port": question.port,
        "protocol": question.protocol,
        "at_ms": question.at_ms,
        "slack_ms": question.slack_ms,
        "who": asker,
        "reason": question.reason,
    }
    with _answer(config, request) as pieces:
        (told,) = [piece for piece in pieces if not isinstance(piece, bytes)]
    return Whose(told["site"], told["found"], told["accounts"], told["slack_ms"], told["clocks"], told["lines"])
