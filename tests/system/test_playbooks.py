"""The playbooks on a box from the image, in the order of its life: flash.yml, then site.yml and upgrade.yml twice."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system import bundles
from tests.system.ansible_host import Recap, play
from tests.system.box import BOOT_S
from tests.system.vm import SSH, Hardware, Vm

pytestmark = [pytest.mark.system, pytest.mark.long]

SLOT = "grep -o 'gatehouse.slot=.' /proc/cmdline"
STATE = f"""
cat /proc/sys/kernel/random/boot_id && {SLOT} && grub-editenv /efi/grub/grubenv list
for slot in a b; do head -c 1M /dev/gatehouse/$slot | sha256sum; done"""
NO_ONE = 1  # a TCP port where nobody listens (tcpmux)
CONFIG = {
    "site": {"name": "Café Nord", "timezone": "Europe/Prague"},
    "radius": {"interim_interval_s": 120},
}


@dataclass(frozen=True)
class Site:
    """One box and the folder of whoever looks after it."""

    vm: Vm
    folder: Path

    def inventory(self, **names: dict[str, object]) -> Path:
        """Hosts in this order; each is the box but for what is given."""
        box: dict[str, object] = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.vm.port(SSH) if self.vm.is_on() else 0,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.vm.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            f" -o IdentitiesOnly=yes -o ConnectTimeout=20 -o ControlPath={self.folder}/ssh-%p",
            "ansible_ssh_retries": 3,
            "gatehouse_provision": {"ssh_authorized_keys": [self.vm.public_key]},
            "gatehouse_modules": ["hotspot"],
        }
        path = self.folder / "inventory.yml"
        hosts = {name: {**box, **other} for name, other in names.items()}
        path.write_text(json.dumps({"gatehouse": {"hosts": hosts}}), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def site(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    vm = Vm(image / "disk.raw", folder / "vm", Hardware(forwards=(SSH,)))
    vm.disk.write_bytes(b"something else" * 1000)
    with vm.disk.open("r+b") as file:
        file.truncate(vm.hardware.disk_mib << 20)
    try:
        yield Site(vm, folder)
    finally:
        vm.cut_power()


@pytest.fixture(scope="module")
def another(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the same system, but not of the same bytes: behind a squashfs's end is what nobody reads."""
    slot = tmp_path_factory.mktemp("another") / "slot"
    slot.write_bytes(bundles.slot(image) + b"another one".ljust(4096))
    return bundles.bundle(slot, bundles.signer(image))


def ended_well(recap: Recap) -> Recap:
    assert recap.status == 0, recap.text
    return recap


def test_flash_writes_a_disk_that_comes_up_as_the_inventory_says(site: Site, image: Path) -> None:
    (packed,) = image.glob("*.raw.zst")
    target = {"gatehouse_flash_target": str(site.vm.disk), "gatehouse_flash_confirm": str(site.vm.disk)}
    ended_well(play("flash", site.inventory(cafe={}), gatehouse_flash_image=str(packed), **target))
    site.vm.power_on()
    site.vm.await_ssh(BOOT_S)
    site.vm.ssh(f"gatehouse health --wait {BOOT_S}", BOOT_S + 60)
    assert site.vm.ssh("hostname").strip() == "cafe"


def test_site_configures_the_running_box_and_the_second_run_changes_nothing(site: Site) -> None:
    devices = json.loads(site.vm.ssh("ip -json -4 address"))
    lan, wan = (
        next(d["ifname"] for d in devices if any(a["local"].startswith(net) for a in d["addr_info"]))
        for net in ("10.10.", "10.0.2.")
    )
    config = {**CONFIG, "gateway": {"lan": lan, "wan": wan}}
    first = ended_well(play("site", site.inventory(cafe={}), gatehouse_config=config))
    assert first.count("changed") > 0
    assert 'name = "Café Nord"' in site.vm.ssh("cat /etc/gatehouse/gatehouse.toml")
    second = ended_well(play("site", site.inventory(cafe={}), gatehouse_config=config))
    assert second.count("changed") == 0, second.text


def left_alone(site: Site, bundle: Path) -> None:
    before = site.vm.ssh(STATE)
    recap = ended_well(play("upgrade", site.inventory(cafe={}), gatehouse_bundle=str(bundle)))
    assert recap.count("changed") == 0, recap.text
    assert "It is left alone" in recap.text, recap.text
    assert site.vm.ssh(STATE) == before


def test_upgrade_leaves_a_box_alone_that_was_flashed_with_the_same(site: Site, image: Path) -> None:
    left_alone(site, bundles.good(image))


def test_upgrade_stops_at_the_first_that_fails(site: Site, image: Path) -> None:
    bundle = {"gatehouse_bundle": str(bundles.good(image))}
    stopped = play("upgrade", site.inventory(away={"ansible_port": NO_ONE}, cafe={}), **bundle)
    assert stopped.status != 0
    assert "away" in stopped.text and "cafe " not in stopped.text.split("PLAY RECAP")[0], stopped.text
    assert site.vm.ssh(SLOT).strip().endswith("=A")


def test_upgrade_puts_the_bundle_on_and_waits_until_it_is_kept(site: Site, another: Path) -> None:
    ended_well(play("upgrade", site.inventory(cafe={}), gatehouse_bundle=str(another)))
    assert site.vm.ssh(SLOT).strip().endswith("=B")
    assert "B_NEW=0" in site.vm.ssh("grub-editenv /efi/grub/grubenv list")
    assert 'name = "Café Nord"' in site.vm.ssh("cat /etc/gatehouse/gatehouse.toml")


def test_the_second_upgrade_with_it_changes_nothing(site: Site, another: Path) -> None:
    """As after a run that stopped at another box."""
    left_alone(site, another)
