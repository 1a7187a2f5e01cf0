"""The admin's pages hand a copy out, and who keeps one stands on them."""

from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import access, alerts, offers, sources, vaults
from appliance.vault.alerts import Alert
from appliance.vault.models import Object
from appliance.vault.offers import Offer
from appliance.vault.sources import Source
from appliance.vault.store import Store
from tests.unit import test_vault_pages
from tests.unit.test_admin import browser
from tests.unit.test_api import Program
from tests.unit.test_vault_pages import put
from tests.unit.vault_pair import certificate, served

NOW = 1_900_000_000
BASE, HERE = "/vault-copy", "198.51.100.7"
empty_url, hotspot, box, store = (
    test_vault_pages.empty_url,
    test_vault_pages.hotspot,
    test_vault_pages.box,
    test_vault_pages.store,
)
app, office = test_vault_pages.app, test_vault_pages.office


@pytest.fixture
def pem(box: Config, tmp_path: Path) -> Path:
    """What nginx shows, as `apply` has written down."""
    path = tmp_path / "shown.pem"
    (box.paths.run / "vault").mkdir(parents=True, exist_ok=True)
    (box.paths.run / access.CERTIFICATE_HASH).write_text(f"{certificate(path)}\n")
    return path


def test_an_appliance_gets_all_of_it_from_the_pages(
    box: Config, store: Store, app: Any, office: Any, pem: Path
) -> None:
    token = offers.add("second")
    assert offers.sign(box, store, NOW)
    assert not offers.sign(box, store, NOW + 1)
    with served(app, pem) as url:
        sources.add("first", url, "", token)
        count = sources.pull(store, sources.named("first"), NOW)
        copy = sources.place_of(store, "first")
        assert (copy / "manifest" / "manifest.jsonl").read_bytes() == (
            store.place() / "manifest" / "manifest.jsonl"
        ).read_bytes()
        assert {p.name for p in (copy / "objects").glob("*/*")} == {row.sha256 for row in Object.select()}
        put(store, office, "/more", b"more")
        assert offers.sign(box, store, NOW + 2)
        assert sources.pull(store, sources.named("first"), NOW + 3) == 1
        assert sources.verify(store, sources.named("first"), NOW + 4, None, 10) == 0
        sources.pull(store, sources.named("first"), NOW + 5)
        offer = Offer.get()
        assert (offer.used_from, offer.head_n, offer.bad) == ("192.0.2.9", count + 1, 0)
        page = browser(app, "reader").get("/netbackup/copies").body
        assert "Copies of other appliances" in page
        assert url in page
        assert "Kept by other appliances" in page
        assert token not in page
        offers.remove("second")
        with pytest.raises(UserError, match="token no more"):
            sources.pull(store, sources.named("first"), NOW + 6)


def test_without_its_token_nobody_gets_anything(box: Config, store: Store, app: Any, office: Any, pem: Path) -> None:
    assert Program(app).ask("GET", BASE)[0] == 404, "nothing is offered yet"
    token = offers.add("second", "198.51.100.0/24")
    offers.sign(box, store, NOW)
    known = Object.select().first().sha256
    asked = (("POST", f"{BASE}/head"), ("GET", f"{BASE}/manifest"), ("GET", f"{BASE}/objects/{known}"))
    for sent, address in (("", HERE), ("x", HERE), (f"{token}x", HERE), (token, "192.0.2.9"), (token, "")):
        for method, path in asked:
            assert Program(app, sent).refused(method, path, HTTP_X_REAL_IP=address)[0] == 401
    for method, path in asked:
        assert Program(app, token).ask(method, path, HTTP_X_REAL_IP=HERE)[0] == 200
    assert Program(app, "").ask("GET", BASE)[0] == 200, "by which certificate it is known stands open"


@pytest.mark.parametrize("name", ["0" * 64, "../../../../etc/passwd", "vault.db", "A" * 64, "\0", "x" * 5000])
def test_only_contents_that_the_manifest_names_are_handed_out(
    box: Config, store: Store, app: Any, office: Any, name: str
) -> None:
    program = Program(app, offers.add("second"))
    stray = store.place() / "objects" / "00" / ("0" * 64)
    stray.write_bytes(b"of nobody")
    (store.place() / "vault.db").write_bytes(b"no content")
    assert program.ask("GET", f"{BASE}/objects/{name}", HTTP_X_REAL_IP=HERE)[0] == 404


def test_the_token_opens_nothing_else(box: Config, app: Any, office: Any) -> None:
    program = Program(app, offers.add("second"))
    for path in ("/vaults", "/metrics", "/vault-files?vault=office"):
        assert program.refused("GET", path)[0] == 401


def test_alarms_of_both_sides_are_told(box: Config, store: Store, office: Any) -> None:
    offers.add("second")
    Offer.update(created_at=NOW - 3 * 86_400).execute()
    common = {"url": "https://a.example", "key": "0" * 64, "token": "t", "added_at": NOW - 7 * 3600}
    Source.create(name="slow", problem="it doesn't answer", **common)
    Source.create(name="forged", broken="its history was rewritten", **common)
    alerts.run(box, store, NOW)
    found = {(row.kind, row.subject): row.text for row in Alert.select()}
    assert "3d ago" in found["copy", "offer second"]
    assert "doesn't answer" in found["copy", "source slow"]
    assert "rewritten" in found["history", "source forged"]
    assert vaults.named("office")
