"""The API's routes: what came is checked against its description, what goes out is JSON; and the page about it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any
from urllib.parse import quote

import bottle
import peewee

from appliance.accounts.models import core_db
from appliance.admin.frame import Ask, Page
from appliance.api import metrics, openapi
from appliance.api.resources import MAX_BODY_BYTES, ROOT, Call, Report, Resource, Values, read_body, reports, resources
from appliance.api.shapes import Number, Object, Part, Text, refuse_unknown
from appliance.errors import Conflict, Unavailable, UserError

MOST, USUAL = 500, 100
PAGING = (
    Part("limit", Number(1, MOST), f"how many at most, {USUAL} unless it says otherwise"),
    Part("cursor", Text(max=80), "what the answer before said is `next`"),
)
_scraping = threading.Lock()
BUSY = "the database is busy: try again"


class Failure(Exception):
    """An answer that isn't the one that was hoped for."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def routes(*of: Resource | Report) -> tuple[Page, ...]:
    return tuple(page for one in of for page in (_routes(one) if isinstance(one, Resource) else _report(one)))


def _report(of: Report) -> Iterator[Page]:
    yield Page(f"{ROOT}/{of.name}", _answered(lambda call: of.read(call, _query(of.parts))), role=of.reads)


def _routes(of: Resource) -> Iterator[Page]:
    path, one = f"{ROOT}/{of.name}", f"{ROOT}/{of.name}/<key:path>"  # names may have slashes
    if of.query:
        yield Page(path, _answered(partial(_list, of, of.query)), role=of.reads)
    if of.add:
        yield Page(path, _answered(partial(_add, of, of.add)), "POST", of.changes)
    if of.find:
        yield Page(one, _answered(partial(_get, of)), role=of.reads)
    if of.change:
        yield Page(one, _answered(partial(_change, of, of.change)), "PATCH", of.changes)
    if of.remove:
        yield Page(one, _answered(partial(_remove, of, of.remove)), "DELETE", of.changes)


def _answered(handler: Callable[..., Any]) -> Callable[..., str]:
    def answered(ask: Ask, **parts: str) -> str:
        try:
            return _json(handler(Call(ask.config, ask.person.name, ask.now), **parts))
        except Failure as failure:
            return _json({"error": str(failure)}, failure.status)
        except Conflict as error:
            return _json({"error": str(error)}, 409)
        except Unavailable as error:
            return _json({"error": str(error)}, 503)
        except UserError as error:
            return _json({"error": str(error)}, 400)
        except peewee.OperationalError:
            return _json({"error": BUSY}, 503)

    return answered


def _json(value: object, status: int = 0) -> str:
    """`status` of 0 leaves what the handler said."""
    if status:
        bottle.response.status = status
    if value is None:
        bottle.response.status = 204
        return ""
    bottle.response.content_type = "application/json"
    return json.dumps(value)


# What each route does


def _list(of: Resource, select: Callable[[Call, Values], Any], call: Call) -> Values:
    asked = _query((*PAGING, *of.filters))
    limit, cursor = asked.pop("limit", USUAL), asked.pop("cursor", None)
    query = select(call, asked)
    if cursor is not None:
        query = query.where(_after(of, cursor))
    ordered = query.order_by(*(column.desc() if of.newest_first else column.asc() for column in of.order))
    rows = list(ordered.limit(limit + 1))
    more, rows = len(rows) > limit, rows[:limit]
    place = "-".join(str(getattr(rows[-1], column.column_name)) for column in of.order) if more else None
    return {"items": of.show(call, rows), "next": place}


def _after(of: Resource, cursor: str) -> Any:
    numbers = cursor.split("-")
    if len(numbers) != len(of.order) or not all(n.isascii() and n.isdecimal() and len(n) < 19 for n in numbers):
        raise UserError("cursor: take it from `next` of the answer before")
    columns, place = peewee.Tuple(*of.order), peewee.Tuple(*map(int, numbers))
    return columns < place if of.newest_first else columns > place


