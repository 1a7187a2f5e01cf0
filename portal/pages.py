"""The guest's pages as HTML: each one self-contained, small, and of use without JavaScript."""

import base64
import hashlib
from ipaddress import IPv4Address
from pathlib import Path

import jinja2
from markupsafe import Markup

from appliance.config import Site
from portal.protocol import Answer
from portal.texts import Texts, duration, octets

TEMPLATES = Path(__file__).with_name("templates")


class Pages:
    """`home` is where a guest finds the portal again."""

    def __init__(self, site: Site, home: str, texts: Texts) -> None:
        self._home = home
        self._texts = texts
        self._inline = {name: _inline(file) for name, file in _INLINE.items()}
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(self._inline, t=texts, site=site)

    @property
    def content_security_policy(self) -> str:
        style = _hash(self._inline["style"])
        scripts = " ".join(_hash(self._inline[name]) for name in ("login_script", "status_script"))
        return (
            f"default-src 'none'; style-src {style}; script-src {scripts}; connect-src 'self'; "
            "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )

    def login(self, token: str, user: str = "", error: str = "", notice: str = "", enter: bool = False) -> str:
        """With `enter` the form sends itself, where there is JavaScript."""
        return self._render("login.html", token=token, user=user, error=error, notice=notice, enter=enter)

    def status(self, token: str, answer: Answer, notice: str = "") -> str:
        left, used = _left(answer, self._texts), _used(answer, self._texts)
        address = self._home.removesuffix("/")
        return self._render("status.html", token=token, left=left, used=used, notice=notice, address=address)

    def no_lease(self) -> str:
        texts = self._texts
        return self._message(texts.no_lease_title, texts.no_lease, texts.try_again, texts.no_lease_steps)

    def failure(self, status: int) -> str:
        texts = self._texts
        if status == 404:
            return self._message(texts.not_found_title, "", texts.to_start)
        sentence = {413: texts.too_large, 503: texts.status_unavailable}.get(status, "")
        return self._message(texts.error_title, sentence, texts.try_again)

    def _message(self, heading: str, sentence: str, link: str, steps: tuple[str, ...] = ()) -> str:
        return self._render("message.html", heading=heading, sentence=sentence, link=link, steps=steps)

    def _render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(**values)


_INLINE = {"style": "style.css", "login_script": "login.js", "status_script": "status.js"}


def home_url(hostname: str, address: IPv4Address, secure: bool) -> str:
    """By address without TLS: it is reached even by a phone that asks other name servers than ours."""
    return f"https://{hostname}/" if secure else f"http://{address}/"


def _inline(file: str) -> Markup:
    """Our own text, without indentation: it is sent with every page."""
    lines = (TEMPLATES / file).read_text(encoding="utf-8").splitlines()
    return Markup("\n".join(line.strip() for line in lines))  # noqa: S704


def _hash(text: str) -> str:
    """CSP Level 3, 2.3.1."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _left(answer: Answer, texts: Texts) -> list[tuple[str, str]]:
    left = []
    if answer.remaining_s is not None:
        left.append((texts.time_left, duration(answer.remaining_s)))
    if answer.remaining_bytes is not None:
        left.append((texts.data_left, octets(answer.remaining_bytes)))
    return left


def _used(answer: Answer, texts: Texts) -> list[tuple[str, str]]:
    return [
        (texts.account, answer.account),
        (texts.time_online, duration(answer.online_s)),
        (texts.downloaded, octets(answer.down_octets)),
        (texts.uploaded, octets(answer.up_octets)),
    ]
