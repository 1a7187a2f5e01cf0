"""Which keys of a site's configuration may be set from here: what guests read there, nothing of its network."""

from collections.abc import Sequence

from appliance import wishes
from appliance.service import Setting

ALLOWED = (
    "site.name",
    "site.timezone",
    "site.contact",
    "portal.title",
    "portal.greeting",
    "portal.accent",
    "portal.terms",
)


def allowed() -> Sequence[str]:
    known = wishes.settings()
    return [key for key in ALLOWED if key in known]


def settings() -> Sequence[Setting]:
    return [wishes.settings()[key] for key in allowed()]
