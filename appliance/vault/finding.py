"""What the search box finds of vaults: by the beginning of a name, a log-in's, a file's, or by a content's SHA-256."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

from appliance.admin.paths import part
from appliance.config import Config
from appliance.errors import UserError
from appliance.service import Hit, Search
from appliance.vault import desk
from appliance.vault.models import Credential, Vault, Version

_MOST = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")


def hits(config: Config, text: str) -> Iterator[Hit]:
    try:
        with desk.opened(config):
            yield from list(_hits(text))
    except UserError:
        return


def _hits(text: str) -> Iterator[Hit]:
    vaults = Vault.select().where(Vault.removed_at.is_null() & _begins(Vault.name, text))
    for vault in vaults.order_by(Vault.name).limit(_MOST):
        yield Hit("Vaults", vault.name, _url(vault), exact=vault.name == text)
    logins = Credential.select(Credential, Vault).join(Vault).where(_begins(Credential.login, text))
    for login in logins.order_by(Credential.login).limit(_MOST):
        yield Hit("Log-ins of vaults", login.login, _url(login.vault), f"of vault {login.vault.name}", beside=True)
    if text.startswith("/") and len(text) > 1:
        files = Version.path == text
    elif _SHA256.fullmatch(text.lower()):
        files = Version.sha256 == text.lower()
    else:
        return
    found = Version.select(Version, Vault).join(Vault).where(files & Vault.removed_at.is_null())
    seen: set[tuple[str, str]] = set()
    for version in found.order_by(Version.id.desc()).limit(20 * _MOST):
        key = version.vault.name, version.path
        if key not in seen and len(seen) < _MOST:
            seen.add(key)
            where = f"{_url(version.vault)}/versions?" + urlencode({"path": version.path})
            yield Hit("Files in vaults", version.path, where, f"in vault {version.vault.name}", beside=True)


def _url(vault: Vault) -> str:
    return f"/vaults/{part(vault.name)}"


def _begins(field: object, text: str) -> object:
    return (field >= text) & (field < text + chr(0x10FFFF))  # type: ignore[operator]


SEARCH = Search(
    hits,
    (
        ("Vaults", "by how their name or a log-in begins"),
        ("Files in vaults", "by their whole path, with its first slash, or by their SHA-256"),
    ),
)
