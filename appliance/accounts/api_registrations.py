"""Guests who registered themselves, as programs see them and decide about them. Personal data: an operator's token."""

from collections.abc import Sequence
from typing import Any

from appliance.accounts import registration
from appliance.accounts.models import Account, Registration, core_db
from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import TIME, Maybe, Number, Part, Text
from appliance.api.web import routes
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.guest_verbs import ACCEPTED, REFUSED, UNCONFIRMED, WAITING

_STATES = Text(choices=(WAITING, UNCONFIRMED, ACCEPTED, REFUSED))


def _query(call: Call, asked: Values) -> Any:
    query = (
        Registration.select(Registration, Account)
        .left_outer_join(Account, on=(Registration.account == Account.id))
        .where(Registration.kind != registration.FREE)
    )
    return query.where(Registration.state == asked["state"]) if "state" in asked else query


def _find(call: Call, key: str) -> Any:
    number = int(key) if key.isascii() and key.isdecimal() and len(key) < 18 else 0
    return _query(call, {}).where(Registration.id == number).first()


def _show(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [
        {
            "id": row.id,
            "state": row.state,
            "name": row.name,
            "contact": row.contact,
            "mac": row.mac,
            "account": row.account.name if row.account else None,
            "created_at": row.created_at,
            "decided_at": row.decided_at,
            "decided_by": row.decided_by,
        }
        for row in rows
    ]


def _decide(call: Call, row: Any, given: Values) -> Values:
    state = given.get("state", row.state)
    if state not in (ACCEPTED, REFUSED):
        raise UserError(f"state: {ACCEPTED} or {REFUSED} can be decided")
    with core_db.atomic():
        if state == ACCEPTED:
            registration.approve(call.config, load_box(call.config.paths.state), row, call.who, call.now)
        else:
            registration.refuse(row, call.who, call.now)
        action = "approved" if state == ACCEPTED else "refused"
        call.record(action, f"registration {row.id}", {"state": row.state}, {"state": state})
    return {}


def _forget(call: Call, row: Any) -> Values:
    """Who it was doesn't go into the record."""
    with core_db.atomic():
        call.record("removed", f"registration {row.id}", {"state": row.state}, {})
        registration.forget(row)
    return {}


REGISTRATIONS = Resource(
    name="registrations",
    one="registration",
    about="Guests who registered themselves. Removing one forgets who asked; an account that came of it stays.",
    key="id",
    fields=(
        Field("id", Number(), "its number"),
        Field("state", _STATES, "accepted and refused decide about who waits", change=True),
        Field("name", Text(min=0), "as it was typed"),
        Field("contact", Text(min=0), "an e-mail address, or a phone's number"),
        Field("mac", Text(), "the device"),
        Field("account", Maybe(Text()), "the login that came of it"),
        Field("created_at", TIME, "when it was asked, and the terms accepted"),
        Field("decided_at", Maybe(TIME), "null: not yet"),
        Field("decided_by", Text(min=0), "who decided"),
    ),
    filters=(Part("state", _STATES, "in this state"),),
    query=_query,
    order=(Registration.id,),
    newest_first=True,
    find=_find,
    show=_show,
    change=_decide,
    remove=_forget,
    records=True,
    reads="operator",
)

RESOURCES = (REGISTRATIONS,)
PAGES = routes(*RESOURCES)
