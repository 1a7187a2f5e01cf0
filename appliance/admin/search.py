"""Search over everything: what each module finds, and the pages themselves."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from appliance import modules
from appliance.admin import reach
from appliance.admin.frame import Ask, Page, pages
from appliance.admin.models import Audit
from appliance.service import Hit

MAX_TEXT = 100
SUBJECTS = ("account", "voucher", "batch", "plan", "router", "nas", "admin", "token")
PAGES_TAUGHT = ("Pages", "by a word of their name")
RECORD_TAUGHT = ("Changes", "by the whole name of what was changed, also when it is gone")


def search(ask: Ask) -> Any:
    """Whoever typed the whole name of the one thing there is comes to its page at once."""
    typed = ask.query().get("q", "")[:MAX_TEXT]
    text = "".join(letter for letter in typed if letter.isprintable()).strip()
    hits = list(_found(ask, text)) if text else []
    if where := straight(hits):
        return ask.done(where)
    groups = [(group, list(of)) for group, of in groupby(hits, lambda hit: hit.group)]
    taught = [line for module in modules.enabled(ask.config) for part in module.search for line in part.taught]
    return ask.page("search.html", text=text, groups=groups, taught=[PAGES_TAUGHT, *taught, RECORD_TAUGHT])


def straight(hits: Iterable[Hit]) -> str:
    """The page of the only hit, where that is exact; else ""."""
    found = [hit for hit in hits if not hit.beside]
    return found[0].url if len(found) == 1 and found[0].exact else ""


def _found(ask: Ask, text: str) -> Iterator[Hit]:
    yield from _pages(ask, text.casefold())
    for module in reach.modules_of(ask.person, ask.config, modules.enabled(ask.config)):
        for part in module.search:
            yield from part.find(ask.config, text)
    if ask.person.sites is None:
        yield from _record(text)


def _pages(ask: Ask, text: str) -> Iterator[Hit]:
    for page in pages(ask.config):
        words = page.nav.casefold().split()
        may = page.nav and reach.may(ask.person, page.path, page.needs, ask.config)
        if may and any(word.startswith(text) for word in [*words, " ".join(words)]):
            yield Hit("Pages", page.nav, page.path, exact=page.nav.casefold() == text)


def _record(text: str) -> Iterator[Hit]:
    """What was changed of anything so called, also when it is there no more."""
    for kind in SUBJECTS:
        subject = f"{kind} {text}"
        if Audit.select(Audit.id).where(Audit.subject == subject).limit(1).exists():
            yield Hit("Record", f"Changes of {subject}", "/audit?" + urlencode({"q": subject}), beside=True)


PAGES = (Page("/search", search),)
