"""People and what they may do, as peewee models for commands and pages; the RADIUS path is in `lookup.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import peewee

core_db = peewee.DatabaseProxy()
# The sites that whoever asks is limited to (appliance/admin/reach.py); None is everywhere, as for all but pages.
reach: ContextVar[frozenset[str] | None] = ContextVar("reach", default=None)


@contextmanager
def everywhere() -> Iterator[None]:
    """For what has to hold for all rows, whoever asks; nothing that is read so may be shown."""
    token = reach.set(None)
    try:
        yield
    finally:
        reach.reset(token)


class CoreModel(peewee.Model):
    """A table of the core database."""

    class Meta:
        database = core_db
        legacy_table_names = False


class OfASite(CoreModel):
    """Rows that belong to a site: for who is limited to some sites there are no others."""

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        """The condition of the sites with these keys."""
        raise NotImplementedError

    @classmethod
    def select(cls, *fields: Any) -> Any:
        return cls._limited(super().select(*fields))

    @classmethod
    def update(cls, *data: Any, **values: Any) -> Any:
        return cls._limited(super().update(*data, **values))

    @classmethod
    def delete(cls) -> Any:
        return cls._limited(super().delete())

    @classmethod
    def _limited(cls, query: Any) -> Any:
        keys = reach.get()
        return query if keys is None else query.where(cls.within(keys))


def names_of_routers(keys: frozenset[str]) -> Any:
    """A query of those of these sites, without their model, which knows this one."""
    nas = peewee.Table("nas")
    return nas.select(nas.c.name).where(nas.c.site.in_(keys))


class Pool(CoreModel):
    """A named set of addresses from which a plan's guests get theirs."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)


class Plan(CoreModel):
    """What an account may do. None is no limit, a rate of 0 too; `windows` empty is always.

    `burst` is the rest of a Mikrotik-Rate-Limit after the rate. A used-up quota cuts, or slows down where a slow
    rate is given. `devices` is how many devices are remembered. `router_pool` names a pool on the router itself.
    `attributes` are further lines of a reply, as radclient(1) reads them. Times are UTC seconds.
    `price_minor` is in minor units (cents) of the ISO 4217 `currency`; 0 is free, and nothing is charged.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    rate_down_bps = peewee.BigIntegerField(default=0)
    rate_up_bps = peewee.BigIntegerField(default=0)
    windows = peewee.TextField(default="")
    session_timeout_s = peewee.IntegerField(null=True)
    validity_s = peewee.BigIntegerField(null=True)
    quota_bytes = peewee.BigIntegerField(null=True)
    quota_period = peewee.TextField(default="total")
    simultaneous = peewee.IntegerField(null=True)
    pool = peewee.ForeignKeyField(Pool, null=True, backref="plans")
    burst = peewee.TextField(default="")
    idle_timeout_s = peewee.IntegerField(null=True)
    slow_down_bps = peewee.BigIntegerField(default=0)
    slow_up_bps = peewee.BigIntegerField(default=0)
    devices = peewee.IntegerField(default=0)
    router_pool = peewee.TextField(default="")
    filter_id = peewee.TextField(default="")
    vlan = peewee.IntegerField(null=True)
    attributes = peewee.TextField(default="")
    changed_at = peewee.BigIntegerField(default=0)
    price_minor = peewee.BigIntegerField(default=0)
    currency = peewee.TextField(default="")


class VoucherBatch(CoreModel):
    """Vouchers that were made together; each of them is an account. Prices are in minor units (cents)."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    plan = peewee.ForeignKeyField(Plan, backref="batches")
    price_minor = peewee.BigIntegerField(default=0)
    currency = peewee.TextField(default="")
    unused_until = peewee.BigIntegerField(null=True)
    created_at = peewee.BigIntegerField()


class Account(CoreModel):
    """A person, device or voucher that logs in; times are UTC seconds, `password` is sealed (appliance/crypto.py).

    `overrides` is empty, or a JSON object of the plan's columns that are different for this account.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    password = peewee.BlobField()
    plan = peewee.ForeignKeyField(Plan, backref="accounts")
    enabled = peewee.BooleanField(default=True)
    address = peewee.TextField(null=True, unique=True)
    valid_until = peewee.BigIntegerField(null=True)
    first_login_at = peewee.BigIntegerField(null=True)
    created_at = peewee.BigIntegerField()
    overrides = peewee.TextField(default="")
    batch = peewee.ForeignKeyField(VoucherBatch, null=True, backref="vouchers")
    changed_at = peewee.BigIntegerField(default=0)


class Device(CoreModel):
    """A device that logs in by its MAC address, because its account's owner said "remember this device"."""

    mac = peewee.TextField(primary_key=True)
    account = peewee.ForeignKeyField(Account, backref="devices_known", on_delete="CASCADE")
    added_at = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField()


