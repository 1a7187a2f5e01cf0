"""The pages of guests who help themselves, with RADIUS, gateway and office played by the test."""

import re
from html import unescape
from pathlib import Path

import pytest

from appliance import guest_verbs
from appliance.errors import Unavailable
from appliance.guest_verbs import Answer, Confirm, Devices, Forget, Free, Register, Standing
from portal import protocol
from portal.languages import NAMES
from portal.radius import Rejected
from tests.unit.test_portal_web import LEASES, MAC, Browser, Page, World

OTHER = "02:00:00:00:00:09"
OFFERS = '[portal]\nfree_plan = "free"\nregistration = "{}"\nregistration_plan = "home"\n'
MAIL = '[mail]\nhost = "mail.example.net"\nsender = "wifi@example.net"\n'
TYPED = {"name": "Eva <Malá>", "contact": "eva@example.net", "terms": "1"}


def let_in(state: str = "accepted") -> Answer:
    return Answer(state=state, login="guest-abc", password="pass")


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "dnsmasq").mkdir()
    (tmp_path / "dnsmasq" / "leases").write_text(LEASES)
    return World(tmp_path, OFFERS.format("email") + MAIL)


def is_online(world: World) -> bool:
    return any(isinstance(question, protocol.Allow) for question in world.asked)


def registers(browser: Browser, **typed: str) -> Page:
    return browser.post("/register", token=browser.get("/register").token, **{**TYPED, **typed})


class TestOffers:
    def test_nothing_is_there_unless_it_is_offered(self, world: World) -> None:
        world.config_text = ""
        browser = Browser(world)
        page = browser.get()
        assert "/free" not in page.text and "/register" not in page.text
        for path in ("/free", "/register", "/confirm"):
            assert browser.post(path, token=page.token, terms="1").status == 404
        assert not world.wanted

    def test_the_login_page_stays_small_and_its_form_first(self, world: World) -> None:
        page = Browser(world).get(accept_language="uk")
        assert len(page.text.encode()) < 15_000
        assert re.findall(r'action="([^"]+)"', page.text) == ["/login", "/free"]

    def test_terms_are_there_also_where_the_operator_has_none(self, world: World) -> None:
        browser = Browser(world)
        assert 'href="/terms"' in browser.get().text
        assert "The network comes as it is" in browser.get("/terms").text
        world.config_text = OFFERS.format("off") + 'terms = "<b>Be kind.</b>"\n'
        text = Browser(world).get("/terms").text
        assert "&lt;b&gt;Be kind." in text and "as it is" not in text
        world.config_text = OFFERS.format("off") + 'terms_url = "http://terms.example.net/"\n'
        browser = Browser(world)
        assert 'href="http://terms.example.net/"' in browser.get().text
        assert browser.get("/terms").status == 404


class TestFree:
    def test_enters_as_any_login_does(self, world: World) -> None:
        world.office = let_in()
        browser = Browser(world)
        page = browser.post("/free", token=browser.get().token, terms="1")
        assert (page.status, page.headers["Location"]) == (303, "/status")
        assert world.wanted == [Free(MAC)]
        assert world.logins[0][:2] == ("guest-abc", "pass")
        assert is_online(world)

    def test_needs_the_terms_and_the_form(self, world: World) -> None:
        browser = Browser(world)
        token = browser.get().token
        assert browser.post("/free", token=token).alert == "Please accept the terms of use first."
        assert "open for a long time" in browser.post("/free", token="x", terms="1").alert
        assert not world.wanted

    def test_what_the_rules_refuse_is_said(self, world: World) -> None:
        world.office = let_in()
        world.radius = Rejected("Your data allowance is used up. It starts anew tomorrow.")
        browser = Browser(world)
        page = browser.post("/free", token=browser.get().token, terms="1")
        assert (page.status, page.alert) == (403, "Your data allowance is used up. It starts anew tomorrow.")
        assert "guest-abc" not in page.text

    def test_what_is_used_up_says_when_it_is_back(self, world: World) -> None:
        browser = Browser(world)
        for period, said in (("day", "tomorrow."), ("week", "on Monday."), ("month", "on the 1st."), ("total", "up.")):
            world.office = Answer(refusal=f"used up {period}")
            page = browser.post("/free", token=browser.get().token, terms="1")
            assert page.alert.startswith("Your free time is used up.") and page.alert.endswith(said)
        assert not world.logins

    def test_an_office_that_is_away_stops_nothing_else(self, world: World) -> None:
        world.office = Unavailable("away")
        browser = Browser(world)
        token = browser.get().token
        assert "isn’t working" in browser.post("/free", token=token, terms="1").alert
        assert browser.get("/register").status == 503
        assert browser.log_in().headers["Location"] == "/status"

    def test_too_many_tries(self, world: World) -> None:
        browser = Browser(world)
        token = browser.get().token
        alerts = [browser.post("/free", token=token, terms="1").alert for _ in range(12)]
        assert "Too many tries" in alerts[-1]
        assert len(world.wanted) == 10


