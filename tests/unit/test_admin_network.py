"""The admin's pages for devices, DHCP leases and pools of addresses."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from appliance import first_boot, modules, wishes
from appliance.accounts.models import Account, Device, Plan, Pool, Session, core_db
from appliance.admin import way_in
from appliance.admin.models import Audit
from appliance.admin.rows import By, Rows
from appliance.config import Config
from appliance.service import ASKED
from portal.dhcp import lease_file
from tests.unit.test_admin import app, box, browser  # noqa: F401

# ruff: noqa: F811
one_engine = pytest.mark.parametrize("empty_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(box: Config) -> Config:
    now = int(time.time())
    with core_db.connection_context():
        plan = Plan.get()
        for number, name in enumerate(("anna", "bob")):
            row = Account.create(name=name, plan=plan, password=b"", created_at=1)
            Device.create(mac=f"aa:bb:cc:00:00:0{number}", account=row, added_at=1, used_at=2)
        Session.create(
            unique_id="1", account="anna", nas="gateway", acct_session_id="1", mac="aa:bb:cc:00:00:00", started_at=1,
            updated_at=1,
        )  # fmt: skip
    file = lease_file(box)
    file.parent.mkdir(parents=True)
    file.write_text(
        f"{now + 600} aa:bb:cc:00:00:00 10.80.0.9 annas-phone *\n"
        f"{now + 600} aa:bb:cc:00:00:07 10.80.0.10 <script> *\n"
        f"{now - 600} aa:bb:cc:00:00:08 10.80.0.11 gone *\n"
    )
    return box


@one_engine
def test_leases_are_those_that_hold_with_the_session_of_each(filled: Config, app: Any) -> None:
    one = browser(app, "reader")
    page = one.get("/leases").body
    assert re.findall(r"<td>(10\.80\.0\.\d+)</td>", page) == ["10.80.0.9", "10.80.0.10"]
    assert '<a href="/sessions/1">anna</a>' in page
    assert "<script>*" not in page
    for view, wanted in (
        ("sort=-ip", ["10.80.0.10", "10.80.0.9"]),
        ("state=online", ["10.80.0.9"]),
        ("q=ANNAS", ["10.80.0.9"]),
        ("q=00:07", ["10.80.0.10"]),
        ("page=2", ["10.80.0.9", "10.80.0.10"]),
    ):
        found = json.loads(one.get(f"/leases?format=json&{view}").body)
        assert [row["ip"] for row in found] == wanted, view
    assert "10.80.0.9" not in one.get("/leases?page=2").body
    lease_file(filled).unlink()
    assert "No device has an address" in one.get("/leases").body


def test_rows_in_memory_answer_as_a_query_does() -> None:
    rows = Rows([{"n": n} for n in (3, 1, 2)])
    by = By(lambda row: row["n"])
    assert [row["n"] for row in rows.order_by(by.desc()).offset(1).limit(1).dicts()] == [2]
    assert rows.where(lambda row: row["n"] > 1).count() == 2


@one_engine
def test_devices_are_forgotten_after_a_look(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    found = json.loads(one.get("/devices?format=json&q=ann").body)
    assert [(row["mac"], row["account"]) for row in found] == [("aa:bb:cc:00:00:00", "anna")]
    assert json.loads(one.get("/devices?format=json&q=AA-BB-CC-00-00-01").body)[0]["account"] == "bob"
    form = {"device": "aa:bb:cc:00:00:01"}
    assert "aa:bb:cc:00:00:01 of bob" in one.post("/devices/forget", form).body
    assert one.post("/devices/forget", {**form, "sure": "1"}).headers["Location"] == "/devices"
    assert one.post("/devices/forget", {"sure": "1"}).status == 303
    with core_db.connection_context():
        assert [row.mac for row in Device.select()] == ["aa:bb:cc:00:00:00"]
        assert Audit.select().where(Audit.subject == "account bob").count() == 1


@one_engine
def test_pools_are_made_and_removed(filled: Config, app: Any) -> None:
    one = browser(app, "operator")
    form = {"name": "public", "first": "198.51.100.16", "last": "198.51.100.30"}
    assert one.post("/pools/new", form).headers["Location"] == "/pools"
    assert "<td>198.51.100.30</td>" in one.get("/pools").body
    wrong = one.post("/pools/new", {**form, "name": "other"})
    assert (wrong.status, "overlaps another pool" in wrong.body, 'value="198.51.100.30"' in wrong.body) == (
        400,
        True,
        True,
    )
    with core_db.connection_context():
        Plan.update(pool=Pool.get()).execute()
    assert one.post("/pools/public/remove").status == 200
    refused = one.post("/pools/public/remove", {"sure": "1"})
    assert (refused.status, "change the plan first" in refused.body) == (400, True)
    with core_db.connection_context():
        Plan.update(pool=None).execute()
    assert one.post("/pools/public/remove", {"sure": "1"}).status == 303
    with core_db.connection_context():
        assert Pool.select().count() == 0


# /proc/net of a box with the provider at eth0, an office at eth1 and a management network behind it

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t016433C6\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth2\t00000000\t016433C6\t0003\t0\t0\t50\t00000000\t0\t0\t0
eth0\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth3\t0005A8C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ARP = """IP address       HW type     Flags       HW address            Mask     Device
192.168.7.7      0x1         0x2         02:00:00:00:00:01     *        eth4
192.168.7.8      0x1         0x0         00:00:00:00:00:00     *        eth4
"""


@pytest.mark.parametrize(
    ("address", "device"),
    [
        ("198.51.100.9", "eth0"),
        ("203.0.113.9", "eth2"),
        ("192.168.5.9", "eth1"),
        ("192.168.7.7", "eth4"),
        ("192.168.7.8", "eth1"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("", ""),
    ],
)
def test_the_device_that_somebody_has_come_by(tmp_path: Path, address: str, device: str) -> None:
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "arp").write_text(ARP)
    assert way_in.device(address, tmp_path / "route", tmp_path / "arp") == device
    assert way_in.device(address, tmp_path / "no", tmp_path / "no") == ""


def test_the_kernel_says_the_same_of_the_way_out() -> None:
    words = ("ip", "-json", "route", "get", "192.0.2.9")
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    known = json.loads(found.stdout)[0]["dev"] if found.returncode == 0 else ""  # a container has no way out
    assert way_in.device("192.0.2.9") == known


def wished(box: Config) -> list[dict[str, object]]:
    with wishes.folder(box.paths.state) as folder:
        return [dict(wishes.read(folder, number).settings) for number in wishes.waiting(folder)]


@one_engine
def test_nobody_makes_their_own_way_the_guests_without_saying_so(
    box: Config, app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("eth0", "eth1", "br0", "br0/lower_eth5", "eth5"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(wishes, "DEVICES", tmp_path)
    monkeypatch.setattr(first_boot, "DEVICES", tmp_path)
    here = ["eth0"]
    monkeypatch.setattr(way_in, "device", lambda address: here[0])
    one = browser(app, "owner")
    assert "You have come by eth0" in one.get("/settings/network").body
    assert "come by" not in one.get("/settings/radius").body
    swapped = {"gateway.lan": "eth0", "gateway.wan": "eth1"}
    for path, form in (
        ("/settings/network", swapped),
        ("/setup/modules", swapped | {"gateway": "yes", "module hotspot": "on"}),
    ):
        refused = one.post(path, form)
        assert (refused.status, wished(box)) == (400, [])
        assert "which would be the guests’ device" in refused.body
        assert re.search(r'name="known" value="1"', refused.body)
        assert re.search(r'(value="|selected>)eth0', refused.body), "what was typed stays"
        assert one.post(path, form | {"known": "1"}).status == 303
        assert wished(box).pop() == swapped
        for file in (box.paths.state / ASKED).iterdir():
            file.unlink()
    here[0] = "br0"
    assert one.post("/settings/network", {"gateway.lan": "eth5"}).status == 400
    here[0] = ""
    assert "can’t be told" in one.get("/settings/network").body
    assert one.post("/settings/network", swapped).status == 303
    here[0] = "eth1"
    assert one.post("/settings/network", {"gateway.enabled": "no", "gateway.lan": "eth1"}).status == 303


@one_engine
def test_a_device_that_is_not_there_is_said(
    box: Config, app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "eth0").mkdir()
    monkeypatch.setattr(wishes, "DEVICES", tmp_path)
    monkeypatch.setattr(first_boot, "DEVICES", tmp_path)
    modules.set_enabled(box, modules.by_name("hotspot"), False)
    one, form = browser(app, "owner"), {"module hotspot": "on", "gateway": "yes"}
    refused = one.post("/setup/modules", form)
    assert (refused.status, "no network device eth1 now" in refused.body) == (400, True)
    assert one.post("/setup/modules", form | {"known": "1"}).status == 303
    assert one.post("/setup/modules", form | {"gateway": "no"}).status == 303
    refused = one.post("/modules/hotspot", {"on": "yes"})
    assert (refused.status, 'name="known"' in refused.body) == (400, True)
    assert one.post("/modules/hotspot", {"on": "yes", "known": "1"}).status == 303
    assert one.post("/modules/hotspot", {"on": "no"}).status == 303