def _query(parts: tuple[Part, ...]) -> Values:
    """What the URL asks; raises UserError for what isn't known, or stands there twice."""
    given = bottle.request.query
    refuse_unknown(given, [part.name for part in parts], "query")
    found = {}
    for part in parts:
        texts = given.getall(part.name)
        if len(texts) > 1:
            raise UserError(f"{part.name}: it stands there twice")
        if texts:
            found[part.name] = part.shape.parse(_utf8(texts[0], part.name), part.name)
    return found


def _utf8(text: str, where: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        raise UserError(f"{where}: that is no UTF-8") from None


def _get(of: Resource, call: Call, key: str) -> Values:
    _query(())
    return _shown(of, call, _found(of, call, key))


def _add(of: Resource, add: Callable[[Call, Values], tuple[str, Values]], call: Call) -> Values:
    given = _body(of.given(new=True))
    with _whole(of, call):
        key, once = add(call, given)
        shown = _shown(of, call, _found(of, call, key))
        if not of.records:
            call.record("added", f"{of.one} {key}", {}, of.audited(shown))
    bottle.response.status = 201
    bottle.response.set_header("Location", f"{ROOT}/{of.name}/{quote(key, safe='')}")
    return shown | once | _applying(of, call)


def _applying(of: Resource, call: Call) -> Values:
    """After the transaction, as root reads what was written."""
    return {"wish": of.applies(call)} if of.applies else {}


def _change(of: Resource, change: Callable[[Call, Any, Values], Values], call: Call, key: str) -> Values:
    row, given = _found(of, call, key), _body(of.given(new=False))
    with _whole(of, call):
        before = of.audited(_shown(of, call, row))
        once = change(call, row, given)
        shown = _shown(of, call, _found(of, call, key))
        hidden = {field.name: "" for field in of.fields if field.once and field.name in given | once}
        after = of.audited(shown) | hidden
        if not of.records and before != after:
            call.record("changed", f"{of.one} {key}", before, after)
    return shown | once | _applying(of, call)


def _remove(of: Resource, remove: Callable[[Call, Any], Values], call: Call, key: str) -> Values | None:
    row = _found(of, call, key)
    with _whole(of, call):
        before = of.audited(_shown(of, call, row))
        told = remove(call, row)
        if not of.records:
            call.record("removed", f"{of.one} {key}", before, {})
    return told | _applying(of, call) or None


def _whole(of: Resource, call: Call) -> Any:
    if of.alone is not None:
        return of.alone(call)
    return nullcontext() if of.records else core_db.atomic()


def _shown(of: Resource, call: Call, row: Any) -> Values:
    (shown,) = of.show(call, [row])
    return shown


def _found(of: Resource, call: Call, key: str) -> Any:
    row = of.find(call, key) if of.find and key.isprintable() else None
    if row is None:
        raise Failure(404, f"there is no {of.one} {key!r}")
    return row


def _body(shape: Object) -> Values:
    _query(())
    if (bottle.request.content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise Failure(415, "send JSON, and Content-Type: application/json")
    too_long = Failure(413, f"at most {MAX_BODY_BYTES} bytes are taken")
    if bottle.request.content_length > MAX_BODY_BYTES:
        raise too_long
    body = bottle.request.body.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise too_long
    return read_body(body, shape)


# The document, the metrics, and the page


def document(ask: Ask) -> str:
    return _json(openapi.document(ask.config, resources(ask.config), PAGING, reports(ask.config)))


def scrape(ask: Ask) -> str:
    """One at a time: what counts on from the last one mustn't be done twice at once."""
    with _scraping:
        if "metrics" not in ask.frame.memory:
            ask.frame.memory["metrics"] = metrics.collectors(ask.config)
        of: list[metrics.Reads] = ask.frame.memory["metrics"]
        text = metrics.text(metric for one in of for metric in one.read(ask.now))
    bottle.response.content_type = metrics.CONTENT_TYPE
    return text


def page(ask: Ask) -> Any:
    scheme = "https" if ask.config.admin.tls else "http"
    root = f"{scheme}://{bottle.request.get_header('Host', '')}{ROOT}"
    return ask.page("api.html", resources=resources(ask.config), reports=reports(ask.config), root=root, base=ROOT)


PAGES = (
    Page("/api", page, nav="API"),
    Page(f"{ROOT}/openapi.json", document),
    Page("/metrics", scrape),
)
