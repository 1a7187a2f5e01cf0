"""The pages as people see them: Chromium in a guest's network namespace, the appliance with all its services.

The browser is one for all tests. The admin's pages reach it by a relay, as guests can't reach them.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import urljoin, urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from appliance.admin import frame
from tests.lab import journey
from tests.lab.addresses import LAN
from tests.lab.appliance import Appliance
from tests.lab.guest import Guest, Response
from tests.lab.namespace import wait_until
from tests.lab.world import World
from tests.system.browser import DESKTOP, PHONE, Browser, browser, fill, whole

pytestmark = pytest.mark.system

PROBE = "http://captive.apple.com/hotspot-detect.html"
PORTAL = f"http://{LAN.ip}"
ADMIN = "http://127.0.0.1:8090"
OWNER, PASSWORD = "jana", "correct horse battery"
LOGIN_PAGE_BYTES = 15_000
PICTURES = {"admin-start": "/", "admin-sessions": "/sessions?state=online", "admin-plan": "/plans/nights"}
LOOKS = 5  # at things of one kind, for what only some of them link to
UNREACHED = {
    "/wishes/<name>": "there is one only while a change is being applied",
    "/enter": "works once",
    "/settlement/of/<name>": "is a table within the page of the month",
}
OTHERS = ("/api/", "/my-vault", "/dealer/")  # pages of those who aren't admins; test_browser_dealer.py has the last
PROVIDER = """
[dealer]
name = "Wave Net"
street = "Long Street"
city = "Brno"
postcode = "60200"
country = "CZ"
company_id = "12345678"
iban = "CZ6508000000192000145399"
bic = "GIBACZPX"
"""
DEALER = (
    *("--contact", "Kiosk Ltd", "--street", "Short", "--house", "2", "--city", "Brno", "--postcode", "60200"),
    *("--country", "CZ", "--company-id", "87654321", "--self-billing-from", "2026-01-01"),
    *("--iban", "CZ6508000000192000145399"),
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """With every module."""
    made = world.appliance(netflow=True)
    with made.config_file.open("a", encoding="utf-8") as file:
        file.write(PROVIDER)
    for module in ("netbackup", "dealer"):
        made.cli("enable", module)
    world.gw.await_listener(21, timeout_s=20)
    return made


@pytest.fixture(scope="module")
def guest(world: World, appliance: Appliance) -> Guest:
    guest = world.guest()
    guest.lease()
    admin = appliance.config().admin
    world.relay(urlsplit(ADMIN).port or 0, world.gw, f"{admin.listen}:{admin.port}", at=guest)
    return guest


@pytest.fixture(scope="module")
def chromium(world: World, guest: Guest) -> Iterator[Browser]:
    with browser(world, guest) as one:
        yield one


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    chromium.begin()
    yield chromium
    chromium.scripts(True)


@pytest.fixture
def offline(page: Browser, guest: Guest) -> Iterator[Browser]:
    """Who asks for anything is led to the portal; and so it is left."""
    yield page
    journey.log_out(guest)


@pytest.fixture(scope="module")
def owner(appliance: Appliance, chromium: Browser) -> str:
    """Who came by the link, and took the steps of the first run that are left on this box: a plan, vouchers."""
    chromium.size(PHONE)
    chromium.open(urljoin(ADMIN, "?".join(urlsplit(appliance.cli("admin-link").strip())[2:4])))
    chromium.press("a.main")
    fill(chromium, name=OWNER, password=PASSWORD)
    chromium.press("main button.main")
    assert "may enter as owner" in chromium.text
    chromium.press("main a.main")
    fill(chromium, name="day", down="20M", up="5M", validity="", simultaneous="")
    chromium.press("main button.main")
    fill(chromium, count="20")
    chromium.press("main button.main")
    assert "The login page works" in chromium.text
    return OWNER


@pytest.fixture(scope="module")
def codes(world: World, appliance: Appliance, owner: str) -> list[str]:
    """Vouchers; and some of everything that lists are made of."""
    a_vault(world, appliance)
    appliance.cli("pool", "add", "public", "198.51.100.17-198.51.100.30")
    appliance.cli("plan", "add", "nights", "--down", "20M", "--up", "5M", "--windows", "daily 22:00-06:00 @50M/10M")
    appliance.cli("account", "add", "anna", "--plan", "day", "--down", "30M", "--password-stdin", stdin="secret-anna\n")
    appliance.cli("nas", "add", "hill", "--kind", "mikrotik", "--address", "192.0.2.7", "--netflow", "on")
    a_dealer(appliance)
    return [str(voucher["code"]) for voucher in appliance.json("voucher", "list", "first")]


def a_vault(world: World, appliance: Appliance) -> None:
    """With two versions of a file, and of one that was removed."""
    password = appliance.cli("vault", "add", "office").split()[-1]
    file, url = appliance.directory / "export.rsc", "ftp://127.0.0.1"
    for text in ("/ip address\nadd address=10.0.0.1/24 interface=ether1\n", "/ip address\n"):
        file.write_text(text, encoding="ascii")
        for name in ("hill.rsc", "old.rsc"):
            world.gw.run("curl", "-sS", "-u", f"office:{password}", "-T", str(file), f"{url}/{name}")
    world.gw.run("curl", "-sS", "-u", f"office:{password}", "-Q", "DELE old.rsc", f"{url}/")


def a_dealer(appliance: Appliance) -> None:
    """Who has sold last month, has an invoice for it, and is about to be paid."""
    day = datetime.now(appliance.config().site.timezone).replace(day=1) - timedelta(days=1)
    appliance.cli("dealer", "scheme", "add", "ten", "--percent", "10", "--from", "2026-01-01")
    appliance.cli("dealer", "add", "kiosk", *DEALER)
    appliance.cli("dealer", "scheme", "assign", "kiosk", "ten", "--from", "2026-01-01")
    appliance.cli("dealer", "attribute", "kiosk", "account", "anna", "--from", "2026-01-01")
    appliance.cli("sales", "add", "anna", "--amount", "20.00", "--day", f"{day:%Y-%m-%d}", "--paid")
    appliance.cli("dealer", "settle")
    appliance.cli("dealer", "payout", "--make", str(appliance.directory / "payout.xml"))


@pytest.fixture
def admin(page: Browser, owner: str, codes: list[str]) -> Browser:
    """Logged in."""
    page.size(DESKTOP)
    log_in_as_owner(page)
    return page


def log_in_as_owner(page: Browser) -> None:
    page.open(f"{ADMIN}/login")
    fill(page, name=OWNER, password=PASSWORD)
    page.press("button.main")
    assert page.url == f"{ADMIN}/"


# Guests


def test_a_phone_comes_from_a_probe_online_with_a_voucher(offline: Browser, codes: list[str]) -> None:
    offline.open(PROBE)
    assert offline.url == f"{PORTAL}/"
    assert offline.requests() == []
    assert len(offline.source().encode()) < LOGIN_PAGE_BYTES
    assert whole(offline, "login") == []
    fill(offline, user=codes[0].lower())
    offline.press("button.main")
    assert "You’re online" in offline.text
    assert whole(offline, "status") == []
    offline.open(journey.ANYWHERE)
    assert offline.text.startswith("198.51.100.")  # what a server far away sees
    offline.open(PORTAL)
    offline.press("form[action='/logout'] button")
    offline.open(journey.ANYWHERE)
    assert offline.url == f"{PORTAL}/"


def test_a_wrong_password_is_told_and_the_name_is_kept(offline: Browser, codes: list[str]) -> None:
    offline.open(PROBE)
    fill(offline, user="anna", password="wrong")
    offline.press("button.main")
    assert offline.one("[role=alert]").text
    assert offline.one("[name=user]").get_attribute("value") == "anna"
    assert offline.focused()["name"] == "password"
    assert whole(offline, "refused login") == []
    fill(offline, password="secret-anna")
    offline.press("button.main")
    assert "anna" in offline.text


def test_a_guest_needs_no_scripts(offline: Browser, codes: list[str]) -> None:
    offline.scripts(False)
    offline.open(PROBE)
    assert not offline.one("#show").is_displayed()
    fill(offline, user=codes[0])
    offline.press("button.main")
    assert "You’re online" in offline.text
    offline.press("form[action='/logout'] button")
    assert offline.all("[name=user]")


def test_a_guest_needs_no_pointer(offline: Browser, codes: list[str]) -> None:
    offline.open(PROBE)
    assert walk(offline, 5) == ["user", "password", "Show", "remember", "Log in"]
    offline.open(PROBE)
    offline.key(Keys.TAB)
    offline.key("anna", Keys.TAB, "secret-anna")
    offline.enter()
    assert "You’re online" in offline.text


@pytest.mark.parametrize("code", ["cs", "uk"])
def test_a_guest_is_spoken_to_in_the_browsers_language(offline: Browser, codes: list[str], code: str) -> None:
    offline.language(f"{code};q=0.9,en;q=0.5")
    offline.open(PROBE)
    assert offline.one("html").get_attribute("lang") == code
    assert "Log in" not in offline.text
    assert whole(offline, f"login in {code}") == []
    fill(offline, user="anna", password="secret-anna")
    offline.press("button.main")
    assert offline.one("html").get_attribute("lang") == code
    assert offline.all("form[action='/logout']")


def walk(page: Browser, steps: int) -> list[str]:
    """The names of what the Tab key leads to; one must see where one is."""
    names = []
    for _ in range(steps):
        page.key(Keys.TAB)
        at = page.focused()
        assert at["seen"], f"{page.url}: the focus on {at} isn't seen"
        names.append(str(at["name"]).strip())
    return names


# The admin's pages


def test_an_admin_lets_the_first_guest_online(offline: Browser, owner: str) -> None:
    """What `owner` began ends with one of the vouchers, as they are printed, in a guest's hand."""
    offline.size(DESKTOP)
    log_in_as_owner(offline)
    offline.open(f"{ADMIN}/vouchers/batch/first/print")
    code = offline.all("code")[-1].text.replace(" ", "")
    offline.open(PROBE)
    fill(offline, user=code)
    offline.press("button.main")
    assert "You’re online" in offline.text
    offline.open(f"{ADMIN}/sessions?state=online")
    assert code in offline.text


