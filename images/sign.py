"""The key that signs updates, and the update itself: a RAUC bundle that holds one slot."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import UserError
from images.debian import run

_LASTS_DAYS = 7300


@dataclass(frozen=True)
class Signer:
    """`key` is a file or a PKCS#11 URI; a box takes what `keyring` vouches for. All PEM."""

    key: str
    certificate: Path
    keyring: Path


def given(key: str, certificate: Path | None, keyring: Path | None) -> Signer:
    """`keyring` defaults to the certificate itself."""
    if certificate is None:
        raise UserError("a signing key needs its certificate: make image KEY=… CERT=…")
    for path in (certificate, keyring or certificate, *([] if key.startswith("pkcs11:") else [Path(key)])):
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
    return Signer(key, certificate, keyring or certificate)


def development(folder: Path) -> Signer:
    """A P-256 key of this tree's own, made where it is missing: RAUC 1.8 can't sign with Ed25519."""
    key, certificate = folder / "development.key.pem", folder / "development.cert.pem"
    if not (key.exists() and certificate.exists()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/O=Gatehouse/CN=Gatehouse development, trust nothing", "-days", str(_LASTS_DAYS)),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        key.chmod(0o600)
    return Signer(str(key), certificate, certificate)


def bundle(target: Path, slot: Path, work: Path, compatible: str, version: str, signer: Signer) -> None:
    """The signature's time and the verity tree's salt make each bundle another one; what it installs is the same."""
    folder = work / "bundle"
    folder.mkdir()
    (folder / "rootfs.img").hardlink_to(slot)
    (folder / "manifest.raucm").write_text(_manifest(compatible, version, {"rootfs": "rootfs.img"}), encoding="utf-8")
    target.unlink(missing_ok=True)
    run("rauc", "bundle", f"--cert={signer.certificate}", f"--key={signer.key}", str(folder), str(target))
    run("rauc", "info", f"--keyring={signer.keyring}", str(target))  # would a box take it?
    shutil.rmtree(folder)


def _manifest(compatible: str, version: str, images: Mapping[str, str]) -> str:
    lines = ["[update]", f"compatible={compatible}", f"version={version}", "", "[bundle]", "format=verity"]
    for slot, filename in images.items():
        lines += ["", f"[image.{slot}]", f"filename={filename}"]
    return "\n".join(lines) + "\n"
