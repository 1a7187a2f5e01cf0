"""Guests who log in by the portal's page as a browser does, many of them in one namespace."""

import http.client
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urlencode

from tests.lab.gateway_bench import inside
from tests.lab.guest import Guest
from tests.lab.namespace import run

_TOKEN = re.compile(r'name="token" value="(\w+)"')
TIMEOUT_S = 20


@dataclass(frozen=True)
class Login:
    """Of `name`, at an address that has a lease."""

    address: IPv4Address
    name: str
    password: str


def give_addresses(guest: Guest, gateway: IPv4Address, prefix: int, addresses: Sequence[IPv4Address]) -> None:
    own = addresses[0]
    guest.iproute("address", "add", f"{own}/{prefix}", "dev", "eth0")
    guest.iproute("route", "replace", "default", "via", str(gateway))
    lines = "".join(f"address add {address}/32 dev lo\n" for address in addresses[1:])
    run("ip", "-n", guest.name, "-batch", "-", stdin=lines)


def log_in(guest: Guest, portal: IPv4Address, login: Login) -> float:
    """Seconds from the first packet to the answer that the guest is online: the page and its form."""
    with inside(guest):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with connection:
        connection.settimeout(TIMEOUT_S)
        connection.bind((str(login.address), 0))
        began = time.perf_counter()
        connection.connect((str(portal), 80))
        browser = http.client.HTTPConnection(str(portal))
        browser.sock = connection
        token = _TOKEN.search(_page(browser))
        assert token
        typed = urlencode({"token": token[1], "user": login.name, "password": login.password})
        browser.request("POST", "/login", typed, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = browser.getresponse()
        answer.read()
        seconds = time.perf_counter() - began
    if (answer.status, answer.headers["Location"]) != (303, "/status"):
        raise RuntimeError(f"{login.name} isn't let in: {answer.status} {answer.reason}")
    return seconds


def _page(browser: http.client.HTTPConnection) -> str:
    browser.request("GET", "/")
    answer = browser.getresponse()
    page = answer.read().decode()
    if answer.status != 200:
        raise RuntimeError(f"the login page: {answer.status} {answer.reason}")
    return page
