"""Keys, addresses and the file of the tunnels, held against wireguard-tools."""

import base64
import stat
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from appliance import config
from appliance.errors import UserError
from appliance.nas import tunnel
from appliance.nas.models import Nas

NETWORK = IPv4Network("10.99.0.0/29")


def test_keys_are_those_of_wg() -> None:
    private, public = tunnel.new_keys()
    said = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()
    assert said == public
    assert tunnel.new_keys()[0] != private
    for key in (tunnel.new_keys()[0] for _ in range(20)):
        raw = base64.b64decode(key)
        assert (raw[0] & 7, raw[31] >> 6) == (0, 1), "clamped as `wg genkey` does it"
    made = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout.strip()
    said = subprocess.run(["wg", "pubkey"], input=made, capture_output=True, text=True, check=True).stdout.strip()
    assert tunnel.public_key(made) == said


def test_addresses_are_given_from_the_second_on_until_none_is_left() -> None:
    assert tunnel.server_address(NETWORK) == IPv4Address("10.99.0.1")
    taken: list[IPv4Address] = []
    for _ in range(5):
        taken.append(tunnel.free_address(NETWORK, taken))
    assert [str(address) for address in taken] == [f"10.99.0.{n}" for n in range(2, 7)]
    taken.remove(IPv4Address("10.99.0.4"))
    assert tunnel.free_address(NETWORK, taken) == IPv4Address("10.99.0.4")
    with pytest.raises(UserError, match=r"all addresses of 10\.99\.0\.0/29 are taken"):
        tunnel.free_address(NETWORK, [*taken, IPv4Address("10.99.0.4")])


def test_the_servers_key_is_made_once_and_is_roots(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    key = tunnel.server_key(tmp_path)
    assert tunnel.server_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "keys/tunnel.key").stat().st_mode) == 0o600
    (tmp_path / "keys/tunnel.key").write_text("nonsense\n")
    with pytest.raises(UserError, match="no WireGuard key"):
        tunnel.server_key(tmp_path)


def _settled(folder: Path, more: str = "") -> config.Config:
    (folder / "keys").mkdir(exist_ok=True)
    return config.parse(f'[paths]\nstate = "{folder}"\n[tunnel]\nenabled = true\n{more}')


def test_the_file_has_a_peer_for_each_router_whose_key_is_known(core: str, tmp_path: Path) -> None:
    _, public = tunnel.new_keys()
    Nas.create(name="attic", address="10.99.0.2", tunnel_address="10.99.0.2", tunnel_key=public, secret=b"")
    Nas.create(name="barn", address="10.99.0.3", tunnel_address="10.99.0.3", secret=b"")
    Nas.create(name="cellar", address="192.0.2.7", secret=b"")
    settled = _settled(tmp_path)
    file, own = tunnel.render(settled)
    assert (file.path, file.owner, file.group, file.mode) == ("tunnel.conf", "root", "gatehouse-tunnel", 0o640)
    assert (own.path, own.group) == ("tunnel.pub", "gatehouse-core")
    assert own.text == tunnel.public_key(tunnel.server_key(tmp_path))
    conf = tmp_path / "gatehouse.conf"
    conf.write_text(file.text)
    conf.chmod(0o600)
    stripped = subprocess.run(["wg-quick", "strip", conf], capture_output=True, text=True, check=True).stdout
    assert stripped.strip() == file.text.strip()
    assert f"[Peer]\nPublicKey = {public}\nAllowedIPs = 10.99.0.2/32\n" in file.text
    assert file.text.count("[Peer]") == 1
    assert tunnel.render(config.parse("")) == []


def test_a_router_outside_of_a_changed_network_is_named(core: str, tmp_path: Path) -> None:
    Nas.create(name="attic", address="10.99.0.2", tunnel_address="10.99.0.2", secret=b"")
    with pytest.raises(UserError, match=r"router attic has 10\.99\.0\.2, outside of 10\.98\.0\.0/24"):
        tunnel.render(_settled(tmp_path, 'network = "10.98.0.0/24"'))


def test_an_address_is_kept_as_long_as_it_fits(core: str, tmp_path: Path) -> None:
    nas = Nas.create(name="attic", address="10.99.0.2", tunnel_address="10.99.0.2", secret=b"")
    assert tunnel.address_for(_settled(tmp_path), nas) == "10.99.0.2"
    assert tunnel.address_for(_settled(tmp_path), None) == "10.99.0.3"
    assert tunnel.address_for(_settled(tmp_path, 'network = "10.98.0.0/24"'), nas) == "10.98.0.2"
    with pytest.raises(UserError, match=r"tunnels are off: set enabled = true below \[tunnel\]"):
        tunnel.address_for(config.parse(""), None)


def test_the_service_runs_only_where_tunnels_are_on(tmp_path: Path) -> None:
    assert tunnel.TUNNEL.wanted(_settled(tmp_path))
    assert not tunnel.TUNNEL.wanted(config.parse(""))


@pytest.mark.parametrize(
    "more",
    ['[gateway]\naddress = "10.99.4.1/24"', '[gateway]\naddresses = ["10.99.0.0/28"]'],
)
def test_the_tunnels_network_is_nobody_elses(tmp_path: Path, more: str) -> None:
    with pytest.raises(UserError, match=r"\[tunnel\] network: 10\.99\.0\.0/16 overlaps"):
        _settled(tmp_path, more)
    config.parse(more)


def test_routers_in_tunnels_must_reach_radius(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[radius\] listen: routers in tunnels don't reach 192\.0\.2\.1"):
        _settled(tmp_path, '[radius]\nlisten = "192.0.2.1"')
