"""The section [site]."""

import re
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

KEY = r"[a-z0-9-]{1,32}"


@dataclass(frozen=True)
class Site:
    """What guests and admins see; `timezone` is the one in which windows, days and months are meant.

    `key` is its name among the appliances of one database; empty is the only one there is.
    """

    name: str = "Gatehouse"
    timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    contact: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if self.key and not re.fullmatch(KEY, self.key):
            raise ValueError(f"key: a site's key has 1 to 32 small letters, digits and '-', not {self.key!r}")
