"""What a dealer's own pages know: nothing here can name another dealer, and what is another's isn't there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import peewee

from appliance.accounts import vouchers
from appliance.accounts.models import Account, Charge, Payment, Plan, Session, VoucherBatch
from appliance.accounts.terms import voucher_code
from appliance.config import Config
from appliance.dealers import credit, ledger, selling, statement
from appliance.dealers.models import (
    ACCOUNT,
    ACTIVE,
    BATCH,
    Attribution,
    Entry,
    Invoice,
    Posting,
    SchemeVersion,
    SettlementLine,
)
from appliance.dealers.selling_models import OPEN, RELEASED, Recall, Sale
from appliance.errors import Missing

EARNED = ("commission", "refund", "clawback", "correction")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Money:
    """Minor units of one currency: earned and still on hold, earned and free, on invoices, paid."""

    currency: str
    held: int
    free: int
    payable: int
    paid: int
    credit: int


@dataclass(frozen=True)
class Batch:
    """Vouchers of the dealer; `sale` is None where the provider has made them."""

    row: Any
    sale: Any


@dataclass(frozen=True)
class Voucher:
    account: Any
    state: str
    batch: Batch
    recall: Any


@dataclass(frozen=True)
class Commission:
    """A posting, and where it comes from; None for what there is no more, or never was."""

    posting: Any
    version: Any
    payment: Any
    charge: Any
    invoice: Any


class Own:
    def __init__(self, config: Config, dealer: Any, now: int) -> None:
        self.config = config
        self.dealer = dealer
        self.now = now

    @property
    def may_sell(self) -> bool:
        return bool(self.dealer.state == ACTIVE)

    # Money

    def money(self) -> list[Money]:
        """By currency, the dealer's own first."""
        found = ledger.currencies(self.dealer)
        return [self._money(currency) for currency in found or [self.dealer.currency]]

    def _money(self, currency: str) -> Money:
        accrued, payable, paid, left = (
            ledger.balance(self.dealer, currency, account)
            for account in (ledger.ACCRUED, ledger.PAYABLE, ledger.PAID, ledger.CREDIT)
        )
        late = (Posting.currency == currency) & Posting.kind.in_(EARNED) & (Posting.due_at > self.now)
        held = self._postings(peewee.fn.SUM(Posting.amount_minor)).where(late).scalar() or 0
        return Money(currency, int(held), accrued - int(held), payable, paid, left)

    def _postings(self, *columns: Any) -> Any:
        return Posting.select(*columns).where(Posting.dealer == self.dealer.id)

    def commissions(self) -> Any:
        return self._postings().where(Posting.kind.in_(EARNED))

    def credits(self) -> Any:
        """Postings that change the credit, with what it was after each."""
        mine = (Entry.dealer == self.dealer.id) & Entry.currency.in_(ledger.currencies(self.dealer))
        return Entry.select().join(Posting).where(mine & (Entry.account == ledger.CREDIT))

    def recorded(self, since: int, until: int) -> Any:
        """As a statement has them."""
        first, end = (statement.first_number(self.dealer, at) for at in (since, until))
        return self._postings().where((Posting.n >= first) & (Posting.n < end))

    def head(self, until: int) -> Any:
        """The last posting that was recorded before a time; None before the first."""
        return self._postings().where(Posting.n == statement.first_number(self.dealer, until) - 1).first()

    def first(self) -> int | None:
        """When the ledger began."""
        found = self._postings(Posting.recorded_at).order_by(Posting.n).first()
        return found.recorded_at if found else None

    def earned_since(self, at: int) -> int:
        mine = Posting.kind.in_(EARNED) & (Posting.at >= at) & (Posting.currency == self.dealer.currency)
        return int(self._postings(peewee.fn.SUM(Posting.amount_minor)).where(mine).scalar() or 0)

    def commission(self, number: str) -> Commission:
        posting = self.commissions().where(Posting.id == _number(number)).first()
        if posting is None:
            raise Missing("there is no such commission")
        payment = Payment.get_or_none(Payment.source == posting.source_id) if posting.source_type == "payment" else None
        charge = payment.charge if payment else Charge.get_or_none(Charge.source == posting.charge)
        line: Any = SettlementLine.get_or_none(SettlementLine.posting == posting.id)
        invoice = self._issued().where(Invoice.settlement == line.settlement_id).first() if line else None
        version = SchemeVersion.get_or_none(SchemeVersion.id == posting.scheme_version)
        return Commission(posting, version, payment, charge, invoice)

    def _issued(self) -> Any:
        return Invoice.select().where((Invoice.dealer == self.dealer.id) & Invoice.number.is_null(False))

    def invoices(self) -> Any:
        """Issued ones; a draft isn't the dealer's yet."""
        return self._issued()

    def invoice(self, number: str) -> Any:
        found = self._issued().where(Invoice.id == _number(number)).first()
        if found is None:
            raise Missing("there is no such invoice")
        return found

    # Selling

    def sales_today(self) -> tuple[int, int]:
        """Vouchers, and their price."""
        counted: Any = Sale.select(peewee.fn.SUM(Sale.count), peewee.fn.SUM(Sale.amount_minor)).where(
            (Sale.dealer == self.dealer.id) & Sale.at.between(*self.today()) & (Sale.state != RELEASED)
        )
        count, amount = counted.tuples().get()
        return int(count or 0), int(amount or 0)

    def today(self) -> tuple[int, int]:
        """Its first and last second."""
        local = datetime.fromtimestamp(self.now, self.config.site.timezone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return int(midnight.timestamp()), int((midnight + timedelta(days=1)).timestamp()) - 1

    def month(self) -> int:
        """When it began."""
        local = datetime.fromtimestamp(self.now, self.config.site.timezone)
        return int(local.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())

    def offers(self) -> list[selling.Offer]:
        return selling.offers(self.config, self.dealer, self.now)

    def available(self) -> int:
        return credit.available(self.dealer)

    def open_sales(self) -> list[Any]:
        return list(Sale.select().where((Sale.dealer == self.dealer.id) & (Sale.state == OPEN)).order_by(Sale.id))

    def sale(self, number: str) -> Any:
        found = Sale.get_or_none((Sale.id == _number(number)) & (Sale.dealer == self.dealer.id))
        if found is None:
            raise Missing("there is no such sale")
        return found

    def _attributed(self, kind: str, *columns: Any) -> Any:
        valid = (Attribution.valid_from <= self.now) & (
            Attribution.valid_to.is_null() | (Attribution.valid_to > self.now)
        )
        chosen = Attribution.select(*columns)
        return chosen.where((Attribution.dealer == self.dealer.id) & (Attribution.kind == kind) & valid)

    def batches(self) -> Any:
        return self._attributed(BATCH, Attribution.id, Attribution.ref, Attribution.name, Attribution.valid_from)

    def with_counts(self, rows: Sequence[Row]) -> list[Row]:
        """Batches with what core.db says of them, and what was paid."""
        refs = [row["ref"] for row in rows]
        made = {b.id: b for b in VoucherBatch.select(VoucherBatch, Plan).join(Plan).where(VoucherBatch.id.in_(refs))}
        sums, sold = vouchers.summary(self.now, refs), self._sold(refs)
        return [{**row, **_counted(made.get(row["ref"]), sums.get(row["ref"]), row["ref"] in sold)} for row in rows]

    def _sold(self, refs: Sequence[int]) -> set[int]:
        query: Any = Sale.select(Sale.batch_ref).where((Sale.dealer == self.dealer.id) & Sale.batch_ref.in_(refs))
        return {row[0] for row in query.tuples()}

    def batch(self, number: str) -> Batch:
        ref = _number(number)
        mine = self._attributed(BATCH).where(Attribution.ref == ref).exists()
        row = VoucherBatch.get_or_none(VoucherBatch.id == ref) if mine else None
        if row is None:
            raise Missing("there are no such vouchers")
        return Batch(row, Sale.get_or_none((Sale.batch_ref == ref) & (Sale.dealer == self.dealer.id)))

    def voucher(self, code: str) -> Voucher:
        """However it is typed."""
        query = vouchers.select(Account, vouchers.state(self.now).alias("state"), VoucherBatch.id.alias("batch_number"))
        found = query.where(Account.name == voucher_code(code)).objects().first()
        try:
            batch = self.batch(str(found.batch_number if found else 0))
        except Missing:
            raise Missing("there is no such voucher") from None
        return Voucher(found, found.state, batch, Recall.get_or_none(Recall.account == found.id))

    def codes(self, batch: Batch) -> list[tuple[str, str, int | None]]:
        return vouchers.codes(batch.row, self.now)

    # Customers

    def customers(self) -> Any:
        return self._attributed(ACCOUNT, Attribution.id, Attribution.ref, Attribution.name, Attribution.valid_from)

    def with_plans(self, rows: Sequence[Row]) -> list[Row]:
        """Customers with their plan, until when it is good, and whether they are online; nothing more is shown."""
        refs = [row["ref"] for row in rows]
        columns = (Account.id, Account.name, Account.enabled, Account.valid_until, Plan.name.alias("plan"))
        found: Any = Account.select(*columns).join(Plan).where(Account.id.in_(refs)).dicts()
        known = {row["id"]: row for row in found}
        online: Any = Session.select(Session.account_ref).where(
            Session.account_ref.in_(refs) & Session.ended_at.is_null()
        )
        there = {row[0] for row in online.tuples()}
        return [{**row, **_customer(known.get(row["ref"]), row["ref"] in there, self.now)} for row in rows]


def _counted(batch: Any, sums: Mapping[str, int] | None, sold: bool) -> Row:
    if batch is None:
        return {"plan": "", "price": "", "made": 0, "unused": 0, "used": 0, "by": "removed"}
    price = vouchers.format_price(batch.price_minor, batch.currency)
    counts = {key: (sums or {}).get(key, 0) for key in ("made", "unused", "used")}
    return {"plan": batch.plan.name, "price": price, **counts, "by": "sold here" if sold else "from the provider"}


def _customer(account: Row | None, online: bool, now: int) -> Row:
    if account is None:
        return {"plan": "", "until": None, "state": "removed"}
    over = account["valid_until"] is not None and account["valid_until"] <= now
    state = "online" if online else "blocked" if not account["enabled"] else "over" if over else "offline"
    return {"plan": account["plan"], "until": account["valid_until"], "state": state}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
