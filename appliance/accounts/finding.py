"""What the search finds of accounts, vouchers, devices, sessions and plans: a few rows each, by indexes only.

With 1,000,000 accounts nothing here may look at them all: names are found by how they begin.
"""

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import urlencode

import peewee

from appliance.accounts.models import Account, Device, Plan, Registration, Session, VoucherBatch
from appliance.accounts.terms import voucher_code
from appliance.accounts.unfinished import HIDDEN, SETTLING
from appliance.admin.paths import part
from appliance.config import Config
from appliance.service import Hit, Search

MOST = 10  # of each kind; what is more is in the lists
RECENT = 20_000  # sessions that are looked through for an address; who is online is found in any case
_MAC = re.compile(r"([0-9a-f]{2}[:-]){1,5}[0-9a-f]{0,2}|([0-9a-f]{4}\.){1,2}[0-9a-f]{0,4}|[0-9a-f]{12}")
_ADDRESS = re.compile(r"[0-9]{1,3}\.[0-9.]+")

Row = Mapping[str, Any]


def hits(config: Config, text: str) -> Iterator[Hit]:
    yield from _accounts(text)
    yield from _batches(text)
    yield from _registrations(text)
    if mac := mac_beginning(text):
        yield from _devices(mac)
        yield from _sessions(mac, Session.mac)
    if _ADDRESS.fullmatch(text):
        yield from _sessions(text, Session.framed_ip, Session.host_ip)
    for row in beginning(Plan.select(Plan.name), Plan.name, text):
        name = row["name"]
        if not name.startswith(HIDDEN):
            yield Hit("Plans", name, f"/plans/{part(name)}", exact=_same(name, text))


def beginning(query: Any, field: Any, text: str) -> list[Row]:
    """Rows of the query whose field begins like that, in whatever case, the field itself first.

    A range of its index, however the database sorts: what follows the text there and doesn't begin so is left out.
    """
    found: dict[str, Row] = {}
    for spelling in dict.fromkeys((text, text.lower(), text.upper(), text.capitalize())):
        for row in query.where(field >= spelling).order_by(field).limit(MOST).dicts():
            if str(row[field.name]).casefold().startswith(text.casefold()):
                found[row[field.name]] = row
    return [found[key] for key in sorted(found, key=lambda key: (not _same(key, text), key))][:MOST]


def mac_beginning(text: str) -> str:
    """As devices are stored, of any spelling of a MAC address or of how one begins; else ""."""
    typed = re.sub(r"\s", "", text.lower())
    digits = re.sub(r"[:.-]", "", typed) if _MAC.fullmatch(typed) else ""
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def _same(name: str, text: str) -> bool:
    return name.casefold() == text.casefold()


def _accounts(text: str) -> Iterator[Hit]:
    """People first. A voucher is found in any spelling of its code."""
    query = (
        Account.select(Account.name, Account.enabled, Plan.name.alias("plan"), VoucherBatch.name.alias("batch_name"))
        .join(Plan)
        .switch(Account)
        .join(VoucherBatch, peewee.JOIN.LEFT_OUTER)
    )
    rows = beginning(query, Account.name, text)
    for row in rows:
        if row["batch_name"] is None:
            note = row["plan"] if row["enabled"] else f"{row['plan']}, blocked"
            yield Hit("Accounts", row["name"], _account_url(row["name"]), note, _same(row["name"], text))
    code = voucher_code(text)
    for row in rows if code == text else beginning(query, Account.name, code) if code else ():
        batch = row["batch_name"]
        if batch is not None and not batch.startswith((HIDDEN, SETTLING)):
            yield Hit("Vouchers", row["name"], _account_url(row["name"]), f"batch {batch}", row["name"] == code)


def _batches(text: str) -> Iterator[Hit]:
    query = VoucherBatch.select(VoucherBatch.name, Plan.name.alias("plan")).join(Plan)
    for row in beginning(query, VoucherBatch.name, text):
        if not row["name"].startswith((HIDDEN, SETTLING)):
            url = f"/vouchers/batch/{part(row['name'])}"
            yield Hit("Batches of vouchers", row["name"], url, row["plan"], _same(row["name"], text))


def _registrations(text: str) -> Iterator[Hit]:
    query = Registration.select(Registration.contact, Registration.name, Registration.state)
    for row in beginning(query.where(Registration.contact != ""), Registration.contact, text):
        contact, url = row["contact"], "/registrations?" + urlencode({"q": row["contact"]})
        yield Hit("Guests", contact, url, f"{row['name']}, {row['state']}", _same(contact, text))


def _devices(mac: str) -> Iterator[Hit]:
    query = Device.select(Device.mac, Account.name.alias("account_name")).join(Account)
    for row in beginning(query, Device.mac, mac):
        account = row["account_name"]
        yield Hit("Devices", row["mac"], _account_url(account), f"of {account}", row["mac"] == mac)


def _sessions(text: str, *fields: Any) -> Iterator[Hit]:
    """Of who is online, and of the last ones."""
    columns = (Session.id, Session.account, Session.nas, Session.ended_at, *fields)
    last = (Session.select(peewee.fn.max(Session.id)).scalar() or 0) - RECENT
    found: dict[int, Hit] = {}
    for which in (Session.ended_at.is_null(), Session.id > last):
        fits = reduce(or_, [field.between(text, f"{text}\U0010ffff") for field in fields])
        rows: Any = Session.select(*columns).where(which, fits).limit(MOST).dicts()
        for row in rows:
            address = next(row[field.name] for field in fields if str(row[field.name]).startswith(text))
            note = f"{row['account']} at {row['nas']}, {'online' if row['ended_at'] is None else 'ended'}"
            found[row["id"]] = Hit("Sessions", address, f"/sessions/{row['id']}", note, address == text)
    yield from list(found.values())[:MOST]


def _account_url(name: str) -> str:
    return f"/accounts/{part(name)}"


SEARCH = Search(
    hits,
    (
        ("Accounts, plans, batches of vouchers", "by how the name begins"),
        ("Guests who registered", "by how their e-mail address or phone number begins"),
        ("Vouchers", "by how the code begins, with or without spaces, dashes and capitals"),
        ("Devices", "by the MAC address or how it begins, in any spelling: aa:bb:cc, AA-BB-CC, aabb.cc"),
        ("Sessions", f"by the device's MAC or IP address: who is online, and the last {RECENT:,}"),
    ),
)
