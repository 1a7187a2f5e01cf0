"""portal/web.py as a guest's browser sees it, with RADIUS and the gateway played by the test."""

import base64
import hashlib
import io
import logging
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import guest_verbs
from appliance import tries as limits
from appliance.config import parse
from appliance.config_portal import MAX_GREETING, MAX_TITLE
from appliance.errors import Unavailable, UserError
from appliance.tries import Tries
from portal import dhcp
from portal.guard import FormTokens, load_key
from portal.http import Wsgi
from portal.languages import NAMES, language
from portal.look import MAX_LOGO_BYTES, RENDERED_LOGO
from portal.protocol import Answer, Logout, Request, Who
from portal.radius import Accepted, Rejected
from portal.texts import duration, octets
from portal.web import Portal

IP = "10.10.0.2"
MAC = "02:00:00:00:00:01"
LEASES = f"1 {MAC} {IP} * *\n2 02:00:00:00:00:03 10.10.0.3 * *\n"
KEY = b"k" * 32


@dataclass
class Page:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def token(self) -> str:
        match = re.search(r'name="token" value="([0-9a-f]+)"', self.text)
        assert match, self.text
        return match[1]

    @property
    def alert(self) -> str:
        match = re.search(r'role="alert"[^>]*>([^<]*)<', self.text)
        return unescape(match[1]) if match else ""

    @property
    def notice(self) -> str:
        match = re.search(r'role="status"[^>]*>([^<]*)<', self.text)
        return unescape(match[1]) if match else ""


@dataclass
class World:
    """What RADIUS and the gateway answer, what they were asked, and the time."""

    directory: Path
    config_text: str = ""
    radius: Accepted | Rejected | UserError | None = None
    gateway: Answer | UserError = field(default_factory=lambda: Answer(online=False))
    refuses: UserError | None = None
    logins: list[tuple[str, str, IPv4Address, str]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    now: float = 1_800_000_000.0
    device: Accepted | Rejected | UserError = field(default_factory=Rejected)
    wishes: list[tuple[str, str]] = field(default_factory=list)
    office: guest_verbs.Answer | UserError = field(default_factory=guest_verbs.Answer)
    wanted: list[guest_verbs.Request] = field(default_factory=list)

    def app(self) -> Wsgi:
        config = parse(f'[paths]\nstate = "{self.directory}"\n{self.config_text}')
        return Portal(config, self._authenticate, self._ask, self._office, KEY, clock=lambda: self.now).app()

    def _authenticate(self, user: str, password: str, ip: IPv4Address, mac: str, wish: str) -> Accepted | Rejected:
        self.wishes.append((user, wish))
        if user == mac:
            if isinstance(self.device, UserError):
                raise self.device
            return self.device
        self.logins.append((user, password, ip, mac))
        if isinstance(self.radius, UserError):
            raise self.radius
        granted = Accepted(ip=ip, mac=mac, account=user, session_class="", down_bps=0, up_bps=0)
        return self.radius or granted

    def _office(self, request: guest_verbs.Request) -> guest_verbs.Answer:
        self.wanted.append(request)
        if isinstance(self.office, UserError):
            raise self.office
        return self.office

    def _ask(self, question: Request) -> Answer:
        self.asked.append(question)
        if isinstance(self.gateway, UserError):
            raise self.gateway
        if self.refuses and not isinstance(question, Who):
            raise self.refuses
        return self.gateway


class Browser:
    def __init__(self, world: World) -> None:
        self._app = world.app()

    def get(self, path: str = "/", ip: str = IP, host: str = "10.10.0.1", **headers: str) -> Page:
        return self.send("GET", path, b"", ip, host, headers)

    def post(self, path: str, ip: str = IP, host: str = "10.10.0.1", **fields: str) -> Page:
        return self.send("POST", path, urlencode(fields).encode(), ip, host, {})

    def log_in(self, user: str = "anna", password: str = "x", ip: str = IP) -> Page:
        return self.post("/login", ip, user=user, password=password, token=self.get(ip=ip).token)

    def send(self, method: str, path: str, body: bytes, ip: str, host: str, headers: dict[str, str]) -> Page:
        path, _, query = path.partition("?")
        environ: dict[str, object] = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": host}
        environ["QUERY_STRING"] = query
        environ["wsgi.input"] = io.BytesIO(body)
        if body:
            environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/x-www-form-urlencoded"}
        if ip:
            environ["HTTP_X_REAL_IP"] = ip
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        environ |= {"CONTENT_TYPE": headers["content_type"]} if "content_type" in headers else {}
        setup_testing_defaults(environ)
        started: list[tuple[str, list[tuple[str, str]]]] = []
        parts = self._app(environ, lambda status, made, *more: started.append((status, made)))
        ((status, made),) = started
        assert len({name for name, _ in made}) == len(made)
        return Page(int(status.split()[0]), dict(made), b"".join(parts).decode())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dhcp, "READ_AGAIN_AFTER_S", 0.001)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "dnsmasq").mkdir()
    (tmp_path / "dnsmasq" / "leases").write_text(LEASES)
    return World(tmp_path)


