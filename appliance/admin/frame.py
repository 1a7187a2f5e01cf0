"""The frame around all pages: who asks and what they may, tokens of forms, headers, navigation, errors.

A room brings its pages as tuples `PAGES` in its `web*.py`, which its `module.py` names; nothing else is needed.
"""

import base64
import hashlib
import importlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bottle
import jinja2
import peewee

from appliance import modules
from appliance.accounts.models import core_db
from appliance.admin import paths, people, reach
from appliance.admin.people import Person
from appliance.config import Config
from appliance.errors import UserError
from appliance.tries import Tries
from appliance.units import format_ago, format_bytes, format_duration
from rlm_python.speed_limits import format_bits_per_second

COOKIE = "gatehouse"
OWN = (
    "appliance.admin.pages",
    "appliance.doctor.web",
    "appliance.admin.switches",
    "appliance.admin.settings",
    "appliance.admin.certificates",
    "appliance.admin.setup",
    "appliance.admin.access",
    "appliance.api.web",
    "appliance.admin.search",
)
FLEET = ("appliance.sites.web", "appliance.sites.api", "appliance.island.web")  # where many appliances share a database
TEMPLATES = Path(__file__).parent / "templates"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """One address. `role` is the least that may ask; unless it says otherwise, readers look and operators change.

    `nav` is its entry in the navigation. `open` pages ask nobody who they are.
    """

    path: str
    handler: Callable[..., Any]
    method: str = "GET"
    role: str = ""
    nav: str = ""
    open: bool = False

    @property
    def needs(self) -> str:
        return self.role or ("reader" if self.method == "GET" else "operator")


