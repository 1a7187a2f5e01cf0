"""Sales of core.db become postings of the ledger, each payment once.

What a charge earns is settled when its first payment is taken over: whose it is, by which version of a scheme, at
which volume, how much in whole. Each later payment brings its part of that, and the last one exactly the rest.
"""

import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import peewee

from appliance.accounts import sales
from appliance.accounts.models import core_db
from appliance.accounts.pieces import execute
from appliance.config import Config
from appliance.dealers import agreements, attribution, ledger, schemes
from appliance.dealers.ledger_db import ledger_sql, writing
from appliance.dealers.models import ACCOUNT, BATCH, Attribution, Cursor, DealerScheme, SchemeVersion
from appliance.dealers.schemes import DAY_S, Facts, Terms
from appliance.errors import UserError

PAYMENT, CHARGE, HAND = "payment", "charge", "hand"  # types of sources
TAKEN, MARK, WHOLE = "payment", "payment_mark", "first_logins"  # cursors
MOST_NOTE = 200  # characters
_PIECE = 25  # sales in one write to the ledger, so that it takes some 20 ms
_WAITS_MS = 200  # for those who are writing payments, while others wait to begin
SALE = (
    "SELECT p.id, p.amount_minor, p.at, p.source, c.source, c.kind, c.account_id, c.account, c.batch_id, c.plan,"
    " c.amount_minor, c.currency, c.at,"
    " coalesce((SELECT min(f.at) FROM charge f WHERE f.account_id = c.account_id AND f.cancelled_at IS NULL),"
    " (SELECT min(f.at) FROM charge f WHERE c.account_id IS NULL AND c.batch_id IS NULL AND f.account_id IS NULL"
    " AND f.batch_id IS NULL AND f.account = c.account AND f.cancelled_at IS NULL), c.at)"
    " FROM payment p JOIN charge c ON c.id = p.charge_id"
)


class Sale(NamedTuple):
    """A payment, and the charge that it is for; `began_at` is when the customer's first charge was."""

    id: int
    paid_minor: int
    paid_at: int
    source: str
    charge: str
    kind: str
    account_id: int | None
    account: str
    batch_id: int | None
    plan: str
    amount_minor: int
    currency: str
    at: int
    began_at: int


class Standing(NamedTuple):
    """What a charge earns in whole, as it was settled with its first payment, and what was taken over since."""

    whole_minor: int
    volume_minor: int
    rate: str
    why: str
    paid_minor: int = 0
    accrued_minor: int = 0
    clawed_back: bool = False


def begin(terms: Terms, facts: Facts, volume_before: int) -> Standing:
    """Of a charge that nothing was taken over of."""
    volume = max(0, volume_before)
    whole = schemes.whole(terms, facts, volume)
    return Standing(schemes.rounded(whole.minor), volume, whole.rate, whole.why)


def step(before: Standing, charge_minor: int, paid_minor: int) -> tuple[int, Standing]:
    """What one more payment, or a refund below zero, brings: what the charge earns by then, less what it has."""
    paid = before.paid_minor + paid_minor
    target = 0 if before.clawed_back else schemes.share(before.whole_minor, charge_minor, paid)
    return target - before.accrued_minor, before._replace(paid_minor=paid, accrued_minor=target)


def facts(sale: Sale, config: Config) -> Facts:
    zone = config.site.timezone
    return Facts(sale.kind, sale.plan, sale.amount_minor, sale.currency, sale.at, sale.began_at, zone)


# Taking over


def take_over(config: Config, now: int | None = None, limit: int = 5000) -> int:
    """Some of what is new in core.db, in short writes; returns how many postings were made.

    A killed one is gone on with by the next. Several may run at a time.
    """
    return _take_over(config, int(time.time()) if now is None else now, limit, 0, _bound())[0]


def catch_up(config: Config, now: int | None = None, limit: int = 5000) -> int:
    """All of it, as before a month ends."""
    now, made, seen, bound = int(time.time()) if now is None else now, 0, 0, _bound()
    while True:
        more, last, is_all = _take_over(config, now, limit, seen, bound)
        made, seen = made + more, max(seen, last)
        if is_all:
            return made


def _take_over(config: Config, now: int, limit: int, seen: int, bound: int) -> tuple[int, int, bool]:
    """How many postings, the last payment that was looked at, and whether there is nothing more after it."""
    logins = _first_logins(now, limit)
    before = _newly_attributed(config, now)
    made, payments, last = _new_payments(config, limit, seen, bound)
    return before + made + _claw_back(config, now), last, logins < limit and payments < limit


def _first_logins(now: int, limit: int) -> int:
    """All of them once a day, as the clock of a router may have been wrong."""
    if now - _cursor(WHOLE) < DAY_S:
        return sales.record_first_logins(now, limit=limit)
    found = sales.record_first_logins(now, since=0, limit=limit)
    if found < limit:
        attribution.forget_erased()
        with writing():
            _move(WHOLE, now)
    return found


