"""Two appliances on one PostgreSQL: each tells the routers and the gateway of its own site, nothing is done twice."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance import config, db
from appliance.accounts import manage
from appliance.accounts.database import open_core
from appliance.accounts.models import Account, JobLease, LiveChange, Plan, Session, core_db
from appliance.config import Config
from appliance.crypto import key_file, load_box
from appliance.jobs import Job, Scheduler, parts
from appliance.nas import clients
from appliance.nas.models import Nas
from appliance.nas.sessions import cut
from appliance.sites.models import Site

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)


@dataclass
class Router:
    """Says yes to all that it is told (RFC 5176, 2.3), if the secret is right."""

    secret: bytes
    told: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                packet, sender = self.socket.recvfrom(4096)
                if packet[4:20] == self._proof(packet[:4] + bytes(16) + packet[20:]):
                    self.told.append(packet[0])
                    head = bytes([packet[0] + 1, packet[1], 0, 20])
                    self.socket.sendto(head + self._proof(head + packet[4:20]), sender)

    def _proof(self, of: bytes) -> bytes:
        return hashlib.md5(of + self.secret).digest()

    def wait(self, code: int) -> None:
        until = time.monotonic() + 30
        while code not in self.told:
            assert time.monotonic() < until, f"{self.told} hasn't {code}"
            time.sleep(0.02)


CHANGE, DISCONNECT = 43, 40


class Fleet:
    """The sites north and south. South has a router beside its gateway; one router is of no site."""

    def __init__(self, url: str, folder: Path) -> None:
        self.routers = {name: Router(name.encode() * 4) for name in ("north", "south", "attic", "anybody")}
        self.north, self.south = (self._box(url, folder / key, key) for key in ("north", "south"))
        box = load_box(self.north.paths.state)
        with open_core(self.north, create=True):
            db.migrate(core_db.obj, db.migrations("appliance.migrations"))
            plan = Plan.create(name="home", rate_down_bps=20_000_000, rate_up_bps=5_000_000)
            account = Account.create(name="bob", plan=plan, password=b"", created_at=0)
            for one in (self.north, self.south):
                Site.create(key=one.site.key, created_at=0, changed_at=0)
                nas = clients.gateway(one, box)
                Nas.update(secret=box.seal(self._secret(one.site.key))).where(Nas.id == nas.id).execute()
                self._session(account, nas.name)
            for name, address, site in (("attic", "127.0.0.3", "south"), ("anybody", "127.0.0.2", None)):
                secret, port = box.seal(self._secret(name)), self.routers[name].port
                Nas.create(name=name, address=address, secret=secret, coa_port=port, site=site)
                self._session(account, name)
            self.routers["anybody"].socket.close()

    def _secret(self, name: str) -> str:
        return self.routers[name].secret.decode()

    def _box(self, url: str, folder: Path, key: str) -> Config:
        folder.mkdir()
        file = folder / "gatehouse.toml"
        port = self.routers[key].port
        file.write_text(
            f'[paths]\nstate = "{folder}/state"\nrun = "{folder}/run"\n[database]\nurl = "{url}"\n'
            f'[site]\nkey = "{key}"\n[gateway]\ncoa_port = {port}\n'
        )
        one = config.load(file)
        key_file(one.paths.state).parent.mkdir(parents=True)
        key_file(one.paths.state).write_bytes(bytes(32))
        one.paths.run.mkdir()
        (one.paths.run / "status.secret").write_text("nobody answers to it")
        return one

    def _session(self, account: Account, nas: str) -> None:
        now = int(time.time())
        Session.create(
            **{"unique_id": nas, "account_ref": account, "account": "bob", "nas": nas, "acct_session_id": "80000001"},
            **{"mac": "aa:bb:cc:00:11:22", "started_at": now, "updated_at": now, "granted_rate": "5M/20M"},
        )

    @contextmanager
    def jobs(self, of: Config) -> Iterator[None]:
        words = [sys.executable, "-m", "appliance.jobs", "--config", str(of.file)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.kill()


@pytest.fixture
def fleet(empty_url: str, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(empty_url, tmp_path)
    try:
        with open_core(made.north):
            yield made
    finally:
        for router in made.routers.values():
            router.socket.close()


def test_a_change_of_plan_reaches_the_routers_and_gateways_of_all_sites(fleet: Fleet) -> None:
    there = {name: fleet.routers[name] for name in ("north", "south", "attic")}
    with ExitStack() as running:
        for one in (fleet.north, fleet.south):
            running.enter_context(fleet.jobs(one))
        manage.change_plan("home", {"rate_down_bps": 50_000_000})
        for router in there.values():
            router.wait(CHANGE)
        assert cut(fleet.north, Session.get(nas="attic"), load_box(fleet.north.paths.state)).endswith(
            "the appliance of the site south is asked to let it go"
        )
        there["attic"].wait(DISCONNECT)
    assert {tuple(set(router.told)) for name, router in there.items() if name != "attic"} == {(CHANGE,)}


def test_while_a_sites_appliance_is_away_nobody_else_tells_its_routers(fleet: Fleet) -> None:
    with fleet.jobs(fleet.north):
        manage.change_plan("home", {"rate_down_bps": 50_000_000})
        fleet.routers["north"].wait(CHANGE)
        until = time.monotonic() + 30
        while not LiveChange.select().join(Session).where(Session.nas == "anybody", LiveChange.tries > 0).exists():
            assert time.monotonic() < until, "what is of no site is north's to tell as well"
            time.sleep(0.05)
    assert not fleet.routers["south"].told
    assert not fleet.routers["attic"].told


def test_what_is_the_fleets_is_done_by_one_and_taken_over(fleet: Fleet) -> None:
    did: list[str] = []

    def site(key: str) -> Scheduler:
        return Scheduler([Job("count", 0.0, lambda _: did.append(key))], f"site {key}")

    sites = [site("a"), site("b")]
    for one in (*sites, *sites):
        one.tick()
    assert did == ["a", "a"]
    JobLease.update(held_until=0).execute()  # a is dead for that long
    sites[1].tick()
    sites[0].tick()
    assert did == ["a", "a", "b"]


def test_each_has_a_gateway_of_its_own_and_knows_its_routers_only(fleet: Fleet) -> None:
    box = load_box(fleet.north.paths.state)
    known = {key: {c.name: c for c in clients.read(one, box)} for key, one in (("n", fleet.north), ("s", fleet.south))}
    assert known["n"].keys() == {"gateway-north", "anybody"}
    assert known["s"].keys() == {"gateway-south", "attic", "anybody"}
    assert known["n"]["gateway-north"].address == known["s"]["gateway-south"].address == "127.0.0.1"
    assert [part.site for part in parts(fleet.south)] == [None, "south"]
    assert clients.own_gateway(fleet.south).coa_port == fleet.south.gateway.coa_port


def test_who_was_alone_takes_its_gateway_along(fleet: Fleet) -> None:
    Nas.update(name="gateway", site=None, address="127.0.0.1").where(Nas.name == "gateway-north").execute()
    assert clients.gateway(fleet.north, load_box(fleet.north.paths.state)).name == "gateway"
    assert clients.own_name(fleet.north) == "gateway"
    assert Nas.get(name="gateway").site == "north"
