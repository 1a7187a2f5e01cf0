"""Sales and payments out of a table: shown with what is wrong in which line, then recorded, each line once.

A line without a kind is money for what its account has open, the oldest charge first. One with a kind is a sale that
was paid at once. The same table brings nothing when it comes again; two lines that are alike in it are two payments.
"""

import csv
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appliance.accounts import manage, sales, vouchers, wording
from appliance.accounts.imports_csv import opened
from appliance.accounts.models import Account, Charge, Payment, core_db
from appliance.accounts.pieces import in_pieces
from appliance.config import Config
from appliance.errors import UserError

COLUMNS = ("date", "account", "amount", "currency", "method", "reference", "kind", "plan")
NEEDED = COLUMNS[:4]
KINDS = (sales.ACTIVATION, sales.RENEWAL)
MOST_LINES = 10_000
_MOST_TEXT = 200
_FIRST = "2000-01-01"  # a day before it is a slip


class Row(NamedTuple):
    """A line; `parts` are charges that it pays, with how much, where it isn't a sale itself."""

    line: int
    at: int
    account: Any
    amount_minor: int
    currency: str
    method: str
    reference: str
    kind: str
    plan: str
    source: str
    parts: tuple[tuple[Any, int], ...] = ()


@dataclass
class Table:
    """`known` are lines that were recorded before; `errors` are (line, what is wrong)."""

    rows: list[Row] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class _Open:
    """What accounts have open, less what lines before pay of it."""

    rest: dict[int, list[list[Any]]] = field(default_factory=dict)

    def take(self, account: Any, amount: int, currency: str) -> tuple[tuple[Any, int], ...]:
        rows = self.rest.setdefault(account.id, _open(account))
        mine = [row for row in rows if row[0].currency == currency and row[1]]
        there = sum(rest for _, rest in mine)
        if amount > there:
            said = vouchers.format_price(there, currency) if there else "nothing"
            raise UserError(f"{account.name} has {said} open: give a kind where it is a sale of its own")
        parts = []
        for row in mine:
            part = min(amount, row[1])
            if part:
                parts.append((row[0], part))
                row[1] -= part
                amount -= part
        return tuple(parts)


def _open(account: Any) -> list[list[Any]]:
    query = Charge.select().where((Charge.account_ref == account) & Charge.cancelled_at.is_null())
    return [[row, sales.open_minor(row)] for row in query.order_by(Charge.at, Charge.id)]


def read(content: bytes, config: Config) -> Table:
    """Raises UserError for what is no such table at all."""
    reader, header = opened(content)
    if missing := [name for name in NEEDED if name not in header]:
        raise UserError(f"the first line has to name the columns {', '.join(NEEDED)}; there is no {missing[0]}")
    if unknown := [name for name in header if name not in COLUMNS]:
        raise UserError(f"there is no column {unknown[0]!r}: there are {', '.join(COLUMNS)}")
    reader.fieldnames = header
    table, rest, times = Table(), _Open(), dict[str, int]()
    try:
        for row in reader:
            if reader.line_num > MOST_LINES + 1:
                raise UserError(f"more than {MOST_LINES:,} lines: cut the table into several files")
            _take(row, reader.line_num, table, rest, times, config)
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} can’t be read: {error}") from None
    if not (table.rows or table.known or table.errors):
        raise UserError("there is no line below the columns’ names")
    return table


def _take(
    given: Mapping[str, str], line: int, table: Table, rest: _Open, times: dict[str, int], config: Config
) -> None:
    words = {name: (given.get(name) or "").strip() for name in COLUMNS}
    plain = "\x1f".join(words.values())
    times[plain] = times.get(plain, 0) + 1
    source = "csv:" + hashlib.sha256(f"{plain}\x1f{times[plain]}".encode()).hexdigest()[:32]
    if Payment.get_or_none(Payment.source == source):
        table.known.append(line)
        return
    try:
        row = _row(words, line, source, config)
        if not row.kind:
            row = row._replace(parts=rest.take(row.account, row.amount_minor, row.currency))
    except UserError as error:
        table.errors.append((line, str(error)))
        return
    table.rows.append(row)


def _row(words: Mapping[str, str], line: int, source: str, config: Config) -> Row:
    account = Account.get_or_none((Account.name == words["account"]) & Account.batch.is_null())
    if account is None:
        raise UserError(f"there is no account {words['account']!r}")
    kind, currency = words["kind"].lower(), words["currency"].upper()
    if kind not in ("", *KINDS):
        raise UserError(f"{words['kind']!r} is no kind: write {' or '.join(KINDS)}, or leave it empty")
    amount = vouchers.parse_price(words["amount"].replace(",", "."), currency)
    if not amount:
        raise UserError("an amount is more than nothing")
    at = wording.local_time(words["date"], config)
    if at is None or not (wording.local_time(_FIRST, config) or 0) <= at <= time.time():
        raise UserError(f"{words['date']!r}: write a day or a time that has come, such as 2026-10-31")
    if any(len(words[name]) > _MOST_TEXT or not words[name].isprintable() for name in ("method", "reference")):
        raise UserError(f"method and reference have up to {_MOST_TEXT} printable characters")
    plan = words["plan"] or account.plan.name
    manage.name(plan, "plan")
    return Row(
        line, at, account, amount, currency, words["method"], words["reference"], kind, plan if kind else "", source
    )


def write(table: Table, noted: Callable[[], None] = lambda: None) -> int:
    """How many lines were recorded, in short writes; `noted` is done with the first. Raises UserError, with the line,
    where something changed since it was read: those before it stay, and aren't recorded again."""
    if table.errors:
        raise UserError(f"line {table.errors[0][0]}: {table.errors[0][1]}")
    first = True
    for piece in in_pieces(table.rows):
        with core_db.atomic():
            if first:
                noted()
                first = False
            for row in piece:
                _write(row)
    return len(table.rows)


def _write(row: Row) -> None:
    how = (row.at, row.method, row.reference)
    try:
        if row.kind:
            charge = sales.charge(
                row.kind, row.amount_minor, row.currency, row.at, row.source, account=row.account, plan=row.plan
            )
            sales.pay(charge, row.amount_minor, *how, row.source)
        for n, (charge, amount) in enumerate(row.parts):
            sales.pay(charge, amount, *how, f"{row.source}:{n}" if n else row.source)
    except UserError as error:
        raise UserError(f"line {row.line}: {error}") from None
