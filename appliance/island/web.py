"""The page of islands: how far each site has delivered, and what didn't fit together, until somebody has seen it."""

from typing import Any

from appliance.accounts.models import Account
from appliance.accounts.web_parts import account_url, local
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.errors import UserError
from appliance.island import dismissing, state
from appliance.island.conflicts import KINDS
from appliance.island.models import IslandConflict, IslandPosition


def conflicts(ask: Ask) -> Any:
    is_open = IslandConflict.dismissed_at.is_null()
    sites = [row.site for row in IslandConflict.select(IslandConflict.site).distinct().order_by(IslandConflict.site)]
    of = List(
        title="Islands",
        query=IslandConflict.select(
            IslandConflict.id,
            IslandConflict.kind,
            IslandConflict.site,
            IslandConflict.account,
            Account.name.alias("now_called"),
            IslandConflict.at,
            IslandConflict.detail,
            IslandConflict.dismissed_at,
            IslandConflict.dismissed_by,
        ).left_outer_join(Account, on=(IslandConflict.account_ref == Account.id)),
        columns=(
            Column("kind", "What", IslandConflict.kind, show=lambda kind: KINDS.get(kind, kind)),
            Column("site", "Site", IslandConflict.site),
            Column("account", "Account", IslandConflict.account, link=_account),
            Column("at", "When", IslandConflict.at, show=local(ask)),
            Column("detail", "In detail"),
            Column("dismissed_at", "Dismissed", IslandConflict.dismissed_at, show=local(ask)),
            Column("dismissed_by", "By"),
        ),
        order="-at",
        search=lambda text: IslandConflict.account.contains(text) | IslandConflict.detail.contains(text),
        choices=(
            Choice("state", "State", {"open": is_open, "dismissed": ~is_open}),
            Choice("kind", "What", {kind: IslandConflict.kind == kind for kind in KINDS}, KINDS),
            Choice("site", "Site", {site: IslandConflict.site == site for site in sites}),
        ),
        empty="No conflicts. What sites let happen while they were cut off is looked at as they tell of it.",
    )
    return of.respond(ask, "islands.html", own=_own(ask), told=_told(), local=local(ask))


def _account(row: Any) -> str:
    return account_url({"name": row["now_called"]}) if row["now_called"] else ""


def _own(ask: Ask) -> list[str]:
    try:
        return list(state.words(state.of(ask.config), ask.config, ask.now))
    except OSError as error:
        return [str(error)]


def _told() -> list[Any]:
    """Of each site when it last told something that had waited."""
    rows: dict[str, Any] = {}
    for row in IslandPosition.select().order_by(IslandPosition.site, IslandPosition.at):
        if row.delivered:
            rows[row.site] = row
    return list(rows.values())


def dismiss(ask: Ask) -> Any:
    chosen = [dismissing.number(text) for text in ask.all("conflict")]
    if not chosen:
        raise UserError("Choose some lines first.")
    count = dismissing.dismiss(chosen, ask.person.name)
    return ask.done("/islands?state=open", f"{'1 conflict is' if count == 1 else f'{count} conflicts are'} dismissed.")


PAGES = (
    Page("/islands", conflicts, nav="Islands"),
    Page("/islands/dismiss", dismiss, "POST"),
)
