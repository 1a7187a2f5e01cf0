"""The own authority and what it signs."""

import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance import certificates
from appliance.config import Config, Paths, Portal, Radius
from appliance.errors import ConfigError, UserError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="keys are root's")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "keys").mkdir()
    return Config(paths=Paths(state=tmp_path))


def own(config: Config) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificates.own_server(config).certificate.encode())


def test_phones_are_shown_what_they_ask_for(config: Config) -> None:
    certificates.ensure(config)
    ca = x509.load_pem_x509_certificate(certificates.authority(config).encode())
    server = own(config)
    server.verify_directly_issued_by(ca)
    usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = server.public_key()
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert names.get_values_for_type(x509.DNSName) == [config.portal.hostname]
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    assert server.not_valid_after_utc - server.not_valid_before_utc < timedelta(days=825)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.not_valid_after_utc.year == 2049


def test_it_stays_until_it_is_due_and_the_authority_stays_then_too(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.ensure(config)
    authority, first = certificates.authority(config), own(config)
    certificates.ensure(config)
    assert own(config) == first
    at(monkeypatch, datetime.now(UTC) + timedelta(days=300))
    certificates.ensure(config)
    assert own(config) == first
    at(monkeypatch, datetime.now(UTC) + timedelta(days=450))
    certificates.ensure(config)
    assert own(config) != first
    assert certificates.authority(config) == authority


def test_a_box_without_a_clock_gets_a_good_one_when_it_has_the_time(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as past:
        at(past, datetime(1970, 1, 3, tzinfo=UTC))
        certificates.ensure(config)
        assert own(config).not_valid_after_utc.year < 1975
    authority = certificates.authority(config)
    certificates.ensure(config)
    assert own(config).not_valid_before_utc <= datetime.now(UTC) <= own(config).not_valid_after_utc
    assert certificates.authority(config) == authority


def test_another_name_or_a_broken_file_makes_a_new_one(config: Config) -> None:
    certificates.ensure(config)
    renamed = dataclasses.replace(config, portal=Portal(hostname="wifi.example.net"))
    certificates.ensure(renamed)
    assert own(renamed).subject.rfc4514_string() == "CN=wifi.example.net"
    (config.paths.state / "keys/radius.pem").write_text("broken")
    certificates.ensure(renamed)
    assert own(renamed).subject.rfc4514_string() == "CN=wifi.example.net"


def test_nobody_but_root_reads_the_keys(config: Config) -> None:
    certificates.ensure(config)
    certificates.new_router(config, "attic")
    files = list((config.paths.state / "keys").rglob("*.pem"))
    assert len(files) == 4
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (config.paths.state / "keys/routers/attic.pem").read_text()


def test_a_routers_serial_number_is_written_as_freeradius_does(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates.ensure(config)
    assert certificates.router_serial(config, "attic") is None
    for number, text in ((0x7F, "7f"), (0x80, "80"), (0xABC, "0abc")):
        monkeypatch.setattr(x509, "random_serial_number", lambda number=number: number)
        certificates.new_router(config, "attic")
        assert certificates.router_serial(config, "attic") == text


def test_a_given_certificate(config: Config, tmp_path: Path) -> None:
    certificates.ensure(config)
    pair = certificates.own_server(config)
    certificate, key = tmp_path / "given.pem", tmp_path / "given.key"
    certificate.write_text(pair.certificate)
    key.write_text(pair.key)
    given = dataclasses.replace(config, radius=Radius(certificate=certificate, key=key))
    assert certificates.server(given) == pair
    key.write_text(certificates.new_router(config, "attic").key)
    with pytest.raises(ConfigError, match="isn't the key of"):
        certificates.server(given)
    key.write_text("nonsense")
    with pytest.raises(ConfigError, match="PEM files"):
        certificates.server(given)
    key.unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        certificates.server(given)


def test_there_is_none_before_apply(config: Config) -> None:
    with pytest.raises(UserError, match="gatehouse apply"):
        certificates.authority(config)


def at(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return now

    monkeypatch.setattr(certificates, "datetime", Clock)


def test_a_new_authority_signs_a_new_certificate(config: Config) -> None:
    """Two authorities bear the same name: after a leak, or a restore that was not whole."""
    certificates.ensure(config)
    first = own(config)
    for file in (config.paths.state / "keys").rglob("ca.pem"):
        file.unlink()
    certificates.ensure(config)
    assert own(config) != first
    own(config).verify_directly_issued_by(x509.load_pem_x509_certificate(certificates.authority(config).encode()))
