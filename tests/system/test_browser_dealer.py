"""A dealer's own pages as they see them: on a phone in a shop, in Chromium, on an appliance with all its services."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from appliance.admin import frame
from appliance.dealers.web_own import BASE
from tests.lab.appliance import Appliance
from tests.lab.namespace import wait_until
from tests.lab.world import World
from tests.system.browser import DESKTOP, PHONE, Browser, browser, fill, whole

pytestmark = pytest.mark.system

SITE = "http://127.0.0.1:8090"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def appliance(world: World) -> Appliance:
    """A dealer `kiosk` with credit, a customer who has paid, and a month that is settled."""
    made = world.appliance()
    made.cli("enable", "dealer")
    made.cli("plan", "add", "day", "--down", "20M", "--price", "2.00", "--currency", "EUR", "--validity", "24h")
    made.cli("dealer", "scheme", "add", "ten", "--percent", "10", "--from", "2026-01-01")
    made.cli("dealer", "add", "kiosk", "--login", "kiosk")
    made.cli("dealer", "scheme", "assign", "kiosk", "ten", "--from", "2026-01-01")
    made.cli("dealer", "top-up", "kiosk", "100.00", "--reference", "r7")
    made.cli("account", "add", "anna", "--plan", "day")
    made.cli("dealer", "attribute", "kiosk", "account", "anna", "--from", "2026-01-01")
    (sale,) = made.json("sales", "list", "--account", "anna")
    made.cli("sales", "pay", str(sale["number"]))
    wait_until(lambda: made.json("dealer", "list")[0]["accrued"] == "0.20", 20, "the commission")
    return made


@pytest.fixture(scope="module")
def phone(world: World, appliance: Appliance) -> Iterator[Browser]:
    desk, config = world.guest(), appliance.config().admin
    world.relay(urlsplit(SITE).port or 0, world.gw, f"{config.listen}:{config.port}", at=desk)
    with browser(world, desk) as one:
        one.begin()
        one.open(f"{SITE}{BASE}")
        assert one.url == f"{SITE}{BASE}/login"
        password = appliance.cli("dealer", "passwd", "kiosk").split()[-1]
        fill(one, login="kiosk", password=password)
        one.press("main button.main")
        assert one.url == f"{SITE}{BASE}/today"
        yield one


def sell(phone: Browser) -> str:
    """Three taps; the code that is on the screen then."""
    phone.open(f"{SITE}{BASE}/today")
    phone.press("main a.big")
    phone.press("a.plan")
    phone.press(".counts button[value='1']")
    return str(phone.one(".ticket-code").text).replace(" ", "")


def test_a_voucher_is_three_taps_away_and_logs_in(phone: Browser, appliance: Appliance) -> None:
    code = sell(phone)
    assert re.fullmatch("[a-z2-9]{12}", code)
    assert phone.one(".ticket-qr").size["width"] > 250
    assert phone.one(".ticket-code code").size["width"] <= 390
    assert code in [voucher["code"] for voucher in appliance.json("voucher", "list", "kiosk-1")]


def test_selling_needs_no_scripts(phone: Browser) -> None:
    phone.scripts(False)
    try:
        code = sell(phone)
        phone.one("summary").click()
        phone.script("document.querySelector('main button.danger').scrollIntoView({block: 'center'})")
        phone.press("main button.danger")
        assert "Taken back" in phone.text
        phone.open(f"{SITE}{BASE}/find?code={code}")
        assert "Taken back" in phone.text
    finally:
        phone.scripts(True)


def test_a_phone_without_a_line_says_so_and_sells_nothing(phone: Browser) -> None:
    phone.open(f"{SITE}{BASE}/sell/day")
    phone._tell("Network.enable")
    line(phone, up=False)
    try:
        phone.one(".counts button[value='1']").click()
        wait_until(lambda: "nothing is sold" in phone.one("[data-offline]").text, 15, "a word on the line")
        assert phone.url == f"{SITE}{BASE}/sell/day"
    finally:
        line(phone, up=True)
    phone.complaints()  # of the line
    phone.press(".counts button[value='2']")
    assert "2 vouchers are sold" in phone.one(".notice").text


def line(phone: Browser, up: bool) -> None:
    rate = -1 if up else 0
    phone._tell(
        "Network.emulateNetworkConditions", offline=not up, latency=0, downloadThroughput=rate, uploadThroughput=rate
    )


def test_every_page_of_a_dealer_is_sound(phone: Browser, appliance: Appliance) -> None:
    """Found by the frame, single things by the links to them; there is no invoice before a month is over."""
    patterns = {page.path for page in frame.pages(appliance.config()) if page.method == "GET" and is_own(page.path)}
    unreached = {path for path in patterns if "<invoice>" in path or "<sale>" in path or path == f"{BASE}/find"}
    queue, looked, wrong = sorted(path for path in patterns if "<" not in path), set[str](), list[str]()
    missing = patterns - unreached
    while queue and missing:
        at = urlsplit(queue.pop(0)).path
        pattern = next((path for path in missing if re.fullmatch(re.sub("<[^>]+>", "[^/]+", path), at)), "")
        if not pattern or at in looked:
            continue
        looked.add(at)
        missing.discard(pattern)
        kind, links = phone.look(SITE + at)
        queue += links
        if kind.startswith("text/html") and not at.endswith("/login"):
            phone.open(SITE + at)
            for size in (PHONE, DESKTOP):
                phone.size(size)
                wrong += whole(phone, f"{at} at {size[0]} pixels")
    assert not wrong, "\n".join(wrong)
    assert not missing, f"no page links to one of {missing}"


def is_own(path: str) -> bool:
    return f"{path}/".startswith(f"{BASE}/")
