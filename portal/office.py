"""Asking the admin's process to write something for a guest; the verbs are in appliance/guest_verbs.py."""

import typing
from pathlib import Path

from appliance import verbs
from appliance.guest_verbs import VERBS, Answer, Request

TIMEOUT_S = 5.0


class OfficeClient:
    """The portal's side of the socket."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def ask(self, request: Request) -> Answer:
        """Raises Unavailable when nobody answers in time, UserError when it can't be done."""
        line = verbs.ask(self._path, VERBS.encode(request), self._timeout_s, "the admin's process")
        return typing.cast(Answer, verbs.decode_answer(Answer, line))
