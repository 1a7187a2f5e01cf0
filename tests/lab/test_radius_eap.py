"""WPA-Enterprise on the same accounts: a real supplicant against the real FreeRADIUS with our rules."""

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from appliance.accounts import manage
from appliance.accounts.models import Account, Device, Plan, Pool, PoolAddress, VoucherBatch
from tests.lab import mschap
from tests.lab.eapol import MAC, login
from tests.lab.radius import RadiusServer, radius_server

ZONE = ZoneInfo("Europe/Prague")
USER_NAME, SESSION_TIMEOUT, FRAMED_IP, FRAMED_MTU, REPLY_MESSAGE, CLASS = 1, 27, 8, 12, 18, 25
MESSAGE_AUTHENTICATOR = 80
MICROSOFT, MIKROTIK = 311, 14988
SEND_KEY, RECV_KEY, RATE_LIMIT = 16, 17, 8
METHODS = {
    "PEAP-MSCHAPv2": ("PEAP", "auth=MSCHAPV2"),
    "TTLS-PAP": ("TTLS", "auth=PAP"),
    "TTLS-MSCHAPv2": ("TTLS", "auth=MSCHAPV2"),
    "TTLS-CHAP": ("TTLS", "auth=CHAP"),
    "TTLS-EAP-MSCHAPv2": ("TTLS", "autheap=MSCHAPV2"),
}
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def server() -> Iterator[RadiusServer]:
    with radius_server('[site]\ntimezone = "Europe/Prague"\n') as server:
        server.plan("home", rate_down_bps=20_000_000, rate_up_bps=5_000_000, session_timeout_s=3600)
        server.account("bob", "home", "correct horse")
        server.start()
        yield server


def lines_of(server: RadiusServer, before: int) -> list[str]:
    """What operators read of each login: the tunnel's own line beside it is left out."""
    return [line for line in server.log()[before:].splitlines() if "Auth: " in line and "via TLS tunnel" not in line]


@every_method
def test_right_password_and_all_limits(server: RadiusServer, method: str) -> None:
    before = len(server.log())
    outcome = login(server, "bob", "correct horse", *METHODS[method])
    assert outcome.success, outcome.printed
    assert outcome.of_vendor(MIKROTIK, RATE_LIMIT) == [b"5M/20M"]
    assert outcome.values(SESSION_TIMEOUT) == ["3600"]
    assert len(outcome.values(CLASS)) == 1
    assert len(outcome.values(MESSAGE_AUTHENTICATOR)) == 1
    assert outcome.values(FRAMED_MTU) == outcome.values(REPLY_MESSAGE) == []
    assert len(outcome.of_vendor(MICROSOFT, SEND_KEY)) == len(outcome.of_vendor(MICROSOFT, RECV_KEY)) == 1
    assert outcome.values(USER_NAME) == ["bob"]  # accounting is to name the account, not the outer identity
    with server.core():
        assert Account.get(name="bob").first_login_at is not None
    (line,) = lines_of(server, before)
    assert "Login OK (WPA-Enterprise): [bob] (from client router port 0 cli 02-00-00-00-0E-A9)" in line


@every_method
def test_wrong_password_and_unknown_account(server: RadiusServer, method: str) -> None:
    for user in ("bob", "nobody"):
        before = len(server.log())
        outcome = login(server, user, "hunter2-wrong", *METHODS[method])
        assert not outcome.success
        assert outcome.accept == []
        (line,) = lines_of(server, before)
        assert re.search(rf"Login incorrect \(.+\): \[{user}\] \(from client router .* cli 02-00-00-00-0E-A9\)", line)
        assert ("unknown account" in line) == (user == "nobody")
    assert "hunter2" not in server.log()


@every_method
def test_outside_the_window(server: RadiusServer, method: str) -> None:
    first, last = (datetime.now(ZONE) + timedelta(hours=hours) for hours in (2, 3))
    name = f"closed-{method}"
    server.plan(name, windows=f"daily {first:%H:%M}-{last:%H:%M}")
    server.account(name, name, "secret")
    before = len(server.log())
    outcome = login(server, name, "secret", *METHODS[method])
    assert not outcome.success
    assert outcome.accept == []
    (line,) = lines_of(server, before)
    assert "Login incorrect (Your plan allows" in line
    assert f"[{name}]" in line
    assert "Reply-Message" not in outcome.printed


@every_method
def test_an_address_of_the_pool_is_taken_once(server: RadiusServer, method: str) -> None:
    name = f"pool-{method}"
    network = f"198.18.{list(METHODS).index(method)}"
    with server.core():
        manage.add_pool(name, f"{network}.10", f"{network}.13")
        manage.add(Plan, "plan", name=name, pool=manage.get(Pool, name, "pool"))
    server.account(name, name, "secret")
    outcome = login(server, name, "secret", *METHODS[method])
    assert outcome.success
    (given,) = outcome.values(FRAMED_IP)
    with server.core():
        held = [a.ip for a in PoolAddress.select().where(PoolAddress.mac == MAC) if a.ip.startswith(network)]
        assert held == [given]


