"""What a file may be called. Paths are absolute within their vault: `/`, `/folder/file`."""

import unicodedata

from appliance.vault.models import Refused

MAX_NAME_BYTES = 255  # as on ext4, so that any copy can have the same name
MAX_PATH_BYTES = 1024
MAX_DEPTH = 32
ROOT = "/"


def clean(path: str) -> str:
    """The one form of a path: NFC, no empty parts, case kept. Raises Refused (553)."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise Refused(553, "the name is not UTF-8") from None
    if size > MAX_PATH_BYTES:
        raise Refused(553, f"the path is longer than {MAX_PATH_BYTES} bytes")
    parts = [part for part in unicodedata.normalize("NFC", path).split("/") if part]
    if len(parts) > MAX_DEPTH:
        raise Refused(553, f"there are more than {MAX_DEPTH} folders in the path")
    for part in parts:
        if part in (".", ".."):
            raise Refused(553, "a name can't be . or ..")
        if len(part.encode()) > MAX_NAME_BYTES:
            raise Refused(553, f"a name is longer than {MAX_NAME_BYTES} bytes")
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in part):
            raise Refused(553, "a name can't have control characters")
    found = ROOT + "/".join(parts)
    if len(found.encode()) > MAX_PATH_BYTES:
        raise Refused(553, f"the path is longer than {MAX_PATH_BYTES} bytes")
    return found


def split(path: str) -> tuple[str, str]:
    """Folder and name of a clean path; the root's name is empty."""
    folder, _, name = path.rpartition("/")
    return folder or ROOT, name


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def parents(path: str) -> list[str]:
    """Folders above a clean path, the outermost first, without the root."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
