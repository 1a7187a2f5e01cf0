"""A dealer's own pages: selling, looking, and that nothing of another dealer is ever on them."""

import html
import importlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import argon2
import peewee
import pytest

from appliance import guesses, modules
from appliance.accounts import manage, sales
from appliance.accounts.models import Account, Plan, Session, VoucherBatch, core_db
from appliance.admin import frame
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.crypto import load_box
from appliance.dealers import (
    agreements,
    attribution,
    credit,
    dealers,
    desk,
    earning,
    invoices,
    ledger,
    schemes,
    selling,
    statement,
    web_own,
)
from appliance.dealers.models import ACCOUNT, Dealer, Invoice, InvoiceLine, InvoicePayment, Posting, ledger_db
from appliance.dealers.module import DEALER
from appliance.dealers.selling import Wish
from appliance.dealers.selling_models import Failed, Sale
from tests.unit import test_admin
from tests.unit.dealer_box import emptied
from tests.unit.test_admin import NASTY, PASSWORD, Browser, browser

FILES = sorted(path.stem for path in Path(web_own.__file__).parent.glob("web_own*.py"))
PAGES = [page for name in FILES for page in importlib.import_module(f"appliance.dealers.{name}").PAGES]
ENTERED = [page for page in PAGES if not page.path.endswith("/login")]
PRICE = 5_000


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, unless a test asks for both: what the pages say is the same, and the laws are proved elsewhere."""
    if getattr(request, "param", "") == "postgresql":
        return emptied(request.getfixturevalue("shared_url"))
    return f"sqlite:///{tmp_path / 'core.db'}"


on_both = pytest.mark.parametrize("empty_url", ["sqlite", "postgresql"], indirect=True)


hotspot = test_admin.box


@pytest.fixture
def box(hotspot: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    monkeypatch.setattr(dealers, "_hasher", argon2.PasswordHasher(time_cost=1, memory_cost=64))
    dealers._nobodys.cache_clear()
    modules.set_enabled(hotspot, DEALER, True)
    (hotspot.paths.state / "dealers").mkdir()
    with core_db.connection_context(), desk.opened(hotspot):
        Plan.update(price_minor=PRICE, currency="CZK").execute()
        agreements.add_scheme("tenth", schemes.Terms(percent=Decimal(10)), 1)
        yield hotspot


@pytest.fixture
def app(box: Config) -> Any:
    return frame.Frame(box).app()


@dataclass
class Shop:
    """A dealer with some of everything, all of which has `mark` in it; `ids` are those of pages."""

    mark: str
    dealer: Any
    ids: dict[str, str]

    def secrets(self) -> list[str]:
        """What is on no other dealer's page."""
        return [
            self.mark,
            self.ids["code"],
            *(row.hash for row in Posting.select().where(Posting.dealer == self.dealer)),
        ]


def shop(box: Config, mark: str) -> Shop:
    """`mark` is a word of capitals."""
    now = int(time.time())
    dealer = dealers.add(
        f"{mark}-shop", currency="CZK", login=mark.lower(), contact=f"{mark} Ltd.", contract=f"{mark}1"
    )
    dealers.set_password(dealer, PASSWORD)
    agreements.assign(dealer, agreements.get("tenth"), 1)
    credit.top_up(dealer, 30 * PRICE, "jana", f"{mark} transfer", 1)
    sale = selling.sell(box, dealer, Wish("home", 3, PRICE, f"{mark}-key-of-a-form"), now)
    released = Sale.create(
        dealer=dealer, key=f"{mark}-of-another-form", batch=f"{mark}-never", plan="home", count=1, price_minor=PRICE,
        amount_minor=PRICE, currency="CZK", state="released", at=now,
    )  # fmt: skip
    codes = [row.name for row in Account.select().where(Account.batch == sale.batch_ref).order_by(Account.id)]
    plan, sealed = Plan.get(), load_box(box.paths.state).seal("x")
    customer = Account.create(name=f"{mark} {NASTY}", plan=plan, password=sealed, created_at=1)
    attribution.attribute(dealer, ACCOUNT, customer.id, customer.name, 1)
    charge = sales.charge("activation", PRICE, "CZK", now - 60, f"{mark} charge", account=customer, plan="home")
    sales.pay(charge, PRICE, now - 60, "cash", f"{mark} receipt")
    earning.take_over(box, now)
    (posting,) = Posting.select().where(Posting.dealer == dealer, Posting.kind == "commission")
    invoice = Invoice.create(
        dealer=dealer, number=f"{mark}-00001", series=mark, serial=1, currency="CZK", period="2026-10",
        seller=json.dumps(asdict(invoices.seller_of(dealer))), buyer=json.dumps(asdict(invoices.buyer_of(box))),
        vat_category="O", vat_rate="0", since=1, until=86_401, net_minor=500,
        vat_minor=0, total_minor=500, created_at=1, issued_at=1, due_at=now + 86_400,
    )  # fmt: skip
    InvoiceLine.create(invoice=invoice, n=1, text=f"{mark} line {NASTY}", price_minor=500, net_minor=500)
    InvoicePayment.create(invoice=invoice, amount_minor=100, at=2, reference=f"{mark} paid", source=mark, recorded_at=2)
    ids = {
        "sale": str(released.id), "batch": str(sale.batch_ref), "code": codes[0], "posting": str(posting.id),
        "invoice": str(invoice.id),
    }  # fmt: skip
    return Shop(mark, dealer, ids)