@pytest.fixture
def browser(world: World) -> Iterator[Browser]:
    yield Browser(world)


# -- where requests go


@pytest.mark.parametrize("host", ["captive.apple.com", "connectivitycheck.gstatic.com:80", "", "10.10.0.2", "[::1]"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/generate_204",
        "/hotspot-detect.html",
        "/connecttest.txt",
        "/canonical.html",
        "/login",
        "/captive-portal/api",
    ],
)
def test_foreign_names_lead_to_the_portal(browser: Browser, host: str, path: str) -> None:
    page = browser.get(path, host=host)
    assert (page.status, page.headers["Location"]) == (302, "http://10.10.0.1/")
    assert page.headers["Cache-Control"] == "no-store"


def test_posts_to_foreign_names_lead_to_the_portal(browser: Browser, world: World) -> None:
    assert browser.post("/login", host="shop.example", user="a", password="b").status == 302
    assert not world.logins


@pytest.mark.parametrize(
    "host", ["10.10.0.1", "10.10.0.1:8080", "LOGIN.gatehouse.internal", "login.gatehouse.internal.", "localhost:80"]
)
def test_own_names_show_the_login(browser: Browser, host: str) -> None:
    assert browser.get(host=host).status == 200


def test_with_a_certificate_everything_leads_to_tls(world: World) -> None:
    world.config_text = '[portal]\nhostname = "login.example.net"\ncertificate = "/c"\nkey = "/k"'
    browser = Browser(world)
    home = "https://login.example.net/"
    assert browser.get(host="captive.apple.com").headers["Location"] == home
    plain = browser.get(host="login.example.net", x_forwarded_proto="http")
    assert (plain.status, plain.headers["Location"]) == (302, home)
    assert browser.get(host="login.example.net", x_forwarded_proto="https").status == 200


@pytest.mark.parametrize("ip", ["", "fd00::1", "10.10.0.2, 1.2.3.4", "10.10.0", "unix:"])
def test_without_a_usable_address_nobody_is_served(browser: Browser, ip: str) -> None:
    assert browser.get(ip=ip).status == 400


def test_unknown_page(browser: Browser) -> None:
    page = browser.get("/nowhere")
    assert page.status == 404
    assert "There is no such page" in page.text


def test_wrong_method(browser: Browser) -> None:
    assert browser.get("/logout").status == 405


def test_large_body_is_refused_unread(browser: Browser, world: World) -> None:
    page = browser.post("/login", user="a" * 5000)
    assert page.status == 413
    assert not world.asked


@pytest.mark.parametrize("path", ["/", "/status", "/nowhere", "/captive-portal/api"])
def test_every_answer_has_the_headers(browser: Browser, path: str) -> None:
    headers = browser.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == ("private" if "api" in path else "no-store")


# -- the login page


def test_login_page_is_small_and_self_contained(browser: Browser) -> None:
    page = browser.get()
    assert len(page.text.encode()) < 15_000
    assert not re.findall(r'(?:src|href)="(?!data:,|/)', page.text)
    assert "@import" not in page.text and "url(" not in page.text


def test_login_page_helps_phones(browser: Browser) -> None:
    text = browser.get().text
    for words in ('autocomplete="username"', 'autocomplete="current-password"', 'autocapitalize="none"'):
        assert words in text
    assert '<label for="user">' in text and '<label for="password">' in text
    assert 'lang="en"' in text and 'name="viewport"' in text


