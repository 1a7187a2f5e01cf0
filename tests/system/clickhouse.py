"""ClickHouse for tests: servers of Debian's version on loopback ports, as the shards of one cluster."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.namespace import free_ports

SERVER = shutil.which("clickhouse-server", path=f"{os.environ['PATH']}:/usr/sbin")
USER, PASSWORD, CLUSTER = "gatehouse", "pecking order", "hotspots"
DATABASE = "flows"
_STARTS_S = 60
_MEMORY = 1_500_000_000

_CONFIG = """<yandex>
 <logger><level>warning</level><console>1</console></logger>
 <tcp_port>{port}</tcp_port><interserver_http_port>{between}</interserver_http_port>
 <tcp_port_secure>{secure}</tcp_port_secure>
 <openSSL><server><certificateFile>{folder}/tls.crt</certificateFile><privateKeyFile>{folder}/tls.key</privateKeyFile>
  <verificationMode>none</verificationMode></server></openSSL>
 <listen_host>127.0.0.1</listen_host>
 <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path><user_files_path>{folder}/files/</user_files_path>
 <users_config>{folder}/users.xml</users_config>
 <default_profile>default</default_profile><default_database>default</default_database>
 <mark_cache_size>67108864</mark_cache_size><timezone>UTC</timezone>
 <background_pool_size>2</background_pool_size>
 <compression><case><min_part_size>0</min_part_size><min_part_size_ratio>0</min_part_size_ratio>
  <method>zstd</method></case></compression>
 <remote_servers><{cluster}>{shards}</{cluster}></remote_servers>
</yandex>
"""
_SHARD = """<shard><replica><host>127.0.0.1</host><port>{port}</port><user>{user}</user>
 <password>{password}</password></replica></shard>"""
_USERS = """<yandex>
 <profiles><default><max_memory_usage>{memory}</max_memory_usage><max_threads>2</max_threads></default></profiles>
 <quotas><default/></quotas>
 <users>
  <{user}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
   <profile>default</profile><quota>default</quota></{user}>
 </users>
</yandex>
"""


@dataclass
class Shard:
    """One server. `folder` has all that it writes."""

    folder: Path
    port: int
    secure_port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Answers when it returns."""
        log = (self.folder / "log").open("ab")
        command = [SERVER or "", f"--config-file={self.folder / 'config.xml'}"]
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        log.close()
        until = time.monotonic() + _STARTS_S
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.kill()
        raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])

    def kill(self) -> None:
        """As when its machine loses power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """It takes connections and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@dataclass(frozen=True)
class Servers:
    shards: list[Shard]
    password_file: Path

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{shard.port}" for shard in self.shards)
        return f"clickhouse://{USER}@{hosts}/{DATABASE}?cluster={CLUSTER}"


@contextmanager
def servers(folder: Path, count: int = 2) -> Iterator[Servers]:
    """So many shards, empty, each with a bounded memory."""
    if SERVER is None:
        raise RuntimeError("clickhouse-server is missing: ./tests/install-packages tests/system/packages.txt")
    ports = free_ports(3 * count, socket.SOCK_STREAM)
    names = {"cluster": CLUSTER, "user": USER, "password": PASSWORD, "memory": _MEMORY}
    all_shards = "".join(_SHARD.format(port=port, **names) for port in ports[::3])
    shards = []
    for port, between, secure in zip(*(ports[at::3] for at in range(3)), strict=True):
        own = folder / str(port)
        own.mkdir(parents=True)
        text = _CONFIG.format(port=port, between=between, secure=secure, folder=own, shards=all_shards, **names)
        (own / "config.xml").write_text(text)
        (own / "users.xml").write_text(_USERS.format(**names))
        _certificate(own)
        shards.append(Shard(own, port, secure))
    password_file = folder / "password"
    password_file.write_text(f"{PASSWORD}\n")
    password_file.chmod(0o600)
    try:
        for shard in shards:
            shard.start()
        yield Servers(shards, password_file)
    finally:
        for shard in shards:
            shard.kill()


def _certificate(folder: Path) -> None:
    """Its own authority, of 127.0.0.1."""
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=clickhouse"]
    options += ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(["openssl", "req", *options, *files], check=True, capture_output=True)
