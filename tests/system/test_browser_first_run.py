"""From a box as it comes to guests who help themselves, in two browsers: the admin's, and a guest's phone.

One appliance serves all; each test sets what it needs on the pages of settings.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from tests.lab import journey
from tests.lab.addresses import LAN, PROVIDER
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest
from tests.lab.letters import link_in, take_mail, text_of
from tests.lab.namespace import wait_until
from tests.lab.world import World
from tests.system.browser import DESKTOP, Browser, browser, fill, whole

pytestmark = pytest.mark.system

PORTAL = f"http://{LAN.ip}"
ADMIN = "http://127.0.0.1:8090"
PROBE = "http://captive.apple.com/hotspot-detect.html"
PLAN = "guest"
MAIL = {"mail.host": str(PROVIDER), "mail.port": "25", "mail.sender": "wifi@example.net"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def fresh(world: World) -> Appliance:
    return world.fresh_appliance()


@pytest.fixture(scope="module")
def admin(world: World, fresh: Appliance) -> Iterator[Browser]:
    """At a machine that reaches nothing else: with the Internet there, Chromium's own first page hangs."""
    desk = world.guest()
    config = fresh.config().admin
    world.relay(urlsplit(ADMIN).port or 0, world.gw, f"{config.listen}:{config.port}", at=desk)
    with browser(world, desk) as one:
        one.begin()
        yield one


@pytest.fixture(scope="module")
def codes(fresh: Appliance, admin: Browser) -> list[str]:
    """Vouchers as they are printed, at the end of all the steps."""
    return first_run(admin, fresh.cli("admin-link").strip())


@pytest.fixture(scope="module")
def guest(world: World, codes: list[str]) -> Guest:
    guest = world.guest()
    guest.lease()
    return guest


@pytest.fixture(scope="module")
def chromium(world: World, guest: Guest) -> Iterator[Browser]:
    with browser(world, guest) as one:
        yield one


@pytest.fixture
def phone(chromium: Browser, guest: Guest, fresh: Appliance) -> Iterator[Browser]:
    """Offline, and so it is left; nobody knows any more that it had registered."""
    chromium.begin()
    yield chromium
    chromium.scripts(True)
    journey.log_out(guest)
    for row in fresh.json("registration", "list"):
        fresh.cli("registration", "remove", str(row["id"]))


@pytest.fixture(scope="module")
def letters(world: World, admin: Browser, codes: list[str]) -> Path:
    folder = take_mail(world)
    set_up(admin, "mail", {"mail.tls": "none"}, **MAIL)
    return folder


# The admin


def first_run(page: Browser, link: str) -> list[str]:
    """Every step, on a phone; each page is looked at."""
    page.open(urljoin(ADMIN, "?".join(urlsplit(link)[2:4])))
    page.press("a.main")
    wrong = whole(page, "own log-in")
    fill(page, name="jana", password="correct horse battery")
    page.press("main button.main")
    page.press("main a.main")
    wrong += whole(page, "the site")
    fill(page, **{"site.name": "Café Růže", "site.timezone": "Europe/Prague"})
    apply(page)
    wrong += whole(page, "what this box does")
    choose_devices(page)
    wrong += whole(page, "the plan")
    page.press("main button.main")
    assert f"Plan {PLAN} is saved" in page.text
    wrong += whole(page, "vouchers")
    fill(page, count="3")
    page.press("main button.main")
    await_login_page(page)
    wrong += whole(page, "the login page")
    assert wrong == []
    page.press("main a[href$='/print']")
    return [code.text.replace(" ", "") for code in page.all("code")]


def choose_devices(page: Browser) -> None:
    """A choice that can't be is refused first; what was ticked stays."""
    assert page.text.startswith("Café Růže")
    assert "wan0" in page.one("main table").text
    assert page.one("[name='module hotspot']").is_selected()
    page.choose("gateway.wan", "wan0")
    page.choose("gateway.lan", "wan0")
    page.press("main button.main")
    assert page.one("[role=alert]").text
    assert page.one("[name='module hotspot']").is_selected()
    page.choose("gateway.lan", "lan0")
    apply(page)


def await_login_page(page: Browser) -> None:
    def works() -> bool:
        if "The login page works" in page.text:
            return True
        page.press("main a[href='']")
        return False

    wait_until(works, 30, "the login page")


def apply(page: Browser) -> None:
    """Saves; the page that waits goes on by itself."""
    page.press("main button.main")
    wait_until(lambda: page.all("main") and not page.all("[data-wait]"), 60, f"the change at {page.url}")
    assert not page.all("[role=alert]"), page.text
    said = page.complaints()
    assert all("/wishes/" in line for line in said), said  # it asks on while the server is away


