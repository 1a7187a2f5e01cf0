"""What was asked, and the headers of every answer; the pages themselves know nothing of WSGI."""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Any

from bottle import HTTPResponse, request

from portal.languages import Language

RETRY_AFTER_S = 10

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def guest() -> IPv4Address:
    ip: IPv4Address = request.environ["gatehouse.ip"]
    return ip


def language() -> Language:
    chosen: Language = request.environ["gatehouse.language"]
    return chosen


def field(name: str) -> str:
    text: str = request.forms.getunicode(name, "")
    return text


def query(name: str) -> str:
    text: str = request.query.getunicode(name, "")
    return text


def header(name: str) -> str:
    text: str = request.get_header(name, "")
    return text


def page(text: str, status: int = 200) -> HTTPResponse:
    answer = HTTPResponse(text, status)
    if status in (429, 503):
        answer.set_header("Retry-After", RETRY_AFTER_S)
    return answer


def redirect(where: str, status: int = 303) -> HTTPResponse:
    return HTTPResponse(status=status, headers={"Location": where})


def stale() -> str:
    return language().gettext("This page was open for a long time. Please try once more.")


def too_many_tries(wait_s: int) -> str:
    text = language().ngettext(
        "Too many tries. Please wait {seconds} second, then try again.",
        "Too many tries. Please wait {seconds} seconds, then try again.",
        wait_s,
    )
    return text.format(seconds=wait_s)


def with_headers(app: Wsgi, content_security_policy: str) -> Wsgi:
    """On every answer, also on those that bottle makes itself; a page may set its own Cache-Control."""
    always = {
        "Content-Security-Policy": content_security_policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            present = {name.lower() for name, _ in headers}
            added = [(name, value) for name, value in always.items() if name.lower() not in present]
            return start_response(status, headers + added + list(_in_language(environ)), *more)

        return app(environ, start)

    return wrapped


def _in_language(environ: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Headers that say which language it is, why, and that the guest's choice is to be kept."""
    if chosen := environ.get("gatehouse.language"):
        yield "Content-Language", chosen.code
        yield "Vary", "Accept-Language, Cookie"
    if kept := environ.get("gatehouse.keep"):
        yield "Set-Cookie", kept
