"""A client that costs as little as one in Python can: large buffers, nothing looked at, nothing kept."""

import ftplib
import io
import os
import ssl
import threading
from collections.abc import Sequence
from typing import Self

from tests.bench.vault_servers import HOST, Peer
from tests.unit.vault_server import client_tls

PIECE_BYTES = 1 << 20


class Client:
    """One session. Each call returns once the server has confirmed, and raises where it doesn't."""

    def __init__(self, peer: Peer, tls: bool = False) -> None:
        self._ftp = ftplib.FTP_TLS(timeout=120, context=client_tls()) if tls else ftplib.FTP(timeout=120)  # noqa: S321
        self._ftp.connect(HOST, peer.port)
        self._ftp.login(peer.login, peer.password)
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self._ftp.prot_p()
        self._ftp.voidcmd("TYPE I")
        self._ftp.cwd(peer.home)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ftp.quit()

    def retrieve(self, path: str) -> int:
        """How many bytes came."""
        room, size = memoryview(bytearray(PIECE_BYTES)), 0
        with self._ftp.transfercmd(f"RETR {path}") as data:
            while count := data.recv_into(room):
                size += count
            self._unwrap(data)
        self._ftp.voidresp()
        return size

    def store(self, path: str, pieces: Sequence[bytes]) -> None:
        with self._ftp.transfercmd(f"STOR {path}") as data:
            for piece in pieces:
                data.sendall(piece)
            self._unwrap(data)
        self._ftp.voidresp()

    def list(self, folder: str) -> int:
        """How many names there are."""
        found = io.BytesIO()
        self._ftp.retrbinary(f"LIST {folder}", found.write, PIECE_BYTES)
        return found.getvalue().count(b"\n")

    def make_folder(self, path: str) -> None:
        self._ftp.mkd(path)

    @staticmethod
    def _unwrap(data: object) -> None:
        if isinstance(data, ssl.SSLSocket):
            data.unwrap()


def pieces(megabytes: int) -> list[bytes]:
    """So many MiB that nobody has seen before."""
    piece = os.urandom(PIECE_BYTES)
    return [os.urandom(PIECE_BYTES), *[piece] * (megabytes - 1)]


def store_many(peer: Peer, folder: str, names: Sequence[str], size: int, sessions: int = 1) -> None:
    """Small files, each with a content of its own."""
    contents = {name: os.urandom(size) for name in names}
    failed: list[BaseException] = []

    def some(clients: Client, own: Sequence[str]) -> None:
        try:
            for name in own:
                clients.store(f"{folder}/{name}", [contents[name]])
        except BaseException as error:  # told below, in the caller's thread
            failed.append(error)

    clients = [Client(peer) for _ in range(sessions)]
    threads = [
        threading.Thread(target=some, args=(client, names[number::sessions])) for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.__exit__()
    if failed:
        raise failed[0]
