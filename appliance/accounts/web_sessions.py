"""Who is online and who was, looked at live; sessions are let go and their accounts get other plans from here."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import peewee

from appliance.accounts.models import Account, AccountUsage, LiveChange, Session, core_db
from appliance.accounts.overview import day_begins
from appliance.accounts.web_bulk import Result, in_bulk
from appliance.accounts.web_parts import account_url, local, plan_names, unsure
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, begins
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.nas.sessions import cut
from appliance.units import format_bytes
from rlm_python import pairs

ONLINE = "/sessions?state=online"
_AT_ONCE = 8  # routers that are away keep each one waiting
_NAMED = 20
_DAYS = 14
_ACCOUNTS = 500  # whose sessions are shown, of those whose names begin as was typed
_RECENT = 20_000  # sessions that are looked through for a device or an address


def sessions(ask: Ask) -> Any:
    online, today = Session.ended_at.is_null(), day_begins(ask.config, ask.now)
    # Of all that are kept, only the order of their beginning can be had quickly.
    by = Session if ask.query().get("state") == "online" else None
    week = today - 6 * 86_400
    of = List(
        title="Sessions",
        query=Session.select(
            Session.id,
            Session.account,
            Session.nas,
            Session.mac,
            Session.framed_ip,
            Session.started_at,
            Session.updated_at,
            Session.ended_at,
            Session.terminate_cause,
            Session.output_octets,
            Session.input_octets,
        ),
        columns=(
            Column("account", "Account", by and Session.account, link=partial(account_url, key="account")),
            Column("nas", "Router", by and Session.nas),
            Column("mac", "Device", by and Session.mac),
            Column("framed_ip", "Address"),
            Column("started_at", "Since", Session.id, show=local(ask), link=lambda row: f"/sessions/{row['id']}"),
            Column("updated_at", "Last told", show=local(ask)),
            Column("output_octets", "Down", by and Session.output_octets, number=True, show=format_bytes),
            Column("input_octets", "Up", by and Session.input_octets, number=True, show=format_bytes),
            Column("terminate_cause", "Ended by"),
        ),
        order="-started_at",
        search=_of_session,
        choices=(
            Choice("state", "State", {"online": online, "ended": Session.ended_at.is_null(False)}),
            Choice("since", "Since", {"today": Session.started_at >= today, "last week": Session.started_at >= week}),
        ),
        empty="Nobody was online yet. A guest who logs in appears here within seconds.",
        live=True,
    )
    return of.respond(ask, "sessions.html", plans=plan_names())


def _of_session(text: str) -> Any:
    """By indexes only: of what ended long ago, nothing but what belongs to an account that is here is found."""
    accounts = Account.select(Account.id).where(begins(Account.name, text)).limit(_ACCOUNTS)
    newest = Session.select(peewee.fn.max(Session.id)).scalar() or 0
    same = (Session.account == text) | (Session.mac == pairs.mac(text)) | (Session.framed_ip == text)
    lately = Session.ended_at.is_null() | (Session.id > newest - _RECENT)
    return Session.account_ref.in_(accounts) | (lately & same)


def session(ask: Ask, number: str) -> Any:
    row = _get(number)
    changes = LiveChange.select().where(LiveChange.session == row).order_by(LiveChange.id.desc()).limit(50)
    return ask.page(
        "session.html",
        session=row,
        changes=list(changes),
        account_url=account_url({"name": row.account}),
        days=list(_days(row, ask)),
        plans=plan_names(),
        at=local(ask),
    )


def _get(number: str) -> Any:
    row = Session.get_or_none(Session.id == int(number)) if number.isdecimal() and len(number) < 18 else None
    if row is None:
        raise UserError(f"there is no session {number}: it may have been too old to be kept")
    return row


def _days(row: Any, ask: Ask) -> Iterator[tuple[str, int, str]]:
    """The account's octets of the last days, on the site's calendar."""
    if row.account_id is None:
        return
    today = datetime.fromtimestamp(ask.now, ask.config.site.timezone).date()
    days = [today - timedelta(days=back) for back in range(_DAYS - 1, -1, -1)]
    since = AccountUsage.day >= int(f"{days[0]:%Y%m%d}")
    used = {
        usage.day: usage.input_octets + usage.output_octets
        for usage in AccountUsage.select().where(AccountUsage.account == row.account_id, since)
    }
    for day in days:
        octets = used.get(int(f"{day:%Y%m%d}"), 0)
        yield f"{day:%Y-%m-%d}", octets, format_bytes(octets)


def _chosen(ask: Ask) -> Sequence[Any]:
    ids = [int(number) for number in ask.all("session") if number.isdecimal() and len(number) < 18]
    return list(Session.select().where(Session.id.in_(ids)).order_by(Session.id))


def cut_sessions(ask: Ask) -> Any:
    """Each chosen one; a router that can't be told is named, the others are let go all the same."""
    chosen = [row for row in _chosen(ask) if row.ended_at is None]
    if "back" in ask.form() or not chosen:
        return ask.done(ONLINE, "" if chosen else "Choose a session first.")
    lines = [f"{row.account} at {row.nas} ({row.mac})" for row in chosen[:_NAMED]]
    lines += [f"and {len(chosen) - _NAMED} more"] if len(chosen) > _NAMED else []
    title = f"Let {len(chosen)} session{'s' if len(chosen) > 1 else ''} go?"
    if page := unsure(ask, title, lines, "Let them go"):
        return page
    box = load_box(ask.config.paths.state)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        results = list(threads.map(lambda row: _cut(ask.config, row, box), chosen))
    for result, row in zip(results, chosen, strict=True):
        audit.record(ask.person.name, "cut", f"session {row.account} {row.mac}", {}, {"said": result.said})
    return ask.page("results.html", title="Let go", results=results, back=ONLINE)


def _cut(config: Config, row: Any, box: Any) -> Result:
    with core_db.connection_context():
        try:
            return Result(row.account, f"/sessions/{row.id}", True, cut(config, row, box))
        except UserError as error:
            return Result(row.account, f"/sessions/{row.id}", False, str(error))


def change_plan(ask: Ask) -> Any:
    """Of the accounts that the chosen sessions belong to."""
    ids = list(dict.fromkeys(row.account_id for row in _chosen(ask) if row.account_id is not None))
    if "back" in ask.form() or not ids:
        return ask.done(ONLINE, "" if ids else "Choose a session of an account first.")
    return in_bulk(ask, "plan", ids, ONLINE)


PAGES = (
    Page("/sessions", sessions, nav="Sessions"),
    Page("/sessions/cut", cut_sessions, "POST"),
    Page("/sessions/plan", change_plan, "POST"),
    Page("/sessions/<number>", session),
)
