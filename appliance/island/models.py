"""What the central database knows of its islands: how far each has delivered, and what doesn't fit together."""

from typing import Any

import peewee

from appliance.accounts.models import Account, CoreModel, OfASite


class IslandPosition(OfASite):
    """The last entry of a site's queue whose effect is in this database, and that entry's own token.

    `queue` is the queue file's own name.
    """

    site = peewee.TextField()
    queue = peewee.TextField()
    delivered = peewee.BigIntegerField()
    token = peewee.TextField(default="")
    at = peewee.BigIntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("site", "queue")

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.site.in_(keys)


class IslandLogin(CoreModel):
    """A login that its island took for the account's first one."""

    account = peewee.ForeignKeyField(Account, on_delete="CASCADE")
    site = peewee.TextField()
    at = peewee.BigIntegerField()

    class Meta:
        primary_key = peewee.CompositeKey("account", "site")


class IslandConflict(OfASite):
    """Found at delivery: what an island let happen and others would not have. Times are UTC seconds.

    A `subject` has one conflict of its kind at most; `account` is its name of then.
    """

    id = peewee.AutoField()
    kind = peewee.TextField()
    site = peewee.TextField()
    subject = peewee.TextField()
    account_ref = peewee.ForeignKeyField(Account, null=True, column_name="account_id", on_delete="SET NULL")
    account = peewee.TextField()
    at = peewee.BigIntegerField()
    found_at = peewee.BigIntegerField()
    detail = peewee.TextField()
    dismissed_at = peewee.BigIntegerField(null=True)
    dismissed_by = peewee.TextField(default="")

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.site.in_(keys)


class OfflineKey(CoreModel):
    """What a site's offline vouchers are signed with, sealed (appliance/crypto.py); no site gets another's."""

    site = peewee.TextField(primary_key=True)
    secret = peewee.BlobField()
    created_at = peewee.BigIntegerField()


MODELS: tuple[Any, ...] = (IslandPosition, IslandLogin, IslandConflict, OfflineKey)
