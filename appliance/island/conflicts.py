"""What doesn't fit together once islands have delivered: found, kept, shown, and dismissed by somebody."""

from typing import Any, NamedTuple

import peewee

from appliance.accounts.lookup import Lookup
from appliance.accounts.periods import period_start
from appliance.accounts.pieces import sql_of

KINDS = {
    "voucher": "a voucher was used first on several sites",
    "quota": "more was used than the plan allows",
    "simultaneous": "more devices were online than the plan allows",
    "address": "an address was given to two devices",
    "account": "an account that is gone logged in",
    "entry": "a message of the site could not be used",
}
_SLACK = 20  # a quota is met within a report's time: what is over by less than a twentieth isn't the islands' doing
_MOST_TEXT = 500
_DAY_S = 86_400
_NOTE = (
    "INSERT INTO island_conflict (kind, site, subject, account_id, account, at, found_at, detail)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_ONLINE = (
    "SELECT count(DISTINCT CASE WHEN mac = '' THEN unique_id ELSE mac END) FROM session"
    " WHERE account_id = ? AND started_at <= ? AND (ended_at IS NULL OR ended_at > ?)"
)


class Conflict(NamedTuple):
    """One of its kind for a `subject`; `at` is when it happened (UTC seconds)."""

    kind: str
    subject: str
    account_id: int | None
    account: str
    at: int
    detail: str


class Conflicts:
    """Over one connection; each write is in the caller's transaction."""

    def __init__(self, database: peewee.Database, site: str, lookup: Lookup, now: int) -> None:
        self._database = database
        self._site = site
        self._lookup = lookup
        self._now = now
        self._sql = {name: sql_of(database, text) for name, text in (("note", _NOTE), ("online", _ONLINE))}

    def note(self, found: Conflict) -> None:
        text = found.detail.replace("\0", "")[:_MOST_TEXT]
        values = (found.kind, self._site, found.subject, found.account_id, found.account, found.at, self._now, text)
        self._database.execute_sql(self._sql["note"], values)

    def quota(self, account_id: int, at: int) -> None:
        """After what an account has used by that time: is it still within its plan?"""
        account = self._lookup.by_id(account_id, "", at)
        if account is None or account.quota_bytes is None or account.slow_down_bps or account.slow_up_bps:
            return
        quota = account.quota_bytes
        if account.used_bytes > quota + quota // _SLACK:
            since = period_start(account.quota_period, at, self._lookup.zone)
            detail = f"{account.used_bytes} of {quota} octets"
            self.note(Conflict("quota", f"{account_id} {since}", account_id, account.name, at, detail))

    def simultaneous(self, account_id: int, at: int) -> None:
        """After a session that began then: how many devices were online?"""
        account = self._lookup.by_id(account_id, "", at)
        if account is None or account.simultaneous is None:
            return
        online = self._count("online", account_id, at, at)
        if online > account.simultaneous:
            detail = f"{online} devices, {account.simultaneous} are allowed"
            self.note(Conflict("simultaneous", f"{account_id} {at // _DAY_S}", account_id, account.name, at, detail))

    def _count(self, name: str, *values: object) -> int:
        row: Any = self._database.execute_sql(self._sql[name], values).fetchone()
        return int(row[0])
