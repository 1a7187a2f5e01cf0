"""The section [acme]: certificates that a public authority gives by itself (RFC 8555)."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance.config_checks import EMAIL, HOST, ports

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
MAX_NAMES = 100  # what Let's Encrypt signs in one
_PRIVATE = ("internal", "local", "lan", "localhost", "test", "invalid", "home", "arpa")  # nobody can show these are his


@dataclass(frozen=True)
class Acme:
    """`names` are for other names than the login page's; `port` is where nginx answers the authority, inside only."""

    enabled: bool = False
    directory: str = LETS_ENCRYPT
    contact: str = ""
    names: tuple[str, ...] = ()
    port: int = 8402

    def __post_init__(self) -> None:
        parts = urlsplit(self.directory)
        if parts.scheme != "https" or not parts.hostname or not self.directory.isascii() or " " in self.directory:
            raise ValueError("directory: the authority's address is needed, with https://")
        if self.contact and not EMAIL.fullmatch(self.contact):
            raise ValueError("contact: an e-mail address such as wifi@example.net is needed")
        ports(self, "port")

    def verify_names(self, names: Iterable[str]) -> None:
        """Raises ValueError for what no public authority signs."""
        if len(tuple(names)) > MAX_NAMES:
            raise ValueError(f"[acme] names: {MAX_NAMES} names are possible")
        for name in names:
            if not HOST.fullmatch(name) or name.rpartition(".")[2] in _PRIVATE:
                raise ValueError(f"[acme] names, [portal] hostname: {name!r} is no name of the public DNS")
