"""Those who are no admins and have pages of their own: users of a vault, dealers. Who may enter is each room's word.

Their sessions are kept in memory, and their cookie is worth nothing on any other page.
"""

import hashlib
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from appliance.admin import way_in
from appliance.admin.frame import Ask
from appliance.admin.people import Person
from appliance.config import Config
from appliance.errors import Missing, UserError
from appliance.guesses import TOO_MANY

IDLE_S = 1800
MOST = 2000
FORGED = "That form was not ours: go back, reload the page and try again"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """`proof` is the password's hash as it was: another password ends it."""

    visitor: int
    proof: str
    form_token: str
    used_at: int


class Sessions:
    """`find` gives a visitor, with `id` and `password`, that may enter from an address; else None."""

    def __init__(self, find: Callable[[int, str], Any]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()

    def enter(self, visitor: Any, now: int) -> str:
        """A new cookie; the session that wasn't used for longest gives way."""
        cookie = secrets.token_urlsafe(32)
        session = Session(visitor.id, visitor.password, secrets.token_urlsafe(16), now)
        with self._lock:
            self._open[_digest(cookie)] = session
            while len(self._open) > MOST:
                self._open.popitem(last=False)
        return cookie

    def find(self, cookie: str, address: str, now: int) -> tuple[Session, Any] | None:
        """With its visitor as it is now."""
        key = _digest(cookie)
        with self._lock:
            session = self._open.get(key)
            if session is None or not now - IDLE_S < session.used_at <= now + IDLE_S:
                self._open.pop(key, None)
                return None
            self._open[key] = replace(session, used_at=now)
            self._open.move_to_end(key)
        visitor = self._find(session.visitor, address)
        if visitor is None or visitor.password != session.proof:
            self.leave(cookie)
            return None
        return session, visitor

    def leave(self, cookie: str) -> None:
        with self._lock:
            self._open.pop(_digest(cookie), None)


@dataclass(frozen=True)
class Entrance:
    """The way in to the pages below `base`, whose first one is `first`.

    `opened` has the room's database open, `find` is that of `Sessions`. `check` takes log-in, password and address:
    it gives the visitor, counts what is wrong, and raises UserError for who has guessed too often. `login_page` and
    `message_page` are templates.
    """

    name: str
    base: str
    first: str
    opened: Callable[[Config], AbstractContextManager[Any]]
    find: Callable[[int, str], Any]
    check: Callable[[str, str, str], Any]
    login_page: str
    message_page: str
    wrong: str

    @property
    def cookie(self) -> str:
        return f"gatehouse-{self.name}"

    def ask_login(self, ask: Ask) -> Any:
        return ask.page(self.login_page, login="", error="")

    def log_in(self, ask: Ask, done: Callable[[Any, str], None]) -> Any:
        """As for the admin's pages each try counts. `done` is for who may enter.

        By a name from elsewhere `check` counts: whoever guesses it doesn't lock out whose it is.
        """
        form, address = ask.form(), way_in.address()
        login, password = form.get("login", "")[:64], form.get("password", "")[:200]
        tried = (f"{self.name} address {address}", f"{self.name} name {login} from {address}")
        if wait_s := ask.frame.tries.wait_s(tried, ask.now):
            return self._refuse(ask, 429, login, f"Too many tries: wait {wait_s} seconds.")
        try:
            with self.opened(ask.config):
                visitor = self.check(login, password, address)
                if visitor is None:
                    log.warning("%s log-in refused: login=%s address=%s", self.name, ascii(login), address)
                    return self._refuse(ask, 403, login, self.wrong)
                done(visitor, address)
                return self.enter(ask, visitor)
        except UserError as error:
            return self._refuse(ask, 429 if str(error) == TOO_MANY else 400, login, str(error))

    def enter(self, ask: Ask, visitor: Any, notice: str = "") -> Any:
        """By a cookie that nobody has had before; what the browser came with is worth nothing any more."""
        sessions = self._sessions(ask)
        sessions.leave(ask.cookie(self.cookie))
        answer = ask.done(f"{self.base}/{self.first}", notice)
        cookie = sessions.enter(visitor, ask.now)
        answer.set_cookie(self.cookie, cookie, path=self.base, **ask.frame.cookie_flags)
        return answer

    def mine(self, handler: Callable[..., Any], form: bool = False) -> Callable[..., Any]:
        """For who has logged in; a form has to have come from our own page.

        `handler` is given the Ask, what `opened` gave, the visitor, and the parts of the path.
        """

        def answered(ask: Ask, **parts: str) -> Any:
            try:
                return entered(ask, **parts)
            except UserError as error:
                return self._say(ask, 404 if isinstance(error, Missing) else 400, str(error))

        def entered(ask: Ask, **parts: str) -> Any:
            with self.opened(ask.config) as room:
                found = self._sessions(ask).find(ask.cookie(self.cookie), way_in.address(), ask.now)
                if found is None:
                    return ask.done(f"{self.base}/login")
                session, visitor = found
                if form and not secrets.compare_digest(ask.sent_token().encode(), session.form_token.encode()):
                    return self._say(ask, 403, FORGED)
                mine = replace(ask, person=Person("", "reader", session.form_token))
                return handler(mine, room, visitor, **parts)

        return answered

    def leave(self, ask: Ask, *_: Any) -> Any:
        self._sessions(ask).leave(ask.cookie(self.cookie))
        answer = ask.done(f"{self.base}/login")
        answer.delete_cookie(self.cookie, path=self.base)
        return answer

    def _sessions(self, ask: Ask) -> Sessions:
        found: Sessions = ask.frame.memory.setdefault(f"{self.name} sessions", Sessions(self.find))
        return found

    def _refuse(self, ask: Ask, status: int, login: str, error: str) -> Any:
        return ask.page(self.login_page, status, login=login, error=error)

    def _say(self, ask: Ask, status: int, title: str) -> Any:
        return ask.page(self.message_page, status, title=title, base=self.base)


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()
