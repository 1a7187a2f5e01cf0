"""FTP's commands where the vault does something else than pyftpdlib, and those that it adds."""

import time
from typing import Any

from pyftpdlib.handlers.ftps.control import TLS_FTPHandler

from appliance.vault.ftp_files import Lines, Spool, facts_line, list_line, name_line
from appliance.vault.models import How, Refused

_MAX_BYTES = 2**60

PROTO_CMDS = {name: help_ for name, help_ in TLS_FTPHandler.proto_cmds.items() if name != "SITE CHMOD"} | {
    "AVBL": {"perm": "l", "auth": True, "arg": None, "help": "Syntax: AVBL (bytes that can still be stored)."},
    "CLNT": {"perm": None, "auth": False, "arg": True, "help": "Syntax: CLNT <SP> name (the client's name)."},
    "HASH": {"perm": "r", "auth": True, "arg": True, "help": "Syntax: HASH <SP> path (its SHA-256)."},
    "XSHA256": {"perm": "r", "auth": True, "arg": True, "help": "Syntax: XSHA256 <SP> path (its SHA-256)."},
    "SITE VERSIONS": {
        "perm": "r",
        "auth": True,
        "arg": True,
        "help": "Syntax: SITE VERSIONS <SP> path (all that are kept).",
    },
}
PROTO_CMDS["ALLO"] = PROTO_CMDS["ALLO"] | {"help": "Syntax: ALLO <SP> bytes (how long the next upload will be)."}


