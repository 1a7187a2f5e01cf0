"""A core database and a ledger for the tests of the dealer module."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from appliance import db
from appliance.accounts import sales
from appliance.accounts.models import Account, Plan, core_db
from appliance.config import Config, Paths, Site
from appliance.dealers import agreements, attribution, dealers, ledger_db, schemes
from appliance.dealers.models import ledger_db as database

DAY = 1_790_000_000  # in September 2026


def configuration(folder: Path) -> Config:
    paths = Paths(state=folder / "state", run=folder / "run", data=folder / "data")
    for name in ("core", ledger_db.STATE):
        (paths.state / name).mkdir(parents=True, exist_ok=True)
    return Config(site=Site(timezone=ZoneInfo("Europe/Prague")), paths=paths)


@contextmanager
def opened(conf: Config) -> Iterator[Config]:
    """Both databases, made where they aren't there yet."""
    core_db.initialize(db.connect(conf.database_url))
    ledger_db.bind(conf)
    with core_db.connection_context(), database.connection_context():
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        yield conf


class Shop:
    """A plan for 10 EUR a month and customers who have it; amounts are cents, times UTC seconds."""

    def __init__(self) -> None:
        self.plan = Plan.create(name="home", price_minor=1000, currency="EUR")

    def customer(self, name: str = "bob") -> Any:
        return Account.create(name=name, password=b"", plan=self.plan, created_at=0)

    def dealer(self, name: str = "eva", terms: str = '{"percent": "10"}', at: int = 0) -> Any:
        row = dealers.add(name)
        agreements.add_scheme(name, schemes.parse(terms), at)
        agreements.assign(row, agreements.get(name), at)
        return row

    def charge(self, account: Any, amount: int = 1000, at: int = DAY, kind: str = "renewal", **more: Any) -> Any:
        source = more.pop("source", "") or sales.own_source("test")
        return sales.charge(kind, amount, more.pop("currency", "EUR"), at, source, account=account, plan="home")

    def mine(self, dealer: Any, account: Any, since: int = 0, until: int | None = None) -> Any:
        return attribution.attribute(dealer, "account", account.id, account.name, since, until)
