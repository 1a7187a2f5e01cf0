"""What the first page says of the hotspot; each question stays quick with a million accounts."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import peewee

from appliance.accounts.models import Account, LiveChange, Mail, Plan, Refusal, Registration, Session, Traffic, reach
from appliance.accounts.refusals import REASONS
from appliance.config import Config
from appliance.guest_verbs import WAITING
from appliance.mail import FAILED
from appliance.nas import watch
from appliance.nas.models import GATEWAY, Nas
from appliance.service import Attention, Point, Step, Tile
from appliance.units import format_bytes

_DAY_S, _HOUR_S = 86_400, 3600
_HOURS = 24
STEPS = (
    Step("/setup/plan", "A first plan", lambda config: bool(Plan.select().exists())),
    Step("/setup/first", "Vouchers or an account", lambda config: bool(Account.select().exists())),
)


def attention(config: Config, now: int) -> Iterator[Attention]:
    silent_s = config.radius.silent_s
    for name, silence in watch.silent(watch.routers(silent_s, config.shows_gateways), silent_s, now).items():
        yield Attention(watch.line(name, silence, now), "/routers")
    refused = (
        LiveChange.select().where((LiveChange.state == "refused") & (LiveChange.created_at > now - _DAY_S)).count()
    )
    if refused:
        what = "1 change of a running session was" if refused == 1 else f"{refused} changes of running sessions were"
        yield Attention(f"{what} refused since yesterday", "/sessions?state=online")
    yield from _of_guests(config)


def _of_guests(config: Config) -> Iterator[Attention]:
    if waiting := Registration.select().where(Registration.state == WAITING).count():
        who = "1 guest waits" if waiting == 1 else f"{waiting} guests wait"
        yield Attention(f"{who} for your decision", "/registrations?" + urlencode({"state": WAITING}))
    if failed := Mail.select().where(Mail.state == FAILED).count():
        what = "1 message" if failed == 1 else f"{failed} messages"
        yield Attention(f"{what} couldn't be sent", "/messages?" + urlencode({"state": FAILED}))
    for key in ("free_plan", "registration_plan"):
        name = getattr(config.portal, key)
        if name and not Plan.select().where(Plan.name == name).exists():
            yield Attention(f"[portal] {key}: there is no plan {name!r}, so the portal doesn't offer it", "/plans")


def tiles(config: Config, now: int) -> Iterator[Tile]:
    today = day_begins(config, now)
    online = Session.select().where(Session.ended_at.is_null()).count()
    yield Tile(f"{online:,}", "online now", _url("/sessions", state="online"))
    logins = Session.select().where(Session.started_at >= today).count()
    yield Tile(f"{logins:,}", "logins today", _url("/sessions", since="today"))
    if reach.get() is None:  # it is added up over all sites
        yield _traffic(config, now, today)
    yield _refusals(today)
    every, vouchers = Account.select().count(), Account.select().where(Account.batch.is_null(False)).count()
    yield Tile(f"{every - vouchers:,}", "accounts", _url("/accounts", kind="accounts"))
    yield Tile(f"{vouchers:,}", "vouchers", "/vouchers")
    yield Tile(f"{_routers(config):,}", "routers", "/routers")


def _routers(config: Config) -> int:
    there = Nas.select()
    return int((there if config.shows_gateways else there.where(Nas.kind != GATEWAY)).count())


def day_begins(config: Config, now: int) -> int:
    """When today began at the site, in UTC seconds."""
    day = datetime.fromtimestamp(now, config.site.timezone).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(day.timestamp())


def _url(path: str, **view: str) -> str:
    return f"{path}?{urlencode(view)}"


def _traffic(config: Config, now: int, today: int) -> Tile:
    hours = range(now // _HOUR_S - _HOURS + 1, now // _HOUR_S + 1)
    since = Traffic.hour >= min(hours[0], today // _HOUR_S)
    passed = {row.hour: row.input_octets + row.output_octets for row in Traffic.select().where(since)}
    total = sum(octets for hour, octets in passed.items() if hour * _HOUR_S >= today)
    points = []
    for hour in hours:
        octets = passed.get(hour, 0)
        at = datetime.fromtimestamp(hour * _HOUR_S, config.site.timezone)
        points.append(Point(f"{at:%H:%M}", octets, format_bytes(octets)))
    return Tile(format_bytes(total), "traffic today, down and up", _url("/sessions", since="today"), points=points)


def _refusals(today: int) -> Tile:
    times = peewee.fn.sum(Refusal.times)
    query: Any = (
        Refusal.select(Refusal.reason, times.alias("total")).where(Refusal.at >= today).group_by(Refusal.reason)
    )
    found = sorted(((int(total), reason) for reason, total in query.tuples()), reverse=True)
    parts = [
        Attention(f"{total:,} × {REASONS.get(reason, reason)}", _url("/refusals", since="today", reason=reason))
        for total, reason in found
    ]
    return Tile(f"{sum(t for t, _ in found):,}", "refusals today", _url("/refusals", since="today"), parts=parts)
