"""The data connection: nothing is confirmed before there is proof that all has come.

pyftpdlib closes the socket, then the file, then answers. What is received here is settled before all that, once,
while the kernel and OpenSSL still know how the connection ended.
"""

import contextlib
import errno
import logging
import secrets
import select
import socket
import time
from typing import Any

from OpenSSL import SSL
from pyftpdlib.exceptions import _RetryError
from pyftpdlib.handlers.ftp.data import DTPHandler
from pyftpdlib.handlers.ftp.dispatchers import ActiveDTP, PassiveDTP
from pyftpdlib.handlers.ftps.ssl import SSLConnectionMixin
from pyftpdlib.ioloop import Acceptor

from appliance.vault.models import End, Refused

BUFFER_BYTES = 256 * 1024
OUT_BYTES = 4 * 2**20  # for one sendfile, which takes what the socket has room for
_BATCH = 32  # reads, of which one of TLS is a record of 16 KB, for one look at the control connection
_GOODBYE_S = 10
_GRACE_S = 0.003
_ESTABLISHED, _CLOSE_WAIT = 1, 8  # tcpi_state, include/net/tcp_states.h

log = logging.getLogger(__name__)


def tcp_state(connection: socket.socket) -> int:
    """0 where the kernel knows nothing of it any more."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return 0


def is_alive(connection: socket.socket) -> bool:
    return tcp_state(connection) == _ESTABLISHED


class Receiver(DTPHandler):
    """One transfer. `file_obj` is a spool while something is received, and never a file that can be read already."""

    ac_in_buffer_size = BUFFER_BYTES
    ac_out_buffer_size = OUT_BYTES
    _resp: tuple[Any, ...]

    def __init__(self, sock: socket.socket, cmd_channel: Any) -> None:
        self.settled = False
        self.timeout = cmd_channel.office.terms.data_timeout_s
        super().__init__(sock, cmd_channel)

    @property
    def busy(self) -> bool:
        return bool(self._initialized)

    def handle_read(self) -> None:
        for _ in range(_BATCH):
            try:
                count = self._take_some()
            except _RetryError:
                return
            except Refused as error:
                self.refuse(error)
                return
            except OSError:
                self.handle_error()
                return
            if not count or self._closed:
                return
            self.tot_bytes_received += count
            self.cmd_channel.pace(count)

    def _take_some(self) -> int:
        """How much came, and stands in the spool; 0 at the end."""
        room = self.file_obj.room() if isinstance(self.socket, socket.socket) else None
        if room is None:
            chunk = self.recv(self.ac_in_buffer_size)
            if chunk and not self._closed:
                self.file_obj.write(chunk)
            return len(chunk)
        try:
            count = int(self.socket.recv_into(room))
        except BlockingIOError as error:
            raise _RetryError from error
        except ConnectionError:
            count = 0
        if count:
            self.file_obj.came(count)
        else:
            self.handle_close()
        return count

    handle_read_event = handle_read

    def send(self, data: bytes) -> int:
        sent = int(super().send(data))
        self.cmd_channel.pace(sent)
        return sent

    def refuse(self, error: Refused) -> None:
        self._resp = (f"{error.code} {error.text}", log.warning)
        self.close()

    def use_sendfile(self) -> bool:
        return not self.cmd_channel.is_paced and bool(super().use_sendfile())

    def handle_close(self) -> None:
        """The other end is through. What it said before on the control connection, such as ABOR, counts first."""
        if self.receive and not self._closed and not self.settled:
            self.cmd_channel.hear()
            if self._closed:
                return
        super().handle_close()

    def close(self) -> None:
        if not self._closed:
            self.settle()
            super().close()

    def settle(self) -> None:
        """Commits what was received, or keeps it as what nobody has confirmed; then there is an answer to give."""
        if self.settled or not self.receive or self.file_obj is None:
            return
        self.settled = True
        ended_at, why = time.monotonic(), self._doubt()
        try:
            if why:
                self._drain()
            answer = self.file_obj.commit(End(not why, why, lambda: self._doubt_again(ended_at)))
        except Refused as error:
            self.transfer_finished = False
            answer = f"{error.code} {error.text}"
        except Exception:  # whatever it is, it must not become a 226
            log.exception("an upload can't be settled")
            self.transfer_finished = False
            answer = "451 Something went wrong here: nothing was stored"
        if self._resp and not (why and self._is_refusal()):
            self._resp = (answer, log.info)
        if self.cmd_channel._closed:
            self._resp = ()

    def _drain(self) -> None:
        """What has come already of a transfer that broke: the more is kept, the less is sent again."""
        self.socket.setblocking(False)
        for _ in range(_BATCH):
            try:
                chunk = self.socket.recv(self.ac_in_buffer_size)
            except (OSError, SSL.Error):
                return
            if not chunk:
                return
            self.file_obj.write(chunk)

    def _is_refusal(self) -> bool:
        return not str(self._resp[0]).startswith("226")

    def _doubt(self) -> str:
        """What speaks against its being whole; empty when nothing does."""
        if self._resp and self._is_refusal():
            return str(self._resp[0])[4:]
        if not self.transfer_finished:
            return "the transfer was broken off"
        return self._doubt_of_control() or self.doubt_of_connection()

    def _doubt_of_control(self) -> str:
        control = self.cmd_channel
        return "the control connection was lost" if control._closed or not is_alive(control.socket) else ""

    def _doubt_again(self, ended_at_s: float) -> str:
        """When a client is killed its connections end one after the other, and in clear both ends look good.

        What it takes to have all on disk is most often longer than that; the rest is waited for.
        """
        left_s = ended_at_s + _GRACE_S - time.monotonic()
        if left_s > 0 and not self.is_proven and not self.cmd_channel._closed:
            poll = select.poll()
            poll.register(self.cmd_channel.socket.fileno(), select.POLLRDHUP)
            poll.poll(left_s * 1000)
        return self._doubt_of_control()

    @property
    def is_proven(self) -> bool:
        """Whether the length was announced, or the end was."""
        return bool(self.file_obj.is_announced)

    def doubt_of_connection(self) -> str:
        return "" if tcp_state(self.socket) == _CLOSE_WAIT else "the data connection was reset"


class Data(SSLConnectionMixin, Receiver):
    """With TLS where PROT P asks for it; an end without close_notify proves nothing (RFC 8446, 6.1)."""

    _ssl_established: bool
    _ssl_requested: bool

    def __init__(self, sock: socket.socket, cmd_channel: Any) -> None:
        super().__init__(sock, cmd_channel)
        if self.connected and cmd_channel._prot:
            self.secure_connection(cmd_channel.ssl_context)

    def use_sendfile(self) -> bool:
        return not self._ssl_requested and super().use_sendfile()

    def recv(self, buffer_size: int) -> bytes:
        try:
            return bytes(super().recv(buffer_size))
        except SSL.Error:  # OpenSSL 3 says so of an end without close_notify
            self.handle_close()
            return b""

    def doubt_of_connection(self) -> str:
        if not self._ssl_requested:
            return super().doubt_of_connection()
        if not self._ssl_established:
            return "there was no TLS handshake"
        whole = self.socket.get_shutdown() & SSL.RECEIVED_SHUTDOWN
        return "" if whole else "TLS was ended without close_notify"

    @property
    def is_proven(self) -> bool:
        return bool(self._ssl_requested) or super().is_proven

    def handle_failed_ssl_handshake(self) -> None:
        self.cmd_channel.respond("522 TLS handshake failed.")
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        self.settle()
        if self._ssl_established and not self._error:
            self._say_goodbye()
        self._ssl_accepting = self._ssl_established = False
        Receiver.close(self)

    def _say_goodbye(self) -> None:
        """Our close_notify, so that the other end knows that it has all. Its own needn't be waited for."""
        poll = select.poll()
        with contextlib.suppress(SSL.Error, OSError, ValueError):
            poll.register(self.socket.fileno(), select.POLLOUT)
            self.socket.set_shutdown(self.socket.get_shutdown() | SSL.RECEIVED_SHUTDOWN)
            while True:
                try:
                    self.socket.shutdown()
                    return
                except SSL.WantWriteError:
                    if not poll.poll(_GOODBYE_S * 1000):
                        return


