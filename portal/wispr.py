"""Smart clients, which log in by themselves and show no page: WISPr 1.0.

Wi-Fi Alliance, "Best Current Practices for Wireless Internet Service Provider (WISP) Roaming", February 2003,
appendix D. They look for XML in a comment of the login page, and get their answers in one.
"""

import html
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from appliance.errors import UserError
from portal import http
from portal.guard import FormTokens

LOGIN, LOGOFF, ABORT = "/wispr/login", "/wispr/logoff", "/wispr/abort"
ACCEPTED, REJECTED, NO_RADIUS, LOGGED_OFF, ABORTED, FAILED = "50", "100", "102", "150", "151", "255"

Enters = Callable[[str, str, IPv4Address, str, str], tuple[int, str]]
"""A login's name, password, address, MAC and wish; the status, and a sentence unless the guest is online now."""


def redirect(site: str, home: str) -> str:
    """What the login page has for them."""
    return _comment(
        "Redirect",
        {
            "AccessProcedure": "1.0",
            "AccessLocation": "gatehouse",
            "LocationName": site,
            "LoginURL": _url(home, LOGIN),
            "AbortLoginURL": _url(home, ABORT),
            "MessageType": "100",
            "ResponseCode": "0",
        },
    )


class SmartClients:
    """`mac_of` is the guest's by its lease, empty without one; `wait_s` bounds the tries; `leave` raises UserError."""

    def __init__(
        self,
        home: str,
        enters: Enters,
        leave: Callable[[IPv4Address], None],
        mac_of: Callable[[IPv4Address], str],
        wait_s: Callable[[str, IPv4Address], int],
        tokens: FormTokens,
    ) -> None:
        self._home = home
        self._enters = enters
        self._leave = leave
        self._mac_of = mac_of
        self._wait_s = wait_s
        self._tokens = tokens

    def routes(self) -> Iterable[tuple[str, str, Callable[[], Any]]]:
        yield LOGIN, "POST", self.log_in
        yield LOGOFF, "GET", self.log_off
        yield ABORT, "GET", lambda: _reply("AbortLoginReply", "150", ABORTED)

    def log_in(self) -> Any:
        """Not for browsers, which say who sent them: the page's own form has a token against other sites."""
        ip = http.guest()
        mac = self._mac_of(ip)
        user, password = (http.field(name).strip() for name in ("UserName", "Password"))
        if not mac or http.header("Origin") or http.header("Sec-Fetch-Site"):
            return _authentication(FAILED)
        if self._wait_s(mac, ip):
            return _authentication(REJECTED)
        status, sentence = self._enters(user, password or user, ip, mac, "")
        if sentence:
            return _authentication(REJECTED if status == 403 else NO_RADIUS, ReplyMessage=sentence)
        token = self._tokens.lasting("logoff", f"{ip} {mac}")
        return _authentication(ACCEPTED, LogoffURL=f"{_url(self._home, LOGOFF)}?token={token}")

    def log_off(self) -> Any:
        ip = http.guest()
        if not self._tokens.is_lasting(http.query("token"), "logoff", f"{ip} {self._mac_of(ip)}"):
            return _reply("LogoffReply", "130", FAILED)
        try:
            self._leave(ip)
        except UserError:
            return _reply("LogoffReply", "130", FAILED)
        return _reply("LogoffReply", "130", LOGGED_OFF)


def _authentication(code: str, **more: str) -> Any:
    return _reply("AuthenticationReply", "120", code, more)


def _reply(kind: str, message: str, code: str, more: Mapping[str, str] | None = None) -> Any:
    parts = {"MessageType": message, "ResponseCode": code, **(more or {})}
    return http.page(f"<!doctype html><title>WISPr</title>{_comment(kind, parts)}")


def _comment(kind: str, parts: Mapping[str, str]) -> str:
    """No text may end the comment: `--` can't stand in one."""
    inside = "".join(f"<{name}>{_text(value)}</{name}>" for name, value in parts.items())
    return (
        '<!--<?xml version="1.0" encoding="UTF-8"?><WISPAccessGatewayParam'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:noNamespaceSchemaLocation="http://www.acmewisp.com/WISPAccessGatewayParam.xsd">'
        f"<{kind}>{inside}</{kind}></WISPAccessGatewayParam>-->"
    )


def _text(value: str) -> str:
    return html.escape(value, quote=False).replace("--", "-&#45;")


def _url(home: str, path: str) -> str:
    return home.removesuffix("/") + path
