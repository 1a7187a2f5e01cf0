"""The pages of dealers: who they are, what each has earned and has to get, what is missing with them."""

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Choice, Column, List, Row
from appliance.admin.paths import part
from appliance.dealers import agreements, attribution, credit, dealers, desk, ledger, ledger_db, money, overview
from appliance.dealers.fields import FIELDS, read, typed
from appliance.dealers.models import (
    ACTIVE,
    ENDED,
    NON_PAYER,
    SUSPENDED,
    Attribution,
    Dealer,
    DealerScheme,
    Invoice,
    Posting,
    Scheme,
    SchemeVersion,
)
from appliance.errors import UserError

STATES = {ACTIVE: "active", SUSPENDED: "suspended", ENDED: "ended"}
BALANCES = (
    ("accrued", "Earned, not settled"),
    ("payable", "To be paid"),
    ("paid", "Paid"),
    ("credit", "Voucher credit"),
)
KINDS = {
    "commission": "commission",
    "refund": "refund",
    "clawback": "clawed back",
    "correction": "correction",
    "settle": "settled",
    "vat": "VAT",
    "payout": "paid",
    "top-up": "credit bought",
    "reserve": "credit set aside",
    "sold": "vouchers sold",
    "release": "credit given back",
    "recall": "vouchers recalled",
}
_RECENT = 10
_ATTRIBUTED = 50


def url(name: object) -> str:
    return f"/dealers/{part(name)}"


def listed(ask: Ask) -> Any:
    with desk.opened(ask.config):
        of = List(
            title="Dealers",
            query=Dealer.select(),
            columns=(
                Column("name", "Name", Dealer.name, link=lambda row: url(row["name"])),
                Column("state", "State", Dealer.state),
                Column("currency", "Currency", Dealer.currency),
                *(Column(key, title, number=True) for key, title in BALANCES),
                Column("contact", "Name by law", Dealer.contact),
                Column("email", "E-mail", Dealer.email),
                Column("phone", "Phone"),
                Column("todo", "To do"),
            ),
            order="name",
            search=_search,
            choices=(Choice("state", "State", {state: Dealer.state == state for state in STATES}),),
            empty="No dealer yet. Add the first one: a shop or a person who sells your Internet for a commission.",
            fill=lambda rows: _filled(ask, rows),
        )
        return of.respond(ask, "dealers.html", may=ask.person.may("operator"))


def _search(text: str) -> Any:
    return Dealer.name.contains(text) | Dealer.contact.contains(text) | Dealer.email.contains(text)


def _filled(ask: Ask, rows: Sequence[Row]) -> Sequence[Row]:
    """With balances in the dealer's own currency, and how much there is to do."""
    filled = []
    for row in rows:
        dealer = Dealer(**row)
        todo = len(overview.of_dealer(ask.config, dealer, ask.now)) if dealer.state == ACTIVE else 0
        filled.append({**row, **_balances(dealer, dealer.currency), "todo": f"{todo} to mend" if todo else ""})
    return filled


def _balances(dealer: Any, currency: str) -> dict[str, str]:
    return {key: money.plain(ledger.balance(dealer, currency, key), currency) for key, _ in BALANCES}


# New ones


def new(ask: Ask) -> Any:
    facts = ask.config.dealer
    return _new_page(ask, {"currency": facts.currency, "country": facts.country, "tax": NON_PAYER}, "")


def _new_page(ask: Ask, typed_: Mapping[str, str], error: str) -> Any:
    return ask.page("dealer_new.html", 400 if error else 200, typed=typed_, error=error, groups=FIELDS)


def add(ask: Ask) -> Any:
    form = ask.form()
    name = form.get("name", "").strip()
    try:
        with desk.opened(ask.config):
            columns = read(form, ask.config, form.get("currency", ""))
            with ledger_db.writing():
                dealer = dealers.add(name, **columns)
                audit.record(ask.person.name, "added", f"dealer {dealer.name}", {}, columns)
    except UserError as error:
        return _new_page(ask, form, str(error))
    return ask.done(url(dealer.name), f"{dealer.name} is added. What is still missing stands below.")


# One of them


def shown(ask: Ask, name: str) -> Any:
    with desk.opened(ask.config):
        return page(ask, dealers.get(name))


