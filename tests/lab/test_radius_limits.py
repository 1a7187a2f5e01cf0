"""Limits, dialects, devices and vouchers on the real FreeRADIUS; one server for all tests of the file."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from appliance.accounts import sales
from appliance.accounts.models import Account, AccountUsage, Device, Payment, Plan, VoucherBatch
from appliance.nas.models import Nas
from rlm_python import pairs
from tests.bench.radius_load import ACCESS_ACCEPT, access_request
from tests.lab.namespace import wait_until
from tests.lab.radius import ROUTER, RadiusServer, radius_server

ZONE = ZoneInfo("Europe/Prague")
OTHER, GATEWAY = "127.0.0.3", "127.0.0.1"
MAC = "02-00-00-00-00-01"
RACES = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[RadiusServer]:
    with radius_server('[site]\ntimezone = "Europe/Prague"\n') as server:
        with server.core():
            for name, address, kind in (("access-point", OTHER, "other"), ("gateway", GATEWAY, "gateway")):
                Nas.create(name=name, address=address, kind=kind, secret=server.box.seal(server.secret))
        server.start()
        yield server


def login(
    server: RadiusServer, user: str, password: str = "secret", mac: str = MAC, source: str = ROUTER, more: str = ""
) -> str:
    lines = f'User-Name = "{user}"\nUser-Password = "{password}"\nCalling-Station-Id = "{mac}"\n{more}'
    return server.radclient(lines.strip(), source=source).split("Received", 1)[-1]


def accepted(answer: str) -> bool:
    """radclient(1) names what it expected too, so the word alone says nothing."""
    return answer.startswith(" Access-Accept") or "Received Access-Accept" in answer


class TestLimits:
    def test_burst_idle_filter_vlan_pool_and_free_attributes(self, server: RadiusServer) -> None:
        server.plan(
            "rich",
            rate_down_bps=20_000_000,
            rate_up_bps=5_000_000,
            burst="10M/40M 4M/15M 8",
            idle_timeout_s=900,
            router_pool="guests",
            filter_id="kids",
            vlan=30,
            attributes="Mikrotik-Group = full\nReply-Message = hello, world",
        )
        server.account("rich", "rich", "secret")
        answer = login(server, "rich")
        for line in (
            'Mikrotik-Rate-Limit = "5M/20M 10M/40M 4M/15M 8"',
            "Idle-Timeout = 900",
            'Framed-Pool = "guests"',
            'Filter-Id = "kids"',
            "Tunnel-Type:0 = VLAN",
            "Tunnel-Medium-Type:0 = IEEE-802",
            'Tunnel-Private-Group-Id:0 = "30"',
            'Mikrotik-Group = "full"',
            'Reply-Message = "hello, world"',
        ):
            assert line in answer
        assert "Framed-Pool" not in login(server, "rich", source=GATEWAY)

    def test_other_makes_are_answered_in_their_words(self, server: RadiusServer) -> None:
        server.plan("wispr", rate_down_bps=20_000_000, rate_up_bps=5_000_000, quota_bytes=5 * 2**32 + 1)
        server.account("wispr", "wispr", "secret")
        answer = login(server, "wispr", source=OTHER)
        assert "Mikrotik" not in answer
        for line in (
            "WISPr-Bandwidth-Max-Down = 20000000",
            "ChilliSpot-Bandwidth-Max-Up = 5000",
            "ChilliSpot-Max-Total-Octets = 1",
            "ChilliSpot-Max-Total-Gigawords = 5",
        ):
            assert line in answer

    def test_an_account_has_limits_of_its_own(self, server: RadiusServer) -> None:
        server.plan("common", rate_down_bps=20_000_000, rate_up_bps=5_000_000, session_timeout_s=600)
        server.account("vip", "common", "secret", overrides={"rate_down_bps": 99_000_000, "session_timeout_s": None})
        answer = login(server, "vip")
        assert 'Mikrotik-Rate-Limit = "5M/99M"' in answer
        assert "Session-Timeout" not in answer

    def test_an_own_quota_period_counts_its_own_days(self, server: RadiusServer) -> None:
        server.plan("monthly", quota_bytes=10**9, quota_period="month")
        server.account("daily", "monthly", "secret", overrides={"quota_period": "day"})
        yesterday = int((datetime.now(ZONE) - timedelta(days=1)).strftime("%Y%m%d"))
        with server.core():
            account = Account.get(name="daily")
            AccountUsage.create(account=account, day=yesterday, input_octets=10**9, output_octets=0)
        assert "Mikrotik-Total-Limit = 1000000000" in login(server, "daily")

    def test_a_window_has_its_own_speed(self, server: RadiusServer) -> None:
        now = datetime.now(ZONE)
        start, end = now - timedelta(hours=1), now + timedelta(hours=1)
        windows = f"daily 00:00-24:00, daily {start:%H:%M}-{end:%H:%M} @50M/10M"
        server.plan("night", rate_down_bps=20_000_000, rate_up_bps=5_000_000, windows=windows)
        server.account("owl", "night", "secret")
        assert 'Mikrotik-Rate-Limit = "10M/50M"' in login(server, "owl")

    def test_a_used_up_quota_slows_down(self, server: RadiusServer) -> None:
        server.plan("slow", rate_down_bps=20_000_000, quota_bytes=1000, slow_down_bps=10**6, slow_up_bps=500_000)
        server.account("heavy", "slow", "secret")
        before = login(server, "heavy")
        assert "Mikrotik-Total-Limit" not in before
        assert "Termination-Action = RADIUS-Request" in login(server, "heavy", source=GATEWAY)
        with server.core():
            AccountUsage.create(account=Account.get(name="heavy"), day=1, input_octets=1000, output_octets=0)
        assert 'Mikrotik-Rate-Limit = "500k/1M"' in login(server, "heavy")

    def test_class_brings_the_grant_back(self, server: RadiusServer) -> None:
        server.plan("classy", rate_down_bps=20_000_000, rate_up_bps=5_000_000, session_timeout_s=600)
        server.account("classy", "classy", "secret")
        found = pairs.granted(login(server, "classy").split("Class = ")[1].split()[0])
        assert found is not None
        assert found.rate == "5M/20M"
        assert abs((found.until or 0) - time.time() - 600) <= 3


class TestDevices:
    def test_remembered_only_by_wish_and_only_at_the_own_gateway(self, server: RadiusServer) -> None:
        server.plan("family", devices=2)
        server.account("anna", "family", "secret")
        login(server, "anna", source=GATEWAY)
        login(server, "anna", more='Connect-Info = "remember"')
        assert devices(server, "anna") == set()
        assert "Access-Reject" in login(server, MAC, MAC, source=GATEWAY)
        login(server, "anna", source=GATEWAY, more='Connect-Info = "remember"')
        assert devices(server, "anna") == {"02:00:00:00:00:01"}
        answer = login(server, MAC, MAC)
        assert accepted(answer)
        assert 'User-Name = "anna"' in answer

    def test_wrong_passwords_remember_nothing(self, server: RadiusServer) -> None:
        server.account("eva", "family", "secret")
        login(server, "eva", "wrong", source=GATEWAY, more='Connect-Info = "remember"')
        assert devices(server, "eva") == set()

    def test_one_too_many_takes_the_place_of_the_one_longest_unused(self, server: RadiusServer) -> None:
        server.account("carl", "family", "secret")
        macs = [f"02-00-00-00-01-0{n}" for n in range(3)]
        for mac in macs[:2]:
            login(server, "carl", mac=mac, source=GATEWAY, more='Connect-Info = "remember"')
        with server.core():
            Device.update(used_at=Device.used_at - 100).where(Device.mac == pairs.mac(macs[1])).execute()
        login(server, "carl", mac=macs[2], source=GATEWAY, more='Connect-Info = "remember"')
        assert devices(server, "carl") == {pairs.mac(macs[0]), pairs.mac(macs[2])}

    def test_who_logs_out_is_forgotten(self, server: RadiusServer) -> None:
        server.account("dora", "family", "secret")
        mac = "02-00-00-00-02-01"
        login(server, "dora", mac=mac, source=GATEWAY, more='Connect-Info = "remember"')
        login(server, mac, mac, mac=mac, more='Connect-Info = "forget"')
        assert devices(server, "dora")
        login(server, mac, mac, mac=mac, source=GATEWAY, more='Connect-Info = "forget"')
        assert not devices(server, "dora")

    def test_another_device_can_not_use_its_name(self, server: RadiusServer) -> None:
        server.account("ed", "family", "secret")
        mac = "02-00-00-00-03-01"
        login(server, "ed", mac=mac, source=GATEWAY, more='Connect-Info = "remember"')
        assert "Access-Reject" in login(server, mac, mac, mac="02-00-00-00-03-99")

    @pytest.mark.parametrize("password", ["", "02:00:00:00:0A:01", "whatever"])
    def test_a_printer_has_an_account_of_its_macs_name(self, server: RadiusServer, password: str) -> None:
        with server.core():
            known = Account.select().where(Account.name == "02:00:00:00:0a:01").exists()
        if not known:
            server.account("02:00:00:00:0a:01", "family", "never used")
        assert accepted(login(server, "02:00:00:00:0A:01", password, mac="02:00:00:00:0A:01"))

    def test_an_account_in_its_routers_spelling(self, server: RadiusServer) -> None:
        server.account("02:00:00:00:0C:01", "family", "never used")
        for name in ("02:00:00:00:0C:01", "02-00-00-00-0C-01"):
            answer = login(server, name, "", mac="02:00:00:00:0C:01")
            assert accepted(answer) == (":" in name)

    def test_routers_dhcp_gets_an_address_by_mac(self, server: RadiusServer) -> None:
        server.account("02:00:00:00:0b:01", "family", "never used", address="198.51.100.77")
        answer = server.radclient(
            'User-Name = "02:00:00:00:0B:01"\nUser-Password = ""\nCalling-Station-Id = "1:2:0:0:0:b:1"\n'
            'NAS-Port-Type = Ethernet\nCalled-Station-Id = "dhcp1"'
        )
        assert "Framed-IP-Address = 198.51.100.77" in answer


def devices(server: RadiusServer, account: str) -> set[str]:
    with server.core():
        return {device.mac for device in Device.select().join(Account).where(Account.name == account)}


@pytest.fixture(scope="module")
def code(server: RadiusServer) -> str:
    server.plan("voucher", validity_s=3600)
    with server.core():
        price = {"price_minor": 500, "currency": "EUR"}
        batch = VoucherBatch.create(name="may", plan=Plan.get(name="voucher"), created_at=0, **price)
    server.account("abcdefgh23", "voucher", "abcdefgh23", batch=batch)
    return "abcdefgh23"


class TestVouchers:
    def test_its_first_login_is_a_sale_of_its_batchs_price(self, server: RadiusServer, code: str) -> None:
        def sold() -> list[tuple[str, int]]:
            with server.core():
                sales.record_first_logins(int(time.time()))
                return [(row.charge.account, row.amount_minor) for row in Payment.select()]

        assert sold() == []
        for _ in range(2):
            assert accepted(login(server, code, code))
            wait_until(lambda: sold() == [(code, 500)], 5, "the sale")

    @pytest.mark.parametrize("typed", ["abcdefgh23", "ABCD EFGH 23", "abcd-efgh-23"])
    def test_any_spelling_and_no_password(self, server: RadiusServer, code: str, typed: str) -> None:
        for password in (typed, ""):
            answer = login(server, typed, password)
            assert accepted(answer)
            assert (typed == code) == (f'User-Name = "{code}"' not in answer)
        assert "Access-Reject" in login(server, typed, "another")

    def test_chap_with_the_code_as_it_was_typed(self, server: RadiusServer, code: str) -> None:
        for typed in (code, "ABCD-EFGH-23"):
            assert accepted(server.radclient(f'User-Name = "{typed}"\nCHAP-Password = "{typed}"'))
            assert "Access-Reject" in server.radclient(f'User-Name = "{typed}"\nCHAP-Password = "x"')

    def test_other_accounts_names_are_taken_as_they_are(self, server: RadiusServer, code: str) -> None:
        server.account("strict", "voucher", "secret")
        assert "Access-Reject" in login(server, "STRICT")
        assert "Access-Reject" in login(server, "strict", "")

    def test_an_unused_one_expires(self, server: RadiusServer, code: str) -> None:
        with server.core():
            batch = VoucherBatch.create(
                name="old", plan=Plan.get(name="voucher"), created_at=0, unused_until=int(time.time()) - 5
            )
        server.account("old23456", "voucher", "old23456", batch=batch)
        server.account("old76543", "voucher", "old76543", batch=batch, first_login_at=int(time.time()) - 60)
        assert "had to be used before" in login(server, "old23456", "")
        assert accepted(login(server, "old76543", ""))


def test_of_two_at_once_at_a_limit_of_one_exactly_one_gets_in(server: RadiusServer) -> None:
    server.plan("single", simultaneous=1)
    with server.core():
        plan, sealed = Plan.get(name="single"), server.box.seal("secret")
        rows = [{"name": f"twin{n}", "plan": plan, "password": sealed, "created_at": 0} for n in range(RACES)]
        for start in range(0, RACES, 100):
            Account.insert_many(rows[start : start + 100]).execute()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
        router.bind((ROUTER, 0))
        router.connect(("127.0.0.1", server.config.radius.authentication_port))
        router.settimeout(5)
        outcomes = Counter(_race(router, server, n) for n in range(RACES))
    assert outcomes == {1: RACES}


def _race(router: socket.socket, server: RadiusServer, n: int) -> int:
    """How many of two devices got in that asked at the same time."""
    for device in (2 * n, 2 * n + 1):
        router.send(access_request(device, f"twin{n}", "secret", server.secret.encode()))
    return sum(router.recv(4096)[0] == ACCESS_ACCEPT for _ in range(2))
