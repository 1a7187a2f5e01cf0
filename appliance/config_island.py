"""The section [island]: how a site goes on while the central database can't be reached."""

from dataclasses import dataclass

from appliance.config_checks import between


@dataclass(frozen=True)
class Island:
    """`refresh_s` is how often the site copies what it needs; nobody logs in from a copy older than `max_age_s`."""

    refresh_s: int = 600
    max_age_s: int = 604_800

    def __post_init__(self) -> None:
        between(self, "refresh_s", 10, 86_400)
        between(self, "max_age_s", 60, 31_536_000)
        if self.max_age_s <= self.refresh_s:
            raise ValueError("max_age_s: it has to be longer than refresh_s, or no copy is ever good")
