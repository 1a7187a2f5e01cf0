"""The operator's own look of the guest's pages, and the walled garden, as configured and as rendered."""

import base64
import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, Portal, parse
from appliance.errors import ConfigError
from portal import dhcp, look, ruleset
from portal.look import DARK_CARD, LIGHT_CARD, MAX_LOGO_BYTES, READABLE, contrast, read_logo, readable, style, text_on
from portal.pages import TEMPLATES

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
COLOURS = st.from_regex(r"#([0-9a-f]{3}|[0-9a-f]{6})", fullmatch=True)


def portal(text: str) -> Portal:
    return parse(f"[portal]\n{text}").portal


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("title = 5", "title: a text in quotes is needed, or one for each language"),
        ("title = { cs = 1 }", "title: a text in quotes is needed"),
        (f'title = "{"x" * 81}"', "title: 81 letters are too many, 80 are possible"),
        ('greeting = "a\\u0007"', "greeting: control characters can't be used here"),
        ('accent = "teal"', "accent: 'teal' is no colour: write it as \"#0c5f63\""),
        ('accent = "#12345"', "accent: '#12345' is no colour"),
        ('accent = "#0c5f63;}"', "accent: "),
        ('terms_url = "javascript:alert(1)"', "terms_url: 'javascript:alert(1)' is no address of a page"),
        ('terms_url = "https:///x"', "terms_url: "),
        ('terms = "x"\nterms_url = "https://isp.example/"', "terms and terms_url: give one of them"),
        ('walled_garden = ["pay"]', "walled_garden: 'pay' is neither a host name nor an IPv4 address or network"),
        ('walled_garden = ["a.b/c#d"]', "walled_garden: 'a.b/c#d' is neither"),
        ('walled_garden = ["https://pay.example"]', "walled_garden: 'https://pay.example' is neither"),
        ('walled_garden = ["10.0.0.300"]', "walled_garden: '10.0.0.300' is no IPv4 address or network"),
        ('walled_garden = ["0.0.0.0/0"]', "walled_garden: 0.0.0.0/0 is most of the Internet"),
    ],
)
def test_what_is_wrong_is_one_line(line: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"[portal] {complaint}")) as raised:
        portal(line)
    assert "\n" not in str(raised.value)


def test_texts_are_for_all_or_for_each_language() -> None:
    assert portal('title = "Camp"').title.text("cs") == "Camp"
    titles = portal('title = { cs = "Kemp", en = "Camp" }').title
    assert [titles.text(code) for code in ("en", "cs", "de")] == ["Camp", "Kemp", "Kemp"]
    assert not portal('title = " "').title
    assert portal('terms = """\nOne.\n\nTwo.\n"""').terms.text("en") == "One.\n\nTwo."


# -- colours


@given(COLOURS)
def test_any_accent_can_be_read(accent: str) -> None:
    for card in (LIGHT_CARD, DARK_CARD):
        shade = readable(accent, card)
        assert contrast(shade, card) >= READABLE
        assert contrast(text_on(shade), shade) >= READABLE


def test_a_readable_accent_stays() -> None:
    assert readable("#0c5f63", LIGHT_CARD) == "#0c5f63"
    assert contrast("#ffffff", "#000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's own example


def test_the_cards_are_those_of_the_pages() -> None:
    text = (TEMPLATES / "style.css").read_text()
    assert re.findall(r"--card: ([^;]+);", text) == [LIGHT_CARD, DARK_CARD]


def test_style_of_an_accent() -> None:
    assert style("") == ""
    made = style("#ff8800")
    assert re.fullmatch(r"[-a-z0-9:#;{}@() ]+", made)
    light, dark = re.findall(r"--main:(#[0-9a-f]{6})", made)
    assert dark == "#ff8800" and light != dark
    assert "--main-text:#000000" in made.split("@media")[1]


# -- the logo


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "portal").mkdir()
    return parse(f'[paths]\nstate = "{tmp_path}"')


def put(config: Config, name: str, content: bytes) -> None:
    (config.paths.state / "portal" / name).write_bytes(content)


def test_no_logo(config: Config) -> None:
    assert read_logo(config) == ""


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("logo.png", PNG, "image/png"),
        ("logo.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
        ("logo.svg", b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "image/svg+xml"),
        ("logo.jpg", b"\xff\xd8\xff\xe0", "image/jpeg"),
    ],
)
def test_logo_is_part_of_the_page(config: Config, name: str, content: bytes, kind: str) -> None:
    put(config, name, content)
    assert read_logo(config) == f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("logo.png", b"<svg/>", "this is no PNG image"),
        ("logo.svg", b"<html>", "this is no SVG image"),
        ("logo.png", PNG + b"x" * MAX_LOGO_BYTES, "3608 bytes are too many, 3500 are possible"),
    ],
)
def test_a_logo_that_can_not_be_used_is_named(config: Config, name: str, content: bytes, complaint: str) -> None:
    put(config, name, content)
    with pytest.raises(ConfigError, match=rf"portal/{name}: {complaint}"):
        look.read_logo(config)


# -- the walled garden


GARDEN = 'walled_garden = ["*.Pay.Example", "pay.example.", "198.51.100.0/25", "198.51.100.128/25", "203.0.113.9"]'


def test_garden_is_sorted_out() -> None:
    made = portal(f'{GARDEN}\nterms_url = "https://isp.example/terms"')
    assert made.garden_hosts == ("pay.example", "isp.example")
    assert made.garden_networks == (IPv4Network("198.51.100.0/24"), IPv4Network("203.0.113.9/32"))
    assert portal('terms_url = "http://192.0.2.1/"').garden_networks == (IPv4Network("192.0.2.1/32"),)


def test_names_go_through_dnsmasq_into_the_set() -> None:
    assert "#".join((*ruleset.TABLE.split(), "garden")) == dhcp.GARDEN_SET
    text = dhcp.render(parse(f"[portal]\n{GARDEN}"))
    assert "nftset=/pay.example/4#inet#gatehouse#garden\n" in text
    assert dhcp.GARDEN_CACHE_S * 10 < ruleset.GARDEN_S  # else cached answers lead where nothing passes any more
    assert "nftset" not in dhcp.render(Config())


def test_without_a_garden_there_are_no_rules_of_it() -> None:
    assert "@garden" not in ruleset.render(Config(), [])
    assert "@garden" not in ruleset.render(parse('[portal]\nwalled_garden = ["203.0.113.9"]'), [])
