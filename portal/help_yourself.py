"""Guests who help themselves: free access, registration, their devices. The office (portal/office.py) decides."""

import logging
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance import guest_verbs as verbs
from appliance.config import Portal
from appliance.errors import UserError
from appliance.guest_verbs import Answer, Confirm, Devices, Forget, Free, Register, Standing
from appliance.tries import Tries
from portal import http
from portal import protocol as gateway
from portal.dhcp import lease_of
from portal.guard import FormTokens
from portal.pages import Pages

LOOKS_A_MINUTE = 60

Office = Callable[[verbs.Request], Answer]
Enters = Callable[[str, str, IPv4Address, str, str], tuple[int, str]]  # see Portal._enters

log = logging.getLogger(__name__)


class HelpYourself:
    """One method a page; those that nobody offers aren't there."""

    def __init__(
        self,
        offers: Portal,
        office: Office,
        enters: Enters,
        asked: Callable[[gateway.Request], gateway.Answer],
        pages: Callable[[], Pages],
        tokens: FormTokens,
        leases: Path,
        clock: Callable[[], float],
    ) -> None:
        self._offers = offers
        self._office = office
        self._enters = enters
        self._asked = asked
        self._pages = pages
        self._tokens = tokens
        self._leases = leases
        self._clock = clock
        self._tries = Tries()
        self._looks = Tries(LOOKS_A_MINUTE)

    def routes(self) -> Iterator[tuple[str, str, Callable[[], Any]]]:
        if self._offers.free_plan:
            yield "/free", "POST", self.free
        if self._offers.registration != "off":
            yield "/register", "GET", self.registration
            yield "/register", "POST", self.register
            yield "/confirm", "GET", self.confirmation
            yield "/confirm", "POST", self.confirm
        yield "/devices", "GET", self.devices
        yield "/devices", "POST", self.forget

    def free(self) -> Any:
        ip = http.guest()
        mac, error = self._device(), self._wrong_form("login")
        if not mac:
            return http.page(self._pages().no_lease())
        status = 403
        if not error:
            answer = self._ask(Free(mac))
            error = _sentence(answer.refusal) if answer else _unavailable()
            if answer and not error:
                status, error = self._enters(answer.login, answer.password, ip, mac, "")
        if error:
            return http.page(self._pages().login(self._token("login"), error=error), status)
        return http.redirect("/status")

    def registration(self) -> Any:
        """As it stands; who has just been let in by an operator enters here by themselves."""
        mac = self._device()
        if not mac:
            return http.page(self._pages().no_lease())
        if self._looks.wait_s((mac,), self._clock()):
            return http.page(self._pages().failure(503), 429)
        answer = self._ask(Standing(mac))
        return http.page(self._pages().failure(503), 503) if answer is None else self._stands(answer, mac)

    def _stands(self, answer: Answer, mac: str) -> Any:
        pages, state = self._pages(), answer.state
        if state == verbs.WAITING:
            return http.page(pages.waiting())
        if state == verbs.REFUSED:
            return http.page(pages.refused())
        if state == verbs.ACCEPTED:
            return self._let_in(answer, mac)
        notice = _read_your_mail() if state == verbs.UNCONFIRMED else ""
        return http.page(pages.register(self._token("register"), _NOTHING, notice=notice))

    def _let_in(self, answer: Answer, mac: str) -> Any:
        """The login is shown this once; who has it already finds the login page."""
        if not answer.login:
            return http.redirect("/")
        status, error = self._enters(answer.login, answer.password, http.guest(), mac, "remember")
        if error:
            return http.page(self._pages().login(self._token("login"), error=error), status)
        return http.page(self._pages().registered(answer.login, answer.password))

    def register(self) -> Any:
        mac, error = self._device(), self._wrong_form("register")
        if not mac:
            return http.page(self._pages().no_lease())
        typed = {key: http.field(key)[:most] for key, most in (("name", _NAME), ("contact", _CONTACT))}
        answer = None
        if not error:
            request = _request(mac, typed)
            answer = self._ask(request) if request else Answer(refusal=verbs.BAD_NAME)
            error = _sentence(answer.refusal) if answer else _unavailable()
        if error or answer is None:
            return http.page(self._pages().register(self._token("register"), typed, error=error), 403)
        if answer.state == verbs.UNCONFIRMED and answer.login:
            self._enters(answer.login, answer.password, http.guest(), mac, "remember")
        return http.redirect("/register")

    def confirmation(self) -> Any:
        """A page with a button, as what looks at a mail's links on its way may not use them up."""
        return http.page(self._pages().confirm(self._token("confirm"), http.query("token")[: verbs.MAX_TOKEN]))

    def confirm(self) -> Any:
        mac, link = self._device(), http.field("link")[: verbs.MAX_TOKEN]
        if not mac:
            return http.page(self._pages().no_lease())
        if not link.isprintable() or not self._fits("confirm"):
            return http.page(self._pages().confirm(self._token("confirm"), link), 403)
        answer = self._ask(Confirm(mac, link))
        if answer is None or answer.refusal == verbs.BUSY:
            return http.page(self._pages().failure(503), 503)
        if answer.refusal:
            return http.page(self._pages().link_is_over(), 403)
        return self._let_in(answer, mac) if answer.login else http.page(self._pages().confirmed())

    def devices(self) -> Any:
        online = self._asked(gateway.Who(http.guest()))
        if not online.online:
            return http.redirect("/")
        return self._devices_page(online.mac, self._ask(Devices(online.mac, online.account)))

    def forget(self) -> Any:
        online = self._asked(gateway.Who(http.guest()))
        if not online.online or not self._fits("devices"):
            return http.redirect("/devices")
        try:
            request = Forget(online.mac, online.account, http.field("device"))
        except ValueError:
            return http.redirect("/devices")
        self._ask(request)
        return http.redirect("/devices")

    def _devices_page(self, mac: str, answer: Answer | None) -> Any:
        if answer is None:
            return http.page(self._pages().failure(503), 503)
        return http.page(self._pages().devices(self._token("devices"), mac, answer.devices, answer.most))

    def _device(self) -> str:
        """By its lease; empty without one."""
        lease = lease_of(self._leases, http.guest())
        return lease.mac if lease else ""

    def _wrong_form(self, purpose: str) -> str:
        """Why what was sent can't be taken, or nothing."""
        if not self._fits(purpose):
            return http.stale()
        if not http.field("terms"):
            return http.language().gettext("Please accept the terms of use first.")
        if wait_s := self._tries.wait_s((self._device(), str(http.guest())), self._clock()):
            return http.too_many_tries(wait_s)
        return ""

    def _token(self, purpose: str) -> str:
        return self._tokens.make(purpose, http.guest(), self._clock())

    def _fits(self, purpose: str) -> bool:
        return self._tokens.fits(http.field("token"), purpose, http.guest(), self._clock())

    def _ask(self, request: verbs.Request) -> Answer | None:
        """None where nobody answers."""
        try:
            return self._office(request)
        except UserError as error:
            log.warning("%s", error)
            return None


