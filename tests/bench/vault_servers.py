"""The vault and vsftpd, as Debian has it and made to sync, each on a folder of the same disk."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance import config as configuration
from appliance import data_disk
from appliance.vault import catalog, vaults
from appliance.vault.access import CERTIFICATE
from appliance.vault.models import vault_db
from tests.unit.vault_server import PASSWORD, new_certificate

HOST = "127.0.0.1"
_SYNC = Path(__file__).with_name("sync_on_close.c")
_VSFTPD = """
listen=YES
listen_address={host}
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_world_readable_only=NO
anon_umask=027
ftp_username=ftp
write_enable=YES
hide_ids=NO
seccomp_sandbox=NO
xferlog_enable=NO
secure_chroot_dir={empty}
ssl_enable=YES
allow_anon_ssl=YES
force_local_data_ssl=NO
force_local_logins_ssl=NO
require_ssl_reuse=NO
ssl_ciphers=HIGH
rsa_cert_file={certificate}
rsa_private_key_file={key}
"""


@dataclass(frozen=True)
class Peer:
    """Where it is asked, `home` in which folder, and `pid` of what to profile."""

    name: str
    port: int
    login: str
    password: str
    home: str
    pid: int


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A mounted ext4 with our marker. Whoever calls has a mount namespace of its own."""
    image, point = folder / "disk.img", folder / "data"
    point.mkdir()
    subprocess.run(["fallocate", "--length", f"{megabytes}MiB", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        uuid = subprocess.run(["blkid", "-o", "value", "-s", "UUID", image], capture_output=True, text=True, check=True)
        (point / data_disk.MARKER).write_text(uuid.stdout, encoding="ascii")
        (folder / "state").mkdir()
        (folder / "state" / data_disk.REMEMBERED).write_text(uuid.stdout, encoding="ascii")
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=False)


def named(folder: Path) -> str:
    """The disk below a folder: what and of which kind."""
    words = ["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--target", str(folder)]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return " ".join(found)


@contextmanager
def ours(folder: Path, point: Path, port: int) -> Iterator[Peer]:
    file = folder / "gatehouse.toml"
    paths = "\n".join(f'{name} = "{folder / name}"' for name in ("state", "run", "log", "data"))
    terms = f'listen = "{HOST}"\nport = {port}\ntls_port = 0\nsessions_per_address = 100\n'
    file.write_text(f"[paths]\n{paths}\n\n[vault]\n{terms}", encoding="utf-8")
    for name in (f"state/{catalog.STATE}", "run", "log"):
        (folder / name).mkdir(parents=True)
    (point / catalog.DISK).mkdir()
    config = configuration.load(file)
    catalog.bind(config)
    vaults.add_login(vaults.create("bench", max_sessions=100), "bench", password=PASSWORD)
    vault_db.close()
    pair = b"".join(one.read_bytes() for one in new_certificate(folder))
    (config.paths.run / CERTIFICATE).parent.mkdir(parents=True, exist_ok=True)
    (config.paths.run / CERTIFICATE).write_bytes(pair)
    words = [sys.executable, "-m", "appliance.vault.server", "--config", str(file)]
    with _running(words, folder / "log" / "vault", port) as pid:
        yield Peer("ours", port, "bench", PASSWORD, "/", pid)


@contextmanager
def vsftpd(folder: Path, point: Path, port: int, syncs: bool = False) -> Iterator[Peer]:
    name = "vsftpd_sync" if syncs else "vsftpd"
    root, empty = point / name, folder / f"{name}.empty"
    for made in (root, root / "in", empty):  # it refuses to run in a root that can be written to
        made.mkdir()
    anybody = pwd.getpwnam("ftp")  # of Debian's package
    os.chown(root / "in", anybody.pw_uid, anybody.pw_gid)
    certificate, key = folder / "vault.crt", folder / "vault.key"
    settings = {"host": HOST, "port": port, "root": root, "empty": empty, "certificate": certificate, "key": key}
    file = folder / f"{name}.conf"
    file.write_text(_VSFTPD.format(**settings), encoding="utf-8")
    program = shutil.which("vsftpd") or "/usr/sbin/vsftpd"
    environment = {"LD_PRELOAD": str(_library(folder))} if syncs else {}
    with _running([program, str(file)], folder / f"{name}.out", port, environment) as pid:
        yield Peer(name, port, "anonymous", "bench", "/in", pid)


def _library(folder: Path) -> Path:
    made = folder / "sync_on_close.so"
    subprocess.run(["cc", "-O", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, _SYNC, "-ldl"], check=True)
    return made


@contextmanager
def _running(words: list[str], out: Path, port: int, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    with out.open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | (environment or {}))
    try:
        _answers(process, port, out)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(process: subprocess.Popen[bytes], port: int, out: Path) -> None:
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        try:
            with socket.create_connection((HOST, port), 1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{out.name} doesn't answer: {out.read_text(errors='replace')[-500:]}")


@contextmanager
def all_of(folder: Path, point: Path, port: int) -> Iterator[tuple[Peer, Peer, Peer]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(ours(folder, point, port)),
            stack.enter_context(vsftpd(folder, point, port + 1)),
            stack.enter_context(vsftpd(folder, point, port + 2, syncs=True)),
        )
