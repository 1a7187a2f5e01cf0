"""What a page of the admin's lists costs the server with very many accounts: the page as WSGI, without a browser.

Processor time, which other work on the machine changes least; all that is read is in memory.
"""

import time
from collections.abc import Iterator
from statistics import median
from wsgiref.util import setup_testing_defaults

from appliance import db, modules
from appliance.accounts.models import VoucherBatch, core_db
from appliance.admin import people
from appliance.admin.frame import COOKIE, Frame
from appliance.admin.models import AdminUser
from portal.module import HOTSPOT
from tests.bench import radius_servers
from tests.bench.report import Comparison, progress
from tests.lab.radius import RadiusServer, radius_server

ACCOUNTS, SESSIONS = 1_000_000, 100_000
ROUNDS = 7
BOUND_MS = 150
VIEWS = (
    "/",
    "/accounts",
    "/accounts?q=guest05",
    "/accounts?state=blocked",
    "/accounts?kind=vouchers",
    "/accounts?sort=-created_at",
    "/accounts?sort=-name&page=100",
    "/accounts?plan=home&state=blocked&sort=-name",
    f"/accounts/{radius_servers.name(ACCOUNTS // 2)}",
    "/sessions",
    "/sessions?state=online&q=guest00",
    "/search?q=guest03333",
)
_ACCOUNT = (
    "INSERT INTO account (id, name, password, plan_id, enabled, created_at, batch_id) VALUES (?, ?, ?, 1, ?, ?, ?)"
)
_SESSION = (
    "INSERT INTO session (unique_id, account_id, account, nas, acct_session_id, mac, framed_ip, started_at, updated_at,"
    " ended_at, input_octets, output_octets) VALUES (?, ?, ?, 'router', ?, ?, ?, ?, ?, ?, 1000, 5000)"
)


def comparisons() -> list[Comparison]:
    with radius_server() as server:
        progress(f"making {ACCOUNTS:,} accounts")
        _fill(server)
        modules.set_enabled(server.config, HOTSPOT, True)
        slowest = max(_medians_ms(server).values())
    return [Comparison("admin_list_ms_1m_accounts", "bound", "ms", slowest, BOUND_MS, ROUNDS)]


def _fill(server: RadiusServer) -> None:
    """Each tenth is blocked, each fifth a voucher, each tenth session is open."""
    server.plan("home")
    with server.core():
        batch = VoucherBatch.create(name="bench", plan=1, created_at=0).id
    file, sealed = db.sqlite_path(server.config.database_url), server.box.seal(radius_servers.password(0))
    name, now = radius_servers.name, int(time.time())

    def accounts(numbers: range) -> Iterator[tuple[object, ...]]:
        return (
            (n + 1, name(n), sealed, int(n % 10 > 0), now - ACCOUNTS + n, None if n % 5 else batch) for n in numbers
        )

    def sessions(numbers: range) -> Iterator[tuple[object, ...]]:
        for n in numbers:
            began, ended = now - SESSIONS + n, now if n % 10 else None
            key, mac = f"{n:032x}", f"02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"
            yield key, n + 1, name(n), key[-8:], mac, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", began, now, ended

    radius_servers.insert(file, ACCOUNTS, _ACCOUNT, accounts)
    radius_servers.insert(file, SESSIONS, _SESSION, sessions)


def _medians_ms(server: RadiusServer) -> dict[str, float]:
    core_db.initialize(db.connect(server.config.database_url))
    with core_db.connection_context():
        people.add(people.columns("bench", radius_servers.password(0), "owner"))
        cookie = people.enter(AdminUser.get(), "192.0.2.1", "bench")
    frame = Frame(server.config)
    app = frame.app()
    for view in VIEWS:
        _page_ms(app, view, cookie)  # warm
    found = {view: [_page_ms(app, view, cookie) for _ in range(ROUNDS)] for view in VIEWS}
    for view, times in found.items():
        progress(f"{median(times):8.1f} ms  {view}")
    return {view: median(times) for view, times in found.items()}


def _page_ms(app: object, url: str, cookie: str) -> float:
    path, _, query = url.partition("?")
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "HTTP_COOKIE": f"{COOKIE}={cookie}"}
    setup_testing_defaults(environ)
    said: list[str] = []
    began = time.process_time()
    body = b"".join(app(environ, lambda status, *rest: said.append(status)))  # type: ignore[operator]
    seconds = time.process_time() - began
    if not said[0].startswith("200") or b"</html>" not in body:
        raise RuntimeError(f"{url}: {said[0]}")
    return 1000 * seconds
