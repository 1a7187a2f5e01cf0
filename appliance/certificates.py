"""The own certificate authority, the certificates of RADIUS server and admin pages, and those of RadSec routers.

RSA with 2,048 bits and SHA-256 is what every phone and Windows takes inside EAP; some old ones know no ECDSA there.
Browsers do, and a small box makes such a key at once.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.config import Config
from appliance.errors import ConfigError, UserError
from appliance.files import written

# Fixed dates: a box without a clock may make it in 1970, and phones keep it for as long as the network lives.
CA_FROM = datetime(2020, 1, 1, tzinfo=UTC)
CA_UNTIL = datetime(2049, 12, 31, tzinfo=UTC)  # the last year of UTCTime (RFC 5280, 4.1.2.5)
SERVER_LIFE = timedelta(days=800)  # Apple's devices refuse more than 825 days
RENEW_BEFORE = timedelta(days=400)  # so one `apply` in a year is enough
ROUTER_LIFE = timedelta(days=3650)  # routers don't renew by themselves; a new one replaces it at any time
RADIUS, ADMIN = "radius.pem", "admin.pem"
GIVEN_ADMIN, GIVEN_PORTAL = "keys/given-admin.pem", "tls/portal.pem"  # below `paths.state`; keys and chains
MAX_GIVEN_BYTES = 65_536
_CLOCKS_DIFFER = timedelta(days=1)
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_CHUNK = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Pair:
    """PEM texts; `certificate` may be a chain that begins with the server's own."""

    certificate: str
    key: str


def ensure(config: Config) -> None:
    """Makes the authority where there is none, and the server's certificate where it is missing, due or not ours."""
    folder = _folder(config)
    if not (folder / "ca.pem").exists():
        key = _new_key()
        _write(folder / "ca.pem", _key_pem(key) + _pem(_authority(config, key)))
    for name in (RADIUS, ADMIN):
        if not _is_good(config, folder / name):
            own: PrivateKey = _new_key() if name == RADIUS else ec.generate_private_key(ec.SECP256R1())
            usage, host = ExtendedKeyUsageOID.SERVER_AUTH, config.portal.hostname
            _write(folder / name, _key_pem(own) + _pem(_issue(config, host, own, SERVER_LIFE, usage)))


def authority(config: Config) -> str:
    """PEM of the authority's certificate, for phones and routers."""
    return _split(_folder(config) / "ca.pem").certificate


def own_server(config: Config) -> Pair:
    """The RADIUS server's own certificate, signed by our authority."""
    return _split(_folder(config) / RADIUS)


def own_admin(config: Config) -> Pair:
    """That of the admin pages; another key, as another program holds it."""
    return _split(_folder(config) / ADMIN)


def fingerprint(pair: Pair) -> str:
    """SHA-256 as browsers show it."""
    return bytes.fromhex(digest(pair)).hex(":").upper()


def digest(pair: Pair) -> str:
    """SHA-256 of the server's certificate."""
    return x509.load_pem_x509_certificate(pair.certificate.encode()).fingerprint(hashes.SHA256()).hex()


def server(config: Config) -> Pair:
    """What phones see: the configured files, else the own certificate."""
    if config.radius.certificate and config.radius.key:
        return _given(config, "radius", config.radius.certificate, config.radius.key)
    return own_server(config)


def vault(config: Config) -> Pair:
    """What FTP clients see: the configured files, else what the admin pages show."""
    if config.vault.certificate and config.vault.key:
        return _given(config, "vault", config.vault.certificate, config.vault.key)
    return admin(config)


