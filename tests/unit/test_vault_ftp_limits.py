"""Who may log in how often, how many may be there, and what two at once see."""

import ftplib
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import guesses
from appliance.vault import logins, vaults
from appliance.vault.logins import Logins
from appliance.vault.models import Failed, Refused, Version
from appliance.vault.server import Pace
from tests.unit.vault_server import PASSWORD, Running, new_certificate, running


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr("appliance.vault.ftp_session.WRONG_DELAY_S", 0.0)
    with running(tmp_path, max_sessions=4, max_per_address=3) as server:
        yield server


def refusal(call: object, *arguments: object) -> str:
    with pytest.raises((ftplib.Error, EOFError)) as caught:
        call(*arguments)  # type: ignore[operator]
    return str(caught.value)


def test_guessing_ends_and_a_restart_forgives_nobody(server: Running, tmp_path: Path) -> None:
    vault = server.vault()
    key = tmp_path / "key"
    asked = Logins(key)
    for number in range(guesses.FOR_NAME):
        with pytest.raises(Refused) as caught:
            asked.log_in("shop", "wrong", f"192.0.2.{number}")
        assert (caught.value.code, caught.value.text) == (530, logins.WRONG)
    for other in (asked, Logins(key)):
        with pytest.raises(Refused, match="too many wrong"):
            other.log_in("shop", PASSWORD, "192.0.2.200")
    assert "shop" not in " ".join(row.subject for row in Failed.select())
    Failed.delete().execute()
    assert asked.log_in("shop", PASSWORD, "192.0.2.77").vault == vault
    for number in range(guesses.FOR_NAME):
        with pytest.raises(Refused):
            asked.log_in("shop", "wrong", f"198.51.100.{number}")
    assert asked.log_in("shop", PASSWORD, "192.0.2.77")  # the one who always comes from there isn't locked out
    for _ in range(guesses.FOR_ADDRESS):
        with pytest.raises(Refused):
            asked.log_in(f"nobody{_}", "wrong", "203.0.113.1")
    with pytest.raises(Refused, match="too many wrong"):
        asked.log_in("shop", PASSWORD, "203.0.113.1")


def test_unknown_and_forbidden_sound_alike(server: Running) -> None:
    server.vault("near", networks="192.0.2.0/24")
    said = set()
    for login, word in (("near", PASSWORD), ("near", "wrong"), ("nobody", "wrong")):
        said.add(_said(server, login, word))
    assert said == {f"530 {logins.WRONG}."}


def _said(server: Running, login: str, word: str) -> str:
    ftp = server.client(None)
    try:
        return refusal(ftp.login, login, word)
    finally:
        ftp.close()


def test_a_password_that_was_right_is_remembered_until_it_is_changed(server: Running, tmp_path: Path) -> None:
    server.vault()
    asked = Logins(tmp_path / "key")
    asked.log_in("shop", PASSWORD, "192.0.2.1")
    calls: list[str] = []
    real = vaults.verify
    with pytest.MonkeyPatch.context() as patch:

        def counted(login: str, password: str) -> object:
            calls.append("verify")
            return real(login, password)

        patch.setattr(vaults, "verify", counted)
        asked.log_in("shop", PASSWORD, "192.0.2.1")
        assert calls == []
        vaults.set_password("shop", "another password")
        with pytest.raises(Refused):
            asked.log_in("shop", PASSWORD, "192.0.2.1")
        assert calls == ["verify"]


def test_sessions_are_counted(server: Running) -> None:
    server.vault(max_sessions=2)
    first, second = server.client(), server.client()
    third = server.client(None)
    assert refusal(third.login, "shop", PASSWORD).startswith("421 There are too many sessions in this vault")
    third.close()
    wait(lambda: server.office.gate.sessions == 2)
    fourth = server.client(None)
    assert refusal(server.client, None) == "421 There are too many sessions from your address."
    for ftp in (first, second, fourth):
        ftp.close()
    wait(lambda: server.office.gate.sessions == 0)
    server.client().quit()


def wait(is_so: object) -> None:
    until = time.monotonic() + 60
    while not is_so() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.01)
    assert is_so()  # type: ignore[operator]


def test_no_other_passive_port_than_those_that_were_given(tmp_path: Path) -> None:
    with running(tmp_path, max_per_address=30) as server:
        server.vault(max_sessions=30)
        clients = [server.client() for _ in range(len(server.passive) + 1)]
        for ftp in clients[:-1]:
            assert int(ftp.sendcmd("EPSV").split("|")[3]) in server.passive
        assert refusal(clients[-1].sendcmd, "PASV").startswith("425 All ports")
        clients[0].close()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                assert clients[-1].sendcmd("PASV").startswith("227")
                break
            except ftplib.error_temp:
                time.sleep(0.05)
        else:
            raise AssertionError("a port that was given back isn't used again")
        for ftp in clients:
            ftp.close()


def test_a_new_certificate_is_shown_without_a_restart(server: Running, tmp_path: Path) -> None:
    server.vault()
    seen = []
    for _ in range(2):
        ftp = server.tls_client()
        seen.append(ftp.sock.getpeercert(binary_form=True))  # type: ignore[union-attr]
        ftp.quit()
        new_certificate(tmp_path)
    assert seen[0] != seen[1]
    (tmp_path / "vault.key").write_text("broken")
    ftp = server.tls_client()  # the one before goes on
    ftp.quit()


def test_readers_get_one_whole_version_and_the_last_of_two_writers_stays(server: Running) -> None:
    vault = server.vault()
    contents = [bytes([65 + number]) * 700_000 for number in range(2)]
    server.box.put(vault, "/x", contents[0])
    seen: list[bytes] = []

    def write(content: bytes) -> None:
        ftp = server.client()
        for _ in range(6):
            assert ftp.storbinary("STOR x", io.BytesIO(content)).startswith("226")
        ftp.quit()

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    ftp = server.client()
    while any(writer.is_alive() for writer in writers):
        pieces: list[bytes] = []
        ftp.retrbinary("RETR x", pieces.append)
        seen.append(b"".join(pieces))
    for writer in writers:
        writer.join()
    ftp.quit()
    assert set(seen) <= set(contents)
    assert Version.select().where(Version.vault == vault, Version.confirmed).count() == 13
    last = Version.select().order_by(Version.id.desc()).first()
    assert server.content(vault, "/x") == server.box.get(last)


def test_a_vaults_bandwidth_is_that_of_all_its_sessions() -> None:
    pace = Pace()
    assert pace.wait_s(1, 8_000_000, 500_000) == pytest.approx(0.5, abs=0.1)
    assert pace.wait_s(1, 8_000_000, 500_000) == pytest.approx(1, abs=0.2)
    assert pace.wait_s(2, 8_000_000, 500_000) == pytest.approx(0.5, abs=0.1)


def test_a_slow_vault_is_slow(server: Running) -> None:
    """The last piece isn't waited for; a pause between the two is credit for the second, so both are timed together."""
    server.vault(rate_bps=40_000_000)
    ftp = server.client()
    begun = time.monotonic()
    ftp.storbinary("STOR x", io.BytesIO(os.urandom(5_000_000)))
    assert time.monotonic() - begun >= 0.9
    ftp.retrbinary("RETR x", lambda piece: None)
    assert time.monotonic() - begun >= 1.8
    ftp.quit()
