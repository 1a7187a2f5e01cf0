"""Captive Portal API (RFC 8908): phones ask it instead of guessing, and show what is left."""

import json

from bottle import HTTPResponse

from portal.protocol import Answer

PATH = "/captive-portal/api"


def describe(answer: Answer, portal_url: str) -> dict[str, object]:
    """RFC 8908, 5. A session can't be extended while it lasts; a new one starts with a login."""
    state: dict[str, object] = {
        "captive": not answer.online,
        "user-portal-url": portal_url,
        "can-extend-session": False,
    }
    if answer.online and answer.remaining_s is not None:
        state["seconds-remaining"] = answer.remaining_s
    if answer.online and answer.remaining_bytes is not None:
        state["bytes-remaining"] = answer.remaining_bytes
    return state


def respond(answer: Answer, portal_url: str) -> HTTPResponse:
    return HTTPResponse(
        json.dumps(describe(answer, portal_url)),
        headers={"Content-Type": "application/captive+json", "Cache-Control": "private"},
    )
