"""One person's data, to hand over or to erase (GDPR, articles 15, 17 and 20)."""

import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from appliance.accounts.models import (
    Account,
    AccountUsage,
    Charge,
    Device,
    LoginSlot,
    Mail,
    Payment,
    PoolAddress,
    Refusal,
    Registration,
    Session,
)
from appliance.accounts.pieces import execute, in_pieces, marks
from appliance.config import Config
from appliance.errors import UserError
from appliance.island.models import IslandConflict

SESSIONS = {
    "anonymise": "stay without name, MAC and addresses",
    "delete": "go",
    "keep": "stay as they are until [privacy] keep_sessions_days is over",
}
_ANONYMOUS = (
    "UPDATE session SET account = 'erased', account_id = NULL, unique_id = 'erased-' || CAST(id AS TEXT),"
    " acct_session_id = '', mac = '', framed_ip = NULL, host_ip = NULL, granted_rate = NULL,"
    " ended_at = coalesce(ended_at, updated_at)"  # one that is open still has been silent for long
)


class Person:
    """All rows that belong to a login; sessions are there even when its account has been removed before."""

    def __init__(self, login: str) -> None:
        self.login = login
        self.account = Account.get_or_none(Account.name == login)
        # Sessions of a device that logs in by its MAC address have that for a name.
        own = Session.account_ref.is_null() & (Session.account == login)
        self.sessions = Session.select().where((Session.account_ref == self.account) | own if self.account else own)
        self.refusals = Refusal.select().where(Refusal.account == login)
        self.conflicts = IslandConflict.select().where(IslandConflict.account == login)
        bought = Charge.account_ref.is_null() & Charge.batch_ref.is_null() & (Charge.account == login)
        self.charges = Charge.select().where((Charge.account_ref == self.account) | bought if self.account else bought)
        if self.account is None and not self.sessions.exists() and not self.charges.exists():
            raise UserError(f"there is no account {login!r}, and no session of one: see `gatehouse account list`")

    def rows(self, model: Any) -> Any:
        return model.select().where(model.account == self.account) if self.account else model.select().where(False)

    def messages(self) -> Any:
        """That wait to be sent, or couldn't be; what was sent is gone already."""
        contacts = [row.contact for row in self.rows(Registration) if row.contact]
        return Mail.select().where(Mail.recipient.in_(contacts))


def preview(person: Person, sessions: str) -> list[dict[str, object]]:
    """What there is of a person, and what `erase` would do with it."""
    counts = [
        ("account", int(person.account is not None), "goes"),
        ("devices remembered", person.rows(Device).count(), "go"),
        ("days of usage", person.rows(AccountUsage).count(), "go"),
        ("addresses from pools", person.rows(PoolAddress).count(), "become free"),
        ("logins under way", person.rows(LoginSlot).count(), "go"),
        ("registrations", person.rows(Registration).count(), "go"),
        ("messages not sent", person.messages().count(), "go"),
        ("refused logins", person.refusals.count(), "go"),
        ("conflicts of islands", person.conflicts.count(), "go"),
        ("charges and their payments", person.charges.count(), "stay without name and references"),
        ("sessions", person.sessions.count(), SESSIONS[sessions]),
    ]
    return [{"what": what, "how_many": count, "erased": becomes} for what, count, becomes in counts]


def erase(person: Person, sessions: str, config: Config) -> None:
    """In short writes, the account last: a killed command can be given again."""
    _not_online(person, config)
    _erase_sessions([session.id for session in person.sessions.select(Session.id)], sessions)
    _erase_charges([charge.id for charge in person.charges.select(Charge.id)])
    execute("DELETE FROM refusal WHERE account = ?", person.login)
    execute("DELETE FROM island_conflict WHERE account = ?", person.login)
    if person.account is not None:
        account = person.account.id
        execute("UPDATE pool_address SET account_id = NULL, mac = NULL, held_until = 0 WHERE account_id = ?", account)
        execute("DELETE FROM account_usage WHERE account_id = ?", account)
        Mail.delete().where(Mail.id.in_([row.id for row in person.messages()])).execute()
        person.account.delete_instance()  # devices, registrations and logins under way go with it


def _not_online(person: Person, config: Config) -> None:
    """Else the next accounting packet would write the session down again."""
    alive = time.time() - config.radius.silent_s
    if person.sessions.where(Session.ended_at.is_null(), Session.updated_at > alive).exists():
        raise UserError(f"{person.login} is online: first `gatehouse session remove {person.login}`")


