"""Certificates by ACME, from a small authority of our own (tests/acme_server.py): no real one can run here."""

import dataclasses
import functools
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance import certificates, granting, renewal, systemd_units, web_server
from appliance.config import Acme, Config, Paths, Portal, parse
from appliance.doctor import renewal as noted
from appliance.doctor import tls
from appliance.errors import ConfigError, UserError
from appliance.wishes import Wish
from tests.acme_server import Authority, running, tls_pem

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="keys are root's")
NAME, OTHER = "login.example.net", "wifi.example.net"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """What the Internet reaches of us: a folder, and where it is served."""
    root = tmp_path_factory.mktemp("web")
    folder = root / ".well-known/acme-challenge"
    folder.mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield folder, f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def tls_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls_pem(tmp_path_factory.mktemp("tls") / "server.pem", "127.0.0.1")


@pytest.fixture
def authority(web: tuple[Path, str], tls_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_file))
    with running(Authority(0, tls_file, web[1])) as made:
        yield made


@pytest.fixture(scope="module")
def account() -> bytes:
    """A slow thing to make."""
    return renewal._pem(rsa.generate_private_key(public_exponent=65_537, key_size=2048))


@pytest.fixture
def config(
    tmp_path: Path, authority: Authority, account: bytes, web: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> Config:
    for name in ("keys", "tls", "run/acme"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / renewal.ACCOUNT).write_bytes(account)
    monkeypatch.setattr("acme.client.time.sleep", lambda seconds: None)  # of waiting for the authority

    @contextmanager
    def published(config: Config, texts: Mapping[str, str]) -> Iterator[None]:
        for name, text in texts.items():
            (web[0] / name).write_text(text)
        yield
        for name in texts:
            (web[0] / name).unlink()

    monkeypatch.setattr(renewal, "published", published)
    monkeypatch.setattr(renewal, "_nft", lambda text: None)  # this machine's
    monkeypatch.setattr(granting, "grant_own", functools.partial(put, tmp_path))
    acme = Acme(enabled=True, directory=f"{authority.url}/directory", contact="wifi@example.net", names=(OTHER,))
    paths = Paths(state=tmp_path, run=tmp_path / "run")
    return Config(paths=paths, portal=Portal(hostname=NAME), acme=acme)


def put(state: Path, file: Path, wish: Wish) -> str:
    """In the place of what `apply` does in tests/lab."""
    for name, data in wish.files.items():
        (state / {"portal.certificate": certificates.GIVEN_PORTAL}.get(name, certificates.GIVEN_ADMIN)).write_bytes(
            data
        )
    return ""


def in_use(config: Config) -> Config:
    place = config.paths.state / certificates.GIVEN_PORTAL
    return dataclasses.replace(config, portal=dataclasses.replace(config.portal, certificate=place, key=place))


def shown(config: Config) -> x509.Certificate:
    return x509.load_pem_x509_certificate((config.paths.state / certificates.GIVEN_PORTAL).read_bytes())


def test_it_is_got_for_all_names_and_then_nothing_is_done(config: Config, authority: Authority) -> None:
    (config.paths.state / renewal.ACCOUNT).unlink()
    assert "new certificate" in renewal.renew(config)
    assert tls.names(shown(config)) == [NAME, OTHER]
    certificates.check_given((config.paths.state / certificates.GIVEN_PORTAL).read_bytes())
    assert (config.paths.state / renewal.ACCOUNT).stat().st_mode & 0o777 == 0o600
    assert not (config.paths.state / renewal.FETCHED).exists()
    assert "nothing to do" in renewal.renew(in_use(config))
    assert len(authority.orders) == 1


def test_it_is_renewed_in_its_last_third_with_another_key_and_the_same_account(
    config: Config, authority: Authority
) -> None:
    authority.life = timedelta(hours=1.4)  # it began an hour ago
    renewal.renew(config)
    first = shown(config)
    authority.life = timedelta(hours=1.6)
    renewal.renew(in_use(config))
    second = shown(config)
    assert second.public_key() != first.public_key()
    assert "nothing to do" in renewal.renew(in_use(config))
    assert len(authority.accounts) == 1
    given = config.paths.state / certificates.GIVEN_ADMIN
    assert given.read_bytes() == (config.paths.state / certificates.GIVEN_PORTAL).read_bytes()


def test_another_name_is_due_at_once(config: Config, authority: Authority) -> None:
    renewal.renew(config)
    more = dataclasses.replace(config, acme=dataclasses.replace(config.acme, names=(OTHER, "third.example.net")))
    renewal.renew(in_use(more))
    assert tls.names(shown(config)) == [NAME, OTHER, "third.example.net"]


def test_what_an_owner_brought_for_these_pages_stays(config: Config) -> None:
    given = config.paths.state / certificates.GIVEN_ADMIN
    given.write_bytes(b"another")
    renewal.renew(config)
    assert given.read_bytes() == b"another"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("rate", "asked too often, it is tried again tomorrow: too many new [31morders recently"),
        ("huge", "its answer has no end"),
        ("cut", "can't be reached"),
        ("html", "answers what isn't ACME"),
        ("list", "answers what isn't ACME"),
        ("path", "answers what isn't ACME"),
        ("long", "a token"),
        ("no http", "http-01"),
        ("half", "can't be used"),
        ("other key", "isn't the certificate's"),
        ("other name", "other names than were asked for"),
    ],
)
def test_whatever_goes_wrong_the_old_one_stays_and_a_line_says_why(
    config: Config, authority: Authority, web: tuple[Path, str], fault: str, line: str
) -> None:
    (config.paths.state / certificates.GIVEN_PORTAL).write_text("old")
    authority.fault = fault
    with pytest.raises(UserError) as error:
        renewal.renew(in_use(config))
    assert line in str(error.value)
    assert str(error.value).isprintable()
    assert (config.paths.state / certificates.GIVEN_PORTAL).read_text() == "old"
    assert not list(web[0].iterdir())
    (found,) = noted.finding(in_use(config))
    assert line in found.sentence
    authority.fault = ""
    renewal.renew(in_use(config))
    assert tls.names(shown(config)) == [NAME, OTHER]
    assert [found.state for found in noted.finding(config)] == ["ok"]


