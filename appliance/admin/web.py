"""The admin's page: what is configured and who is online. Behind nginx, on a unix socket, read-only so far."""

import argparse
import base64
import hashlib
import logging
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bottle
import jinja2
import waitress

from appliance import apply
from appliance import config as configuration
from appliance.accounts import manage
from appliance.accounts.models import Account, Plan, Session
from appliance.admin import links
from appliance.config import Config
from appliance.errors import UserError
from appliance.nas.models import Nas
from appliance.units import format_bytes, format_duration
from rlm_python.speed_limits import format_bits_per_second

SESSION_S = 8 * 3600
MAX_SESSIONS = 100
COOKIE = "gatehouse"
SHOWN = 200
STYLE = (Path(__file__).parent / "templates" / "admin.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger(__name__)


class Admin:
    """The pages of one appliance; who is logged in is kept in memory only, so a restart asks for a new link."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sessions: dict[str, tuple[float, str]] = {}  # cookie -> end (monotonic), form token
        self._pages = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._pages.filters |= {"octets": format_bytes, "duration": format_duration, "bps": format_bits_per_second}

    def app(self) -> bottle.Bottle:
        app = bottle.Bottle()
        app.add_hook("after_request", lambda: bottle.response.headers.update(HEADERS))
        app.route("/", callback=self._inside(self.overview))
        app.route("/enter", callback=self.enter)
        app.route("/leave", method="POST", callback=self._inside(self.leave))
        app.default_error_handler = lambda error: self._page("message.html", title=error.status_line, text="")
        return app

    def enter(self) -> str:
        token = bottle.request.query.getunicode("token", "")
        if not links.redeem(self._config, token):
            bottle.response.status = 403
            text = "Each link works once, for 15 minutes. Make a new one on the appliance: gatehouse admin-link"
            return self._page("message.html", title="This link can't be used any more", text=text)
        cookie = secrets.token_hex(32)
        self._forget_old()
        self._sessions[cookie] = (time.monotonic() + SESSION_S, secrets.token_hex(16))
        kept = {"httponly": True, "samesite": "strict", "secure": self._config.admin.tls}
        bottle.response.set_cookie(COOKIE, cookie, path="/", max_age=SESSION_S, **kept)
        log.info("admin logged in by a one-time link")
        bottle.response.status = 303
        bottle.response.set_header("Location", "/")
        return ""

    def leave(self) -> str:
        self._sessions.pop(self._cookie(), None)
        bottle.response.delete_cookie(COOKIE, path="/")
        return self._page(
            "message.html", title="You have left", text="Make a new link to come back: gatehouse admin-link"
        )

    def overview(self) -> str:
        now = int(time.time())
        with apply.open_core(self._config):
            online = manage.open_sessions(limit=SHOWN)
            return self._page(
                "overview.html",
                token=self._sessions[self._cookie()][1],
                now=now,
                online=online,
                online_count=Session.select().where(Session.ended_at.is_null()).count(),
                plans=list(Plan.select().order_by(Plan.name)),
                account_count=Account.select().count(),
                routers=list(Nas.select().order_by(Nas.name)),
            )

    def _inside(self, page: Callable[[], str]) -> Callable[[], str]:
        """A page for those who are logged in; a form must also carry the token of its session."""

        def guarded() -> str:
            self._forget_old()
            known = self._sessions.get(self._cookie())
            if known is None:
                bottle.response.status = 403
                text = "Make a one-time link on the appliance and open it here: gatehouse admin-link"
                return self._page("message.html", title="Please log in", text=text)
            given = bottle.request.forms.getunicode("token", "") if bottle.request.method == "POST" else known[1]
            if not secrets.compare_digest(given.encode(), known[1].encode()):
                bottle.response.status = 403
                return self._page("message.html", title="That form was not ours", text="Go back, reload and try again.")
            return page()

        return guarded

    def _cookie(self) -> str:
        return str(bottle.request.get_cookie(COOKIE) or "")

    def _forget_old(self) -> None:
        now = time.monotonic()
        alive = {cookie: session for cookie, session in self._sessions.items() if session[0] > now}
        self._sessions = dict(list(alive.items())[-MAX_SESSIONS:])

    def _page(self, name: str, **values: Any) -> str:
        return self._pages.get_template(name).render(site=self._config.site, style=STYLE, **values)


def main() -> int:
    parser = argparse.ArgumentParser(prog="gatehouse-admin")
    parser.add_argument("--config", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        config = configuration.load(parser.parse_args().config)
    except UserError as error:
        print(f"gatehouse-admin: {error}", file=sys.stderr)
        return 1
    socket = config.paths.run / "admin" / "admin.sock"
    socket.unlink(missing_ok=True)
    # Threads share the models' one binding, so one thread: the page is for a few people.
    waitress.serve(Admin(config).app(), unix_socket=str(socket), unix_socket_perms="660", threads=1, ident=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