class LoginSlot(CoreModel):
    """A login that was granted and whose session hasn't begun yet counts as online until `held_until`."""

    account = peewee.ForeignKeyField(Account, on_delete="CASCADE")
    mac = peewee.TextField()
    held_until = peewee.BigIntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("account", "mac")


class PoolAddress(CoreModel):
    """One address of a pool; it is free when `held_until` (UTC seconds) has passed."""

    ip = peewee.TextField(primary_key=True)
    pool = peewee.ForeignKeyField(Pool, backref="addresses", on_delete="CASCADE")
    account = peewee.ForeignKeyField(Account, null=True, on_delete="SET NULL")
    mac = peewee.TextField(null=True)
    held_until = peewee.BigIntegerField(default=0)


class Session(OfASite):
    """What accounting told of one session. Input is from the guest, output to the guest (RFC 2866, 5.3).

    `raw_*` are the router's own counters as last seen. `granted_*` is what the router was told: rate, end of the
    session (UTC seconds) and octets of the whole session; None is not known, or no such limit. `check_at` is when
    the rules will say something else for it, `watch_octets` from how many octets on they may.
    """

    id = peewee.AutoField()
    unique_id = peewee.TextField(unique=True)
    account_ref = peewee.ForeignKeyField(Account, null=True, column_name="account_id", on_delete="SET NULL")
    account = peewee.TextField()
    nas = peewee.TextField()
    acct_session_id = peewee.TextField()
    mac = peewee.TextField()
    framed_ip = peewee.TextField(null=True)
    host_ip = peewee.TextField(null=True)
    started_at = peewee.BigIntegerField()
    updated_at = peewee.BigIntegerField()
    ended_at = peewee.BigIntegerField(null=True)
    terminate_cause = peewee.TextField(null=True)
    session_s = peewee.BigIntegerField(default=0)
    input_octets = peewee.BigIntegerField(default=0)
    output_octets = peewee.BigIntegerField(default=0)
    raw_input_octets = peewee.BigIntegerField(default=0)
    raw_output_octets = peewee.BigIntegerField(default=0)
    granted_rate = peewee.TextField(null=True)
    granted_until = peewee.BigIntegerField(null=True)
    granted_octets = peewee.BigIntegerField(null=True)
    check_at = peewee.BigIntegerField(default=0)
    watch_octets = peewee.BigIntegerField(null=True)

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.nas.in_(names_of_routers(keys))


class LiveChange(OfASite):
    """What a router is to be told about a running session; it is done when accounting shows that it took place."""

    id = peewee.AutoField()
    session = peewee.ForeignKeyField(Session, on_delete="CASCADE")
    kind = peewee.TextField()
    reason = peewee.TextField()
    state = peewee.TextField(default="pending")
    rate = peewee.TextField(null=True)
    until = peewee.BigIntegerField(null=True)
    octets = peewee.BigIntegerField(null=True)
    tries = peewee.IntegerField(default=0)
    created_at = peewee.BigIntegerField()
    next_try_at = peewee.BigIntegerField()
    acknowledged_at = peewee.BigIntegerField(null=True)
    ended_at = peewee.BigIntegerField(null=True)
    note = peewee.TextField(default="")

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        session = peewee.Table("session")
        return cls.session.in_(session.select(session.c.id).where(session.c.nas.in_(names_of_routers(keys))))


class JobLease(CoreModel):
    """Which process does a job, so that several appliances on one database don't do it twice."""

    name = peewee.TextField(primary_key=True)
    holder = peewee.TextField()
    held_until = peewee.BigIntegerField()


class AccountUsage(CoreModel):
    """Octets of an account on one day of the site's calendar; `day` is YYYYMMDD."""

    account = peewee.ForeignKeyField(Account, on_delete="CASCADE")
    day = peewee.IntegerField()
    input_octets = peewee.BigIntegerField(default=0)
    output_octets = peewee.BigIntegerField(default=0)

    class Meta:
        primary_key = peewee.CompositeKey("account", "day")


