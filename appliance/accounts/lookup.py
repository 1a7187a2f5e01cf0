"""Accounts for the RADIUS path: prepared SQL without models, because a call holds FreeRADIUS's only Python lock."""

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.terms import Account

# One statement, because each one takes and gives back SQLite's locks. What a plan doesn't limit isn't counted.
ACCOUNT = (
    "SELECT a.id, a.name, a.password, a.enabled, a.address, a.valid_until, a.first_login_at,"
    " p.name, p.rate_down_bps, p.rate_up_bps, p.windows, p.session_timeout_s, p.validity_s,"
    " p.quota_bytes, p.quota_period, p.simultaneous, p.pool_id,"
    " CASE WHEN p.quota_bytes IS NULL THEN 0 ELSE"
    " (SELECT CAST(coalesce(sum(u.input_octets + u.output_octets), 0) AS BIGINT) FROM account_usage u"
    " WHERE u.account_id = a.id AND u.day >= CASE p.quota_period"
    " WHEN 'day' THEN ? WHEN 'week' THEN ? WHEN 'month' THEN ? ELSE 0 END) END,"
    " CASE WHEN p.simultaneous IS NULL THEN 0 ELSE"
    " (SELECT count(*) FROM session s"
    " WHERE s.account_id = a.id AND s.ended_at IS NULL AND s.updated_at > ? AND s.mac <> ?) END"
    " FROM account a JOIN plan p ON p.id = a.plan_id WHERE a.name = ?"
)

QUARTER_S = 900


class Lookup:
    """Reads over one connection that all of FreeRADIUS's threads share in turn."""

    def __init__(self, database: peewee.Database, zone: ZoneInfo, ghost_after_s: int) -> None:
        self._database = database
        self._zone = zone
        self._ghost_after_s = ghost_after_s
        self._sql = ACCOUNT if isinstance(database, peewee.SqliteDatabase) else ACCOUNT.replace("?", "%s")

    def account(self, name: str, mac: str, now: int) -> Account | None:
        """The account of this name with its usage and its sessions on other devices, where its plan limits them."""
        values = (*_period_starts(now // QUARTER_S, self._zone), now - self._ghost_after_s, mac, name)
        row = self._database.execute_sql(self._sql, values).fetchone()
        return None if row is None else Account._make(row)


@lru_cache(maxsize=8)
def _period_starts(quarter: int, zone: ZoneInfo) -> list[int]:
    """Of day, week and month in this quarter of an hour since the epoch: in no zone does a day begin within one."""
    return [period_start(period, quarter * QUARTER_S, zone) for period in ("day", "week", "month")]


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
