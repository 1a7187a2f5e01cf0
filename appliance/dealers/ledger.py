"""The ledger: double entry, append-only, each dealer's postings in a chain of hashes.

Every posting sums to zero. What is the dealer's own is positive where the provider owes it to them; `expense`, `bank`,
`sales` and `vat` are the provider's accounts against it.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from appliance.dealers.ledger_db import ledger_sql, writing
from appliance.dealers.models import Dealer, Posting

ACCRUED, PAYABLE, PAID, CREDIT, HOLD = OWN = ("accrued", "payable", "paid", "credit", "hold")
EXPENSE, BANK, SALES, VAT = PROVIDERS = ("expense", "bank", "sales", "vat")
ACCOUNTS = (*OWN, *PROVIDERS)

# By kind, the account whose change is the posting's amount. A correction is about its first entry's.
KINDS: Mapping[str, str] = {
    "commission": ACCRUED,
    "refund": ACCRUED,
    "clawback": ACCRUED,
    "settle": PAYABLE,
    "vat": PAYABLE,
    "payout": PAID,
    "top-up": CREDIT,
    "reserve": CREDIT,
    "sold": SALES,
    "release": CREDIT,
    "recall": CREDIT,
    "correction": "",
}
START = "0" * 64  # before a dealer's first posting

Source = tuple[str, str]  # of what kind, and its id there
_COLUMNS = (
    "dealer_id, n, kind, source_type, source_id, scheme_version, currency, amount_minor, at, due_at, charge,"
    " base_minor, volume_minor, whole_minor, rate, note, recorded_at"
)
_INSERT = f"INSERT INTO posting ({_COLUMNS}, hash) VALUES ({', '.join('?' * 18)}) RETURNING id"  # noqa: S608


class Basis(NamedTuple):
    """What a commission is on: the charge's source, the money received, the dealer's volume before the charge, and
    what the whole charge earns."""

    charge: str = ""
    base_minor: int = 0
    volume_minor: int = 0
    whole_minor: int = 0


class Line(NamedTuple):
    """A posting with its entries, in their order."""

    posting: Any
    entries: dict[str, int]


def post(
    dealer: Any,
    kind: str,
    source: Source,
    currency: str,
    entries: Mapping[str, int],
    at: int,
    scheme_version: int | None = None,
    rate: str = "",
    note: str = "",
    due_at: int | None = None,
    basis: Basis = Basis(),  # noqa: B008 - a tuple
) -> Any:
    """The Posting, or None where this source has had one of that kind before. Raises ValueError for what can't be.

    `dealer` is a Dealer or its id; entries of 0 are left out. `due_at` is when its hold is over.
    """
    made = write(dealer, kind, source, currency, entries, at, scheme_version, rate, note, due_at, basis)
    return None if made is None else Posting.get_by_id(made)


def write(
    dealer: Any,
    kind: str,
    source: Source,
    currency: str,
    entries: Mapping[str, int],
    at: int,
    scheme_version: int | None = None,
    rate: str = "",
    note: str = "",
    due_at: int | None = None,
    basis: Basis = Basis(),  # noqa: B008 - a tuple
) -> int | None:
    """As `post`, for many of them: only the new one's id."""
    moved = {account: amount for account, amount in entries.items() if amount}
    _balanced(kind, moved)
    number, version = int(getattr(dealer, "id", dealer)), scheme_version or 0
    with writing():
        if is_posted(number, kind, source, version):
            return None
        n, previous = last(number)
        about = KINDS[kind] or next(iter(entries))
        values = (
            *(number, n + 1, kind, *source, version, currency, moved.get(about, 0), at),
            *(at if due_at is None else due_at, *basis, rate, note, int(time.time())),
        )
        return insert(values, moved, previous)


def insert(values: tuple[Any, ...], entries: Mapping[str, int], previous: str) -> int:
    """The new posting's id; `values` are its columns but for the hash, in the order of `record`."""
    own = digest(previous, dict(zip(FIELDS, values, strict=True)) | {"entries": entries})
    (posting,) = ledger_sql(_INSERT, (*values, own)).fetchone()
    dealer, currency = values[0], values[6]
    for account, amount in entries.items():
        ledger_sql(
            "INSERT INTO entry (posting_id, dealer_id, currency, account, amount_minor, balance_minor)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (posting, dealer, currency, account, amount, balance(dealer, currency, account) + amount),
        )
    return int(posting)


def _balanced(kind: str, entries: Mapping[str, int]) -> None:
    if kind not in KINDS:
        raise ValueError(f"there is no kind of posting {kind!r}")
    if unknown := set(entries) - set(ACCOUNTS):
        raise ValueError(f"there is no account {min(unknown)!r}")
    if not all(type(amount) is int for amount in entries.values()):
        raise ValueError("amounts are whole minor units")
    if sum(entries.values()):
        raise ValueError(f"the entries sum to {sum(entries.values())}, not to zero")


# A posting is in the hash with these names, and with its entries.
FIELDS = tuple(name.strip().removesuffix("_id") if name.strip() == "dealer_id" else name.strip()
               for name in _COLUMNS.split(","))  # fmt: skip


def record(posting: Any, entries: Mapping[str, int]) -> dict[str, Any]:
    """What a posting's hash covers, as it stands in a statement."""
    values = {name: getattr(posting, name) for name in FIELDS if name != "dealer"}
    return {"dealer": posting.dealer_id, **values, "entries": dict(entries)}


