"""RouterOS played from its recorded attributes against the real FreeRADIUS: login, accounting, and what was counted."""

import re
import time
from collections.abc import Iterator

import pytest

from appliance.accounts.models import Session
from tests.lab import recorded
from tests.lab.radius import RadiusServer, radius_server

PASSWORD = "correct horse"
WITH_PASSWORD = ("hotspot_chap", "hotspot_pap", "hotspot_mac_cookie", "pppoe")


@pytest.fixture(scope="module")
def server() -> Iterator[RadiusServer]:
    with radius_server() as server:
        server.plan("home", rate_down_bps=20_000_000, rate_up_bps=5_000_000)
        server.account("bob", "home", PASSWORD)
        server.start()
        yield server


@pytest.mark.parametrize("kind", WITH_PASSWORD)
def test_a_login_is_granted(server: RadiusServer, kind: str) -> None:
    answer = server.radclient(recorded.packets(kind, "bob", PASSWORD, session=kind)["login"])
    assert "Received Access-Accept" in answer, answer
    assert 'Mikrotik-Rate-Limit = "5M/20M"' in answer
    wrong = recorded.packets(kind, "bob", "wrong", session=kind)["login"]
    assert "Received Access-Reject" in server.radclient(wrong)


@pytest.mark.parametrize("kind", recorded.KINDS)
def test_every_attribute_is_known_and_the_whole_session_is_counted(server: RadiusServer, kind: str) -> None:
    now = int(time.time())
    packets = recorded.packets(kind, "bob", PASSWORD, session=f"{kind}-1", at=now)
    assert tuple(packets) == recorded.PACKETS
    sent = server.radclient(packets["login"])
    assert re.search(r"Received Access-(Accept|Reject)", sent), sent
    for name in ("start", "interim", "stop"):
        assert "Received Accounting-Response" in server.radclient(packets[name], "acct"), name
    with server.core():
        session = Session.get(Session.acct_session_id == f"{kind}-1")
    assert (session.nas, session.framed_ip) == ("router", "10.5.50.253")
    assert session.account == ("bob" if kind in WITH_PASSWORD else recorded.MAC)
    assert (session.input_octets, session.output_octets) == (1_200_000, 2**32 + 700_000)
    assert session.terminate_cause == "User-Request"
    assert session.ended_at is not None
