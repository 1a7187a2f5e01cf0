"""Accounts, plans, sessions and usage as programs see them; each calls what commands and pages call."""

from collections.abc import Sequence
from typing import Any

from appliance.accounts import limits, manage, prices, terms, wording
from appliance.accounts.models import Account, AccountUsage, Plan, Session
from appliance.accounts.periods import period_start
from appliance.accounts.unfinished import HIDDEN
from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import TIME, Day, Flag, Maybe, Number, Object, Part, Shape, Text, day
from appliance.api.web import routes
from appliance.crypto import load_box, new_password
from appliance.errors import Conflict, Unavailable, UserError
from appliance.nas.sessions import cut

NAME = Text(max=63)
LOGIN = Text(max=253)
_FOLLOW = "Running sessions follow within seconds."


# Limits, in the words of commands and pages


def _shape(limit: limits.Limit) -> Shape:
    return Maybe(Number(1) if limit.metavar == "N" else Text(max=4000, lines=limit.metavar == "LINES"))


def _words(given: Values) -> dict[str, str]:
    keys = [limit.key for limit in limits.LIMITS if limit.key in given]
    return {key: limits.NONE if given[key] is None else str(given[key]) for key in keys}


def _shown(columns: Values) -> Values:
    texts = limits.shown(columns)
    numbers = {limit.key for limit in limits.LIMITS if limit.metavar == "N"}
    return {key: (int(text) if key in numbers else text) if text else None for key, text in texts.items()}


# Accounts


def _accounts(call: Call, asked: Values) -> Any:
    query = Account.select(Account, Plan).join(Plan).where(Account.batch.is_null())
    if "plan" in asked:
        query = query.where(Account.plan == manage.get(Plan, asked["plan"], "plan"))
    if "enabled" in asked:
        query = query.where(Account.enabled == asked["enabled"])
    return query


def _find_account(call: Call, key: str) -> Any:
    return Account.get_or_none((Account.name == key) & Account.batch.is_null())


