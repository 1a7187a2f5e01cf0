"""What ledger.db has, as peewee models. Times are UTC seconds, money is minor units (cents) of an ISO 4217 currency."""

from typing import Any

import peewee

ledger_db = peewee.DatabaseProxy()

ACTIVE, SUSPENDED, ENDED = "active", "suspended", "ended"  # states of a dealer
PAYER, NON_PAYER, FOREIGN = "payer", "non-payer", "foreign"  # how a dealer stands to value added tax
ACCOUNT, BATCH = "account", "batch"  # what is attributed to a dealer


class LedgerModel(peewee.Model):
    """A table of ledger.db."""

    class Meta:
        database = ledger_db
        legacy_table_names = False


class Dealer(LedgerModel):
    """`country` is ISO 3166 (two letters), `vat_rate` a decimal percent or empty, `password` an argon2id hash or empty.

    Contract and agreement on self-billing hold from .. until, half-open, None is open. Limits of 0 are none, except for
    the credit, which a dealer has to have paid before: `credit_limit_minor` is how far below zero it may go.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    state = peewee.TextField(default=ACTIVE)
    contact = peewee.TextField(default="")
    email = peewee.TextField(default="")
    phone = peewee.TextField(default="")
    street = peewee.TextField(default="")
    house = peewee.TextField(default="")
    city = peewee.TextField(default="")
    postcode = peewee.TextField(default="")
    country = peewee.TextField(default="")
    company_id = peewee.TextField(default="")
    vat_id = peewee.TextField(default="")
    tax = peewee.TextField(default=NON_PAYER)
    vat_rate = peewee.TextField(default="")
    iban = peewee.TextField(default="")
    bic = peewee.TextField(default="")
    currency = peewee.TextField(default="EUR")
    contract = peewee.TextField(default="")
    contract_from = peewee.BigIntegerField(null=True)
    contract_until = peewee.BigIntegerField(null=True)
    self_billing_from = peewee.BigIntegerField(null=True)
    self_billing_until = peewee.BigIntegerField(null=True)
    login = peewee.TextField(null=True, unique=True)
    password = peewee.TextField(default="")
    credit_limit_minor = peewee.BigIntegerField(default=0)
    batch_limit = peewee.IntegerField(default=0)
    day_limit_minor = peewee.BigIntegerField(default=0)
    created_at = peewee.BigIntegerField()
    changed_at = peewee.BigIntegerField()


class Attribution(LedgerModel):
    """An account or a batch of core.db (`ref` is its id, `name` how it is called) is a dealer's in a half-open time.

    `taken_at` is when the sales of that time, which may have passed already, were taken over.
    """

    id = peewee.AutoField()
    dealer = peewee.ForeignKeyField(Dealer, backref="attributions")
    kind = peewee.TextField()
    ref = peewee.IntegerField()
    name = peewee.TextField()
    valid_from = peewee.BigIntegerField()
    valid_to = peewee.BigIntegerField(null=True)
    taken_at = peewee.BigIntegerField(null=True)


class Scheme(LedgerModel):
    """What dealers earn, by a name; how much stands in its versions."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    created_at = peewee.BigIntegerField()


class SchemeVersion(LedgerModel):
    """Never changed. `terms` is JSON (schemes.py); sales since `valid_from` are under it, until the next version's."""

    id = peewee.AutoField()
    scheme = peewee.ForeignKeyField(Scheme, backref="versions")
    number = peewee.IntegerField()
    valid_from = peewee.BigIntegerField()
    terms = peewee.TextField()
    created_at = peewee.BigIntegerField()


class DealerScheme(LedgerModel):
    """Under which scheme a dealer sells, in a half-open time; `taken_at` as in Attribution."""

    id = peewee.AutoField()
    dealer = peewee.ForeignKeyField(Dealer, backref="schemes")
    scheme = peewee.ForeignKeyField(Scheme)
    valid_from = peewee.BigIntegerField()
    valid_to = peewee.BigIntegerField(null=True)
    taken_at = peewee.BigIntegerField(null=True)


class Posting(LedgerModel):
    """One balanced set of entries, the dealer's `n`-th; never changed. `hash` covers it and the hash before.

    `scheme_version` is a SchemeVersion's id, or 0. `amount_minor` is what the kind is about (ledger.KINDS). `at` is
    when it happened, `due_at` when its hold is over. A commission has the `charge` (its source in core.db) that it is
    for, the money `base_minor` that it is on, the dealer's volume before that charge, and what all of it earns.
    """

    id = peewee.AutoField()
    dealer = peewee.ForeignKeyField(Dealer, backref="postings")
    n = peewee.IntegerField()
    kind = peewee.TextField()
    source_type = peewee.TextField()
    source_id = peewee.TextField()
    scheme_version = peewee.IntegerField(default=0)
    currency = peewee.TextField()
    amount_minor = peewee.BigIntegerField()
    at = peewee.BigIntegerField()
    due_at = peewee.BigIntegerField()
    charge = peewee.TextField(default="")
    base_minor = peewee.BigIntegerField(default=0)
    volume_minor = peewee.BigIntegerField(default=0)
    whole_minor = peewee.BigIntegerField(default=0)
    rate = peewee.TextField(default="")
    note = peewee.TextField(default="")
    recorded_at = peewee.BigIntegerField()
    hash = peewee.TextField()


