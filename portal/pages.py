"""The guest's pages as HTML: each one self-contained, small, and of use without JavaScript."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup

from appliance.config import Portal, Site
from portal import wispr
from portal.languages import Language
from portal.look import style
from portal.protocol import Answer
from portal.texts import duration, octets

TERMS = "/terms"
TEMPLATES = Path(__file__).with_name("templates")
WAITING_S = 15  # between two looks whether an operator has decided


@dataclass(frozen=True)
class Look:
    """What all pages share, whichever their language.

    `home` is where a guest finds the portal again, `logo` a data: URI or empty.
    """

    site: Site
    portal: Portal
    home: str
    languages: Sequence[Language]
    logo: str = ""

    @property
    def has_terms(self) -> bool:
        """On a page of ours: the operator's, or for who helps themselves the short ones that are there."""
        helps = self.portal.free_plan or self.portal.registration != "off"
        return bool(self.portal.terms or (helps and not self.portal.terms_url))

    @cached_property
    def style(self) -> Markup:
        return _INLINE["style"] + Markup(style(self.portal.accent))  # noqa: S704 (made of hexadecimal digits)

    def content_security_policy(self, form_action: str = "'self'") -> str:
        style = _hash(self.style)
        scripts = " ".join(_hash(_INLINE[name]) for name in _INLINE if name != "style")
        return (
            f"default-src 'none'; style-src {style}; script-src {scripts}; connect-src 'self'; "
            f"img-src data:; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
        )


class Pages:
    """In one language. `here` is the page's own path, to which the choice of another language leads."""

    def __init__(self, look: Look, language: Language) -> None:
        self._look = look
        self._language = language
        self._shared = {
            "_": language.gettext,
            "ngettext": language.ngettext,
            "pgettext": language.pgettext,
            "language": language,
            "site": look.site,
            "offers": look.portal,
            "accept": look.portal.terms_url or TERMS,
            "logo": look.logo,
            "title": look.portal.title.text(language.code) or language.gettext("Wi-Fi login"),
            **_INLINE,
            "style": look.style,
        }

    def login(self, token: str, user: str = "", error: str = "", notice: str = "", enter: bool = False) -> str:
        """With `enter` the form sends itself, where there is JavaScript."""
        portal = self._look.portal
        terms = portal.terms_url or (portal.terms and TERMS)
        return self.render(
            "login.html",
            {"code": user} if enter else {},
            token=token,
            user=user,
            error=error,
            notice=notice,
            enter=enter,
            greeting=self._greeting,
            terms=terms,
            smart="" if terms else Markup(wispr.redirect(self._look.site.name, self._look.home)),  # noqa: S704
        )

    @property
    def _greeting(self) -> str:
        own = self._look.portal.greeting.text(self._language.code)
        return own or self._language.gettext("Log in to use the Internet.")

    def router_login(self, path: str, given: dict[str, str], user: str, error: str) -> str:
        """For guests of a router, who come from there with what it has given them."""
        portal, terms = self._look.portal, self._look.portal.terms.text(self._language.code)
        return self.render(
            "router_login.html",
            given,
            path,
            action=path,
            given=given,
            user=user,
            error=error,
            greeting=self._greeting,
            terms=terms,
            terms_url=portal.terms_url,
        )

    def router_status(self, path: str, here: dict[str, str], link: str, online: bool) -> str:
        """`link` is the router's page that ends this, or begins it."""
        _ = self._language.gettext
        if online:
            return self._message(_("You’re online"), "", _("Log out"), where=link, here=here, path=path)
        return self._message(_("You’re logged out."), "", _("Log in"), where=link, here=here, path=path)

    def router_error(self, path: str, here: dict[str, str], link: str, sentence: str) -> str:
        _ = self._language.gettext
        return self._message(_("Something went wrong"), sentence, _("Try again"), where=link, here=here, path=path)

    def hand_over(self, link: str, fields: dict[str, str]) -> str:
        """A form that sends itself to the router, where there is JavaScript."""
        return self._filled("hand_over.html", link=link, fields=fields, switch=())

    def no_router(self) -> str:
        _ = self._language.gettext
        sentence = _("This page is for guests of a hotspot. Open any page of the web to come to the login.")
        return self._message(_("Something went wrong"), sentence, _("Try again"))

    def at_router(self) -> str:
        """There is no gateway here, so nobody who comes by themselves is a guest of ours."""
        _ = self._language.gettext
        sentence = _("Join the hotspot’s Wi-Fi and open any page of the web: its router then shows the login.")
        return self._message(_("Your hotspot’s login page is at its router"), sentence, "")

    def policy(self, form_action: str) -> str:
        return self._look.content_security_policy(form_action)

    def terms(self) -> str:
        short = self._language.gettext(
            "The network comes as it is. Use it for nothing that is against the law or disturbs others."
            " Who was online when is kept for as long as the law asks for."
        )
        own = self._look.portal.terms.text(self._language.code)
        return self.render("terms.html", path=TERMS, terms=own or short)

    def status(self, token: str, answer: Answer, notice: str = "") -> str:
        left, used = _left(answer, self._language), _used(answer, self._language)
        address = self._look.home.removesuffix("/")
        return self.render(
            "status.html", path="/status", token=token, left=left, used=used, notice=notice, address=address
        )

    def no_lease(self) -> str:
        _ = self._language.gettext
        steps = (
            _("Turn Wi-Fi off on your device, and on again."),
            _("Choose this network once more."),
            _("If your device has a fixed IP address, set it to automatic (DHCP)."),
        )
        sentence = _("This network doesn’t recognise your device yet.")
        return self._message(_("Please reconnect"), sentence, _("Try again"), steps)

    def failure(self, status: int) -> str:
        _ = self._language.gettext
        if status == 404:
            return self._message(_("There is no such page"), "", _("To the start"))
        sentences = {
            413: _("That was too much text."),
            503: _("This page isn’t working right now. Please try again in a moment."),
        }
        return self._message(_("Something went wrong"), sentences.get(status, ""), _("Try again"))

    def register(self, token: str, typed: Mapping[str, str], error: str = "", notice: str = "") -> str:
        return self.render("register.html", path="/register", token=token, typed=typed, error=error, notice=notice)

    def waiting(self) -> str:
        _ = self._language.gettext
        sentence = _("The operator has your registration. You’ll be online as soon as you are let in.")
        return self._message(_("Please wait"), sentence, _("Look again"), where="/register", again_s=WAITING_S)

    def refused(self) -> str:
        _ = self._language.gettext
        return self._message(
            _("You weren’t let in"), _("The operator has refused your registration."), _("To the start")
        )

    def registered(self, login: str, password: str) -> str:
        """The only time that it is shown."""
        _ = self._language.gettext
        facts = [(_("Login name"), login), (_("Password"), password)]
        sentence = _("Write this down to log in on another device, or here again.")
        return self._message(_("You’re online"), sentence, _("Continue"), where="/status", facts=facts)

    def confirm(self, token: str, link: str) -> str:
        return self.render("confirm.html", {"token": link}, "/confirm", token=token, link=link)

    def confirmed(self) -> str:
        _ = self._language.gettext
        sentence = _("The device with which you registered may stay online.")
        return self._message(_("Your address is confirmed"), sentence, _("To the start"))

    def link_is_over(self) -> str:
        _ = self._language.gettext
        sentence = _("It has been used, or is too old. You can register again.")
        return self._message(_("This link doesn’t work any more"), sentence, _("Register"), where="/register")

    def devices(self, token: str, mac: str, devices: Sequence[str], most: int) -> str:
        return self.render("devices.html", path="/devices", token=token, mac=mac, devices=devices, most=most)

    def _message(
        self,
        heading: str,
        sentence: str,
        link: str,
        steps: tuple[str, ...] = (),
        where: str = "/",
        facts: Sequence[tuple[str, str]] = (),
        again_s: int = 0,
        here: dict[str, str] | None = None,
        path: str = "/",
    ) -> str:
        """`link`, unless empty, leads to `where`; with `again_s` what follows is looked for each so many seconds."""
        return self.render(
            "message.html",
            here,
            path,
            heading=heading,
            sentence=sentence,
            link=link,
            steps=steps,
            where=where,
            facts=facts,
            again_s=again_s,
        )

    def render(self, template: str, here: dict[str, str] | None = None, path: str = "/", **values: object) -> str:
        """`path` with the query `here` is where the same page is found in another language."""
        switch = [(other, f"{path}?{urlencode({'lang': other.code, **(here or {})})}") for other in self._others()]
        return self._filled(template, switch=switch, **values)

    def _filled(self, template: str, **values: object) -> str:
        return _templates.get_template(template).render(**self._shared, **values)

    def _others(self) -> list[Language]:
        return [language for language in self._look.languages if language != self._language]


