"""A Debian that Ansible can reach as it reaches any: through SSH, over the provider's network of a little world."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from images.debian import bootstrap, packages
from tests.lab.addresses import WAN
from tests.lab.world import World
from tests.system.container import Machine, booted

TREE = Path(__file__).resolve().parents[2]
COLLECTION = TREE / "ansible"
_CACHE = Path("/var/cache/gatehouse-tests")
_BIN = TREE / ".venv" / "bin"
# What a server has beside the product's packages, and its own choice of a clock.
_SYSTEM = ("systemd-sysv", "dbus", "openssh-server", "udev", "systemd-timesyncd")
_CONTROLLER = {"gatehouse_wheelhouses": str(_CACHE / "wheelhouse")}


@dataclass(frozen=True)
class Recap:
    """What a playbook printed, and the last line's counts of its one host."""

    text: str
    status: int

    def count(self, what: str) -> int:
        found = re.search(rf"^\S+ +: .*\b{what}=(\d+)", self.text, re.M)
        assert found, self.text
        return int(found[1])


def play(playbook: str, inventory: Path, *options: str, **variables: object) -> Recap:
    """A playbook of the collection, run from its folder as the manual says."""
    words = (f"playbooks/{playbook}.yml", "--inventory", str(inventory), *options)
    return command("ansible-playbook", *words, "--extra-vars", json.dumps(variables))


def command(program: str, *words: str) -> Recap:
    """One of the virtual environment's programs."""
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PATH": f"{_BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(_BIN / program), *words],
        cwd=COLLECTION,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    return Recap(done.stdout, done.returncode)


@dataclass(frozen=True)
class Host:
    """A booted Debian with SSH and nothing of ours yet; `inventory` names it."""

    codename: str
    world: World
    root: Path
    machine: Machine
    inventory: Path

    def site(self, **variables: object) -> Recap:
        return play("site", self.inventory, **variables)

    def gatehouse(self, *words: str) -> str:
        return self.machine.run("/usr/local/bin/gatehouse", *words)


@contextlib.contextmanager
def debian_host(codename: str, variables: Mapping[str, object]) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-host-", dir="/var/tmp") as name, World() as world:
        folder = Path(name)
        root = folder / "root"
        _copy(codename, root)
        inventory = _inventory(folder, {**_let_in(root, folder, world), **variables})
        with booted(root, world.gw) as machine:
            yield Host(codename, world, root, machine, inventory)


@contextlib.contextmanager
def root_file_system(codename: str) -> Iterator[tuple[Path, Path]]:
    """A root where nothing runs, as an image's before it is packed, and the inventory that names it."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-host-", dir="/var/tmp") as name:
        root = Path(name) / "root"
        _copy(codename, root)
        reached = {"ansible_connection": "community.general.chroot", "ansible_host": str(root), **_CONTROLLER}
        yield root, _inventory(Path(name), reached)


def _copy(codename: str, root: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(_cached(codename)), str(root)], check=True)


def _inventory(folder: Path, variables: Mapping[str, object]) -> Path:
    path = folder / "inventory.yml"
    path.write_text(json.dumps({"gatehouse": {"hosts": {"box": variables}}}), encoding="utf-8")
    return path


def _let_in(root: Path, folder: Path, world: World) -> dict[str, object]:
    """A key for root, the host's key known beforehand, and a way into the Internet's namespace."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    authorized = root / "root" / ".ssh" / "authorized_keys"
    authorized.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(folder / "key.pub", authorized)
    host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii")
    (folder / "known_hosts").write_text(f"{WAN.ip} {host_key}", encoding="ascii")
    options = {
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": folder / "known_hosts",
        "ProxyCommand": f"ip netns exec {world.net.name} socat - TCP:%h:%p",
        "ControlPath": folder / "ssh",
    }
    return {
        "ansible_host": str(WAN.ip),
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(folder / "key"),
        "ansible_ssh_common_args": " ".join(f"-o {name}='{value}'" for name, value in options.items()),
        **_CONTROLLER,
    }


def _cached(codename: str) -> Path:
    wanted = [*packages((TREE / "appliance" / "packages.txt").read_text(encoding="utf-8")), *_SYSTEM]
    digest = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:16]
    made = _CACHE / f"host-{codename}-{digest}"
    if not made.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        for old in _CACHE.glob(f"host-{codename}-*"):
            shutil.rmtree(old)
        new = made.with_suffix(".new")
        excluded = (f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale"))
        bootstrap(new, codename, "--variant=minbase", f"--include={','.join(wanted)}", *excluded)
        new.rename(made)
    return made
