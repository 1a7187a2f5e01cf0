"""The vault's FTP server, asked by Python's own client and by hand."""

import contextlib
import ftplib
import hashlib
import io
import re
import socket
import ssl
import struct
import time
import warnings
from collections.abc import Iterator

import pytest

from appliance.vault.models import DROP, READ, Span, Version
from tests.unit.vault_server import HOST, PASSWORD, Running, client_tls, running

CLOSE_BY_RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("vault")) as server:
        yield server


def put(ftp: ftplib.FTP, path: str, data: bytes, command: str = "STOR") -> str:
    return ftp.storbinary(f"{command} {path}", io.BytesIO(data))


def got(ftp: ftplib.FTP, path: str) -> bytes:
    pieces: list[bytes] = []
    ftp.retrbinary(f"RETR {path}", pieces.append)
    return b"".join(pieces)


def refusal(call: object, *arguments: object) -> str:
    with pytest.raises(ftplib.Error) as caught:
        call(*arguments)  # type: ignore[operator]
    return str(caught.value)


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_226_names_what_was_stored(server: Running, tls: bool) -> None:
    vault = server.vault(f"stored{tls:d}".lower())
    ftp = server.tls_client(vault.name) if tls else server.client(vault.name)
    data = b"\r\nbytes\n" * 90_000
    ftp.voidcmd("TYPE A")  # and nobody's bytes are changed
    reply = put(ftp, "a/b.bin", data)
    digest = hashlib.sha256(data).hexdigest()
    found = re.fullmatch(rf"226 Transfer complete; sha256={digest} version=(\d+)", reply)
    assert found
    assert Version.get_by_id(int(found[1])).sha256 == digest
    assert got(ftp, "a/b.bin") == data
    assert ftp.sendcmd("XSHA256 /a/b.bin") == f"250 {digest}"
    assert ftp.sendcmd("HASH a/b.bin") == f"213 SHA-256 0-{len(data)} {digest} /a/b.bin"
    ftp.quit()


def raw_upload(server: Running, ftp: ftplib.FTP, path: str, data: bytes) -> socket.socket:
    connection = ftp.transfercmd(f"STOR {path}")
    connection.sendall(data)
    return connection


def test_what_is_reset_is_never_confirmed(server: Running) -> None:
    vault = server.vault("reset")
    ftp = server.client("reset")
    put(ftp, "x", b"good")
    connection = raw_upload(server, ftp, "x", b"half of it")
    time.sleep(0.05)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RESET)
    connection.close()
    assert refusal(ftp.voidresp).startswith("426 the data connection was reset: kept as version")
    assert server.content(vault, "/x") == b"good"
    assert got(ftp, "x") == b"good"
    ftp.quit()


def test_tls_without_close_notify_is_never_confirmed(server: Running) -> None:
    vault = server.vault("cut")
    ftp = server.tls_client("cut")
    put(ftp, "x", b"good")
    connection = raw_upload(server, ftp, "x", b"half of it")
    socket.socket(fileno=connection.detach()).close()
    assert refusal(ftp.voidresp).startswith("426 TLS was ended without close_notify: kept as version")
    assert server.content(vault, "/x") == b"good"
    ftp.quit()


def test_a_lost_control_connection_confirms_nothing(server: Running) -> None:
    vault = server.vault("lost")
    ftp = server.client("lost")
    put(ftp, "x", b"good")
    connection = raw_upload(server, ftp, "x", b"half")
    ftp.close()
    connection.close()
    wait_for_end(server)
    assert server.content(vault, "/x") == b"good"
    last = Version.select().where(Version.vault == vault).order_by(Version.id.desc()).first()
    assert (last.confirmed, last.bytes) == (False, 4)


def test_what_was_said_before_the_end_counts_first(server: Running) -> None:
    """An ABOR that came with the end of the data, in one go."""
    vault = server.vault("abor")
    ftp = server.client("abor")
    connection = raw_upload(server, ftp, "x", b"half")
    ftp.putcmd("ABOR")
    connection.close()
    replies = [refusal(ftp.getresp), ftp.getresp()]
    assert [reply[:3] for reply in replies] == ["426", "226"]
    assert server.content(vault, "/x") is None
    ftp.quit()