def _inline(file: str) -> Markup:
    """Our own text, without what only people need: it is sent with every page."""
    text = "\n".join(map(str.strip, (TEMPLATES / file).read_text(encoding="utf-8").splitlines()))
    return Markup(re.sub(r"\s*([{};:,])\s*", r"\1", text) if file.endswith(".css") else text)  # noqa: S704


_INLINE = {
    name: _inline(file)
    for name, file in (
        ("style", "style.css"),
        ("login_script", "login.js"),
        ("status_script", "status.js"),
        ("wait_script", "wait.js"),  # its look may be the one that shows the login, so it shows what it got
        ("hand_over_script", "hand_over.js"),
    )
}
_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _hash(text: str) -> str:
    """CSP Level 3, 2.3.1."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _left(answer: Answer, language: Language) -> list[tuple[str, str]]:
    _ = language.gettext
    left = []
    if answer.remaining_s is not None:
        left.append((_("Time left"), duration(language, answer.remaining_s)))
    if answer.remaining_bytes is not None:
        left.append((_("Data left"), octets(language, answer.remaining_bytes)))
    return left


def _used(answer: Answer, language: Language) -> list[tuple[str, str]]:
    _ = language.gettext
    return [
        (_("Account"), answer.account),
        (_("Time online"), duration(language, answer.online_s)),
        (_("Downloaded"), octets(language, answer.down_octets)),
        (_("Uploaded"), octets(language, answer.up_octets)),
    ]


def ended(cause: int, language: Language) -> str:
    """Why the session is over (RFC 2866, 5.10), as the guest may want to know."""
    _ = language.gettext
    sentences = {
        1: _("You’re logged out."),
        4: _("You were logged out because your device was quiet for a long time."),
        5: _("Your time is up."),
        6: _("Your connection was ended by the operator."),
        10: _("Your data allowance is used up."),
    }
    return sentences.get(cause, _("Your connection has ended. Please log in again."))