def _new_payments(config: Config, limit: int, seen: int, bound: int) -> tuple[int, int, int]:
    """How many postings were made, of how many payments, and the last one; those after the bound are looked at again.

    The bound is from before the first look, so that nothing appears below a payment that was seen already.
    """
    text = f"{SALE} WHERE p.id > ? ORDER BY p.id LIMIT ?"
    found = [Sale(*row) for row in execute(text, max(seen, _after()), limit).fetchall()]
    made = 0
    for piece in _pieces(found):
        settled = [sale for sale in piece if sale.id <= bound]
        with writing():
            made += _take(piece, config)
            if settled and settled[-1].id > _cursor(TAKEN):
                _move(TAKEN, settled[-1].id)
                _move(MARK, _mark(settled[-1].source))
    return made, len(found), found[-1].id if found else 0


def _bound() -> int:
    """No payment appears any more whose id is at most that.

    PostgreSQL gives ids before commits, so one with a lower id than others may appear after them: unless, for a
    moment, nobody is writing any. Where somebody is, what there is is taken, and looked at again the next time.
    """
    if core_db.param == "?":
        return 2**62
    try:
        with core_db.atomic() as look:
            execute(f"SET LOCAL lock_timeout = {_WAITS_MS}")
            execute("LOCK TABLE payment IN SHARE MODE")
            (last,) = execute("SELECT coalesce(max(id), 0) FROM payment").fetchone()
            look.rollback()  # so that nobody waits until a longer write around this ends
            return int(last)
    except peewee.OperationalError:
        return 0


def _after() -> int:
    """The last payment that was taken over; 0 when core.db isn't the one that it was in, so that all are looked at."""
    after = _cursor(TAKEN)
    row = execute("SELECT source FROM payment WHERE id = ?", after).fetchone()
    if after and (row is None or _mark(row[0]) != _cursor(MARK)):
        with writing():
            _move(TAKEN, 0)
        return 0
    return after


def _mark(source: str) -> int:
    return zlib.crc32(source.encode())


def _pieces(found: Iterable[Sale]) -> Iterator[list[Sale]]:
    rest = iter(found)
    while piece := list(islice(rest, _PIECE)):
        yield piece


def _cursor(name: str) -> int:
    row = Cursor.get_or_none(Cursor.name == name)
    return int(row.value) if row else 0


def _move(name: str, value: int) -> None:
    text = "INSERT INTO cursor (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    ledger_sql(text, (name, value))


@dataclass
class _Versions:
    """Terms by the id of their version, read once."""

    known: dict[int, Terms] = field(default_factory=dict)

    def terms(self, version: int) -> Terms:
        if version not in self.known:
            self.known[version] = schemes.parse(SchemeVersion.get_by_id(version).terms)
        return self.known[version]


class _Seen(NamedTuple):
    """What the ledger has of a charge."""

    dealer: int
    version: int
    standing: Standing
    due_at: int
    payments: frozenset[str]


def _take(piece: list[Sale], config: Config) -> int:
    """Inside of a write: what isn't there yet of these payments."""
    versions = _Versions()
    return sum(_take_one(sale, versions, config) for sale in piece)


def _take_one(sale: Sale, versions: _Versions, config: Config) -> bool:
    seen = _seen(sale.charge) or _first_look(sale, versions, config)
    if seen is None or sale.source in seen.payments:
        return False
    was, refund = seen.standing, sale.paid_minor < 0
    amount, _ = step(was, sale.amount_minor, sale.paid_minor)
    posting = ledger.write(
        seen.dealer,
        "refund" if refund else "commission",
        (PAYMENT, sale.source),
        sale.currency,
        {ledger.ACCRUED: amount, ledger.EXPENSE: -amount},
        sale.paid_at,
        seen.version,
        was.rate,
        "its customer left before" if was.clawed_back else was.why,
        max(seen.due_at, sale.paid_at) if refund else schemes.due_at(versions.terms(seen.version), sale.paid_at),
        ledger.Basis(sale.charge, sale.paid_minor, was.volume_minor, was.whole_minor),
    )
    return posting is not None


def _seen(charge: str) -> _Seen | None:
    rows = ledger_sql(
        "SELECT dealer_id, scheme_version, whole_minor, volume_minor, rate, note, base_minor, amount_minor, kind,"
        " due_at, source_type, source_id FROM posting WHERE charge = ? AND charge <> '' ORDER BY id",
        (charge,),
    ).fetchall()
    if not rows:
        return None
    dealer, version, whole, volume, rate, why = rows[0][:6]
    standing = Standing(
        *(whole, volume, rate, why),
        paid_minor=sum(row[6] for row in rows),
        accrued_minor=sum(row[7] for row in rows),
        clawed_back=any(row[8] == "clawback" for row in rows),
    )
    payments = frozenset(row[11] for row in rows if row[10] == PAYMENT)
    return _Seen(dealer, version, standing, max(row[9] for row in rows), payments)