_NAME, _CONTACT = verbs.MAX_NAME, verbs.MAX_CONTACT
_NOTHING = {"name": "", "contact": ""}


def _request(mac: str, typed: dict[str, str]) -> Register | None:
    try:
        return Register(mac, typed["name"].strip(), typed["contact"].strip(), http.language().code)
    except ValueError:
        return None


def _unavailable() -> str:
    return http.language().gettext("This page isn’t working right now. Please try again in a moment.")


def _read_your_mail() -> str:
    return http.language().gettext(
        "We have sent you a message. Open the link in it within a few minutes to stay online."
        " Was the address wrong? Then register again here."
    )


def _sentence(refusal: str) -> str:
    """Empty where nothing was refused."""
    _ = http.language().gettext
    sentences = {
        "": "",
        verbs.USED_UP["day"]: _("Your free time is used up. It starts anew tomorrow."),
        verbs.USED_UP["week"]: _("Your free time is used up. It starts anew on Monday."),
        verbs.USED_UP["month"]: _("Your free time is used up. It starts anew on the 1st."),
        verbs.USED_UP["total"]: _("Your free time is used up."),
        verbs.OFF: _("This isn’t offered any more."),
        verbs.BUSY: _("Too many tries. Please try again later."),
        verbs.FULL: _("Too many guests register right now. Please ask the operator."),
        verbs.BAD_NAME: _("Please enter your name."),
        verbs.BAD_EMAIL: _("Please enter an e-mail address such as name@example.net."),
        verbs.BAD_CONTACT: _("Please enter an e-mail address or a phone number."),
    }
    return sentences.get(refusal, _unavailable())
