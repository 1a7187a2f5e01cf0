"""The admin's pages: who may do what, forms and their tokens, lists, and what everybody changed."""

import base64
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import argon2
import pytest

from appliance import apply, config, modules, wishes
from appliance.accounts import manage, vouchers
from appliance.accounts.database import open_core
from appliance.accounts.models import Account, Mail, Plan, Registration, Session, core_db
from appliance.admin import frame, links, paths, people
from appliance.admin.models import AdminSession, AdminUser, Audit
from appliance.config import Config
from appliance.crypto import load_box
from appliance.doctor import run as doctor
from appliance.doctor.findings import Report
from appliance.errors import UserError
from appliance.nas.models import GATEWAY, Nas
from appliance.service import ANSWERED, ASKED
from portal.look import MAX_LOGO_BYTES
from portal.module import HOTSPOT

PASSWORD = "correct horse"
NASTY = "<script>alert(1)</script>\"'&"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: str
    cookies: dict[str, str] = field(default_factory=dict)


class Browser:
    """Speaks WSGI to the application as nginx does."""

    def __init__(self, app: Any, address: str = "192.0.2.9") -> None:
        self._app = app
        self.address = address
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.content = b""

    def get(self, url: str) -> Reply:
        return self._ask("GET", url, b"")

    def post(self, url: str, form: dict[str, str] | None = None, token: str | None = None) -> Reply:
        sent = dict(form or {})
        if token is None and "gatehouse" in self.cookies:
            token = self.token()
        if token:
            sent["form_token"] = token
        return self._ask("POST", url, urlencode(sent).encode())

    def token(self) -> str:
        found = re.search(r'name="form_token" value="([^"]+)"', self.get("/").body)
        assert found
        return found[1]

    def send(self, page: frame.Page, form: dict[str, str] | None = None, token: str = "") -> Reply:
        """To a page as its method wants it."""
        if page.method == "GET":
            return self.get(concrete(page.path))
        return self._ask(page.method, concrete(page.path), urlencode({**(form or {}), "form_token": token}).encode())

    def _ask(self, method: str, url: str, body: bytes) -> Reply:
        path, _, query = url.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "box",
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_REAL_IP": self.address,
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "https",
            **self.headers,
        }
        got: list[Any] = []
        chunks = self._app(environ, lambda status, headers, *more: got.extend((status, headers)))
        self.content = b"".join(chunks)
        text = self.content.decode(errors="replace")
        sent = [value.partition(";")[0].partition("=") for name, value in got[1] if name == "Set-Cookie"]
        cookies = {name: value for name, _, value in sent}
        self.cookies = {
            name: value.strip('"') for name, value in {**self.cookies, **cookies}.items() if value.strip('"')
        }
        return Reply(int(got[0].split()[0]), dict(got[1]), text, cookies)


