"""A ledger of many dealers with a year and a half of commissions, all but the last month's settled.

The first dealer has a tenth of all. Written by the ledger's own code, all in one transaction.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from appliance import db
from appliance.accounts.models import core_db
from appliance.config import Config, Paths, Site
from appliance.dealers import agreements, dealers, ledger, ledger_db, months, schemes
from appliance.dealers.models import Dealer
from appliance.dealers.models import ledger_db as database
from appliance.dealers.schemes import DAY_S

ZONE = ZoneInfo("Europe/Prague")
LAST = months.period("2026-10", ZONE)  # isn't settled yet
NOW = LAST.until + DAY_S
SPAN_S = 540 * DAY_S
PASSWORD = "a password for the bench"


def configuration(folder: Path) -> Config:
    paths = Paths(state=folder / "state", run=folder / "run", data=folder / "data")
    for name in ("core", "keys", ledger_db.STATE):
        (paths.state / name).mkdir(parents=True, exist_ok=True)
    (paths.state / "keys" / "password.key").write_bytes(bytes(32))
    return Config(site=Site(timezone=ZONE), paths=paths)


def make(config: Config, count: int, entries: int) -> None:
    """Leaves both databases bound and open."""
    core_db.initialize(db.connect(config.database_url))
    core_db.connect()
    db.migrate(core_db.obj, db.migrations("appliance.migrations"))
    ledger_db.bind(config)
    database.connect()
    agreements.add_scheme("ten", schemes.parse('{"percent": "10"}'), 0)
    facts = {"street": "Hlavni", "house": "1", "city": "Brno", "postcode": "60200", "country": "CZ", "contact": "Shop"}
    with ledger_db.writing():
        for n in range(count):
            row = dealers.add(f"shop-{n:04}", currency="CZK", self_billing_from=0, **facts)
            agreements.assign(row, agreements.get("ten"), 0)
        first = dealers.get("shop-0000")
        dealers.change(first, {"login": "first"})
        dealers.set_password(first, PASSWORD)
        postings = entries // 2
        _fill(first, postings // 10, 0)
        for row in list(Dealer.select().where(Dealer.id != first.id)):
            _fill(row, postings * 9 // 10 // max(1, count - 1), int(row.id))
    database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute_sql("ANALYZE")


def _fill(dealer: Any, count: int, salt: int) -> None:
    """Commissions at even distances; each month's are settled with its end, but for the last one's."""
    previous, n, accrued = ledger.last(dealer.id)[1], ledger.last(dealer.id)[0], 0
    unsettled: list[tuple[int, int]] = []
    month = months.of(LAST.until - SPAN_S, ZONE)
    for at, key in _times(count, salt):
        while at >= month.until:
            if unsettled:
                n, previous = _settle(dealer, month, unsettled, accrued, n, previous)
                unsettled, accrued = [], 0
            month = months.of(month.until, ZONE)
        amount = 100 + key % 9000
        n += 1
        values = (
            *(dealer.id, n, "commission", "payment", f"p{dealer.id}-{key}", 1, "CZK", amount, at, at),
            *(f"c{dealer.id}-{key}", amount * 10, 0, amount, "10 %", "", at),
        )
        posting = ledger.insert(values, {"accrued": amount, "expense": -amount}, previous)
        previous = ledger.last(dealer.id)[1]
        unsettled.append((posting, amount))
        accrued += amount


def _times(count: int, salt: int) -> Iterator[tuple[int, int]]:
    for key in range(count):
        yield LAST.until - SPAN_S + (SPAN_S * key + salt) // max(1, count), key


def _settle(
    dealer: Any, month: months.Period, lines: list[tuple[int, int]], total: int, n: int, previous: str
) -> tuple[int, str]:
    made = database.obj.execute_sql(
        "INSERT INTO settlement (dealer_id, currency, period, since, until, amount_minor, at, who)"
        " VALUES (?, 'CZK', ?, ?, ?, ?, ?, 'bench')",
        (dealer.id, *month, total, month.until),
    ).lastrowid
    database.obj.cursor().executemany(
        "INSERT INTO settlement_line (posting_id, settlement_id, amount_minor) VALUES (?, ?, ?)",
        [(posting, made, amount) for posting, amount in lines],
    )
    values = (
        *(dealer.id, n + 1, "settle", "settlement", str(made), 0, "CZK", total, month.until, month.until),
        *("", 0, 0, 0, "", month.name, month.until),
    )
    ledger.insert(values, {"accrued": -total, "payable": total}, previous)
    return n + 1, ledger.last(dealer.id)[1]


def seconds(action: Any) -> tuple[float, Any]:
    began = time.monotonic()
    result = action()
    return time.monotonic() - began, result
