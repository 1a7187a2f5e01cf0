"""Statistics of any period, from rollups: no flow is opened for them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

from appliance.admin.frame import Ask, Page
from appliance.config import Config
from appliance.errors import Unavailable, UserError
from collector import accounts, asking, certifying, facts, views, web_parts, whose
from collector.periods import PRESETS, Period, period, step_ms
from collector.sums import REST, TOP, Figures, Kept, Row, figures

MEASURES = {"bytes": "Bytes", "flows": "Flows", "packets": "Packets"}
SERIES = 6  # more colours can't be told apart; the rest is one
_HEIGHT = 100.0


class Bar(NamedTuple):
    """A piece of the chart: what is it, where does it stand, in hundredths of the height; `words` for people."""

    series: int
    y: float
    height: float


class Column(NamedTuple):
    label: str
    words: str
    bars: Sequence[Bar]


class Chart(NamedTuple):
    columns: Sequence[Column]
    names: Sequence[str]
    most: str
    totals: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """`links` are searches for what a row stands for."""

    title: str
    head: str
    rows: Sequence[Row]
    top: int
    more: str = ""


TABLES = (
    ("service", "Services", "Service", ""),
    ("protocol", "Protocols", "Protocol", ""),
    ("client", "Clients with the most", "Client", "src"),
    ("destination", "Destinations with the most", "Destination", "dst"),
    ("exporter", "Exporters", "Exporter", "exporter"),
    ("interface", "Interfaces", "Interface", ""),
)


def statistics(ask: Ask) -> Any:
    asked, zone = ask.query(), ask.config.site.timezone
    measure = asked.get("by", "bytes") if asked.get("by") in MEASURES else "bytes"
    typed = {"from": asked.get("from", "1d ago"), "to": asked.get("to", "now"), "site": asked.get("site", "").strip()}
    values: dict[str, Any] = {"error": "", "chart": None, "tables": (), "certificate": None, "period": None}
    status = 200
    try:
        span = period(typed["from"], typed["to"], zone, ask.now)
        values |= _answered(ask, views.site(typed["site"]), span, measure)
    except UserError as error:
        values["error"] = str(error)
        status = 200 if isinstance(error, Unavailable) else 400
    return ask.page(
        "flow_statistics.html",
        status,
        typed=typed,
        measure=measure,
        measures=MEASURES,
        presets=[(title, _url(begin, end, measure, typed["site"]), (begin, end)) for title, begin, end in PRESETS],
        sites=web_parts.sites(ask.config),
        at=partial(web_parts.at, zone=zone),
        causes=certifying.CAUSES,
        **values,
    )


def _url(begin: str, end: str, measure: str, site: str) -> str:
    return "/flows/statistics?" + urlencode(
        {"from": begin, "to": end, "by": measure} | ({"site": site} if site else {})
    )


def _answered(ask: Ask, site: str, span: Period, measure: str) -> dict[str, Any]:
    found = _figures(ask.config, site, span, measure)
    link = partial(_search, span, site)
    tables = [
        _table(title, head, found.tables[by], measure, partial(link, by, detail)) for by, title, head, detail in TABLES
    ]
    used = accounts.by_account(found.clients, span, whose.site_of(ask.config, site))
    tables.insert(3, _by_account(used, measure, len(found.clients)))
    chart = drawn(found.steps, span, step_ms(span), measure, ask.config.site.timezone) if found.steps else None
    shown = [table for table in tables if table.rows]
    certificate = web_parts.shown_certificate(found.certificate, found.exporters)
    return {"chart": chart, "tables": shown, "certificate": certificate, "period": span}


def _figures(config: Config, site: str, span: Period, measure: str) -> Figures:
    if site not in ("", config.site.key):
        return asking.figures(config, site, span, measure)
    with facts.catalog(config) as catalog:
        return figures(Kept(catalog), span, measure, whose.site_of(config))


def _table(title: str, head: str, rows: Sequence[Row], measure: str, link: Callable[[Any], str]) -> Table:
    shown = [{"name": str(row["key"]), "link": link(row["key"]), **_words(row, measure)} for row in rows]
    return Table(title, head, shown, max((row["value"] for row in shown), default=0))


def _by_account(rows: Sequence[accounts.Used], measure: str, clients: int) -> Table:
    shown = [
        {
            "name": used.name,
            "link": used.url,
            **_words({"bytes": used.bytes, "flows": used.flows, "packets": used.packets}, measure),
        }
        for used in sorted(rows, key=lambda used: getattr(used, measure), reverse=True)[:TOP]
    ]
    more = f"Of the {clients} clients with the most, by the sessions that had their addresses." if shown else ""
    return Table("Accounts", "Account", shown, max((row["value"] for row in shown), default=0), more)


def _words(row: Row, measure: str) -> Row:
    return {
        "value": row[measure],
        "bytes": web_parts.octets(row["bytes"]),
        "flows": f"{row['flows']:,}",
        "packets": f"{row['packets']:,}",
    }


def _search(span: Period, site: str, by: str, detail: str, key: Any) -> str:
    term = "" if key == REST else _term(by, str(key), detail)
    return views.flows_url(q=term, site=site, **{"from": span.begin, "to": span.end}) if term else ""


def _term(by: str, key: str, detail: str) -> str:
    """`tcp/https` and `router, 3` are two conditions."""
    if by == "service":
        protocol, _, port = key.partition("/")
        return f"proto {protocol}" + (f" and port {port}" if port else "") if " " not in protocol else ""
    if by == "interface":
        router, _, number = key.rpartition(", ")
        return f"{web_parts.narrowed('', 'exporter', router)} and if {number}"
    return web_parts.narrowed("", detail or by, key)


# The chart


def drawn(rows: Iterable[Row], span: Period, step: int, measure: str, zone: tzinfo) -> Chart:
    """Stacked by what has the most over all of the period; what has little is `other`."""
    at: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        at[row["at_ms"] // step][str(row["key"])] += row[measure]
        sums[str(row["key"])] += row[measure]
    names = sorted(sums, key=lambda name: (-sums[name], name))[:SERIES]
    if len(sums) > SERIES:
        names = [*names[: SERIES - 1], REST]
    steps = range(span.since_ms // step, -(-span.until_ms // step))
    most = max((sum(found.values()) for found in at.values()), default=0)
    columns = [_column(number * step, at.get(number, {}), names, most, measure, step, zone) for number in steps]
    rest = sum(sums.values()) - sum(sums[name] for name in names if name != REST)
    totals = [(name, _value(rest if name == REST else sums[name], measure)) for name in names]
    return Chart(columns, names, _rate(most, measure, step), totals)


def _column(
    at_ms: int, found: Mapping[str, int], names: Sequence[str], most: int, measure: str, step: int, zone: tzinfo
) -> Column:
    bars, below = [], 0.0
    rest = sum(value for name, value in found.items() if name not in names)
    for series, name in enumerate(names):
        value = rest if name == REST else found.get(name, 0)
        height = _HEIGHT * value / most if most else 0.0
        if height:
            below += height
            bars.append(Bar(series, round(_HEIGHT - below, 2), round(height, 2)))
    moment = datetime.fromtimestamp(at_ms / 1000, zone)
    label = f"{moment:%Y-%m-%d}" if step >= 86_400_000 else f"{moment:%m-%d %H:%M}"
    return Column(label, _rate(sum(found.values()), measure, step), bars)


def _value(value: int, measure: str) -> str:
    return web_parts.octets(value) if measure == "bytes" else f"{value:,}"


def _rate(value: int, measure: str, step: int) -> str:
    """What a bar stands for: a mean over its time."""
    each_s = value * 1000 / step
    if measure == "bytes":
        return web_parts.bits(each_s * 8)
    return f"{each_s:,.1f} {measure}/s"


PAGES = (Page("/flows/statistics", statistics, nav="Statistics"),)
