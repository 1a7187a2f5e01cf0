"""The pages of sites: how all of them are, and one of them."""

from collections.abc import Sequence
from typing import Any

from appliance.accounts.models import core_db
from appliance.accounts.web_parts import local
from appliance.admin import audit, settings
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.errors import UserError
from appliance.nas.models import Nas
from appliance.sites import central, overview, registry
from appliance.sites.models import Site
from appliance.sites.overview import url
from appliance.units import format_ago


def listed(ask: Ask) -> Any:
    now = registry.database_now()
    silent = Site.reported_at.is_null() | (Site.reported_at < now - registry.SILENT_S)
    of = List(
        title="Sites",
        query=Site.select(Site, overview.online().alias("online")),
        columns=(
            Column("key", "Site", Site.key, link=lambda row: url(str(row["key"]))),
            Column("title", "Called", Site.title),
            Column("state", "State"),
            Column("version", "Version", Site.version),
            Column("reported_at", "Last contact", Site.reported_at, show=lambda at: format_ago(max(0, now - at))),
            Column("ahead_ms", "Clock", Site.ahead_ms, number=True, show=lambda ms: f"{ms / 1000:+.1f} s"),
            Column("free", "Free on disk", number=True, show=lambda share: f"{share} %"),
            Column("snapshot_at", "Own copy", Site.snapshot_at, show=lambda at: format_ago(max(0, now - at))),
            Column("online", "Online", number=True),
            Column("modules", "Modules"),
        ),
        order="key",
        search=lambda text: Site.key.contains(text) | Site.title.contains(text) | Site.problems.contains(text),
        choices=(Choice("heard", "Heard", {"silent": silent, "heard": ~silent}),),
        empty="No site yet. An appliance with [site] key and a PostgreSQL becomes the first one.",
        row_id="key",
        fill=lambda rows: _filled(rows, now),
    )
    return of.respond(ask)


def _filled(rows: Sequence[Row], now: int) -> Sequence[Row]:
    """What is reckoned from the columns."""
    found: dict[Any, Any] = {row.key: row for row in Site.select().where(Site.key.in_([row["key"] for row in rows]))}
    return [
        {**row, "state": overview.state(site, now), "free": overview.least_free(site)}
        for row in rows
        if (site := found.get(row["key"])) is not None
    ]


def shown(ask: Ask, key: str) -> Any:
    return _page(ask, registry.get(key), {})


def _page(ask: Ask, site: Any, typed: dict[str, str], error: str = "") -> Any:
    now = registry.database_now()
    online = Site.select(overview.online().alias("online")).where(Site.key == site.key).scalar()
    return ask.page(
        "site.html",
        400 if error else 200,
        of=site,
        own=site.key == ask.config.site.key,
        may_change=ask.person.may("owner"),
        state=overview.state(site, now),
        well=overview.WELL,
        problems=overview.problems(site, now),
        disks=list(overview.disks(site)),
        clock=None if site.ahead_ms is None else overview.clock(site.ahead_ms),
        at=now,
        local=local(ask),
        online=online,
        routers=list(Nas.select().where(Nas.site == site.key).order_by(Nas.name)),
        typed={"title": site.title} | central.current(site) | typed,
        settings=central.asked_for(),
        wanted=central.of(site),
        options=settings.options,
        proposals=settings.proposals,
        default=settings.default,
        titles={setting.key: setting.title for setting in central.asked_for()},
        error=error,
    )


def change(ask: Ask, key: str) -> Any:
    site, form = registry.get(key), ask.form()
    before = site.title
    with core_db.atomic():
        registry.change(site, form.get("title", ""))
        audit.record(ask.person.name, "changed", f"site {key}", {"title": before}, {"title": site.title})
    return ask.done(url(key), f"The site {key} is changed.")


def change_settings(ask: Ask, key: str) -> Any:
    site, form = registry.get(key), ask.form()
    try:
        count = central.want(site, form, ask.person.name)
    except UserError as error:
        return _page(ask, site, form, str(error))
    return ask.done(url(key), "The site is told." if count else "Nothing was changed.")


def remove(ask: Ask, key: str) -> Any:
    site = registry.get(key)
    with core_db.atomic():
        registry.remove(ask.config, site)
        audit.record(ask.person.name, "removed", f"site {key}", {"title": site.title}, {})
    return ask.done("/sites", f"The site {key} is removed.")


PAGES = (
    Page("/sites", listed, nav="Sites"),
    Page("/sites/<key>", shown),
    Page("/sites/<key>", change, "POST", role="owner"),
    Page("/sites/<key>/settings", change_settings, "POST", role="owner"),
    Page("/sites/<key>/remove", remove, "POST", role="owner"),
)
