"""Payouts: which invoices can be paid, the file for the bank, and what the bank says became of it."""

from typing import Any

from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.dealers import desk, ledger_db, money, payouts
from appliance.dealers.models import Invoice, Payout, PayoutLine
from appliance.dealers.web import url as dealer_url
from appliance.errors import Missing, UserError

STATES = {payouts.SENT: "on its way", payouts.PAID: "paid", payouts.FAILED: "failed"}


def shown(ask: Ask) -> Any:
    with desk.opened(ask.config):
        return _page(ask)


def _page(ask: Ask, error: str = "") -> Any:
    zone = ask.config.site.timezone
    proposals = payouts.propose(ask.config, ask.now)
    waiting = Payout.select().where(Payout.closed_at.is_null()).order_by(Payout.id.desc()).limit(20)
    return ask.page(
        "payouts.html",
        400 if error else 200,
        error=error,
        proposals=proposals,
        currencies=sorted({one.invoice.currency for one in proposals if one.included}),
        sums=_sums(proposals),
        waiting=list(waiting),
        facts=[key for key in ("iban", "city", "country") if not getattr(ask.config.dealer, key)],
        today=desk.day(ask.now, zone),
        day=lambda at: desk.day(at, zone),
        text=money.text,
        url=dealer_url,
        may=ask.person.may("operator"),
    )


def _sums(proposals: list[payouts.Proposal]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in proposals:
        if one.included:
            found[one.invoice.currency] = found.get(one.invoice.currency, 0) + one.amount_minor
    return found


def make(ask: Ask) -> Any:
    """A file of those that were chosen."""
    chosen = [int(number) for number in ask.all("invoice") if number.isdecimal() and len(number) < 19]
    with desk.opened(ask.config):
        try:
            if not chosen:
                raise UserError("choose at least one invoice")
            rows = list(Invoice.select().where(Invoice.id.in_(chosen)))
            day = desk.coming(ask.form().get("day", ""), ask.config.site.timezone, ask.now)
            with ledger_db.writing():
                made = payouts.make(ask.config, rows, ask.person.name, ask.now, day)
                after = {"total": money.text(made.total_minor, made.currency), "invoices": [row.number for row in rows]}
                audit.record(ask.person.name, "made", f"payout {made.message_id}", {}, after)
        except UserError as error:
            return _page(ask, str(error))
    return ask.done(f"/payouts/{made.id}", "The payout is made: fetch its file and give it to your bank.")


# One of them


def _found(number: str) -> Any:
    row = Payout.get_or_none(Payout.id == int(number)) if number.isdecimal() and len(number) < 19 else None
    if row is None:
        raise Missing("there is no such payout")
    return row


def one(ask: Ask, number: str) -> Any:
    with desk.opened(ask.config):
        return _one_page(ask, _found(number))


def _one_page(ask: Ask, payout: Any, error: str = "") -> Any:
    zone = ask.config.site.timezone
    return ask.page(
        "payout.html",
        400 if error else 200,
        error=error,
        payout=payout,
        lines=payouts.lines_of(payout),
        states=STATES,
        day=lambda at: desk.day(at, zone),
        text=money.text,
        url=dealer_url,
        may=ask.person.may("operator"),
    )


def file(ask: Ask, number: str) -> Any:
    with desk.opened(ask.config):
        payout = _found(number)
        content = payouts.file_of(ask.config, payout)
    return ask.file(content, f"{payout.message_id}.xml", "application/xml")


def settle(ask: Ask, number: str) -> Any:
    """What the bank said: all of it was made, or a transfer, or one wasn't."""
    form, who = ask.form(), ask.person.name
    with desk.opened(ask.config):
        payout = _found(number)
        try:
            with ledger_db.writing():
                if "failed" in form:
                    payouts.fail(_line(payout, form["failed"]), ask.now)
                elif "paid" in form:
                    payouts.confirm(payout, ask.now, who, [_line(payout, form["paid"])])
                else:
                    payouts.confirm(payout, ask.now, who)
                said: dict[str, object] = {key: form[key] for key in ("failed", "paid") if key in form} or {
                    "paid": "all"
                }
                audit.record(who, "confirmed", f"payout {payout.message_id}", {}, said)
        except UserError as error:
            return _one_page(ask, payout, str(error))
    return ask.done(f"/payouts/{number}", "It is recorded.")


def _line(payout: Any, number: str) -> Any:
    known = int(number) if number.isdecimal() and len(number) < 19 else 0
    found = PayoutLine.get_or_none((PayoutLine.payout == payout) & (PayoutLine.id == known))
    if found is None:
        raise UserError("there is no such transfer in this payout")
    return found


def past(ask: Ask) -> Any:
    zone = ask.config.site.timezone
    with desk.opened(ask.config):
        of = List(
            title="Payouts",
            query=Payout.select(),
            columns=(
                Column("message_id", "File", Payout.message_id, link=lambda row: f"/payouts/{row['id']}"),
                Column("created_at", "Made", Payout.created_at, show=lambda at: desk.day(at, zone)),
                Column("execute_on", "To be made on", Payout.execute_on),
                Column("total", "Total", Payout.total_minor, number=True),
                Column("currency", "Currency", Payout.currency),
                Column("who", "By", Payout.who),
                Column("closed_at", "Done", Payout.closed_at, show=lambda at: desk.day(at, zone)),
            ),
            order="-created_at",
            search=lambda text: Payout.message_id.contains(text),
            empty="No payout was made yet.",
            fill=lambda rows: [
                {**row, "total": money.plain(int(str(row["total_minor"])), str(row["currency"]))} for row in rows
            ],
        )
        return of.respond(ask, "payouts_past.html")


PAGES = (
    Page("/payouts", shown, nav="Payouts"),
    Page("/payouts", make, "POST"),
    Page("/payouts/past", past),
    Page("/payouts/<number>", one),
    Page("/payouts/<number>", settle, "POST"),
    Page("/payouts/<number>/file", file),
)
