"""Who may use the admin's pages, who does, and what they have changed."""

import peewee

from appliance.accounts.models import CoreModel


class AdminUser(CoreModel):
    """`password` is an argon2id hash (RFC 9106); `role` is one of ROLES in people.py.

    `sites` is empty for who is everywhere, else a JSON object of the role at each site that they are limited to.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    password = peewee.TextField()
    role = peewee.TextField()
    enabled = peewee.BooleanField(default=True)
    created_at = peewee.BigIntegerField()
    sites = peewee.TextField(default="")


class AdminSession(CoreModel):
    """A browser that is logged in. `token` is the SHA-256 of its cookie; no user is who came by a one-time link.

    `form_token` stands in each of its forms. Times are UTC seconds.
    """

    token = peewee.TextField(primary_key=True)
    user = peewee.ForeignKeyField(AdminUser, null=True, on_delete="CASCADE")
    form_token = peewee.TextField()
    address = peewee.TextField()
    agent = peewee.TextField()
    created_at = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField()


class ApiToken(CoreModel):
    """A program's way in; `token` is the SHA-256 of what it sends, `sites` as of an AdminUser."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    token = peewee.TextField(unique=True)
    role = peewee.TextField()
    created_at = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField(null=True)
    sites = peewee.TextField(default="")


class Audit(CoreModel):
    """One change: `subject` is `kind name`, `changes` a JSON object of [before, after] by field, secrets left out."""

    id = peewee.AutoField()
    at = peewee.BigIntegerField()
    who = peewee.TextField()
    action = peewee.TextField()
    subject = peewee.TextField()
    changes = peewee.TextField()


MODELS = (AdminUser, AdminSession, ApiToken, Audit)
