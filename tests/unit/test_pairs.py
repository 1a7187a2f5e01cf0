import pytest

from rlm_python import pairs
from rlm_python.authorization import Grant
from rlm_python.speed_limits import RateLimit

RATE = RateLimit(up_bps=5_000_000, down_bps=20_000_000)


@pytest.mark.parametrize(
    "text", ["AA-BB-CC-00-11-22", "aa:bb:cc:00:11:22", "aabb.cc00.1122", "AABBCC001122", "AABBCC-001122"]
)
def test_a_mac_in_any_spelling(text: str) -> None:
    assert pairs.mac(text) == "aa:bb:cc:00:11:22"


@pytest.mark.parametrize("text", ["", "ether1", "AA-BB-CC-00-11", "a" * 500, "AA-BB-CC-00-11-22:Guest SSID"])
def test_what_is_no_mac_stays_but_is_bounded(text: str) -> None:
    assert pairs.mac(text) == text[:64]


def reply(grant: Grant, kind: str) -> dict[str, str]:
    return {name: value for name, _, value in pairs.reply_pairs(grant, kind, "0x01ff", 300)}


def test_mikrotik_has_the_upload_first_and_quota_in_gigawords() -> None:
    grant = Grant(RATE, session_timeout_s=90, quota_left_bytes=2**32 + 7, address="198.51.100.9", pool_id=None)
    assert reply(grant, "mikrotik") == {
        "Class": "0x01ff",
        "Acct-Interim-Interval": "300",
        "Mikrotik-Rate-Limit": "5M/20M",
        "Session-Timeout": "90",
        "Mikrotik-Total-Limit": "7",
        "Mikrotik-Total-Limit-Gigawords": "1",
        "Framed-IP-Address": "198.51.100.9",
    }


@pytest.mark.parametrize("kind", ["chilli", "other"])
def test_others_get_wispr_and_chillispot(kind: str) -> None:
    grant = Grant(RATE, None, 2**33 + 9, None, None, idle_timeout_s=600)
    assert reply(grant, kind) == {
        "Class": "0x01ff",
        "Acct-Interim-Interval": "300",
        "WISPr-Bandwidth-Max-Up": "5000000",
        "WISPr-Bandwidth-Max-Down": "20000000",
        "ChilliSpot-Bandwidth-Max-Up": "5000",
        "ChilliSpot-Bandwidth-Max-Down": "20000",
        "Idle-Timeout": "600",
        "ChilliSpot-Max-Total-Octets": "9",
        "ChilliSpot-Max-Total-Gigawords": "2",
    }


def test_a_quota_that_slows_down_cuts_nobody() -> None:
    grant = Grant(RATE, None, 1000, None, None, slows=True)
    assert (
        reply(grant, "gateway").items()
        >= {"Mikrotik-Total-Limit": "1000", "Termination-Action": "RADIUS-Request"}.items()
    )
    assert "Mikrotik-Total-Limit" not in reply(grant, "mikrotik")
    assert "ChilliSpot-Max-Total-Octets" not in reply(grant, "chilli")


def test_a_pool_of_the_router_is_named_to_routers_only() -> None:
    grant = Grant(RATE, None, None, None, 3, router_pool="guests")
    assert reply(grant, "mikrotik")["Framed-Pool"] == "guests"
    assert "Framed-Pool" not in reply(grant, "gateway")


def test_filter_vlan_and_free_attributes() -> None:
    grant = Grant(
        RATE, None, None, None, None, filter_id="kids", vlan=30, attributes="Port-Limit = 2\nReply-Message = a = b"
    )
    assert (
        reply(grant, "other").items()
        >= {
            "Filter-Id": "kids",
            "Tunnel-Type": "VLAN",
            "Tunnel-Medium-Type": "IEEE-802",
            "Tunnel-Private-Group-Id": "30",
            "Port-Limit": "2",
            "Reply-Message": "a = b",
        }.items()
    )


def test_no_limits_no_attributes() -> None:
    for kind in ("mikrotik", "other"):
        assert list(reply(Grant(RateLimit(), None, None, None, None), kind)) == ["Class", "Acct-Interim-Interval"]


def test_numbers_that_do_not_fit_are_cut_or_left_out() -> None:
    grant = Grant(RateLimit(up_bps=5 * 10**9, down_bps=1), 2**40, None, None, None)
    assert reply(grant, "mikrotik")["Session-Timeout"] == str(2**32 - 1)
    assert reply(grant, "mikrotik")["Mikrotik-Rate-Limit"] == "5000M/1"
    assert "WISPr-Bandwidth-Max-Up" not in reply(grant, "other")
    assert reply(grant, "other")["ChilliSpot-Bandwidth-Max-Up"] == "5000000"


@pytest.mark.parametrize(
    ("timeout_s", "quota", "until", "octets"), [(60, 5, 1060, 5), (None, None, None, None), (1, 0, 1001, 0)]
)
def test_class_brings_back_what_was_granted(
    timeout_s: int | None, quota: int | None, until: int | None, octets: int | None
) -> None:
    text = pairs.session_class(b"12345678", Grant(RATE, timeout_s, quota, None, None), "mikrotik", now=1000)
    assert pairs.granted(text) == ("5M/20M", until, octets)
    assert len(text) < 2 * 253


@pytest.mark.parametrize("text", ["", "0x", "0x0102", "bob", "0x" + "ff" * 100, "0x0"])
def test_a_foreign_class_says_nothing(text: str) -> None:
    assert pairs.granted(text) is None


def test_notes_come_back() -> None:
    notes = pairs.Notes(7, True, 3, 1, 2, False)
    assert pairs.Notes.parse(notes.text()) == notes


@pytest.mark.parametrize("text", ["1:aa:bb:cc:0:11:2", "1:AA:BB:CC:00:11:02"])
def test_a_dhcp_client_identifier_holds_a_mac(text: str) -> None:
    assert pairs.mac(text) == "aa:bb:cc:00:11:02"


REQUEST = {
    "Acct-Status-Type": "Stop",
    "Acct-Unique-Session-Id": "abc",
    "Acct-Session-Id": "80000001",
    "Class": "0x0102",
    "User-Name": "bob",
    "Tmp-String-0": "attic",
    "Tmp-Integer-0": "1700000100",
    "Acct-Delay-Time": "40",
    "Acct-Input-Octets": "5",
    "Acct-Input-Gigawords": "2",
    "Calling-Station-Id": "AA-BB-CC-00-11-22",
}


def test_accounting_packet() -> None:
    packet = pairs.accounting_packet(REQUEST, now=1_700_000_101)
    assert packet.unique_id == "abc0102"
    assert packet.at == 1_700_000_060
    assert packet.input_octets == 2 * 2**32 + 5
    assert packet.mac == "aa:bb:cc:00:11:22"


@pytest.mark.parametrize("off_s", [-1_699_999_981, -86_000, -3 * 3600, -61, 1, 7, 86_000])
def test_a_clock_that_is_off_is_not_believed(off_s: int) -> None:
    """Hours behind it would end sessions and move usage to yesterday, ahead it would keep ghosts alive."""
    request = REQUEST | {"Tmp-Integer-0": str(1_700_000_101 + off_s)}
    assert pairs.accounting_packet(request, now=1_700_000_101).at == 1_700_000_061


@pytest.mark.parametrize("name", ["Acct-Status-Type", "Acct-Unique-Session-Id", "Tmp-String-0"])
def test_what_accounting_can_not_do_without(name: str) -> None:
    with pytest.raises(KeyError):
        pairs.accounting_packet({k: v for k, v in REQUEST.items() if k != name}, now=0)
