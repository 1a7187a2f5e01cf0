"""People and what they may do, as peewee models for commands and pages; the RADIUS path is in `lookup.py`."""

from typing import Any

import peewee

core_db = peewee.DatabaseProxy()


class _Core(peewee.Model):
    class Meta:
        database = core_db
        legacy_table_names = False


class Pool(_Core):
    """A named set of addresses from which a plan's guests get theirs."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)


class Plan(_Core):
    """What an account may do. None is no limit, a rate of 0 too; `windows` empty is always."""

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


class Account(_Core):
    """A person or device that logs in; times are UTC seconds, `password` is sealed (appliance/crypto.py)."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    password = peewee.BlobField()
    plan = peewee.ForeignKeyField(Plan, backref="accounts")
    enabled = peewee.BooleanField(default=True)
    address = peewee.TextField(null=True, unique=True)
    valid_until = peewee.BigIntegerField(null=True)
    first_login_at = peewee.BigIntegerField(null=True)
    created_at = peewee.BigIntegerField()


class PoolAddress(_Core):
    """One address of a pool; it is free when `held_until` (UTC seconds) has passed."""

    ip = peewee.TextField(primary_key=True)
    pool = peewee.ForeignKeyField(Pool, backref="addresses", on_delete="CASCADE")
    account = peewee.ForeignKeyField(Account, null=True, on_delete="SET NULL")
    mac = peewee.TextField(null=True)
    held_until = peewee.BigIntegerField(default=0)


class Session(_Core):
    """What accounting told of one session. Input is from the guest, output to the guest (RFC 2866, 5.3)."""

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


class AccountUsage(_Core):
    """Octets of an account on one day of the site's calendar; `day` is YYYYMMDD."""

    account = peewee.ForeignKeyField(Account, on_delete="CASCADE")
    day = peewee.IntegerField()
    input_octets = peewee.BigIntegerField(default=0)
    output_octets = peewee.BigIntegerField(default=0)

    class Meta:
        primary_key = peewee.CompositeKey("account", "day")


MODELS: tuple[Any, ...] = (Pool, Plan, Account, PoolAddress, Session, AccountUsage)
