"""Files between a preview and the yes to it, in memory: what they hold reaches no disk before that."""

import secrets
import threading
from collections import OrderedDict

from appliance.errors import UserError

KEPT, KEPT_S = 4, 3600


class Uploads:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, tuple[str, int, bytes]] = OrderedDict()

    def keep(self, who: str, content: bytes, now: int) -> str:
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._files[token] = (who, now, content)
            while len(self._files) > KEPT:
                self._files.popitem(last=False)
        return token

    def take(self, token: str, who: str, now: int) -> bytes:
        """Once, and only for whoever sent it."""
        with self._lock:
            owner, at, content = self._files.pop(token, ("", 0, b""))
        if owner != who or not 0 <= now - at < KEPT_S:
            raise UserError("that file isn’t here any more: choose it again")
        return content
