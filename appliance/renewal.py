"""The certificate that browsers see, got anew from a public authority in time; `acme_client` talks to it.

The one in use stays until the next is whole, checked, on disk and taken by the web server. One that was fetched but
couldn't be put in place is kept, so that no second one is asked for.
"""

import fcntl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance import apply as applying
from appliance import certificates, granting, launch
from appliance.config import Config
from appliance.doctor import tls
from appliance.doctor.renewal import forget, note
from appliance.errors import UserError
from appliance.files import written
from appliance.wishes import Wish

if TYPE_CHECKING:
    from appliance.acme_client import Authority

ACCOUNT, FETCHED = "keys/acme-account.pem", "keys/acme-fetched.pem"  # below `paths.state`
CHALLENGES = "acme"  # below `paths.run`
_TABLE = "inet gatehouse-acme"


def renew(config: Config) -> str:
    """What was done, in a line. Raises UserError; then all is as it was."""
    if not config.acme.enabled:
        return "[acme] is off: nothing is renewed"
    applying.must_be_root()
    with _one_at_a_time(config):
        try:
            _close(config)  # what a killed run left
            done = _renew(config)
        except UserError as error:
            note(config, str(error))
            raise
        forget(config)
    return done


def _renew(config: Config) -> str:
    place, fetched = config.paths.state / certificates.GIVEN_PORTAL, config.paths.state / FETCHED
    if config.portal.certificate not in (None, place):
        raise UserError(f"{config.file}: [portal] certificate names another file than ours: take it and key out")
    if config.portal.certificate and (certificate := _good(config, place)):
        return f"the certificate is good until {certificate.not_valid_after_utc:%Y-%m-%d}: nothing to do yet"
    if not _good(config, fetched):
        _write(fetched, _fetch(config))
    _use(config, fetched.read_bytes())
    fetched.unlink()
    return f"there is a new certificate for {', '.join(config.certificate_names)}"


def _good(config: Config, path: Path) -> x509.Certificate | None:
    """Whether it is for all names, and at least a third of its life is left."""
    try:
        data = path.read_bytes()
        certificates.check_given(data)
    except (FileNotFoundError, UserError):
        return None
    certificate = x509.load_pem_x509_certificate(data)
    whole = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    return certificate if _is_for_all(config, certificate) and left >= whole / 3 else None


def _is_for_all(config: Config, certificate: x509.Certificate) -> bool:
    return all(tls.is_for(certificate, name) for name in config.certificate_names)


def _fetch(config: Config) -> bytes:
    """Key and chain, checked."""
    from appliance import acme_client  # its libraries take as long to load as all else that a command does

    key = ec.generate_private_key(ec.SECP256R1())
    chain = acme_client.fetch(_authority(config), config.certificate_names, key, lambda texts: published(config, texts))
    data = _pem(key) + chain.encode()
    try:
        certificates.check_given(data)
    except UserError as error:
        raise UserError(f"the authority's certificate can't be used: {error}") from None
    if not _is_for_all(config, x509.load_pem_x509_certificate(chain.encode())):
        raise UserError("the authority's certificate can't be used: it is for other names than were asked for")
    return data


def _authority(config: Config) -> "Authority":
    from appliance import acme_client

    path = config.paths.state / ACCOUNT
    if not path.exists():
        _write(path, _pem(rsa.generate_private_key(public_exponent=65_537, key_size=2048)))
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UserError(f"{path}: an RSA key is needed: remove it, and a new account is made")
    return acme_client.Authority(config.acme.directory, config.acme.contact, key)


def _use(config: Config, data: bytes) -> None:
    """On the admin's pages too, unless their owner has brought another one."""
    admin, portal = (config.paths.state / path for path in (certificates.GIVEN_ADMIN, certificates.GIVEN_PORTAL))
    files = {"portal.certificate": data}
    if not admin.exists() or (portal.exists() and admin.read_bytes() == portal.read_bytes()):
        files["admin.certificate"] = data
    with applying.alone(config.paths.run):
        refusal = granting.grant_own(config.file, Wish("gatehouse certificate renew", files=files))
    if refusal:
        raise UserError(f"the new certificate waits, as it can't be put in place: {refusal}")


@contextmanager
def published(config: Config, texts: Mapping[str, str]) -> Iterator[None]:
    """The authority's texts at port 80 of the device to the provider, which leads to nginx only meanwhile."""
    folder = config.paths.run / CHALLENGES
    try:
        for name, text in texts.items():
            with written(folder / name, 0o640, "root", "gatehouse-web") as file:
                file.write(text.encode())
        _nft(_opened(config))
        yield
    finally:
        _close(config)


def _close(config: Config) -> None:
    _nft(f"add table {_TABLE}; delete table {_TABLE}")
    for path in (config.paths.run / CHALLENGES).iterdir():
        path.unlink()


def _opened(config: Config) -> str:
    """After the one-to-one addresses of guests, who have a port 80 of their own. Without guests of our own it is any
    device that leads here."""
    come_in = f'iifname "{config.gateway.wan}" ' if config.gateway.enabled else ""
    return (
        f"add table {_TABLE}; flush table {_TABLE}; "
        f"add chain {_TABLE} web {{ type nat hook prerouting priority dstnat + 5; }}; "
        f"add rule {_TABLE} web {come_in}tcp dport 80 fib daddr type local "
        f"redirect to :{config.acme.port}"
    )


def _nft(text: str) -> None:
    try:
        launch.run("nft", text)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"port 80 can't be opened for the authority: {error}") from None


@contextmanager
def _one_at_a_time(config: Config) -> Iterator[None]:
    with (config.paths.run / "renewal.lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("the certificate is being renewed already") from None
        yield


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    encoding, layout = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, layout, serialization.NoEncryption())


def _write(path: Path, data: bytes) -> None:
    with written(path, 0o600, "root", "root") as file:
        file.write(data)
