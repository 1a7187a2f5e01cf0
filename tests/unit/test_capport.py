"""portal/capport.py: what RFC 8908 asks for."""

import json

from portal.capport import describe, respond
from portal.protocol import Answer

HOME = "https://login.example.net/"


def test_captive_until_online() -> None:
    assert describe(Answer(online=False, ended=5), HOME) == {
        "captive": True,
        "user-portal-url": HOME,
        "can-extend-session": False,
    }


def test_online_tells_what_is_left() -> None:
    state = describe(Answer(online=True, remaining_s=60, remaining_bytes=0), HOME)
    assert state["captive"] is False
    assert state["seconds-remaining"] == 60
    assert state["bytes-remaining"] == 0


def test_without_limits_nothing_is_said_of_them() -> None:
    assert set(describe(Answer(online=True), HOME)) == {"captive", "user-portal-url", "can-extend-session"}


def test_media_type_and_cache() -> None:
    """RFC 8908, 4 and 5."""
    response = respond(Answer(online=True), HOME)
    assert response.get_header("Content-Type") == "application/captive+json"
    assert response.get_header("Cache-Control") == "private"
    assert json.loads(response.body)["captive"] is False