def check_given(data: bytes) -> None:
    """A chain and the key of its first certificate, in one PEM text; raises UserError for what can't be shown."""
    try:
        chain = x509.load_pem_x509_certificates(data)
        key = serialization.load_pem_private_key(_private_key(data), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UserError("a certificate and its key are needed, both as PEM text, the key without a password") from None
    first, now = chain[0], datetime.now(UTC)
    if key.public_key() != first.public_key():
        raise UserError("that key isn't the certificate's: the certificate of the server comes first, then its chain")
    if first.not_valid_after_utc <= now:
        raise UserError(f"that certificate is over since {first.not_valid_after_utc:%Y-%m-%d}")
    if first.not_valid_before_utc > now + _CLOCKS_DIFFER:
        raise UserError(f"that certificate is good only from {first.not_valid_before_utc:%Y-%m-%d} on")


def _private_key(data: bytes) -> bytes:
    found = re.search(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", data, re.S)
    return found[0] if found else b""


def admin(config: Config) -> Pair:
    """What the admin pages show: one that was given, else the own."""
    given = config.paths.state / GIVEN_ADMIN
    return _parted(given) if given.exists() else own_admin(config)


def _parted(path: Path) -> Pair:
    data = path.read_bytes()
    key = _private_key(data)
    return Pair(data.replace(key, b"").decode(), key.decode() + "\n")


def new_router(config: Config, name: str) -> Pair:
    """A certificate for a router's RadSec. It alone is good from now on: the one before it no longer is."""
    key = _new_key()
    certificate = _issue(config, name, key, ROUTER_LIFE, ExtendedKeyUsageOID.CLIENT_AUTH)
    _routers(config).mkdir(mode=0o700, exist_ok=True)
    _write(_routers(config) / f"{name}.pem", _pem(certificate))
    return Pair(_pem(certificate).decode(), _key_pem(key).decode())


def router_serial(config: Config, name: str) -> str | None:
    """Serial number of the router's certificate as FreeRADIUS writes it: hex of its bytes without a leading zero."""
    path = _routers(config) / f"{name}.pem"
    if not path.exists():
        return None
    number = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


def _folder(config: Config) -> Path:
    return config.paths.state / "keys"


def _routers(config: Config) -> Path:
    return _folder(config) / "routers"


def _authority(config: Config, key: rsa.RSAPrivateKey) -> x509.Certificate:
    subject = _name(f"{config.site.name[:40]} Gatehouse CA")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # keyCertSign, cRLSign
    return (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), CA_FROM, CA_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issue(
    config: Config, name: str, key: PrivateKey, life: timedelta, usage: x509.ObjectIdentifier
) -> x509.Certificate:
    path = _folder(config) / "ca.pem"
    text = path.read_bytes()
    ca, ca_key = x509.load_pem_x509_certificate(text), serialization.load_pem_private_key(text, None)
    if not isinstance(ca_key, rsa.RSAPrivateKey):
        raise UserError(f"{path}: an RSA key is needed: restore it from a backup")
    begin = datetime.now(UTC) - _CLOCKS_DIFFER
    public, serial = key.public_key(), x509.random_serial_number()
    # digitalSignature, and keyEncipherment with RSA only (RFC 5480, 3)
    bits = x509.KeyUsage(True, False, isinstance(key, rsa.RSAPrivateKey), *[False] * 6)
    return (
        x509.CertificateBuilder(ca.subject, _name(name), public, serial, begin, begin + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(bits, critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _is_good(config: Config, path: Path) -> bool:
    """Whether the own certificate is there, of our authority, of our name, and not due."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    ca = x509.load_pem_x509_certificate(authority(config).encode())
    now = datetime.now(UTC)
    try:
        certificate.verify_directly_issued_by(ca)  # another key may have the same name
    except (InvalidSignature, ValueError, TypeError):
        return False
    return (
        certificate.issuer == ca.subject
        and certificate.subject == _name(config.portal.hostname)
        and certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEW_BEFORE
    )


def _given(config: Config, name: str, certificate: Path, key: Path) -> Pair:
    section = f"{config.file}: [{name}]"
    try:
        pair = Pair(certificate.read_text("ascii"), key.read_text("ascii"))
        public = x509.load_pem_x509_certificate(pair.certificate.encode()).public_key()
        private = serialization.load_pem_private_key(pair.key.encode(), None)
    except OSError as error:
        raise ConfigError(f"{section} certificate, key: can't be read: {error}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{section} certificate, key: PEM files without a password are needed: {error}") from None
    if private.public_key() != public:
        raise ConfigError(f"{section} key: {key} isn't the key of {certificate}")
    return pair


def _split(path: Path) -> Pair:
    """Key and certificate lie in one file, so that no crash leaves one without the other."""
    try:
        key, mark, certificate = path.read_bytes().partition(_CHUNK)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no certificate yet: run `gatehouse apply` first") from None
    except PermissionError:
        raise UserError(f"{path}: only root may read it: try sudo") from None
    return Pair((mark + certificate).decode(), key.decode())


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def _key_pem(key: PrivateKey) -> bytes:
    encoding, layout = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, layout, serialization.NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    with written(path, 0o600, "root", "root") as file:
        file.write(data)