class TestRegister:
    def test_by_email(self, world: World) -> None:
        browser = Browser(world)
        token = browser.get("/register").token
        world.office = let_in("unconfirmed")
        page = browser.post("/register", token=token, **TYPED)
        assert page.headers["Location"] == "/register"
        assert world.wanted[-1] == Register(MAC, "Eva <Malá>", "eva@example.net", "en")
        assert is_online(world)
        assert world.wishes[-1] == ("guest-abc", "remember")
        world.office = Answer(state="unconfirmed")
        assert "Open the link" in browser.get("/register").notice

    @pytest.mark.parametrize(
        ("refusal", "said"),
        [
            (guest_verbs.BAD_NAME, "enter your name"),
            (guest_verbs.BAD_EMAIL, "such as name@example.net"),
            (guest_verbs.BAD_CONTACT, "or a phone number"),
            (guest_verbs.BUSY, "try again later"),
            (guest_verbs.FULL, "ask the operator"),
            (guest_verbs.OFF, "isn’t offered"),
            ("something new", "isn’t working"),
        ],
    )
    def test_what_is_wrong_is_said_and_what_was_typed_stays(self, world: World, refusal: str, said: str) -> None:
        browser = Browser(world)
        token = browser.get("/register").token
        world.office = Answer(refusal=refusal)
        page = browser.post("/register", token=token, **TYPED)
        assert page.status == 403
        assert said in page.alert
        assert 'value="Eva &lt;Malá&gt;"' in page.text
        assert 'value="eva@example.net"' in page.text

    @pytest.mark.parametrize("name", ["a\nb", "\0", "x" * 5000, "", "\u202e"])
    def test_nothing_odd_reaches_the_office(self, world: World, name: str) -> None:
        registers(Browser(world), name=name)
        for request in world.wanted:
            assert not isinstance(request, Register) or request.name.isprintable()

    def test_waits_for_an_operator_and_enters_by_itself(self, world: World) -> None:
        world.config_text = OFFERS.format("operator")
        browser = Browser(world)
        world.office = Answer(state="waiting")
        page = browser.get("/register")
        assert 'http-equiv="refresh" content="15"' in page.text
        assert not is_online(world)
        world.office = let_in()
        page = browser.get("/register")
        assert is_online(world)
        assert "guest-abc" in page.text and "<dd>pass</dd>" in page.text
        assert "refresh" not in page.text
        world.office = Answer(state="accepted")
        assert browser.get("/register").headers["Location"] == "/"

    def test_refused_is_said(self, world: World) -> None:
        world.office = Answer(state="refused")
        page = Browser(world).get("/register")
        assert "weren’t let in" in unescape(page.text)
        assert "<form" not in page.text

    def test_without_a_lease_there_is_nothing_to_ask(self, world: World) -> None:
        browser = Browser(world)
        for page in (browser.get("/register", "10.10.0.99"), browser.post("/free", "10.10.0.99", terms="1")):
            assert "Please reconnect" in page.text
        assert not world.wanted


class TestConfirm:
    def test_the_link_alone_changes_nothing(self, world: World) -> None:
        """What looks at a mail's links on their way asks for them with GET."""
        page = Browser(world).get("/confirm?token=abc")
        assert 'name="link" value="abc"' in page.text
        assert not world.wanted

    def test_here(self, world: World) -> None:
        browser = Browser(world)
        page = browser.get("/confirm?token=abc")
        world.office = let_in()
        page = browser.post("/confirm", token=page.token, link="abc")
        assert world.wanted == [Confirm(MAC, "abc")]
        assert is_online(world)
        assert "<dd>pass</dd>" in page.text

    def test_on_another_device(self, world: World) -> None:
        browser = Browser(world)
        world.office = Answer(state="accepted")
        page = browser.post("/confirm", token=browser.get("/confirm?token=abc").token, link="abc")
        assert "is confirmed" in page.text
        assert not is_online(world)

    def test_twice(self, world: World) -> None:
        browser = Browser(world)
        world.office = Answer(refusal=guest_verbs.BAD_LINK)
        page = browser.post("/confirm", token=browser.get("/confirm?token=abc").token, link="abc")
        assert (page.status, "doesn’t work any more" in unescape(page.text)) == (403, True)

    def test_another_sites_form_confirms_nothing(self, world: World) -> None:
        page = Browser(world).post("/confirm", token="x", link='"><script>')
        assert page.status == 403
        assert "<script>" not in page.text
        assert not world.wanted


class TestDevices:
    def test_of_who_is_online(self, world: World) -> None:
        world.gateway = protocol.Answer(online=True, account="anna", mac=MAC)
        world.office = Answer(devices=(MAC, OTHER), most=2)
        browser = Browser(world)
        page = browser.get("/devices")
        assert world.wanted == [Devices(MAC, "anna")]
        assert re.findall(r'name="device" value="([^"]+)"', page.text) == [MAC, OTHER]
        assert page.text.count("this one") == 1
        page = browser.post("/devices", token=page.token, device=OTHER)
        assert page.headers["Location"] == "/devices"
        assert world.wanted[-1] == Forget(MAC, "anna", OTHER)

    def test_nobody_else(self, world: World) -> None:
        browser = Browser(world)
        assert browser.get("/devices").headers["Location"] == "/"
        browser.post("/devices", token="x", device=OTHER)
        world.gateway = protocol.Answer(online=True, account="anna", mac=MAC)
        browser.post("/devices", token="x", device=OTHER)
        world.office = Answer(devices=(MAC,), most=2)
        browser.post("/devices", token=browser.get("/devices").token, device="../x")
        assert not [request for request in world.wanted if isinstance(request, Forget)]

    def test_none_is_remembered(self, world: World) -> None:
        world.gateway = protocol.Answer(online=True, account="anna", mac=MAC)
        assert "None is remembered" in Browser(world).get("/devices").text


def test_each_page_in_each_language(world: World) -> None:
    browser = Browser(world)
    for code in NAMES:
        for path, answer in (
            ("/register", Answer()),
            ("/register", Answer(state="unconfirmed")),
            ("/register", Answer(state="waiting")),
            ("/register", Answer(state="refused")),
            ("/confirm?token=x", Answer()),
        ):
            world.office = answer
            world.now += 60
            page = browser.get(path, accept_language=code)
            assert page.headers["Content-Language"] == code
            assert len(page.text.encode()) < 15_000
            assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", page.text)
    assert {type(request) for request in world.wanted} == {Standing}
