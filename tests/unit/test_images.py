"""What of the image can be tried without making one."""

import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from appliance.errors import UserError
from images import build, debian, disk, sbom, sign

IMAGES = Path(build.__file__).parent
STATUS = """Package: libfoo
Status: install ok installed
Version: 1:2.0+dfsg-1~deb13u1
Architecture: amd64

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: all
"""
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
License: GPL-2+ and BSD-3-clause

License: GPL-2+
 The text.
"""
METADATA = "Metadata-Version: 2.4\nName: Foo_Bar\nVersion: 3.1\nLicense-Expression: MIT\n\nLicense: not this\n"


def root(tar: Path) -> Path:
    with tarfile.open(tar, "w") as archive:
        for name, text in (
            ("./var/lib/dpkg/status", STATUS),
            ("./usr/share/doc/libfoo/copyright", COPYRIGHT),
            ("./opt/gatehouse-0123/lib/python3.13/site-packages/foo_bar-3.1.dist-info/METADATA", METADATA),
            ("./opt/gatehouse-0123/lib/python3.13/site-packages/foo_bar-3.1.dist-info/licenses/METADATA", "Name: no"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return tar


def test_the_bill_has_what_is_installed(tmp_path: Path) -> None:
    found = sorted(sbom.components_of(root(tmp_path / "root.tar"), "trixie"))
    assert [(one.purl, one.licences) for one in found] == [
        (
            "pkg:deb/debian/libfoo@1%3A2.0%2Bdfsg-1~deb13u1?arch=amd64&distro=trixie",
            ("GPL-2+", "GPL-2+ and BSD-3-clause"),
        ),
        ("pkg:pypi/foo-bar@3.1", ("MIT",)),
    ]


def test_a_component_is_as_cyclonedx_wants_it() -> None:
    shown = sbom.Component("pkg:pypi/foo@1", "foo", "1", ("MIT",)).as_json()
    assert json.loads(json.dumps(shown))["licenses"] == [{"license": {"name": "MIT"}}]
    assert "licenses" not in sbom.Component("pkg:pypi/foo@1", "foo", "1", ()).as_json()


def test_partitions_follow_each_other_in_whole_mebibytes() -> None:
    at = disk.MIB
    for number, partition in enumerate(disk.PARTITIONS, 1):
        assert (partition.number, disk.start(partition)) == (number, at)
        assert partition.bytes % disk.MIB == 0
        at += partition.bytes
    assert len({partition.uuid for partition in disk.PARTITIONS}) == len(disk.PARTITIONS)


@pytest.mark.parametrize("words", [["--arch", "riscv64"], ["--key", "/nowhere.pem"], ["--key", "pkcs11:object=x"]])
def test_what_can_not_be_built_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(words) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_programs_of_an_architecture_run_here_or_do_not() -> None:
    assert debian.runs_here("amd64" if platform.machine() == "x86_64" else "arm64")
    assert not debian.runs_here("hppa")


def test_the_sums_are_those_of_each_architecture(tmp_path: Path) -> None:
    """Built one after the other into the same folder."""
    for name in ("gatehouse-1.0-amd64.raucb", "gatehouse-1.0-arm64.raucb", "gatehouse-0.9-amd64.raucb"):
        (tmp_path / name).write_text(name)
    signer = sign.Signer("", tmp_path, tmp_path)
    build._write_sums(build.Build("1.0", "arm64", 0, tmp_path, tmp_path, signer))
    sums = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in sums] == ["gatehouse-1.0-amd64.raucb", "gatehouse-1.0-arm64.raucb"]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_a_given_key_vouches_for_itself_unless_there_is_a_keyring(tmp_path: Path) -> None:
    key, certificate, keyring = (tmp_path / name for name in ("key", "cert", "ring"))
    for path in (key, certificate, keyring):
        path.touch()
    assert sign.given(str(key), certificate, None).keyring == certificate
    assert sign.given("pkcs11:object=x", certificate, keyring).keyring == keyring
    with pytest.raises(UserError, match="no such file"):
        sign.given(str(key), certificate, tmp_path / "none")


def test_scripts_can_be_read_by_what_runs_them() -> None:
    subprocess.run(["grub-script-check", IMAGES / "grub.cfg"], check=True)
    rootfs = IMAGES / "rootfs"
    scripts = [path for path in rootfs.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")]
    assert len(scripts) == 4
    for script in (*scripts, IMAGES / "customize"):
        assert script.stat().st_mode & 0o111, script
        subprocess.run(["sh", "-n", script], check=True)
