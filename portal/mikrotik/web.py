"""The login page of hotspots on MikroTik routers: they send their guests here, and the login goes back to them.

Nothing is kept and nobody is asked: the router asks RADIUS. So there is no form token either, as there is nothing
that another site could have done here.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appliance.config_portal import MIKROTIK_PAGE, Portal
from appliance.errors import UserError
from portal import http
from portal.mikrotik.chap import FIELDS, Router, leads_to_router, router
from portal.pages import Pages
from portal.radius import refuse_text
from portal.refusals import known, translate

STATUS, LOGOUT, ERROR = "status", "logout", "error"  # other pages of a hotspot that lead here
_OF_ROUTEROS = {
    "invalid username or password": "Wrong name or password.",
    "invalid password": "Wrong name or password.",
    "RADIUS server is not responding": "The login server is busy. Please try again.",
}


class RouterPages:
    """`pages` are those in the language of the guest who asks."""

    def __init__(self, portal: Portal, pages: Callable[[], Pages]) -> None:
        self._hosts = frozenset(portal.router_hosts)
        self._asks_terms = bool(portal.terms or portal.terms_url)
        self._pages = pages

    def routes(self) -> Iterable[tuple[str, str, Callable[[], Any]]]:
        yield MIKROTIK_PAGE, "GET", self.show
        yield MIKROTIK_PAGE, "POST", self.answer

    def show(self) -> Any:
        if (page := http.query("page")) in (STATUS, LOGOUT, ERROR):
            return self._told(page, http.query("link-logout" if page == STATUS else "link-login-only"))
        given = {name: http.query(name) for name in FIELDS}
        if not self._fits(given):
            return http.page(self._pages().no_router(), 400)
        return self._login(200, given, "", self._refusal(given["error"]))

    def answer(self) -> Any:
        """Without JavaScript too: the guest's next click carries the login to the router."""
        given = {name: http.field(name) for name in FIELDS}
        user, typed = http.field("user").strip(), http.field("password")
        try:
            to = router(given, self._hosts)
        except UserError:
            return http.page(self._pages().no_router(), 400)
        password = typed or user  # a voucher's code is its own password
        refusal = translate(http.language(), refuse_text(user, password))
        if self._asks_terms and not http.field("terms"):
            refusal = http.language().gettext("Please accept the terms of use first.")
        return self._login(403, given, user, refusal) if refusal else self._handed_over(to, user, password)

    def _told(self, page: str, link: str) -> Any:
        """To who is online already, isn't any more, or can't be."""
        if not leads_to_router(link, self._hosts):
            return http.page(self._pages().no_router(), 400)
        here = {"page": page, "link-logout" if page == STATUS else "link-login-only": link}
        if page == ERROR:
            return http.page(self._pages().router_error(MIKROTIK_PAGE, here, link, self._refusal(http.query("error"))))
        return http.page(self._pages().router_status(MIKROTIK_PAGE, here, link, online=page == STATUS))

    def _fits(self, given: Mapping[str, str]) -> bool:
        try:
            router(given, self._hosts)
        except UserError:
            return False
        return True

    def _refusal(self, error: str) -> str:
        """Only what is known: the text stands in the address, so anybody may have written it."""
        if not error:
            return ""
        sentence = known(http.language(), _OF_ROUTEROS.get(error.strip(), error.strip()))
        return sentence or http.language().gettext("The login didn’t work. Please try again.")

    def _login(self, status: int, given: dict[str, str], user: str, error: str) -> Any:
        kept = {name: text for name, text in given.items() if text and name != "error"}
        return http.page(self._pages().router_login(MIKROTIK_PAGE, kept, user, error), status)

    def _handed_over(self, to: Router, user: str, password: str) -> Any:
        fields = {"username": user, "password": to.password(password)}
        if to.destination:
            fields["dst"] = to.destination
        page = http.page(self._pages().hand_over(to.link, fields))
        # Browsers hold the router's own redirect after the login against it too, and that leads anywhere.
        policy = self._pages().policy(form_action="http: https:")
        page.set_header("Content-Security-Policy", policy)
        return page