@dataclass(frozen=True)
class Ask:
    """What a handler is given: who asks, when (UTC seconds), and the way to answer."""

    config: Config
    person: Person
    now: int
    frame: "Frame" = field(repr=False)

    def page(self, template: str, status: int = 200, **values: Any) -> str:
        bottle.response.status = status
        return self.frame.render(template, self, **values)

    def form(self) -> dict[str, str]:
        """What was typed, without the form's token; the last one of a field that came several times."""
        return dict(self.fields())

    def fields(self) -> list[tuple[str, str]]:
        forms = _read(bottle.request.forms)
        return [(key, value) for key, value in forms.allitems() if key != "form_token"]

    def sent_token(self) -> str:
        return sent_token()

    def all(self, name: str) -> list[str]:
        """Of a field that may come several times."""
        return [value for key, value in self.fields() if key == name]

    def upload(self, name: str, most: int) -> bytes:
        """A file that a form carries; raises UserError for none and for one that is too large."""
        sent = bottle.request.files.get(name)
        content: bytes = sent.file.read(most + 1) if sent is not None else b""
        if not content or len(content) > most:
            raise UserError(f"choose a file of up to {most // 1000} kB")
        return content

    def query(self) -> dict[str, str]:
        return {key: bottle.request.query.getunicode(key, "") for key in bottle.request.query}

    def queries(self) -> dict[str, list[str]]:
        """As `query`, with all values of what may stand in the URL several times."""
        asked = _read(bottle.request.query)
        return {key: asked.getall(key) for key in asked}

    def file(self, content: bytes | Iterator[bytes], name: str, kind: str) -> bytes | Iterator[bytes]:
        """What the browser keeps as a file, perhaps piece by piece; `kind` is its media type."""
        bottle.response.content_type = kind
        bottle.response.set_header("Content-Disposition", f'attachment; filename="{name}"')
        return content

    def attach(self, name: str, kind: str, size: int | None) -> None:
        """As `file`, of any name (RFC 6266, 4.3), and with its length where that is known."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name)[:150]
        bottle.response.content_type = kind
        named = f"filename=\"{plain or 'file'}\"; filename*=UTF-8''{quote(name, safe='')}"
        bottle.response.set_header("Content-Disposition", f"attachment; {named}")
        if size is not None:
            bottle.response.set_header("Content-Length", str(size))

    def bearer(self) -> str:
        """The token that a program sends (RFC 6750, 2.1)."""
        return bearer()

    def data(self, content: bytes, kind: str, status: int = 200) -> bytes:
        """For programs."""
        bottle.response.status = status
        bottle.response.content_type = kind
        return content

    def cookie(self, name: str) -> str:
        return str(bottle.request.get_cookie(name) or "")

    def done(self, where: str, notice: str = "") -> bottle.HTTPResponse:
        """After a change: another page, which shows the notice once."""
        answer = bottle.HTTPResponse(status=303, headers={"Location": where, **headers()})
        if notice:
            coded = base64.urlsafe_b64encode(notice.encode()).decode()
            answer.set_cookie("notice", coded, path="/", max_age=30, **self.frame.cookie_flags)
        return answer


def bearer() -> str:
    scheme, _, token = bottle.request.get_header("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _read(sent: Any) -> Any:
    """Raises UserError for bytes that are no text."""
    try:
        return sent.decode()
    except UnicodeDecodeError:
        raise UserError("that is no text: send it as UTF-8, as browsers do") from None


def sent_token() -> str:
    """That of the form that was sent."""
    return str(bottle.request.forms.getunicode("form_token", ""))


NOBODY = Person("", "reader")

_FAILURES = {
    404: "There is no such page",
    405: "That can't be done here",
    503: "The database can't be used right now: please try again",
}


class Frame:
    """The pages of one appliance, of those modules that are enabled as it starts."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._clock = clock
        self._sections = sections(config)
        self._templates = _templates(name for section in self._sections for name in section.rooms)
        self.tries = Tries()
        self.memory: dict[str, Any] = {}  # what a page keeps from one request to the next
        self.cookie_flags: dict[str, Any] = {"httponly": True, "samesite": "strict", "secure": config.admin.tls}

    def app(self) -> bottle.Bottle:
        app = bottle.Bottle()
        app.add_hook("after_request", lambda: bottle.response.headers.update(headers()))
        for page in pages(self.config):
            app.route(page.path, page.method, self._guarded(page))
        for name in STATIC:
            app.route(f"/static/{name}", "GET", lambda name=name: _static(name))
        app.default_error_handler = self._failure
        return app

    def render(self, template: str, ask: Ask, **values: Any) -> str:
        return self._templates.get_template(template).render(
            site=self.config.site,
            person=ask.person,
            now=ask.now,
            nav=navigation(self._sections, ask.person, bottle.request.path, self.config),
            notice=self._notice(),
            zone=self.config.site.timezone,
            fleet=self.config.fleet,
            **values,
        )

    def _guarded(self, page: Page) -> Callable[..., Any]:
        """Who asks is found out, and what they sent is theirs, before a handler sees anything."""

        def answered(**parts: str) -> Any:
            with core_db.connection_context():
                person = NOBODY if page.open else self._person()
                ask = Ask(self.config, reach.at(person, page.path, self.config), int(self._clock()), self)
                if person is NOBODY and not page.open:
                    return self._refuse(ask, 401 if is_api(bottle.request.path) else 403, "Please log in")
                if not page.open and not reach.may(person, page.path, page.needs, self.config):
                    return self._refuse(ask, 403, reach.too_little(person, page.path, page.needs))
                if page.method != "GET" and not page.open and not self._sent_by(person):
                    return self._refuse(ask, 403, "That form was not ours: go back, reload the page and try again")
                try:
                    with reach.limited(person, page.needs):
                        return page.handler(ask, **_names(parts))
                except UserError as error:
                    return self._refuse(ask, 400, str(error))

        return answered

    def _person(self) -> Person:
        if token := bearer():
            return people.by_token(token) or NOBODY
        cookie = bottle.request.get_cookie(COOKIE)
        by_person = bottle.request.get_header(LIVE) is None
        return (people.by_cookie(cookie, by_person) if cookie else None) or NOBODY

    def _sent_by(self, person: Person) -> bool:
        """A browser sends cookies with other sites' forms too, a program's header comes from itself."""
        if not person.session:
            return True
        return secrets.compare_digest(sent_token().encode(), person.form_token.encode())

    def _refuse(self, ask: Ask, status: int, sentence: str) -> Any:
        if is_api(bottle.request.path):
            bottle.response.status = status
            bottle.response.content_type = "application/json"
            if status == 401:
                bottle.response.set_header("WWW-Authenticate", "Bearer")  # RFC 6750, 3
            return json.dumps({"error": sentence})
        if not ask.person.name and bottle.request.method == "GET" and not bottle.request.path.startswith("/login"):
            return bottle.HTTPResponse(status=303, headers={"Location": "/login"})
        return ask.page("message.html", status, title=sentence, text="")

    def _failure(self, error: bottle.HTTPError) -> Any:
        if error.exception is not None:
            log.error("%s %s: %r", bottle.request.method, bottle.request.path, error.exception)
        bottle.response.headers.update(headers())
        ask = Ask(self.config, NOBODY, int(self._clock()), self)
        away = isinstance(error.exception, (peewee.OperationalError, peewee.InterfaceError))
        return self._refuse_plain(ask, 503 if away else error.status_code)

    def _refuse_plain(self, ask: Ask, status: int) -> Any:
        sentence = _FAILURES.get(status, "Something went wrong")
        bottle.response.status = status
        if is_api(bottle.request.path):
            bottle.response.content_type = "application/json"
            return json.dumps({"error": sentence})
        return ask.page("message.html", status, title=sentence, text="")

    def _notice(self) -> str:
        coded = bottle.request.get_cookie("notice")
        if not coded:
            return ""
        bottle.response.delete_cookie("notice", path="/")
        try:
            return base64.urlsafe_b64decode(coded.encode()).decode()
        except ValueError:
            return ""


