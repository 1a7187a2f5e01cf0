"""Flows for programs: searches and sums are asked anew each time, and bounded as on the pages."""

from collections.abc import Mapping

from appliance.api.resources import Call, Report, Values
from appliance.api.shapes import MAX_NUMBER, TIME, Flag, Many, Maybe, Number, Object, Part, Text
from appliance.api.web import routes
from appliance.errors import UserError
from collector import asking, facts, senders, showing, views, web_parts, whose
from collector.periods import Period, bound, step_ms
from collector.store.models import Certificate
from collector.sums import BY, MEASURES, Kept, Row, Sums

USUAL_S = 3600
MOST_TOP = 1000
MOST_STEPS = 2000
COUNT = Number(0, MAX_NUMBER)
RANGE = (
    Part("from", TIME, f"UTC seconds; {USUAL_S} seconds before the end unless it says otherwise"),
    Part("to", TIME, "UTC seconds, not included; now unless it says otherwise"),
)
SUMS = (Part("flows", COUNT, "flows"), Part("packets", COUNT, "packets"), Part("bytes", COUNT, "octets"))
LOSS = Object(
    (
        Part("exporter", Text(min=0), "whose; empty for what nobody knows"),
        Part("since_ms", COUNT),
        Part("until_ms", COUNT),
        Part("flows", COUNT, "how many, 0 where that isn't known"),
        Part("cause", Text(), "why"),
    ),
    ("exporter", "since_ms", "until_ms", "flows", "cause"),
)
CERTIFICATE = Object(
    (
        Part("present", COUNT, "flows of the period that are there"),
        Part("lost", COUNT, "flows that were sent and are not, as far as can be told"),
        Part("complete_until_ms", Maybe(COUNT), "what came until then is in the answer"),
        Part("losses", Many(LOSS)),
    ),
    ("present", "lost", "complete_until_ms", "losses"),
)
WHOLE = (Part("certificate", CERTIFICATE, "how complete the answer is"),)


def _period(call: Call, given: Values) -> Period:
    until = given.get("to", call.now)
    since = given.get("from", max(0, until - USUAL_S))
    if since >= until:
        raise UserError("from: that is not before `to`")
    bound("from", since * 1000, until * 1000)
    return Period(since * 1000, until * 1000)


def _flows(call: Call, given: Values) -> Values:
    names = (*views.USUAL, *views.EXTRA)
    order = given.get("order", "-first")
    site = views.site(given.get("site", ""))
    view = views.View(given.get("filter", ""), columns=names, order=order, limit=given.get("limit", 100), site=site)
    answer = asking.search(call.config, view, _period(call, given))
    items = [{name: row.get(name) for name in names} for row in answer.rows]
    return {"items": items, **_whole(answer.certificate, answer.exporters)}


def _top(call: Call, given: Values) -> Values:
    span = _period(call, given)
    with facts.catalog(call.config) as catalog:
        rows = Sums(Kept(catalog), span, whose.site_of(call.config)).top(
            given.get("by", "service"), given.get("order", "bytes"), given.get("limit", 10)
        )
    return {"items": [_sums(row, key=row["key"]) for row in rows]}


