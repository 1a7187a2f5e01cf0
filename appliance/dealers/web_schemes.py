"""Schemes: what dealers earn, each version of them, and what last year would have been under another one."""

from collections.abc import Mapping
from typing import Any

import peewee

from appliance.accounts.web_parts import plan_names
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.admin.paths import part
from appliance.dealers import agreements, desk, ledger_db, money, months, schemes, simulator, wording
from appliance.dealers.models import Dealer, DealerScheme, Scheme, SchemeVersion
from appliance.dealers.web import url as dealer_url
from appliance.errors import UserError

VOLUMES = {"month": "a month", "year": "a year", "ever": "all time"}
_MONTHS = 12


def url(name: object) -> str:
    return f"/schemes/{part(name)}"


def listed(ask: Ask) -> Any:
    with desk.opened(ask.config):
        newest = SchemeVersion.select(peewee.fn.MAX(SchemeVersion.number)).where(SchemeVersion.scheme == Scheme.id)
        now_under = (DealerScheme.scheme == Scheme.id) & (
            DealerScheme.valid_to.is_null() | (DealerScheme.valid_to > ask.now)
        )
        under = DealerScheme.select(peewee.fn.COUNT(DealerScheme.dealer.distinct())).where(now_under)
        of = List(
            title="Schemes",
            query=Scheme.select(Scheme.id, Scheme.name, newest.alias("version"), under.alias("dealers")),
            columns=(
                Column("name", "Name", Scheme.name, link=lambda row: url(row["name"])),
                Column("version", "Version", number=True),
                Column("terms", "What is earned"),
                Column("dealers", "Dealers", number=True),
            ),
            order="name",
            search=lambda text: Scheme.name.contains(text),
            empty="No scheme yet. Make the first one: such as 10 % of what customers pay, for a year of each.",
            fill=lambda rows: [{**row, "terms": _earned(str(row["name"]))} for row in rows],
        )
        return of.respond(ask, "schemes.html", may=ask.person.may("operator"))


def _earned(name: str) -> str:
    return next(wording.sentences(schemes.parse(agreements.versions(name)[0].terms)))


def new(ask: Ask) -> Any:
    return _new_page(ask, {"currency": ask.config.dealer.currency}, "")


def _new_page(ask: Ask, typed: Mapping[str, str], error: str) -> Any:
    return ask.page(
        "scheme_new.html", 400 if error else 200, typed=typed, error=error, volumes=VOLUMES, plans=plan_names()
    )


def add(ask: Ask) -> Any:
    form = ask.form()
    name = form.get("name", "").strip()
    try:
        with desk.opened(ask.config):
            terms = wording.terms(form, ask.config.dealer.currency)
            since = desk.begin_of(form.get("from", ""), ask.config.site.timezone)
            with ledger_db.writing():
                agreements.add_scheme(name, terms, ask.now if since is None else since)
                audit.record(ask.person.name, "added", f"scheme {name}", {}, {"terms": schemes.dump(terms)})
    except UserError as error:
        return _new_page(ask, form, str(error))
    return ask.done(url(name), f"Scheme {name} is made. It counts for dealers that earn by it.")


# One of them


def shown(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config):
        return _page(ask, agreements.get(name))


def _page(ask: Ask, scheme: Any, typed: Mapping[str, str] | None = None, error: str = "") -> Any:
    zone, versions = ask.config.site.timezone, agreements.versions(scheme.name)
    newest = schemes.parse(versions[0].terms)
    under = DealerScheme.select(DealerScheme, Dealer).join(Dealer).where(DealerScheme.scheme == scheme)
    return ask.page(
        "scheme.html",
        400 if error else 200,
        scheme=scheme,
        base=url(scheme.name),
        versions=[(row, list(wording.sentences(schemes.parse(row.terms)))) for row in versions],
        under=list(under.order_by(Dealer.name, DealerScheme.valid_from)),
        typed=typed or wording.typed(newest),
        error=error,
        volumes=VOLUMES,
        plans=plan_names(),
        day=lambda at: desk.day(at, zone),
        last_day=lambda at: desk.last_day(at, zone),
        url=dealer_url,
        may=ask.person.may("operator"),
    )


def add_version(ask: Ask, name: str) -> Any:
    """Or with `simulate` only what it would have come to."""
    form = ask.form()
    with desk.opened(ask.config):
        scheme = agreements.get(name)
        try:
            terms = wording.terms(form, ask.config.dealer.currency)
            if "simulate" in form:
                return _simulated(ask, name, terms, form)
            since = desk.begin_of(form.get("from", ""), ask.config.site.timezone)
            with ledger_db.writing():
                row = agreements.add_version(name, terms, ask.now if since is None else since)
                after = {"version": row.number, "terms": schemes.dump(terms)}
                audit.record(ask.person.name, "changed", f"scheme {name}", {}, after)
        except UserError as error:
            return _page(ask, scheme, form, str(error))
    return ask.done(
        url(name), f"Version {row.number} counts from {desk.day(row.valid_from, ask.config.site.timezone)}."
    )


def _simulated(ask: Ask, name: str, terms: schemes.Terms, form: Mapping[str, str]) -> Any:
    """Each dealer's last twelve months as they were, and as they would have been."""
    zone = ask.config.site.timezone
    until = months.before(ask.now, zone).until
    since = until
    for _ in range(_MONTHS):
        since = months.of(since - 1, zone).since
    who = [one for one in Dealer.select().order_by(Dealer.name) if form.get("who", "") in ("", one.name)]
    rows = list(simulator.simulate(ask.config, terms, since, until, who))
    return ask.page(
        "scheme_simulated.html",
        name=name,
        base=url(name),
        typed=form,
        lines=list(wording.sentences(terms)),
        rows=rows,
        most=max((max(row.then_minor, row.now_minor) for row in rows), default=0),
        sums=_sums(rows),
        since=desk.day(since, zone),
        until=desk.last_day(until, zone),
        text=money.text,
        url=dealer_url,
        words=wording.WORDS,
    )


def _sums(rows: list[Any]) -> list[tuple[str, int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        then, now = found.get(row.currency, (0, 0))
        found[row.currency] = then + row.then_minor, now + row.now_minor
    return [(currency, *both) for currency, both in sorted(found.items())]


PAGES = (
    Page("/schemes", listed, nav="Schemes"),
    Page("/schemes/new", new, role="operator"),
    Page("/schemes/new", add, "POST"),
    Page("/schemes/<name>", shown),
    Page("/schemes/<name>", add_version, "POST"),
)
