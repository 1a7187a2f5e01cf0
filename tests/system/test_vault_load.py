"""Many at once: sessions, log-ins, files in a folder."""

import ftplib
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import argon2
import pytest

from appliance.vault import vaults
from appliance.vault.models import Span
from tests.unit.vault_server import HOST, PASSWORD, running

pytestmark = pytest.mark.system

SESSIONS, LOG_INS, FILES = 200, 1000, 10_000


def test_200_sessions_at_once(tmp_path: Path) -> None:
    """All are there together, each brings a file of its own and one that all fight for."""
    with running(tmp_path, passive_count=SESSIONS) as server:
        vault = server.vault(max_sessions=SESSIONS)
        together = threading.Barrier(SESSIONS, timeout=300)
        failed: list[BaseException] = []

        def session(number: int) -> None:
            try:
                ftp = server.client()
                together.wait(60)
                for path in (f"own/{number}", "shared"):
                    said = ftp.storbinary(f"STOR {path}", io.BytesIO(f"{number}".encode() * 1000))
                    assert said.startswith("226"), said
                together.wait(60)
                ftp.quit()
            except BaseException as error:
                failed.append(error)
                together.abort()

        _all(session, SESSIONS)
        assert failed == []
        entries = list(server.box.store.entries(vault, "/own"))
        assert sorted(int(entry.name) for entry in entries) == list(range(SESSIONS))
        assert len(server.box.store.versions(vault, "/shared")) == SESSIONS


def _all(session: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=session, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_1000_log_ins_in_a_minute(tmp_path: Path) -> None:
    """With passwords as costly as they are, by routers that come again; nobody is locked out."""
    with running(tmp_path) as server:
        costly = argon2.PasswordHasher()
        server.vault(max_sessions=50)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vaults, "HASHER", costly)
            for number in range(20):
                vaults.add_login(vaults.named("shop"), f"router{number}", password=PASSWORD)
        begun = time.monotonic()
        for number in range(LOG_INS):
            ftp = ftplib.FTP(timeout=30)  # noqa: S321
            ftp.connect(HOST, server.port)
            ftp.login(f"router{number % 20}", PASSWORD)
            ftp.close()
        assert time.monotonic() - begun < 60


def test_10000_files_in_a_folder(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        vault = server.vault()
        version = server.box.put(vault, "/d/first", b"x")
        names = [f"{number:05}.rsc" for number in range(FILES)]
        rows = [(vault.id, "/d", name, version.id, 1_700_000_000, 1) for name in names]
        columns = [Span.vault, Span.folder, Span.name, Span.version, Span.modified_s, Span.from_ms]
        Span.insert_many(rows, columns).execute()
        ftp = server.client()
        lines: list[str] = []
        ftp.retrlines("LIST d", lines.append)
        assert [line.split()[-1] for line in lines] == [*names, "first"]
        assert [name for name, _ in ftp.mlsd("d")] == [*names, "first"]
        ftp.quit()
