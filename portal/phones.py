"""Each kind of phone, played against the live portal: what it asks, what it makes of the answer (web page by page).

It is asked from this machine, at the gateway's address and the portal's own ports: cable, radio and the rules that
lead a guest's port 80 there aren't on that way.
"""

import json
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from appliance.config import Config
from appliance.doctor.findings import BAD, OK, Finding
from appliance.doctor.machine import again
from portal import asking, capport


class Phone(NamedTuple):
    """What it asks to find out whether there is a portal, before anybody has opened a page."""

    name: str
    host: str
    path: str
    agent: str


_ANDROID = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/60.0.3112.32 Safari/537.36"
PHONES = (
    Phone("iPhone, iPad, Mac", "captive.apple.com", "/hotspot-detect.html", "CaptiveNetworkSupport-490.30.1 wispr"),
    Phone("Android", "connectivitycheck.gstatic.com", "/generate_204", _ANDROID),
    Phone("Android, second try", "www.google.com", "/gen_204", _ANDROID),
    Phone("Windows", "www.msftconnecttest.com", "/connecttest.txt", "Microsoft NCSI"),
    Phone("Firefox", "detectportal.firefox.com", "/canonical.html", "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"),
)
_REDIRECTS = (302, 303, 307)


def play(config: Config) -> Iterator[Finding]:
    address = config.gateway.address.ip
    home = config.portal_url
    try:
        page = _home(config)
    except ssl.SSLError as error:
        yield Finding("login page", BAD, f"Phones can't open {home}: {error.reason or error}.", "See the certificate.")
        return
    except OSError as error:
        sentence = f"Nobody answers at {address} port {config.portal.http_port}: {error.strerror or error}."
        yield Finding("login page", BAD, sentence, "Start the gateway and the web server.", again("gateway", "web"))
        return
    if page.status != 200 or not page.headers.get("content-type", "").startswith("text/html"):
        sentence = f"{home} says {page.status}: the portal behind the web server doesn't answer."
        yield Finding("login page", BAD, sentence, "Start the portal.", again("portal"))
        return
    yield Finding("login page", OK, f"{home} shows the portal's page.")
    yield from (_played(config, phone, home) for phone in PHONES)
    yield _by_api(config, home)


def _home(config: Config) -> asking.Reply:
    """Where a phone is sent; over TLS it is as strict as a phone."""
    address = config.gateway.address.ip
    if config.portal.certificate is None:
        return asking.get(address, config.portal.http_port, str(address), "/")
    trust = ssl.create_default_context()
    return asking.get(address, config.portal.https_port, config.portal.hostname, "/", trust=trust)


def _played(config: Config, phone: Phone, home: str) -> Finding:
    subject, address = f"phone: {phone.name}", config.gateway.address.ip
    try:
        asking.resolve(address, phone.host)
    except OSError as error:
        sentence = f"It can't find {phone.host} ({error}), so it shows no login page by itself."
        return Finding(subject, BAD, sentence, "See the name server.")
    try:
        reply = asking.get(address, config.portal.http_port, phone.host, phone.path, phone.agent)
    except OSError as error:
        return Finding(subject, BAD, f"Its question gets no answer: {error}.", "See the login page.")
    where = reply.headers.get("location", "")
    if reply.status not in _REDIRECTS or where != home:
        sentence = f"http://{phone.host}{phone.path} says {reply.status} {where}: it isn't led to {home}."
        return Finding(subject, BAD, sentence, "Start the portal and the web server.", again("portal", "web"))
    return Finding(subject, OK, f"It asks {phone.host} and is led to the login page.")


def _by_api(config: Config, home: str) -> Finding:
    """RFC 8908; it is told where by DHCP (RFC 8910), which only a trusted certificate makes sense for."""
    subject, address, host = "phone: by the API (RFC 8908)", config.gateway.address.ip, config.portal.hostname
    secure = config.portal.certificate is not None
    port = config.portal.https_port if secure else config.portal.http_port
    try:
        reply = asking.get(address, port, host, capport.PATH, trust=ssl.create_default_context() if secure else None)
    except OSError as error:
        return Finding(subject, BAD, f"It gets no answer: {error}.", "See the certificate.")
    try:
        state = json.loads(reply.body)
        good = state["captive"] is True and state["user-portal-url"] == home
    except (ValueError, KeyError, TypeError):
        good = False
    if not good or reply.headers.get("content-type") != "application/captive+json":
        sentence = f"{capport.PATH} says {reply.status}, and nothing that a phone understands."
        return Finding(subject, BAD, sentence, "Start the portal and the gateway.", again("portal", "gateway"))
    if not secure:
        return Finding(subject, OK, "The API answers; phones aren't told of it, as the portal has no certificate.")
    return Finding(subject, OK, "It asks the API, and is led to the login page.")
