"""One change for many accounts: how many and which are shown first, then what came of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from appliance.accounts import manage, terms, wording
from appliance.accounts.models import Account, Plan, core_db
from appliance.accounts.pieces import in_pieces
from appliance.accounts.web_parts import RUNNING, account_url, audited, unsure
from appliance.admin import audit
from appliance.admin.frame import Ask
from appliance.errors import UserError

MOST = 5000  # accounts at once; more would take longer than a browser waits
_NAMED = 20
_LISTED = 500


class Result(NamedTuple):
    """What came of one row; an empty `url` where there is nothing to look at any more."""

    which: str
    url: str
    done: bool
    said: str


@dataclass(frozen=True)
class Action:
    """`values` makes columns out of what was typed, once, before the first row; None removes."""

    title: str
    values: Callable[[Mapping[str, str], Ask], dict[str, Any]] | None
    done: str


def _plan(form: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    return {"plan": manage.get(Plan, form.get("to_plan", ""), "plan")}


def _until(form: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    return {"valid_until": wording.local_time(form.get("to_until", "").strip(), ask.config)}


ACTIONS: Mapping[str, Action] = {
    "block": Action("Block", lambda form, ask: {"enabled": False}, "blocked"),
    "allow": Action("Allow", lambda form, ask: {"enabled": True}, "may log in"),
    "plan": Action("Change the plan", _plan, "has the plan"),
    "until": Action("Change “valid until”", _until, "valid until then"),
    "remove": Action("Remove", None, "removed"),
}


def in_bulk(ask: Ask, name: str, ids: Sequence[int], back: str) -> Any:
    """Raises UserError for what was typed wrongly, before anything is done."""
    action, form = ACTIONS.get(name), ask.form()
    if action is None:
        raise UserError("choose what to do first")
    if len(ids) > MOST:
        raise UserError(f"{len(ids):,} accounts are more than the {MOST:,} that one page can change: filter further")
    values = action.values(form, ask) if action.values else None
    names = [row.name for row in Account.select(Account.name).where(Account.id.in_(list(ids[:_NAMED])))]
    more = [f"and {len(ids) - _NAMED:,} more"] if len(ids) > _NAMED else []
    title = f"{action.title}{_to(form, name)}: {len(ids):,} account{'' if len(ids) == 1 else 's'}?"
    if form.get("seen", "") != str(len(ids)) and "sure" in form:
        raise UserError("the list has changed since it was shown: look at it again")
    if page := unsure(ask, title, [*names, *more], action.title, seen=str(len(ids))):
        return page
    results = [_one(ask, row_id, action, values) for piece in in_pieces(ids) for row_id in piece]
    failed = [result for result in results if not result.done]
    title = f"{action.title}: {len(results) - len(failed):,} done, {len(failed):,} not. {RUNNING}"
    shown = [*failed, *(result for result in results if result.done)][:_LISTED]
    return ask.page("results.html", title=title, results=shown, back=back)


def _to(form: Mapping[str, str], name: str) -> str:
    typed = {"plan": form.get("to_plan"), "until": form.get("to_until") or "no end"}.get(name)
    return f" to {typed}" if typed else ""


def _one(ask: Ask, row_id: int, action: Action, values: Mapping[str, Any] | None) -> Result:
    row = Account.get_or_none(Account.id == row_id)
    if row is None:
        return Result(str(row_id), "", False, "isn’t there any more")
    before, who, name = audited(row), ask.person.name, str(row.name)
    try:
        with core_db.atomic():
            if values is None:
                manage.remove_account(name)
                audit.record(who, "removed", f"account {name}", before, {})
                return Result(name, "", True, action.done)
            manage.change_account(row, {**values, "overrides": terms.overrides(row.overrides)})
            audit.record(who, "changed", f"account {name}", before, audited(row))
    except UserError as error:
        return Result(name, account_url({"name": name}), False, str(error))
    return Result(name, account_url({"name": name}), True, action.done)
