"""The routers that ask us: RADIUS clients, each with its own secret."""

import peewee

from appliance.accounts.models import core_db

GATEWAY = "gateway"
KINDS = ("gateway", "mikrotik", "other")


class Nas(peewee.Model):
    """`address` is an IP address or network, `secret` is sealed (appliance/crypto.py)."""

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    address = peewee.TextField(unique=True)
    secret = peewee.BlobField()
    kind = peewee.TextField(default="mikrotik")
    require_message_authenticator = peewee.BooleanField(default=True)
    coa_port = peewee.IntegerField(default=1700)

    class Meta:
        database = core_db
        legacy_table_names = False
