"""One client's control connection, in a thread of its own: an fsync or an argon2 keeps only that client waiting."""

import contextlib
import errno
import ipaddress
import logging
import re
import select
import socket
from typing import Any

from OpenSSL import SSL
from pyftpdlib.filesystems import FilesystemError
from pyftpdlib.handlers.ftp.control import FTPHandler
from pyftpdlib.handlers.ftps.control import TLS_FTPHandler

from appliance.vault.ftp_commands import PROTO_CMDS, Commands
from appliance.vault.ftp_data import Active, Data, Passive
from appliance.vault.ftp_files import Files
from appliance.vault.models import DROP, READ, Refused, Who, vault_db

MAX_LINE_BYTES = 4096
MAX_WRONG = 3
WRONG_DELAY_S = 1.0
_TELNET = b"\xff\xf4\xf2"  # IP and Synch before ABOR (RFC 959, 4.1.3)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WHILE_BUSY = ("ABOR", "STAT", "QUIT", "NOOP")
_RIGHTS = {DROP: frozenset("ew"), READ: frozenset("elr"), "full": frozenset("elradfmwT")}
_NEEDS_DATA = ("STOR", "STOU", "APPE", "RETR", "LIST", "NLST", "MLSD")

log = logging.getLogger("vault.ftp")


def plain(connection: socket.socket) -> str:
    """The client's address, IPv4 within IPv6 as what it is; empty where it has gone already."""
    try:
        found = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
    except OSError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


class Rights:
    """What pyftpdlib asks an authorizer, of one session; by the kind of its log-in."""

    def __init__(self) -> None:
        self.rights: frozenset[str] = frozenset()

    def has_perm(self, username: str, perm: str, path: str | None = None) -> bool:
        return perm in self.rights

    def get_perms(self, username: str) -> str:
        return "".join(sorted(self.rights))

    def get_msg_quit(self, username: str) -> str:
        return "Goodbye."

    def impersonate_user(self, username: str, password: str) -> None: ...

    def terminate_impersonation(self, username: str) -> None: ...