def test_without_a_data_connection_nothing_begins(server: Running) -> None:
    vault = server.vault("none")
    ftp = server.client("none")
    put(ftp, "x", b"good")
    assert refusal(ftp.sendcmd, "STOR x").startswith("425 Use EPSV")
    ftp.sendcmd("EPSV")
    assert ftp.sendcmd("STOR x").startswith("150")
    assert refusal(ftp.sendcmd, "STOR y").startswith("450 A transfer is under way")
    assert refusal(ftp.sendcmd, "ABOR").startswith("426")
    assert ftp.getresp() == "226 ABOR is done."
    assert ftp.sendcmd("ABOR").startswith("225")
    assert put(ftp, "y", b"other").startswith("226")
    assert server.content(vault, "/x") == b"good"
    ftp.quit()


def test_allo_says_how_much_has_to_come(server: Running) -> None:
    vault = server.vault("allo")
    ftp = server.client("allo")
    assert ftp.sendcmd("ALLO 10") == "200 That is how much has to come."
    assert refusal(put, ftp, "x", b"short").startswith("426 5 bytes came, 10 were announced")
    assert server.content(vault, "/x") is None
    ftp.sendcmd("ALLO 5")
    assert put(ftp, "x", b"exact").startswith("226")
    assert refusal(ftp.sendcmd, "ALLO -1").startswith("501")
    ftp.quit()


def test_resume_of_what_nobody_confirmed(server: Running) -> None:
    vault = server.vault("resume")
    ftp = server.client("resume")
    connection = raw_upload(server, ftp, "x", b"0123456789")
    ftp.close()
    connection.close()
    wait_for_end(server)
    ftp = server.client("resume")
    assert ftp.storbinary("STOR x", io.BytesIO(b"6789ab"), rest=6).startswith("226")
    assert server.content(vault, "/x") == b"0123456789ab"
    assert put(ftp, "x", b"cd", "APPE").startswith("226")
    assert server.content(vault, "/x") == b"0123456789abcd"
    assert refusal(lambda: ftp.storbinary("STOR x", io.BytesIO(b"y"), rest=99)).startswith("554")
    pieces: list[bytes] = []
    ftp.retrbinary("RETR x", pieces.append, rest=12)
    assert b"".join(pieces) == b"cd"
    ftp.quit()


def test_drop_brings_new_files_and_sees_nothing(server: Running) -> None:
    vault = server.vault("router", DROP, login="drop")
    server.box.put(vault, "/there", b"there")
    ftp = server.client("drop")
    assert ftp.cwd("anywhere").startswith("250")
    assert put(ftp, "new", b"new").startswith("226")
    assert server.content(vault, "/anywhere/new") == b"new"
    assert refusal(put, ftp, "new", b"other").startswith("550 it is there already")
    assert refusal(put, ftp, "/there", b"other").startswith("550 it is there already")
    assert refusal(put, ftp, "new", b"more", "APPE").startswith("550")
    assert refusal(lambda: ftp.storbinary("STOR z", io.BytesIO(b""), rest=1)).startswith("550")
    for command in ("RETR /there", "SIZE /there", "MDTM /there", "DELE /there", "RNFR /there", "MLST /there", "MKD d"):
        assert refusal(ftp.sendcmd, command).startswith("550"), command
    for command in ("RMD /anywhere", "HASH /there", "SITE VERSIONS /there", "STAT /", "MFMT 20200101000000 /there"):
        assert refusal(ftp.sendcmd, command).startswith("550"), command
    assert refusal(ftp.nlst).startswith("550")
    assert put(ftp, "", b"unique", "STOU").startswith("226")
    assert server.content(vault, "/there") == b"there"
    ftp.quit()


def test_who_only_reads_changes_nothing(server: Running) -> None:
    vault = server.vault("shelf", READ)
    server.box.put(vault, "/there", b"there")
    ftp = server.client("shelf")
    assert got(ftp, "there") == b"there"
    for call in (lambda: put(ftp, "x", b""), lambda: put(ftp, "", b"", "STOU"), lambda: ftp.mkd("d")):
        assert refusal(call).startswith("550")
    assert refusal(ftp.delete, "there").startswith("550")
    ftp.quit()


