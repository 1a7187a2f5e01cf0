"""The pages a guest sees. No privileges and no database: it asks RADIUS, gateway and office, and decides nothing.

It stands behind nginx on a unix socket, so X-Real-IP is nginx's word.
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

import waitress
from bottle import Bottle, HTTPError, HTTPResponse, request

from appliance.config import Config, load
from appliance.config_portal import MIKROTIK_PAGE
from appliance.errors import UserError
from appliance.guest_verbs import socket_path
from appliance.tries import Tries
from portal import capport, http, languages
from portal.dhcp import lease_file, lease_of
from portal.guard import FormTokens, load_key
from portal.help_yourself import HelpYourself, Office
from portal.http import Wsgi
from portal.look import RENDERED_LOGO
from portal.mikrotik.web import RouterPages
from portal.office import OfficeClient
from portal.pages import TERMS, Look, Pages, ended
from portal.protocol import Answer, GatewayClient, Logout, Request, Who
from portal.radius import MAX_NAME_BYTES, Accepted, RadiusClient, Rejected
from portal.refusals import WRONG, translate
from portal.wispr import SmartClients

MAX_BODY_BYTES = 4096
THREADS = 8
LOGINS_AT_ONCE = 6  # so that a silent RADIUS server leaves threads for the other pages

LANGUAGE_S = 365 * 86_400
DEVICE_PAUSE_S = 15  # between two questions whether this device logs in by itself
MAX_DEVICES = 20_000

Authenticate = Callable[[str, str, IPv4Address, str, str], Accepted | Rejected]  # the last is the guest's wish
Ask = Callable[[Request], Answer]
Route = tuple[str, str, Callable[[], Any]]

log = logging.getLogger(__name__)


class Portal:
    """One method a page; `clock` gives UTC seconds."""

    def __init__(
        self,
        config: Config,
        authenticate: Authenticate,
        ask: Ask,
        office: Office,
        key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authenticate = authenticate
        self._ask = ask
        self._clock = clock
        self._leases = lease_file(config)
        self._secure = config.portal.certificate is not None
        self._own_hosts = {config.portal.hostname, str(config.gateway.address.ip), "127.0.0.1", "localhost"}
        self._has_gateway = config.gateway.enabled
        self._home = config.portal_url
        offered = languages.offered(config)
        self._look = Look(config.site, config.portal, self._home, offered, _logo(config))
        self._asks_terms = bool(config.portal.terms or config.portal.terms_url)
        self._by_language = {language.code: Pages(self._look, language) for language in offered}
        self._routers = RouterPages(config.portal, lambda: self._pages)
        self._tokens = FormTokens(key)
        self._tries = Tries()
        self._asked_devices: dict[str, float] = {}
        self._logins = threading.BoundedSemaphore(LOGINS_AT_ONCE)
        self._help_yourself = HelpYourself(
            config.portal, office, self._enters, self._asked, lambda: self._pages, self._tokens, self._leases, clock
        )
        self._smart_clients = None if self._asks_terms else self._for_smart_clients()

    def _for_smart_clients(self) -> SmartClients:
        """Not where terms must be read, which they can't."""

        def mac_of(ip: IPv4Address) -> str:
            lease = lease_of(self._leases, ip)
            return lease.mac if lease else ""

        def wait_s(mac: str, ip: IPv4Address) -> int:
            return self._tries.wait_s((mac, str(ip)), self._clock())

        return SmartClients(self._home, self._enters, self._leave, mac_of, wait_s, self._tokens)

    def app(self) -> Wsgi:
        app = Bottle()
        app.add_hook("before_request", self._admit)
        for path, method, page in (*self._routers.routes(), *(self._own() if self._has_gateway else self._stray())):
            app.route(path, method, page)
        app.default_error_handler = self._failure
        return http.with_headers(app, self._look.content_security_policy())

    def _own(self) -> Iterator[Route]:
        """For guests of the own gateway."""
        yield "/", "GET", self.start
        yield "/login", "GET", lambda: http.redirect("/")
        yield "/login", "POST", self.login
        yield "/status", "GET", self.status
        if self._look.has_terms:
            yield TERMS, "GET", lambda: HTTPResponse(self._pages.terms())
        yield "/logout", "POST", self.logout
        yield capport.PATH, "GET", self.captive
        yield from self._help_yourself.routes()
        if self._smart_clients:
            yield from self._smart_clients.routes()

    def _stray(self) -> Iterator[Route]:
        """For who comes here though there are only routers, each with its own guests."""
        yield "/", "GET", lambda: HTTPResponse(self._pages.at_router())

    @property
    def _pages(self) -> Pages:
        return self._by_language[http.language().code]

    def _admit(self) -> None:
        """Guards before any page: who asks, how much, and whether it is the portal that is meant."""
        request.environ["gatehouse.language"] = languages.language(self._chosen_language())
        try:
            request.environ["gatehouse.ip"] = IPv4Address(request.get_header("X-Real-IP", ""))
        except AddressValueError:
            raise HTTPError(400) from None
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise HTTPError(413)
        host = request.get_header("Host", "").partition(":")[0].lower().rstrip(".")
        if self._has_gateway and host not in self._own_hosts and request.path != MIKROTIK_PAGE:
            # A page that was on its way elsewhere, or a phone's probe. Not let in here, though it may be remembered:
            # that would cut this very connection's translation.
            raise http.redirect(self._home, 302)
        if self._secure and request.get_header("X-Forwarded-Proto") == "http":
            raise http.redirect(self._home, 302)

    def _chosen_language(self) -> str:
        asked, kept = request.query.getunicode("lang", ""), request.get_cookie("lang", "")
        if asked in self._by_language:
            request.environ["gatehouse.keep"] = f"lang={asked}; Max-Age={LANGUAGE_S}; Path=/; HttpOnly; SameSite=Lax"
        accept = request.get_header("Accept-Language", "")
        return languages.choose((asked, kept), accept, tuple(self._by_language))

    def start(self) -> HTTPResponse:
        ip = http.guest()
        answer = self._asked(Who(ip))
        if answer.online:
            return self._status_page(ip, answer)
        if lease_of(self._leases, ip) is None:
            return HTTPResponse(self._pages.no_lease())
        notice = self._device_enters(ip)
        if notice == "":
            return http.redirect("/status")
        if not notice and answer.ended is not None:
            notice = ended(answer.ended, http.language())
        code = request.query.getunicode("code", "")[:MAX_NAME_BYTES]  # of a voucher's QR code
        return self._login_page(
            200, ip, code, notice=notice or "", enter=bool(code and not notice and not self._asks_terms)
        )

    def _device_enters(self, ip: IPv4Address) -> str | None:
        """Empty when the device is remembered and online now; else why it was refused, None if nobody knows it."""
        lease, now = lease_of(self._leases, ip), self._clock()
        if lease is None or abs(now - self._asked_devices.get(lease.mac, 0)) < DEVICE_PAUSE_S:
            return None
        while len(self._asked_devices) >= MAX_DEVICES:
            self._asked_devices.pop(next(iter(self._asked_devices)))
        self._asked_devices[lease.mac] = now
        if not self._logins.acquire(blocking=False):
            return None
        try:
            granted = self._authenticate(lease.mac, lease.mac, ip, lease.mac, "")
            if isinstance(granted, Rejected):
                return translate(http.language(), granted.message) if granted.message not in ("", WRONG) else None
            self._ask(granted)
        except UserError as error:
            log.warning("device %s: %s", lease.mac, error)
            return None
        finally:
            self._logins.release()
        log.info("login account=%s ip=%s mac=%s result='remembered device'", ascii(granted.account), ip, lease.mac)
        return ""

    def status(self) -> HTTPResponse:
        ip = http.guest()
        answer = self._asked(Who(ip))
        return self._status_page(ip, answer) if answer.online else http.redirect("/")

    def login(self) -> HTTPResponse:
        ip, now = http.guest(), self._clock()
        user, password = http.field("user").strip(), http.field("password")
        if not self._tokens.fits(http.field("token"), "login", ip, now):
            return self._login_page(403, ip, user, notice=http.stale())
        lease = lease_of(self._leases, ip)
        if lease is None:
            return HTTPResponse(self._pages.no_lease())
        if self._asks_terms and not http.field("terms"):
            return self._login_page(403, ip, user, http.language().gettext("Please accept the terms of use first."))
        if wait_s := self._tries.wait_s((lease.mac, str(ip)), now):
            return self._login_page(429, ip, user, http.too_many_tries(wait_s))
        return self._enter(user, password, ip, lease.mac)

    def _enter(self, user: str, password: str, ip: IPv4Address, mac: str) -> HTTPResponse:
        """Without a password the name is taken for a voucher's code, which is its own password."""
        wish = "remember" if http.field("remember") else ""
        status, shown = self._enters(user, password or user, ip, mac, wish)
        if status == 403 and user and not password and shown == http.language().gettext(WRONG):
            shown = http.language().gettext("This is no voucher’s code. With a name, please enter the password too.")
        return self._login_page(status, ip, user, shown) if shown else http.redirect("/status")

    def _enters(self, user: str, password: str, ip: IPv4Address, mac: str, wish: str) -> tuple[int, str]:
        """Status and, unless the guest is online now, the sentence that says why not."""
        unavailable = http.language().gettext("Login isn’t working right now. Please try again in a moment.")
        if not self._logins.acquire(timeout=1):
            return _logged(user, ip, mac, 503, "too many logins at once", unavailable)
        try:
            granted = self._authenticate(user, password, ip, mac, wish)
            if isinstance(granted, Rejected):
                shown = translate(http.language(), granted.message or WRONG)
                return _logged(user, ip, mac, 403, f"rejected: {granted.message}", shown)
            self._ask(granted)
        except UserError as error:
            return _logged(user, ip, mac, 503, str(error), unavailable)
        finally:
            self._logins.release()
        self._asked_devices.pop(mac, None)  # it may be remembered now
        return _logged(user, ip, mac, 303, "accepted", "")

    def logout(self) -> HTTPResponse:
        ip = http.guest()
        if not self._tokens.fits(http.field("token"), "logout", ip, self._clock()):
            answer = self._asked(Who(ip))
            return self._status_page(ip, answer, http.stale()) if answer.online else http.redirect("/")
        try:
            self._leave(ip)
        except UserError as error:
            log.warning("%s", error)
            raise HTTPError(503) from None
        return http.redirect("/")

    def _leave(self, ip: IPv4Address) -> None:
        self._forget(ip, self._ask(Logout(ip)).mac)

    def _forget(self, ip: IPv4Address, mac: str) -> None:
        """Who logs out wants to be asked the next time."""
        if not mac:
            return
        self._asked_devices[mac] = self._clock()
        try:
            self._authenticate(mac, mac, ip, mac, "forget")
        except UserError as error:
            log.warning("device %s can't be forgotten: %s", mac, error)

    def captive(self) -> HTTPResponse:
        return capport.respond(self._asked(Who(http.guest())), self._home)

    def _asked(self, question: Request) -> Answer:
        try:
            return self._ask(question)
        except UserError as error:
            log.warning("%s", error)
            raise HTTPError(503) from None

    def _login_page(
        self, status: int, ip: IPv4Address, user: str, error: str = "", notice: str = "", enter: bool = False
    ) -> HTTPResponse:
        token = self._tokens.make("login", ip, self._clock())
        return http.page(self._pages.login(token, user, error, notice, enter), status)

    def _status_page(self, ip: IPv4Address, answer: Answer, notice: str = "") -> HTTPResponse:
        token = self._tokens.make("logout", ip, self._clock())
        return HTTPResponse(self._pages.status(token, answer, notice))

    def _failure(self, error: HTTPError) -> str:
        if error.status_code == 404 and not self._has_gateway:
            return self._pages.at_router()
        return self._pages.failure(error.status_code)