def test_the_admins_cookie_is_for_the_server_only(admin: Browser) -> None:
    cookies = {cookie["name"]: cookie for cookie in admin.driver.get_cookies()}
    assert (cookies["gatehouse"]["httpOnly"], cookies["gatehouse"]["sameSite"]) == (True, "Strict")
    assert "gatehouse" not in admin.script("return document.cookie")


def test_an_admin_needs_no_scripts(admin: Browser) -> None:
    admin.press("header form[action='/leave'] button")
    admin.scripts(False)
    log_in_as_owner(admin)
    admin.open(f"{ADMIN}/accounts?q=an")
    admin.press("main td a")
    assert admin.url == f"{ADMIN}/accounts/anna"
    admin.open(f"{ADMIN}/accounts/new")
    fill(admin, name="quiet", password="no-scripts-here")
    admin.press("main button.main")
    assert admin.one("h1").text.startswith("quiet")
    fill(admin, down="7M")
    admin.press("main button.main")
    assert "quiet is changed" in admin.one(".notice").text
    admin.open(f"{ADMIN}/accounts")
    fill(admin, q="qui")
    admin.enter()
    assert admin.all("main td a")[0].text == "quiet"


def test_an_admin_needs_no_pointer(page: Browser, owner: str, codes: list[str]) -> None:
    page.size(DESKTOP)
    page.open(f"{ADMIN}/login")
    assert page.focused()["name"] == "name"
    page.key(OWNER, Keys.TAB, PASSWORD)
    assert page.focused()["seen"]
    page.enter()
    page.open(f"{ADMIN}/plans/new")
    assert page.focused()["name"] == "name"
    fields = [field.get_attribute("name") for field in page.all("main form :is(input:not([type=hidden]), select)")]
    passed = walk(page, len(fields) + 1)
    assert [name for name in passed if name in fields] == fields[1:]
    assert "Save" in passed
    page.open(f"{ADMIN}/")
    page.key(Keys.TAB)
    assert page.focused()["name"] == "Skip to the page"
    page.key("/")
    page.key("anna")
    page.enter()
    assert "anna" in page.one("h1").text


