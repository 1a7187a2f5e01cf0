"""Whatever breaks during an upload: no 226 that isn't true, no good version lost, nothing half-written to be seen."""

import contextlib
import ftplib
import hashlib
import io
import itertools
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from appliance.vault import faults, vaults
from appliance.vault.models import Version, vault_db
from tests.system.vault_victim import MARKER
from tests.unit.vault_box import Box
from tests.unit.vault_server import HOST, PASSWORD, client_tls, free_ports

pytestmark = pytest.mark.system

TIMES = 20
ROOT = Path(__file__).parents[2]
STEPS = ("received", "published", "logged", "recorded", "committed")
LARGE, SMALL = 200_000, 40_000  # the log takes small ones
BY_RESET = struct.pack("ii", 1, 0)
FILE = "folder/backup"


class Victim:
    """A server in a process of its own; the good file is the one that the last 226 was about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "d"
        self.box = Box(folder)
        (self.data / MARKER).touch()
        self.vault = self.box.vault("shop")
        vaults.add_login(self.vault, "shop", password=PASSWORD)
        self.numbers = itertools.count()
        self.process: subprocess.Popen[str] | None = None
        self.good = b""
        self.size = LARGE

    def start(self, step: str = "", **environment: str) -> None:
        first = str(free_ports(20)[0])
        command = [
            sys.executable,
            "-m",
            "tests.system.vault_victim",
            str(self.folder),
            first,
            *([step] if step else []),
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.port, self.tls_port = map(int, self.process.stdout.readline().split())

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout
            self.process.stdout.close()
            self.process = None

    def client(self) -> ftplib.FTP:
        ftp = ftplib.FTP(timeout=30)  # noqa: S321
        ftp.connect(HOST, self.port)
        ftp.login("shop", PASSWORD)
        return ftp

    def tls_client(self) -> ftplib.FTP_TLS:
        ftp = ftplib.FTP_TLS(timeout=30, context=client_tls())  # noqa: S321
        ftp.connect(HOST, self.port)
        ftp.login("shop", PASSWORD)
        ftp.prot_p()
        return ftp

    def content(self) -> bytes:
        return next(self.numbers).to_bytes(4, "big") * (self.size // 4)

    def store_good(self) -> None:
        with contextlib.closing(self.client()) as ftp:
            data = self.content()
            reply = ftp.storbinary(f"STOR {FILE}", io.BytesIO(data))
            assert f"sha256={hashlib.sha256(data).hexdigest()}" in reply
            self.good = data

    def check(self) -> None:
        """By FTP, as anybody sees it: one file, whole, the good one."""
        with contextlib.closing(self.client()) as ftp:
            pieces: list[bytes] = []
            ftp.retrbinary(f"RETR {FILE}", pieces.append)
            assert b"".join(pieces) == self.good
            assert {name: facts["size"] for name, facts in ftp.mlsd("folder")} == {"backup": str(len(self.good))}

    def settled(self, before: int) -> None:
        """Waits for what the server makes of an upload whose client is gone."""
        until = time.monotonic() + 5
        while self.versions() == before and time.monotonic() < until:
            time.sleep(0.01)

    def versions(self) -> int:
        return int(Version.select().count())


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    made = Victim(tmp_path)
    try:
        yield made
    finally:
        made.stop()
        vault_db.close()


def refused(ftp: ftplib.FTP) -> str:
    """The answer, which must not be a good one."""
    with pytest.raises((ftplib.Error, EOFError, OSError)) as caught:
        ftp.voidresp()
    return str(caught.value)


def half(victim: Victim, ftp: ftplib.FTP) -> Any:
    connection = ftp.transfercmd(f"STOR {FILE}")
    connection.sendall(victim.content()[:100_000])
    return connection


def test_client_killed(victim: Victim) -> None:
    """Both ends are FINs; the data connection's comes first in every second try, and the other one as late as a busy
    machine lets a process die."""
    victim.start(GRACE_S="2")
    victim.store_good()
    for number in range(2 * TIMES):
        before = victim.versions()
        child = get_context("fork").Process(target=_dies, args=(victim, number % 2 == 0))
        child.start()
        child.join(30)
        assert child.exitcode == -signal.SIGKILL
        victim.settled(before)
        victim.check()
        last = Version.select().order_by(Version.id.desc()).first()
        assert not last.confirmed


def _dies(victim: Victim, data_first: bool) -> None:
    """The kernel closes a dead process's files one after the other: here there are only the two."""
    ftp = victim.client()
    if data_first:
        assert ftp.sock
        moved = os.dup2(ftp.sock.fileno(), 900)
        ftp.sock.close()
        ftp.sock = socket.socket(fileno=moved)
        ftp.sock.settimeout(30)
        assert ftp.file
        ftp.file.close()
        ftp.file = ftp.sock.makefile("r", encoding="utf-8")
    data = half(victim, ftp).detach()
    assert ftp.sock
    for first, last in itertools.pairwise(sorted({2, data, ftp.sock.fileno(), 1000})):
        os.closerange(first + 1, last)
    os.kill(os.getpid(), signal.SIGKILL)


def test_reset(victim: Victim) -> None:
    victim.start()
    victim.store_good()
    for _ in range(TIMES):
        with contextlib.closing(victim.client()) as ftp:
            connection = half(victim, ftp)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)
            connection.close()
            assert refused(ftp)[:3] in ("425", "426")  # 425 where it was over before the server had accepted it
        victim.check()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_without_close_notify(victim: Victim, version: str) -> None:
    victim.start()
    victim.store_good()
    for _ in range(TIMES):
        with contextlib.closing(victim.tls_client()) as ftp:
            ftp.context.maximum_version = ssl.TLSVersion[version]
            connection = half(victim, ftp)
            socket.socket(fileno=connection.detach()).close()
            assert refused(ftp).startswith("426")
        victim.check()