class Commands:
    """Mixed into a Session."""

    fs: Any
    office: Any
    data_channel: Any
    credential: Any
    announced_bytes: int | None
    _restart_position: int
    _current_facts: list[str]

    # Uploads

    def ftp_ALLO(self: Any, line: str) -> None:
        """The length of the next upload: reserved now, and what came in the end must be as long."""
        word = line.split(" ")[0]
        if not word.isascii() or not word.isdigit() or int(word) > _MAX_BYTES:
            self.respond("501 A number of bytes is needed.")
            return
        self.announced_bytes = int(word)
        self.respond("200 That is how much has to come.")

    def ftp_STOR(self: Any, path: str, mode: str = "w") -> None:
        offset, self._restart_position = self._restart_position, 0
        how = How.RESUME if offset else How.STORE
        if offset and not self.sees:
            raise Refused(550, "This log-in can only bring new files")
        self._receive(path, how, offset, "STOR")

    def ftp_APPE(self: Any, path: str) -> None:
        if self._restart_position:
            self._restart_position = 0
            self.respond("450 REST and APPE don't go together.")
        elif not self.sees:
            raise Refused(550, "This log-in can only bring new files")
        else:
            self._receive(path, How.APPEND, 0, "APPE")

    def ftp_STOU(self: Any, line: str) -> None:
        """A name of the server's choice, with the client's words in it."""
        if not self.authorizer.has_perm(self.username, "w"):
            raise Refused(550, "This log-in can only read")
        self._restart_position = 0
        base = self.fs.ftp2fs(line or "upload")
        for count in range(1000):
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            path = f"{base}.{stamp}" + (f".{count}" if count else "")
            if not self.fs.lexists(path):
                self._receive(path, How.UNIQUE, 0, "STOU")
                return
        self.respond("450 There is no name left: try again.")

    def _receive(self: Any, path: str, how: How, offset: int, command: str) -> None:
        expected, self.announced_bytes = self.announced_bytes, None
        whole = expected if how in (How.STORE, How.UNIQUE) else None  # of a part nobody knows what ALLO was about
        spool: Spool = self.fs.upload(path, how, offset, whole)
        try:
            name = path.rpartition("/")[2]
            text = f"FILE: {name}" if command == "STOU" else "Send it."
            if self.data_channel is not None:
                self.respond(f"125 {text}")
                self.data_channel.file_obj = spool
                self.data_channel.enable_receiving("i", command)
            else:
                self.respond(f"150 {text}")
                self._in_dtp_queue = (spool, command)
        except BaseException:
            spool.close()
            raise

    # Lists

    def ftp_LIST(self: Any, path: str) -> None:
        self._list(path, list_line(time.time()), "LIST")

    def ftp_NLST(self: Any, path: str) -> None:
        self._list(path, name_line, "NLST")

    def ftp_MLSD(self: Any, path: str) -> None:
        if not self.fs.isdir(path):
            self.respond("501 There is no such folder.")
            return
        self._list(path, facts_line(self._current_facts, self._may_write()), "MLSD")

    def ftp_MLST(self: Any, path: str) -> None:
        found = self.fs.entry(path)
        line = facts_line(self._current_facts, self._may_write())(found._replace(name=path))
        self.push(f"250-Listing:\r\n {line}")
        self.respond("250 End.")

    def ftp_STAT(self: Any, path: str) -> None:
        if not path:
            super().ftp_STAT(path)  # type: ignore[misc]
            return
        lines = Lines(self.fs.listed(path), list_line(time.time()))
        self.push("213-Status:\r\n")
        while piece := lines.more():
            self.push(piece.decode())
        self.respond("213 End.")

    def _list(self: Any, path: str, form: Any, command: str) -> None:
        self.push_dtp_data(Lines(self.fs.listed(path), form), isproducer=True, cmd=command)

    def _may_write(self: Any) -> bool:
        return bool(self.authorizer.has_perm(self.username, "w"))

    # What is asked of a file

    def ftp_TYPE(self: Any, line: str) -> None:
        if line.upper().replace(" ", "") in ("A", "AN", "L7", "I", "L8"):
            self.respond(f"200 Type set to {line.upper()}; files are sent and kept as they are.")
        else:
            self.respond("504 There are the types A and I only.")

    def ftp_HASH(self: Any, path: str) -> None:
        """draft-bryan-ftpext-hash-02, of the whole file."""
        found = self.fs.file(path)
        self.respond(f"213 SHA-256 0-{found.bytes} {found.sha256} {path}")

    def ftp_XSHA256(self: Any, path: str) -> None:
        self.respond(f"250 {self.fs.file(path).sha256}")

    def ftp_AVBL(self: Any, path: str) -> None:
        """draft-peterson-streamlined-ftp-command-extensions-10, 4."""
        room = self.office.store.space(self.credential.vault)
        self.respond(f"213 {max(0, room)}" if room is not None else "550 The vault has no limit of its own.")

    def ftp_OPTS(self: Any, line: str) -> None:
        if line.upper().startswith("HASH"):
            known = line.upper() in ("HASH", "HASH SHA-256")
            self.respond("200 SHA-256" if known else "501 SHA-256 is the only one.")
        else:
            super().ftp_OPTS(line)  # type: ignore[misc]

    def ftp_CLNT(self: Any, line: str) -> None:
        self.respond("200 Welcome.")

    def ftp_SITE_VERSIONS(self: Any, path: str) -> None:
        self.push(f"211-Versions of {path}:\r\n")
        for version in self.office.store.versions(self.credential.vault, path):
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.stored_ms // 1000))
            sure = "" if version.confirmed else " not confirmed"
            self.push(f" {version.id} {at} {version.bytes} {version.sha256}{sure}\r\n")
        self.respond("211 End.")

    # What pyftpdlib answers otherwise

    def ftp_ABOR(self: Any, line: str) -> None:
        """426 for the transfer, then 226 for ABOR itself (RFC 959, 4.1.3); 225 when there was none."""
        was_busy = self._is_busy()
        self._drop_queues()
        self._shutdown_connecting_dtp()
        if self.data_channel is not None:
            self.data_channel.close()
            self.data_channel = None
        if was_busy:
            self.respond("426 The transfer was broken off.")
        self.respond("226 ABOR is done." if was_busy else "225 There was no transfer.")

    def ftp_CWD(self: Any, path: str) -> None:
        self.fs.chdir(path)
        self.respond(f'250 "{path}" is the current folder.')

    def ftp_SITE_HELP(self: Any, line: str) -> None:
        self.respond("214 SITE VERSIONS path; SITE HELP.")

    def _drop_queues(self: Any) -> None:
        for queue, place in ((self._in_dtp_queue, 0), (self._out_dtp_queue, 2)):
            if queue is not None and queue[place] is not None:
                queue[place].close()
        self._in_dtp_queue = self._out_dtp_queue = None
