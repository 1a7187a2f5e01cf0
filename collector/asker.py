"""Who asks at a terminal."""

import os
import pwd


def asker() -> str:
    """The person behind sudo, else the user."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
