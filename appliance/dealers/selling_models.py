"""What ledger.db has of vouchers that dealers sell by themselves, and of their log-ins. Times are UTC seconds."""

import peewee

from appliance.dealers.models import Dealer, LedgerModel

OPEN, SOLD, RELEASED = "open", "sold", "released"  # states of a sale
ASKED, DONE, REFUSED = "asked", "done", "refused"  # states of a recall


class Sale(LedgerModel):
    """Credit that is set aside for vouchers: they follow, or it is released.

    `key` is of the form that was sent. `batch` is how the vouchers are called in core.db, `batch_ref` their batch's id
    there, once they are about to appear. `price_minor` is each one's.
    """

    id = peewee.AutoField()
    dealer = peewee.ForeignKeyField(Dealer, backref="sales")
    key = peewee.TextField()
    batch = peewee.TextField(unique=True)
    batch_ref = peewee.BigIntegerField(null=True, column_name="batch_id")
    plan = peewee.TextField()
    count = peewee.IntegerField()
    price_minor = peewee.BigIntegerField()
    amount_minor = peewee.BigIntegerField()
    currency = peewee.TextField()
    state = peewee.TextField(default=OPEN)
    at = peewee.BigIntegerField()
    done_at = peewee.BigIntegerField(null=True)


class Recall(LedgerModel):
    """A voucher (an account of core.db) that is taken back, once; refused where somebody has used it after all."""

    id = peewee.AutoField()
    sale = peewee.ForeignKeyField(Sale, backref="recalls")
    account = peewee.BigIntegerField(column_name="account_id", unique=True)
    code = peewee.TextField()
    state = peewee.TextField(default=ASKED)
    at = peewee.BigIntegerField()
    done_at = peewee.BigIntegerField(null=True)


class Failed(LedgerModel):
    """A wrong password (appliance/guesses.py)."""

    id = peewee.AutoField()
    subject = peewee.TextField()
    at_ms = peewee.BigIntegerField()


class Visit(LedgerModel):
    """Where from a dealer has logged in last."""

    dealer = peewee.ForeignKeyField(Dealer, primary_key=True)
    at = peewee.BigIntegerField()
    address = peewee.TextField()
