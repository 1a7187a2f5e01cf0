"""The dealer module with 1,000 dealers and a million entries: a month's settlement, a dealer's pages, the whole chain.

DEALERS and ENTRIES make it smaller for a trial. Pages are asked as WSGI, by their processor time; the dealer who looks
has a tenth of all entries.
"""

import io
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

from appliance.accounts import sales
from appliance.accounts.models import Account, Plan, core_db
from appliance.admin import frame
from appliance.config import Config
from appliance.dealers import attribution, dealers, earning, ledger, settlement, web_own, web_own_money
from tests.bench.dealer_ledger import LAST, NOW, PASSWORD, configuration, make, seconds
from tests.bench.report import Comparison, progress, show

DEALERS = int(os.environ.get("DEALERS", "1_000"))
ENTRIES = int(os.environ.get("ENTRIES", "1_000_000"))
SALES = int(os.environ.get("SALES", "5_000"))
ROUNDS = 7
PAGES = ("/dealer/money", "/dealer/today", "/dealer/money/commissions", "/dealer/money/commissions?page=100")
BOUNDS = {"page": ("ms", 100.0), "settlement": ("s", 60.0), "take_over": ("s", 60.0), "verify": ("s", 120.0)}


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH", "/var/tmp")) as folder:
        config = configuration(Path(folder))
        took, _ = seconds(lambda: make(config, DEALERS, ENTRIES))
        progress(f"made {ENTRIES:,} entries of {DEALERS:,} dealers in {took:.0f} s")
        found = {"page": pages_ms(config), "settlement": settlement_s(config)}
        found |= {"take_over": take_over_s(config), "verify": verify_s()}
    show([Comparison(f"dealer_{name}", "bound", BOUNDS[name][0], found[name], BOUNDS[name][1], 1) for name in found])


def pages_ms(config: Config) -> float:
    """The slowest page's median."""
    if web_own.__name__ not in frame.OWN:
        vars(frame)["OWN"] = (*frame.OWN, web_own.__name__, web_own_money.__name__)
    app = frame.Frame(config).app()
    form = urlencode({"login": "first", "password": PASSWORD}).encode()
    _, _, cookie = asked(app, "/dealer/login", form=form)
    slowest = 0.0
    for page in PAGES:
        asked(app, page, cookie)  # warm
        times = [asked(app, page, cookie)[0] for _ in range(ROUNDS)]
        progress(f"{median(times):8.1f} ms  {page}")
        slowest = max(slowest, median(times))
    return slowest


def asked(app: object, url: str, cookie: str = "", form: bytes | None = None) -> tuple[float, bytes, str]:
    """Milliseconds of processor time, the page, and the cookie that it sets."""
    path, _, query = url.partition("?")
    environ: dict[str, object] = {
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_COOKIE": cookie,
        "REMOTE_ADDR": "192.0.2.1",
    }
    if form is not None:
        environ |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(form))}
        environ |= {"CONTENT_TYPE": "application/x-www-form-urlencoded", "wsgi.input": io.BytesIO(form)}
    setup_testing_defaults(environ)
    said: list[str] = []
    cookies: list[str] = []

    def start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
        said.append(status)
        cookies.extend(value.partition(";")[0] for name, value in headers if name.lower() == "set-cookie")

    began = time.process_time()
    body = b"".join(app(environ, start))  # type: ignore[operator]
    took = 1000 * (time.process_time() - began)
    if not said[0].startswith("303" if form is not None else "200"):
        raise RuntimeError(f"{url}: {said[0]} {body[:300]!r}")
    return took, body, "; ".join(each for each in cookies if each.startswith("gatehouse-dealer"))


def settlement_s(config: Config) -> float:
    took, result = seconds(lambda: settlement.run(config, LAST, "bench", now=NOW))
    progress(f"{took:8.1f} s   {LAST.name} of {len(result.settled):,} dealers settled")
    again, result = seconds(lambda: settlement.run(config, LAST, "bench", now=NOW))
    progress(f"{again:8.1f} s   again: {len(result.settled)}")
    return took


def take_over_s(config: Config) -> float:
    """Of payments of one dealer's customer, the one with most postings."""
    plan = Plan.create(name="home", price_minor=1000, currency="CZK")
    account = Account.create(name="bob", password=b"", plan=plan, created_at=0)
    attribution.attribute(dealers.get("shop-0000"), "account", account.id, "bob", 0)
    earning.take_over(config, NOW)
    with core_db.atomic():
        for n in range(SALES):
            charge = sales.charge("renewal", 1000, "CZK", NOW, f"s{n}", account=account, plan="home")
            sales.pay(charge, 1000, NOW, source=f"s{n}")
    took, made = seconds(lambda: earning.take_over(config, NOW, limit=SALES))
    progress(f"{took:8.1f} s   {made:,} payments taken over")
    return took


def verify_s() -> float:
    took, problems = seconds(lambda: list(ledger.verify()))
    progress(f"{took:8.1f} s   all of the ledger verified, {len(problems)} problems")
    if problems:
        raise RuntimeError(problems[0])
    return took


if __name__ == "__main__":
    main()
