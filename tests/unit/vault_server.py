"""A real FTP server on loopback, on a vault in a temporary folder."""

import ftplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.vault import vaults
from appliance.vault.ftp_tls import Contexts
from appliance.vault.models import FULL
from appliance.vault.server import Office, Server, Terms, listening
from tests.unit.vault_box import Box

PASSWORD = "correct horse"
HOST = "127.0.0.1"


def new_certificate(folder: Path, name: str = "vault.test") -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    certificate, key_file = folder / "vault.crt", folder / "vault.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key_file


def client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def free_ports(count: int) -> range:
    """So many in a row that nobody uses now; below those of clients, and not those of the tests beside."""
    for first in range(10_000 + threading.get_native_id() * count % 20_000, 32_000, count):
        with contextmanager(_bound)(range(first, first + count)) as free:
            if free:
                return range(first, first + count)
    raise AssertionError("no ports are free")


def _bound(ports: range) -> Iterator[bool]:
    made = [socket.socket() for _ in ports]
    try:
        for one, port in zip(made, ports, strict=True):
            one.bind((HOST, port))
        yield True
    except OSError:
        yield False
    finally:
        for one in made:
            one.close()


class Running:
    """The server in a thread; `port` is FTP's, `tls_port` that of implicit FTPS. Passwords are quick to check."""

    def __init__(self, box: Box, folder: Path, passive_count: int = 20, **terms: Any) -> None:
        self.box = box
        self.passive = free_ports(passive_count)
        given: dict[str, Any] = {
            "passive_ports": self.passive,
            "masquerade": "",
            "max_sessions": 300,
            "max_per_address": 300,
            "idle_timeout_s": 30,
            "data_timeout_s": 10,
            "connect_timeout_s": 5,
        } | terms
        self.certificate = new_certificate(folder)
        self.office = Office(box.config, Terms(**given), box.store, Contexts(*self.certificate))
        sockets = [(listening("::", 0), False), (listening("::", 0), True)]
        self.port, self.tls_port = (made.getsockname()[1] for made, _ in sockets)
        self._server = Server(self.office, sockets)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    def close(self) -> None:
        self.office.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def vault(self, name: str = "shop", kind: str = FULL, login: str = "", **settings: Any) -> Any:
        vault = self.box.vault(name, **settings)
        vaults.add_login(vault, login or name, kind, password=PASSWORD)
        return vault

    def client(self, login: str | None = "shop", host: str = HOST) -> ftplib.FTP:
        ftp = ftplib.FTP(timeout=20)  # noqa: S321
        ftp.connect(host, self.port)
        if login:
            ftp.login(login, PASSWORD)
        return ftp

    def tls_client(self, login: str = "shop") -> ftplib.FTP_TLS:
        ftp = ftplib.FTP_TLS(timeout=20, context=client_tls())  # noqa: S321
        ftp.connect(HOST, self.port)
        ftp.login(login, PASSWORD)
        ftp.prot_p()
        return ftp

    def content(self, vault: Any, path: str) -> bytes | None:
        """What is there now, None where nothing is."""
        entry = self.box.store.entry(vault, path)
        if entry is None:
            return None
        with self.box.store.open(entry.version) as file:
            return file.read()


@contextmanager
def running(folder: Path, **terms: Any) -> Iterator[Running]:
    box = Box(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaults, "HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        vaults._nobody.cache_clear()
        server = Running(box, folder, **terms)
        try:
            yield server
        finally:
            server.close()
            box.close()
            vaults._nobody.cache_clear()