@pytest.fixture
def box(toml: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """An appliance with the hotspot enabled and one person of each role; passwords cost less than in earnest."""
    monkeypatch.setattr(people, "HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=64))
    monkeypatch.setattr(doctor, "look", lambda _: Report(0, ()))  # else it would go on beside the next test
    loaded = config.load(toml)
    modules.set_enabled(loaded, HOTSPOT, True)
    for folder in ("admin", ASKED, ANSWERED):
        (loaded.paths.state / folder).mkdir()
    with open_core(loaded):
        for role in people.ROLES:
            people.add(people.columns(role, PASSWORD, role))
        manage.add(Plan, "plan", name="home", rate_down_bps=20_000_000)
    yield loaded


@pytest.fixture
def app(box: Config) -> Any:
    return frame.Frame(box).app()


def browser(app: Any, role: str) -> Browser:
    one = Browser(app)
    reply = one.post("/login", {"name": role, "password": PASSWORD})
    assert (reply.status, reply.headers["Location"]) == (303, "/")
    return one


def attack(app: Any, pages: list[frame.Page]) -> None:
    """Strangers, each role, and forms without their token, at pages of any module."""
    stranger = Browser(app)
    for page in pages:
        wanted = {True: 401, False: 303 if page.method == "GET" else 403}[frame.is_api(page.path)]
        assert stranger.send(page).status == wanted, page.path
    for role in people.ROLES:
        one = browser(app, role)
        token = one.token()
        for page in pages:
            may = people.ROLES.index(role) >= people.ROLES.index(page.needs)
            reply = one.send(page, token=token)
            assert (reply.status == 403) == (not may), (page.path, page.method, reply.status)
            assert reply.status < 500, (page.path, reply.body)
            if page.method != "GET":
                assert "was not ours" in one.send(page, {"name": "x"}, "wrong").body or not may


def concrete(path: str) -> str:
    return re.sub(r"<[\w:]+>", "nobody", path)


def routes(box: Config) -> list[frame.Page]:
    return [page for page in frame.pages(box) if not page.open]


def test_no_page_is_shown_to_strangers(box: Config, app: Any) -> None:
    stranger = Browser(app)
    for page in routes(box):
        reply = stranger.send(page)
        if frame.is_api(page.path):
            assert (reply.status, reply.headers.get("Www-Authenticate")) == (401, "Bearer"), page.path
        elif page.method == "GET":
            assert (reply.status, reply.headers.get("Location")) == (303, "/login"), page.path
        else:
            assert reply.status == 403, page.path


def test_the_navigation_has_one_entry_a_module_and_its_pages_below(box: Config) -> None:
    def entries(role: str, here: str) -> list[tuple[str, bool, list[str]]]:
        shown = frame.navigation(frame.sections(box), people.Person("someone", role), here, box)
        return [(entry.title, entry.current, [page.title for page in entry.below if page.current]) for entry in shown]

    assert entries("owner", "/accounts/guest") == [
        ("Start", False, []),
        ("Hotspot", True, ["Accounts"]),
        ("Appliance", False, []),
    ]
    assert ("Start", True, ["Start"]) in entries("reader", "/")
    assert not any(current for _, current, _ in entries("reader", "/elsewhere"))
    modules.set_enabled(box, HOTSPOT, False)
    assert [title for title, *_ in entries("owner", "/")] == ["Start", "Appliance"]


@pytest.mark.parametrize("role", people.ROLES)
def test_each_role_reaches_its_own_pages_only(box: Config, app: Any, role: str) -> None:
    one = browser(app, role)
    token = one.token()
    for page in routes(box):
        if page.path == "/leave":
            continue
        may = people.ROLES.index(role) >= people.ROLES.index(page.needs)
        reply = one.send(page, token=token)
        assert (reply.status == 403) == (not may), (page.path, page.method, reply.status)
        assert reply.status < 500, (page.path, reply.body)


def test_forms_need_their_token(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    for page in routes(box):
        if page.method != "GET":
            for token in ("", "wrong"):
                reply = one.send(page, {"name": "x", "password": PASSWORD}, token)
                assert (reply.status, "was not ours" in reply.body) == (403, True), page.path
    assert one.get("/").status == 200  # nor was anybody thrown out


def test_passwords_are_not_guessed(box: Config, app: Any) -> None:
    guesser = Browser(app)
    answers = [guesser.post("/login", {"name": "owner", "password": f"guess {n}"}).status for n in range(100)]
    assert answers[:10] == [403] * 10
    assert set(answers[10:]) <= {429, 403}
    assert answers.count(403) <= 12
    other = Browser(app, "192.0.2.77")
    assert other.post("/login", {"name": "owner", "password": PASSWORD}).status == 429  # the name rests too


def test_leaving_ends_the_session_for_good(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    kept = dict(one.cookies)
    assert one.post("/leave").status == 303
    one.cookies = kept
    assert one.get("/accounts").headers["Location"] == "/login"


def test_a_one_time_link_leads_to_the_first_login(box: Config, app: Any) -> None:
    with open_core(box):
        AdminUser.delete().execute()
    core_db.initialize(core_db.obj)
    one = Browser(app)
    assert "gatehouse admin-link" in one.get("/login").body
    link = links.create(box)
    where = "/enter" + link.partition("/enter")[2]
    entered = one.get(where)
    assert 'href="/users/new?first=1"' in entered.body
    for url, role in (("/users/new?first=1", "owner"), ("/users/new", "reader")):  # nobody gets more by oversight
        assert f"<option selected>{role}</option>" in one.get(url).body
    assert Browser(app).get(where).status == 403
    made = one.post("/users/new", {"name": "jana", "password": PASSWORD, "role": "owner", "first": "1"})
    assert made.status == 303
    assert Browser(app).post("/login", {"name": "jana", "password": PASSWORD}).status == 303


def token(link: str) -> str:
    return link.partition("token=")[2]


def test_the_consoles_link_is_good_till_it_is_used_or_made_anew(box: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    old = links.create_for_console(box, "box")
    new = links.create_for_console(box, "box")
    asked_for = links.create(box)
    in_a_year = time.time() + 365 * 86_400
    monkeypatch.setattr(time, "time", lambda: in_a_year)  # the clock was wrong as the box started
    assert not links.redeem(box, token(old))
    assert not links.redeem(box, token(asked_for))
    assert links.redeem(box, token(new))
    assert not links.redeem(box, token(new))


def test_links_that_are_over_leave_no_files(box: Config) -> None:
    links.create(box, now=time.time() - 2 * links.VALID_S)
    kept = links.create(box)
    assert len(list((box.paths.state / "admin").iterdir())) == 1
    assert links.redeem(box, token(kept))


def test_what_is_typed_is_shown_again_and_escaped(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    for url, form in (
        ("/accounts/new", {"name": f" {NASTY}", "plan": "home"}),
        ("/plans/new", {"name": NASTY, "down": NASTY}),
        ("/users/new", {"name": NASTY, "password": PASSWORD, "role": "owner"}),
    ):
        reply = one.post(url, form)
        assert reply.status == 400, url
        assert "<script>alert" not in reply.body
        assert "&lt;script&gt;" in reply.body, url
        assert 'role="alert"' in reply.body


def test_nasty_names_are_escaped_everywhere(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    assert one.post("/accounts/new", {"name": NASTY, "plan": "home"}).status == 200
    with core_db.connection_context():
        Session.create(
            unique_id="1", account=NASTY, nas=NASTY, acct_session_id="1", mac=NASTY, started_at=1, updated_at=1
        )
        Registration.create(
            kind="operator", state="waiting", mac=NASTY, name=NASTY, contact=NASTY, created_at=1, decided_by=NASTY
        )
        Mail.create(recipient=NASTY, subject=NASTY, body=b"", error=NASTY, state="failed", created_at=1, next_try_at=1)
    for page in routes(box):
        if page.method == "GET" and "<" not in page.path:
            reply = one.get(page.path)
            kind = reply.headers["Content-Type"].partition(";")[0]
            assert (kind == "text/html") == (not frame.is_api(page.path)), page.path  # programs get no page
            assert kind != "text/html" or "<script>alert" not in reply.body, page.path
    listed = re.search(r'href="(/accounts/[^"]+)">&lt;script', one.get("/accounts").body)
    assert listed
    reply = one.get(listed[1])
    assert "<script>alert" not in reply.body
    for kind in ("csv", "json"):
        assert one.get(f"/sessions?format={kind}").status == 200


def test_an_account_is_made_changed_and_removed_and_all_of_it_is_on_record(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    made = one.post("/accounts/new", {"name": "anna", "plan": "home"})
    assert re.search(r"shown only now: <code>[a-z2-9]{12}</code>", made.body)
    page = one.get("/accounts/anna").body
    assert "let in at 20M down" in page
    changed = one.post("/accounts/anna", {"plan": "home", "down": "5M", "valid_until": "2035-01-31T18:00"})
    assert changed.status == 303
    assert "let in at 5M down" in one.get("/accounts/anna").body
    assert one.post("/accounts/anna", {"plan": "home", "down": "fast"}).status == 400
    assert one.post("/accounts/anna/switch", {"enabled": "no"}).status == 200
    assert "blocked" in one.get("/accounts/anna").body
    assert one.post("/accounts/anna/switch", {"remove": "1"}).status == 303
    assert one.get("/accounts/anna").status == 400
    with core_db.connection_context():
        found = [
            (a.who, a.action, json.loads(a.changes)) for a in Audit.select().order_by(Audit.id) if "anna" in a.subject
        ]
    assert [(who, action) for who, action, _ in found] == [
        ("operator", "added"),
        ("operator", "changed"),
        ("operator", "changed"),
        ("operator", "removed"),
    ]
    assert found[1][2]["rate_down_bps"] == [None, 5_000_000]
    assert found[2][2] == {"enabled": [True, False]}


def test_a_plan_is_written_as_it_is_read(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    form = {"name": "nights", "down": "20M", "up": "5M", "windows": "daily 22:00-06:00 @50M/10M", "quota": "10G/month"}
    refused = one.post("/plans/new", form | {"price": "9.90"})
    assert refused.status == 400 and 'value="9.90"' in refused.body
    form |= {"price": "9.90", "currency": "eur"}
    assert one.post("/plans/new", form).headers["Location"] == "/plans/nights"
    page = one.get("/plans/nights").body
    assert "20 Mbit/s down, 5 up" in page
    assert 'value="10G/month"' in page and "costs 9.90 EUR" in page
    assert page.count('class="open"') == 7 * 8
    again = dict(re.findall(r'<input id="[a-z_]+" name="([a-z_]+)"[^>]* value="([^"]*)"', page))
    assert one.post("/plans/nights", again).status == 303
    with core_db.connection_context():
        (last,) = Audit.select().order_by(Audit.id.desc()).limit(1)
    assert json.loads(last.changes) == {}


def test_a_list_is_its_url(box: Config, app: Any) -> None:
    one = browser(app, "reader")
    with core_db.connection_context(), core_db.atomic():
        plan = Plan.get()
        rows = [
            {"name": f"a{n:03}", "plan": plan, "password": b"", "created_at": n, "enabled": n % 2} for n in range(120)
        ]
        Account.insert_many(rows).execute()
    first = one.get("/accounts").body
    assert first.count("<tr>") - 1 == 50
    assert "120" in first
    last = one.get("/accounts?sort=-name&page=3").body
    assert re.findall(r">(a\d{3})</a>", last) == [f"a{n:03}" for n in range(19, -1, -1)]
    assert 'aria-sort="descending"' in last
    blocked = one.get("/accounts?state=blocked&q=a01").body
    assert re.findall(r">(a\d{3})</a>", blocked) == ["a010", "a012", "a014", "a016", "a018"]
    exported = one.get("/accounts?state=blocked&q=a01&format=json")
    assert [row["name"] for row in json.loads(exported.body)] == ["a010", "a012", "a014", "a016", "a018"]
    text = one.get("/accounts?format=csv").body.splitlines()
    assert text[0].startswith("name,plan,enabled")
    assert len(text) == 121
    for nonsense in ("?page=-1", "?page=x", "?sort=password", "?state=nothing", "?q=%27%3B--", "?page=99999999999999"):
        assert one.get(f"/accounts{nonsense}").status == 200


def test_formulas_stay_text_in_spreadsheets(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    one.post("/accounts/new", {"name": "=HYPERLINK(1)", "plan": "home"})
    assert "'=HYPERLINK(1)" in one.get("/accounts?format=csv").body


def test_headers_are_on_every_answer(box: Config, app: Any) -> None:
    one = browser(app, "reader")
    for url in ("/", "/accounts", "/nothing", "/accounts/nobody", "/login", "/static/admin.css"):
        headers = one.get(url).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert one.get("/").headers["Cache-Control"] == "no-store"
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=|<style|<script(?! defer src=)", one.get("/plans/new").body)


def test_the_last_owner_stays(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    for form in ({"remove": "1"}, {"role": "reader"}, {"enabled": "no"}):
        assert "is the only owner" in one.post("/users/owner", form).body
    assert one.post("/users/operator", {"enabled": "no"}).status == 303
    assert Browser(app).post("/login", {"name": "operator", "password": PASSWORD}).status == 403


def test_a_session_is_ended_by_a_new_password_and_by_hand(box: Config, app: Any) -> None:
    reader, owner = browser(app, "reader"), browser(app, "owner")
    with core_db.connection_context():
        session = AdminSession.select().join(AdminUser).where(AdminUser.name == "reader").get()
    assert owner.post("/users/sessions/end", {"session": session.token}).status == 303
    assert reader.get("/").headers["Location"] == "/login"
    reader = browser(app, "reader")
    assert owner.post("/users/reader", {"password": "another horse"}).status == 303
    assert reader.get("/").headers["Location"] == "/login"


def test_programs_come_by_a_token(box: Config, app: Any) -> None:
    owner = browser(app, "owner")
    shown = owner.post("/users/tokens/new", {"name": "billing", "role": "reader"}).body
    secret = re.search(r"<code>(gh_[^<]+)</code>", shown)
    assert secret
    program = Browser(app)
    program.headers = {"HTTP_AUTHORIZATION": f"Bearer {secret[1]}"}
    assert program.get("/accounts?format=json").body == "[]"
    assert program.post("/accounts/new", {"name": "x", "plan": "home"}).status == 403
    assert owner.post("/users/tokens/billing/remove").status == 303
    assert program.get("/accounts").status == 303


def test_pages_of_a_module_that_is_not_enabled_are_absent(box: Config) -> None:
    modules.set_enabled(box, HOTSPOT, False)
    one = browser(frame.Frame(box).app(), "owner")
    assert 'href="/setup"' in one.get("/").body
    assert one.get("/accounts").status == 404
    assert 'href="/accounts"' not in one.get("/").body


def test_guests_who_wait_are_decided_about_together(box: Config, app: Any) -> None:
    box.file.write_text(box.file.read_text() + '[portal]\nregistration = "operator"\nregistration_plan = "home"\n')
    one = browser(frame.Frame(config.load(box.file)).app(), "operator")
    with core_db.connection_context():
        for number in (1, 2, 3):
            Registration.create(kind="operator", state="waiting", mac=str(number), name=f"guest {number}", created_at=1)
    assert 'href="/registrations?state=waiting">3 guests wait' in one.get("/").body
    assert one.get("/registrations?state=waiting").body.count('name="registration"') == 3
    assert one.post("/registrations/decide", {"registration": "1", "approve": "1"}).status == 303
    assert one.post("/registrations/decide", {"registration": "2", "refuse": "1"}).status == 303
    said = one.post("/registrations/decide", {"registration": "2", "approve": "1"})
    assert "refused already" in base64.urlsafe_b64decode(said.cookies["notice"].strip('"')).decode()
    with core_db.connection_context():
        assert [row.state for row in Registration.select().order_by(Registration.id)] == [
            "accepted",
            "refused",
            "waiting",
        ]
        (account,) = Account.select()
        assert account.plan.name == "home"
        done = [(a.who, a.action, a.subject) for a in Audit.select() if "registration" in a.subject]
    assert done == [("operator", "approved", "registration 1"), ("operator", "refused", "registration 2")]
    assert "Registered by guest 1" in one.get(f"/accounts/{account.name}").body


def test_messages_that_couldnt_be_sent_need_attention(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    with core_db.connection_context():
        Mail.create(recipient="a@b.cz", subject="Hi", body=b"", state="failed", created_at=1, next_try_at=1)
    assert 'href="/messages?state=failed">1 message couldn&#39;t be sent' in one.get("/").body
    assert one.post("/messages/remove", {"message": "1"}).status == 303
    assert "sent</a>" not in one.get("/").body


def test_settings_become_wishes_and_are_on_record(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    page = one.get("/settings/site").body
    assert 'name="site.timezone" type="text" value="Europe/Prague"' in page
    for typed, said in (("Nowhere/City", "a time zone such as"), (NASTY, "&lt;script&gt;")):
        reply = one.post("/settings/site", {"site.name": "kept", "site.timezone": typed})
        assert (reply.status, said in reply.body, 'value="kept"' in reply.body) == (400, True, True)
    assert not list((box.paths.state / ASKED).iterdir())
    asked = one.post("/settings/site", {"site.name": "Café", "site.timezone": "", "paths.run": "/", "site.contact": ""})
    where = asked.headers["Location"]
    assert re.fullmatch(r"/wishes/[0-9a-f-]+\?back=/settings/site", where)
    assert "goes on by itself" in one.get(where).body
    number = where.split("/")[2].split("?")[0]
    with wishes.folder(box.paths.state) as folder:
        assert wishes.read(folder, number).settings == {"site.name": "Café", "site.timezone": None}
        wishes.remove(folder, f"{number}.json")
    (box.paths.state / ANSWERED / number).write_text(f"no: {NASTY}")
    refused = one.get(one.get(where).headers["Location"]).body
    assert "no: &lt;script&gt;" in refused
    (box.paths.state / ANSWERED / number).write_text("")
    assert one.get(where).headers["Location"] == "/settings/site"
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert one.get(f"/wishes/{number}?back={elsewhere}").headers["Location"] == "/"
    with core_db.connection_context():
        (last,) = Audit.select().where(Audit.subject == "settings")
    assert json.loads(last.changes)["site.name"] == ["Gatehouse", "Café"]


def test_a_module_is_switched_by_a_wish(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    assert "Switch off" in one.get("/modules").body
    where = one.post("/modules/hotspot", {"on": "no"}).headers["Location"]
    assert where.endswith("?back=/modules")
    with wishes.folder(box.paths.state) as folder:
        (number,) = wishes.waiting(folder)
        assert wishes.read(folder, number).modules == {"hotspot": False}
    assert one.post("/modules/nothing", {"on": "yes"}).status == 400


def test_texts_by_language_and_a_logo_are_typed_and_shown_again(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    texts = {"portal.title": "[en]\r\nHello\r\n[cs]\r\nAhoj", "portal.terms": "One\r\n\r\nTwo"}
    assert one.post("/settings/portal", texts | {"remove portal.logo": "on"}).status == 303
    with wishes.folder(box.paths.state) as folder:
        (number,) = wishes.waiting(folder)
        asked = wishes.read(folder, number)
    assert asked.settings == {"portal.title": {"en": "Hello", "cs": "Ahoj"}, "portal.terms": "One\n\nTwo"}
    assert asked.files == {"portal.logo": b""}
    after = wishes.edited(box, asked.settings)
    assert after.portal.title.by_language == (("en", "Hello"), ("cs", "Ahoj"))
    box.file.write_text(after.text)
    page = one.get("/settings/portal").body
    assert ">[en]\nHello\n[cs]\nAhoj</textarea>" in page
    with pytest.raises(UserError, match="no SVG"):
        wishes.wish(box, "owner", files={"portal.logo": b"<html>"})
    with pytest.raises(UserError, match=f"at most {MAX_LOGO_BYTES} bytes"):
        wishes.wish(box, "owner", files={"portal.logo": b"<svg>" + b" " * MAX_LOGO_BYTES})


def test_the_consoles_link_is_no_good_once_an_owner_can_log_in(box: Config, app: Any) -> None:
    with open_core(box):
        AdminUser.delete().execute()
    core_db.initialize(core_db.obj)
    shown, used = links.create_for_console(box, "box"), links.create(box)
    one = Browser(app)
    one.get("/enter" + used.partition("/enter")[2])
    assert one.post("/users/new", {"name": "jana", "password": PASSWORD, "role": "owner", "first": "1"}).status == 303
    assert not links.redeem(box, token(shown))


def test_the_first_run_leads_from_step_to_step_and_can_be_left(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    assert one.get("/setup/next?after=/setup/modules").headers["Location"] == "/setup/first"  # a plan is there
    for url, form in (
        ("/setup/site", {"site.name": NASTY, "site.timezone": "x"}),
        ("/setup/plan", {"name": NASTY, "down": "fast"}),
        ("/setup/first/vouchers", {"plan": "home", "count": "0"}),
        ("/setup/first/account", {"plan": "home", "name": f" {NASTY}"}),
    ):
        reply = one.post(url, form)
        assert (reply.status, "<script>alert" in reply.body, 'role="alert"' in reply.body) == (400, False, True), url
    made = one.post("/setup/first/vouchers", {"plan": "home", "count": "2"})
    assert made.headers["Location"] == "/setup/done?batch=first"
    again = one.post("/setup/first/vouchers", {"plan": "home", "count": "2"})
    assert again.headers["Location"] == "/setup/done?batch=first-2"
    page = one.get("/setup/done?batch=first").body
    assert 'href="/vouchers/batch/first/print"' in page
    assert "isn’t up yet" in page
    assert "All is set up" in one.get("/setup").body
    shown = one.post("/setup/first/account", {"plan": "home", "name": "anna"}).body
    assert re.search(r"shown only now: <code>[a-z2-9]{12}</code>", shown)


def test_a_box_without_modules_is_set_up_by_one_wish(box: Config) -> None:
    modules.set_enabled(box, HOTSPOT, False)
    one = browser(frame.Frame(box).app(), "owner")
    assert 'href="/setup"' in one.get("/").body
    assert "Choose at least one" in one.post("/setup/modules", {"gateway": "no"}).body
    chosen = {"module hotspot": "on", "gateway": "yes", "gateway.wan": "lo", "gateway.lan": "lo"}
    same = one.post("/setup/modules", chosen)
    assert (same.status, "two different network devices" in same.body) == (400, True)
    where = one.post("/setup/modules", chosen | {"gateway": "no"}).headers["Location"]
    assert where.endswith("?back=/setup/next%3Fafter%3D/setup/modules")
    with wishes.folder(box.paths.state) as folder:
        (number,) = wishes.waiting(folder)
        asked = wishes.read(folder, number)
    assert (asked.settings, asked.modules) == ({"gateway.enabled": False}, {"hotspot": True})


def test_a_refused_wish_comes_back_with_what_was_typed(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    for path, typed in (
        ("/settings/portal", {"portal.title": "Café\n<b>", "portal.hostname": "login.example.net"}),
        ("/setup/site", {"site.name": "Café <b>", "site.contact": "at the bar"}),
        ("/setup/modules", {"gateway": "no", "module hotspot": "on"}),
    ):
        where = one.post(path, typed | {"password": "SECRET", "known": "1"}).headers["Location"].partition("?")[0]
        assert "goes on by itself" in one.get(where).body
        number = where.rpartition("/")[2]
        (box.paths.state / ASKED / f"{number}.json").unlink()
        (box.paths.state / ANSWERED / number).write_text("a program <refuses> that")
        form = one.get(where).headers["Location"]
        assert form == f"{path}?refused={number}"
        shown = one.get(form)
        assert (shown.status, "a program &lt;refuses&gt; that" in shown.body) == (400, True)
        for text in typed.values():
            assert escape(text) in shown.body or text in ("no", "on")
        assert path != "/setup/modules" or re.search('name="gateway" value="no" checked', shown.body)
        assert "SECRET" not in (box.paths.state / "admin/drafts" / number).read_text()
        assert "&lt;refuses" not in one.get(path).body
        assert "&lt;refuses" not in one.get(form.replace(path, "/settings/radius")).body
        with core_db.connection_context():
            people.add(people.columns(f"other{number}", PASSWORD, "owner"))
        other = Browser(app)
        other.post("/login", {"name": f"other{number}", "password": PASSWORD})
        assert "&lt;refuses" not in other.get(form).body
        assert "&lt;refuses" in other.get(where).body, "in the plain way"
        (box.paths.state / ANSWERED / number).write_text("")
        assert one.get(where).headers["Location"] != form
        assert one.get(form).status == 200
    for bad in ("x" * 300, "../users", "%00"):
        assert one.get(f"/settings/portal?refused={bad}").status == 200


def test_a_box_with_routers_only_speaks_of_no_gateway(box: Config) -> None:
    routers = replace(box, gateway=replace(box.gateway, enabled=False))
    with open_core(box):
        manage.add(Nas, "nas", name="gateway", address="127.0.0.1", kind=GATEWAY, secret=b"x", seen_at=1)
    own, other = browser(frame.Frame(box).app(), "owner"), browser(frame.Frame(routers).app(), "owner")
    for path, said in (
        ("/routers", '<a href="/routers/gateway">'),
        ("/leases", "when they join the network of the guests"),
        ("/", "<strong>1</strong><span>routers"),
    ):
        assert (said in own.get(path).body, said in other.get(path).body) == (True, False), path
    box.file.write_text(box.file.read_text() + "[gateway]\nenabled = false\n")
    page = other.get("/setup/modules").body
    assert re.search(r'value="no" checked', page)
    assert "Bring a router" in other.get("/setup/done").body
    titles = {check.title for check in doctor.checks(box)} - {check.title for check in doctor.checks(routers)}
    assert {"phones", "rules", "network devices", "addresses for guests"} <= titles
    assert vouchers.login_url(routers, "abc") == "abc"
    running = {service.name for service in apply.services(routers, [HOTSPOT])}
    assert {"gateway", "dnsmasq"} == {service.name for service in apply.services(box, [HOTSPOT])} - running


def test_a_certificate_is_brought_as_files_and_its_key_is_never_shown(box: Config, app: Any) -> None:
    one = browser(app, "owner")
    assert "No TLS now" in one.get("/certificates").body
    assert "choose the file" in one.post("/certificates/admin.certificate", {}).body
    assert one.post("/certificates/portal.logo", {"remove": "1"}).status == 400
    parts = {'certificate"; filename="a.pem': "SECRET KEY", "form_token": one.token()}
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in parts.items())
    one.headers = {"CONTENT_TYPE": "multipart/form-data; boundary=x"}
    reply = one._ask("POST", "/certificates/admin.certificate", f"{body}--x--\r\n".encode())
    assert (reply.status, "both as PEM text" in reply.body, "SECRET" in reply.body) == (400, True, False)
    with core_db.connection_context():
        assert not Audit.select().where(Audit.subject.contains("certificate")).exists()


def test_words_of_paths_are_escaped_in_names(box: Config) -> None:
    """Each page that has a word where another has a name."""
    every = [page.path.split("/") for page in frame.pages(box) if not frame.is_api(page.path)]
    beside = {
        word[place]
        for named in every
        for place, one in enumerate(named)
        if one.startswith("<") and one.endswith(">")
        for word in every
        if len(word) > place and word[:place] == named[:place] and not word[place].startswith("<")
    }
    assert beside == paths.TAKEN - {".", ".."}


@pytest.mark.parametrize(
    "name", ["a/b", "a/switch", "/", "new", "many", "import", "..", "100%", "%2F", "%6Eew", "ž?#&"]
)
def test_an_account_of_any_name_has_its_pages(box: Config, app: Any, name: str) -> None:
    """Found in the list, looked at, changed and removed by the addresses that the pages themselves have."""
    one = browser(app, "operator")
    with core_db.connection_context():
        for taken in ("a", "b", name):
            Account.create(name=taken, plan=Plan.get(), password=load_box(box.paths.state).seal("x"), created_at=1)
    (row,) = [
        row
        for row in re.findall(r'<a href="(/accounts/[^"]+)">([^<]+)</a>', one.get("/accounts").body)
        if row[1] == escape(name)
    ]
    url = row[0]
    page = one.get(url)
    assert (page.status, f"<h1>{escape(name)}" in page.body) == (200, True)
    forms = set(re.findall(r'action="(/accounts/[^"]+)"', page.body))
    assert forms == {row[0], f"{row[0]}/switch"}
    assert one.get(f"{url}/why").status == 200
    assert one.post(url, {"plan": "home", "down": "3M"}).headers["Location"] == row[0]
    assert one.post(f"{url}/switch", {"enabled": "no"}).status == 200
    with core_db.connection_context():
        found = {account.name: (account.overrides, account.enabled) for account in Account.select()}
    assert "3000000" in str(found.pop(name))
    assert all(str(other) == str(("", True)) or "3000000" not in str(other) for other in found.values())
    assert one.post(f"{url}/switch", {"remove": "1"}).status == 303
    with core_db.connection_context():
        assert {account.name for account in Account.select()} == {"a", "b"}


def test_a_router_and_a_plan_named_like_a_page(box: Config, app: Any) -> None:
    one = browser(app, "operator")
    assert one.post("/plans/new", {"name": "new", "down": "1M"}).headers["Location"] == f"/plans/{paths.part('new')}"
    assert one.post("/routers/new", {"name": "new", "address": "192.0.2.7", "kind": "other"}).status == 200
    for room in ("plans", "routers"):
        (link,) = re.findall(rf'<a href="(/{room}/%[^"]+)">new</a>', one.get(f"/{room}").body)
        assert one.get(link).status == 200
        assert one.post(f"{link}/remove").status == 303
        assert not re.findall(rf'<a href="(/{room}/%[^"]+)">new</a>', one.get(f"/{room}").body)