def _erase_sessions(ids: list[int], how: str) -> None:
    if how == "keep":
        return
    for piece in in_pieces(ids):
        where = f"IN ({marks(piece)})"
        if how == "delete":
            execute(f"DELETE FROM session WHERE id {where}", *piece)
        else:
            execute(f"DELETE FROM live_change WHERE session_id {where}", *piece)
            execute(f"{_ANONYMOUS} WHERE id {where}", *piece)


def _erase_charges(ids: list[int]) -> None:
    """What was sold stays in the books, and nobody can be told by it; attributions may still be."""
    for piece in in_pieces(ids):
        where = f"IN ({marks(piece)})"
        name = "'erased-' || CAST(coalesce(account_id, -id) AS TEXT)"
        execute(f"UPDATE payment SET reference = '' WHERE charge_id {where}", *piece)
        execute(f"UPDATE charge SET account = {name} WHERE id {where}", *piece)


def export(person: Person, zone: ZoneInfo) -> dict[str, object]:
    """All data about a person, for themselves and for other programs; only the password stays here."""
    account = person.account
    return {
        "login": person.login,
        "account": None if account is None else _account(account, zone),
        "devices": [
            {"mac": row.mac, "added": _iso(row.added_at, zone), "used": _iso(row.used_at, zone)}
            for row in person.rows(Device)
        ],
        "usage": [
            {"day": _day(row.day), "octets_from": row.input_octets, "octets_to": row.output_octets}
            for row in person.rows(AccountUsage).order_by(AccountUsage.day)
        ],
        "addresses": [
            {"address": row.ip, "mac": row.mac, "held_until": _iso(row.held_until, zone)}
            for row in person.rows(PoolAddress)
        ],
        "logins_under_way": [
            {"mac": row.mac, "held_until": _iso(row.held_until, zone)} for row in person.rows(LoginSlot)
        ],
        "registrations": [_registration(row, zone) for row in person.rows(Registration).order_by(Registration.id)],
        "messages_not_sent": [
            {"to": row.recipient, "subject": row.subject, "since": _iso(row.created_at, zone)}
            for row in person.messages()
        ],
        "charges": [_charge(row, zone) for row in person.charges.order_by(Charge.at)],
        "refused_logins": [
            {"at": _iso(row.at, zone), "typed": row.name, "router": row.nas, "mac": row.mac, "why": row.reason}
            for row in person.refusals.order_by(Refusal.id)
        ],
        "conflicts_of_islands": [
            {"at": _iso(row.at, zone), "site": row.site, "what": row.kind, "detail": row.detail}
            for row in person.conflicts.order_by(IslandConflict.id)
        ],
        "sessions": [_session(row, zone) for row in person.sessions.order_by(Session.started_at)],
    }


def _account(account: Any, zone: ZoneInfo) -> dict[str, object]:
    return {
        "plan": account.plan.name,
        "enabled": bool(account.enabled),
        "address": account.address,
        "valid_until": _iso(account.valid_until, zone),
        "first_login": _iso(account.first_login_at, zone),
        "created": _iso(account.created_at, zone),
        "differs_from_plan": account.overrides,
        "voucher_batch": account.batch.name if account.batch else None,
    }


def _registration(row: Any, zone: ZoneInfo) -> dict[str, object]:
    return {
        "kind": row.kind,
        "state": row.state,
        "mac": row.mac,
        "name": row.name,
        "contact": row.contact,
        "language": row.language,
        "terms_accepted": _iso(row.created_at, zone),
        "decided": _iso(row.decided_at, zone),
        "decided_by": row.decided_by,
    }


def _charge(row: Any, zone: ZoneInfo) -> dict[str, object]:
    return {
        "for": row.kind,
        "plan": row.plan,
        "at": _iso(row.at, zone),
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "payments": [
            {"at": _iso(paid.at, zone), "amount_minor": paid.amount_minor, "reference": paid.reference}
            for paid in Payment.select().where(Payment.charge == row).order_by(Payment.id)
        ],
    }


def _session(row: Any, zone: ZoneInfo) -> dict[str, object]:
    return {
        "login": row.account,
        "router": row.nas,
        "session_id": row.acct_session_id,
        "mac": row.mac,
        "address": row.framed_ip,
        "address_at_the_router": row.host_ip,
        "started": _iso(row.started_at, zone),
        "ended": _iso(row.ended_at, zone),
        "cause": row.terminate_cause,
        "seconds": row.session_s,
        "octets_from": row.input_octets,
        "octets_to": row.output_octets,
    }


def _iso(at: int | None, zone: ZoneInfo) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, zone).isoformat()


def _day(number: int) -> str:
    return f"{number // 10_000:04}-{number // 100 % 100:02}-{number % 100:02}"