def set_up(page: Browser, group: str, chosen: dict[str, str], **typed: str) -> None:
    """On a page of settings."""
    page.open(f"{ADMIN}/settings/{group}")
    for name, option in chosen.items():
        page.choose(name, option)
    fill(page, **typed)
    apply(page)


def offer(page: Browser, registration: str) -> None:
    """To guests: to register so, and free access."""
    plans = {"portal.free_plan": PLAN, "portal.registration_plan": PLAN}
    set_up(page, "access", {"portal.registration": registration}, **plans)


def test_the_first_guest_is_online_with_a_voucher_of_the_first_run(phone: Browser, codes: list[str]) -> None:
    assert len(codes) == 3
    phone.open(PROBE)
    assert phone.text.startswith("Café Růže")
    fill(phone, user=codes[0].lower())
    phone.press("button.main")
    assert "You’re online" in phone.text
    assert is_online(phone)


# Guests who help themselves


def is_online(page: Browser) -> bool:
    """Leaves the page that it shows."""
    page.open(journey.ANYWHERE)
    return page.text == "198.51.100.2"  # what a server far away sees


def begin_to_register(page: Browser, name: str, contact: str) -> None:
    page.open(PROBE)
    page.press("a[href='/register']")
    fill(page, name=name, contact=contact)
    page.one("[name=terms]").click()


def test_free_access_is_for_who_accepts_the_terms(phone: Browser, admin: Browser) -> None:
    offer(admin, "off")
    phone.open(PROBE)
    assert whole(phone, "login with free access") == []
    phone.press("form[action='/free'] a")
    assert whole(phone, "terms") == []
    phone.press("a.main")
    phone.one("form[action='/free'] button").click()
    assert phone.focused()["name"] == "terms"
    assert not is_online(phone)
    phone.one("form[action='/free'] [name=terms]").click()
    phone.press("form[action='/free'] button")
    assert "You’re online" in phone.text
    assert is_online(phone)


@pytest.mark.parametrize(
    ("language", "online", "letter"),
    [
        ("en", "You’re online", "Please open this link"),
        ("de", "Sie sind online", "Bitte öffnen Sie diesen Link"),
    ],
)
def test_a_guest_registers_by_email(
    phone: Browser, admin: Browser, letters: Path, language: str, online: str, letter: str
) -> None:
    offer(admin, "email")
    before = len(list(letters.glob("*.eml")))
    phone.language(language)
    begin_to_register(phone, "Eva", f"eva-{language}@example.net")
    assert whole(phone, "register") == []
    phone.press("button.main")
    assert phone.one("[role=status]").text
    assert whole(phone, "read your mail") == []
    assert is_online(phone)  # for a moment
    new = letters / f"{before + 1}.eml"
    wait_until(new.exists, 15, "the message")
    assert letter in text_of(new)
    phone.open(link_in(new))
    assert phone.one("html").get_attribute("lang") == language
    assert whole(phone, "confirm") == []
    phone.press("button.main")
    assert online in phone.text
    assert whole(phone, "confirmed") == []
    name, password = (fact.text for fact in phone.all("dd"))
    phone.press("a.main")
    assert name in phone.text
    phone.press("form[action='/logout'] button")
    assert not is_online(phone)
    fill(phone, user=name, password=password)
    phone.press("form[action='/login'] button.main")
    assert online in phone.text
    assert is_online(phone)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_guest_is_let_in_by_an_operator(phone: Browser, admin: Browser, scripts: bool) -> None:
    """The guest's page goes on by itself."""
    offer(admin, "operator")
    phone.scripts(scripts)
    begin_to_register(phone, "Bob", "+420 601 234 567")
    phone.press("button.main")
    assert phone.one("h1").text == "Please wait"
    if scripts:
        assert whole(phone, "waiting") == []
    admin.size(DESKTOP)
    admin.open(f"{ADMIN}/registrations?state=waiting")
    admin.one("[aria-label='Choose Bob +420601234567']").click()
    admin.press("[name=approve]")
    assert "Bob is approved" in admin.one(".notice").text
    wait_until(lambda: phone.all("dd"), 30, "the way in")
    assert phone.one("h1").text == "You’re online"
    if scripts:
        assert phone.focused()["tag"] == "H1"
        assert phone.barriers() + phone.complaints() == []
    assert is_online(phone)


def test_a_guest_sees_and_forgets_their_device(
    phone: Browser, guest: Guest, fresh: Appliance, codes: list[str]
) -> None:
    fresh.cli("plan", "set", PLAN, "--devices", "2")
    phone.open(PROBE)
    fill(phone, user=codes[1])
    phone.one("[name=remember]").click()
    phone.press("form[action='/login'] button.main")
    phone.press("a[href='/devices']")
    assert guest.mac in phone.text.lower()
    assert whole(phone, "devices") == []
    phone.press("button[name=device]")
    assert guest.mac not in phone.text.lower()
    assert whole(phone, "no devices") == []
