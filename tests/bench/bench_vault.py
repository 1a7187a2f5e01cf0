"""The vault beside Debian's vsftpd, on the same disk: large files, small ones, a long list, in clear and with TLS.

What the vault confirms is hashed and on disk; vsftpd syncs nothing, so for small files it is made to (vsftpd_sync).
All take turns, so that whatever else the machine does falls on each alike. SIZE_MB (1024), FILES (1000), LISTED (10000)
and ROUNDS (5) make it smaller for a trial, ONLY names the metrics. It runs in namespaces of its own, so that whatever
ends it, no process, mount or port is left.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import FrameType

from tests.bench import vault_servers
from tests.bench.report import Comparison, progress, show
from tests.bench.vault_client import Client, pieces, store_many
from tests.bench.vault_servers import Peer

SIZE_MB = int(os.environ.get("SIZE_MB", "1024"))
FILES = int(os.environ.get("FILES", "1000"))
LISTED = int(os.environ.get("LISTED", "10_000"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
ONLY = os.environ.get("ONLY", "").split()
SMALL_BYTES = 4096
SESSIONS = 8  # routers that back up at the same minute
SCRATCH = Path(os.environ.get("SCRATCH", "/var/tmp"))
_INSIDE = "GATEHOUSE_BENCH_INSIDE"
_PORT = 29_970
_LARGE = "large"

Ask = Callable[[Peer, int], float]  # a round's number; the value measured


def main() -> None:
    if _INSIDE not in os.environ:
        sys.exit(_apart())
    signal.signal(signal.SIGTERM, _end)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = Path(os.environ[_INSIDE])
    with vault_servers.disk(folder, _disk_mb()) as point, vault_servers.all_of(folder, point, _PORT) as peers:
        where = f"{vault_servers.named(point)} in a file on {vault_servers.named(folder)}"
        if os.environ.get("JSON") != "1":
            print(f"disk: {where}; files of {SIZE_MB} MiB, {FILES} of {SMALL_BYTES} bytes, {LISTED} in the list")
        progress(where)
        show(_compared(*peers))


def _disk_mb() -> int:
    """Each large file of each round, for each peer, and half as much again."""
    return SIZE_MB * (ROUNDS + 1) * 2 * 3 * 3 // 2 + 2048


def _apart() -> int:
    """In namespaces whose end is the end of all in them, and before that of the folder."""
    signal.signal(signal.SIGTERM, _end)
    if shutil.disk_usage(SCRATCH).free < 1.1 * _disk_mb() * 2**20:
        sys.exit(f"{_disk_mb() * 1.1 / 1024:,.0f} GiB have to be free in {SCRATCH}, or SIZE_MB be smaller")
    words = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=SIGTERM", "--mount-proc"]
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="bench-vault-") as folder:
        Path(folder).chmod(0o755)  # vsftpd gives up root before it goes there
        process = subprocess.Popen([*words, sys.executable, "-m", __spec__.name], env=os.environ | {_INSIDE: folder})
        try:
            return process.wait()
        finally:
            process.terminate()
            process.wait()


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # leaves through all context managers, so the folder goes


def _compared(ours: Peer, plain: Peer, sync: Peer) -> list[Comparison]:
    _prepare(ours, plain)
    questions: tuple[tuple[str, str, Ask, Sequence[Peer]], ...] = (
        ("retr_mb_s", "MB/s", lambda peer, number: _retrieve(peer, False), (plain,)),
        ("retr_tls_mb_s", "MB/s", lambda peer, number: _retrieve(peer, True), (plain,)),
        ("stor_mb_s", "MB/s", lambda peer, number: _store(peer, number, False), (plain, sync)),
        ("stor_tls_mb_s", "MB/s", lambda peer, number: _store(peer, number, True), (plain, sync)),
        ("list_10k_ms", "ms", lambda peer, number: _list(peer), (plain,)),
        ("stor_small_files_per_s", "1/s", lambda peer, number: _small(peer, number, 1), (sync,)),
        ("stor_small_files_8_sessions_per_s", "1/s", lambda peer, number: _small(peer, number, SESSIONS), (sync,)),
    )
    found = []
    for metric, unit, ask, peers in questions:
        if ONLY and metric not in ONLY:
            continue
        values = _rounds(metric, unit, [ours, *peers], ask)
        found += [Comparison(metric, p.name, unit, values[ours.name], values[p.name], ROUNDS) for p in peers]
    return found


def _rounds(metric: str, unit: str, peers: Sequence[Peer], ask: Ask) -> dict[str, float]:
    """Medians. A first round, which isn't counted, warms what is cached."""
    values: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(ROUNDS + 1):
        for peer in list(peers)[:: 1 if number % 2 else -1]:
            os.sync()  # nobody waits for what another one wrote
            values[peer.name].append(ask(peer, number))
            progress(f"{metric}  round {number}/{ROUNDS}  {peer.name:11}  {values[peer.name][-1]:9,.1f} {unit}")
    return {name: median(some[1:]) for name, some in values.items()}


def _prepare(*peers: Peer) -> None:
    """What is asked for later: a large file and a folder with many."""
    large, names = pieces(SIZE_MB), [f"backup-{number:05}.rsc" for number in range(LISTED)]
    for peer in peers:
        progress(f"{peer.name}: {LISTED} files to list")
        with Client(peer) as client:
            client.store(_LARGE, large)
            client.make_folder("listed")
        if not ONLY or "list_10k_ms" in ONLY:
            store_many(peer, "listed", names, 64, SESSIONS)


def _retrieve(peer: Peer, tls: bool) -> float:
    with Client(peer, tls) as client:
        started = time.perf_counter()
        size = client.retrieve(_LARGE)
        took_s = time.perf_counter() - started
    if size != SIZE_MB * 2**20:
        raise RuntimeError(f"{peer.name} sent {size} bytes")
    return size / 1e6 / took_s


def _store(peer: Peer, number: int, tls: bool) -> float:
    """From STOR to 226."""
    content = pieces(SIZE_MB)
    with Client(peer, tls) as client:
        started = time.perf_counter()
        client.store(f"stored-{number}-{'tls' if tls else 'clear'}", content)
        return SIZE_MB * 2**20 / 1e6 / (time.perf_counter() - started)


def _list(peer: Peer) -> float:
    with Client(peer) as client:
        started = time.perf_counter()
        names = client.list("listed")
        took_s = time.perf_counter() - started
    if names != LISTED:
        raise RuntimeError(f"{peer.name} listed {names} names")
    return took_s * 1000


def _small(peer: Peer, number: int, sessions: int) -> float:
    folder = f"small-{number}-{sessions}"
    with Client(peer) as client:
        client.make_folder(folder)
    started = time.perf_counter()
    store_many(peer, folder, [f"{name:04}.backup" for name in range(FILES)], SMALL_BYTES, sessions)
    return FILES / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
