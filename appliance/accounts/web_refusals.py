"""Who was refused, when, where and why in plain words; and what the rules say of an account at any time."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from appliance.accounts import manage, wording
from appliance.accounts.lookup import Lookup
from appliance.accounts.models import Account, Refusal, core_db
from appliance.accounts.overview import day_begins
from appliance.accounts.refusals import REASONS
from appliance.accounts.web_parts import account_url, local
from appliance.accounts.why import explain
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.errors import UserError
from appliance.nas.models import GATEWAY, Nas
from rlm_python import pairs
from rlm_python.authorization import authorize


def refusals(ask: Ask) -> Any:
    """The link to "why?" is at the time of the refusal, as that router and that device."""
    today = day_begins(ask.config, ask.now)
    of = List(
        title="Refusals",
        query=Refusal.select(
            Refusal.id,
            Refusal.at,
            Refusal.name,
            Refusal.account,
            Account.id.alias("account_id"),
            Refusal.nas,
            Refusal.mac,
            Refusal.reason,
            Refusal.times,
        ).left_outer_join(Account, on=Account.name == Refusal.account),
        columns=(
            Column("at", "When", Refusal.id, show=local(ask)),
            Column("name", "Typed"),
            Column("reason", "Why", show=lambda reason: REASONS.get(reason, reason)),
            Column("nas", "Router"),
            Column("mac", "Device"),
            Column("times", "Times", number=True),
        ),
        order="-at",
        search=lambda text: (
            Refusal.name.contains(text)
            | (Refusal.account == text)
            | (Refusal.nas == text)
            | (Refusal.mac == pairs.mac(text))
        ),
        choices=(
            Choice("since", "Since", {"today": Refusal.at >= today, "last week": Refusal.at >= today - 6 * 86_400}),
            Choice("reason", "Why", {reason: Refusal.reason == reason for reason in REASONS}, REASONS),
        ),
        empty="Nobody was refused yet.",
    )
    return of.respond(ask, "refusals.html", account_url=account_url, why_url=_why_url)


def _why_url(row: Any) -> str:
    asked = {"at": row["at"], "nas": row["nas"], "mac": row["mac"]}
    return f"{account_url(row, 'account')}/why?{urlencode(asked)}"


def why(ask: Ask, name: str) -> Any:
    """Now, or at a time of the site's clock (or in UTC seconds), as a router and as a device."""
    asked, row = ask.query(), manage.get(Account, name, "account")
    error, lines = "", list[str]()
    at = asked.get("at", "").strip()
    if at.isdecimal() and len(at) < 12:
        asked["at"] = at = local(ask)(int(at)).replace(" ", "T")
    try:
        lines = list(_explained(row.name, at, asked, ask))
    except UserError as wrong:
        error = str(wrong)
    routers = [nas.name for nas in Nas.select(Nas.name).order_by(Nas.name)]
    url = account_url({"name": name})
    return ask.page(
        "why.html",
        400 if error else 200,
        name=name,
        url=url,
        lines=lines,
        error=error,
        asked=asked,
        routers=["", *routers],
    )


def _explained(name: str, typed: str, asked: dict[str, str], ask: Ask) -> Iterable[str]:
    zone, radius = ask.config.site.timezone, ask.config.radius
    at = wording.local_time(typed, ask.config) or ask.now
    nas = Nas.get_or_none(Nas.name == asked.get("nas", ""))
    found = Lookup(core_db.obj, zone, radius.silent_s).account(name, pairs.mac(asked.get("mac", "").strip()), at)
    if found is None:
        raise UserError(f"there is no account {name!r}")
    verdict = authorize(found, zone, at)
    return explain(verdict, found, zone, at, nas.kind if nas else GATEWAY, radius.interim_interval_s)


PAGES = (
    Page("/refusals", refusals, nav="Refusals"),
    Page("/accounts/<name>/why", why),
)
