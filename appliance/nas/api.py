"""Routers as programs see them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from appliance import wishes
from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import TIME, Flag, Maybe, Number, Part, Text
from appliance.api.web import routes
from appliance.config import Config
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
            "netflow": bool(row.netflow),
            "netflow_from": row.netflow_from,
            "site": row.site or "",
            "seen_at": row.seen_at,
        }
        for row in rows
    ]


def _wanted(config: Config, given: Values) -> Wanted:
    wanted = {field.name: given[field.name] for field in fields(Wanted) if field.name in given}
    if wanted.get("site") == "":
        wanted["site"] = routers.ANY_SITE if config.fleet else None
    return Wanted(**wanted)


def _add(call: Call, given: Values) -> tuple[str, Values]:
    secret = given.get("secret", "")
    nas = routers.add(call.config, given["name"], _wanted(call.config, given), secret)
    return nas.name, {} if secret else {"secret": routers.secret_of(call.config, nas)}


def _change(call: Call, row: Any, given: Values) -> Values:
    if "secret" in given and "new_secret" in given:
        raise UserError("secret, new_secret: give one of them")
    made = new_secret() if "new_secret" in given else ""
    routers.change(call.config, row, _wanted(call.config, given), made or given.get("secret", ""))
    return {"secret": made} if made else {}


def _apply(call: Call) -> str:
    return routers.apply(call.config, call.who)


def _wish(call: Call, key: str) -> str | None:
    """Its id; None where it isn't known any more."""
    waits, said = wishes.outcome(call.config, key) is None, wishes.answered(call.config, key)
    return key if waits or said is not None else None


def _show_wishes(call: Call, rows: Sequence[Any]) -> list[Values]:
    found = []
    for key in rows:
        said = wishes.answered(call.config, key)
        state = "waiting" if said is None else "refused" if said else "done"
        found.append({"id": key, "state": state, "refusal": said or None})
    return found


def _remove(call: Call, row: Any) -> Values:
    routers.remove(row)
    return {}


ROUTERS = Resource(
    name="routers",
    one="router",
    about="Who may ask by RADIUS. After a change FreeRADIUS is told: what became of that is at /wishes/ID.",
    fields=(
        Field("name", Text(max=63), "what it is called", new=True, needed=True),
        Field("address", Text(max=18), "where its requests come from: IP or IP/PREFIX", new=True, change=True),
        Field("kind", Text(choices=KINDS), "whose attributes it speaks", new=True, change=True),
        Field("message_authenticator", Flag(), "ask for it in each request", new=True, change=True),
        Field("coa", Text(choices=COA), "what it takes", new=True, change=True),
        Field("coa_port", Number(1, 65_535), "where it takes that", new=True, change=True),
        Field("radsec", Flag(), "it asks over TLS", new=True, change=True),
        Field("tunnel", Flag(), "it is reached through its WireGuard tunnel", new=True, change=True),
        Field("netflow", Flag(), "its flows are kept", new=True, change=True),
        Field(
            "netflow_from",
            Text(max=800, min=0),
            "addresses and networks that they come from, parted by spaces; empty: its address",
            new=True,
            change=True,
        ),
        Field("site", Text(max=32, min=0), "whose appliance serves it; any or empty: all", new=True, change=True),
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
        Field("wish", Text(min=0), "by which FreeRADIUS is told; empty: run `gatehouse apply`", shown=False, once=True),
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
    removed=(Part("wish", Text(min=0), "by which FreeRADIUS is told; empty: run `gatehouse apply`"),),
    applies=_apply,
)
WISHES = Resource(
    name="wishes",
    one="wish",
    about="What became of a change that has to be applied; the last hundred are known.",
    fields=(
        Field("id", Text(max=40), "what the change's answer said"),
        Field("state", Text(choices=("waiting", "done", "refused")), "as it is now"),
        Field("refusal", Maybe(Text(max=1000)), "why, in a line"),
    ),
    key="id",
    query=None,
    order=(),
    find=_wish,
    show=_show_wishes,
    reads="operator",
)

RESOURCES = (ROUTERS, WISHES)
PAGES = routes(*RESOURCES)
