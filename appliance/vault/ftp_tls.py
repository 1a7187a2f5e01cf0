"""TLS of the vault: the certificate that is given, else the own one, read anew when it changes."""

import logging
import threading
from pathlib import Path

from OpenSSL import SSL

log = logging.getLogger(__name__)


class Contexts:
    """Each session keeps the context that it began with, for its data connections too."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] = ()
        self._context: SSL.Context | None = None

    def present(self) -> SSL.Context | None:
        """None where there is no usable certificate. A pair that doesn't fit leaves the one before in use."""
        with self._lock:
            try:
                seen = tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in (path.stat() for path in self._files))
                if seen != self._seen:
                    self._context = _context(*self._files)
                    self._seen = seen
            except (OSError, SSL.Error) as error:
                log.warning("the certificate can't be used: %s", error)
            return self._context


def _context(certificate: Path, key: Path) -> SSL.Context:
    """TLS 1.2 or later, AEAD only with 1.2 by what OpenSSL has as its default."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # Data connections resume the session of the control connection.
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_session_id(b"gatehouse-vault")
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(key))
    context.check_privatekey()
    return context