def digest(previous: str, of: Mapping[str, Any]) -> str:
    """A posting's hash: SHA-256 over the hash before and the record as JSON, keys sorted, no spaces, UTF-8."""
    text = json.dumps(of, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(previous.encode() + text.encode()).hexdigest()


def is_posted(dealer: int, kind: str, source: Source, version: int = 0) -> bool:
    found = ledger_sql(
        "SELECT 1 FROM posting WHERE source_type = ? AND source_id = ? AND scheme_version = ? AND dealer_id = ?"
        " AND kind = ?",
        (*source, version, dealer, kind),
    )
    return found.fetchone() is not None


def last(dealer: int) -> tuple[int, str]:
    """Number and hash of a dealer's last posting."""
    text = "SELECT n, hash FROM posting WHERE dealer_id = ? ORDER BY n DESC LIMIT 1"
    return ledger_sql(text, (dealer,)).fetchone() or (0, START)


def head(dealer: Any) -> str:
    return last(int(getattr(dealer, "id", dealer)))[1]


# Looking


def balance(dealer: Any, currency: str, account: str | None = None, at: int | None = None) -> int:
    """Of an account of a dealer; without one what the provider owes for commissions. `at`: before that time (UTC s)."""
    if account is None:
        return sum(balance(dealer, currency, each, at) for each in (ACCRUED, PAYABLE))
    where = (int(getattr(dealer, "id", dealer)), currency, account)
    if at is None:
        text = (
            "SELECT balance_minor FROM entry WHERE dealer_id = ? AND currency = ? AND account = ?"
            " ORDER BY id DESC LIMIT 1"
        )
        row = ledger_sql(text, where).fetchone()
    else:
        text = (
            "SELECT coalesce(sum(e.amount_minor), 0) FROM posting p JOIN entry e ON e.posting_id = p.id"
            " WHERE p.dealer_id = ? AND p.currency = ? AND e.account = ? AND p.at < ?"
        )
        row = ledger_sql(text, (*where, at)).fetchone()
    return int(row[0]) if row else 0


def balances(dealer: Any, currency: str) -> dict[str, int]:
    """Of all accounts, those of the provider too."""
    return {account: balance(dealer, currency, account) for account in ACCOUNTS}


def currencies(dealer: Any) -> list[str]:
    """In which anything was posted, the dealer's own first."""
    number = int(getattr(dealer, "id", dealer))
    own = Dealer.get_by_id(number).currency
    found: list[str] = []
    while True:  # a step for each, not a look at every posting
        text = "SELECT min(currency) FROM posting WHERE dealer_id = ? AND currency > ?"
        after = ledger_sql(text, (number, found[-1] if found else "")).fetchone()[0]
        if after is None:
            return sorted(found, key=lambda currency: (currency != own, currency))
        found.append(after)


def entries_of(posting: Any) -> dict[str, int]:
    text = "SELECT account, amount_minor FROM entry WHERE posting_id = ? ORDER BY id"
    return dict(ledger_sql(text, (posting.id,)).fetchall())


def statement(dealer: Any, since: int | None = None, until: int | None = None) -> Iterator[Line]:
    """A dealer's postings that were recorded in that half-open time, in the order of the chain."""
    query = Posting.select().where(Posting.dealer == dealer).order_by(Posting.n)
    if since is not None:
        query = query.where(Posting.recorded_at >= since)
    if until is not None:
        query = query.where(Posting.recorded_at < until)
    for posting in query.iterator():
        yield Line(posting, entries_of(posting))


# Verifying


def verify(dealer: Any = None) -> Iterator[str]:
    """What isn't as it was written, or doesn't sum up; nothing when all is well."""
    chosen = [dealer] if dealer is not None else list(Dealer.select().order_by(Dealer.name))
    for each in chosen:
        yield from _verify(each)


def _verify(dealer: Any) -> Iterator[str]:
    previous, n = START, 0
    sums: dict[tuple[str, str], int] = {}
    for row, entries in _chain(dealer.id):
        where, n = f"dealer {dealer.name}, posting {row[1]}", n + 1
        own, values = row[-1], row[:-1]
        if row[1] != n:
            yield f"{where}: posting {n} isn't there"
            n = row[1]
        moved = {account: amount for account, amount, _ in entries}
        if digest(previous, dict(zip(FIELDS, values, strict=True)) | {"entries": moved}) != own:
            yield f"{where}: it isn't what was written, or something before it is gone"
        if sum(moved.values()) or len(moved) != len(entries):
            yield f"{where}: its entries don't sum to zero"
        for account, amount, after in entries:
            key = (values[6], account)
            sums[key] = sums.get(key, 0) + amount
            if sums[key] != after:
                yield f"{where}: {account} is {sums[key]} {values[6]} after it, and stands there as {after}"
                sums[key] = after
        previous = own


def _chain(dealer: int) -> Iterator[tuple[tuple[Any, ...], list[tuple[str, int, int]]]]:
    """A posting's columns and its entries (account, amount, balance), some thousand at a time."""
    text, after = f"SELECT {_COLUMNS}, hash, id FROM posting WHERE dealer_id = ? AND n > ? ORDER BY n LIMIT 2000", -1  # noqa: S608
    while rows := ledger_sql(text, (dealer, after)).fetchall():
        found: dict[int, list[tuple[str, int, int]]] = {row[-1]: [] for row in rows}
        entries = ledger_sql(
            "SELECT e.posting_id, e.account, e.amount_minor, e.balance_minor FROM posting p"
            " JOIN entry e ON e.posting_id = p.id WHERE p.dealer_id = ? AND p.n > ? AND p.n <= ? ORDER BY e.id",
            (dealer, after, rows[-1][1]),
        )
        for posting, *entry in entries.fetchall():
            found[posting].append(tuple(entry))
        yield from ((row[:-1], found[row[-1]]) for row in rows)
        after = rows[-1][1]
