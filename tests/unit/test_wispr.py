"""Smart clients, by a small one of the kind: WISPr 1.0, appendix D."""

import re
import xml.etree.ElementTree as Xml
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appliance.errors import Unavailable
from portal.protocol import Answer, Logout
from portal.radius import Accepted, Rejected
from tests.unit.test_portal_web import IP, LEASES, MAC, Browser, Page, World


class Comments(HTMLParser):
    """They look for the first comment with the gateway's parameters."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_comment(self, data: str) -> None:
        if "<WISPAccessGatewayParam" in data:
            self.found.append(data)


class Client:
    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def redirect(self, ip: str = IP) -> dict[str, str]:
        """Follows a page that it was led away from."""
        away = self._browser.get("/", ip, host="www.example")
        return values(self._browser.get(urlsplit(away.headers["Location"]).path, ip), "Redirect")

    def log_in(self, user: str, password: str, ip: str = IP) -> dict[str, str]:
        where = urlsplit(self.redirect(ip)["LoginURL"]).path
        fields = {"UserName": user, "Password": password, "button": "Login", "FNAME": "0", "OriginatingServer": "x"}
        return values(self._browser.post(where, ip, **fields), "AuthenticationReply")

    def follow(self, url: str, kind: str, ip: str = IP) -> dict[str, str]:
        parts = urlsplit(url)
        assert parts.netloc == "10.10.0.1"
        return values(self._browser.get(f"{parts.path}?{parts.query}", ip), kind)


def values(page: Page, kind: str) -> dict[str, str]:
    assert page.status == 200
    (comment,) = Comments(page.text).found
    (element,) = Xml.fromstring(comment)  # noqa: S314 (our own)
    assert element.tag == kind
    return {part.tag: part.text or "" for part in element}


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "dnsmasq").mkdir()
    (tmp_path / "dnsmasq" / "leases").write_text(LEASES)
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Client:
    return Client(Browser(world))


def test_the_login_page_says_where_to_log_in(client: Client) -> None:
    said = client.redirect()
    assert said["LoginURL"] == "http://10.10.0.1/wispr/login"
    assert (said["AccessProcedure"], said["MessageType"], said["ResponseCode"]) == ("1.0", "100", "0")
    assert client.follow(said["AbortLoginURL"], "AbortLoginReply") == {"MessageType": "150", "ResponseCode": "151"}


def test_no_name_of_a_site_ends_the_comment(world: World) -> None:
    world.config_text = '[site]\nname = "A --> <script>---- & B-"'
    assert Client(Browser(world)).redirect()["LocationName"] == "A --> <script>---- & B-"


def test_login_and_logoff(client: Client, world: World) -> None:
    said = client.log_in("anna", "x")
    assert (said["MessageType"], said["ResponseCode"]) == ("120", "50")
    assert world.logins[0][:2] == ("anna", "x") and isinstance(world.asked[-1], Accepted)
    world.now += 86_400
    world.gateway = Answer(online=False, mac=MAC)
    assert client.follow(said["LogoffURL"], "LogoffReply") == {"MessageType": "130", "ResponseCode": "150"}
    assert isinstance(world.asked[-1], Logout)
    assert world.wishes[-1] == (MAC, "forget")


def test_a_voucher_logs_in_by_its_code(client: Client, world: World) -> None:
    assert client.log_in("abcd-efgh", "")["ResponseCode"] == "50"
    assert world.logins[0][:2] == ("abcd-efgh", "abcd-efgh")


def test_a_refusal_says_why(client: Client, world: World) -> None:
    world.radius = Rejected("Your plan allows 08:00–20:00.")
    said = client.log_in("anna", "x")
    assert (said["ResponseCode"], said["ReplyMessage"]) == ("100", "Your plan allows 08:00–20:00.")
    assert "LogoffURL" not in said


def test_a_silent_server_is_another_thing(client: Client, world: World) -> None:
    world.radius = Unavailable("no answer")
    assert client.log_in("anna", "x")["ResponseCode"] == "102"


def test_tries_are_bounded_together_with_those_of_the_page(client: Client, world: World) -> None:
    world.radius = Rejected()
    browser = Browser(world)
    client = Client(browser)
    for _ in range(5):
        client.log_in("anna", "x")
        browser.log_in()
    assert client.log_in("anna", "x")["ResponseCode"] == "100"
    assert len(world.logins) == 10
    assert browser.log_in().status == 429


def test_without_a_lease_nobody_logs_in(client: Client, world: World) -> None:
    page = Browser(world).post("/wispr/login", "10.10.0.99", UserName="anna", Password="x")
    assert values(page, "AuthenticationReply")["ResponseCode"] == "255"
    assert not world.logins


@pytest.mark.parametrize("header", ["origin", "sec_fetch_site"])
def test_another_sites_form_logs_nobody_in(world: World, header: str) -> None:
    body = b"UserName=evil&Password=x"
    page = Browser(world).send("POST", "/wispr/login", body, IP, "10.10.0.1", {header: "null"})
    assert values(page, "AuthenticationReply")["ResponseCode"] == "255"
    assert not world.logins


@pytest.mark.parametrize("token", ["", "é", "0" * 32])
def test_another_sites_picture_logs_nobody_off(client: Client, world: World, token: str) -> None:
    said = client.log_in("anna", "x")
    other = client.log_in("bob", "x", "10.10.0.3")["LogoffURL"]
    before = len(world.asked)
    for url in (re.sub("token=.*", f"token={token}", said["LogoffURL"]), other):
        assert client.follow(url, "LogoffReply")["ResponseCode"] == "255"
    assert len(world.asked) == before


def test_a_silent_gateway_is_said(client: Client, world: World) -> None:
    said = client.log_in("anna", "x")
    world.gateway = Unavailable("silent")
    assert client.follow(said["LogoffURL"], "LogoffReply")["ResponseCode"] == "255"


def test_where_terms_must_be_read_there_is_none_of_it(world: World) -> None:
    world.config_text = '[portal]\nterms = "Be nice."'
    browser = Browser(world)
    assert not Comments(browser.get().text).found
    assert browser.post("/wispr/login", UserName="anna", Password="x").status == 404
