"""The login of guests of a MikroTik router: its login.html, our page, and back to it.

RouterOS can't run here. A stand-in fills in the variables of login.html and checks what comes back as its manual says
(help.mikrotik.com/docs, "Hotspot customisation"); the octal spelling is that of its own stock page.
"""

import hashlib
import os
import re
from html import unescape as plain
from html.parser import HTMLParser
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import parse
from appliance.config_portal import MIKROTIK_PAGE
from appliance.errors import UserError
from appliance.nas.login_page import login_html, page_url
from portal.languages import NAMES
from portal.mikrotik.chap import router, unescape
from tests.unit.test_portal_web import Browser, Page, World

ONLY = "[gateway]\nenabled = false\n"
LINK = "http://10.5.50.1/login"
ORIGIN = "http://captive.apple.com/hotspot-detect.html"
OUTSIDE = "203.0.113.7"  # the router's own address hides its guests'
PUBLIC = '[radius]\npublic_address = "198.51.100.2"'


class Form(HTMLParser):
    """The one form of a page: where it leads, how, and its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = self.method = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            assert not self.action
            self.action, self.method = values["action"], values["method"]
        elif tag == "input" and values.get("type") != "checkbox":
            self.fields[values["name"]] = values.get("value", "")


class Hotspot:
    """A router's side: one page to show, one login to check."""

    def __init__(self, login_by: str = "http-chap", link: str = LINK) -> None:
        chap = login_by == "http-chap"
        self.chap_id, self.challenge = (os.urandom(1), os.urandom(16)) if chap else (b"", b"")
        self._link = link

    def page(self, template: str, error: str = "") -> str:
        values = {
            "link-login-only": self._link,
            "link-orig": ORIGIN,
            "chap-id": octal(self.chap_id),
            "chap-challenge": octal(self.challenge),
            "error": error,
        }
        return re.sub(r"\$\(([a-z-]+)\)", lambda found: values[found[1]], template)

    def takes(self, form: Form, user: str, password: str) -> bool:
        if form.action != self._link or form.fields["username"] != user or form.fields["dst"] != ORIGIN:
            return False
        if not self.challenge:
            return form.fields["password"] == password
        digest = hashlib.md5(self.chap_id + password.encode() + self.challenge)
        return form.fields["password"] == digest.hexdigest()


def octal(octets: bytes) -> str:
    return "".join(f"\\{octet:03o}" for octet in octets)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def arrive(world: World, hotspot: Hotspot, error: str = "", language: str = "en") -> Page:
    form = Form(hotspot.page(login_html(parse(PUBLIC)), error))
    assert (form.action, form.method) == ("http://198.51.100.2:8080/mikrotik", "get")
    query = urlencode({**form.fields, "lang": language})
    return Browser(world).get(f"/mikrotik?{query}", ip=OUTSIDE, host="198.51.100.2:8080")


def log_in(world: World, page: Page, user: str, password: str, **more: str) -> Page:
    form = Form(page.text)
    assert (form.action, form.method) == ("/mikrotik", "post")
    fields = {**form.fields, "user": user, "password": password, **more}
    return Browser(world).post(form.action, ip=OUTSIDE, host="198.51.100.2:8080", **fields)