class Registration(CoreModel):
    """A guest who let themselves in, or asks for it. Times are UTC seconds.

    `kind` is free access, or how it is decided whether they may in; `contact` an e-mail address or a phone's number.
    `token` is the SHA-256 of what the mail's link carries, `mails` how many were sent. Terms were accepted at
    `created_at`. A device has one row of free access and one other at most.
    """

    id = peewee.AutoField()
    kind = peewee.TextField()
    state = peewee.TextField()
    mac = peewee.TextField()
    name = peewee.TextField(default="")
    contact = peewee.TextField(default="")
    language = peewee.TextField(default="")
    account = peewee.ForeignKeyField(Account, null=True, backref="registrations", on_delete="CASCADE")
    token = peewee.TextField(null=True, unique=True)
    token_until = peewee.BigIntegerField(null=True)
    mails = peewee.IntegerField(default=0)
    created_at = peewee.BigIntegerField()
    decided_at = peewee.BigIntegerField(null=True)
    decided_by = peewee.TextField(default="")


class Mail(CoreModel):
    """A message that waits to be sent, or couldn't be; `body` is sealed, as it may carry a one-time link.

    So is the attachment, where there is one, in Base64; its name has the ending that says what it is.
    """

    id = peewee.AutoField()
    recipient = peewee.TextField()
    subject = peewee.TextField()
    body = peewee.BlobField()
    state = peewee.TextField(default="waiting")
    tries = peewee.IntegerField(default=0)
    created_at = peewee.BigIntegerField()
    next_try_at = peewee.BigIntegerField()
    error = peewee.TextField(default="")
    attachment_name = peewee.TextField(default="")
    attachment = peewee.BlobField(null=True)


class Refusal(OfASite):
    """A refused login (refusals.py); it happened `times` times within a second or so of `at` (UTC seconds)."""

    id = peewee.AutoField()
    at = peewee.BigIntegerField()
    name = peewee.TextField()
    account = peewee.TextField()
    nas = peewee.TextField()
    mac = peewee.TextField()
    reason = peewee.TextField()
    times = peewee.BigIntegerField()

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.nas.in_(names_of_routers(keys))


class Traffic(CoreModel):
    """Octets of all sessions by the hour in which accounting told of them; `hour` is hours since the epoch."""

    hour = peewee.BigIntegerField(primary_key=True)
    input_octets = peewee.BigIntegerField()
    output_octets = peewee.BigIntegerField()


class Charge(CoreModel):
    """What somebody is to pay: a plan that began or went on, or a voucher that logged in for the first time.

    `account`, `batch` and `plan` are names of then. `source` says what it came from; nothing is charged twice.
    Times are UTC seconds, amounts minor units of `currency`.
    """

    id = peewee.AutoField()
    kind = peewee.TextField()
    account_ref = peewee.ForeignKeyField(Account, null=True, column_name="account_id", on_delete="SET NULL")
    account = peewee.TextField(default="")
    batch_ref = peewee.ForeignKeyField(VoucherBatch, null=True, column_name="batch_id", on_delete="SET NULL")
    batch = peewee.TextField(default="")
    plan = peewee.TextField(default="")
    amount_minor = peewee.BigIntegerField()
    currency = peewee.TextField()
    at = peewee.BigIntegerField()
    source = peewee.TextField(unique=True)
    recorded_at = peewee.BigIntegerField()
    cancelled_at = peewee.BigIntegerField(null=True)


class Payment(CoreModel):
    """Money that came in for a charge, perhaps a part of it; a refund is a payment below zero `refund_of` another."""

    id = peewee.AutoField()
    charge = peewee.ForeignKeyField(Charge, backref="payments")
    amount_minor = peewee.BigIntegerField()
    at = peewee.BigIntegerField()
    method = peewee.TextField(default="")
    reference = peewee.TextField(default="")
    refund_of = peewee.ForeignKeyField("self", null=True, column_name="refund_of")
    source = peewee.TextField(unique=True)
    recorded_at = peewee.BigIntegerField()


MODELS: tuple[Any, ...] = (
    Pool,
    Plan,
    VoucherBatch,
    Account,
    Device,
    LoginSlot,
    PoolAddress,
    Session,
    LiveChange,
    AccountUsage,
    Refusal,
    Traffic,
    JobLease,
    Registration,
    Mail,
    Charge,
    Payment,
)
