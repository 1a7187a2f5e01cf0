"""portal/dhcp.py: the text for dnsmasq, and reading what dnsmasq writes."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import Config, parse
from portal import dhcp
from portal.dhcp import Lease, lease_file, lease_of, read_leases, render

LINE = "1795478248 ee:d7:4a:80:53:c7 10.10.7.74 * 01:ee:d7:4a:80:53:c7\n"
LEASE = Lease("ee:d7:4a:80:53:c7", IPv4Address("10.10.7.74"), 1795478248, "")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dhcp, "READ_AGAIN_AFTER_S", 0.001)


def lines(text: str = "") -> list[str]:
    return render(parse(text)).splitlines()


def test_serves_the_guests_device_only() -> None:
    made = lines('[gateway]\nlan = "br0"')
    assert "interface=br0" in made
    assert "except-interface=lo" in made
    assert "bind-dynamic" in made


def test_gives_the_configured_range() -> None:
    made = lines('[dhcp]\nfirst = "10.10.1.0"\nlast = "10.10.1.99"\nlease_s = 600')
    assert "dhcp-range=10.10.1.0,10.10.1.99,255.255.240.0,600" in made
    assert "dhcp-lease-max=100" in made


def test_number_of_leases_is_bounded() -> None:
    assert "dhcp-lease-max=16384" in lines('[gateway]\naddress = "10.0.0.1/8"')


def test_leases_are_kept_below_state() -> None:
    assert "dhcp-leasefile=/srv/gh/dnsmasq/leases" in lines('[paths]\nstate = "/srv/gh"')
    assert lease_file(parse('[paths]\nstate = "/srv/gh"')) == Path("/srv/gh/dnsmasq/leases")


def test_portals_name_leads_to_the_gateway_and_nowhere_else() -> None:
    made = lines('[portal]\nhostname = "login.example.net"')
    assert "address=/login.example.net/10.10.0.1" in made
    assert "local=/login.example.net/" in made
    assert "rebind-domain-ok=/example.net/" in made


def test_upstream_is_configured_or_the_machines() -> None:
    assert "resolv-file=/etc/resolv.conf" in lines()
    made = lines('[dhcp]\ndns = ["192.0.2.1", "192.0.2.2"]')
    assert {"no-resolv", "server=192.0.2.1", "server=192.0.2.2"} <= set(made)
    assert not any(line.startswith("resolv-file") for line in made)


def test_option_114_only_with_a_certificate() -> None:
    """RFC 8910, 2: a certificate that phones don't trust would hide the portal from them."""
    assert not any(line.startswith("dhcp-option=114") for line in lines())
    made = lines('[portal]\nhostname = "login.example.net"\ncertificate = "/c.pem"\nkey = "/k.pem"')
    assert "dhcp-option=114,https://login.example.net/captive-portal/api" in made


def test_lease_file_is_read() -> None:
    named = "0 02:00:00:00:00:01 10.10.0.2 annas-phone *\n"
    assert list(read_leases(LINE + named)) == [
        LEASE,
        Lease("02:00:00:00:00:01", IPv4Address("10.10.0.2"), 0, "annas-phone"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        LINE[:-1],
        LINE[:30] + "\n",
        "\n",
        "duid 00:01:00:01:2c:8a\n",
        "1795478248 123456 fd00::2 * 00:01:00:01\n",
        "x ee:d7:4a:80:53:c7 10.10.7.74 * *\n",
        "\u0661 ee:d7:4a:80:53:c7 10.10.7.74 * *\n",
        "9999999999999 ee:d7:4a:80:53:c7 10.10.7.74 * *\n",
        "1 06-ee:d7:4a:80:53:c7 10.10.7.74 * *\n",
        "1 ee:d7:4a:80:53:c7 10.10.7.999 * *\n",
        "1 ee:d7:4a:80:53:c7 10.10.7.74 a\x07 *\n",
        f"1 ee:d7:4a:80:53:c7 10.10.7.74 {'a' * 256} *\n",
        "1 ee:d7:4a:80:53:c7 10.10.7.74 * * more\n",
    ],
)
def test_other_lines_are_left_out(line: str) -> None:
    assert list(read_leases(LINE + line)) == [LEASE]


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("0123456789abcdef:.* \n\r\x00\u2028é"), max_size=200))
def test_any_text_is_read(text: str) -> None:
    list(read_leases(text))


def test_lease_of_an_address(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_text(LINE + "1 02:00:00:00:00:01 10.10.0.2 * *\n")
    assert lease_of(path, LEASE.ip) == LEASE
    assert lease_of(path, IPv4Address("10.10.7.7")) is None
    assert lease_of(path, IPv4Address("10.0.7.74")) is None


def test_hostname_that_looks_like_an_address_is_nobodys_lease(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_text("1 02:00:00:00:00:01 10.10.0.2 10.10.7.74 *\n")
    assert lease_of(path, LEASE.ip) is None


def test_no_file_yet_means_no_lease(tmp_path: Path) -> None:
    assert lease_of(tmp_path / "leases", LEASE.ip) is None


def test_file_that_is_just_being_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = iter([b"", LINE[:-1].encode(), LINE.encode()])
    monkeypatch.setattr(dhcp, "content", lambda path: next(reads))
    assert lease_of(Path("leases"), LEASE.ip) == LEASE


def test_last_lease_of_a_full_network_is_found(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    config = Config()
    first = config.dhcp_range[0]
    made = [f"1795478248 02:00:00:00:{n >> 8:02x}:{n & 255:02x} {first + n} * *\n" for n in range(4000)]
    path.write_text("".join(made))
    lease = lease_of(path, first + 3999)
    assert lease is not None
    assert lease.mac == "02:00:00:00:0f:9f"
