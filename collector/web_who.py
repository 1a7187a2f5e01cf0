"""The lawful question: whose was an address, and a port of it, at a time? Who asks it, and why, is on record."""

from functools import partial
from ipaddress import ip_address
from typing import Any

from appliance.accounts.web_parts import account_url
from appliance.admin.frame import Ask, Page
from appliance.errors import UserError
from collector import asking, views, web_parts
from collector.asking import Question
from collector.filters.names import PROTOCOLS, name_of
from collector.periods import moment

CHOICES = ("any", "tcp", "udp", "icmp", "gre", "esp", "sctp")
SLACKS_S = (1, 5, 30, 120, 600)  # by how much the time that was asked for may be wrong
REASON = (3, 300)
HOW = {
    "flow": "a flow from or to this very address",
    "flow through NAT": "a flow that was translated to it",
    "NAT event": "the router’s own note of the translation",
    "session": "the session had this very address; no flow of it is known",
}


def form(ask: Ask) -> Any:
    return _shown(ask, {"protocol": "any", "slack": "5"}, "")


def answered(ask: Ask) -> Any:
    typed = ask.form()
    try:
        asked = _question(ask, typed)
        answer = asking.who(ask.config, asked, ask.person.name)
    except UserError as error:
        return _shown(ask, typed, str(error))
    return _shown(ask, typed, "", asked, answer)


def _question(ask: Ask, typed: dict[str, str]) -> Question:
    address, port, reason = (typed.get(name, "").strip() for name in ("ip", "port", "reason"))
    try:
        ip_address(address)
    except ValueError:
        raise UserError(f"Address: {address[:60]!r} is no address: write 198.51.100.20") from None
    if port and not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65_536):
        raise UserError(f"Port: {port[:60]!r} is none: a port is between 0 and 65535")
    if typed.get("protocol") not in CHOICES:
        raise UserError(f"Protocol: there are {', '.join(CHOICES)}")
    if typed.get("slack") not in [str(seconds) for seconds in SLACKS_S]:
        raise UserError("Clock: choose one of those that there are")
    if not REASON[0] <= len(reason) <= REASON[1] or not reason.isprintable():
        raise UserError(f"Reason: say why you ask, in {REASON[0]} to {REASON[1]} characters")
    try:
        at_ms = moment(typed.get("at", ""), ask.config.site.timezone, ask.now)
    except UserError as error:
        raise UserError(f"Time: {error}") from None
    return Question(
        views.site(typed.get("site", "").strip()),
        address,
        int(port) if port else None,
        PROTOCOLS.get(typed["protocol"]),
        at_ms,
        int(typed["slack"]) * 1000,
        reason,
    )


def _shown(
    ask: Ask, typed: dict[str, str], error: str, asked: Question | None = None, answer: asking.Whose | None = None
) -> Any:
    zone = ask.config.site.timezone
    return ask.page(
        "flow_who.html",
        400 if error else 200,
        typed=typed,
        error=error,
        choices=CHOICES,
        slacks=SLACKS_S,
        sites=web_parts.sites(ask.config),
        asked=asked,
        answer=answer,
        how=HOW,
        protocol=name_of(PROTOCOLS, asked.protocol) if asked and asked.protocol is not None else "any protocol",
        at=partial(web_parts.at, zone=zone),
        account_url=lambda name: account_url({"name": name}),
    )


PAGES = (
    Page("/flows/who", form, role="owner", nav="Whose was it?"),
    Page("/flows/who", answered, "POST", role="owner"),
)