def page(ask: Ask, dealer: Any, typed_: Mapping[str, str] | None = None, error: str = "", password: str = "") -> Any:
    """Of one dealer; the ledger is open."""
    zone = ask.config.site.timezone
    recent = Posting.select().where(Posting.dealer == dealer).order_by(Posting.n.desc()).limit(_RECENT)
    return ask.page(
        "dealer.html",
        400 if error else 200,
        dealer=dealer,
        base=url(dealer.name),
        may=ask.person.may("operator"),
        typed=typed_ or typed(dealer, ask.config),
        error=error,
        password=password,
        groups=FIELDS,
        states=STATES,
        todo=overview.of_dealer(ask.config, dealer, ask.now),
        balances=_by_currency(dealer),
        recent=list(recent),
        head=ledger.head(dealer),
        kinds=KINDS,
        attributed=_attributed(dealer),
        schemes=_schemes(dealer),
        scheme_names=[row.name for row in Scheme.select().order_by(Scheme.name)],
        invoices=list(Invoice.select().where(Invoice.dealer == dealer).order_by(Invoice.id.desc()).limit(_RECENT)),
        text=money.text,
        day=lambda at: desk.day(at, zone),
        last_day=lambda at: desk.last_day(at, zone),
        part=part,
    )


def _by_currency(dealer: Any) -> list[tuple[str, str]]:
    """Title and amount of what isn't zero in any currency; those of the own one in any case."""
    found = []
    for currency in ledger.currencies(dealer) or [dealer.currency]:
        for key, title in BALANCES:
            minor = ledger.balance(dealer, currency, key)
            if minor or currency == dealer.currency:
                found.append((title, money.text(minor, currency)))
    return found


def _attributed(dealer: Any) -> list[Any]:
    rows = Attribution.select().where(Attribution.dealer == dealer).order_by(Attribution.id.desc())
    return list(rows.limit(_ATTRIBUTED))


def _schemes(dealer: Any) -> list[Any]:
    rows = DealerScheme.select(DealerScheme, Scheme).join(Scheme).where(DealerScheme.dealer == dealer)
    return list(rows.order_by(DealerScheme.valid_from.desc()))


def change(ask: Ask, name: str) -> Any:
    form = ask.form()
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        before = {key: getattr(dealer, key) for key in Dealer._meta.fields}
        try:
            columns = read(form, ask.config, dealer.currency)
            with ledger_db.writing():
                dealers.change(dealer, columns)
                kept = {key: before[key] for key in columns}
                audit.record(ask.person.name, "changed", f"dealer {name}", kept, columns)
        except UserError as error:
            return page(ask, dealers.get(name), form, str(error))
    return ask.done(url(name), f"{name} is changed.")


def set_password(ask: Ask, name: str) -> Any:
    """A new one, shown only now; the dealer's open sessions end."""
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        if not dealer.login:
            raise UserError(f"{name} has no log-in yet: fill it in first")
        with ledger_db.writing():
            password = dealers.set_password(dealer)
            audit.record(ask.person.name, "changed", f"dealer {name}", {"password": 0}, {"password": 1})
        return page(ask, dealers.get(name), password=password)


def attribute(ask: Ask, name: str) -> Any:
    """An account or a batch is the dealer's from a day on."""
    form = ask.form()
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        try:
            since = desk.begin_of(form.get("from", ""), ask.config.site.timezone)
            until = desk.end_of(form.get("until", ""), ask.config.site.timezone)
            kind, what = form.get("kind", ""), form.get("what", "").strip()
            with ledger_db.writing():
                ref = desk.reference(kind, what)
                attribution.attribute(dealer, kind, ref, what, ask.now if since is None else since, until)
                after = {"kind": kind, "what": what, "from": form.get("from"), "until": form.get("until")}
                audit.record(ask.person.name, "attributed", f"dealer {name}", {}, after)
        except UserError as error:
            return page(ask, dealer, error=str(error))
    return ask.done(url(name), f"{what} is {name}’s; past sales of that time follow within seconds.")


def end_attribution(ask: Ask, name: str) -> Any:
    """From now on; what was sold before stays the dealer's."""
    number = ask.form().get("id", "")
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        mine = (Attribution.dealer == dealer) & (Attribution.id == (int(number) if number.isdecimal() else 0))
        row = Attribution.get_or_none(mine)
        if row is None:
            raise UserError(f"that isn’t {name}’s")
        with ledger_db.writing():
            attribution.end(row, ask.now)
            audit.record(ask.person.name, "ended", f"dealer {name}", {row.kind: row.name}, {})
    return ask.done(url(name), f"{row.name} is {name}’s no more.")


