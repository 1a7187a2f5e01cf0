"""What may be asked of flows, as a mapping of plain values: by commands, and by pages through the worker.

`{"ask": "search", "filter": "tcp", "since_ms": 0, "until_ms": 1, "order": "-bytes", "columns": [], "group": [],
"limit": 100}`; "csv" is the same as bytes. Without an order rows come as they are stored, without a limit all of them.
`{"ask": "who", "ip": "203.0.113.7", "port": 40000, "at_ms": 0, "protocol": 6, "slack_ms": 5000, "who": "asker's name",
"reason": "case 12/345"}`: port, protocol and slack may be None. With a "site" both are about that one, not this one's.
`{"ask": "totals", "site": "north", "since_ms": 0, "until_ms": 1, "order": "bytes"}` are statistics of another site.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, tzinfo
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import peewee

from appliance.accounts.database import open_core
from appliance.accounts.models import core_db
from appliance.admin import audit
from appliance.config import Config
from appliance.errors import UserError
from collector import certifying, export, periods, places, search, sums, who, whose
from collector.filters.language import parse
from collector.periods import Period
from collector.search import Known, Query
from collector.store.models import CATALOG, Certificate, Range
from collector.store.reading import Reading

MEMORY_MB = 240  # sorting a million flows into a file takes 200; the rest goes to disk
_AT_ONCE = 500  # rows in a line
_MOST_FIELDS = 64
_SHORTEST_REASON, _LONGEST_REASON = 3, 500

Request = Mapping[str, Any]
Piece = Mapping[str, Any]


@contextmanager
def opened(config: Config, site: str = "") -> Iterator[Reading]:
    """What is kept, here or of another `site`. Raises UserError with one line, also for what goes wrong while it is
    read."""
    with _in_words(), _reading(config, site) as reading:
        yield reading


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except duckdb.OutOfMemoryException:
        raise UserError(
            "the search needs more memory than it may have: ask a shorter period, or without order"
        ) from None
    except duckdb.InterruptException:
        raise UserError("the search was broken off") from None
    except (duckdb.Error, peewee.PeeweeException, OSError) as error:
        line = str(error).partition("\n")[0]
        raise UserError(f"flows can't be read: {line}") from error


def _reading(config: Config, site: str) -> Reading:
    folder, temporary = config.paths.data / places.DISK, Path(_temporary().name)
    if site not in ("", config.site.key):
        from collector.cluster import elsewhere

        return elsewhere.opened(config, site, MEMORY_MB, temporary, elsewhere.Elsewhere)
    if not (folder / CATALOG).is_file():
        raise UserError(
            f"{folder}: no flows are kept there: see `gatehouse status` for the data disk and the collector"
        )
    if config.netflow.cluster is None:
        found = Reading(folder, MEMORY_MB, temporary)
    else:
        from collector.cluster import reading  # what it takes isn't loaded by those who have no cluster

        found = reading.opened(config, folder, MEMORY_MB, temporary)
    found.site = whose.site_of(config)
    return found


@lru_cache(maxsize=1)
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    """For what doesn't fit into memory; gone with the process."""
    return tempfile.TemporaryDirectory(prefix="gatehouse-flows-")


def known(config: Config, reading: Reading) -> Known:
    """The core database is open, also while it is asked."""
    return Known(whose.routers(reading.exporters.values(), reading.site), partial(whose.holdings, site=reading.site))


def query(request: Request) -> Query:
    """Raises UserError for what it can't be."""
    order = _text(request, "order")
    span = _span(request)
    return Query(
        parse(_text(request, "filter")),
        span.since_ms,
        span.until_ms,
        order.removeprefix("-"),
        order.startswith("-"),
        _number(request, "limit"),
        _names(request, "columns"),
        _names(request, "group"),
    )


def _span(request: Request) -> Period:
    since, until = (_number(request, name) for name in ("since_ms", "until_ms"))
    if since is None or until is None or since >= until:
        raise UserError("a period has a beginning and an end after it")
    periods.bound("since_ms", since, until)
    return Period(since, until)


def answer(config: Config, request: Request) -> Iterator[Piece | bytes]:
    """`columns`, then `rows` in pieces, then the `certificate`; or bytes, the certificate last."""
    kind = request.get("ask")
    if kind == "who":
        with open_core(config):
            yield told(config, request)
        return
    if kind == "totals":
        with open_core(config):
            yield _totals(config, request)
        return
    if kind not in ("search", "csv"):
        raise UserError(f"{kind!r} can't be asked: search, csv, who, totals")
    with open_core(config), opened(config, _text(request, "site")) as reading:
        asked, others, zone = query(request), known(config, reading), config.site.timezone
        if kind == "csv":
            prepared = search.prepare(reading, asked, others, zone)
            yield from export.csv(prepared)
            found = prepared.certificate
        else:
            result = search.run(reading, asked, others, zone)
            yield {"columns": [{"name": c.name, "title": c.title, "kind": c.kind} for c in result.columns]}
            rows = iter(result.rows)
            while piece := list(islice(rows, _AT_ONCE)):
                yield {"rows": piece}
            found = result.certificate
        names = [(number, _router(reading, others, number)) for number in reading.exporters]
        yield {"certificate": asdict(found), "exporters": names, "lines": certified(reading, others, found, zone)}


