"""What the search finds of routers."""

from collections.abc import Iterator

from appliance.accounts.finding import beginning
from appliance.admin.paths import part
from appliance.config import Config
from appliance.nas.models import Nas
from appliance.service import Hit, Search


def hits(config: Config, text: str) -> Iterator[Hit]:
    columns = (Nas.name, Nas.address)
    found = {row["name"]: row for field in columns for row in beginning(Nas.select(*columns), field, text)}
    for row in found.values():
        exact = text in (row["name"], row["address"])
        yield Hit("Routers", row["name"], f"/routers/{part(row['name'])}", row["address"], exact)


SEARCH = Search(hits, (("Routers", "by how the name or the address begins"),))
