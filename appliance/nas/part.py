"""Which routers' running sessions a process looks after: where there are sites, each site's are its own appliance's."""

from dataclasses import dataclass
from typing import Any

from appliance.accounts.models import Session
from appliance.nas.models import Nas


@dataclass(frozen=True)
class Part:
    """`site` None: the routers of no site, which are all where there are no sites."""

    site: str | None = None
    fleet: bool = False

    @property
    def sql(self) -> str:
        """A condition on the table `session`, for a statement that has others."""
        if not self.fleet:
            return ""
        if self.site is None:
            return " AND nas NOT IN (SELECT name FROM nas WHERE site IS NOT NULL)"
        return f" AND nas IN (SELECT name FROM nas WHERE site = '{self.site}')"

    @property
    def sessions(self) -> Any:
        """The same for a query of the model."""
        if not self.fleet:
            return True
        if self.site is None:
            return Session.nas.not_in(Nas.select(Nas.name).where(Nas.site.is_null(False)))
        return Session.nas.in_(Nas.select(Nas.name).where(Nas.site == self.site))


ALL = Part()
