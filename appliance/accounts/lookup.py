"""Accounts for the RADIUS path: prepared SQL without models, because a call holds FreeRADIUS's only Python lock."""

from functools import lru_cache
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.periods import QUARTER_S, period_start
from appliance.accounts.terms import Account, effective

# One statement, because each one takes and gives back SQLite's locks. What a plan doesn't limit isn't counted.
_USED = (
    "(SELECT CAST(coalesce(sum(u.input_octets + u.output_octets), 0) AS BIGINT) FROM account_usage u"
    " WHERE u.account_id = {account} AND u.day >= {day})"
)
_ACCOUNT = (
    "SELECT a.id, a.name, a.password, a.enabled, a.address, a.valid_until, a.first_login_at,"
    " p.name, p.rate_down_bps, p.rate_up_bps, p.windows, p.session_timeout_s, p.validity_s,"
    " p.quota_bytes, p.quota_period, p.simultaneous, p.pool_id,"
    " p.burst, p.idle_timeout_s, p.slow_down_bps, p.slow_up_bps, p.devices, p.router_pool, p.filter_id, p.vlan,"
    " p.attributes, a.overrides, a.batch_id,"
    " CASE WHEN a.batch_id IS NULL THEN NULL ELSE"
    " (SELECT b.unused_until FROM voucher_batch b WHERE b.id = a.batch_id) END, a.changed_at,"
    " CASE WHEN p.quota_bytes IS NULL AND a.overrides = '' THEN 0 ELSE "
    + _USED.format(
        account="a.id", day="CASE p.quota_period WHEN 'day' THEN ? WHEN 'week' THEN ? WHEN 'month' THEN ? ELSE 0 END"
    )
    + " END,"
    " CASE WHEN p.simultaneous IS NULL AND a.overrides = '' THEN 0 ELSE"
    " (SELECT count(DISTINCT CASE WHEN s.mac = '' THEN s.unique_id ELSE s.mac END) FROM session s"
    " WHERE s.account_id = a.id AND s.ended_at IS NULL AND s.updated_at > ?"
    " AND (s.mac <> ? OR s.mac = '')) END"
    " FROM account a JOIN plan p ON p.id = a.plan_id WHERE "
)
_SQL = {
    "name": _ACCOUNT + "a.name = ?",
    "device": _ACCOUNT + "a.id = (SELECT d.account_id FROM device d WHERE d.mac = ?)",
    "id": _ACCOUNT + "a.id = ?",
    "used": "SELECT " + _USED.format(account="?", day="?"),
}


class Lookup:
    """Reads over one connection that all of FreeRADIUS's threads share in turn."""

    def __init__(self, database: peewee.Database, zone: ZoneInfo, ghost_after_s: int) -> None:
        self._database = database
        self.zone = zone
        self._ghost_after_s = ghost_after_s
        sqlite = isinstance(database, peewee.SqliteDatabase)
        self._sql = {key: text if sqlite else text.replace("?", "%s") for key, text in _SQL.items()}

    def account(self, name: str, mac: str, now: int) -> Account | None:
        """The account of this name with its usage and its sessions on other devices, where these are limited."""
        return self._find("name", name, mac, now)

    def device(self, mac: str, now: int) -> Account | None:
        """The account that remembers this device."""
        return self._find("device", mac, mac, now)

    def by_id(self, account_id: int, mac: str, now: int) -> Account | None:
        return self._find("id", account_id, mac, now)

    def _find(self, key: str, value: str | int, mac: str, now: int) -> Account | None:
        values = (*_period_starts(now // QUARTER_S, self.zone), now - self._ghost_after_s, mac, value)
        row = self._database.execute_sql(self._sql[key], values).fetchone()
        if row is None:
            return None
        account = Account._make(row)
        return self._with_overrides(account, now) if account.overrides else account

    def _with_overrides(self, account: Account, now: int) -> Account:
        found = effective(account)
        if found.quota_period == account.quota_period:
            return found
        day = period_start(found.quota_period, now, self.zone)
        (used,) = self._database.execute_sql(self._sql["used"], (found.id, day)).fetchone()
        return found._replace(used_bytes=used)


@lru_cache(maxsize=8)
def _period_starts(quarter: int, zone: ZoneInfo) -> list[int]:
    """Of day, week and month in this quarter of an hour since the epoch."""
    return [period_start(period, quarter * QUARTER_S, zone) for period in ("day", "week", "month")]