def test_a_name_that_leads_elsewhere(config: Config, authority: Authority, web: tuple[Path, str]) -> None:
    authority.web = authority.url.removeprefix("https://")
    with pytest.raises(UserError, match=f"doesn't find us by name: {NAME}: got .*; {OTHER}: got"):
        renewal.renew(config)
    assert not (config.paths.state / certificates.GIVEN_PORTAL).exists()


def test_an_authority_that_is_down_or_that_nobody_vouches_for(
    config: Config, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    with pytest.raises(UserError, match=r"can't be reached: .*certificate verify failed"):
        renewal.renew(config)
    authority.socket.close()
    with pytest.raises(UserError, match=r"can't be reached: .*(refused|SSL)"):
        renewal.renew(config)


def test_what_was_fetched_and_not_put_in_place_is_used_the_next_time(
    config: Config, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(granting, "grant_own", lambda file, wish: "nginx refuses its configuration")
        with pytest.raises(UserError, match="waits, as it can't be put in place: nginx refuses"):
            renewal.renew(config)
    assert (config.paths.state / renewal.FETCHED).stat().st_mode & 0o777 == 0o600
    renewal.renew(config)
    assert tls.names(shown(config)) == [NAME, OTHER]
    assert len(authority.orders) == 1


def test_a_file_of_the_owners_is_not_ours_to_replace(config: Config) -> None:
    own = Path("/etc/tls/own.pem")
    named = dataclasses.replace(config, portal=Portal(hostname=NAME, certificate=own, key=own))
    with pytest.raises(UserError, match="another file than ours"):
        renewal.renew(named)


def test_the_first_page_is_told_when_the_end_is_near(config: Config, authority: Authority) -> None:
    authority.life = timedelta(days=20)
    renewal.renew(config)
    noted.note(in_use(config), "it is down")
    end = int(shown(config).not_valid_after_utc.timestamp())
    assert not list(noted.attention(config, end - 15 * 86_400))
    (line,) = noted.attention(config, end - 13 * 86_400)
    assert f"{shown(config).not_valid_after_utc:%Y-%m-%d}" in line.text
    assert line.text.endswith("it is down")
    assert not list(noted.attention(Config(paths=config.paths), end))


def test_off_nothing_is_there(tmp_path: Path) -> None:
    config = parse("")
    assert "off" in renewal.renew(config)
    assert systemd_units.renewal(config) == {}
    assert not list(noted.finding(config))


def test_the_timer_starts_the_renewal(config: Config) -> None:
    units = systemd_units.renewal(config)
    assert "certificate renew\n" in units[systemd_units.RENEWAL]
    assert "OnUnitActiveSec=1d" in units[systemd_units.RENEWAL_TIMER]
    assert systemd_units.RENEWAL not in systemd_units._started(units)


def test_without_a_gateway_the_authority_comes_by_any_device(config: Config) -> None:
    off = dataclasses.replace(config, gateway=dataclasses.replace(config.gateway, enabled=False))
    assert 'iifname "' in renewal._opened(config)
    assert "iifname" not in renewal._opened(off)


def test_the_internet_reaches_nothing_but_the_challenge(config: Config) -> None:
    block = web_server.challenges(config)
    assert "proxy_pass" not in block
    assert f"alias {config.paths.run}/acme/;" in block


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[acme]\nenabled = true", "'login.gatehouse.internal' is no name of the public DNS"),
        ('[portal]\nhostname = "a.example.net"\n[acme]\nenabled = true\nnames = ["*.example.net"]', "public DNS"),
        ('[acme]\ndirectory = "http://acme.example.net/"', "with https://"),
        ('[acme]\ncontact = "nobody"', "e-mail address"),
        ("[acme]\nport = 0", "port"),
    ],
)
def test_what_no_authority_would_take_is_refused(text: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line.replace("*", ".")):
        parse(text)
