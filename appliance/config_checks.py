"""What several sections of the configuration are checked for; each raises ValueError that names the key."""

import re
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

# As browsers take it in type=email (HTML, 4.10.5.1.5), with a domain of two labels at least.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")
HOST = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")


def ports(section: object, *keys: str) -> None:
    for key in keys:
        between(section, key, 1, 65_535)


def certificate(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key: give both or neither")


def between(section: object, key: str, low: int, high: int) -> None:
    if not low <= getattr(section, key) <= high:
        raise ValueError(f"{key}: {getattr(section, key)} is not between {low} and {high}")


def address(section: object, key: str) -> None:
    text = getattr(section, key)
    try:
        ip_address(text)
    except ValueError:
        raise ValueError(f'{key}: an address such as "192.0.2.1" is needed, not {text!r}') from None


def webhook(url: str) -> None:
    """Raises ValueError: https, or http to an address of an own network, where nobody else can answer."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not url.isascii():
        raise ValueError(f"an address such as https://chat.example.net/hook is needed, not {url[:80]!r}")
    if parts.scheme == "http" and not _is_own(parts.hostname):
        raise ValueError("without TLS only an IP address of an own network is possible")
    if parts.port == 0:
        raise ValueError("port 0 is none")


def _is_own(host: str) -> bool:
    try:
        found = ip_address(host)
    except ValueError:
        return host == "localhost"
    return found.is_private or found.is_loopback


def iban(text: str) -> bool:
    """Whether its length is possible and its check digits are right (ISO 13616, ISO 7064 MOD 97-10)."""
    plain = text.replace(" ", "")
    if not _IBAN.fullmatch(plain):
        return False
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1
