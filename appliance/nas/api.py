"""Routers as programs see them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import TIME, Flag, Maybe, Number, Text
from appliance.api.web import routes
from appliance.crypto import new_secret
from appliance.errors import UserError
from appliance.nas import routers
from appliance.nas.models import COA, KINDS, Nas
from appliance.nas.routers import Wanted


def _find(call: Call, key: str) -> Any:
    return Nas.get_or_none(Nas.name == key)


def _show(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [
        {
            "name": row.name,
            "address": row.address,
            "kind": row.kind,
            "message_authenticator": bool(row.require_message_authenticator),
            "coa": row.coa,
            "coa_port": row.coa_port,
            "radsec": bool(row.radsec),
            "tunnel": row.tunnel_address is not None,
            "seen_at": row.seen_at,
        }
        for row in rows
    ]


def _wanted(given: Values) -> Wanted:
    return Wanted(**{field.name: given[field.name] for field in fields(Wanted) if field.name in given})


def _add(call: Call, given: Values) -> tuple[str, Values]:
    secret = given.get("secret", "")
    nas = routers.add(call.config, given["name"], _wanted(given), secret)
    return nas.name, {} if secret else {"secret": routers.secret_of(call.config, nas)}


def _change(call: Call, row: Any, given: Values) -> Values:
    if "secret" in given and "new_secret" in given:
        raise UserError("secret, new_secret: give one of them")
    made = new_secret() if "new_secret" in given else ""
    routers.change(call.config, row, _wanted(given), made or given.get("secret", ""))
    return {"secret": made} if made else {}


def _remove(call: Call, row: Any) -> Values:
    routers.remove(row)
    return {}


ROUTERS = Resource(
    name="routers",
    one="router",
    about="Who may ask by RADIUS. FreeRADIUS learns of a change with the next `gatehouse apply`.",
    fields=(
        Field("name", Text(max=63), "what it is called", new=True, needed=True),
        Field("address", Text(max=18), "where its requests come from: IP or IP/PREFIX", new=True, change=True),
        Field("kind", Text(choices=KINDS), "whose attributes it speaks", new=True, change=True),
        Field("message_authenticator", Flag(), "ask for it in each request", new=True, change=True),
        Field("coa", Text(choices=COA), "what it takes", new=True, change=True),
        Field("coa_port", Number(1, 65_535), "where it takes that", new=True, change=True),
        Field("radsec", Flag(), "it asks over TLS", new=True, change=True),
        Field("tunnel", Flag(), "it is reached through its WireGuard tunnel", new=True, change=True),
        Field("seen_at", Maybe(TIME), "when accounting last heard of it"),
        Field(
            "secret",
            Text(max=64, min=8),
            "made up when none is given, and shown only then",
            new=True,
            change=True,
            shown=False,
            once=True,
        ),
        Field("new_secret", Flag(only=True), "make up another shared secret", change=True, shown=False),
    ),
    sample={"name": "attic", "address": "192.0.2.7"},
    query=lambda call, asked: Nas.select(),
    order=(Nas.id,),
    find=_find,
    show=_show,
    add=_add,
    change=_change,
    remove=_remove,
)

RESOURCES = (ROUTERS,)
PAGES = routes(*RESOURCES)
