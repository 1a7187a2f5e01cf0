"""Offline vouchers made: whose they are, the site's key, and the codes of a batch."""

import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from appliance.accounts.models import core_db, reach
from appliance.accounts.pieces import sql_of
from appliance.config import Config
from appliance.crypto import SecretBox
from appliance.errors import UserError
from appliance.island import offline, places
from appliance.sites.models import Site

_KEY = "SELECT secret FROM offline_key WHERE site = ?"
_NEW_KEY = "INSERT INTO offline_key (site, secret, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


_LIMITS = {
    "plan_id": f"plan number {offline.MOST['plan_id']:,}: take an older plan",
    "batch_id": f"batch number {offline.MOST['batch_id']:,}",
    "serial": f"{offline.MOST['serial'] + 1:,} vouchers in a batch: make several",
}


class Where(NamedTuple):
    """The site whose island takes a voucher, and the last day on which it does (as `offline.Terms` has it)."""

    site: str
    day: int


def where(config: Config, site: str, unused_until: int | None) -> Where:
    """`site` may be empty for this appliance's own; `unused_until` is the end of the last day. Raises UserError."""
    if not places.is_wanted(config):
        raise UserError("offline vouchers are for sites that share a database: [database] url has none")
    key = site or config.site.key
    if key and key not in sites(config):
        raise UserError(f"there is no site {key!r}: see `gatehouse site list`")
    if unused_until is None:
        raise UserError("offline vouchers need a last day for a first login: an island can't be told of any other end")
    day = offline.day_number(datetime.fromtimestamp(unused_until - 1, config.site.timezone).date())
    if not 0 <= day - offline.day_number(datetime.now(config.site.timezone).date()) <= offline.MOST["day"]:
        raise UserError("the last day is too far away for offline vouchers")
    return Where(key, day)


def sites(config: Config) -> list[str]:
    """Those that offline vouchers can be for; none where the database is in a file."""
    if not places.is_wanted(config):
        return []
    known = [str(site.key) for site in Site.select(Site.key).order_by(Site.key)]  # of who is limited only theirs
    return known or ([config.site.key] if config.site.key and reach.get() is None else [])


def codes(place: Where, plan_id: int, batch_id: int, count: int, box: SecretBox) -> Iterator[str]:
    """Raises UserError where a number has grown beyond what a code can carry."""
    key = ensure_key(core_db.obj, place.site, box)
    for serial in range(count):
        try:
            yield offline.code(key, offline.Terms(plan_id, batch_id, serial, place.day))
        except ValueError as error:
            raise UserError(f"offline vouchers can't say more than {_LIMITS[str(error)]}") from None


def ensure_key(database: Any, site: str, box: SecretBox) -> bytes:
    """The site's key, made when it is asked for the first time; two who make it at once get the same."""
    row = database.execute_sql(sql_of(database, _KEY), (site,)).fetchone()
    if row is None:
        sealed = box.seal(secrets.token_hex(offline.KEY_BYTES))
        database.execute_sql(sql_of(database, _NEW_KEY), (site, sealed, int(time.time())))
        row = database.execute_sql(sql_of(database, _KEY), (site,)).fetchone()
    return bytes.fromhex(box.open(row[0]))
