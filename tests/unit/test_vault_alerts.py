"""Alerts of the vault: what is late, full or damaged; told once, and once more when it is over."""

import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance import data_disk
from appliance.accounts.models import Mail, core_db
from appliance.config import Config
from appliance.crypto import load_box
from appliance.errors import ConfigError, UserError
from appliance.vault import alerts, faults, lateness, module, telling, vaults
from appliance.vault.alerts import Alert, Notice
from appliance.vault.models import Learned, Replica, Version, vault_db
from tests.unit import test_admin, vault_box
from tests.unit.vault_box import Box

DAY = 86_400
NOW = 1_800_000_000


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.setattr(data_disk, "ready", lambda config: config.paths.data)
    made = Box(tmp_path)
    made.config = replace(made.config, vault=replace(made.config.vault, alert_mail="noc@example.net"))
    yield made
    made.close()


def run(box: Box, now: int) -> list[str]:
    """Kinds of what is open after it."""
    alerts.run(box.config, box.store, now)
    return [str(alert.kind) for alert in alerts.opened_ones()]


def bring(box: Box, vault: Any, path: str, at: int, data: bytes = b"x") -> None:
    """As if it had come at a time."""
    box.clock.wait(1000)
    version = box.put(vault, path, data)
    Version.update(stored_ms=at * 1000).where(Version.id == version.id).execute()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("/a/2026-01-31-03-00-00.backup", "/a/2026-02-01-03-00-05.backup"),
        ("/a/jan-31-2026-03-00-00.rsc", "/a/feb-01-2026-03-10-00.rsc"),
        ("/db-20260131.sql.gz", "/db-20270101.sql.gz"),
        ("/x_1738281600.tar", "/x_1838281601.tar"),
        ("/20260131T0300.zip", "/20260201T0415.zip"),
    ],
)
def test_the_same_file_of_another_day_is_one_series(name: str, other: str) -> None:
    assert lateness.series(name) == lateness.series(other)
    assert lateness.series(name) != name


def test_routers_that_have_a_number_are_not_one_series() -> None:
    assert lateness.series("/router1.backup") != lateness.series("/router2.backup")