def test_every_admin_page_is_sound(admin: Browser, appliance: Appliance) -> None:
    """Those of modules to come too: pages are found by the frame, and single things by the links to them."""
    wrong: list[str] = []
    found, unreached = addresses(admin, appliance)
    for url in found:
        admin.open(ADMIN + url)
        for size in (PHONE, DESKTOP):
            admin.size(size)
            wrong += whole(admin, f"{url} at {size[0]} pixels")
    assert not wrong, "\n".join(wrong)
    assert len(found) > 20
    assert not unreached, f"no page links to one of {unreached}: give it some in `codes`"


def addresses(admin: Browser, appliance: Appliance) -> tuple[list[str], list[str]]:
    """One for each page that shows HTML, and the patterns that nothing leads to."""
    patterns = [page.path for page in frame.pages(appliance.config()) if page.method == "GET"]
    missing = {path for path in patterns if path not in UNREACHED and not f"{path}/".startswith(OTHERS)}
    queue = sorted(path for path in missing if "<" not in path)
    found, looked, kinds = [], set(), Counter[str]()
    while queue and missing:
        url = queue.pop(0)
        at = urlsplit(url).path
        pattern = at if at in patterns else next((path for path in patterns if fits(at, path)), "")
        if not pattern or at in looked or kinds[pattern] == LOOKS:
            continue
        looked.add(at)
        kinds[pattern] += 1
        kind, links = admin.look(ADMIN + url)
        queue += links
        if pattern in missing and kind.startswith("text/html"):
            found.append(url)
        missing.discard(pattern)
    return found, sorted(missing)


