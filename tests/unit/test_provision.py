"""Site facts: what a technician may write, and what becomes of it."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from appliance import config as configuration
from appliance import first_boot, provision
from appliance.config import Config
from appliance.errors import ConfigError, UserError
from appliance.service import Module

FILE = Path("site.toml")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJeAZy3Yz+OSQ5aodwQpaIgT7PC+SCKgi6MblG62HgQp technician"
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


@contextlib.contextmanager
def written(path: Path, mode: int, user: str, group: str) -> Iterator[io.BytesIO]:
    """Files of nobody in particular."""
    with io.BytesIO() as file:
        yield file
        path.write_bytes(file.getvalue())


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


@pytest.mark.parametrize(
    ("text", "wan", "lan"),
    [
        ("[gateway]\nenabled = false\n", "enp1s0", "enp2s0"),
        ('[gateway]\nwan = "enp2s0"\n', "enp2s0", "enp1s0"),
        ('[gateway]\nlan = "enp1s0"\n', "enp2s0", "enp1s0"),
        ('[gateway]\nlan = "br0" # of my own\n\n[site]\nname = "x"\n', "enp1s0", "br0"),
    ],
)
def test_a_section_that_leaves_a_device_out(text: str, wan: str, lan: str) -> None:
    facts = parse(text + "[admin]\nport = 8443\n", "enp1s0", "enp2s0")
    assert (facts.config.gateway.wan, facts.config.gateway.lan) == (wan, lan)
    assert (str(facts.config.admin.listen), facts.config.admin.port) == ("0.0.0.0", 8443)  # noqa: S104
    assert ("# of my own" in facts.text) == ("# of my own" in text)


def test_a_box_whose_devices_have_other_names_is_reached_all_the_same() -> None:
    facts = parse(WHOLE)
    made = provision.networks(facts.config, facts.machine, ("enp2s0", "enp5s0"))
    spare = made["90-gatehouse-spare.network"]
    assert "Name=enp5s0\n" in spare and "Address=192.0.2.10/24\n" in spare
    for devices, present in ((("enp1s0", "enp5s0"), ()), (("enp5s0",), ("enp1s0",)), (("enp2s0",), ())):
        assert "90-gatehouse-spare.network" not in provision.networks(facts.config, facts.machine, devices, present)


class TestTakeIn:
    """What a technician adds to the file of a box that was set up since."""

    @pytest.fixture(autouse=True)
    def box(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(configuration, "DEFAULT_FILE", tmp_path / "gatehouse.toml")
        monkeypatch.setattr(first_boot, "_kept_file", lambda: tmp_path / "kept.toml")
        monkeypatch.setattr("pwd.getpwuid", lambda _: SimpleNamespace(pw_dir=tmp_path))
        monkeypatch.setattr(first_boot, "written", written)
        monkeypatch.setattr("appliance.modules.set_enabled", self.set_enabled)
        self.enabled: set[str] = set()
        self.take_in(WHOLE.replace("modules = []", 'modules = ["hotspot"]'))
        assert self.enabled == {"hotspot"}
        return tmp_path

    def set_enabled(self, config: Config, module: Module, on: bool) -> None:
        self.enabled = (self.enabled | {module.name}) if on else (self.enabled - {module.name})

    def take_in(self, text: str) -> None:
        first_boot.take_in(parse(text), text, first_boot._facts_before(()))

    def test_a_key_takes_nothing_away(self, box: Path) -> None:
        (box / "gatehouse.toml").write_text("# set on the pages\n")
        (box / ".ssh/authorized_keys").write_text(f"{KEY}\nby hand\n")
        self.enabled.add("netflow")
        other = KEY.replace("technician", "owner")
        text = WHOLE.replace("modules = []", 'modules = ["hotspot"]').replace(KEY, other)
        self.take_in(f"# the owner's, who was locked out\n{text}")
        assert (box / "gatehouse.toml").read_text() == "# set on the pages\n"
        assert not (box / "gatehouse.toml.before").exists()
        assert (box / ".ssh/authorized_keys").read_text() == f"by hand\n{other}\n"
        assert self.enabled == {"hotspot", "netflow"}

    def test_what_was_set_on_the_pages_is_kept_beside_also_after_a_second_edit(self, box: Path) -> None:
        (box / "gatehouse.toml").write_text("# set on the pages\n")
        for name in ("Nrod", "Nord"):
            self.take_in(WHOLE.replace("modules = []", 'modules = ["hotspot"]').replace("] Nord", f"] {name}!"))
            assert f"{name}!" in (box / "gatehouse.toml").read_text()
            assert (box / "gatehouse.toml.before").read_text() == "# set on the pages\n"

    def test_a_power_cut_between_two_files_loses_nothing(self, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (box / "gatehouse.toml").write_text("# set on the pages\n")
        text = WHOLE.replace("Nord", "Süd")
        with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
            broken.setattr(first_boot, "_authorize", Mock(side_effect=KeyboardInterrupt))
            self.take_in(text)
        self.take_in(text)
        assert (box / "gatehouse.toml.before").read_text() == "# set on the pages\n"
        assert self.enabled == set()
        assert first_boot._kept() == text


def test_facts_whose_name_an_editor_changed_are_told(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    assert first_boot._read(site) is None
    (tmp_path / "site.toml.txt").write_text(WHOLE)
    with pytest.raises(UserError, match=r"site\.toml\.txt: isn't read: rename it to site\.toml$"):
        first_boot._read(site)
    site.write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert first_boot._read(site) == WHOLE


def test_what_is_wrong_stands_above_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_boot, "written", written)
    monkeypatch.setattr(first_boot, "ISSUES", tmp_path / "issue.d")
    first_boot.show("apply", "no image, no folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "issue.d").mkdir()
    first_boot.show("apply", r"a \4 is an address to agetty")
    assert (tmp_path / "issue.d/gatehouse-apply.issue").read_text() == "\na \\\\4 is an address to agetty\n"


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
        ('[provision]\nwan_address = "192.0.2.10/24"\n', "give all three"),
        ('[provision]\nwan_address = "192.0.2.10/24"\nwan_gateway = "192.0.2.1"\n', "give all three"),
        (WHOLE.replace("10/24", "10"), "is the prefix right"),
        (WHOLE.replace('192.0.2.1"', '192.0.3.1"'), "is no neighbour of 192.0.2.10/24"),
        (WHOLE.replace(KEY, KEY.removesuffix(" technician")[:-8]), "isn't whole"),
        (WHOLE.replace(KEY, KEY.replace("ssh-ed25519", "ssh-rsa")), "isn't whole"),
        (f"a = {'[' * 5000}", "not valid TOML"),
        (f"a = {'9' * 5000}", "not valid TOML"),
        ("gateway = 3\n", "gateway"),
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