def _first_look(sale: Sale, versions: _Versions, config: Config) -> _Seen | None:
    """Whose the charge was in its time, and under which version of a scheme; None for nobody's."""
    dealer = owner(sale)
    version = agreements.version_id_at(dealer, sale.at) if dealer else None
    if dealer is None or version is None:
        return None
    terms, volume = versions.terms(version), 0
    if terms.of_plan(sale.plan).tiers:
        volume = _volume(dealer, sale.currency, schemes.volume_span(terms, sale.paid_at, config.site.timezone))
    return _Seen(dealer, version, begin(terms, facts(sale, config), volume), 0, frozenset())


def owner(sale: Sale) -> int | None:
    """The id of the dealer whose customer or batch it was at the time of the charge."""
    where = "valid_from <= ? AND (valid_to IS NULL OR valid_to > ?) ORDER BY valid_from DESC, id DESC LIMIT 1"
    for kind, ref in holders(sale):
        by = "ref" if isinstance(ref, int) else "name"
        text = f"SELECT dealer_id FROM attribution WHERE kind = ? AND {by} = ? AND {where}"  # noqa: S608
        row = ledger_sql(text, (kind, ref, sale.at, sale.at)).fetchone()
        if row:
            return int(row[0])
    return None


def holders(sale: Sale) -> Iterator[tuple[str, int | str]]:
    """What may be a dealer's: the account, then the batch. An account that is gone since is known by its name."""
    if sale.account_id is not None:
        yield ACCOUNT, sale.account_id
    elif sale.account and sale.batch_id is None:
        yield ACCOUNT, sale.account
    if sale.batch_id is not None:
        yield BATCH, sale.batch_id


def _volume(dealer: int, currency: str, span: tuple[int, int]) -> int:
    text = (
        "SELECT coalesce(sum(base_minor), 0) FROM posting WHERE dealer_id = ? AND currency = ? AND at >= ? AND at < ?"
    )
    return int(ledger_sql(text, (dealer, currency, *span)).fetchone()[0])


# What was sold before it was known whose it is


def _newly_attributed(config: Config, now: int) -> int:
    """Sales of the time of an attribution, or of a scheme, that was entered since the last look."""
    made = 0
    for row in list(Attribution.select().where(Attribution.taken_at.is_null())):
        made += _look_again(row, row.valid_from, row.valid_to, config)
        Attribution.update(taken_at=now).where(Attribution.id == row.id).execute()
    for scheme in list(DealerScheme.select().where(DealerScheme.taken_at.is_null())):
        for row in list(Attribution.select().where(Attribution.dealer == scheme.dealer)):
            made += _look_again(row, scheme.valid_from, scheme.valid_to, config)
        DealerScheme.update(taken_at=now).where(DealerScheme.id == scheme.id).execute()
    return made


def _look_again(row: Any, since: int, until: int | None, config: Config) -> int:
    column = {ACCOUNT: "c.account_id", BATCH: "c.batch_id"}[row.kind]
    span = (since, 2**62 if until is None else until)
    text = f"{SALE} WHERE {column} = ? AND c.at >= ? AND c.at < ? ORDER BY c.at, c.id, p.id"
    made = 0
    for piece in _pieces(Sale(*found) for found in execute(text, row.ref, *span).fetchall()):
        with writing():
            made += _take(piece, config)
    return made


# Taking back


def _claw_back(config: Config, now: int) -> int:
    """What an activation earned goes back when its account is removed within the scheme's days."""
    days = max((schemes.parse(row.terms).clawback_days for row in SchemeVersion.select()), default=0)
    if not days:
        return 0
    gone = execute(
        "SELECT source, at, currency FROM charge WHERE at > ? AND kind = ? AND account_id IS NULL AND batch_id IS NULL",
        now - days * DAY_S, sales.ACTIVATION,
    )  # fmt: skip
    return sum(_claw_back_one(source, at, currency, now) for source, at, currency in gone.fetchall())


def _claw_back_one(charge: str, at: int, currency: str, now: int) -> bool:
    versions = _Versions()
    with writing():
        seen = _seen(charge)
        if seen is None or seen.standing.clawed_back or not seen.standing.accrued_minor:
            return False
        terms = versions.terms(seen.version)
        if now >= at + terms.clawback_days * DAY_S:
            return False
        back = -seen.standing.accrued_minor
        posting = ledger.post(
            seen.dealer,
            "clawback",
            (CHARGE, charge),
            currency,
            {ledger.ACCRUED: back, ledger.EXPENSE: -back},
            now,
            seen.version,
            note=f"the customer left within {terms.clawback_days} days",
            due_at=max(seen.due_at, now),
            basis=ledger.Basis(charge, 0, seen.standing.volume_minor, seen.standing.whole_minor),
        )
        return posting is not None


def correct(dealer: Any, currency: str, amount_minor: int, note: str, now: int) -> Any:
    """By hand: what a dealer is owed more, or less, and why, as it stands on their invoice. Raises UserError."""
    if not note.isprintable() or not 0 < len(note) <= MOST_NOTE:
        raise UserError(f"a reason is needed, on one line of {MOST_NOTE} characters at most")
    entries = {ledger.ACCRUED: amount_minor, ledger.EXPENSE: -amount_minor}
    return ledger.post(dealer, "correction", (HAND, sales.own_source(HAND)), currency, entries, now, note=note)
