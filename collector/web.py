"""The page of the search: its URL is the whole question, each value of a row a link that narrows it down."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from appliance.admin.frame import Ask, Page
from appliance.errors import Unavailable, UserError
from collector import asking, certifying, showing, views, web_parts
from collector.asking import Answer
from collector.filters import language
from collector.periods import PRESETS, Period
from collector.views import View

EXAMPLES = (
    ("host 10.1.2.3", "all that this address sent and received"),
    ("src net 10.0.0.0/8 and dst port 25", "who sends mail, perhaps without knowing it"),
    ("dst port 53 and not dst host 10.0.0.1", "who asks other name servers"),
    ("bytes > 100M", "what was large"),
    ("proto icmp or proto icmp6", "pings, and what was unreachable"),
)
GRAMMAR = "Sizes may end in k, M or G; nets are written 10.0.0.0/8; ports have names: dst port https."
KINDS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def flows(ask: Ask) -> Any:
    """A filter that can't be read is shown again with the place that is wrong; a file says it in a line."""
    view = views.read(ask.queries())
    kind, zone, now = ask.query().get("format", ""), ask.config.site.timezone, ask.now
    if kind in KINDS:
        return _file(ask, view, view.period(zone, now), kind)
    if not view.asked:
        return _shown(ask, view)
    try:
        span = view.period(zone, now)
    except UserError as error:
        return _shown(ask, view, {"period": str(error)})
    try:
        language.parse(view.filter)
    except UserError as error:
        return _shown(ask, view, {"q": str(error)}, pointer=pointed(view.filter, str(error)))
    try:
        answer = asking.search(ask.config, view, span)
    except Unavailable as error:
        return _shown(ask, view, {"away": str(error)})
    except UserError as error:
        return _shown(ask, view, {"answer": str(error)})
    return _shown(ask, view, {}, answer, span)


def _shown(
    ask: Ask,
    view: View,
    wrong: dict[str, str] | None = None,
    answer: Answer | None = None,
    span: Period | None = None,
    pointer: str = "",
) -> Any:
    zone = ask.config.site.timezone
    return ask.page(
        "flows.html",
        400 if wrong and "away" not in wrong else 200,
        view=view,
        wrong=wrong or {},
        pointer=pointer,
        answer=answer,
        certificate=answer and web_parts.shown_certificate(answer.certificate, answer.exporters),
        period=span,
        presets=PRESETS,
        sites=web_parts.sites(ask.config),
        limits=views.LIMITS,
        groups=views.GROUPS,
        usual=views.USUAL,
        columns=(*views.USUAL, *views.EXTRA),
        titles={name: field.title for name, field in showing.FIELDS.items()},
        examples=EXAMPLES,
        grammar=GRAMMAR,
        causes=certifying.CAUSES,
        at=partial(web_parts.at, zone=zone),
        text=web_parts.text,
        column=web_parts.column,
        is_number=web_parts.is_number,
        narrowed=partial(web_parts.narrowed, view.filter),
    )


def pointed(text: str, error: str) -> str:
    """The filter with a mark below the place that the parser names; nothing where it names none."""
    place = re.match(r"filter, position (\d+)", error)
    return f"{text}\n{' ' * (int(place[1]) - 1)}^" if place else ""


def _file(ask: Ask, view: View, span: Period, kind: str) -> Any:
    """Its first piece is had before anything is answered, so that a wrong filter is still said in words."""
    pieces = asking.file(ask.config, view, span, kind)
    first = next(pieces, b"")
    begin = f"{web_parts.at(span.since_ms, ask.config.site.timezone):.10}"
    of = f"-{view.site}" if view.site else ""
    return ask.file(_joined(first, pieces), f"flows{of}-{begin}.{kind}", KINDS[kind])


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from chain((first,), rest)


PAGES = (Page("/flows", flows, nav="Flows"),)
