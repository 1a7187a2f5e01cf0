"""Clients that people have, against the vault: FTP, explicit and implicit FTPS."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.vault_server import HOST, PASSWORD, Running, running

pytestmark = pytest.mark.system

WAYS = ("clear", "explicit", "implicit")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("vault")) as server:
        server.shop = server.vault()  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Contents whose line ends and lengths are easily harmed."""
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "big.bin").write_bytes(os.urandom(5_000_001))
    (tmp_path / "up" / "lines.rsc").write_bytes(b"one\r\ntwo\nthree\r")
    (tmp_path / "up" / "empty").write_bytes(b"")
    return tmp_path


def run(*words: str | Path, text: str = "", cwd: Path | None = None) -> str:
    done = subprocess.run(words, input=text, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check(server: Running, files: Path, folder: str) -> None:
    """What was sent is what is there, and what came back is what was sent."""
    for file in (files / "up").iterdir():
        sent = file.read_bytes()
        assert server.content(server.shop, f"/{folder}/{file.name}") == sent, file.name  # type: ignore[attr-defined]
        assert (files / "down" / file.name).read_bytes() == sent, file.name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_curl(server: Running, files: Path, way: str, tls: str) -> None:
    scheme, port = ("ftps", server.tls_port) if way == "implicit" else ("ftp", server.port)
    secure = ["--ssl-reqd"] if way == "explicit" else []
    common = ["curl", "-sS", "-v", "-k", "-u", f"shop:{PASSWORD}", *secure, "--tls-max", tls]
    url = f"{scheme}://{HOST}:{port}/curl-{way}-{tls}"
    (files / "down").mkdir()
    for file in (files / "up").iterdir():
        said = run(*common, "--ftp-create-dirs", "-T", file, f"{url}/{file.name}")
        assert f"226 Transfer complete; sha256={hashlib.sha256(file.read_bytes()).hexdigest()}" in said
        run(*common, "-o", files / "down" / file.name, f"{url}/{file.name}")
    check(server, files, f"curl-{way}-{tls}")
    with (files / "up" / "big.bin").open("ab") as big:
        big.write(b"more")
    run(*common, "-T", files / "up" / "big.bin", "-C", "5000001", "--append", f"{url}/big.bin")
    run(*common, "-C", "-", "-o", files / "down" / "big.bin", f"{url}/big.bin")
    assert (files / "down" / "big.bin").read_bytes() == (files / "up" / "big.bin").read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_lftp(server: Running, files: Path, way: str) -> None:
    scheme, port = ("ftps", server.tls_port) if way == "implicit" else ("ftp", server.port)
    secure = "true" if way != "clear" else "false"
    run(
        "lftp",
        text=f"""
set cmd:fail-exit true
set net:max-retries 1
set ssl:verify-certificate false
set ftp:ssl-allow {secure}
set ftp:ssl-force {secure}
set ftp:ssl-protect-data {secure}
set ftp:ssl-protect-list {secure}
open -u shop,"{PASSWORD}" {scheme}://{HOST}:{port}
mirror -R up lftp-{way}
mirror lftp-{way} down
mirror -R up lftp-{way}
cls -l lftp-{way}
mv lftp-{way}/empty lftp-{way}/moved
rm lftp-{way}/moved
put -O lftp-{way} up/empty
""",
        cwd=files,
    )
    check(server, files, f"lftp-{way}")


def test_ncftp(server: Running, files: Path) -> None:
    up = list((files / "up").iterdir())
    common = ["-u", "shop", "-p", PASSWORD, "-P", str(server.port)]
    run("ncftpput", "-m", *common, HOST, "/ncftp", *up)
    (files / "down").mkdir()
    run("ncftpget", *common, HOST, files / "down", *(f"/ncftp/{file.name}" for file in up))
    assert "big.bin" in run("ncftpls", *common, "-l", f"ftp://{HOST}/ncftp/")
    check(server, files, "ncftp")


@pytest.mark.parametrize("client", ["tnftp", "inetutils-ftp"])
@pytest.mark.parametrize("mode", ["passive", "active"])
def test_the_old_ones(server: Running, files: Path, client: str, mode: str) -> None:
    """inetutils' begins active, tnftp passive; `passive` turns it round."""
    (files / "down").mkdir()
    turn = "passive\n" if (client == "tnftp") != (mode == "passive") else ""
    names = [file.name for file in (files / "up").iterdir()]
    folder = f"{client}-{mode}"
    puts = "".join(f"put up/{name} {name}\nget {name} down/{name}\n" for name in names)
    login = f'user shop "{PASSWORD}"\n'
    text = f"open {HOST} {server.port}\n{login}{turn}binary\nmkdir {folder}\ncd {folder}\n{puts}ls\nnlist\nquit\n"
    run(client, "-n", "-v", text=text, cwd=files)
    check(server, files, folder)
