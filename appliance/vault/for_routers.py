"""The vault that routers bring their backups to, with a log-in for each."""

import re
import zlib

from appliance.config import Config
from appliance.errors import UserError
from appliance.vault import desk, vaults
from appliance.vault.models import DROP, Credential, Vault, vault_db

VAULT = "routers"
_MOST = 63


def drop(config: Config, router: str, source: str) -> tuple[str, str]:
    """Log-in and password of a router, which is new each time; good from `source` only, and only for new files."""
    with desk.opened(config), vault_db.atomic():
        vault = Vault.get_or_none((Vault.name == VAULT) & Vault.removed_at.is_null()) or vaults.create(VAULT)
        login = name_of(router)
        found = Credential.get_or_none(Credential.login == login)
        if found is None:
            return login, vaults.add_login(vault, login, DROP, source)
        if found.vault.id != vault.id or found.kind != DROP:
            raise UserError(f"the log-in {login!r} is somebody else's: remove it first")
        networks = vaults.networks(source)
        Credential.update(networks=networks).where(Credential.id == found.id).execute()
        return login, vaults.set_password(login)


def name_of(router: str) -> str:
    """A log-in for any name of a router; those that had to be changed are told apart by a number."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", router.lower()).strip("-.")
    same = f"router-{plain}"
    return same if plain == router and len(same) <= _MOST else f"{same[:50]}-{zlib.crc32(router.encode()):08x}"
