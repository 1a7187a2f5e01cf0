"""daloRADIUS: its database as a dump or SQLite file (tables of contrib/db, versions 0.9 to 2).

Groups are plans, users are accounts, radacct is usage and first login.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from appliance.accounts import imports_attributes as attributes
from appliance.accounts.imports import Found, FoundAccount, FoundBatch, is_voucher, plan_name
from appliance.accounts.imports_sql import Row
from appliance.accounts.periods import local_day
from appliance.accounts.vouchers import parse_price
from appliance.errors import UserError

DISABLED = "daloradius-disabled-users"  # the group that daloRADIUS puts blocked users into
USERS = ("radcheck", "radreply")
GROUPS = ("radgroupcheck", "radgroupreply")
MEMBERS = ("radusergroup", "usergroup")
BILLING = ("billing_plans", "billing_plans_profiles", "userbillinfo", "batch_history")
TABLES = frozenset((*USERS, *GROUPS, *MEMBERS, *BILLING, "radacct", "userinfo", "nas"))


@dataclass
class Source:
    """What the tables hold, by user and by group; `usage` is octets from and to the guest by day."""

    zone: ZoneInfo
    users: dict[str, attributes.Terms] = field(default_factory=lambda: defaultdict(attributes.Terms))
    groups: dict[str, attributes.Terms] = field(default_factory=lambda: defaultdict(attributes.Terms))
    members: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    usage: dict[str, dict[int, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    first_login: dict[str, int] = field(default_factory=dict)
    billing: dict[str, Row] = field(default_factory=dict)  # userbillinfo
    plans: dict[str, Row] = field(default_factory=dict)  # billing_plans
    plan_groups: dict[str, str] = field(default_factory=dict)
    batches: dict[str, str] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def read(rows: Iterable[tuple[str, Row]], plan: str | None, zone: ZoneInfo, found: Found) -> None:
    """Adds what the tables hold; `plan` is for users without a group. Raises UserError when it isn't daloRADIUS."""
    source = Source(zone)
    for table, row in rows:
        _sort(source, table, row)
    if not source.users:
        raise UserError(
            "there is no radcheck table with users in it: make the dump with mysqldump of the whole database"
        )
    names = _plans(source, found)
    for name, terms in source.users.items():
        _user(source, name, terms, names, plan, found)
    for table, why in (
        ("userinfo", "contact details aren't kept here"),
        ("nas", "add routers with `gatehouse nas add`"),
    ):
        if source.others[table]:
            found.leave_out(why, f"{source.others[table]} rows of {table}")


def _sort(source: Source, table: str, row: Row) -> None:
    user, group = row.get("username") or "", row.get("groupname") or ""
    if table in USERS:
        _take(source.users[user], table, row, source.zone)
    elif table in GROUPS:
        _take(source.groups[group], table, row, source.zone)
    elif table in MEMBERS:
        source.members[user].append((_number(row.get("priority")), group))
    elif table == "radacct":
        _session(source, user, row)
    elif table == "userbillinfo":
        source.billing[user] = row
    elif table == "billing_plans":
        source.plans[row.get("planname") or ""] = row
    elif table == "billing_plans_profiles":
        source.plan_groups.setdefault(row.get("plan_name") or "", row.get("profile_name") or "")
    elif table == "batch_history":
        source.batches[row.get("id") or ""] = row.get("batch_name") or ""
    else:
        source.others[table] += 1


def _take(terms: attributes.Terms, table: str, row: Row, zone: ZoneInfo) -> None:
    reply = table.endswith("reply")
    attributes.take(terms, row.get("attribute") or "", row.get("value") or "", zone, reply)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else 0


def _session(source: Source, user: str, row: Row) -> None:
    """Its octets count for the day on which it began; radacct has the server's own clock, taken for the site's."""
    try:
        at = int(datetime.fromisoformat(row.get("acctstarttime") or "").replace(tzinfo=source.zone).timestamp())
    except ValueError:
        return
    day = local_day(at, source.zone)
    received, sent = source.usage[user].get(day, (0, 0))
    more = _number(row.get("acctinputoctets")), _number(row.get("acctoutputoctets"))
    source.usage[user][day] = (received + more[0], sent + more[1])
    source.first_login[user] = min(at, source.first_login.get(user, at))


# Groups


def _plans(source: Source, found: Found) -> dict[str, str]:
    """A plan for each group that somebody is in; its name by the group's."""
    used = {group for memberships in source.members.values() for _, group in memberships}
    used |= set(source.plan_groups.values())
    names = {}
    for group in sorted((used | set(source.groups)) - {""}):
        if group.lower() == DISABLED:
            continue
        names[group] = name = plan_name(group, found.plans)
        if name != group:
            found.change(f"group {group!r} becomes plan", name)
        terms = source.groups[group]
        found.plans[name] = terms.plan
        for note in terms.notes:
            found.change(note, name)
        if terms.account or terms.password or terms.hashed:
            found.change("a password, address, date or block of a whole group can't be taken over", name)
    return names


# Users


def _user(
    source: Source, name: str, terms: attributes.Terms, names: dict[str, str], fallback: str | None, found: Found
) -> None:
    groups = [group for _, group in sorted(source.members.get(name, []), key=lambda member: member[0])]
    blocked = any(group.lower() == DISABLED for group in groups)
    plans = [names[group] for group in groups if group in names] or _billed(source, name, names)
    plan = plans[0] if plans else fallback
    if terms.password is None:
        why = f"its password is hashed ({terms.hashed}): CHAP needs the password itself" if terms.hashed else None
        found.leave_out(why or "has no password", name)
        return
    if plan is None:
        found.leave_out("is in no group: say --plan for those", name)
        return
    if len(plans) > 1:
        found.change("is in several groups: the one of the highest priority counts here", name)
    for note in terms.notes:
        found.change(note, name)
    values: dict[str, Any] = {"enabled": not blocked, "first_login_at": source.first_login.get(name), **terms.account}
    values["enabled"] = values["enabled"] and not blocked
    overrides = dict(terms.plan)
    if "attributes" in overrides:  # those of the plan stay, too
        overrides["attributes"] = attributes.joined(
            found.plans.get(plan, {}).get("attributes", ""), overrides["attributes"]
        )
    account = FoundAccount(name, terms.password, plan, values, overrides, usage=source.usage.get(name, {}))
    _batch(source, account, found)
    found.add(account)


def _billed(source: Source, name: str, names: dict[str, str]) -> list[str]:
    """The plan that billing knows, for users whose group was forgotten."""
    group = source.plan_groups.get((source.billing.get(name) or {}).get("planname") or "", "")
    return [names[group]] if group in names else []


def _batch(source: Source, account: FoundAccount, found: Found) -> None:
    """A user of a batch is a voucher here when its one code is name and password."""
    bill = source.billing.get(account.name) or {}
    title = source.batches.get(bill.get("batch_id") or "")
    if not title:
        return
    if not is_voucher(account, found):
        if account.name != account.password:
            found.change(
                "was made in a batch, with a name and a password: it becomes an account, no voucher", account.name
            )
        return
    key = f"{title}/{account.plan}"
    if key not in found.batches:
        name = plan_name(title, (batch.name for batch in found.batches.values()))
        found.batches[key] = FoundBatch(name, account.plan, *_price(source.plans.get(bill.get("planname") or "")))
    account.batch = key


def _price(plan: Row | None) -> tuple[int, str]:
    cost, currency = (plan or {}).get("plancost") or "", ((plan or {}).get("plancurrency") or "").upper()
    try:
        return parse_price(cost, currency), currency
    except UserError:
        return 0, ""