class TestJourney:
    @pytest.mark.parametrize("login_by", ["http-chap", "http-pap"])
    @pytest.mark.parametrize(("user", "typed"), [("anna", "x"), ("žofie", "пароль \"'<"), (" ABCD-efgh ", "")])
    def test_the_router_gets_what_it_wants(self, world: World, login_by: str, user: str, typed: str) -> None:
        for _ in range(8):  # random octets, so quotes and backslashes among them
            hotspot = Hotspot(login_by)
            page = log_in(world, arrive(world, hotspot), user, typed)
            assert page.status == 200
            assert hotspot.takes(Form(page.text), user.strip(), typed or user.strip())
        assert not world.asked and not world.logins

    def test_by_https_and_by_a_name_that_is_known(self, world: World) -> None:
        world.config_text = '[portal]\nrouter_hosts = ["wifi.cafe.example"]'
        hotspot = Hotspot("https", "https://wifi.cafe.example/login")
        assert hotspot.takes(Form(log_in(world, arrive(world, hotspot), "anna", "x").text), "anna", "x")

    def test_without_javascript_there_is_a_button(self, world: World) -> None:
        for page in (login_html(parse(PUBLIC)), log_in(world, arrive(world, Hotspot()), "anna", "x").text):
            assert "<button" in page

    def test_the_policy_lets_the_login_go(self, world: World) -> None:
        hotspot = Hotspot()
        first = arrive(world, hotspot)
        assert "form-action 'self';" in first.headers["Content-Security-Policy"]
        page = log_in(world, first, "anna", "x")
        assert "form-action http: https:;" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"  # a password may be in it

    def test_a_refusal_comes_back_in_the_guests_language(self, world: World) -> None:
        page = arrive(world, Hotspot(), "invalid username or password", "de")
        assert page.alert == "Falscher Name oder falsches Passwort."
        assert (
            arrive(world, Hotspot(), "Your plan allows 08:00–20:00.", "cs").alert
            == "Váš tarif platí v době: 08:00–20:00."
        )

    def test_what_is_no_refusal_of_ours_is_not_repeated(self, world: World) -> None:
        page = arrive(world, Hotspot(), "Call +1 900 555 now")
        assert page.alert == "The login didn’t work. Please try again." and "900" not in page.text

    def test_another_language_keeps_what_the_router_said(self, world: World) -> None:
        hotspot = Hotspot()
        page = arrive(world, hotspot)
        assert len(page.text.encode()) < 15_000
        (where,) = re.findall(r'href="(/mikrotik\?lang=cs[^"]*)"', page.text)
        czech = Browser(world).get(plain(where), ip=OUTSIDE, host="198.51.100.2")
        assert 'lang="cs"' in czech.text
        assert hotspot.takes(Form(log_in(world, czech, "anna", "x").text), "anna", "x")

    def test_nothing_typed_is_said_and_nothing_sent(self, world: World) -> None:
        page = log_in(world, arrive(world, Hotspot()), " ", "")
        assert (page.status, page.alert) == (403, "Please enter your name.")
        page = log_in(world, page, "anna", "x" * 200)
        assert (page.alert, Form(page.text).fields["user"]) == ("That password is too long.", "anna")
        assert "xxxxxx" not in page.text

    def test_terms_must_be_accepted(self, world: World) -> None:
        world.config_text = '[portal]\nterms = "Be <nice>."'
        page = arrive(world, Hotspot())
        assert "Be &lt;nice&gt;." in page.text
        refused = log_in(world, page, "anna", "x")
        assert refused.alert == "Please accept the terms of use first."
        assert "username" in Form(log_in(world, refused, "anna", "x", terms="1").text).fields


GOOD = {"link-login-only": LINK, "chap-id": "\\101", "chap-challenge": "\\101\\102"}


@pytest.mark.parametrize(
    "link",
    [
        "",
        "http://evil.example/login",
        "http://203.0.113.9/login",
        "http://127.0.0.1/login",
        "http://169.254.1.1/login",
        "http://10.5.50.1@evil.example/login",
        "http://evil.example#10.5.50.1/login",
        "http://10.5.50.1\\@evil.example/login",
        "http://10.5.50.1.evil.example/login",
        "http://10.5.50.1/login?x=http://evil.example",
        "http://[::1]/login",
        "http://0x0a053201/login",
        "//10.5.50.1/login",
        "javascript:alert(1)//10.5.50.1/",
        "ftp://10.5.50.1/login",
        " http://10.5.50.1/login",
        "http://10.5.50.1/login\n",
        'http://10.5.50.1/"><script>',
    ],
)
def test_a_password_goes_to_routers_only(world: World, link: str) -> None:
    with pytest.raises(UserError):
        router({**GOOD, "link-login-only": link}, ["wifi.example"])
    fields = {**GOOD, "link-login-only": link}
    for page in (
        Browser(world).get(f"/mikrotik?{urlencode(fields)}"),
        Browser(world).post("/mikrotik", user="anna", password="hunter2", **fields),
    ):
        assert page.status == 400
        assert "hunter2" not in page.text and "<form" not in page.text


@pytest.mark.parametrize(
    "host", ["10.5.50.1", "172.31.0.1", "192.168.88.1", "100.64.0.1", "wifi.example", "WIFI.example"]
)
def test_routers_have_private_addresses_or_known_names(host: str) -> None:
    for link in (f"http://{host}/login", f"https://{host}:8443/login"):
        assert router({**GOOD, "link-login-only": link}, ["wifi.example"]).link == link


@pytest.mark.parametrize(
    "more", [{"chap-id": ""}, {"chap-challenge": ""}, {"chap-id": "ab"}, {"chap-id": "\\777"}, {"chap-id": "ž"}]
)
def test_half_a_challenge_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(UserError):
        router({**GOOD, **more}, [])