@pytest.fixture
def mine(box: Config) -> Shop:
    return shop(box, "APPLE")


SHARED = {"plan": "home", "month": time.strftime("%Y-%m")}


def address(page: frame.Page, ids: dict[str, str]) -> str:
    """Of the single thing that a page is about; a new kind of thing has to be among a Shop's."""
    return re.sub(r"<(\w+)>", lambda found: quote((SHARED | ids)[found[1]], safe=""), page.path)


def own(app: Any, shop_: Shop, password: str = PASSWORD, at: str = "192.0.2.50") -> tuple[Browser, str]:
    """Logged in, and the token of its forms."""
    one = Browser(app, at)
    assert one.post("/dealer/login", {"login": shop_.dealer.login, "password": password}).status == 303
    assert set(one.cookies) == {"gatehouse-dealer"}
    found = re.search(r'name="form_token" value="([^"]+)"', one.get("/dealer/today").body)
    assert found
    return one, found[1]


def one_thing(page: frame.Page) -> bool:
    return bool(set(re.findall(r"<(\w+)>", page.path)) - set(SHARED))


# Isolation


def test_all_of_the_dealers_pages_are_looked_at(box: Config) -> None:
    served = [
        page for page in frame.pages(box) if page.path == web_own.BASE or page.path.startswith(f"{web_own.BASE}/")
    ]
    assert {(page.path, page.method) for page in served} == {(page.path, page.method) for page in PAGES}
    assert len(served) == len(PAGES) > 25


def test_what_is_anothers_isnt_there(box: Config, app: Any, mine: Shop) -> None:
    """Each route about one thing, whoever adds it."""
    other = shop(box, "ZEBRA")
    one, token = own(app, mine)
    before = [ledger.head(other.dealer), sale_states()]
    pages = [page for page in ENTERED if one_thing(page)]
    assert len(pages) >= 9
    for page in pages:
        reply = one._ask(page.method, address(page, other.ids), f"form_token={token}".encode())
        assert (reply.status, "no such " in reply.body) == (404, True), (page.method, page.path, reply.status)
        assert "no such page" not in reply.body
        assert not [secret for secret in other.secrets() if secret in reply.body], page.path
        for bad in ("0", "-1", "x", "9" * 30, "%00", quote(NASTY, safe=""), "1 OR 1=1", "²"):
            asked = re.sub(r"<\w+>", bad.replace("\\", ""), page.path)
            assert one._ask(page.method, asked, f"form_token={token}".encode()).status == 404, (page.path, bad)
        if page.method == "GET":
            assert one.get(address(page, mine.ids)).status in (200, 303), page.path
    assert [ledger.head(other.dealer), sale_states()] == before


def sold() -> int:
    return int(Sale.select().where(Sale.state == "sold").count())


def sale_states() -> list[Any]:
    return list(Sale.select(Sale.id, Sale.state).tuples())


ASKED = ("", "?format=csv", "?format=json", "?q=ZEBRA", "?q=%25", "?page=2", "?kind=commission")