def test_folders_names_and_times(server: Running) -> None:
    server.vault("files")
    ftp = server.client("files")
    ftp.mkd("d")
    put(ftp, "d/a b.txt", b"1")
    put(ftp, "d/ü.txt", b"22")
    ftp.cwd("d")
    assert ftp.pwd() == "/d"
    assert sorted(ftp.nlst()) == ["a b.txt", "ü.txt"]
    assert ftp.nlst("*b.txt") == ["a b.txt"]
    assert ftp.sendcmd("MFMT 20200102030405 ü.txt") == "213 Modify=20200102030405; /d/ü.txt."
    facts = dict(ftp.mlsd())
    assert facts["ü.txt"] == {
        "modify": "20200102030405", "perm": "adfrw", "size": "2", "type": "file", "unique": facts["ü.txt"]["unique"]
    }  # fmt: skip
    lines: list[str] = []
    ftp.retrlines("LIST -la", lines.append)
    assert re.fullmatch(r"-rw-r-----   1 vault    vault           1 \w{3} \d\d +[\d:]+ a b.txt", lines[0])
    ftp.rename("ü.txt", "/z")
    assert ftp.size("/z") == 2
    ftp.delete("/z")
    assert refusal(ftp.size, "/z").startswith("550")
    assert refusal(ftp.rmd, "/d").startswith("550 the folder isn't empty")
    assert refusal(ftp.cwd, "/nowhere").startswith("550")
    ftp.quit()


def test_a_quota_refuses_before_anything_is_lost(server: Running) -> None:
    vault = server.vault("small", quota_bytes=1000)
    ftp = server.client("small")
    put(ftp, "x", b"good")
    assert refusal(put, ftp, "x", b"y" * 5000).startswith("552")
    ftp.sendcmd("ALLO 5000")
    assert refusal(put, ftp, "x", b"").startswith("552")
    assert server.content(vault, "/x") == b"good"
    assert ftp.sendcmd("AVBL") == "213 996"
    ftp.quit()


def wait_for_end(server: Running) -> None:
    """Until no session is left."""
    until = time.monotonic() + 60
    while server.office.gate.sessions and time.monotonic() < until:
        time.sleep(0.01)
    assert not server.office.gate.sessions


