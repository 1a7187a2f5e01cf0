"""A provider and dealers that earn, for the tests of settlements, invoices and payouts.

`python -m tests.unit.dealer_money FOLDER MONTH [SECONDS]` settles a month and issues its invoices, in a process of its
own, which waits so long in the middle of each dealer's transaction.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.config_dealer import Dealer as Provider
from appliance.dealers import dealers, invoices, ledger, months, settlement
from appliance.dealers.ledger_db import bind
from appliance.dealers.models import Invoice, ledger_db
from tests.unit.dealer_box import configuration

PROVIDER = Provider(
    name="Síť s.r.o.",
    street="Hlavní",
    house="1",
    city="Praha",
    postcode="110 00",
    country="CZ",
    company_id="87654321",
    vat_id="CZ87654321",
    vat_rate="21",
    iban="CZ6508000000192000145399",
    bic="GIBACZPX",
    currency="CZK",
    series="GH",
)
FACTS = {
    "contact": "Žofie Dvořáková",
    "street": "Příčná",
    "house": "12a",
    "city": "Brno",
    "postcode": "602 00",
    "country": "CZ",
    "company_id": "12345678",
    "iban": "CZ6508000000192000145399",
    "bic": "GIBACZPX",
    "currency": "CZK",
    "email": "zofie@example.net",
    "self_billing_from": 0,
}
_numbers = itertools.count(1)


def conf_in(folder: Path) -> Config:
    return replace(configuration(folder), dealer=PROVIDER)


@contextmanager
def book(conf: Config) -> Iterator[Config]:
    """The ledger alone: nothing here reads core.db."""
    bind(conf)
    with ledger_db.connection_context():
        yield conf


@contextmanager
def memory() -> Iterator[Path]:
    """A folder where fsync costs nothing, for tests that write much and lose no power."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def dealer(name: str, **facts: Any) -> Any:
    return dealers.add(name, **FACTS | facts)


def earn(who: Any, amount_minor: int, at: int, currency: str = "CZK", **more: Any) -> Any:
    """A commission of a payment, or what was taken back of one."""
    entries = {ledger.ACCRUED: amount_minor, ledger.EXPENSE: -amount_minor}
    kind = "commission" if amount_minor >= 0 else "refund"
    source = ("payment", str(next(_numbers)))
    return ledger.post(who, kind, source, currency, entries, at, **{"rate": "10 %"} | more)


def main(folder: str, month: str, pause_s: str = "0") -> None:
    draft = invoices.draft

    def slowly(*given: Any) -> Any:
        time.sleep(float(pause_s))
        return draft(*given)

    vars(invoices)["draft"] = slowly
    with book(conf_in(Path(folder))) as conf:
        settlement.run(conf, months.period(month, conf.site.timezone), "process")
        for invoice in list(Invoice.select().where(Invoice.number.is_null())):
            invoices.issue(conf, invoice)


if __name__ == "__main__":
    main(*sys.argv[1:])