def seen(one: Browser, mine: Shop) -> dict[str, str]:
    """All that a dealer's pages show, without what is new each time."""
    found = {}
    for page in ENTERED:
        if page.method != "GET":
            continue
        kinds = [one.get(address(page, mine.ids) + asked).headers.get("Content-Type", "") for asked in ASKED[:2]]
        if "application/pdf" in kinds:
            continue  # which tells its time
        for asked in ASKED if kinds[1].startswith("text/csv") else ("", "?q=ZEBRA"):
            where = address(page, mine.ids) + asked
            reply = one.get(where)
            assert reply.status < 500, where
            found[where] = f"{reply.status} " + re.sub(r'(name="(form_token|key)" value=)"[^"]*"', r"\1", reply.body)
    return found


def test_another_dealers_business_changes_nothing_that_is_seen(
    box: Config, mine: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No list, no count, no search, no balance, no number: each page of each view is the same with them and without."""
    at = int(time.time()) + 5
    app = frame.Frame(box, clock=lambda: at).app()
    one, _ = own(app, mine)
    before = seen(one, mine)
    assert len(before) > 60
    other = shop(box, "ZEBRA")
    after = seen(one, mine)
    assert {where for where in before if before[where] != after[where]} == set()
    assert not [(where, secret) for where, text in after.items() for secret in other.secrets()[1:] if secret in text]
    assert other.mark in seen(own(app, other)[0], other)["/dealer/customers"]
    for code in (other.ids["code"], other.ids["code"].upper(), "nothing"):
        reply = one.get(f"/dealer/find?code={code}")
        assert (reply.status, "there is no such voucher" in reply.body.lower()) == (404, True)


def test_forms_need_their_token_and_pages_a_login(box: Config, app: Any, mine: Shop) -> None:
    one, _ = own(app, mine)
    _, others_token = own(app, shop(box, "ZEBRA"))
    strangers = (Browser(app), browser(app, "owner"))
    for page in ENTERED:
        for stranger in strangers:
            reply = stranger._ask(page.method, address(page, mine.ids), b"")
            assert (reply.status, reply.headers.get("Location")) == (303, "/dealer/login"), page.path
        if page.method != "GET":
            for forged in ("", "wrong", others_token, "²"):
                sent = f"form_token={quote(forged)}&count=1&price={PRICE}&key={'k' * 20}"
                reply = one._ask(page.method, address(page, mine.ids), sent.encode())
                assert (reply.status, "was not ours" in reply.body) == (403, True), page.path
    assert sold() == 2
    assert one.get("/dealer/today").status == 200, "nor was anybody thrown out"


def test_one_cookie_opens_one_door(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    admins = browser(app, "owner")
    for page in test_admin.routes(box):
        assert one.send(page, token=token).status in (303, 401, 403), page.path
    one.cookies["gatehouse"] = one.cookies["gatehouse-dealer"]
    assert one.get("/accounts").headers["Location"] == "/login"
    admins.cookies["gatehouse-dealer"] = admins.cookies["gatehouse"]
    assert admins.get("/dealer/money").headers["Location"] == "/dealer/login"


def test_a_cookie_is_new_with_each_login_and_ends_with_leaving(box: Config, app: Any, mine: Shop) -> None:
    one = Browser(app)
    one.cookies["gatehouse-dealer"] = "chosen by somebody else"
    one.post("/dealer/login", {"login": mine.dealer.login, "password": PASSWORD})
    first = one.cookies["gatehouse-dealer"]
    assert first != "chosen by somebody else"
    one.post("/dealer/login", {"login": mine.dealer.login, "password": PASSWORD})
    kept = dict(one.cookies)
    assert kept["gatehouse-dealer"] != first
    one.cookies["gatehouse-dealer"] = first
    assert one.get("/dealer/today").status == 303, "what the browser came with is over"
    one.cookies = kept
    found = re.search(r'name="form_token" value="([^"]+)"', one.get("/dealer/today").body)
    assert found
    assert one.post("/dealer/leave", {}, token=found[1]).status == 303
    one.cookies = kept
    assert one.get("/dealer/today").status == 303


@on_both
def test_passwords_are_not_guessed(box: Config, app: Any, mine: Shop) -> None:
    def tried(number: int, login: str = "apple") -> int:
        return Browser(app, f"192.0.2.{number}").post("/dealer/login", {"login": login, "password": "guess"}).status

    statuses = [tried(number) for number in range(12)]
    assert (set(statuses[:9]), statuses[-1]) == ({403}, 429)
    assert [tried(99, f"nobody{number}") for number in range(3)] == [403] * 3, "unknown ones sound alike"
    fresh = frame.Frame(box).app()
    reply = Browser(fresh).post("/dealer/login", {"login": "apple", "password": PASSWORD})
    assert (reply.status, guesses.TOO_MANY in reply.body) == (429, True), "a restart forgives nobody"
    assert "apple" not in " ".join(row.subject for row in Failed.select())
    Failed.delete().execute()
    assert Browser(frame.Frame(box).app()).post("/dealer/login", {"login": "Apple", "password": PASSWORD}).status == 303


def test_what_is_typed_at_the_door_opens_nothing(box: Config, app: Any, mine: Shop) -> None:
    for number, typed in enumerate(("%ff%fe", "%00", "%ED%A0%80", "+apple", "x" * 70_000, quote(NASTY), "%E2%80%AE")):
        for sent in (f"login={typed}&password=x", f"login=apple&password={typed}", f"login={typed}", typed):
            reply = Browser(app, f"192.0.2.{number}")._ask("POST", "/dealer/login", sent.encode())
            assert reply.status in (400, 403), sent[:80]
            assert (reply.cookies, "<script>alert" in reply.body) == ({}, False), sent[:80]


def test_another_password_ends_what_is_open(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    elsewhere, _ = own(app, mine)
    bad = {"old": "wrong", "new": "another horse", "again": "another horse"}
    assert "isn’t your password" in one.post("/dealer/password", bad, token=token).body
    assert "typed in two ways" in one.post("/dealer/password", bad | {"old": PASSWORD, "again": "x"}, token=token).body
    assert "10 to 256" in one.post("/dealer/password", {"old": PASSWORD, "new": "x", "again": "x"}, token=token).body
    assert one.post("/dealer/password", bad | {"old": PASSWORD}, token=token).status == 303
    assert (one.get("/dealer/today").status, elsewhere.get("/dealer/today").status) == (200, 303)
    own(app, mine, "another horse")
    assert not [row for row in Audit.select() if "another horse" in row.changes]


def test_who_is_suspended_sees_money_and_sells_nothing(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    dealers.change(Dealer.get_by_id(mine.dealer.id), {"state": "suspended"})
    assert "Selling is stopped" in one.get("/dealer/today").body
    assert "0.50" not in one.get("/dealer/sell").body
    assert "5.00\xa0CZK" in html.unescape(one.get("/dealer/money").body) or "5.00" in one.get("/dealer/money").body
    for path in ("/dealer/sell/home", f"/dealer/vouchers/{mine.ids['batch']}/recall"):
        reply = one.post(path, {"count": "1", "price": str(PRICE), "key": "k" * 20}, token=token)
        assert (reply.status, "stopped by your provider" in reply.body) in ((400, True), (404, True)), path
    assert sold() == 1
    dealers.change(Dealer.get_by_id(mine.dealer.id), {"state": "ended"})
    assert one.get("/dealer/money").status == 303
    assert Browser(app).post("/dealer/login", {"login": "apple", "password": PASSWORD}).status == 403


# What is seen and done


@on_both
def test_pages_say_what_there_is_and_escape_it(box: Config, app: Any, mine: Shop) -> None:
    one, _ = own(app, mine)
    account = Account.get(Account.name.startswith("APPLE"))
    Session.create(
        unique_id="1", account_ref=account, account=account.name, nas="x", acct_session_id="1", mac="x", started_at=1,
        updated_at=1,
    )  # fmt: skip
    for where, text in seen(one, mine).items():
        assert text.startswith(("200", "303", "400", "404")), (where, text[:300])
        assert "<script>alert" not in text or "format=" in where, where
    (customer,) = json.loads(one.get("/dealer/customers?format=json").body)
    assert (customer["plan"], customer["state"]) == ("home", "online")
    money = html.unescape(one.get("/dealer/money").body).replace("\xa0", " ")
    assert "5.00 CZK</strong><span>earned, for the next invoice" in money
    assert "1 350.00 CZK</strong><span>credit" in money
    assert ledger.head(mine.dealer) in money
    assert re.search(r"APPLE-00001</a>.*partly paid", money)
    found = one.get(f"/dealer/commission/{mine.ids['posting']}").body
    assert re.search("tenth, version 1.*10", found, re.S)
    assert "cash" in found
    today = html.unescape(one.get("/dealer/today").body).replace("\xa0", " ")
    assert re.search(r"<strong>3</strong><span>vouchers sold today, for 150.00 CZK", today)


def buy(one: Browser, token: str, count: str = "1", **more: str) -> Any:
    page = one.get("/dealer/sell/home").body
    form = dict(re.findall(r'name="(key|price)" value="([^"]+)"', page))
    return one.post("/dealer/sell/home", form | {"count": count} | more, token=token)


@on_both
def test_a_voucher_is_sold_shown_printed_and_taken_back(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    assert "1,350.00" in one.get("/dealer/sell").body.replace("\xa0", ",").replace("&nbsp;", ",")
    where = buy(one, token).headers["Location"]
    assert re.fullmatch("/dealer/voucher/[a-z2-9]{12}", where)
    shown = one.get(where).body
    code = where.rpartition("/")[2]
    assert f"<code>{code[:4]} {code[4:8]} {code[8:]}</code>" in shown
    assert "<svg" in shown
    for format_ in ("58mm", "80mm", "a4"):
        assert one.get(f"{where}/print?format={format_}").body.startswith("%PDF")
    assert one.get(f"{where}/print?format=a0").status == 400
    assert one.get(f"/dealer/find?code={code.upper()[:6]}-{code[6:]}").headers["Location"] == where
    assert one.post(f"{where}/recall", {}, token=token).status == 303
    assert "Taken back" in one.get(where).body
    assert one.post(f"{where}/recall", {}, token=token).status == 400
    assert one.get(f"{where}/print").status == 400
    assert credit.balance(mine.dealer) == 27 * PRICE
    many = buy(one, token, "", other="4").headers["Location"]
    assert one.get(many).body.count('href="/dealer/voucher/') == 4
    assert one.get(f"{many}/print?format=a4").body.startswith("%PDF")
    assert one.post(f"{many}/recall", {}, token=token).status == 303
    assert credit.balance(mine.dealer) == 27 * PRICE
    done = [(row.who, row.action) for row in Audit.select().order_by(Audit.id) if row.who == "dealer login apple"]
    assert [action for _, action in done] == [
        *("logged in", "sold", "printed", "printed", "printed", "recalled", "sold", "printed", "recalled"),
    ]


def test_a_form_that_comes_twice_says_that_it_sold_once(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    form = {"key": "the-same-key-twice", "price": str(PRICE), "count": "1"}
    first, again = (one.post("/dealer/sell/home", form, token=token) for _ in range(2))
    assert first.headers["Location"] == again.headers["Location"]
    assert "nothing was sold a second time" in one.get(again.headers["Location"]).body
    assert sold() == 2
    assert list(Audit.select().where(Audit.action == "sold").tuples())[1:] == []


WRONG: tuple[tuple[dict[str, str], str], ...] = (
    ({"count": "28"}, "27 can be sold now"),
    ({"count": "0"}, "write 1 to 500"),
    ({"count": "many"}, "is no number of vouchers"),
    ({"count": "²"}, "is no number of vouchers"),
    ({"count": NASTY}, "is no number of vouchers"),
    ({"price": "1"}, "the price of home has changed"),
    ({"key": "short"}, "was not ours"),
    ({"key": NASTY}, "was not ours"),
)


def test_what_cant_be_sold_is_said_and_kept(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    good = {"key": "k" * 20, "price": str(PRICE), "count": "2"}
    for form, said in WRONG:
        reply = one.post("/dealer/sell/home", good | form, token=token)
        assert (reply.status, said in reply.body, 'role="alert">' in reply.body) == (400, True, True), form
        assert "<script>alert" not in reply.body
    assert sold() == 1


def test_a_sale_that_cant_be_recorded_is_said_and_sold_once_later(
    box: Config, app: Any, mine: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, token = own(app, mine)
    real, form = selling._reserve, {"key": "k" * 20, "price": str(PRICE), "count": "1"}

    def busy(*words: Any) -> Any:
        raise peewee.OperationalError("database is locked")

    monkeypatch.setattr(selling, "_reserve", busy)
    reply = one.post("/dealer/sell/home", form, token=token)
    assert (reply.status, "couldn’t be recorded" in reply.body) == (400, True)
    assert 'value="kkkkkkkkkkkkkkkkkkkk"' in reply.body, "the same form is sent again"
    monkeypatch.setattr(selling, "_reserve", real)
    monkeypatch.setattr(selling, "_WAITS_S", 0.0)
    monkeypatch.setattr(selling, "_make", lambda config, sale: sale)
    stuck = one.post("/dealer/sell/home", form, token=token).headers["Location"]
    assert "Not sold yet" in one.get(stuck).body
    assert "couldn’t be recorded to the end" in one.get("/dealer/today").body
    selling.recover(box, int(time.time()) + 2 * selling.STALE_S)
    assert "are credit again" in one.get(stuck).body
    assert credit.balance(mine.dealer) == 27 * PRICE


def test_an_invoice_and_a_statement_are_kept_and_verified(box: Config, app: Any, mine: Shop) -> None:
    one, _ = own(app, mine)
    page = one.get(f"/dealer/invoice/{mine.ids['invoice']}").body
    assert "APPLE line" in page
    for link in re.findall(r'href="([^"]+)" download', page):
        assert one.get(link).body[:5] in ("%PDF-", "<?xml"), link
    month = f"/dealer/statement/{SHARED['month']}"
    listed = one.get(month).body
    assert ledger.head(mine.dealer) in listed
    one.get(f"{month}/file")
    kept = one.content
    assert list(statement.verify(kept)) == []
    assert list(statement.verify(kept.replace(b"APPLE transfer", b"APPLE Transfer"))) != []
    assert one.get(f"{month}/pdf").body.startswith("%PDF")
    assert one.get("/dealer/statement/2026-13").status == 400


def test_a_sold_vouchers_first_login_is_earned_on_and_leads_back_to_it(box: Config, app: Any, mine: Shop) -> None:
    now = int(time.time())
    Account.update(first_login_at=now).where(Account.name == mine.ids["code"]).execute()
    earning.take_over(box, now + 1)
    (posting,) = Posting.select().where(Posting.kind == "commission", Posting.id > int(mine.ids["posting"]))
    assert (posting.amount_minor, posting.dealer) == (PRICE // 10, mine.dealer)
    one, _ = own(app, mine)
    assert f'href="/dealer/voucher/{mine.ids["code"]}"' in one.get(f"/dealer/commission/{posting.id}").body
    assert "It is active" in one.get(f"/dealer/voucher/{mine.ids['code']}").body


def test_batches_of_the_provider_are_shown_and_theirs_to_take_back(box: Config, app: Any, mine: Shop) -> None:
    one, token = own(app, mine)
    manage.add(Plan, "plan", name="week")
    given = VoucherBatch.create(name="given", plan=Plan.get(Plan.name == "week"), created_at=1)
    attribution.attribute(mine.dealer, "batch", given.id, "given", 1)
    assert "from the provider" in one.get("/dealer/vouchers").body
    assert one.get(f"/dealer/vouchers/{given.id}").status == 200
    assert "only they can" in one.post(f"/dealer/vouchers/{given.id}/recall", {}, token=token).body


def test_the_pages_bring_no_databases_of_their_own(box: Config, app: Any, mine: Shop) -> None:
    """An export is sent after its handler, with connections of its own, which it closes."""
    one, states = Browser(app), []

    def look() -> None:
        one.post("/dealer/login", {"login": "apple", "password": PASSWORD})
        for path in ("/dealer/customers", "/dealer/vouchers", "/dealer/money/credit"):
            lines = one.get(f"{path}?format=csv").body.count("\r\n")
            states.append((lines > 1, ledger_db.is_closed(), core_db.is_closed()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert states == [(True, True, True)] * 3