def _names(parts: dict[str, str]) -> dict[str, str]:
    """As `paths.part` has escaped them; programs' addresses are as they are."""
    return parts if is_api(bottle.request.path) else {key: paths.name(text) for key, text in parts.items()}


@dataclass(frozen=True)
class Section:
    """One entry of the navigation, and the rooms whose pages are below it."""

    title: str
    rooms: Sequence[str]

    @property
    def pages(self) -> Sequence[Page]:
        return [page for name in self.rooms for page in importlib.import_module(name).PAGES]


def sections(config: Config) -> Sequence[Section]:
    """In the navigation's order: the first page, one a module that is enabled, the appliance itself.

    What two modules need stands below the first of them that is enabled.
    """
    enabled: list[Section] = []
    for module in modules.enabled(config):
        shown = {room for section in enabled for room in section.rooms}
        if rooms := [room for room in (*module.web, *module.api) if room not in shown]:
            enabled.append(Section(module.title, rooms))
    return [Section("Start", OWN[:1]), *enabled, Section("Appliance", (*OWN[1:], *(FLEET if config.fleet else ())))]


def pages(config: Config) -> Sequence[Page]:
    return [page for section in sections(config) for page in section.pages]


@dataclass(frozen=True)
class Entry:
    """A link of the navigation; `below` are those of the second row."""

    path: str
    title: str
    current: bool
    below: Sequence["Entry"] = ()


def navigation(of: Sequence[Section], person: Person, here: str, config: Config) -> Sequence[Entry]:
    """What this person may look at. The page that is open is the one with the longest path that leads here."""
    may = reach.may_of(person, config)
    seen = [[page for page in section.pages if page.nav and may(page.path, page.needs)] for section in of]
    leading = [p.path for found in seen for p in found if here == p.path or here.startswith(f"{p.path}/")]
    current, entries = max(leading, default=""), []
    for section, found in zip(of, seen, strict=True):
        below = [Entry(page.path, page.nav, page.path == current) for page in found]
        if below:
            entries.append(Entry(below[0].path, section.title, any(entry.current for entry in below), below))
    return entries


def is_api(path: str) -> bool:
    """For programs: no page is shown there."""
    return path.startswith(("/api/", "/metrics"))


# What all pages share

STATIC: Mapping[str, str] = {"admin.css": "text/css", "admin.js": "text/javascript", "live.js": "text/javascript"}
LIVE = "X-Live"  # a header of live.js: the page asks, not a person


@cache
def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _static(name: str) -> str:
    bottle.response.content_type = f"{STATIC[name]}; charset=utf-8"
    bottle.response.set_header("Cache-Control", "public, max-age=31536000, immutable")
    return _text(name)


@cache
def static_url(name: str) -> str:
    """Another one whenever the file is."""
    return f"/static/{name}?{hashlib.sha256(_text(name).encode()).hexdigest()[:12]}"


def headers() -> dict[str, str]:
    own = {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    if not bottle.response.headers.get("Cache-Control"):
        own["Cache-Control"] = "no-store"
    return own


def _templates(names: Iterable[str]) -> jinja2.Environment:
    folders = [TEMPLATES, *(Path(str(importlib.import_module(name).__file__)).parent / "templates" for name in names)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(list(dict.fromkeys(folders))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "part": paths.part,
        "octets": format_bytes,
        "duration": format_duration,
        "bps": format_bits_per_second,
        "ago": format_ago,
    }
    environment.globals["static_url"] = static_url
    return environment
