"""Accounts for the RADIUS path: prepared SQL without models, because a call holds FreeRADIUS's only Python lock."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.terms import Account

ACCOUNT = (
    "SELECT a.id, a.name, a.password, a.enabled, a.address, a.valid_until, a.first_login_at,"
    " p.name, p.rate_down_bps, p.rate_up_bps, p.windows, p.session_timeout_s, p.validity_s,"
    " p.quota_bytes, p.quota_period, p.simultaneous, p.pool_id"
    " FROM account a JOIN plan p ON p.id = a.plan_id WHERE a.name = ?"
)
USED = "SELECT coalesce(sum(input_octets + output_octets), 0) FROM account_usage WHERE account_id = ? AND day >= ?"
OTHERS = "SELECT count(*) FROM session WHERE account_id = ? AND ended_at IS NULL AND updated_at > ? AND mac <> ?"


class Lookup:
    """Reads over one connection that all of FreeRADIUS's threads share in turn."""

    def __init__(self, database: peewee.Database, zone: ZoneInfo, ghost_after_s: int) -> None:
        self._database = database
        self._zone = zone
        self._ghost_after_s = ghost_after_s
        mark = "?" if isinstance(database, peewee.SqliteDatabase) else "%s"
        names = {"ACCOUNT": ACCOUNT, "USED": USED, "OTHERS": OTHERS}
        self._sql = {name: text.replace("?", mark) for name, text in names.items()}

    def account(self, name: str, mac: str, now: int) -> Account | None:
        """The account of this name with its usage and its sessions on other devices, where its plan limits them."""
        row = self._execute("ACCOUNT", name).fetchone()
        if row is None:
            return None
        account = Account._make((*row, 0, 0))
        if account.quota_bytes is not None:
            first_day = period_start(account.quota_period, now, self._zone)
            account = account._replace(used_bytes=int(self._execute("USED", account.id, first_day).fetchone()[0]))
        if account.simultaneous is not None:
            others = self._execute("OTHERS", account.id, now - self._ghost_after_s, mac).fetchone()[0]
            account = account._replace(other_sessions=others)
        return account

    def _execute(self, name: str, *values: object) -> Any:
        return self._database.execute_sql(self._sql[name], values)


def local_day(at: int, zone: ZoneInfo) -> int:
    """The day of the site's calendar as YYYYMMDD."""
    return _number(datetime.fromtimestamp(at, zone))


def period_start(period: str, now: int, zone: ZoneInfo) -> int:
    """First day (YYYYMMDD) of the day, week (from Monday), month or total that `now` lies in."""
    if period == "total":
        return 0
    today = datetime.fromtimestamp(now, zone).date()
    if period == "week":
        today -= timedelta(days=today.weekday())
    if period == "month":
        today = today.replace(day=1)
    return _number(today)


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day
