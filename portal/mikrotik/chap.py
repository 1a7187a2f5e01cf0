"""What a MikroTik router's login page hands over, and what its hotspot wants back; pure.

help.mikrotik.com/docs, "Hotspot customisation": http-chap's password is hexMD5(chap-id + password + chap-challenge).
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from appliance.errors import UserError

FIELDS = ("link-login-only", "link-orig", "chap-id", "chap-challenge", "error")
MAX_LINK = 1000
_LINK = re.compile(r"(https?)://([A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?", re.ASCII)
_SITE = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]
_ESCAPED = re.compile(r"\\([0-7]{1,3})|\\(.)|(.)", re.DOTALL)


@dataclass(frozen=True)
class Router:
    """Where a login goes: `link` has been checked. Without a `challenge` the router wants the password itself."""

    link: str
    destination: str
    chap_id: bytes
    challenge: bytes

    def password(self, typed: str) -> str:
        if not self.challenge:
            return typed
        return hashlib.md5(self.chap_id + typed.encode() + self.challenge).hexdigest()  # noqa: S324 (RFC 1994)


def router(given: Mapping[str, str], known_hosts: Collection[str]) -> Router:
    """Raises UserError where a password might go to somebody who is no router.

    A router's hotspot has a private address, which leads nowhere but into the guest's own network, or a name that
    the operator has written down: else a link in a mail could send what a guest types to anybody.
    """
    link, destination = given.get("link-login-only", ""), given.get("link-orig", "")
    if not leads_to_router(link, known_hosts):
        raise UserError("link-login-only leads to no router")
    chap_id, challenge = unescape(given.get("chap-id", "")), unescape(given.get("chap-challenge", ""))
    if (len(chap_id), bool(challenge)) not in ((0, False), (1, True)):
        raise UserError("chap-id and chap-challenge don't fit")
    plain = re.fullmatch(r"https?://[!-~]+", destination) and len(destination) <= MAX_LINK
    return Router(link, destination if plain else "", chap_id, challenge)


def leads_to_router(link: str, known_hosts: Collection[str]) -> bool:
    match = _LINK.fullmatch(link)
    return match is not None and len(link) <= MAX_LINK and _is_router(match[2].lower(), known_hosts)


def _is_router(host: str, known_hosts: Collection[str]) -> bool:
    try:
        address = IPv4Address(host)
    except AddressValueError:
        return host in known_hosts
    return any(address in network for network in _SITE)


def unescape(text: str) -> bytes:
    r"""Octets as RouterOS writes them into JavaScript: \ooo, or as they are. Raises UserError."""
    try:
        return bytes(int(octal, 8) if octal else ord(other or plain) for octal, other, plain in _ESCAPED.findall(text))
    except ValueError:
        raise UserError("chap-id or chap-challenge is no row of octets") from None
