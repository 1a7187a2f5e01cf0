"""Pages about guests who help themselves: who registered, who waits for a decision, and what couldn't be sent."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appliance import mail
from appliance.accounts import registration
from appliance.accounts.models import Account, Mail, Registration, core_db
from appliance.accounts.web_parts import account_url, local
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List
from appliance.crypto import load_box
from appliance.errors import UserError
from appliance.guest_verbs import ACCEPTED, REFUSED, UNCONFIRMED, WAITING
from appliance.units import format_ago

_CHOOSE = "Choose some lines first."


def registrations(ask: Ask) -> Any:
    own = Registration.kind != registration.FREE
    of = List(
        title="Registrations",
        query=Registration.select(
            Registration.id,
            Registration.name,
            Registration.contact,
            Registration.mac,
            Registration.state,
            Registration.kind,
            Account.name.alias("account"),
            Registration.created_at,
            Registration.decided_at,
            Registration.decided_by,
        ).left_outer_join(Account, on=(Registration.account == Account.id)),
        columns=(
            Column("name", "Name", Registration.name),
            Column("contact", "Contact", Registration.contact),
            Column("mac", "Device", Registration.mac),
            Column("state", "State", Registration.state),
            Column("account", "Account", Account.name, link=_account),
            Column("created_at", "Asked", Registration.id, show=local(ask)),
            Column("decided_at", "Decided", Registration.decided_at, show=local(ask)),
            Column("decided_by", "By"),
        ),
        order="-created_at",
        search=lambda text: (
            Registration.contact.startswith(text.lower())
            | Registration.name.contains(text)
            | (Registration.mac == text.lower())
        ),
        choices=(
            Choice("state", "State", {s: Registration.state == s for s in (WAITING, UNCONFIRMED, ACCEPTED, REFUSED)}),
            Choice("kind", "Kind", {"registered": own, "free access": ~own}),
        ),
        empty="Nobody yet. Guests register themselves when [portal] registration says how, see the handbook.",
    )
    return of.respond(ask, "registrations.html")


def _account(row: Mapping[str, object]) -> str:
    return account_url(row, "account") if row["account"] else ""


def decide(ask: Ask) -> Any:
    """Each chosen one; what can't be decided any more is named, the others are decided all the same."""
    said = list(_decided(ask, "approve" in ask.form()))
    return ask.done(f"/registrations?state={WAITING}", "; ".join(said) or _CHOOSE)


def _decided(ask: Ask, approved: bool) -> Iterable[str]:
    box = load_box(ask.config.paths.state)
    for row in _chosen(ask, Registration, "registration"):
        before = {"state": row.state}
        try:
            with core_db.atomic():
                if approved:
                    account = registration.approve(ask.config, box, row, ask.person.name, ask.now)
                    after = {"state": ACCEPTED, "account": account.name}
                else:
                    registration.refuse(row, ask.person.name, ask.now)
                    after = {"state": REFUSED}
                action = "approved" if approved else "refused"
                audit.record(ask.person.name, action, f"registration {row.id}", before, after)
            yield f"{row.name} is {action}"
        except UserError as error:
            yield str(error)


def _chosen(ask: Ask, model: Any, field: str) -> list[Any]:
    return list(model.select().where(model.id.in_([int(number) for number in ask.all(field) if number.isdecimal()])))


def messages(ask: Ask) -> Any:
    of = List(
        title="Messages",
        query=Mail.select(
            Mail.id, Mail.recipient, Mail.subject, Mail.state, Mail.tries, Mail.error, Mail.created_at, Mail.next_try_at
        ),
        columns=(
            Column("recipient", "To", Mail.recipient),
            Column("subject", "Subject"),
            Column("state", "State", Mail.state, show=lambda state: "given up" if state == mail.FAILED else state),
            Column("tries", "Tries", Mail.tries, number=True),
            Column("error", "What the server said"),
            Column("created_at", "Since", Mail.id, show=_ago(ask)),
        ),
        order="-created_at",
        search=lambda text: Mail.recipient.startswith(text),
        choices=(Choice("state", "State", {s: Mail.state == s for s in (mail.WAITING, mail.FAILED)}),),
        empty="Nothing waits to be sent.",
    )
    return of.respond(ask, "messages.html")


def _ago(ask: Ask) -> Callable[[int], str]:
    return lambda at: format_ago(ask.now - at)


def remove_messages(ask: Ask) -> Any:
    rows = _chosen(ask, Mail, "message")
    with core_db.atomic():
        for row in rows:
            audit.record(ask.person.name, "removed", f"message {row.id}", {"state": row.state}, {})
            row.delete_instance()
    return ask.done("/messages", f"{len(rows)} removed." if rows else _CHOOSE)


PAGES = (
    Page("/registrations", registrations, nav="Registrations"),
    Page("/registrations/decide", decide, "POST"),
    Page("/messages", messages),
    Page("/messages/remove", remove_messages, "POST"),
)
