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


def test_reply_has_the_upload_first_and_quota_in_gigawords() -> None:
    grant = Grant(RATE, session_timeout_s=90, quota_left_bytes=2**32 + 7, address="198.51.100.9", pool_id=None)
    reply = {name: value for name, _, value in pairs.reply_pairs(grant, b"\x01\xff", 300)}
    assert reply == {
        "Class": "0x01ff",
        "Acct-Interim-Interval": "300",
        "Mikrotik-Rate-Limit": "5M/20M",
        "WISPr-Bandwidth-Max-Up": "5000000",
        "WISPr-Bandwidth-Max-Down": "20000000",
        "Session-Timeout": "90",
        "Mikrotik-Total-Limit": "7",
        "Mikrotik-Total-Limit-Gigawords": "1",
        "Framed-IP-Address": "198.51.100.9",
    }


def test_no_limits_no_attributes() -> None:
    grant = Grant(RateLimit(), None, None, None, None)
    assert [name for name, _, _ in pairs.reply_pairs(grant, b"", 300)] == ["Class", "Acct-Interim-Interval"]


def test_numbers_that_do_not_fit_are_cut_or_left_out() -> None:
    grant = Grant(RateLimit(up_bps=5 * 10**9, down_bps=1), 2**40, None, None, None)
    reply = {name: value for name, _, value in pairs.reply_pairs(grant, b"", 300)}
    assert reply["Session-Timeout"] == str(2**32 - 1)
    assert "WISPr-Bandwidth-Max-Up" not in reply
    assert reply["Mikrotik-Rate-Limit"] == "5000M/1"


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


def test_a_clock_that_is_a_day_off_is_not_believed() -> None:
    assert pairs.accounting_packet(REQUEST | {"Tmp-Integer-0": "120"}, now=1_700_000_101).at == 1_700_000_061


@pytest.mark.parametrize("name", ["Acct-Status-Type", "Acct-Unique-Session-Id", "Tmp-String-0"])
def test_what_accounting_can_not_do_without(name: str) -> None:
    with pytest.raises(KeyError):
        pairs.accounting_packet({k: v for k, v in REQUEST.items() if k != name}, now=0)