def test_site_is_named_and_escaped(world: World) -> None:
    world.config_text = '[site]\nname = "Ann & <Bob>"\ncontact = "call <us>"'
    text = Browser(world).get().text
    assert "Ann &amp; &lt;Bob&gt;" in text and "call &lt;us&gt;" in text


class TestTheOperatorsLook:
    def test_his_words_stand_there_escaped_and_in_the_guests_language(self, world: World) -> None:
        world.config_text = """[portal]
title = { en = "Camp <b>", cs = "Kemp" }
greeting = "Welcome\\nto <i>us</i>"
"""
        text = Browser(world).get().text
        assert "<h1>Camp &lt;b&gt;</h1>" in text and "<title>Camp &lt;b&gt; –" in text
        assert "Welcome\nto &lt;i&gt;us&lt;/i&gt;" in text
        assert "<h1>Kemp</h1>" in Browser(world).get("/?lang=cs").text

    def test_his_colour_is_in_the_style_that_the_policy_allows(self, world: World) -> None:
        world.config_text = '[portal]\naccent = "#c2185b"'
        page = Browser(world).get()
        style = re.findall("<style>(.*?)</style>", page.text, re.DOTALL)[0]
        assert "--main:#c2185b" in style
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in page.headers["Content-Security-Policy"]

    def test_his_logo_is_part_of_the_page(self, world: World) -> None:
        world.config_text = f'run = "{world.directory}"\n[site]\nname = "Ann & Bob"'
        logo = "data:image/png;base64," + "A" * (MAX_LOGO_BYTES * 4 // 3)
        (world.directory / RENDERED_LOGO).write_text(logo)
        for code in NAMES:
            page = Browser(world).get(f"/?lang={code}")
            assert f'<img src="{logo}" alt="Ann &amp; Bob">' in page.text
            assert len(page.text.encode()) < 15_000

    def test_with_all_of_it_the_page_is_small_still(self, world: World) -> None:
        world.config_text = f"""run = "{world.directory}"
[site]
name = "{"N" * 60}"
contact = "{"c" * 100}"
[portal]
accent = "#ff8800"
title = "{"ž" * MAX_TITLE}"
greeting = "{"ž" * MAX_GREETING}"
free_plan = "free"
registration = "operator"
registration_plan = "guest"
"""
        (world.directory / RENDERED_LOGO).write_text("data:image/png;base64," + "A" * (MAX_LOGO_BYTES * 4 // 3))
        for terms in ("", 'terms_url = "https://isp.example/terms"'):
            world.config_text += terms
            for code in NAMES:
                assert len(Browser(world).get(f"/?lang={code}").text.encode()) < 15_000


class TestTerms:
    TEXT = '[portal]\nterms = "Be <nice>.\\n\\nAlways."'

    def test_they_must_be_accepted(self, world: World) -> None:
        world.config_text = self.TEXT
        browser = Browser(world)
        page = browser.get()
        assert '<input type="checkbox" name="terms" value="1" required>' in page.text
        assert '<a href="/terms">' in page.text
        refused = browser.post("/login", user="anna", password="x", token=page.token)
        assert (refused.status, refused.alert) == (403, "Please accept the terms of use first.")
        assert 'value="anna"' in refused.text and not world.logins
        assert browser.post("/login", user="anna", password="x", terms="1", token=page.token).status == 303

    def test_they_can_be_read(self, world: World) -> None:
        world.config_text = self.TEXT
        page = Browser(world).get("/terms?lang=de")
        assert page.status == 200 and "Nutzungsbedingungen" in page.text
        assert "Be &lt;nice&gt;.\n\nAlways." in page.text
        assert '<a href="/terms?lang=cs"' in page.text

    def test_elsewhere(self, world: World) -> None:
        world.config_text = '[portal]\nterms_url = "https://isp.example/?a&b"'
        browser = Browser(world)
        assert '<a href="https://isp.example/?a&amp;b">' in browser.get().text
        assert browser.get("/terms").status == 404
        assert browser.log_in().status == 403

    def test_a_code_does_not_enter_by_itself_past_them(self, world: World) -> None:
        world.config_text = self.TEXT
        assert "data-enter" not in Browser(world).get("/?code=abcd").text

    def test_without_terms_nothing_is_asked(self, browser: Browser) -> None:
        assert "terms" not in re.sub(r"<style>.*?</style>", "", browser.get().text, flags=re.DOTALL)
        assert browser.get("/terms").status == 404


def test_guest_without_a_lease_learns_what_to_do(browser: Browser, world: World) -> None:
    page = browser.get(ip="10.10.0.99")
    assert page.status == 200
    assert "Please reconnect" in page.text and "<form" not in page.text


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (1, "logged out"),
        (4, "quiet"),
        (5, "time is up"),
        (6, "operator"),
        (10, "allowance is used up"),
        (9, "connection has ended"),
    ],
)
def test_login_page_says_why_the_session_ended(browser: Browser, world: World, cause: int, words: str) -> None:
    world.gateway = Answer(online=False, ended=cause)
    assert words in browser.get().notice


def test_silent_gateway_is_said(browser: Browser, world: World) -> None:
    world.gateway = Unavailable("the gateway doesn't answer")
    for path in ("/", "/status", "/captive-portal/api"):
        page = browser.get(path)
        assert page.status == 503
        assert "isn’t working right now" in page.text


# -- in the guest's language


class TestLanguage:
    def test_the_browsers_is_taken(self, browser: Browser) -> None:
        page = browser.get(accept_language="cs-CZ,cs;q=0.9,en;q=0.5")
        assert '<html lang="cs">' in page.text and "Přihlásit se" in page.text
        assert page.headers["Content-Language"] == "cs"
        assert page.headers["Vary"] == "Accept-Language, Cookie"
        assert "Set-Cookie" not in page.headers

    def test_the_guests_choice_is_kept(self, browser: Browser) -> None:
        page = browser.get("/?lang=de", accept_language="cs")
        assert page.headers["Content-Language"] == "de"
        kept = page.headers["Set-Cookie"]
        assert kept.startswith("lang=de; ") and "HttpOnly" in kept and "SameSite=Lax" in kept
        assert browser.get(accept_language="cs", cookie="lang=de").headers["Content-Language"] == "de"
        assert browser.get("/?lang=uk", cookie="lang=de").headers["Content-Language"] == "uk"

    @pytest.mark.parametrize("wanted", ["xx", "", "cs%0d%0aX:y", "..%2f"])
    def test_what_is_not_offered_is_not_kept(self, browser: Browser, wanted: str) -> None:
        page = browser.get(f"/?lang={wanted}", cookie="lang=<b>")
        assert page.headers["Content-Language"] == "en" and "Set-Cookie" not in page.headers

    def test_the_operators_choice_is_offered_and_no_other(self, world: World) -> None:
        world.config_text = '[portal]\nlanguages = ["sk", "cs"]'
        page = Browser(world).get("/?lang=de", accept_language="de")
        assert page.headers["Content-Language"] == "sk"
        assert re.findall(r'href="([^"]*)" lang="([a-z]+)"', page.text) == [("/?lang=cs", "cs")]
        world.config_text = '[portal]\nlanguages = ["sk"]'
        assert "<nav" not in Browser(world).get().text

    @pytest.mark.parametrize("code", NAMES)
    def test_each_page_is_small_and_in_one_language(self, browser: Browser, world: World, code: str) -> None:
        page = browser.get(f"/?lang={code}")
        assert f'<html lang="{code}">' in page.text
        assert len(page.text.encode()) < 15_000
        assert len(re.findall(r'<a href="/\?lang=', page.text)) == len(NAMES) - 1
        world.gateway = ONLINE
        assert re.findall(r'<a href="(/status\?lang=..)"', browser.get("/status").text)

    def test_errors_are_translated_too(self, browser: Browser, world: World) -> None:
        page = browser.get("/nowhere", accept_language="fr")
        assert page.status == 404
        assert "Cette page n’existe pas" in page.text and page.headers["Content-Language"] == "fr"
        world.gateway = Unavailable("silent")
        assert "Strona" not in browser.get(accept_language="pl").text
        assert "Ta strona teraz nie działa" in browser.get(accept_language="pl").text

    def test_refusals_are_translated(self, browser: Browser, world: World) -> None:
        world.radius = Rejected("Your plan allows Mo–Fr 08:00–20:00.")
        token = browser.get().token
        body = urlencode({"user": "anna", "password": "x", "token": token}).encode()
        page = browser.send("POST", "/login", body, IP, "10.10.0.1", {"cookie": "lang=de"})
        assert page.alert == "Ihr Tarif gilt zu diesen Zeiten: Mo–Fr 08:00–20:00."

    def test_another_language_keeps_the_code(self, browser: Browser) -> None:
        assert 'href="/?lang=cs&amp;code=ab%26c"' in browser.get("/?code=ab%26c").text


# -- logging in


def test_login_goes_to_radius_then_to_the_gateway(browser: Browser, world: World) -> None:
    page = browser.log_in("  anna ", " pass word ")
    assert (page.status, page.headers["Location"]) == (303, "/status")
    assert world.logins == [("anna", " pass word ", IPv4Address(IP), MAC)]
    granted = world.asked[-1]
    assert isinstance(granted, Accepted)
    assert (granted.account, granted.mac, str(granted.ip)) == ("anna", MAC, IP)


def test_name_in_any_script(browser: Browser, world: World) -> None:
    browser.log_in("Žofie", "пароль")
    assert world.logins[0][:2] == ("Žofie", "пароль")


def test_wrong_password_keeps_the_name_only(browser: Browser, world: World) -> None:
    world.radius = Rejected()
    page = browser.log_in('an"na', "hunter2")
    assert (page.status, page.alert) == (403, "Wrong name or password.")
    assert 'value="an&#34;na"' in page.text
    assert "hunter2" not in page.text
    assert not any(isinstance(asked, Accepted) for asked in world.asked)


def test_servers_own_words_are_shown(browser: Browser, world: World) -> None:
    world.radius = Rejected("Your <plan> has ended.")
    page = browser.log_in()
    assert page.alert == "Your <plan> has ended."
    assert "<plan>" not in page.text


def test_silent_radius_is_said_and_the_name_kept(browser: Browser, world: World) -> None:
    world.radius = Unavailable("no answer")
    page = browser.log_in("anna")
    assert page.status == 503
    assert "isn’t working right now" in page.alert
    assert 'value="anna"' in page.text
    assert page.headers["Retry-After"]


@pytest.mark.parametrize("error", [Unavailable("silent"), UserError("no address left")])
def test_gateway_that_doesnt_let_in_is_said(browser: Browser, world: World, error: UserError) -> None:
    world.refuses = error
    page = browser.log_in()
    assert page.status == 503
    assert "isn’t working right now" in page.alert


def test_login_without_a_lease(browser: Browser, world: World) -> None:
    token = browser.get().token
    (world.directory / "dnsmasq" / "leases").write_text("")
    assert "Please reconnect" in browser.post("/login", user="a", password="b", token=token).text
    assert not world.logins


def test_a_name_alone_is_tried_as_a_voucher(browser: Browser, world: World) -> None:
    assert browser.log_in("abcd efgh", "").status == 303
    assert world.logins == [("abcd efgh", "abcd efgh", IPv4Address(IP), MAC)]


def test_a_name_alone_that_is_no_voucher_is_asked_for_its_password(browser: Browser, world: World) -> None:
    world.radius = Rejected("Wrong name or password.")
    assert "enter the password too" in browser.log_in("anna", "").alert


def test_a_code_in_the_address_is_filled_in(browser: Browser) -> None:
    text = browser.get("/?code=abcd%22%3C").text
    assert 'value="abcd&#34;&lt;"' in text and "data-enter" in text
    assert "data-enter" not in browser.get("/").text


class TestDevices:
    REMEMBERED = Accepted(ip=IPv4Address(IP), mac=MAC, account="anna", session_class="", down_bps=0, up_bps=0)

    def test_a_remembered_device_is_online_at_once(self, browser: Browser, world: World) -> None:
        world.device = self.REMEMBERED
        page = browser.get()
        assert (page.status, page.headers["Location"]) == (303, "/status")
        assert world.asked[-1] == self.REMEMBERED

    def test_a_phones_probe_leads_home_first(self, browser: Browser, world: World) -> None:
        world.device = self.REMEMBERED
        page = browser.get("/generate_204", host="connectivitycheck.gstatic.com")
        assert (page.status, page.headers["Location"]) == (302, "http://10.10.0.1/")
        assert not world.wishes

    def test_it_is_asked_once_in_a_while_and_not_for_each_page(self, browser: Browser, world: World) -> None:
        for _ in range(5):
            browser.get()
        assert len(world.wishes) == 1
        world.now += 16
        browser.get()
        assert len(world.wishes) == 2

    def test_why_it_is_refused_is_said(self, browser: Browser, world: World) -> None:
        world.device = Rejected("Your plan allows 08:00–20:00.")
        assert browser.get().notice == "Your plan allows 08:00–20:00."

    def test_a_silent_server_shows_the_login(self, browser: Browser, world: World) -> None:
        world.device = Unavailable("no answer")
        assert "<form" in browser.get().text

    def test_the_wish_is_passed_on(self, browser: Browser, world: World) -> None:
        token = browser.get().token
        browser.post("/login", user="anna", password="x", remember="1", token=token)
        assert world.wishes[-1] == ("anna", "remember")

    def test_who_logs_out_is_asked_the_next_time(self, browser: Browser, world: World) -> None:
        world.gateway = ONLINE
        token = browser.get("/status").token
        world.gateway = Answer(online=False, mac=MAC, ended=1)
        world.device = self.REMEMBERED
        browser.post("/logout", token=token)
        assert world.wishes[-1] == (MAC, "forget")
        assert "<form" in browser.get().text


@pytest.mark.parametrize("token", ["", "0" * 32, "é", "x" * 3000])
def test_wrong_token_shows_the_form_again(browser: Browser, world: World, token: str) -> None:
    page = browser.post("/login", user="anna", password="hunter2", token=token)
    assert page.status == 403
    assert "open for a long time" in page.notice
    assert 'value="anna"' in page.text and "hunter2" not in page.text
    assert not world.logins


def test_stale_token_is_replaced_by_a_good_one(browser: Browser, world: World) -> None:
    token = browser.get().token
    world.now += 3600
    page = browser.post("/login", user="anna", password="x", token=token)
    assert (page.status, len(world.logins)) == (403, 0)
    assert browser.post("/login", user="anna", password="x", token=page.token).status == 303


def test_token_is_good_for_half_an_hour(browser: Browser, world: World) -> None:
    token = browser.get().token
    world.now += 1800
    assert browser.post("/login", user="anna", password="x", token=token).status == 303


def test_token_of_another_guest_is_no_good(browser: Browser, world: World) -> None:
    token = browser.get(ip="10.10.0.3").token
    assert browser.post("/login", user="anna", password="x", token=token).status == 403


def test_eleventh_try_in_a_minute_waits(browser: Browser, world: World) -> None:
    world.radius = Rejected()
    for _ in range(10):
        assert browser.log_in().status == 403
    page = browser.log_in("anna")
    assert page.status == 429
    assert page.alert == "Too many tries. Please wait 6 seconds, then try again."
    assert 'value="anna"' in page.text
    assert len(world.logins) == 10
    assert browser.log_in(ip="10.10.0.3").status == 403
    world.now += 6
    assert browser.log_in().status == 403


def test_device_that_changes_its_address_is_still_counted(browser: Browser, world: World) -> None:
    world.radius = Rejected()
    for _ in range(10):
        browser.log_in()
    (world.directory / "dnsmasq" / "leases").write_text(f"1 {MAC} 10.10.0.3 * *\n")
    assert browser.log_in(ip="10.10.0.3").status == 429


def test_parameters_lead_nowhere(browser: Browser, world: World) -> None:
    token = browser.get().token
    page = browser.post("/login", user="a", password="b", token=token, orig="http://evil.example", dst="//evil")
    assert page.headers["Location"] == "/status"


def test_log_has_one_line_a_login_without_the_password(
    browser: Browser, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.radius = Rejected("no\nmore")
    with caplog.at_level(logging.INFO):
        browser.log_in("an\nna\x1b[31m é", "hunter2")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "portal.web"]
    assert line.isprintable() and line.isascii()
    assert "hunter2" not in line
    assert IP in line and MAC in line and "rejected" in line and "an\\nna" in line


@settings(deadline=None, max_examples=40)
@given(body=st.binary(max_size=300))
def test_any_body_is_answered(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    browser = Browser(World(tmp_path_factory.mktemp("state")))
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "a/b"):
        headers = {"content_type": content_type}
        assert browser.send("POST", "/login", body, IP, "10.10.0.1", headers).status in (400, 403)


# -- being online, logging out

ONLINE = Answer(
    online=True,
    account="anna <b>",
    online_s=754,
    remaining_s=4212,
    down_octets=384_200_000,
    up_octets=1_290,
    remaining_bytes=1_203_000_000,
)


def test_status_shows_what_was_used_and_is_left(browser: Browser, world: World) -> None:
    world.gateway = ONLINE
    for path in ("/", "/status"):
        text = browser.get(path).text.replace("\u00a0", " ")
        for words in ("You’re online", "anna &lt;b&gt;", "1 h 10 min", "12 min 34 s", "384 MB", "1.29 kB", "1.20 GB"):
            assert words in text
        assert 'http-equiv="refresh"' in text


def test_status_without_limits_doesnt_speak_of_them(browser: Browser, world: World) -> None:
    world.gateway = Answer(online=True, account="anna")
    assert "left" not in re.sub(r"<style>.*?</style>", "", browser.get("/status").text, flags=re.DOTALL)


def test_status_when_offline_leads_to_the_login(browser: Browser) -> None:
    page = browser.get("/status")
    assert (page.status, page.headers["Location"]) == (303, "/")


def test_logout_is_handed_to_the_gateway(browser: Browser, world: World) -> None:
    world.gateway = ONLINE
    page = browser.post("/logout", token=browser.get("/status").token)
    assert (page.status, page.headers["Location"]) == (303, "/")
    assert world.asked[-1] == Logout(IPv4Address(IP))


def test_logout_with_a_token_of_another_form_does_nothing(browser: Browser, world: World) -> None:
    token = browser.get().token
    world.gateway = ONLINE
    page = browser.post("/logout", token=token)
    assert "open for a long time" in page.notice
    assert not any(isinstance(asked, Logout) for asked in world.asked)


def test_captive_api(browser: Browser, world: World) -> None:
    page = browser.get("/captive-portal/api")
    assert page.headers["Content-Type"] == "application/captive+json"
    assert '"captive": true' in page.text
    world.gateway = ONLINE
    assert '"seconds-remaining": 4212' in browser.get("/captive-portal/api").text


# -- key, tries, words


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = load_key(tmp_path)
    assert len(key) == 32 and load_key(tmp_path) == key
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_broken_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "form.key").write_bytes(b"short")
    with pytest.raises(UserError, match=r"form\.key.*remove"):
        load_key(tmp_path)


def test_tokens_differ_by_purpose_and_key() -> None:
    ip, tokens = IPv4Address(IP), FormTokens(KEY)
    token = tokens.make("login", ip, 1000.0)
    assert tokens.fits(token, "login", ip, 1000.0)
    assert not tokens.fits(token, "logout", ip, 1000.0)
    assert not FormTokens(b"j" * 32).fits(token, "login", ip, 1000.0)


def test_tries_are_forgotten_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    tries = Tries()
    for number in range(100):
        assert tries.wait_s((f"mac{number}", f"ip{number}"), 0.0) == 0
    assert len(tries._buckets) == 3


def test_one_mac_with_many_addresses_is_one_guest() -> None:
    tries = Tries()
    waits = [tries.wait_s((MAC, f"10.10.0.{number}"), 0.0) for number in range(11)]
    assert waits == [0] * 10 + [6]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90061, "1 d 1 h"),
        (86400 * 400, "400 d"),
    ],
)
def test_duration(seconds: int, text: str) -> None:
    assert duration(language("en"), seconds).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_995, "10.0 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_octets(number: int, text: str) -> None:
    assert octets(language("en"), number).replace("\u00a0", " ") == text