def test_control_connection_lost(victim: Victim) -> None:
    victim.start()
    victim.store_good()
    for number in range(TIMES):
        before = victim.versions()
        ftp = victim.client()
        connection = half(victim, ftp)
        if number % 2:
            assert ftp.sock
            ftp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)
        ftp.close()
        connection.close()
        victim.settled(before)
        victim.check()


def test_no_data_connection(victim: Victim) -> None:
    victim.start()
    victim.store_good()
    for _ in range(TIMES):
        with contextlib.closing(victim.client()) as ftp:
            ftp.sendcmd("EPSV")
            assert ftp.sendcmd(f"STOR {FILE}").startswith("150")
            assert refused(ftp).startswith("425")
            ftp.voidcmd("NOOP")
        victim.check()


@pytest.fixture
def mounts(victim: Victim) -> Iterator[Victim]:
    """The data disk is a mount, so that it can be full and can go."""
    yield victim
    while (
        subprocess.run(["/usr/bin/umount", "-l", victim.data], check=False, stderr=subprocess.DEVNULL).returncode == 0
    ):
        pass


def mount(*words: str | Path) -> None:
    subprocess.run(["/usr/bin/mount", *words], check=True)


def test_disk_full(mounts: Victim) -> None:
    mount("-t", "tmpfs", "-o", "size=3m", "none", mounts.data)
    (mounts.data / MARKER).touch()
    (mounts.data / "vault").mkdir()
    mounts.start()
    mounts.store_good()
    for _ in range(TIMES):
        with contextlib.closing(mounts.client()) as ftp, pytest.raises((ftplib.Error, OSError)) as caught:
            ftp.storbinary(f"STOR {FILE}", io.BytesIO(os.urandom(6_000_000)))
        assert not isinstance(caught.value, ftplib.Error) or str(caught.value).startswith("452")
        mounts.check()
    mounts.store_good()


def test_disk_gone_and_back(mounts: Victim) -> None:
    aside = mounts.folder / "aside"
    mounts.data.rename(aside)
    mounts.data.mkdir()
    mount("--bind", aside, mounts.data)
    mounts.start()
    mounts.store_good()
    for number in range(TIMES):
        with contextlib.closing(mounts.client()) as ftp:
            if number % 2:
                subprocess.run(["/usr/bin/umount", "-l", mounts.data], check=True)
                with pytest.raises(ftplib.error_temp, match=r"^451 data disk: absent"):
                    ftp.transfercmd(f"STOR {FILE}")
            else:
                connection = half(mounts, ftp)
                subprocess.run(["/usr/bin/umount", "-l", mounts.data], check=True)
                connection.close()
                assert refused(ftp).startswith("451")
        assert list(mounts.data.iterdir()) == []  # not a byte into the empty mount point
        mount("--bind", aside, mounts.data)
        mounts.check()
    mounts.store_good()


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_fsync_fails(victim: Victim, tmp_path: Path, size: int) -> None:
    """The pages are gone then (fsync(2)): nothing is tried again before the disk was looked at."""
    victim.size = size
    library, switch = tmp_path / "bad_disk.so", tmp_path / "switch"
    source = Path(__file__).with_name("bad_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    victim.start(LD_PRELOAD=str(library), BAD_DISK=str(victim.data), BAD_DISK_SWITCH=str(switch))
    victim.store_good()
    for _ in range(TIMES):
        switch.touch()
        with contextlib.closing(victim.client()) as ftp:
            with pytest.raises(ftplib.error_temp, match=r"^451 the data disk failed"):
                ftp.storbinary(f"STOR {FILE}", io.BytesIO(victim.content()))
            switch.unlink()
            with pytest.raises(ftplib.error_temp, match=r"^451 the data disk is suspect"):
                ftp.storbinary(f"STOR {FILE}", io.BytesIO(victim.content()))
        victim.check()
        assert faults.close(faults.DISK) == 1
    victim.store_good()


@pytest.mark.parametrize(
    ("step", "size"), [*((step, LARGE) for step in (*STEPS, "synced")), *((s, SMALL) for s in STEPS)]
)
def test_server_killed(victim: Victim, step: str, size: int) -> None:
    """What was committed may be there without its 226; a 226 is always about what is there."""
    victim.size = size
    armed = victim.folder / "armed"
    victim.start(step)
    victim.store_good()
    for _ in range(TIMES):
        armed.touch()
        data = victim.content()
        with contextlib.closing(victim.client()) as ftp, pytest.raises((EOFError, OSError)):
            ftp.storbinary(f"STOR {FILE}", io.BytesIO(data))
        victim.stop()
        armed.unlink()
        victim.start(step)
        entry = victim.box.store.entry(victim.vault, f"/{FILE}")
        assert entry
        if entry.sha256 != hashlib.sha256(victim.good).hexdigest():
            assert step in ("logged", "committed")
            victim.good = data
        victim.check()
        assert list((victim.data / "vault" / "spool").iterdir()) == []
    victim.store_good()


def test_server_killed_amid_an_upload(victim: Victim) -> None:
    victim.start()
    victim.store_good()
    for _ in range(TIMES):
        with contextlib.closing(victim.client()) as ftp:
            connection = half(victim, ftp)
            victim.stop()
            connection.close()
        victim.start()
        victim.check()
        assert list((victim.data / "vault" / "spool").iterdir()) == []
