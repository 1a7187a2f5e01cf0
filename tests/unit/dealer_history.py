"""What must hold of a ledger after any history, checked from its rows anew."""

from collections import Counter, defaultdict
from typing import Any

from peewee import fn

from appliance.accounts.models import Charge, Payment
from appliance.config import Config
from appliance.dealers import earning, ledger, schemes
from appliance.dealers.models import (
    Dealer,
    Entry,
    Invoice,
    InvoicePayment,
    Posting,
    Settlement,
    SettlementLine,
)


def check() -> None:
    assert list(ledger.verify()) == []
    assert not Entry.select(fn.sum(Entry.amount_minor)).scalar()
    earned_once()
    each_charge_earns_what_it_should()
    each_posting_is_settled_once()
    numbers_have_no_gap()


def every(query: Any) -> list[Any]:
    return list(query)


def earned_once() -> None:
    times = Counter(row.source_id for row in Posting.select().where(Posting.source_type == "payment"))
    assert set(times.values()) <= {1}


def each_charge_earns_what_it_should() -> None:
    """Also when only a part is paid: never more than its part, and all of it with the last payment."""
    for charge in Charge.select():
        rows = every(Posting.select().where(Posting.charge == charge.source))
        if not rows:
            continue
        assert len({(row.dealer_id, row.scheme_version, row.whole_minor) for row in rows}) == 1
        taken = [row.source_id for row in rows if row.source_type == "payment"]
        paid = Payment.select(fn.sum(Payment.amount_minor)).where(Payment.source.in_(taken)).scalar()
        assert paid == sum(row.base_minor for row in rows)
        expected = schemes.share(rows[0].whole_minor, charge.amount_minor, paid)
        clawed = any(row.kind == "clawback" for row in rows)
        assert sum(row.amount_minor for row in rows) == (0 if clawed else expected)


def each_posting_is_settled_once() -> None:
    settled: dict[tuple[int, str], int] = defaultdict(int)
    for row in every(Settlement.select()):
        lines = [line.amount_minor for line in SettlementLine.select().where(SettlementLine.settlement == row)]
        assert sum(lines) == row.amount_minor > 0
        settled[row.dealer_id, row.currency] += row.amount_minor
    for dealer in Dealer.select():
        for currency in ledger.currencies(dealer):
            mine = (Posting.dealer == dealer) & (Posting.currency == currency)
            kinds = Posting.kind.in_(("commission", "refund", "clawback", "correction"))
            earned = Posting.select(fn.sum(Posting.amount_minor)).where(mine & kinds).scalar() or 0
            done = settled[dealer.id, currency]
            assert ledger.balance(dealer, currency, "accrued") == earned - done
            paid = paid_to(dealer, currency)
            vat = -ledger.balance(dealer, currency, "vat")
            assert ledger.balance(dealer, currency, "payable") == done + vat - paid
            assert ledger.balance(dealer, currency, "paid") == paid


def paid_to(dealer: Any, currency: str) -> int:
    query = InvoicePayment.select(fn.sum(InvoicePayment.amount_minor)).join(Invoice)
    return int(query.where((Invoice.dealer == dealer) & (Invoice.currency == currency)).scalar() or 0)


def numbers_have_no_gap() -> None:
    serials: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row in every(Invoice.select().where(Invoice.number.is_null(False))):
        serials[row.dealer_id, row.series].append(row.serial)
    for found in serials.values():
        assert sorted(found) == list(range(1, len(found) + 1))


def heads() -> dict[str, str]:
    return {row.name: ledger.head(row) for row in Dealer.select()}


def take_all(conf: Config, now: int) -> None:
    earning.catch_up(conf, now, limit=7)