def _totals(config: Config, request: Request) -> Piece:
    from collector.cluster import totals  # what it takes isn't loaded by those who have no cluster

    span, order = _span(request), _text(request, "order")
    if order not in sums.MEASURES:
        raise UserError(f"order: there are {', '.join(sums.MEASURES)}")
    with _in_words(), totals.opened(config, _text(request, "site")) as found:
        answer = asdict(sums.figures(found, span, order, found.site))
    return answer | {"exporters": list(answer["exporters"].items())}


def told(config: Config, request: Request) -> Piece:
    """Who it was (who.py). That it was asked, by whom and why, stands in the record before anybody sees the answer.

    The core database is open.
    """
    asked = _question(request)
    asker, reason = _text(request, "who"), _text(request, "reason").strip()
    if not asker or not _SHORTEST_REASON <= len(reason) <= _LONGEST_REASON or not reason.isprintable():
        raise UserError("a reason is needed, such as the number of the request: it stands in the record")
    zone = config.site.timezone
    site = _text(request, "site")
    with opened(config, site) as reading:
        found = reading.sure(who.reach(asked), lambda: who.ask(reading, asked))
        at = datetime.fromtimestamp(asked.at_ms / 1000, zone).isoformat(timespec="milliseconds")
        port = f" port {asked.port}" if asked.port is not None else ""
        of = site or whose.site_of(config)  # in the record of all sites
        subject = f"address {asked.address}{port}{f' of site {of}' if of else ''} at {at}"
        names = ", ".join(found.accounts) or "nobody"
        others = known(config, reading)
        period = Range(asked.at_ms - found.slack_ms, asked.at_ms + found.slack_ms + who.LATEST_MS)
        lines = certified(reading, others, reading.certificate(period), zone)
        answer: Piece = {
            "subject": subject,
            "site": of,
            "found": [_person(one) for one in found.found],
            "accounts": found.accounts,
            "slack_ms": found.slack_ms,
            "clocks": [
                clock._asdict() | {"router": _router(reading, others, clock.exporter)} for clock in found.clocks
            ],
            "lines": lines,
        }
        with core_db.atomic():
            audit.record(asker, "asked whose", subject, {}, {"reason": reason, "found": names})
        return answer


def _question(request: Request) -> who.Question:
    at, port, protocol, slack = (_number(request, name) for name in ("at_ms", "port", "protocol", "slack_ms"))
    try:
        address = who.address_of(_text(request, "ip"))
    except ValueError:
        raise UserError(f"{request.get('ip')!r} is no address") from None
    if at is None or (port or 0) > 65_535 or (protocol or 0) > 255:
        raise UserError("a time is needed, a port up to 65535, and a protocol up to 255")
    return who.Question(address, port, at, protocol, who.USUAL_SLACK_MS if slack is None else slack)


def _person(one: who.Found) -> Piece:
    """Times in ms; no `until_ms` is a session that goes on."""
    trace, held = one.trace, one.held
    session = held and {
        "account": held.account,
        "mac": held.mac,
        "session": held.session,
        "nas": held.nas,
        "since_ms": held.since_ms,
        "until_ms": None if held.until_ms == whose.FOREVER_MS else held.until_ms,
    }
    return {
        "client": str(trace.client),
        "port": trace.port,
        "how": trace.how,
        "first_ms": trace.first_ms,
        "last_ms": None if trace.last_ms == whose.FOREVER_MS else trace.last_ms,
        "flows": trace.flows,
        "off_ms": one.off_ms,
        "held": session,
    }


def _router(reading: Reading, others: Known, number: int) -> str:
    address = reading.exporters.get(number, str(number))
    return others.routers.get(address, address)


def certified(reading: Reading, known: Known, certificate: Certificate, zone: tzinfo) -> list[str]:
    """How complete an answer is, in words."""
    named = {number: known.routers.get(address, address) for number, address in reading.exporters.items()}
    return certifying.lines(certificate, zone, named)


def _text(request: Request, name: str) -> str:
    value = request.get(name) or ""
    if not isinstance(value, str):
        raise UserError(f"{name}: a text is needed")
    return value


def _number(request: Request, name: str) -> int | None:
    value = request.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53):
        raise UserError(f"{name}: a whole number is needed")
    return value


def _names(request: Request, name: str) -> tuple[str, ...]:
    value = request.get(name) or ()
    if (
        not isinstance(value, list | tuple)
        or not all(isinstance(one, str) for one in value)
        or len(value) > _MOST_FIELDS
    ):
        raise UserError(f"{name}: a list of columns is needed")
    return tuple(value)
