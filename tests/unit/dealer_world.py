"""A provider with dealers: sales of some months, what is earned on them, an invoice of each state."""

import time
from typing import Any
from zoneinfo import ZoneInfo

from appliance.accounts import sales
from appliance.accounts.models import Account, Plan
from appliance.config import Config
from appliance.dealers import agreements, attribution, dealers, earning, months
from appliance.dealers.models import Scheme
from appliance.dealers.months import Period
from appliance.dealers.schemes import Terms, percent

LEGAL = """
[dealer]
name = "Wave Net s.r.o."
street = "Long Street"
house = "1"
city = "Brno"
postcode = "60200"
country = "CZ"
company_id = "12345678"
vat_id = "CZ12345678"
vat_rate = "21"
iban = "CZ6508000000192000145399"
bic = "GIBACZPX"
email = "dealers@example.net"
"""
ADDRESS = {
    **{"street": "Short", "house": "2", "city": "Brno", "postcode": "60200", "country": "CZ"},
    "iban": "CZ6508000000192000145399",
}


def last_month() -> Period:
    """On the calendar of the tests' site."""
    return months.before(int(time.time()), ZoneInfo("Europe/Prague"))


def dealer(name: str = "kiosk", **columns: Any) -> Any:
    """With all that an invoice needs, and a scheme of 10 %."""
    values = ADDRESS | {"contact": f"{name} s.r.o.", "company_id": "87654321", "self_billing_from": 1} | columns
    made = dealers.add(name, **values)
    scheme = Scheme.get_or_none(Scheme.name == "ten")
    if scheme is None:
        scheme = agreements.add_scheme("ten", Terms(percent=percent("10"), currency="EUR"), 1).scheme
    agreements.assign(made, scheme, 1)
    return made


def customer(name: str, of: Any) -> Any:
    """An account that is a dealer's."""
    plan = Plan.get(Plan.name == "home")
    account = Account.create(name=name, plan=plan, password=b"", created_at=1)
    attribution.attribute(of, "account", account.id, name, 1)
    return account


def sold(account: Any, minor: int, at: int, paid: int | None = None) -> Any:
    charge = sales.charge("renewal", minor, "EUR", at, sales.own_source("test"), account=account, plan="home")
    if paid is None or paid:
        sales.pay(charge, minor if paid is None else paid, at, "cash", "r1")
    return charge


def taken(config: Config) -> None:
    earning.take_over(config, int(time.time()))
