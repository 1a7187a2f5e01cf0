"""The doctor: what is broken for real is found, with what mends it; and no check hides another."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as codec

from appliance import config, db
from appliance.accounts.database import open_core
from appliance.accounts.models import Account, LiveChange, Mail, Plan, Session, core_db
from appliance.config import Config
from appliance.crypto import load_box
from appliance.doctor import machine, run
from appliance.doctor.findings import BAD, OK, WARN, Check, Finding, Report, examine, from_json
from appliance.nas import checks as routers
from appliance.nas import coa, setup
from appliance.nas.models import Nas
from appliance.nas.script import SECTIONS
from portal import asking, checks, phones
from tests.unit import routeros
from tests.unit.conftest import Gatehouse
from tests.unit.test_admin import NASTY, Browser, app, box, browser  # noqa: F401 (fixtures)

HOST = "login.example.net"
SECRET = "0123456789abcdef"


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    """What is asked of the database here is the same on both engines."""
    return f"sqlite:///{tmp_path / 'core.db'}"


def states(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(found.state, found.sentence) for found in findings]


# Running checks


def test_no_check_hides_another() -> None:
    release = threading.Event()

    def hangs(_: Config) -> Iterator[Finding]:
        release.wait(10)
        yield Finding("late", OK, "")

    def breaks(_: Config) -> Iterator[Finding]:
        yield Finding("half", OK, "")
        raise ZeroDivisionError("x")

    def refuses(_: Config) -> Iterator[Finding]:
        raise PermissionError(13, "not for you", "/secret")

    fine = [Finding("fine", OK, "It is.")]
    todo = [
        Check("slow", hangs, limit_s=0.2),
        Check("broken", breaks),
        Check("closed", refuses),
        Check("fine", lambda _: fine),
        Check("root's", lambda _: fine, root=True),
    ]
    report = examine(Config(), todo, as_root=False, now=7)
    release.set()
    assert [(found.subject, found.state) for found in report.findings] == [
        ("slow", WARN),
        ("broken", WARN),
        ("closed", BAD),
        ("fine", OK),
    ]
    assert "ZeroDivisionError" in report.findings[1].sentence
    assert "0.2 seconds" in report.findings[0].sentence
    assert "not for you" in report.findings[2].sentence
    assert report.left == ("root's",)
    assert report.state == BAD
    assert from_json(report.to_json()) == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"at": 1, "findings": [{}], "left": []}', '{"at": "x"}'])
def test_a_kept_report_that_is_none_is_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"no report|Expecting"):
        from_json(text)


# Certificates


class Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self.name, self.name, self.key.public_key(), 1, now - timedelta(900), now + timedelta(900)
        )
        self.certificate = (
            builder.add_extension(constraints, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, folder: Path, host: str, days: int, begun_days: int = 100) -> tuple[Path, Path]:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        begin, end = now - timedelta(begun_days), now + timedelta(days, 60)
        serial = x509.random_serial_number()
        made = (
            x509.CertificateBuilder(self.name, name, key.public_key(), serial, begin, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        certificate, secret = folder / f"{serial}.pem", folder / f"{serial}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret


Shows = Callable[[Path, Path], Config]


@pytest.fixture
def shows(tmp_path: Path) -> Iterator[Shows]:
    """Starts a TLS server with that certificate; the configuration of a portal that is there."""
    listeners: list[socket.socket] = []

    def start(certificate: Path, key: Path) -> Config:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(context, listener), daemon=True).start()
        return config.parse(
            f'[gateway]\naddress = "127.0.0.1/24"\n[paths]\nrun = "{tmp_path}"\n'
            f'[portal]\nhostname = "{HOST}"\ncertificate = "{certificate}"\nkey = "{key}"\n'
            f"https_port = {listener.getsockname()[1]}\n"
        )

    def serve(context: ssl.SSLContext, listener: socket.socket) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link, contextlib.suppress(OSError):
                context.wrap_socket(link, server_side=True).close()

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this process trusts as if it were public."""
    made = Authority()
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    return made


