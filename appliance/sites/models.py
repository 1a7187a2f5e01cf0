"""The appliances that share one database: a site is one of them."""

from typing import Any

import peewee

from appliance.accounts.models import OfASite


class Site(OfASite):
    """What an appliance says of itself once a minute, and how it came in. Times are UTC seconds of the database.

    `fingerprint` is of the key that its secrets are sealed with, `machine` of the box that bears the site's key.
    `join_token` is the SHA-256 of what the join file carries. `ahead_ms` is the box's clock less the database's.
    `disks` is a JSON list of [name, free octets, octets], `problems` one of lines, `settings` a JSON object of the
    configuration's keys that may be set from here, as they are there. `modules` are parted by spaces.
    """

    key = peewee.TextField(primary_key=True)
    title = peewee.TextField(default="")
    created_at = peewee.BigIntegerField()
    changed_at = peewee.BigIntegerField()
    fingerprint = peewee.TextField(default="")
    machine = peewee.TextField(default="")
    joined_at = peewee.BigIntegerField(null=True)
    join_token = peewee.TextField(null=True)
    join_until = peewee.BigIntegerField(null=True)
    reported_at = peewee.BigIntegerField(null=True)
    ahead_ms = peewee.BigIntegerField(null=True)
    version = peewee.TextField(default="")
    kernel = peewee.TextField(default="")
    booted_at = peewee.BigIntegerField(null=True)
    disks = peewee.TextField(default="[]")
    data_disk = peewee.TextField(default="")
    modules = peewee.TextField(default="")
    problems = peewee.TextField(default="[]")
    snapshot_at = peewee.BigIntegerField(null=True)
    settings = peewee.TextField(default="{}")

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.key.in_(keys)


class SiteSetting(OfASite):
    """A key of the configuration that a site is to have; `value` is JSON, null takes the key out.

    `state` is waiting, asked (root has the wish), applied or refused; `answer` says why it was refused.
    """

    site = peewee.TextField()
    key = peewee.TextField()
    value = peewee.TextField()
    changed_at = peewee.BigIntegerField()
    changed_by = peewee.TextField()
    wish = peewee.TextField(default="")
    state = peewee.TextField(default="waiting")
    answer = peewee.TextField(default="")

    class Meta:
        primary_key = peewee.CompositeKey("site", "key")

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.site.in_(keys)


MODELS = (Site, SiteSetting)