def _over_time(call: Call, given: Values) -> Values:
    span = _period(call, given)
    step = given["step"] * 1000 if "step" in given else step_ms(span)
    if (span.until_ms - span.since_ms) / step > MOST_STEPS:
        raise UserError(f"step: a period has at most {MOST_STEPS} of them")
    with facts.catalog(call.config) as catalog:
        sums = Sums(Kept(catalog), span, whose.site_of(call.config))
        rows, certificate = sums.over_time(step, given.get("by")), sums.certificate()
    items = [_sums(row, at=row["at_ms"] // 1000, key=row["key"]) for row in rows]
    return {"items": items, **_whole(certificate, sums.exporters)}


def _sums(row: Row, **more: object) -> Values:
    return {**more, **{name: row[name] for name in MEASURES}}


def _whole(of: Certificate, exporters: Mapping[int, str]) -> Values:
    shown = web_parts.shown_certificate(of, exporters)
    return {
        "certificate": {
            "present": shown.present,
            "lost": shown.lost,
            "complete_until_ms": shown.complete_until_ms or None,
            "losses": list(shown.losses),
        }
    }


def _exporters(call: Call, given: Values) -> Values:
    items = []
    for one in senders.every(call.config, call.now):
        heard = one.heard
        items.append(
            {
                "address": one.address,
                "router": one.router or None,
                "on": one.on,
                "datagrams": heard.datagrams if heard else 0,
                "datagram_bytes": heard.bytes if heard else 0,
                "first_heard_at": heard.first_ms // 1000 if heard else None,
                "heard_at": heard.last_ms // 1000 if heard else None,
                "lost_flows": heard.lost if heard else 0,
            }
        )
    return {"items": items}


def _shape(name: str) -> Number | Text:
    return Text(min=0) if showing.FIELDS[name].kind in (showing.TEXT, showing.TIME) else COUNT


FLOWS = Report(
    name="flows",
    one="flow",
    about="Flows that fit a filter, as on the page of the search. Times are the site's, with their offset.",
    parts=(
        *RANGE,
        Part("filter", Text(max=views.MAX_FILTER), "such as: host 10.1.2.3 and dst port 25"),
        Part("order", Text(choices=tuple(f"{way}{name}" for name in views.USUAL for way in ("", "-"))), "- is down"),
        Part("limit", Number(1, views.MOST), "how many at most, 100 unless it says otherwise"),
        Part("site", Text(), "of another site, as the cluster has it; this appliance's own unless it says otherwise"),
    ),
    fields=tuple(Part(name, _shape(name), showing.FIELDS[name].title) for name in (*views.USUAL, *views.EXTRA)),
    read=_flows,
    beside=WHOLE,
)
TOP = Report(
    name="flows/top",
    one="flow sum",
    about="What has the most over a period, from sums that are kept: no flow is looked at.",
    parts=(
        *RANGE,
        Part("by", Text(choices=BY), "service unless it says otherwise"),
        Part("order", Text(choices=MEASURES), "bytes unless it says otherwise"),
        Part("limit", Number(1, MOST_TOP), "10 unless it says otherwise"),
    ),
    fields=(Part("key", Text(min=0), "what it is the sum of"), *SUMS),
    read=_top,
)
OVER_TIME = Report(
    name="flows/over-time",
    one="flow sum at a time",
    about="Sums by time, from sums that are kept.",
    parts=(
        *RANGE,
        Part("step", Number(60, 366 * 86_400), "seconds of one sum; as suits the period unless it says otherwise"),
        Part("by", Text(choices=("service", "protocol", "exporter")), "sums of each; all together unless it is said"),
    ),
    fields=(Part("at", TIME, "UTC seconds at which it begins"), Part("key", Text(min=0), "of what"), *SUMS),
    read=_over_time,
    beside=WHOLE,
)
EXPORTERS = Report(
    name="exporters",
    one="exporter",
    about="Who sends flows, and who should.",
    parts=(),
    fields=(
        Part("address", Text(), "where the datagrams come from"),
        Part("router", Text(), "whose that is; null for one that isn't known"),
        Part("on", Flag(), "whether its flows are kept"),
        Part("datagrams", COUNT, "that came so far"),
        Part("datagram_bytes", COUNT, "octets of these"),
        Part("first_heard_at", TIME, "UTC seconds"),
        Part("heard_at", TIME, "UTC seconds"),
        Part("lost_flows", COUNT, "of the last day"),
    ),
    read=_exporters,
)

RESOURCES = ()
REPORTS = (FLOWS, TOP, OVER_TIME, EXPORTERS)
PAGES = routes(*REPORTS)
