"""The routers that ask us: RADIUS clients, each with its own secret."""

from typing import Any

import peewee

from appliance.accounts.models import OfASite

PROCESSES = ("authentication", "accounting")  # of FreeRADIUS
GATEWAY = "gateway"
KINDS = ("gateway", "mikrotik", "chilli", "other")
COA = ("coa", "disconnect", "none")  # what the router takes: changes, only Disconnect, or nothing


class Nas(OfASite):
    """`address` is an IP address or network, `secret` is sealed (appliance/crypto.py).

    `seen_at` (UTC seconds) is when accounting last heard of it. `tunnel_key` is the router's WireGuard public key,
    `tunnel_address` its address inside the tunnel. `netflow` is whether its flows are kept; `netflow_from` are the
    addresses and networks that they come from, parted by spaces, none where that is `address`. `site` is the key of the
    one whose appliance serves it; None is any.
    """

    id = peewee.AutoField()
    name = peewee.TextField(unique=True)
    address = peewee.TextField(unique=True)
    secret = peewee.BlobField()
    kind = peewee.TextField(default="mikrotik")
    require_message_authenticator = peewee.BooleanField(default=True)
    coa_port = peewee.IntegerField(default=1700)
    coa = peewee.TextField(default="coa")
    radsec = peewee.BooleanField(default=False)
    seen_at = peewee.BigIntegerField(null=True)
    tunnel_key = peewee.TextField(null=True)
    tunnel_address = peewee.TextField(null=True, unique=True)
    netflow = peewee.BooleanField(default=False)
    netflow_from = peewee.TextField(default="")
    site = peewee.TextField(null=True)

    @classmethod
    def within(cls, keys: frozenset[str]) -> Any:
        return cls.site.in_(keys)
