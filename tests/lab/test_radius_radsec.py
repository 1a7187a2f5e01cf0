"""RADIUS over TLS (RFC 6614) through FreeRADIUS's own listener."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from pyrad import packet as codec

from appliance import certificates
from appliance.accounts.models import Session
from appliance.nas.models import Nas
from tests.lab.radius import RadiusServer, radius_server
from tests.lab.radsec import RadSec

ATTIC, CELLAR, STRANGER = "127.0.0.5", "127.0.0.6", "127.0.0.7"


@pytest.fixture(scope="module")
def server() -> Iterator[RadiusServer]:
    with radius_server(radius_toml=f"radsec_port = {free_tcp_port()}\n") as server:
        with server.core():
            for name, address in (("attic", ATTIC), ("cellar", CELLAR)):
                Nas.create(name=name, address=address, secret=server.box.seal(server.secret), radsec=True)
        server.plan("home")
        server.account("bob", "home", "correct horse")
        certificate(server, "attic")
        with pytest.MonkeyPatch.context() as patch:  # a serial number that X.690, 8.3 pads with a zero
            patch.setattr(x509, "random_serial_number", lambda: 0x80 << 144)
            certificate(server, "cellar")
        server.start()
        yield server


def free_tcp_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def certificate(server: RadiusServer, name: str) -> Path:
    """What `gatehouse nas certificate` prints, in a file."""
    pair = certificates.new_router(server.config, name)
    file = server.folder / f"{name}.pem"
    file.write_text(pair.key + pair.certificate)
    return file


def refused(server: RadiusServer, source: str, file: Path | None) -> bool:
    """With TLS 1.3 the handshake may look well on our side before the server has read our certificate."""
    try:
        with RadSec(server, source, file) as router:
            router.login("bob", "correct horse")
    except (ssl.SSLError, OSError):
        return True
    return False


def test_logins_and_accounting_on_one_connection(server: RadiusServer) -> None:
    with RadSec(server, ATTIC, server.folder / "attic.pem") as router:
        assert router.login("bob", "correct horse") == codec.AccessAccept
        assert router.login("bob", "wrong") == codec.AccessReject
        assert router.login("bob", "correct horse", message_authenticator=False) == codec.AccessAccept
        assert router.account("bob", "Start", "tls-1") == codec.AccountingResponse
    with server.core():
        assert Session.get(acct_session_id="tls-1").nas == "attic"
    assert "[bob] (from client attic " in server.log()


def test_each_router_is_itself(server: RadiusServer) -> None:
    with RadSec(server, CELLAR, server.folder / "cellar.pem") as router:
        assert router.account("bob", "Start", "tls-2") == codec.AccountingResponse
    with server.core():
        assert Session.get(acct_session_id="tls-2").nas == "cellar"


def test_no_certificate_or_one_of_somebody_else(server: RadiusServer) -> None:
    with radius_server() as other:
        foreign = certificate(other, "attic").read_text()
    file = server.folder / "foreign.pem"
    file.write_text(foreign)
    assert refused(server, ATTIC, None)
    assert refused(server, ATTIC, file)
    assert refused(server, ATTIC, server.folder / "cellar.pem")
    assert not refused(server, ATTIC, server.folder / "attic.pem")


def test_an_address_that_is_no_routers(server: RadiusServer) -> None:
    assert refused(server, STRANGER, server.folder / "attic.pem")


def test_the_servers_own_certificate_is_no_routers(server: RadiusServer) -> None:
    own = certificates.own_server(server.config)
    file = server.folder / "own.pem"
    file.write_text(own.key + own.certificate)
    assert refused(server, ATTIC, file)


def test_a_silent_connection_holds_up_nobody(server: RadiusServer) -> None:
    """Somebody connects and never speaks TLS."""
    address = ("127.0.0.1", server.config.radius.radsec_port)
    with socket.create_connection(address, 5, source_address=(CELLAR, 0)) as silent:
        silent.sendall(b"\x16\x03\x01")
        assert not refused(server, ATTIC, server.folder / "attic.pem")
        assert "Received Access-Accept" in server.radclient('User-Name = "bob"\nUser-Password = "correct horse"')


def test_a_stalled_accounting_delays_no_login_on_the_same_connection(server: RadiusServer) -> None:
    file = server.folder / "attic.pem"
    with RadSec(server, ATTIC, file) as router, RadSec(server, ATTIC, file) as other:
        server.kill("accounting")
        with pytest.raises(TimeoutError):
            other.account("bob", "Start", "tls-3")
        assert router.login("bob", "correct horse") == codec.AccessAccept
    server.start("accounting")


def test_a_new_certificate_ends_the_old_one(server: RadiusServer) -> None:
    old = (server.folder / "cellar.pem").read_text()
    certificate(server, "cellar")
    server.stop()
    server.start()
    file = server.folder / "old.pem"
    file.write_text(old)
    assert refused(server, CELLAR, file)
    assert not refused(server, CELLAR, server.folder / "cellar.pem")