@pytest.mark.parametrize(
    ("host", "days", "begun", "state", "says"),
    [
        (HOST, 90, 1, OK, "publicly valid, for 90 days"),
        ("*.example.net", 90, 1, OK, "publicly valid"),
        (HOST, 5, 1, WARN, "It expires in 5 days"),
        (HOST, -3, 10, BAD, "It expired 3 days ago"),
        (HOST, 90, -2, BAD, "It isn't valid yet"),
        ("other.example.net", 90, 1, BAD, f"It is of other.example.net, not of {HOST}"),
    ],
)
def test_a_certificate_is_judged_as_a_phone_does(
    shows: Shows, authority: Authority, tmp_path: Path, host: str, days: int, begun: int, state: str, says: str
) -> None:
    settled = shows(*authority.issue(tmp_path, host, days, begun))
    ((found, sentence),) = states(checks.certificate(settled))
    assert (found, says in sentence) == (state, True), sentence
    assert checks.is_public(settled) == (state == OK)


def test_option_114_is_sent_exactly_when_phones_trust(
    shows: Shows, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = shows(*authority.issue(tmp_path, HOST, 90))
    assert states(checks.option_114(settled))[0] == (OK, "Phones are told of the portal's API.")
    (tmp_path / "dnsmasq.conf").write_text("no-ping\n")
    assert states(checks.option_114(settled))[0][0] == WARN
    monkeypatch.delenv("SSL_CERT_FILE")
    assert states(checks.option_114(settled))[0][0] == OK  # not sent, and not to be trusted
    (tmp_path / "dnsmasq.conf").write_text("dhcp-option=114,https://x/captive-portal/api\n")
    (found,) = checks.option_114(settled)
    assert (found.state, found.commands) == (BAD, ("gatehouse apply",))
    assert "its authority isn't a public one" in states(checks.certificate(settled))[0][1]


def test_files_that_no_longer_fit_are_found_before_the_web_server_is_started_anew(
    shows: Shows, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(tmp_path, HOST, 90)
    settled = shows(certificate, key)
    renewed, its_key = authority.issue(tmp_path, HOST, 90)
    certificate.write_bytes(renewed.read_bytes())
    said = states(checks.certificate(settled))
    assert said[0] == (BAD, f"{key} isn't the key of {certificate}: the web server won't start again.")
    assert said[-1] == (WARN, "The web server still shows an older one than lies in the file.")
    key.write_bytes(its_key.read_bytes())
    assert [state for state, _ in states(checks.certificate(settled))] == [OK, WARN]
    key.write_text("nonsense")
    assert states(checks.certificate(settled))[0][0] == BAD


def test_nobody_shows_a_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path, HOST, 90)
    settled = config.parse(
        '[gateway]\naddress = "127.0.0.1/24"\n'
        f'[portal]\ncertificate = "{certificate}"\nkey = "{key}"\nhttps_port = 9\nhttp_port = 9\n'
    )
    ((state, sentence),) = states(checks.certificate(settled))
    assert (state, sentence) == (BAD, "Port 9 shows none: Connection refused.")
    (found,) = phones.play(settled)
    assert found.state == BAD
    assert found.commands


# Names and addresses


def message(*records: bytes, code: int = 0) -> bytes:
    head = b"\x00\x07" + (0x8180 | code).to_bytes(2) + b"\x00\x01" + len(records).to_bytes(2) + bytes(4)
    return head + b"\x01a\x00\x00\x01\x00\x01" + b"".join(records)


def test_answers_of_a_name_server() -> None:
    alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x04\x01b\xc0\x0c"
    found = b"\x01b\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xc0\x00\x02\x07"
    assert [str(ip) for ip in asking._addresses(message(alias, found))] == ["192.0.2.7"]
    for answer, why in ((message(code=3), "NXDOMAIN"), (message(alias), "no address"), (b"\x00\x07", "isn't DNS")):
        with pytest.raises(OSError, match=why):
            asking._addresses(answer)


@given(st.binary(max_size=80))
def test_no_answer_of_a_name_server_is_more_than_an_error(data: bytes) -> None:
    for answer in (data, message()[:12] + data):
        with contextlib.suppress(OSError):
            asking._addresses(answer)


@pytest.mark.parametrize(
    ("address", "through"), [("192.0.2.7", True), ("192.0.2.1", True), ("2.0.2.7", False), ("192.0.2.0", False)]
)
def test_what_a_set_lets_through(address: str, through: bool) -> None:
    text = "set garden {\n\telements = { 192.0.2.7 timeout 1d expires 23h59m,\n\t\t192.0.2.1 timeout 1d }\n}"
    assert checks.lets_through(text, IPv4Address(address)) == through


def test_a_full_range_of_addresses(tmp_path: Path) -> None:
    settled = config.parse(
        f'[paths]\nstate = "{tmp_path}"\n[gateway]\naddress = "10.10.0.1/24"\n'
        '[dhcp]\nfirst = "10.10.0.10"\nlast = "10.10.0.19"\nlease_s = 3600\n'
    )
    (tmp_path / "dnsmasq").mkdir()
    now = time.time()

    def leased(count: int, expires_at: float) -> Finding:
        lines = [f"{int(expires_at)} 02:00:00:00:00:{n:02x} 10.10.0.{10 + n} * *\n" for n in range(count)]
        (tmp_path / "dnsmasq" / "leases").write_text("".join(lines))
        return checks._taken(settled, "x", now)

    assert (leased(8, now + 60).state, leased(10, now - 1).state) == (OK, OK)
    full = leased(10, now + 60)
    assert (full.state, full.sentence) == (BAD, "10 of 10 are taken. New guests get no address.")
    assert full.commands == ("lease_s = 1800", 'address = "10.10.0.1/23"', "gatehouse apply")
    (tmp_path / "dnsmasq" / "leases").unlink()
    assert checks._taken(settled, "x", now).sentence == "0 of 10 are taken."


# The machine


def test_a_clock_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert states(machine.year(Config()))[0][0] == OK
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    ((state, sentence),) = states(machine.year(Config()))
    assert (state, "1970-01-02" in sentence) == (BAD, True)


def test_disks(tmp_path: Path) -> None:
    assert machine._space(Path("/proc")).state == BAD  # nothing is free there
    if os.geteuid():
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1G", "none", tmp_path], check=True)
    try:
        assert "read-only" in machine._space(tmp_path).sentence
        subprocess.run(["mount", "-o", "remount,rw", tmp_path], check=True)
        assert machine._space(tmp_path).state == OK
        subprocess.run(["fallocate", "-l", "990M", tmp_path / "big"], check=True)
        assert machine._space(tmp_path).state == BAD
        subprocess.run(["truncate", "-s", "900M", tmp_path / "big"], check=True)
        assert machine._space(tmp_path).state == OK  # a gigabyte is small, but more than a twentieth is free
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_data_disk_that_is_gone(tmp_path: Path) -> None:
    settled = config.parse(f'[paths]\nstate = "{tmp_path}"\ndata = "{tmp_path}/data"\n')
    assert states(machine.data(settled)) == []  # there was never one
    (tmp_path / "data-disk").write_text("0000-1111\n")
    ((state, sentence),) = states(machine.data(settled))
    assert (state, sentence) == (BAD, "It is absent.")


def test_a_damaged_database(tmp_path: Path) -> None:
    settled = config.parse(f'[paths]\nstate = "{tmp_path}"\n')
    (tmp_path / "core").mkdir()
    file = tmp_path / "core" / "core.db"
    with open_core(settled, create=True):
        db.migrate(core_db.obj, db.migrations("appliance.migrations"))
        Plan.insert_many([{"name": f"plan {n}" * 20} for n in range(400)]).execute()
        core_db.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    with core_db.connection_context():
        assert states(machine.database(settled)) == [(OK, "It is whole, and of this program's version.")]
    whole = file.read_bytes()
    place = whole.index(b"plan 200plan 200")
    file.write_bytes(whole[: place - 200] + os.urandom(400) + whole[place + 200 :])
    with core_db.connection_context():
        (found,) = machine.database(settled)
    assert (found.state, found.sentence[:13]) == (BAD, "It is damaged")
    assert found.commands == ("gatehouse restore FILE --identity KEY --yes",)


def test_a_database_of_another_version(core: str) -> None:
    settled = config.parse(f'[database]\nurl = "{core}"\n')
    newest = len(db.migrations("appliance.migrations"))
    core_db.execute_sql(f"DELETE FROM schema_version WHERE number = {newest}")
    assert next(machine.database(settled)).commands == ("gatehouse apply",)
    core_db.execute_sql(f"INSERT INTO schema_version VALUES ({newest}, 'x')")
    core_db.execute_sql(f"INSERT INTO schema_version VALUES ({newest + 1}, 'x')")
    assert next(machine.database(settled)).state == WARN


def test_a_configuration_that_was_not_applied(toml: Path) -> None:
    settled = config.load(toml)
    assert states(machine.configuration(settled))[0][0] == BAD
    settled.paths.run.mkdir()
    shutil.copy(toml, settled.paths.run / "gatehouse.toml")
    assert states(machine.configuration(settled))[0][0] == OK
    toml.write_text(toml.read_text() + "[radius]\n")
    assert states(machine.configuration(config.load(toml))) == [(WARN, f"{toml} isn't what runs.")]


# Routers


class Router:
    """Answers each Disconnect with a NAK that says "no such session", signed with its secret (RFC 5176)."""

    def __init__(self, secret: str) -> None:
        self._link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._link.bind(("127.0.0.1", 0))
        self.port = self._link.getsockname()[1]
        self._secret = secret.encode()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            data, sender = self._link.recvfrom(4096)
            if data == b"over":
                return self._link.close()
            request = codec.CoAPacket(packet=data, secret=self._secret, dict=coa.dictionary())
            reply = request.CreateReply()
            reply.code = codec.DisconnectNAK
            reply["Error-Cause"] = coa.SESSION_NOT_FOUND
            self._link.sendto(reply.ReplyPacket(), sender)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.sendto(b"over", ("127.0.0.1", self.port))


@pytest.fixture
def router() -> Iterator[Router]:
    made = Router(SECRET)
    yield made
    made.stop()


@pytest.fixture
def site(toml: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    monkeypatch.setattr(coa, "TRY_S", 0.1)
    loaded = config.load(toml)
    with open_core(loaded):
        yield loaded


def add(site: Config, name: str, secret: str = SECRET, **values: Any) -> Nas:
    given = {"address": "127.0.0.1", "seen_at": int(time.time()), "coa_port": 9} | values
    return Nas.create(name=name, secret=load_box(site.paths.state).seal(secret), **given)


def paste(lines: tuple[str, ...]) -> None:
    """Raises for what no RouterOS would take."""
    routeros.Router((7, 15)).paste("\n".join(lines))


def test_a_router_that_is_well(site: Config, router: Router) -> None:
    nas = add(site, "attic", coa_port=router.port)
    (found,) = routers.one(site, nas)
    assert (found.subject, found.state) == ("router attic", OK)


def test_a_router_that_takes_no_coa(site: Config, router: Router) -> None:
    away, wrong = add(site, "away"), add(site, "wrong", "another0secret", address="127.0.0.2", coa_port=router.port)
    (found,) = routers.one(site, away)
    assert (found.state, "UDP port 9" in found.sentence) == (BAD, True)
    assert "another0secret" not in str(routers.one(site, wrong))
    assert routers.one(site, wrong)[0].state == BAD
    remote = add(site, "remote", address="192.0.2.0/24", kind="other")
    assert "reach none of its routers" in routers.one(site, remote)[0].sentence
    assert routers.one(site, add(site, "dumb", address="192.0.2.9", coa="none"))[0].state == OK


def test_the_lines_that_let_a_router_take_coa_are_routeros(site: Config) -> None:
    settled = config.parse(site.text + '[radius]\npublic_address = "198.51.100.2"\n', site.file)
    (found,) = routers.one(settled, add(settled, "attic", coa_port=1700))
    assert found.commands[0] == "/radius incoming set accept=yes port=1700"
    paste(found.commands)


def test_many_dead_routers_do_not_hide_the_others(site: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routers, "ASKED_FOR_S", 0.8)
    monkeypatch.setattr(routers, "AT_ONCE", 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("", 0))
        for number in range(40):
            add(site, f"dead-{number:02}", address=f"127.1.0.{number}", coa_port=mute.getsockname()[1])
        found = {finding.subject: finding for finding in routers.every(site)}
    assert "Disconnect and CoA don't reach it" in found["router dead-00"].sentence
    assert found["router dead-39"].sentence == "There was no time to ask whether it takes CoA."


def test_no_line_that_mends_holds_a_secret(site: Config) -> None:
    settled = config.parse(site.text + '[radius]\npublic_address = "198.51.100.2"\n', site.file)
    nas = add(settled, "attic")
    lines = "\n".join(line for part in SECTIONS for line in setup.remedy(settled, nas, part))
    assert "secret=SECRET" in lines
    assert SECRET not in lines


def test_a_router_whose_logins_can_be_forged(site: Config, router: Router) -> None:
    settled = config.parse(site.text + '[radius]\npublic_address = "198.51.100.2"\n', site.file)
    nas = add(settled, "old", require_message_authenticator=False, coa_port=router.port)
    (found,) = routers.one(settled, nas)
    assert (found.state, "CVE-2024-3596" in found.sentence) == (WARN, True)
    assert "require-message-auth" in found.commands[0]
    assert found.commands[1:] == ("gatehouse nas set old --message-authenticator", "gatehouse apply")


def test_routers_that_are_silent_or_were_never_heard_of(site: Config, router: Router) -> None:
    now = int(time.time())
    silent = add(site, "silent", coa_port=router.port, seen_at=now - 90_000)
    new = add(site, "new", coa="none", seen_at=None, address="127.0.0.3")
    (found,) = routers.one(site, silent)
    assert (found.state, found.sentence) == (BAD, "Its accounting is silent for 1d1h.")
    (found,) = routers.one(site, new)
    assert found.commands == ("gatehouse nas script new",)


def test_a_router_that_freeradius_does_not_know_yet(site: Config, router: Router) -> None:
    nas = add(site, "attic", coa_port=router.port)
    file = site.paths.run / "raddb" / "clients.conf"
    file.parent.mkdir(parents=True)
    file.write_text("# nobody\n")
    (found,) = routers.one(site, nas)
    assert (found.state, found.sentence) == (BAD, "FreeRADIUS doesn't know it yet.")
    block = "client attic {{\n\tipaddr = 127.0.0.1\n\tsecret = {}\n\trequire_message_authenticator = yes\n}}\n"
    file.write_text(block.format("0ldsecret"))
    assert routers.one(site, nas)[0].sentence == "FreeRADIUS doesn't know it yet as it stands here."
    file.write_text(block.format(SECRET))
    assert routers.one(site, nas)[0].state == OK
    nas.delete_instance()
    gone = next(iter(routers.every(site)))
    assert (gone.subject, gone.sentence) == ("router attic", "It was removed, but FreeRADIUS still answers it.")


def test_changes_that_did_not_reach_their_router(site: Config) -> None:
    now = int(time.time())
    assert states(routers.changes(site))[0][0] == OK
    add(site, "attic")
    plan = Plan.create(name="home")
    Account.create(name="anna", plan=plan, password=b"", created_at=0)
    told = {"account": "anna", "nas": "attic", "acct_session_id": "1", "mac": "x", "started_at": 1, "updated_at": 1}
    session = Session.create(unique_id="1", **told)
    change = {"session": session, "kind": "coa", "reason": "x", "next_try_at": now, "note": "no answer"}
    LiveChange.create(**change, created_at=now - 5)
    assert states(routers.changes(site))[0][0] == OK  # it has just been made
    LiveChange.create(**change, created_at=now - 3600)
    LiveChange.create(**change, created_at=now - 100, ended_at=now, state="refused")
    LiveChange.create(**change, created_at=now - 200_000, ended_at=now, state="refused")
    assert states(routers.changes(site)) == [
        (BAD, "1 change of running sessions can't be told to it: no answer."),
        (WARN, "It refused 1 change of running sessions since yesterday: no answer."),
    ]


def test_tunnels_that_are_down(site: Config) -> None:
    nas, now = add(site, "barn"), 10_000

    def state(at: int | None) -> list[tuple[str, str]]:
        return states(routers._tunnel(site, nas, at, now))

    assert state(now - 100) == [(OK, "Its tunnel was heard 1m ago.")]
    assert state(now - 3600) == [(BAD, "Its tunnel hasn't been heard for 1h.")]
    assert state(0) == [(BAD, "Its tunnel hasn't been heard yet.")]
    assert state(None) == [(BAD, "Its tunnel isn't set up here yet.")]


def test_messages_that_were_not_sent(site: Config) -> None:
    assert states(machine.messages(site)) == []
    told = {"recipient": "x", "subject": "x", "body": b"", "created_at": 0, "next_try_at": 0}
    Mail.create(**told)
    assert states(machine.messages(site)) == []
    Mail.create(**told, tries=1, error="busy")
    Mail.create(**told, state="failed", error="no such user")
    assert states(machine.messages(site)) == [
        (BAD, "1 message couldn't be sent: no such user."),
        (WARN, "The mail server hasn't taken 1 message yet: busy."),
    ]


# The command and the page


def test_the_command_says_what_is_wrong_and_fails(gatehouse: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Finding("clock", BAD, "It is late.", "Wind it.", ("wind clock",))
    found = Report(5, (Finding("sky", OK, "It is up."), bad), ("cellar",))
    monkeypatch.setattr(run, "look", lambda _: found)
    status, out, _ = gatehouse("doctor")
    assert status == 1
    assert out.splitlines() == [
        "BAD   clock: It is late.",
        "      Wind it.",
        "        wind clock",
        "ok    sky: It is up.",
        "Only root can look at: cellar.",
    ]
    status, out, _ = gatehouse("doctor", "--json")
    assert (status, json.loads(out)["state"]) == (1, BAD)
    assert from_json(out) == found
    monkeypatch.setattr(run, "look", lambda _: Report(5, (Finding("sky", OK, "It is up."),)))
    assert gatehouse("doctor")[0] == 0


def waited(one: Browser) -> str:
    """The page once it is no longer looking."""
    for _ in range(200):
        reply = one.get("/doctor")
        if "Refresh" not in reply.headers:
            return reply.body
        time.sleep(0.01)
    raise TimeoutError("it looks for ever")


def test_the_page_shows_what_was_found(box: Config, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(run, "ADMIN", "root")
    gate = threading.Event()
    bad = Finding("clock", BAD, f"It is late {NASTY}.", NASTY, (NASTY,))
    found = Report(int(time.time()), (Finding("sky", OK, "It is up."), bad), ("cellar",))

    def look(_: Config) -> Report:
        gate.wait(10)
        return found

    monkeypatch.setattr(run, "look", look)
    reader, operator = browser(app, "reader"), browser(app, "operator")
    page = reader.get("/doctor").body
    assert "Nobody has looked yet" in page
    assert 'method="post"' not in page.split("<main")[1]
    assert operator.post("/doctor").headers["Location"] == "/doctor"
    assert "It is looking" in operator.get("/doctor").body
    assert operator.post("/doctor").status == 303  # no second one beside it
    gate.set()
    page = waited(reader)
    assert re.search(r"As of \d+s ago: 1 to mend, 1 fine", page)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") == 3
    assert "cellar: these need the appliance&#39;s own command" in page.replace("appliance's", "appliance&#39;s")
    assert from_json(reader.get("/doctor?format=json").body) == found
    older = Report(found.at - 90, (Finding("cellar", BAD, "It is wet."), Finding("sky", BAD, "It is grey.")))
    run.keep(box, run.COMMAND, older)
    page = reader.get("/doctor").body
    assert "It is wet." in page
    assert "It is grey." not in page  # the page's own look is newer
    run.keep(box, run.COMMAND, Report(found.at + 5, older.findings))
    assert "by the command" in reader.get("/doctor").body
    assert re.search(r'href="/doctor">the doctor found 2 things to mend, ', reader.get("/").body)
