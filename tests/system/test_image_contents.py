"""What is in the image, without starting it: nothing secret, nothing of the build host, the same bytes each time."""

import filecmp
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.namespace import run
from tests.system.image import TREE, build, built, unpacked

pytestmark = [pytest.mark.system, pytest.mark.long]

LARGEST_BYTES = 400_000_000
PRIVATE = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{40}")


@pytest.fixture(scope="module")
def out() -> Path:
    return built()


@pytest.fixture(scope="module")
def root(out: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-root-", dir="/var/tmp") as folder:
        yield unpacked(out / "disk.raw", Path(folder) / "root")


def files(root: Path, *folders: str) -> Iterator[Path]:
    for folder in folders or (".",):
        for path in (root / folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


def test_sums_are_right_and_it_is_small_enough(out: Path) -> None:
    listed = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    assert {Path(name).suffix for _, name in listed} == {".zst", ".raucb", ".json"}
    for digest, name in listed:
        with (out / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest, name
    (packed,) = out.glob("*.raw.zst")
    print(f"{packed.name}: {packed.stat().st_size / 1e6:.0f} MB")
    assert packed.stat().st_size <= LARGEST_BYTES


def test_no_key_and_no_known_secret_is_in_it(root: Path) -> None:
    assert list((root / "etc/ssh").glob("ssh_host_*")) == []
    assert list((root / "etc/ssl/private").iterdir()) == []
    assert not (root / "etc/freeradius").exists()  # testing123, certs/dh, and keys of its own
    for path in files(root, "etc", "var", "root", "home", "opt", "srv", "usr/local", "usr/lib/gatehouse"):
        content = path.read_bytes()
        assert not PRIVATE.search(content), path
        if path.is_relative_to(root / "etc"):
            assert b"testing123" not in content, path


def test_nobody_can_log_in_with_a_password(root: Path) -> None:
    for line in (root / "etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        assert password[:1] in ("*", "!"), name
    config = "".join(path.read_text() for path in (root / "etc/ssh/sshd_config.d").glob("*.conf"))
    assert re.search(r"^PasswordAuthentication no$", config, re.M)
    assert not list(root.glob("root/.ssh/*"))


def test_the_machine_is_nobody_yet(root: Path) -> None:
    assert (root / "etc/machine-id").read_text().strip() in ("", "uninitialized")
    assert not (root / "var/lib/dbus/machine-id").exists()
    assert not (root / "var/lib/systemd/random-seed").exists()
    state = root / "var/lib/gatehouse"
    assert not state.exists() or list(state.iterdir()) == []
    assert not (root / "etc/gatehouse/gatehouse.toml").exists()


def test_nothing_tells_where_it_was_built(root: Path) -> None:
    dump = run("apt-config", "dump").stdout + run("apt-get", "indextargets", "--format", "$(SITE)").stdout
    hosts = set(re.findall(r"https?://(?:[^/@\s\"]*@)?([^/\s\":]+)", dump)) - {"deb.debian.org", "security.debian.org"}
    words = [word.encode() for word in (*hosts, str(TREE), os.uname().nodename) if len(word) > 4]
    for path in files(root, "etc", "var", "opt", "root", "usr/local"):
        content = path.read_bytes()
        for word in words:
            assert word not in content, f"{path}: {word!r}"


def test_the_bill_names_all_that_is_in_it(out: Path, root: Path) -> None:
    (file,) = out.glob("*.cdx.json")
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    named = {(part["purl"].split("@")[0], part["version"]) for part in bill["components"]}
    shown = run("dpkg-query", f"--root={root}", "--show", "--showformat=${Package} ${Version}\n").stdout
    for line in shown.splitlines():
        name, version = line.split()
        assert (f"pkg:deb/debian/{name}", version) in named
    installed = list(root.glob("opt/gatehouse-*/lib/python3*/site-packages/*.dist-info"))
    assert len(installed) > 10
    for folder in installed:
        name, version = folder.name.removesuffix(".dist-info").split("-")
        assert (f"pkg:pypi/{name.lower().replace('_', '-')}", version) in named
    references = [part["bom-ref"] for part in bill["components"]]
    assert len(references) == len(set(references))
    unknown = [part["name"] for part in bill["components"] if "licenses" not in part]
    print(f"{len(references)} components, {len(unknown)} without a licence in machine-readable form")


def test_the_same_inputs_make_the_same_bytes(out: Path) -> None:
    """Except the bundle, whose signature has a time, and whose verity tree a salt."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-again-", dir="/var/tmp") as folder:
        again = Path(folder) / "out"
        again.mkdir()
        shutil.copytree(out / "keys", again / "keys")
        home = Path(folder) / "home"
        home.mkdir()
        build(again, {"TZ": "Pacific/Kiritimati", "HOME": str(home), "LC_ALL": "C", "USER": "nobody"}, umask=0o077)
        for kind in ("*.raw.zst", "*.cdx.json"):
            (first,), (second,) = out.glob(kind), again.glob(kind)
            if not filecmp.cmp(first, second, shallow=False):
                pytest.fail(f"{first.name}: not the same\n" + "\n".join(differences(out, again, Path(folder))))


def differences(first: Path, second: Path, work: Path) -> list[str]:
    """Files of slot A that differ in what they hold; devices are no files that could be compared."""
    (packed,) = second.glob("*.raw.zst")
    raw = work / "again.raw"
    run("zstd", "--quiet", "--decompress", "--sparse", str(packed), "-o", str(raw), timeout_s=300)
    roots = [unpacked(first / "disk.raw", work / "one"), unpacked(raw, work / "two")]
    shown = run("diff", "-rq", "--no-dereference", "--exclude=dev", *map(str, roots), check=False, timeout_s=300).stdout
    return shown.splitlines()[:100] or ["every file holds the same: it is modes, owners, dates, or outside of the slot"]
