"""Site facts: what a technician may write, and what becomes of it."""

from pathlib import Path

import pytest

from appliance import first_boot, provision
from appliance.errors import ConfigError

FILE = Path("site.toml")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1 technician"
WHOLE = f"""# the café in the north
[provision]
hostname = "cafe-nord"   # as its sticker says
ssh_authorized_keys = ["{KEY}"]
modules = []
wan_address = "192.0.2.10/24"
wan_gateway = "192.0.2.1"
wan_dns = ["192.0.2.53"]

[site]
name = "Café [provision] Nord"

[gateway]
wan = "enp1s0"
lan = "enp2s0"
"""


def parse(text: str, *devices: str) -> provision.Facts:
    return provision.parse(text, FILE, devices, ("hotspot",))


def test_one_file_tells_of_the_machine_and_of_the_configuration() -> None:
    facts = parse(WHOLE)
    assert facts.machine.hostname == "cafe-nord"
    assert facts.machine.ssh_authorized_keys == (KEY,)
    assert facts.machine.modules == ()
    assert facts.config.site.name == "Café [provision] Nord"
    assert (facts.config.gateway.wan, facts.config.gateway.lan) == ("enp1s0", "enp2s0")
    assert "# the café in the north" in facts.text
    assert "hostname" not in facts.text


@pytest.mark.parametrize(
    ("devices", "wan", "lan"),
    [
        (("enp1s0", "enp2s0", "enp3s0"), "enp1s0", "enp2s0"),
        (("enp1s0",), "enp1s0", "guests"),
        ((), "eth0", "guests"),
    ],
)
def test_a_box_that_is_told_nothing_comes_up(devices: tuple[str, ...], wan: str, lan: str) -> None:
    facts = parse("", *devices)
    assert (facts.config.gateway.wan, facts.config.gateway.lan) == (wan, lan)
    assert facts.machine.modules == ("hotspot",)
    assert facts.config.admin.tls
    made = provision.networks(facts.config, facts.machine, devices)
    assert ("10-gatehouse-lan.netdev" in made) == (lan == "guests")
    assert f"Name={wan}\n" in made["10-gatehouse-wan.network"]
    assert "DHCP=ipv4\n" in made["10-gatehouse-wan.network"]


def test_a_fixed_address_of_the_provider() -> None:
    facts = parse(WHOLE)
    text = provision.networks(facts.config, facts.machine, ("enp1s0", "enp2s0"))["10-gatehouse-wan.network"]
    assert "Address=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.53\n" in text
    assert "DHCP" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[provision\n", "not valid TOML"),
        ('provision = "x"\n', r"write \[provision\] on a line"),
        ('[provision]\nhostname = "Café"\n', "hostname: 1 to 63"),
        ('[provision]\nhostname = "a\\nb"\n', "line breaks"),
        ('[provision]\nhost = "a"\n', "did you mean hostname"),
        ('[provision]\nmodules = ["hotpsot"]\n', "there is no module 'hotpsot'"),
        ('[provision]\nssh_authorized_keys = ["-----BEGIN OPENSSH PRIVATE KEY-----"]\n', "isn't a line of an OpenSSH"),
        ('[provision]\nssh_authorized_keys = ["command=x ssh-ed25519 AAAA"]\n', "isn't a line of an OpenSSH"),
        ('[provision]\nwan_address = "192.0.2.10/24"\n', "give both or neither"),
        ("[provision.more]\na = 1\n", "unknown key"),
        ('[gateway]\nwan = "a/b"\n', r"\[gateway\] wan"),
        ('a = """\n[provision]\n"""\n', "write it as one section"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^site.toml: .*{said}"):
        parse(text)


def test_devices_are_counted_as_people_do(tmp_path: Path) -> None:
    for name, kind, hardware in (
        ("enp10s0", "1", True),
        ("enp2s0", "1", True),
        ("lo", "772", False),
        ("br0", "1", False),
        ("wlan0", "1", True),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "type").write_text(f"{kind}\n")
        if hardware:
            (folder / "device").mkdir()
    (tmp_path / "wlan0" / "wireless").mkdir()
    assert first_boot.ethernet(tmp_path) == ("enp2s0", "enp10s0")