class Hand:
    """A control connection by hand."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self.socket = socket.create_connection((host, port), 10)
        self.file = self.socket.makefile("rb")
        assert self.line().startswith("220")

    def line(self) -> str:
        return self.file.readline().decode().rstrip("\r\n")

    def ask(self, data: bytes) -> str:
        self.socket.sendall(data)
        return self.line()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def hand(server: Running) -> Iterator[Hand]:
    made = Hand(server.port)
    yield made
    with contextlib.suppress(OSError):
        made.close()


def test_hostile_lines_leave_the_session_alive(server: Running, hand: Hand) -> None:
    vault = server.vault("hostile")
    hand.ask(b"USER hostile\r\n")
    assert hand.ask(f"PASS {PASSWORD}\r\n".encode()) == "230 Welcome."
    assert hand.ask(b"CWD a\0b\r\n").startswith("501 Control")
    assert hand.ask(b"MKD a\rb\r\n").startswith("501 Control")
    assert hand.ask(b"MKD \xff\xfe\r\n").startswith("501 That isn't UTF-8")
    assert hand.ask(b"MKD ../../etc\r\n") == '257 "/etc" directory created.'
    assert hand.ask(b"MKD " + b"x" * 300 + b"\r\n").startswith("553 a name is longer")
    assert hand.ask(b"MKD " + b"x" * 50_000 + b"\r\n") == "500 That line is too long."
    assert hand.ask(b"\xff\xf4\xff\xf2ABOR\r\n").startswith("225")
    for line in (b"PORT 127,0,0,1,0,22", b"PORT 192,0,2,1,8,1", b"EPRT |1|192.0.2.1|2049|", b"PORT 1,2,3"):
        assert hand.ask(line + b"\r\n").startswith("501"), line
    assert hand.ask(b"SITE CHMOD 777 etc\r\n").startswith("500")
    assert hand.ask(b"NOOP\r\n").startswith("200")
    assert [entry.name for entry in server.box.store.entries(vault, "/")] == ["etc"]


def test_the_fetch_of_a_router(server: Running, hand: Hand) -> None:
    """`/tool fetch upload=yes mode=ftp` in bytes: USER, PASS, TYPE, PASV, STOR, and QUIT after the answer."""
    vault = server.vault("gate7", DROP)
    assert hand.ask(b"USER gate7\r\n").startswith("331 ")
    assert hand.ask(f"PASS {PASSWORD}\r\n".encode()).startswith("230 ")
    assert hand.ask(b"TYPE I\r\n").startswith("200 ")
    reply = hand.ask(b"PASV\r\n")
    numbers = re.fullmatch(r"227 Entering passive mode \(127,0,0,1,(\d+),(\d+)\)\.", reply)
    assert numbers
    with socket.create_connection((HOST, int(numbers[1]) * 256 + int(numbers[2])), 10) as data:
        assert hand.ask(b"STOR gate7.rsc\r\n")[:4] in ("125 ", "150 ")
        data.sendall(b"# export\r\n")
    assert hand.line().startswith("226 ")
    assert hand.ask(b"QUIT\r\n").startswith("221 ")
    assert server.content(vault, "/gate7.rsc") == b"# export\r\n"


def test_passwords_only_through_tls_where_the_vault_says_so(server: Running, hand: Hand) -> None:
    server.vault("closed", tls_only=True)
    assert hand.ask(b"USER closed\r\n") == "530 This log-in needs TLS: use AUTH TLS first."
    unknown = {hand.ask(f"USER nobody{number}\r\n".encode())[:3] for number in range(40)}
    assert unknown == {"331", "530"}  # so that neither tells that a name exists
    assert hand.ask(b"USER nobody0\r\n") == hand.ask(b"USER nobody0\r\n")
    ftp = server.tls_client("closed")
    assert put(ftp, "x", b"x").startswith("226")
    ftp.quit()


def test_what_follows_auth_in_clear_is_no_command(server: Running, hand: Hand) -> None:
    assert hand.ask(b"AUTH TLS\r\nUSER injected\r\n").startswith("234")
    hand.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):  # for a handshake is waited, and USER gets no answer
        hand.socket.recv(1)


def test_implicit_tls_and_version_6(server: Running) -> None:
    vault = server.vault("six")
    old = client_tls()
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("::1", server.tls_port), 10) as raw:
        old.wrap_socket(raw)
    raw = socket.create_connection(("::1", server.tls_port), 10)
    ftp = ftplib.FTP_TLS(context=client_tls())  # noqa: S321
    ftp.sock, ftp.af, ftp.host = ftp.context.wrap_socket(raw), socket.AF_INET6, "::1"
    ftp.file = ftp.sock.makefile("r", encoding="utf-8")
    assert ftp.getresp().startswith("220")
    ftp.login("six", PASSWORD, secure=False)
    ftp.prot_p()
    assert put(ftp, "x", b"by six").startswith("226")
    assert server.content(vault, "/x") == b"by six"
    ftp.quit()


def test_many_files_in_a_folder(server: Running) -> None:
    vault = server.vault("many")
    names = [f"{number:05}" for number in range(10_000)]
    server.box.store.make_folder(vault, "/d")
    rows = [(vault.id, "/d", name, 1, 1) for name in names]
    Span.insert_many(rows, [Span.vault, Span.folder, Span.name, Span.modified_s, Span.from_ms]).execute()
    ftp = server.client("many")
    assert ftp.nlst("d") == names
    assert [name for name, _ in ftp.mlsd("d")] == names
    ftp.quit()


def test_active_mode(server: Running) -> None:
    vault = server.vault("active")
    ftp = server.client("active")
    ftp.set_pasv(False)
    assert put(ftp, "x", b"active").startswith("226")
    assert server.content(vault, "/x") == b"active"
    ftp.quit()
