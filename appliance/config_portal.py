"""The section [portal]: the guest's pages, how they look, and whom guests reach before they log in."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path
from urllib.parse import urlsplit

from appliance.config_checks import HOST, between, certificate, ports

MAX_TITLE, MAX_GREETING, MAX_TERMS = 80, 500, 20_000  # letters
REGISTRATION = ("off", "email", "operator")
MIKROTIK_PAGE = "/mikrotik"  # where routers send their guests
WIDEST_NETWORK = 8  # a wider one would be most of the Internet
_COLOUR = re.compile(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


@dataclass(frozen=True)
class Texts:
    """One text in several languages by their codes, or under "" for all; the first stands in for those not there."""

    by_language: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, value: object) -> "Texts":
        """From TOML: a text, or a table of texts. Raises ValueError."""
        table = {"": value} if isinstance(value, str) else value
        if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
            raise ValueError(f'a text in quotes is needed, or one for each language, {{ en = "…" }}, not {value!r}')
        for text in table.values():
            if not all(letter.isprintable() or letter == "\n" for letter in text):
                raise ValueError("control characters can't be used here")
        return cls(tuple((code, text.strip()) for code, text in table.items() if text.strip()))

    def __bool__(self) -> bool:
        return bool(self.by_language)

    def text(self, code: str) -> str:
        texts = dict(self.by_language)
        return texts.get(code) or texts.get("") or next(iter(texts.values()), "")

    def verify(self, key: str, most: int) -> None:
        for _, text in self.by_language:
            if len(text) > most:
                raise ValueError(f"{key}: {len(text)} letters are too many, {most} are possible")


@dataclass(frozen=True)
class Portal:
    """The guest's pages. With a publicly valid `certificate` and `key` (PEM files) they are also on HTTPS.

    `free_plan` and `registration_plan` name the plans of guests who help themselves.
    """

    hostname: str = "login.gatehouse.internal"
    http_port: int = 8080
    https_port: int = 8443
    certificate: Path | None = None
    key: Path | None = None
    languages: tuple[str, ...] = ("en", "cs", "sk", "de", "pl", "es", "fr", "uk")
    title: Texts = Texts()
    greeting: Texts = Texts()
    accent: str = ""
    terms: Texts = Texts()
    terms_url: str = ""
    walled_garden: tuple[str, ...] = ()
    free_plan: str = ""
    registration: str = "off"
    registration_plan: str = ""
    registration_grace_s: int = 600
    router_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+", self.hostname):
            raise ValueError("hostname: write a full lower-case host name such as login.example.net")
        certificate(self.certificate, self.key)
        ports(self, "http_port", "https_port")
        if not self.languages:
            raise ValueError('languages: name at least one, such as ["en"]')
        self.title.verify("title", MAX_TITLE)
        self.greeting.verify("greeting", MAX_GREETING)
        self.terms.verify("terms", MAX_TERMS)
        self._verify_registration()
        _verify_colour("accent", self.accent)
        _verify_url("terms_url", self.terms_url)
        if self.terms and self.terms_url:
            raise ValueError("terms and terms_url: give one of them")
        for host in self.router_hosts:
            if not HOST.fullmatch(host):
                raise ValueError(f"router_hosts: {host!r} is no host name in lower case, such as wifi.example.net")
        self.garden_hosts, self.garden_networks  # noqa: B018 (raises for what is neither)

    def _verify_registration(self) -> None:
        if self.registration not in REGISTRATION:
            raise ValueError(f"registration: one of {', '.join(REGISTRATION)} is needed, not {self.registration!r}")
        if self.registration != "off" and not self.registration_plan:
            raise ValueError("registration_plan: name the plan that registered guests get")
        between(self, "registration_grace_s", 0, 86_400)

    @property
    def _garden(self) -> list[str]:
        """The page of the terms is to be read before the login too."""
        terms = urlsplit(self.terms_url).hostname
        return [*self.walled_garden, *([terms] if terms else [])]

    @property
    def garden_hosts(self) -> tuple[str, ...]:
        """Whom guests reach by name before they log in."""
        return tuple(dict.fromkeys(_hosts(self._garden)))

    @property
    def garden_networks(self) -> tuple[IPv4Network, ...]:
        return tuple(collapse_addresses(_networks(self._garden)))


def _verify_colour(key: str, colour: str) -> None:
    if colour and not _COLOUR.fullmatch(colour):
        raise ValueError(f'{key}: {colour!r} is no colour: write it as "#0c5f63"')


def _verify_url(key: str, url: str) -> None:
    """Only what a browser shows as a page."""
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname or re.search(r"\s", url)):
        raise ValueError(f"{key}: {url!r} is no address of a page: write it with https://")


def _hosts(garden: Iterable[str]) -> Iterator[str]:
    """The names among them; those below each are meant too."""
    for place in garden:
        if not _network(place):
            host = place.lower().removeprefix("*.").rstrip(".")
            if not HOST.fullmatch(host):
                raise ValueError(f"walled_garden: {place!r} is neither a host name nor an IPv4 address or network")
            yield host


def _networks(garden: Iterable[str]) -> Iterator[IPv4Network]:
    for place in garden:
        if network := _network(place):
            if network.prefixlen < WIDEST_NETWORK:
                raise ValueError(f"walled_garden: {network} is most of the Internet: name networks of at least /8")
            yield network


def _network(place: str) -> IPv4Network | None:
    try:
        return IPv4Network(place)
    except ValueError:
        if re.fullmatch(r"[0-9./]+", place):
            raise ValueError(f"walled_garden: {place!r} is no IPv4 address or network") from None
        return None