def fits(path: str, pattern: str) -> bool:
    return "<" in pattern and bool(re.fullmatch(re.sub("<[^>]+>", "[^/?]+", pattern), path))


# Pictures for the handbook, made when they are asked for


@pytest.mark.skipif("PICTURES" not in os.environ, reason="make screenshots")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_taken(offline: Browser, codes: list[str], scheme: str) -> None:
    offline.scheme(scheme)
    offline.open(PROBE)
    offline.save(f"guest-login-{scheme}")
    fill(offline, user="anna", password="secret-anna")
    offline.press("button.main")
    offline.save(f"guest-online-{scheme}")
    log_in_as_owner(offline)
    offline.size(DESKTOP)
    for name, url in PICTURES.items():
        offline.open(ADMIN + url)
        offline.save(f"{name}-{scheme}")


# What isn't seen


def test_who_guesses_guests_passwords_has_to_wait(world: World, appliance: Appliance, codes: list[str]) -> None:
    guesser = world.guest()
    guesser.lease()
    form = journey.Form.on(guesser.curl(PORTAL).body, f"{PORTAL}/")
    answers = []
    for number in range(100):
        answers.append(guesser.curl(form.action, form={**form.fields, "user": "anna", "password": f"guess {number}"}))
    statuses = [answer.status for answer in answers]
    assert statuses[:10] == [403] * 10
    assert set(statuses) == {403, 429}
    assert statuses.count(403) < 10 + 2 + sum(answer.seconds for answer in answers) / 6 + 5
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["Retry-After"]


def test_who_guesses_an_admins_password_has_to_wait(guest: Guest, owner: str) -> None:
    started = time.monotonic()
    statuses = [log_in(guest, "guess").status for _ in range(100)]
    assert statuses[:3] == [403] * 3
    assert set(statuses) == {403, 429}
    assert statuses.count(403) <= 10 + (time.monotonic() - started) / 6 + 1
    # A try comes back every six seconds: not within the next one.
    wait_until(lambda: seconds_to_wait(log_in(guest, "guess")) >= 4, 10, "a refusal with some seconds left")
    assert log_in(guest, PASSWORD).status == 429


def log_in(guest: Guest, password: str) -> Response:
    return guest.curl(f"{ADMIN}/login", form={"name": OWNER, "password": password})


def seconds_to_wait(refused: Response) -> int:
    said = re.search(r"Too many tries: wait (\d+) seconds", refused.body)
    return int(said[1]) if said else 0


@pytest.mark.parametrize("url", [f"{PORTAL}/", f"{PORTAL}/nothing", f"{ADMIN}/login", f"{ADMIN}/static/admin.css"])
def test_headers_come_through_to_the_browser(guest: Guest, owner: str, url: str) -> None:
    headers = guest.curl(url).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert "nginx/" not in headers.get("Server", "")