def _show_accounts(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [_show_account(call, row) for row in rows]


def _show_account(call: Call, row: Any) -> Values:
    columns, own = manage.account_columns(row), terms.overrides(row.overrides)
    since = period_start(columns["quota_period"], call.now, call.config.site.timezone)
    shown = _shown(columns)
    return {
        "name": row.name,
        "plan": row.plan.name,
        "enabled": bool(row.enabled),
        "address": row.address,
        "valid_until": row.valid_until,
        "limits": {limit.key: shown[limit.key] for limit in limits.LIMITS if limit.none.keys() & own.keys()},
        "first_login_at": row.first_login_at,
        "created_at": row.created_at,
        "used_bytes": manage.usage_since(row, since),
    }


def _account_values(given: Values) -> Values:
    values: Values = {key: given[key] for key in ("enabled", "valid_until") if key in given}
    if "address" in given:
        values["address"] = wording.address(given["address"] or "")
    if "limits" in given:
        values["overrides"] = limits.overrides({}, _words(given["limits"]))
    return values


def _add_account(call: Call, given: Values) -> tuple[str, Values]:
    box, password = load_box(call.config.paths.state), given.get("password")
    row, chosen = manage.add_account(given["name"], given["plan"], password, box, **_account_values(given))
    return row.name, {} if password else {"password": chosen}


def _change_account(call: Call, row: Any, given: Values) -> Values:
    values: Values = {"overrides": terms.overrides(row.overrides)} | _account_values(given)
    if "plan" in given:
        values["plan"] = manage.get(Plan, given["plan"], "plan")
    if "password" in given and "new_password" in given:
        raise UserError("password, new_password: give one of them")
    made = new_password() if "new_password" in given else None
    if password := made or given.get("password"):
        values["password"] = load_box(call.config.paths.state).seal(manage.password(password))
    manage.change_account(row, values)
    return {"password": made} if made else {}


def _remove_account(call: Call, row: Any) -> Values:
    manage.remove_account(row.name)
    return {}


OWN = Object(tuple(Part(limit.key, _shape(limit), limit.help) for limit in limits.LIMITS))

ACCOUNTS = Resource(
    name="accounts",
    one="account",
    about="People and devices that log in; vouchers are apart.",
    fields=(
        Field("name", LOGIN, "the login", new=True, needed=True),
        Field("plan", NAME, "its plan's name", new=True, change=True, needed=True),
        Field("enabled", Flag(), "false: blocked", new=True, change=True),
        Field("address", Maybe(Text(max=15)), "always this IPv4 address", new=True, change=True),
        Field("valid_until", Maybe(TIME), "no login from then on", new=True, change=True),
        Field("limits", OWN, "its own, all of them; null: no limit; absent: the plan's", new=True, change=True),
        Field("first_login_at", Maybe(TIME), "null: never yet"),
        Field("created_at", TIME, "when it was made"),
        Field("used_bytes", Number(), "both ways, in the quota's period now"),
        Field(
            "password",
            Text(max=128),
            "made up when none is given, and shown only then",
            new=True,
            change=True,
            shown=False,
            once=True,
        ),
        Field("new_password", Flag(only=True), "make up another password", change=True, shown=False),
    ),
    filters=(Part("plan", NAME, "of this plan"), Part("enabled", Flag(), "that may log in, or that are blocked")),
    sample={"name": "anna", "plan": "home"},
    query=_accounts,
    order=(Account.id,),
    find=_find_account,
    show=_show_accounts,
    add=_add_account,
    change=_change_account,
    remove=_remove_account,
)


# Plans


def _find_plan(call: Call, key: str) -> Any:
    return None if key.startswith(HIDDEN) else Plan.get_or_none(Plan.name == key)


def _show_plans(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [
        {
            "name": row.name,
            **_shown(manage.plan_columns(row)),
            "price_minor": row.price_minor,
            "currency": row.currency,
            "changed_at": row.changed_at,
        }
        for row in rows
    ]


def _price(given: Values) -> tuple[str | None, str | None]:
    return given.get("price"), given.get("currency")


def _add_plan(call: Call, given: Values) -> tuple[str, Values]:
    manage.add_plan(given["name"], limits.values(_words(given)) | prices.columns(*_price(given)))
    return given["name"], {}


def _change_plan(call: Call, row: Any, given: Values) -> Values:
    manage.change_plan(row.name, limits.values(_words(given)) | prices.columns(*_price(given), row))
    return {}


def _remove_plan(call: Call, row: Any) -> Values:
    manage.remove_plan(row.name)
    return {}


PLANS = Resource(
    name="plans",
    one="plan",
    about=f"What an account may do, in the words of `gatehouse plan`; null is no limit. {_FOLLOW}",
    fields=(
        Field("name", NAME, "what it is called", new=True, needed=True),
        *(Field(limit.key, _shape(limit), limit.help, new=True, change=True) for limit in limits.LIMITS),
        Field("price", Text(min=0, max=16), prices.HELP, new=True, change=True, shown=False),
        Field("price_minor", Number(), "in cents, or whatever is smallest; 0: it is free"),
        Field("currency", Text(min=0, max=3), "its three letters, such as EUR", new=True, change=True),
        Field("changed_at", TIME, "0: never since it was made"),
    ),
    sample={"name": "evening", "down": "20M", "up": "5M", "windows": "daily 18:00-23:00", "quota": "10G/month"},
    query=lambda call, asked: Plan.select().where(~Plan.name.startswith(HIDDEN)),
    order=(Plan.id,),
    find=_find_plan,
    show=_show_plans,
    add=_add_plan,
    change=_change_plan,
    remove=_remove_plan,
)


# Sessions


def _sessions(call: Call, asked: Values) -> Any:
    query = Session.select()
    if "state" in asked:
        query = query.where(Session.ended_at.is_null(asked["state"] == "online"))
    if "router" in asked:
        if asked.get("state") != "online":
            raise UserError("router: only with state=online")  # there is an index of those only
        query = query.where(Session.nas == asked["router"])
    if "account" in asked:
        query = query.where(Session.account_ref == manage.get(Account, asked["account"], "account"))
    return query


def _find_session(call: Call, key: str) -> Any:
    return Session.get_or_none(Session.id == int(key)) if key.isascii() and key.isdecimal() and len(key) < 10 else None


def _show_sessions(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [
        {
            "id": row.id,
            "account": row.account,
            "router": row.nas,
            "acct_session_id": row.acct_session_id,
            "mac": row.mac,
            "address": row.framed_ip,
            "host_address": row.host_ip,
            "started_at": row.started_at,
            "updated_at": row.updated_at,
            "ended_at": row.ended_at,
            "cause": row.terminate_cause,
            "session_s": row.session_s,
            "input_octets": row.input_octets,
            "output_octets": row.output_octets,
        }
        for row in rows
    ]


def _cut(call: Call, row: Any) -> Values:
    if row.ended_at is not None:
        raise Conflict(f"session {row.id} has ended already")
    try:
        said = cut(call.config, row, load_box(call.config.paths.state))
    except Unavailable:
        raise
    except UserError as error:
        raise Conflict(str(error)) from None
    call.record("cut", f"session {row.account} {row.mac}", {}, {})
    return {"said": said}


SESSIONS = Resource(
    name="sessions",
    one="session",
    about="What accounting told, newest first.",
    key="id",
    fields=(
        Field("id", Number(), "grows from session to session"),
        Field("account", Text(min=0), "the login, as its router says it"),
        Field("router", Text(min=0), "the name of its router"),
        Field("acct_session_id", Text(min=0), "the router's own name for it"),
        Field("mac", Text(min=0), "of the device: aa:bb:cc:00:00:01"),
        Field("address", Maybe(Text(min=0)), "what the guest is seen as"),
        Field("host_address", Maybe(Text(min=0)), "what the device has"),
        Field("started_at", TIME, "when it began"),
        Field("updated_at", TIME, "when its router last told of it"),
        Field("ended_at", Maybe(TIME), "null: online"),
        Field("cause", Maybe(Text(min=0)), "what ended it (RFC 2866, 5.10)"),
        Field("session_s", Number(), "seconds online"),
        Field("input_octets", Number(), "from the guest"),
        Field("output_octets", Number(), "to the guest"),
    ),
    filters=(
        Part("state", Text(choices=("online", "ended")), "of who is online, or was"),
        Part("account", LOGIN, "of this account, which must be there"),
        Part("router", NAME, "at this router; only with state=online"),
    ),
    query=_sessions,
    order=(Session.id,),
    newest_first=True,
    find=_find_session,
    show=_show_sessions,
    remove=_cut,
    removed=(Part("said", Text(min=0), "what its router answered"),),
    ends="Cut",
    records=True,
)


# Usage


def _usage(call: Call, asked: Values) -> Any:
    query = AccountUsage.select(AccountUsage, Account).join(Account)
    if "account" in asked:
        query = query.where(AccountUsage.account == manage.get(Account, asked["account"], "account"))
    if "from" in asked:
        query = query.where(AccountUsage.day >= asked["from"])
    if "to" in asked:
        query = query.where(AccountUsage.day <= asked["to"])
    return query


def _show_usage(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [
        {
            "account": row.account.name,
            "day": day(row.day),
            "input_octets": row.input_octets,
            "output_octets": row.output_octets,
        }
        for row in rows
    ]


USAGE = Resource(
    name="usage",
    one="day of usage",
    about="Octets of each account by day of the site's calendar.",
    fields=(
        Field("account", LOGIN, "the login"),
        Field("day", Day(), "of the site's calendar"),
        Field("input_octets", Number(), "from the guest"),
        Field("output_octets", Number(), "to the guest"),
    ),
    filters=(
        Part("account", LOGIN, "of this account"),
        Part("from", Day(), "the first day"),
        Part("to", Day(), "the last day"),
    ),
    query=_usage,
    order=(AccountUsage.account, AccountUsage.day),
    show=_show_usage,
)

RESOURCES = (ACCOUNTS, PLANS, SESSIONS, USAGE)
PAGES = routes(*RESOURCES)