@pytest.mark.parametrize(
    "where", ["javascript:alert(1)", "//evil", "http://a b", "http://x/" + "a" * 1000, "http://x/\n"]
)
def test_only_a_plain_address_is_where_the_guest_goes_on(where: str) -> None:
    assert router({**GOOD, "link-orig": where}, []).destination == ""
    assert router({**GOOD, "link-orig": ORIGIN}, []).destination == ORIGIN


@given(st.binary(max_size=40))
def test_octets_in_any_of_routeros_spellings(octets: bytes) -> None:
    assert unescape(octal(octets)) == octets
    mixed = "".join(chr(octet) if chr(octet).isalpha() else f"\\{octet:03o}" for octet in octets)
    assert unescape(mixed) == octets
    assert unescape(r"\\\'a") == b"\\'a"


class TestLoginHtml:
    def test_it_forwards_what_the_router_knows(self) -> None:
        form = Form(login_html(parse(PUBLIC)))
        assert form.fields["link-login-only"] == "$(link-login-only)"
        assert set(form.fields.values()) == {f"$({name})" for name in form.fields}

    def test_by_name_where_there_is_a_certificate(self) -> None:
        config = parse('[portal]\nhostname = "login.example.net"\ncertificate = "/c"\nkey = "/k"\nhttps_port = 443')
        assert page_url(config) == "https://login.example.net:443/mikrotik"

    def test_where_this_machine_is_must_be_known(self) -> None:
        assert page_url(parse(""), IPv4Address("192.0.2.1")) == "http://192.0.2.1:8080/mikrotik"


def test_the_page_is_there_in_each_language(world: World) -> None:
    for code in NAMES:
        assert f'<html lang="{code}">' in arrive(world, Hotspot(), language=code).text


@pytest.mark.parametrize("code", NAMES)
def test_without_an_own_gateway_only_guests_of_routers_are_served(tmp_path: Path, code: str) -> None:
    browser = Browser(World(tmp_path, ONLY))
    lost = [browser.get(f"{path}?lang={code}", OUTSIDE, host) for path, host in (("/", "box"), ("/login", "a.example"))]
    assert [page.status for page in lost] == [200, 404]
    assert lost[0].text == lost[1].text
    assert ("is at its router" in lost[0].text) == (code == "en")
    assert "<form" not in lost[0].text
    shown = browser.get(f"{MIKROTIK_PAGE}?{urlencode({'link-login-only': LINK, 'lang': code})}", OUTSIDE)
    assert Form(shown.text).fields["link-login-only"] == LINK


def test_without_an_own_gateway_nobody_asks_it(tmp_path: Path) -> None:
    world = World(tmp_path, ONLY)
    browser = Browser(world)
    for path in ("/", "/status", "/captive", "/login"):
        browser.get(path)
    assert not world.asked and not world.logins


@pytest.mark.parametrize(
    ("name", "link", "heading", "button"),
    [
        ("status", "http://10.5.50.1/logout", "You’re online", "Log out"),
        ("logout", LINK, "You’re logged out.", "Log in"),
        ("error", LINK, "Something went wrong", "Try again"),
    ],
)
def test_a_hotspots_other_pages_are_the_portals_too(
    world: World, name: str, link: str, heading: str, button: str
) -> None:
    values = {"link-logout": "http://10.5.50.1/logout", "link-login-only": LINK, "error": "<b>no</b>"}
    template = login_html(parse(PUBLIC), page=name)
    form = Form(re.sub(r"\$\(([a-z-]+)\)", lambda found: plain(values[found[1]]), template.replace("<b>", "")))
    browser = Browser(world)
    shown = browser.get(f"/mikrotik?{urlencode(form.fields)}", OUTSIDE, "198.51.100.2:8080")
    assert (shown.status, f"<h1>{heading}</h1>" in shown.text) == (200, True)
    assert f'<a class="main" href="{link}">{button}</a>' in shown.text
    assert "<b>" not in shown.text
    german = re.search(r'href="(/mikrotik[^"]*)"[^>]*lang="de"', shown.text)
    assert german, shown.text
    again = browser.get(plain(german[1]), OUTSIDE, "198.51.100.2:8080").text
    assert f'href="{link}"' in again and f"<h1>{heading}</h1>" not in again
    for bad in ("javascript:alert(1)", "http://evil.example/", "http://203.0.113.9/", ""):
        fields = {**form.fields, "link-logout": bad, "link-login-only": bad}
        refused = browser.get(f"/mikrotik?{urlencode(fields)}", OUTSIDE, "198.51.100.2:8080")
        assert (refused.status, "evil" in refused.text) == (400, False)
    assert not world.asked and not world.logins
