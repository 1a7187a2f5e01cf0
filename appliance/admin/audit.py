"""The record of changes: who, when, what, before and after; written in the transaction of the change itself."""

import json
import os
import pwd
import time
from collections.abc import Mapping

from appliance.admin.models import Audit

SECRET = ("password", "secret", "token")


def command() -> str:
    """Who, where it is a command."""
    return f"command of {pwd.getpwuid(os.geteuid()).pw_name}"


def record(who: str, action: str, subject: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Fields that are the same before and after are left out; of a secret only that it changed."""
    changes = {
        key: ["…", "…"] if key in SECRET else [before.get(key), after.get(key)]
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }
    Audit.create(at=int(time.time()), who=who, action=action, subject=subject, changes=json.dumps(changes, default=str))
