"""A unix socket for short questions: one line in, one line out, closed. Nobody can hold it up or fill it."""

import contextlib
import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import UserError
from appliance.verbs import MAX_LINE_BYTES, TIMEOUT_S

MAX_CONNECTIONS = 64
_BACKLOG = 1024  # who comes while the loop is at work waits; a full one refuses with EAGAIN (unix(7))
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_MODE = 0o117  # umask: read and write for owner and group


@dataclass
class _Asking:
    connection: socket.socket
    until_s: float
    line: bytes = b""


class Listener:
    """Answers with whatever `answer` makes of a line; runs in the daemon's own loop.

    With `only_uid` the kernel's word decides who may ask, whatever the socket's own rights are.
    """

    def __init__(
        self,
        path: Path,
        answer: Callable[[bytes], bytes],
        selector: selectors.BaseSelector,
        only_uid: int | None = None,
    ) -> None:
        self._path = path
        self._answer = answer
        self._selector = selector
        self._only_uid = only_uid
        self._asking: list[_Asking] = []

    def open(self) -> None:
        """Raises UserError when another daemon answers there, or the directory is missing."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if _answers(self._path):
            raise UserError(f"{self._path}: another process answers there already")
        mask = os.umask(_MODE)
        try:
            self._path.unlink(missing_ok=True)
            self._socket.bind(str(self._path))
        except OSError as error:
            raise UserError(f"{self._path}: {error.strerror}: run `gatehouse apply`") from None
        finally:
            os.umask(mask)
        self._socket.listen(_BACKLOG)
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for asking in list(self._asking):
            self._drop(asking)
        self._selector.unregister(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def expire(self) -> None:
        """Drops who is too slow; to be called now and then."""
        now_s = time.monotonic()
        for asking in [asking for asking in self._asking if asking.until_s <= now_s]:
            self._drop(asking)

    @property
    def busy(self) -> bool:
        return bool(self._asking)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE):
                return
            raise
        if len(self._asking) >= MAX_CONNECTIONS or self._only_uid not in (None, _uid(connection)):
            connection.close()
            return
        connection.setblocking(False)
        asking = _Asking(connection, time.monotonic() + TIMEOUT_S)
        self._asking.append(asking)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(asking))

    def _read(self, asking: _Asking) -> None:
        try:
            data = asking.connection.recv(MAX_LINE_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        asking.line += data
        line, newline, _ = asking.line.partition(b"\n")
        if newline or len(line) > MAX_LINE_BYTES:
            with contextlib.suppress(OSError):  # gone, or it doesn't read: an answer fits the socket's buffer
                asking.connection.send(self._answer(line))
            data = b""
        if not data:
            self._drop(asking)

    def _drop(self, asking: _Asking) -> None:
        self._asking.remove(asking)
        self._selector.unregister(asking.connection)
        asking.connection.close()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _uid(connection: socket.socket) -> int:
    """Of the process at the other end (unix(7), SO_PEERCRED)."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
