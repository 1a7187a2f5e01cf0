"""Who is online and who was; sessions are let go from here."""

from functools import partial
from typing import Any

from appliance.accounts.models import Session
from appliance.accounts.web_parts import account_url, local
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.nas.sessions import cut
from appliance.units import format_ago, format_bytes


def sessions(ask: Ask) -> Any:
    online = Session.ended_at.is_null()
    of = List(
        title="Sessions",
        query=Session.select(
            Session.id,
            Session.account,
            Session.nas,
            Session.mac,
            Session.framed_ip,
            Session.started_at,
            Session.updated_at,
            Session.ended_at,
            Session.terminate_cause,
            Session.output_octets,
            Session.input_octets,
        ),
        columns=(
            Column("account", "Account", Session.account, link=partial(account_url, key="account")),
            Column("nas", "Router", Session.nas),
            Column("mac", "Device", Session.mac),
            Column("framed_ip", "Address"),
            Column("started_at", "Since", Session.id, show=local(ask)),
            Column("updated_at", "Last told", show=lambda at: format_ago(ask.now - at)),
            Column("output_octets", "Down", Session.output_octets, number=True, show=format_bytes),
            Column("input_octets", "Up", Session.input_octets, number=True, show=format_bytes),
            Column("terminate_cause", "Ended by"),
        ),
        order="-started_at",
        search=_of_session,
        choices=(Choice("state", "State", {"online": online, "ended": Session.ended_at.is_null(False)}),),
        empty="Nobody was online yet. A guest who logs in appears here within seconds.",
    )
    return of.respond(ask, "sessions.html")


def _of_session(text: str) -> Any:
    return Session.account.startswith(text) | (Session.mac == text.lower()) | (Session.framed_ip == text)


def cut_sessions(ask: Ask) -> Any:
    """Each chosen one; a router that can't be told is named, the others are let go all the same."""
    ids = [int(number) for number in ask.all("session") if number.isdecimal()]
    box, said = load_box(ask.config.paths.state), []
    for session in Session.select().where(Session.id.in_(ids), Session.ended_at.is_null()):
        try:
            said.append(cut(session, box))
        except UserError as error:
            said.append(str(error))
        audit.record(ask.person.name, "cut", f"session {session.account} {session.mac}", {}, {})
    return ask.done("/sessions?state=online", "; ".join(said) or "Choose a session first.")


PAGES = (
    Page("/sessions", sessions, nav="Sessions"),
    Page("/sessions/cut", cut_sessions, "POST"),
)
