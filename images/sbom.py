"""The bill of materials of a root file system, CycloneDX 1.6 in JSON: Debian's packages and Python's distributions.

Read from the tar itself, so that it can't tell anything else than what is in there; the same tar, the same text.
"""

import email.parser
import json
import re
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from urllib.parse import quote

from images.debian import run

_STATUS = "./var/lib/dpkg/status"
_COPYRIGHT = re.compile(r"\./usr/share/doc/([^/]+)/copyright")
_METADATA = re.compile(r"\./opt/gatehouse-[^/]+/lib/[^/]+/site-packages/[^/]+\.dist-info/METADATA")


@dataclass(frozen=True, order=True)
class Component:
    """`purl` is a package URL (github.com/package-url/purl-spec); licences as their packages name them."""

    purl: str
    name: str
    version: str
    licences: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "type": "library",
            "bom-ref": self.purl,
            "name": self.name,
            "version": self.version,
            "purl": self.purl,
        }
        if self.licences:
            shown["licenses"] = [{"license": {"name": name}} for name in self.licences]
        return shown


def render(tar: Path, version: str, arch: str, distro: str, epoch: int, of_host: Sequence[str]) -> str:
    """`of_host`: packages of the build host that are on the disk."""
    components = sorted({*components_of(tar, distro), *_installed_here(of_host)})
    listed = [component.as_json() for component in components]
    purl = f"pkg:generic/gatehouse-image@{quote(version)}?arch={arch}"
    return json.dumps(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, purl + json.dumps(listed))}",
            "version": 1,
            "metadata": {
                "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "component": {
                    "type": "firmware",
                    "bom-ref": purl,
                    "name": "gatehouse-image",
                    "version": version,
                    "purl": purl,
                },
            },
            "components": listed,
        },
        indent=1,
        ensure_ascii=False,
    )


def components_of(tar: Path, distro: str) -> Iterator[Component]:
    status, copyrights, metadata = "", {}, []
    with tarfile.open(tar) as archive:
        for member in archive:
            if copyright_ := _COPYRIGHT.fullmatch(member.name):
                copyrights[copyright_[1]] = _text(archive, member)
            elif member.name == _STATUS:
                status = _text(archive, member)
            elif _METADATA.fullmatch(member.name):
                metadata.append(_text(archive, member))
    for paragraph in status.split("\n\n"):
        fields = email.parser.HeaderParser().parsestr(paragraph)
        if fields.get("Status", "").endswith(" installed"):
            text = copyrights.get(fields["Package"], "")
            yield _debian(fields["Package"], fields["Version"], fields["Architecture"], distro, _licences(text))
    for text in metadata:
        yield _python(email.parser.HeaderParser().parsestr(text))


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Empty for what is no regular file, nor a link to one."""
    file = archive.extractfile(member)
    return file.read().decode("utf-8", "replace") if file else ""


def _debian(name: str, version: str, arch: str, distro: str, licences: tuple[str, ...]) -> Component:
    return Component(f"pkg:deb/debian/{name}@{quote(version)}?arch={arch}&distro={distro}", name, version, licences)


def _licences(copyright_: str) -> tuple[str, ...]:
    """The short names of a machine-readable copyright file (DEP-5); none where it is prose."""
    return tuple(sorted({name.strip() for name in re.findall(r"^License:[ \t]*(\S.*)$", copyright_, re.M)}))


def _python(fields: Message) -> Component:
    name, version = re.sub(r"[-_.]+", "-", fields["Name"]).lower(), fields["Version"]
    licence = fields.get("License-Expression") or fields.get("License") or ""
    one_line = licence if "\n" not in licence else ""  # some put the whole text there
    return Component(f"pkg:pypi/{name}@{quote(version)}", name, version, (one_line,) if one_line else ())


def _installed_here(names: Sequence[str]) -> Iterator[Component]:
    distro = run("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").strip()
    for name in names:
        version, arch = run("dpkg-query", "--show", "--showformat=${Version} ${Architecture}", name).split()
        text = Path(f"/usr/share/doc/{name}/copyright").read_text(encoding="utf-8", errors="replace")
        yield _debian(name, version, arch, distro, _licences(text))
