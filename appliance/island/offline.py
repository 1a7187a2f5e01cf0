"""Offline vouchers: codes that say themselves what they are good for, signed with a key of their site.

Twenty characters of the vouchers' alphabet are 96 bits: plan, batch, number in it and last day in 56, then 40 of an
HMAC (RFC 2104). So an island lets in the guest of a batch that was sold after it was cut off. The plan's terms are
those of the island's copy; a batch that the copy has says better itself which of its vouchers are good.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee

from appliance.accounts.terms import ALPHABET, voucher_code
from appliance.crypto import SecretBox

LENGTH = 20
MAC_BITS = 40
_FIELDS = (("plan_id", 11), ("batch_id", 15), ("serial", 17), ("day", 13))
_BITS = sum(bits for _, bits in _FIELDS)
_FIRST_DAY = date(2026, 1, 1)
_PURPOSE = b"gatehouse offline voucher 1"
_CODE = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")
_VALUE = {character: value for value, character in enumerate(ALPHABET)}
MOST: Mapping[str, int] = {name: 2**bits - 1 for name, bits in _FIELDS}
KEY_BYTES = 32


class Terms(NamedTuple):
    """What a code says. `day` is the last one for a first login, in days since 2026 began."""

    plan_id: int
    batch_id: int
    serial: int
    day: int


def day_number(day: date) -> int:
    return (day - _FIRST_DAY).days


def ends_at(terms: Terms, zone: ZoneInfo) -> int:
    """When the last day is over on the site's calendar (UTC seconds)."""
    following = _FIRST_DAY + timedelta(days=terms.day + 1)
    return int(datetime(following.year, following.month, following.day, tzinfo=zone).timestamp())


def code(key: bytes, terms: Terms) -> str:
    """Raises ValueError for terms that don't fit."""
    number = 0
    for (name, bits), value in zip(_FIELDS, terms, strict=True):
        if not 0 <= value <= MOST[name]:
            raise ValueError(f"{name} {value}")
        number = number << bits | value
    number = number << MAC_BITS | _mac(key, number)
    found = ""
    for _ in range(LENGTH):
        number, value = divmod(number, len(ALPHABET))
        found = ALPHABET[value] + found
    return found


def read(key: bytes, text: str) -> Terms | None:
    """Of a code in the spelling of `voucher_code`; None for what this key hasn't signed."""
    if not _CODE.fullmatch(text):
        return None
    number = 0
    for character in text:
        number = number * len(ALPHABET) + _VALUE[character]
    fields, mac = divmod(number, 2**MAC_BITS)
    if fields >> _BITS or not hmac.compare_digest(_mac(key, fields).to_bytes(8), mac.to_bytes(8)):
        return None
    values = []
    for _, bits in reversed(_FIELDS):
        fields, value = divmod(fields, 2**bits)
        values.append(value)
    return Terms(*reversed(values))


def _mac(key: bytes, fields: int) -> int:
    digest = hmac.digest(key, _PURPOSE + fields.to_bytes(8), "sha256")
    return int.from_bytes(digest[: MAC_BITS // 8])


_SQL = {
    "key": "SELECT secret FROM offline_key WHERE site = ?",
    "account": "SELECT 1 FROM account WHERE name = ?",
    "plan": "SELECT 1 FROM plan WHERE id = ?",
    "copied": "SELECT batches FROM copied",
    "add_batch": "INSERT INTO voucher_batch (id, name, plan_id, unused_until, created_at) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING",
    "add": "INSERT INTO account (name, password, plan_id, enabled, batch_id, created_at, changed_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
}
NOTED = "CREATE TABLE IF NOT EXISTS copied (batches INTEGER NOT NULL)"  # in a copy: the last batch there was ever
_UNTYPED = "~offline"  # begins the name of a batch that is only known by its vouchers; nobody can type it


class Admission:
    """Makes the row of a voucher that a site's copy doesn't know yet. Raises peewee.PeeweeException and UserError.

    Only of batches that were made after the copy was: of those before it the copy has all vouchers that are left.
    """

    def __init__(self, copy: peewee.Database, site: str, box: SecretBox, zone: ZoneInfo) -> None:
        self._database = copy
        self._box = box
        self._zone = zone
        row, (self._known_batches,) = self._one("key", site), self._one("copied")
        self._key = bytes.fromhex(box.open(row[0])) if row else None

    def make_known(self, typed: str, now: int) -> bool:
        """Whether a row was made for a code in any spelling."""
        name = voucher_code(typed)
        terms = None if self._key is None else read(self._key, name)
        if terms is None or terms.batch_id <= self._known_batches or ends_at(terms, self._zone) <= now:
            return False
        if self._one("account", name) or not self._one("plan", terms.plan_id):
            return False
        batch = (terms.batch_id, f"{_UNTYPED} {terms.batch_id}", terms.plan_id, ends_at(terms, self._zone), now)
        self._execute("add_batch", *batch)
        self._execute("add", name, self._box.seal(name), terms.plan_id, True, terms.batch_id, now, now)
        return True

    def _one(self, name: str, *values: object) -> Any:
        return self._execute(name, *values).fetchone()

    def _execute(self, name: str, *values: object) -> Any:
        return self._database.execute_sql(_SQL[name], values)
