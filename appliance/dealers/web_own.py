"""A dealer's own pages: in by an own log-in, and nothing but what is that dealer's to be seen."""

import time
from collections.abc import Callable
from typing import Any

from appliance.accounts.web_parts import local
from appliance.admin import audit, way_in
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.admin.visitors import Entrance
from appliance.dealers import dealers, desk
from appliance.dealers.models import ENDED, Attribution, Dealer
from appliance.dealers.money import text as amount
from appliance.dealers.own import Own
from appliance.dealers.selling_models import Failed, Visit
from appliance.errors import UserError
from appliance.guesses import TOO_MANY, Guesses

BASE = "/dealer"
SOON_S = 30 * 86_400
TABS = (("today", "Today"), ("sell", "Sell"), ("vouchers", "Sold"), ("customers", "Customers"), ("money", "Money"))

guesses = Guesses(Failed)

Handler = Callable[..., Any]


def _find(dealer: int, address: str) -> Any:
    found = Dealer.get_or_none(Dealer.id == dealer)
    return found if found is not None and found.state != ENDED and found.login else None


def _check(login: str, password: str, address: str) -> Any:
    known: Any = Dealer.get_or_none(Dealer.login == login.strip().lower())
    last = Visit.get_or_none(Visit.dealer == known.id) if known is not None else None
    if guesses.are_too_many(login.strip().lower(), address, last.address if last else ""):
        raise UserError(TOO_MANY)
    found = dealers.verify(login, password)
    if found is None:
        guesses.count(login.strip().lower(), address)
    return found


ENTRANCE = Entrance(
    name="dealer",
    base=BASE,
    first="today",
    opened=desk.opened,
    find=_find,
    check=_check,
    login_page="own_login.html",
    message_page="own_message.html",
    wrong="Wrong log-in or password.",
)


def login(ask: Ask) -> Any:
    return ENTRANCE.log_in(ask, _entered)


def _entered(dealer: Any, address: str) -> None:
    seen: Any = Visit
    values = {"at": int(time.time()), "address": address}
    seen.insert(dealer=dealer.id, **values).on_conflict(conflict_target=[Visit.dealer], update=values).execute()
    audit.record(who(dealer), "logged in", f"dealer {dealer.name}", {}, {"address": address})


def who(dealer: Any) -> str:
    """In the record of changes."""
    return f"dealer login {dealer.login}"


def mine(handler: Handler, form: bool = False) -> Handler:
    """`handler` is given the Ask, what is the dealer's Own, and the parts of the path."""

    def inside(ask: Ask, _: Any, dealer: Any, **parts: str) -> Any:
        return handler(ask, Own(ask.config, dealer, ask.now), **parts)

    return ENTRANCE.mine(inside, form)


def page(ask: Ask, own: Own, template: str, tab: str, status: int = 200, **values: Any) -> str:
    return ask.page(template, status, **around(own, tab), **values)


def around(own: Own, tab: str) -> dict[str, Any]:
    """What stands on each of a dealer's pages."""
    tabs = [(f"{BASE}/{path}", title, path == tab) for path, title in TABS]
    return {"tabs": tabs, "dealer": own.dealer, "base": BASE, "amount": amount, "stacked": True}


def home(ask: Ask, own: Own) -> Any:
    return ask.done(f"{BASE}/today")


def today(ask: Ask, own: Own) -> Any:
    count, sold = own.sales_today()
    money = own.money()[0]
    return page(
        ask,
        own,
        "own_today.html",
        "today",
        count=count,
        sold=sold,
        money=money,
        available=own.available(),
        earned=own.earned_since(own.month()),
        attention=_attention(own, ask),
        offers=own.offers(),
    )


def _attention(own: Own, ask: Ask) -> list[tuple[str, str]]:
    """What the dealer should look at, and where that is."""
    dealer, found = own.dealer, []
    if not own.may_sell:
        found.append(("Selling is stopped by your provider; what you have earned is there all the same.", "money"))
    found += [
        (f"{sale.count} × {sale.plan} couldn’t be recorded to the end yet. Don’t sell them again: look here.", one)
        for sale in own.open_sales()
        for one in [f"sale/{sale.id}"]
    ]
    offers = own.offers()
    if own.may_sell and offers and not any(offer.most for offer in offers):
        found.append((f"Nothing can be sold now: {offers[0].why} is used up.", "money/credit"))
    for until, what in ((dealer.contract_until, "contract"), (dealer.self_billing_until, "agreement on invoices")):
        if until is not None and until < ask.now + SOON_S:
            day = local(ask)(until)[:10]
            found.append(
                (f"Your {what} {'ended' if until <= ask.now else 'ends'} on {day}: ask your provider.", "money")
            )
    return [(text, f"{BASE}/{path}") for text, path in found]


def customers(ask: Ask, own: Own) -> Any:
    of = List(
        title="Customers",
        query=own.customers(),
        columns=(
            Column("name", "Name", Attribution.name),
            Column("plan", "Plan"),
            Column("until", "Valid until", show=local(ask)),
            Column("state", "Now"),
            Column("valid_from", "Yours since", Attribution.valid_from, show=lambda at: local(ask)(at)[:10]),
        ),
        order="name",
        search=lambda text: Attribution.name.contains(text),
        empty="No customers yet. Your provider says whose customers are yours.",
        fill=own.with_plans,
    )
    return of.respond(ask, "own_list.html", **around(own, "customers"))


def password(ask: Ask, own: Own) -> Any:
    return page(ask, own, "own_password.html", "", error="")


def set_password(ask: Ask, own: Own) -> Any:
    """What else is open with the old one ends; wrong ones count as those of the log-in do."""
    form, login = ask.form(), str(own.dealer.login)
    try:
        if _check(login, form.get("old", "")[:200], way_in.address()) is None:
            raise UserError("That isn’t your password until now.")
        if form.get("new", "") != form.get("again", ""):
            raise UserError("The new password was typed in two ways: type it twice.")
        fresh = Dealer.get_by_id(own.dealer.id)
        dealers.set_password(fresh, form.get("new", ""))
    except UserError as error:
        return page(ask, own, "own_password.html", "", 400, error=str(error))
    audit.record(who(fresh), "changed", f"dealer {fresh.name}", {}, {"password": "new"})
    return ENTRANCE.enter(ask, fresh, "Your password is changed; whatever else was open with the old one has ended.")


PAGES = (
    Page(f"{BASE}/login", ENTRANCE.ask_login, open=True),
    Page(f"{BASE}/login", login, "POST", open=True),
    Page(BASE, mine(home), open=True),
    Page(f"{BASE}/today", mine(today), open=True),
    Page(f"{BASE}/customers", mine(customers), open=True),
    Page(f"{BASE}/password", mine(password), open=True),
    Page(f"{BASE}/password", mine(set_password, form=True), "POST", open=True),
    Page(f"{BASE}/leave", ENTRANCE.mine(ENTRANCE.leave, form=True), "POST", open=True),
)