class Session(Commands, TLS_FTPHandler):
    """`office` is what all sessions share: see server.py."""

    banner = "Gatehouse vault"
    dtp_handler = Data
    passive_dtp = Passive
    active_dtp = Active
    proto_cmds = PROTO_CMDS
    permit_foreign_addresses = permit_privileged_ports = False
    unicode_errors = "strict"
    max_login_attempts = MAX_WRONG
    authenticated: bool
    username: str
    _in_buffer: list[bytes]
    _in_buffer_len: int
    _in_dtp_queue: Any
    _out_dtp_queue: Any
    data_channel: Any

    def __init__(self, conn: socket.socket, server: Any, ioloop: Any) -> None:
        self.office, self._implicit = server.office, server.implicit
        self.timeout = self.office.terms.idle_timeout_s
        self.authorizer = Rights()
        self.credential: Any = None
        self.announced_bytes: int | None = None
        self._counted: int | None = None
        self._is_too_long, self._sent = False, ""
        self.address = plain(conn)
        super().__init__(conn, server, ioloop)
        if self.connected:
            # A backup is bytes: nobody's line ends are changed, whatever TYPE says.
            self._current_type = "i"
            self._extra_feats = ["AUTH TLS", "PBSZ", "PROT", "AVBL", "HASH SHA-256*", "XSHA256", "CLNT"]
            self._prot = self._implicit

    def get_ssl_context(self) -> SSL.Context | None:
        return self.office.tls.present() if self.office.tls else None

    # From the wire

    def handle(self) -> None:
        if not self._implicit:
            super().handle()
        elif self.ssl_context is None:
            self.close()
        else:
            self.secure_connection(self.ssl_context)

    def handle_ssl_established(self) -> None:
        if self._implicit:
            super().handle()

    def collect_incoming_data(self, data: bytes) -> None:
        """A line that is too long gets one answer, and nothing of it is taken for another command."""
        if self._in_buffer_len + len(data) > MAX_LINE_BYTES:
            self._is_too_long = True
            self._in_buffer, self._in_buffer_len = [], 0
        if not self._is_too_long:
            self._in_buffer.append(data)
            self._in_buffer_len += len(data)

    def found_terminator(self) -> None:
        line = b"".join(self._in_buffer).lstrip(_TELNET)
        self._in_buffer, self._in_buffer_len = [line], len(line)
        too_long, self._is_too_long = self._is_too_long, False
        if too_long:
            self._in_buffer, self._in_buffer_len = [], 0
            self.respond("500 That line is too long.")
            return
        try:
            line.decode()
        except UnicodeDecodeError:
            self._in_buffer, self._in_buffer_len = [], 0
            self.respond("501 That isn't UTF-8.")
            return
        super().found_terminator()

    def hear(self) -> None:
        """What the client has said meanwhile; that it is gone, too."""
        poll = select.poll()
        if self._closed or self.socket.fileno() < 0:
            return
        poll.register(self.socket.fileno(), select.POLLIN)
        if poll.poll(0):
            self.handle_read_event()

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        if _CONTROL.search(arg):
            self.respond("501 Control characters are not allowed." if cmd != "PASS" else "530 Log-in failed.")
        elif self._is_busy() and cmd[-4:] not in _WHILE_BUSY:
            self.respond("450 A transfer is under way.")
        elif cmd in _NEEDS_DATA and self._may(cmd) and not self._has_data():
            self.respond("425 Use EPSV, PASV, EPRT or PORT first.")
        else:
            super().pre_process_command(line, cmd, arg)

    def process_command(self, cmd: str, *args: Any, **kwargs: Any) -> None:
        """Whatever is refused below gets its own code and words."""
        try:
            super().process_command(cmd, *args, **kwargs)
        except Refused as error:
            self.respond(f"{error.code} {error.text}")
        except FilesystemError as error:
            self.respond(f"550 {error}.")

    def logline(self, msg: str, logfun: Any = None) -> None:
        """Each command as it came: with debugging only, and never a password."""
        log.debug("%s %s", self.address, msg)

    def log(self, msg: str, logfun: Any = log.info) -> None:
        level = logging.DEBUG if logfun.__name__ == "debug" else logging.INFO
        log.log(level, "%s %s: %s", self.address, self.username or "-", msg)

    def log_transfer(self, cmd: str, filename: str, receive: bool, completed: bool, elapsed: float, bytes: int) -> None:
        path = filename if receive else self._sent
        log.info("%s %s: %s %s: %d bytes in %.3f s", self.address, self.username or "-", cmd, path, bytes, elapsed)

    def ftp_RETR(self, file: str) -> None:
        self._sent = file
        super().ftp_RETR(file)

    def log_exception(self, instance: Any) -> None:
        log.exception("%s %s: a session failed", self.address, self.username or "-")

    # Log-in

    def _is_clear(self) -> bool:
        return not isinstance(self.socket, SSL.Connection)

    def ftp_AUTH(self, line: str) -> None:
        """What was sent in clear after AUTH is no command of the secured session (CVE-2011-0411)."""
        if self.ssl_context is None:
            self.respond("431 There is no certificate: TLS can't be used.")
            return
        self.ac_in_buffer = b""
        super().ftp_AUTH(line)

    def ftp_USER(self, line: str) -> None:
        """A password that must not come in clear is refused before it is sent."""
        if self._is_clear() and self.office.logins.needs_tls(line):
            self.respond("530 This log-in needs TLS: use AUTH TLS first.")
            return
        super().ftp_USER(line)

    def ftp_PASS(self, line: str) -> None:
        if self.authenticated or not self.username:
            self.respond("503 Log in with USER first." if not self.authenticated else "503 You are logged in.")
            return
        try:
            found = self.office.logins.log_in(self.username, line, self.address)
            if found.vault.tls_only and self._is_clear():
                raise Refused(530, "This log-in needs TLS: use AUTH TLS first")
            self.office.gate.enter_vault(found.vault)
        except Refused as error:
            self._refuse_log_in(error)
            return
        self._counted = found.vault.id
        self.credential = found
        self.authorizer.rights = _RIGHTS[found.kind]
        self.fs = Files(self.office.store, found.vault, Who(found.login, self.address, found.kind), self)
        self.authenticated, self.password, self.attempted_logins = True, "", 0
        self.log("logged in")
        self.respond("230 Welcome.")

    def _refuse_log_in(self, error: Refused) -> None:
        """Later each time, and not for long: the thread waits, and nobody else."""
        self.attempted_logins += 1
        self.log(f"log-in refused: {error.text}")
        self.username = ""
        self.office.stop.wait(WRONG_DELAY_S * self.attempted_logins)
        self.respond(f"{error.code} {error.text}.")
        if self.attempted_logins >= MAX_WRONG or error.code == 421:
            self.close_when_done()

    def flush_account(self) -> None:
        super().flush_account()
        self._leave_vault()
        self.authorizer.rights = frozenset()
        self.credential, self._prot, self._current_type = None, self._implicit, "i"

    def _leave_vault(self) -> None:
        if self._counted is not None:
            self.office.gate.leave_vault(self._counted)
            self._counted = None

    @property
    def sees(self) -> bool:
        return "l" in self.authorizer.rights

    def close(self) -> None:
        if not self._closed:
            self._leave_vault()
            if self._ssl_established:
                with contextlib.suppress(SSL.Error, OSError):
                    self.socket.shutdown()  # once, and nobody waits for an answer
            FTPHandler.close(self)
            vault_db.close()

    # Data connections

    def _is_busy(self) -> bool:
        queued = self._in_dtp_queue is not None or self._out_dtp_queue is not None
        return queued or (self.data_channel is not None and self.data_channel.busy)

    def _may(self, cmd: str) -> bool:
        return PROTO_CMDS[cmd]["perm"] in self.authorizer.rights

    def _has_data(self) -> bool:
        return bool(self.data_channel or self._dtp_acceptor or self._dtp_connector)

    def no_data_connection(self) -> None:
        """Nobody came: what waited for it is given up, and not for whoever comes next."""
        was_waiting = self._in_dtp_queue is not None or self._out_dtp_queue is not None
        self._drop_queues()
        if was_waiting and self.connected:
            self.respond("425 There was no data connection.")

    def told_address(self, own: str) -> str:
        """For PASV: the masquerade address for those who come from outside, where there is one."""
        own = own.removeprefix("::ffff:")
        outside = self.office.terms.masquerade
        return outside if outside and ipaddress.ip_address(self.address).is_global else own

    @property
    def is_paced(self) -> bool:
        return bool(self.credential and self.credential.vault.rate_bps)

    def pace(self, count: int) -> None:
        if self.is_paced:
            vault = self.credential.vault
            self.office.stop.wait(self.office.pace.wait_s(vault.id, vault.rate_bps, count))

    def handle_error(self) -> None:
        """A client that is gone is no news."""
        try:
            raise
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ETIMEDOUT):
                self.log_exception(self)
        except Exception:  # noqa: BLE001
            self.log_exception(self)
        self._error = True
        self.close()