class Entry(LedgerModel):
    """`balance_minor` is the account's after it, so that no balance needs a sum."""

    id = peewee.AutoField()
    posting = peewee.ForeignKeyField(Posting, backref="entries")
    dealer = peewee.ForeignKeyField(Dealer)
    currency = peewee.TextField()
    account = peewee.TextField()
    amount_minor = peewee.BigIntegerField()
    balance_minor = peewee.BigIntegerField()


class Cursor(LedgerModel):
    """How far core.db has been read."""

    name = peewee.TextField(primary_key=True)
    value = peewee.BigIntegerField()


class Settlement(LedgerModel):
    """What a dealer is due for a period such as 2026-10, once. `since` .. `until` is half-open."""

    id = peewee.AutoField()
    dealer = peewee.ForeignKeyField(Dealer, backref="settlements")
    currency = peewee.TextField()
    period = peewee.TextField()
    since = peewee.BigIntegerField()
    until = peewee.BigIntegerField()
    amount_minor = peewee.BigIntegerField()
    at = peewee.BigIntegerField()
    who = peewee.TextField()


class SettlementLine(LedgerModel):
    """A posting is settled once."""

    posting = peewee.ForeignKeyField(Posting, primary_key=True)
    settlement = peewee.ForeignKeyField(Settlement, backref="lines")
    amount_minor = peewee.BigIntegerField()


class Invoice(LedgerModel):
    """The dealer's bill to the provider, written for them; a credit note `corrects` one.

    `number` is None for a draft; with it all but its mailing and cancelling is frozen, the parties as JSON too.
    """

    id = peewee.AutoField()
    dealer = peewee.ForeignKeyField(Dealer, backref="invoices")
    settlement = peewee.ForeignKeyField(Settlement, null=True, backref="invoices")
    kind = peewee.TextField(default="invoice")
    corrects = peewee.ForeignKeyField("self", null=True, unique=True)
    series = peewee.TextField(default="")
    serial = peewee.IntegerField(null=True)
    number = peewee.TextField(null=True)
    currency = peewee.TextField()
    period = peewee.TextField(default="")
    since = peewee.BigIntegerField(null=True)
    until = peewee.BigIntegerField(null=True)
    seller = peewee.TextField()
    buyer = peewee.TextField()
    vat_category = peewee.TextField(default="")
    vat_rate = peewee.TextField(default="")
    net_minor = peewee.BigIntegerField()
    vat_minor = peewee.BigIntegerField()
    total_minor = peewee.BigIntegerField()
    note = peewee.TextField(default="")
    created_at = peewee.BigIntegerField()
    issued_at = peewee.BigIntegerField(null=True)
    due_at = peewee.BigIntegerField(null=True)
    cancelled_at = peewee.BigIntegerField(null=True)
    reason = peewee.TextField(default="")
    mailed_at = peewee.BigIntegerField(null=True)


class InvoiceLine(LedgerModel):
    id = peewee.AutoField()
    invoice = peewee.ForeignKeyField(Invoice, backref="lines", on_delete="CASCADE")
    n = peewee.IntegerField()
    text = peewee.TextField()
    quantity = peewee.IntegerField(default=1)
    price_minor = peewee.BigIntegerField()
    net_minor = peewee.BigIntegerField()


class InvoiceCounter(LedgerModel):
    """The last number that was given in a dealer's series."""

    dealer = peewee.ForeignKeyField(Dealer)
    series = peewee.TextField()
    last = peewee.IntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("dealer", "series")


class Payout(LedgerModel):
    """A file of transfers for the bank; `execute_on` is a day such as 2026-11-30."""

    id = peewee.AutoField()
    currency = peewee.TextField()
    message_id = peewee.TextField(unique=True)
    execute_on = peewee.TextField()
    total_minor = peewee.BigIntegerField()
    created_at = peewee.BigIntegerField()
    who = peewee.TextField()
    closed_at = peewee.BigIntegerField(null=True)


class PayoutLine(LedgerModel):
    """One transfer of it, to the account that the dealer had then."""

    id = peewee.AutoField()
    payout = peewee.ForeignKeyField(Payout, backref="lines")
    invoice = peewee.ForeignKeyField(Invoice)
    dealer = peewee.ForeignKeyField(Dealer)
    amount_minor = peewee.BigIntegerField()
    end_to_end = peewee.TextField(unique=True)
    name = peewee.TextField()
    iban = peewee.TextField()
    bic = peewee.TextField(default="")
    state = peewee.TextField(default="sent")
    done_at = peewee.BigIntegerField(null=True)


class InvoicePayment(LedgerModel):
    """Money that was paid for an invoice; `source` keeps a line of a bank statement from counting twice."""

    id = peewee.AutoField()
    invoice = peewee.ForeignKeyField(Invoice, backref="payments")
    payout_line = peewee.ForeignKeyField(PayoutLine, null=True, unique=True)
    amount_minor = peewee.BigIntegerField()
    at = peewee.BigIntegerField()
    reference = peewee.TextField(default="")
    source = peewee.TextField(unique=True)
    recorded_at = peewee.BigIntegerField()
    who = peewee.TextField(default="")


MODELS: tuple[Any, ...] = (
    Dealer,
    Attribution,
    Scheme,
    SchemeVersion,
    DealerScheme,
    Posting,
    Entry,
    Cursor,
    Settlement,
    SettlementLine,
    Invoice,
    InvoiceLine,
    InvoiceCounter,
    Payout,
    PayoutLine,
    InvoicePayment,
)