def assign(ask: Ask, name: str) -> Any:
    """From a day on the dealer earns by a scheme."""
    form = ask.form()
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        try:
            since = desk.begin_of(form.get("from", ""), ask.config.site.timezone)
            scheme = form.get("scheme", "")
            with ledger_db.writing():
                agreements.assign(dealer, agreements.get(scheme), ask.now if since is None else since)
                after = {"scheme": scheme, "from": form.get("from")}
                audit.record(ask.person.name, "changed", f"dealer {name}", {}, after)
        except UserError as error:
            return page(ask, dealer, error=str(error))
    return ask.done(url(name), f"{name} earns by {scheme}.")


def top_up(ask: Ask, name: str) -> Any:
    """Money that the dealer has paid for vouchers to sell."""
    form = ask.form()
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        try:
            minor = money.parse(form.get("amount", ""), dealer.currency)
            with ledger_db.writing():
                credit.top_up(dealer, minor, ask.person.name, form.get("reference", ""), ask.now)
                after = {"credit": money.text(minor, dealer.currency), "reference": form.get("reference", "")}
                audit.record(ask.person.name, "topped up", f"dealer {name}", {}, after)
        except UserError as error:
            return page(ask, dealer, error=str(error))
    return ask.done(url(name), f"{money.text(minor, dealer.currency)} of credit for {name}.")


def postings(ask: Ask, name: str) -> Any:
    """All that happened with one dealer's money; as CSV, too."""
    zone = ask.config.site.timezone
    with desk.opened(ask.config):
        dealer = dealers.get(name)
        version = SchemeVersion.select(Scheme.name.concat(" v").concat(SchemeVersion.number)).join(Scheme)
        of = List(
            title=f"Ledger of {dealer.name}",
            query=Posting.select(
                Posting.n,
                Posting.at,
                Posting.kind,
                Posting.amount_minor,
                Posting.currency,
                Posting.base_minor,
                Posting.rate,
                Posting.charge,
                Posting.note,
                Posting.due_at,
                version.where(SchemeVersion.id == Posting.scheme_version).alias("scheme"),
                Posting.hash,
            ).where(Posting.dealer == dealer),
            columns=(
                Column("n", "No.", Posting.n, number=True),
                Column("at", "When", Posting.at, show=lambda at: desk.day(at, zone)),
                Column("kind", "What", Posting.kind, show=lambda kind: KINDS.get(kind, kind)),
                Column("amount", "Amount", number=True),
                Column("currency", "Currency", Posting.currency),
                Column("base", "Of money received", number=True),
                Column("rate", "Rate"),
                Column("scheme", "Scheme"),
                Column("charge", "Sale", Posting.charge, link=lambda row: _sale_url(row["charge"])),
                Column("due_at", "Hold ends", Posting.due_at, show=lambda at: desk.day(at, zone)),
                Column("note", "Note"),
                Column("hash", "Hash", show=lambda text: text[:12]),
            ),
            order="-n",
            search=lambda text: (Posting.charge == text) | Posting.note.contains(text),
            choices=(Choice("kind", "What", {kind: Posting.kind == kind for kind in KINDS}, KINDS),),
            empty="Nothing was earned yet.",
            row_id="n",
            fill=_with_amounts,
        )
        return of.respond(ask, "dealer_postings.html", dealer=dealer, base=url(dealer.name))


def _with_amounts(rows: Sequence[Row]) -> Sequence[Row]:
    def plain(row: Row, key: str) -> str:
        return money.plain(int(str(row[key])), str(row["currency"])) if row[key] else ""

    return [{**row, "amount": plain(row, "amount_minor"), "base": plain(row, "base_minor")} for row in rows]


def _sale_url(charge: Any) -> str:
    return f"/sales?q={part(charge)}" if charge else ""


PAGES = (
    Page("/dealers", listed, nav="Dealers"),
    Page("/dealers/new", new, role="operator"),
    Page("/dealers/new", add, "POST"),
    Page("/dealers/<name>", shown),
    Page("/dealers/<name>", change, "POST"),
    Page("/dealers/<name>/password", set_password, "POST"),
    Page("/dealers/<name>/attribution", attribute, "POST"),
    Page("/dealers/<name>/attribution/end", end_attribution, "POST"),
    Page("/dealers/<name>/scheme", assign, "POST"),
    Page("/dealers/<name>/credit", top_up, "POST"),
    Page("/dealers/<name>/postings", postings),
)
