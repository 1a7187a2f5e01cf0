from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config
from appliance.errors import ConfigError


def test_everything_has_a_default() -> None:
    assert config.parse("") == config.Config()
    assert config.Config().database_url == "sqlite:////var/lib/gatehouse/core/core.db"


def test_values_are_typed() -> None:
    text = """
    [site]
    timezone = "Europe/Prague"
    [gateway]
    address = "192.168.88.1/24"
    addresses = ["198.51.100.16/28"]
    [dhcp]
    first = "192.168.88.100"
    """
    read = config.parse(text)
    assert read.site.timezone.key == "Europe/Prague"
    assert read.dhcp_range == (IPv4Address("192.168.88.100"), IPv4Address("192.168.88.254"))
    assert read.gateway.addresses[0].prefixlen == 28


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gatway]", "[gatway]: unknown section (did you mean gateway?)"),
        ('[gateway]\nlann = "eth1"', "[gateway] lann: unknown key (did you mean lan?)"),
        (
            '[radius]\nauthentication_port = "1812"',
            "[radius] authentication_port: a whole number is needed, not '1812'",
        ),
        ("[radius]\nauthentication_port = true", "authentication_port: a whole number is needed, not True"),
        ("[radius]\nauthentication_port = 70000", "[radius] authentication_port: 70000 is not between 1 and 65535"),
        ('[site]\ntimezone = "Mars/Base"', "[site] timezone: a time zone such as"),
        ('[site]\ntimezone = "../../etc/passwd"', "[site] timezone: a time zone such as"),
        ('[site]\nname = "a\\nb"', "[site] name: line breaks and control characters can't be used here"),
        ('[gateway]\naddress = "10.0.0.1/31"', "[gateway] address: the guests' network needs"),
        ('[gateway]\nlan = "eth0"', "[gateway] lan and wan: two different network devices are needed"),
        ('[gateway]\nlan = "eth1; reboot"', "[gateway] lan: a network device's name has"),
        ('[gateway]\naddresses = "198.51.100.0/28"', "[gateway] addresses: a list in [ ] is needed"),
        ('[gateway]\naddresses = ["10.10.1.0/28"]', "[gateway] addresses: 10.10.1.0/28 overlaps"),
        ('[dhcp]\nfirst = "10.99.0.1"', "[dhcp] first: 10.99.0.1 is outside the guests' network 10.10.0.0/20"),
        ('[dhcp]\nfirst = "10.10.0.9"\nlast = "10.10.0.5"', "[dhcp] first: 10.10.0.9 comes after last"),
        ('[dhcp]\nfirst = "10.10.0.1"', "the range holds the gateway's own address"),
        ('[portal]\nhostname = "Login"', "[portal] hostname: write a full lower-case host name"),
        ('[portal]\ncertificate = "/a.pem"', "[portal] certificate and key: give both or neither"),
        ('[database]\nurl = "mysql://x"', "[database] url: use sqlite:////absolute/path or postgresql://"),
        ('[site]\nkey = "North"', "[site] key: a site's key has 1 to 32 small letters"),
        ("site = 3", "site: a section is needed: write [site]"),
        ("[site", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.parse(text, Path("/etc/box.toml"))
    assert said in str(error.value)
    assert str(error.value).startswith("/etc/box.toml: ")
    assert "\n" not in str(error.value)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        config.load(tmp_path / "none.toml")


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "box.toml"
    file.write_text('[site]\nname = "Lobby"')
    monkeypatch.setenv("GATEHOUSE_CONFIG", str(file))
    assert config.load().site.name == "Lobby"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="can't be read"):
        config.load(file)


@given(st.text())
def test_any_text_is_a_configuration_or_an_error_for_people(text: str) -> None:
    try:
        config.parse(text)
    except ConfigError as error:
        assert str(error)
