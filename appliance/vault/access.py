"""How commands get at the vault: as its own user, whoever calls them."""

import contextlib
import os
import pwd
from collections.abc import Iterator

from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import catalog
from appliance.vault.models import vault_db
from appliance.vault.store import Store

USER = "gatehouse-vault"
CERTIFICATE = "vault/server.pem"  # the FTP server's key and chain, below `paths.run`
CERTIFICATE_HASH = "vault/admin.sha256"  # of what the admin's pages show, there too


def become_keeper() -> None:
    """Root becomes the vault's own user for good, so that every file there is that one's."""
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        raise UserError("there is no vault yet: run `gatehouse enable netbackup`") from None
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.umask(0o007)


@contextlib.contextmanager
def opened(config: Config) -> Iterator[None]:
    """The catalogue, for what is no event."""
    become_keeper()
    catalog.bind(config)
    with vault_db.connection_context():
        yield


def opened_store(config: Config) -> Store:
    become_keeper()
    return Store(config)