def test_a_rhythm_is_learned_from_what_is_regular() -> None:
    daily = [NOW + n * DAY + (n * 37) % 600 for n in range(10)]
    found = lateness.rhythm(daily)
    assert found
    assert abs(found.every_s - DAY) < 1000
    assert found.late_s <= 1.3 * DAY
    week = [NOW + (n // 5 * 7 + n % 5) * DAY for n in range(20)]
    working = lateness.rhythm(week)
    assert working
    assert working.late_s > 3 * DAY, "a weekend isn't late"
    once_away = lateness.rhythm([*daily, *(daily[-1] + 9 * DAY + n * DAY for n in range(10))])
    assert once_away
    assert once_away.late_s < 2 * DAY, "one failure teaches nothing"
    assert lateness.rhythm(daily[:3]) is None
    assert lateness.rhythm([NOW + n * n * DAY for n in range(12)]) is None
    assert lateness.rhythm([NOW + n for n in range(50)]) is None
    pairs = sorted([*daily, *(at + 20 for at in daily)])
    assert lateness.rhythm(pairs) == found, "a backup and its export come together"


def test_what_is_late_is_told_once_and_once_more_when_it_is_over(box: Box) -> None:
    vault = box.vault()
    for n in range(6):
        bring(box, vault, f"/r/2026-01-{n + 1:02}-03-00-00.txt", NOW + n * DAY)
    last = NOW + 5 * DAY
    assert run(box, last + DAY) == []
    assert run(box, last + int(1.3 * DAY)) == ["late"]
    assert run(box, last + 3 * DAY) == ["late"]
    (alert,) = alerts.opened_ones()
    assert f"vault: {alert.text}" in module.lines(box.config)
    assert "/r/#.txt of vault office last came 3d ago, usually every 1d" in alert.text
    assert [(notice.over, notice.way) for notice in Notice.select()] == [(False, "mail")]
    bring(box, vault, "/r/2026-01-09-03-00-00.txt", last + 3 * DAY + 60)
    assert run(box, last + 3 * DAY + 120) == []
    assert [bool(notice.over) for notice in Notice.select().order_by(Notice.id)] == [False, True]
    assert run(box, last + 3 * DAY + 180) == []
    assert Notice.select().count() == 2
    (learned,) = Learned.select()
    alerts.forget(vault, learned.id)
    assert run(box, last + 30 * DAY) == [], "nobody waits for it any more"
    for n in range(5):
        bring(box, vault, f"/r/2026-03-0{n + 1}-03-00-00.txt", last + (30 + n) * DAY)
    assert run(box, last + 40 * DAY) == ["late"], "until it comes again"


def test_a_given_schedule_counts_before_what_is_learned(box: Box) -> None:
    vault = box.vault(schedule=alerts.schedule("12h"))
    began = int(vault.created_at)
    assert run(box, began + 3600) == []
    assert run(box, began + DAY) == ["late"], "also when nothing ever came"
    bring(box, vault, "/x", began + DAY)
    assert run(box, began + DAY + 60) == []
    vaults.change(vault, schedule=alerts.schedule("none"))
    assert run(box, began + 99 * DAY) == []
    for bad in ("5s", "often", "0d"):
        with pytest.raises(UserError):
            alerts.schedule(bad)


def test_a_full_vault_a_bad_disk_and_an_old_copy(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = box.vault(quota_bytes=1000, schedule="none")
    box.put(vault, "/a", bytes(899))
    assert run(box, NOW) == []
    box.put(vault, "/b", bytes(1))
    assert run(box, NOW) == ["quota"]
    vaults.change(vault, quota_bytes=10_000)
    assert run(box, NOW) == []
    faults.suspect(box.store.place(), "an fsync failed")
    assert run(box, NOW) == ["disk"]
    faults.close(faults.DISK)
    Replica.create(name="shelf", place="/x", problem="it is away", pulled_at=NOW - 3600)
    assert run(box, NOW) == [], "a disk that is changed every day is no alarm"
    assert run(box, NOW + 3 * DAY) == ["copy"]

    def away(config: Config) -> Path:
        raise UserError("the data disk is away")

    monkeypatch.setattr(data_disk, "ready", away)
    assert sorted(run(box, NOW + 3 * DAY)) == ["copy", "disk"]


def test_a_backup_that_cant_be_restored_is_an_alarm_until_a_better_one_comes(box: Box) -> None:
    vault = box.vault(schedule="none")
    now = box.clock.wall // 1000

    def backup(size: int, declared: int) -> bytes:
        return struct.pack("<II", 0xB1A1AC88, declared) + bytes(size - 8)

    box.put(vault, "/r.backup", backup(50_000, 50_000))
    assert run(box, now) == []
    box.put(vault, "/r.backup", backup(4_000, 4_000))
    assert run(box, now) == ["backup"], "it shrank to nearly nothing"
    assert "can't be restored: it has 4,000 bytes, those before had some 50,000" in alerts.opened_ones()[0].text
    box.put(vault, "/r.backup", backup(51_000, 51_000))
    assert run(box, now) == []


def test_the_last_change_stands_in_the_alert_without_its_secrets(box: Box) -> None:
    vault = box.vault()
    text = "# 2026-01-0{0} 03:00:00 by RouterOS 7.14\n/ip address\nadd address=192.0.2.{0}/24 password=S3cr3t{0}\n"
    for n in range(6):
        bring(box, vault, f"/2026-01-0{n + 1}.rsc", NOW + n * DAY, text.format(n + 1).encode())
    assert "late" in run(box, NOW + 8 * DAY)
    (alert,) = [one for one in alerts.opened_ones() if one.kind == "late"]
    assert "-add address=192.0.2.5/24" in alert.detail
    assert "+add address=192.0.2.6/24" in alert.detail
    assert "S3cr3t" not in alert.detail


# Telling


class Hook(HTTPServer):
    """Takes what it is told; says what it is to say."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.says = 204
        super().__init__(("127.0.0.1", 0), Taker)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class Taker(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.says)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


core = test_admin.box


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


def test_alerts_reach_the_outbox_and_the_webhook_once(core: Config, tmp_path: Path, hook: Hook) -> None:
    made = vault_box.Box(tmp_path / "vault")
    told = replace(core, vault=replace(core.vault, alert_mail="noc@example.net", alert_webhook=hook.url))
    box = load_box(core.paths.state)
    with vault_db.atomic():
        alerts.note(told, [alerts.Found("late", "x", "it is\nlate", "office", "-a\n+b")], NOW)
    hook.says = 500
    telling.tell(told, box, NOW)
    with core_db.connection_context():
        (mail,) = Mail.select()
        assert (mail.recipient, mail.subject) == ("noc@example.net", "Gatehouse: it is late")
        assert "What changed the last time:\n\n-a\n+b" in box.open(mail.body)
    (waiting,) = Notice.select()
    assert (waiting.way, waiting.tries, waiting.error) == ("webhook", 1, "127.0.0.1 says 500")
    telling.tell(told, box, NOW + 1)
    assert len(hook.told) == 1, "not again at once"
    hook.says = 302
    telling.tell(told, box, NOW + 31)
    assert len(hook.told) == 2
    assert Notice.select().count() == 1, "a redirect is no answer"
    hook.says = 200
    telling.tell(told, box, NOW + 200)
    assert Notice.select().count() == 0
    assert {key: hook.told[-1][key] for key in ("state", "kind", "vault", "text")} == {
        "state": "alert",
        "kind": "late",
        "vault": "office",
        "text": "it is\nlate",
    }
    with vault_db.atomic():
        alerts.note(told, [], NOW + 300)
    telling.tell(told, box, NOW + 300)
    assert (hook.told[-1]["state"], hook.told[-1]["over"]) == ("over", NOW + 300)
    assert Alert.get().over_at == NOW + 300
    with vault_db.atomic():
        alerts.note(told, [alerts.Found("disk", "y", "bad")], NOW)
    hook.says = 500
    telling.tell(told, box, NOW + 2 * DAY)
    assert Notice.select().count() == 0, "after a day nobody is told any more"
    made.close()


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://chat.example.net/x", True),
        ("http://10.0.0.1:8080/x", True),
        ("http://[::1]/x", True),
        ("http://chat.example.net/x", False),
        ("http://198.18.300.1/", False),
        ("http://8.8.8.8/", False),
        ("ftp://10.0.0.1/", False),
        ("https://user:pass@chat.example.net/", False),
        ("https:///x", False),
        ("x", False),
        ("https://chat.example.net:99999/", False),
    ],
)
def test_a_webhook_is_https_or_near(url: str, may: bool) -> None:
    text = f'[vault]\nalert_webhook = "{url}"\n'
    if may:
        assert configuration.parse(text).vault.alert_webhook == url
    else:
        with pytest.raises(ConfigError):
            configuration.parse(text)