def _logo(config: Config) -> str:
    """As `apply` has checked it."""
    try:
        return (config.paths.run / RENDERED_LOGO).read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def _logged(user: str, ip: IPv4Address, mac: str, status: int, result: str, shown: str) -> tuple[int, str]:
    """One line in the log for every login; ascii() escapes what a guest may have typed into it."""
    log.info("login account=%s ip=%s mac=%s result=%s", ascii(user), ip, mac, ascii(result))
    return status, shown


def _serve(config: Config) -> None:
    secret = (config.paths.run / "gateway.secret").read_text(encoding="ascii").strip().encode()
    radius = RadiusClient(config, secret)
    gateway = GatewayClient(config.paths.run / "gateway" / "gateway.sock")
    office = OfficeClient(socket_path(config.paths))
    portal = Portal(config, radius.authenticate, gateway.ask, office.ask, load_key(config.paths.state / "portal"))
    waitress.serve(
        portal.app(),
        unix_socket=str(config.paths.run / "portal" / "portal.sock"),
        unix_socket_perms="660",
        threads=THREADS,
        connection_limit=1000,
        channel_timeout=30,
        max_request_body_size=MAX_BODY_BYTES,
        max_request_header_size=16_384,
        clear_untrusted_proxy_headers=False,  # nginx is the only one that can reach the socket
        ident=None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The pages of the captive portal.")
    parser.add_argument("--config", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        _serve(load(parser.parse_args().config))
    except (UserError, OSError) as error:
        sys.exit(f"gatehouse-portal: {error}")


if __name__ == "__main__":
    main()