class Passive(PassiveDTP):
    """Listens on a port of the range that was given, and on no other one."""

    def __init__(self, cmd_channel: Any, extmode: bool = False) -> None:
        self.cmd_channel = cmd_channel
        self.log = cmd_channel.log
        self.log_exception = cmd_channel.log_exception
        Acceptor.__init__(self, ioloop=cmd_channel.ioloop)
        own = cmd_channel.socket.getsockname()[0]
        port = self._listen(own, cmd_channel)
        if port is None:
            self.close()
            raise Refused(425, "All ports for data connections are in use: try again later.")
        if extmode:
            cmd_channel.respond(f"229 Entering extended passive mode (|||{port}|).")
        else:
            told = cmd_channel.told_address(own).replace(".", ",")
            cmd_channel.respond(f"227 Entering passive mode ({told},{port // 256},{port % 256}).")
        self.call_later(cmd_channel.office.terms.connect_timeout_s, self.handle_timeout)

    def _listen(self, own: str, cmd_channel: Any) -> Any:
        """The port, None where all are taken; another session may be quicker at any moment."""
        ports = cmd_channel.office.terms.passive_ports
        first = secrets.randbelow(len(ports))
        for number in range(len(ports)):
            port = ports[(first + number) % len(ports)]
            self.create_socket(cmd_channel.socket.family, socket.SOCK_STREAM)
            try:
                self.set_reuse_addr()
                self.bind((own, port))
                self.listen(1)
            except OSError as error:
                self.del_channel()
                self.socket.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
        return None

    def handle_accepted(self, sock: socket.socket, addr: Any) -> None:
        """Somebody else at the port is nothing that the client should hear of: it waits for another answer."""
        if addr[0] == self.cmd_channel.remote_ip:
            super().handle_accepted(sock, addr)
            if self.cmd_channel.connected and self.cmd_channel.data_channel is None:
                self.cmd_channel.no_data_connection()  # it was over before it began, and nobody else would say so
        else:
            sock.close()

    def handle_timeout(self) -> None:
        self.cmd_channel.no_data_connection()
        self.close()


class Active(ActiveDTP):
    """To the client's own address only, and to no port below 1024: the session sees to that.

    PORT is answered once the connection is there, or isn't.
    """

    def __init__(self, ip: str, port: int, cmd_channel: Any) -> None:
        self.timeout = cmd_channel.office.terms.connect_timeout_s
        super().__init__(ip, port, cmd_channel)

    def handle_timeout(self) -> None:
        self.handle_close()

    def handle_close(self) -> None:
        if not self._closed:
            self.close()
            if self.cmd_channel.connected:
                self.cmd_channel.respond("425 That address can't be connected to.")
            self.cmd_channel.no_data_connection()