def test_the_rules_run_at_each_login_also_when_the_phone_asks_to_resume(server: RadiusServer) -> None:
    before = len(server.log())
    assert login(server, "bob", "correct horse", again=2).success
    assert server.log()[before:].count("via TLS tunnel") == 3


def test_an_empty_pool_is_a_refusal_with_one_line(server: RadiusServer) -> None:
    with server.core():
        manage.add_pool("small", "198.51.100.1", "198.51.100.1")
        manage.add(Plan, "plan", name="small", pool=manage.get(Pool, "small", "pool"))
        PoolAddress.update(account=Account.get(name="bob"), mac="x", held_until=2**40).where(
            PoolAddress.ip == "198.51.100.1"
        ).execute()
    server.account("late", "small", "secret")
    before = len(server.log())
    assert not login(server, "late", "secret").success
    (line,) = lines_of(server, before)
    assert "All addresses of your plan are in use" in line


def test_a_phone_that_knows_another_authority_gives_nothing_away(server: RadiusServer) -> None:
    with radius_server() as stranger:
        other = server.folder / "other-ca.pem"
        other.write_text(stranger.authority())
    before = len(server.log())
    assert not login(server, "bob", "correct horse", ca_cert=f'"{other}"').success
    assert "via TLS tunnel" not in server.log()[before:]


@pytest.mark.parametrize("method", ["MD5", "MSCHAPV2"])
def test_eap_without_a_tunnel_is_refused(server: RadiusServer, method: str) -> None:
    outcome = login(server, "bob", "correct horse", method=method, anonymous_identity='"bob"')
    assert not outcome.success
    assert outcome.accept == []


def test_old_tls_is_refused(server: RadiusServer) -> None:
    old = "tls_disable_tlsv1_0=0 tls_disable_tlsv1_1=0 tls_disable_tlsv1_2=1 tls_disable_tlsv1_3=1"
    assert not login(server, "bob", "correct horse", phase1=f'"{old}"', openssl_ciphers='"DEFAULT@SECLEVEL=0"').success


def test_what_the_guest_claims_inside_of_the_tunnel_changes_nothing(server: RadiusServer) -> None:
    """The outer identity of another account is only a name on an envelope."""
    server.account("rich", "home", "riches")
    outcome = login(server, "bob", "correct horse", anonymous_identity='"rich"')
    assert outcome.values(USER_NAME) == ["bob"]


def test_a_mac_address_opens_no_tunnel(server: RadiusServer) -> None:
    """A device that its account remembers logs in at the hotspot by its address, which everybody in the air hears."""
    server.plan("family", devices=2)
    server.account("carol", "family", "secret")
    with server.core():
        now = int(time.time())
        Device.create(mac=MAC, account=Account.get(name="carol"), added_at=now, used_at=now)
    try:
        plain = f'User-Name = "{MAC}"\nUser-Password = "x"\nCalling-Station-Id = "{MAC}"'
        assert "Received Access-Accept" in server.radclient(plain)
        for method in METHODS.values():
            outcome = login(server, MAC, MAC, *method)
            assert not outcome.success
            assert outcome.accept == []
    finally:
        with server.core():
            Device.delete().execute()


@pytest.mark.parametrize("method", ["PEAP-MSCHAPv2", "TTLS-PAP"])
def test_a_voucher_is_name_and_password_in_one(server: RadiusServer, method: str) -> None:
    code = "k7m2p9qx" if method == "TTLS-PAP" else "k7m2p9qy"
    with server.core():
        plan, now = Plan.get(name="home"), int(time.time())
        batch = VoucherBatch.create(name=method, plan=plan, created_at=now)
        Account.create(name=code, plan=plan, password=server.box.seal(code), batch=batch, created_at=now)
    assert not login(server, code, "guessed", *METHODS[method]).success
    for _ in range(2):  # the first login is written down
        outcome = login(server, code.upper(), code.upper(), *METHODS[method])
        assert outcome.success
        assert outcome.values(USER_NAME) == [code]


def test_hostile_eap_is_survived(server: RadiusServer) -> None:
    for junk in ("0x", "0x02", "0x0201000419", "0x02010006190000", "0x0201ffff1980", "0xff" * 1, "0x02010005" + "19"):
        answer = server.radclient(f'User-Name = "x"\nEAP-Message = {junk}', timeout=1)
        assert "Received Access-Accept" not in answer
    assert server.alive()
    assert login(server, "bob", "correct horse").success


def test_mppe_keys_for_pppoe(server: RadiusServer) -> None:
    answer = server.radclient(mschap.request("bob", "correct horse")[0])
    assert "MS-MPPE-Send-Key = 0x" in answer
    assert "MS-MPPE-Encryption-Policy = Encryption-Allowed" in answer
