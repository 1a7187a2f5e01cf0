"""The collector is killed again and again, while datagrams come and the disk comes and goes: each is kept once."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest

from appliance import data_disk
from collector import exporters, journal, places, spool
from collector.exporters import Exporter
from collector.journal import Journal, unpack
from tests.lab.namespace import run, wait_until

pytestmark = pytest.mark.system

PORT = 29055
LONGEST_S = 1.6


class Site:
    """Folders and a data disk for one collector, which runs as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = directory / "data"
        for folder in (f"state/{places.STATE}", f"run/{places.RUN}", "data"):
            (directory / folder).mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "size=512m", "data", str(self.disk))
        (self.disk / places.DISK).mkdir()
        self.marker, self.hidden = self.disk / data_disk.MARKER, self.disk / "hidden"
        self.marker.write_text("ours\n")
        self.file = directory / "gatehouse.toml"
        paths = "".join(f'{name} = "{directory / name}"\n' for name in ("state", "run", "data"))
        self.file.write_text(f"[paths]\n{paths}[netflow]\nport = {PORT}\n")
        known = exporters.text([Exporter(ip_network("127.0.0.0/8"), "attic", True)])
        (directory / "run" / places.EXPORTERS).write_text(known)

    def start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "collector.receive", "--config", str(self.file)])

    def plug(self, there: bool) -> None:
        if there != self.marker.exists():
            (self.hidden if there else self.marker).rename(self.marker if there else self.hidden)

    def numbers(self) -> list[int]:
        """Of what is in the journal, in its order."""
        return _numbers(self.disk / places.DISK / journal.NAME)

    def spooled(self) -> list[int]:
        return _numbers(self.directory / "state" / places.STATE / spool.NAME)


def _numbers(path: Path) -> list[int]:
    if not path.exists():
        return []
    with closing(Journal(path, write=False)) as book:
        return [
            int.from_bytes(datagram.payload[:8], "big")
            for row in book.read(0, max_bytes=2**40)
            for datagram in unpack(row)
        ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        run("umount", "--lazy", str(made.disk))


@pytest.fixture
def sending() -> Iterator[None]:
    """Numbered datagrams, some two thousand a second."""
    over = threading.Event()

    def send() -> None:
        number = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            while not over.is_set():
                for _ in range(10):
                    link.sendto(number.to_bytes(8, "big") + random.randbytes(200), ("127.0.0.1", PORT))
                    number += 1
                time.sleep(0.005)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.long)])
def test_nothing_that_was_on_disk_is_lost_or_doubled(site: Site, sending: None, kills: int) -> None:
    chance, acknowledged = random.Random(7), set[int]()
    for _ in range(kills):
        site.plug(chance.random() < 0.6)
        process = site.start()
        time.sleep(0.4 + chance.random() * LONGEST_S)
        if chance.random() < 0.3:
            site.plug(chance.random() < 0.6)
            time.sleep(chance.random() * LONGEST_S)
        process.send_signal(signal.SIGKILL)
        process.wait()
        acknowledged.update(site.numbers(), site.spooled())
    site.plug(True)
    process = site.start()
    try:
        before = len(site.numbers())
        wait_until(lambda: len(site.numbers()) > before and not site.spooled(), 60, "all to be carried over")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    found = site.numbers()
    assert len(acknowledged) > 100 * kills
    assert not acknowledged - set(found), "lost"
    assert len(found) == len(set(found)), "doubled"
    assert found == sorted(found), "out of their order"
