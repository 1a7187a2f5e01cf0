"""What somebody may who is limited to some sites: of each address what kind it is, and which rows are theirs.

The frame asks here before a handler runs. Rows of other sites aren't there for the handler then: the models of what
belongs to a site (`accounts.models.OfASite`) leave them out of each SELECT, UPDATE and DELETE. Whoever is everywhere
is asked for their role alone.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from appliance.accounts import models
from appliance.admin.people import ROLES, Person
from appliance.config import Config
from appliance.service import Group, Module

COMMON = "common"  # the same at all sites: the role for what is common decides
ROWS = "rows"  # each row is of a site: those where the role there suffices
HERE = "here"  # of this appliance: the role at its site
FLEET = "fleet"  # nobody's who is limited

# By the first part of the address, an address of its own before that; what isn't named is FLEET.
KINDS = {
    **dict.fromkeys(
        ("", "leave", "search", "accounts", "plans", "pools", "vouchers", "devices", "registrations"), COMMON
    ),
    **dict.fromkeys(("sales", "voucher-batches", "charges", "payments", "usage", "api", "openapi.json"), COMMON),
    **dict.fromkeys(("routers", "sessions", "refusals", "sites", "islands"), ROWS),
    "/sites/<key>/remove": FLEET,
    "/sessions/plan": COMMON,  # it changes accounts; only sessions of one's own sites can be chosen
    **dict.fromkeys(("doctor", "modules", "settings", "certificates", "wishes", "leases"), HERE),
    **dict.fromkeys(("vaults", "netbackup", "vault-files", "vault-versions", "vault-alerts"), HERE),
}

# Keys, and sections, of the configuration that count at all sites: one appliance deletes, sends and settles for all of
# them by its own file, and routers report as often as whichever answers them says.
EVERYBODYS = ("privacy.", "mail.", "dealer.", "radius.interim_interval_s")


def kind(path: str) -> str:
    parts = path.removeprefix("/api/v1").split("/")
    return KINDS.get(path) or KINDS.get(parts[1], FLEET)


def sites(person: Person, needs: str) -> frozenset[str]:
    """Where this role, or a higher one, is theirs."""
    least = ROLES.index(needs)
    return frozenset(key for key, role in (person.sites or {}).items() if key and ROLES.index(role) >= least)


def role(person: Person, path: str, config: Config) -> str:
    """That which counts at this address; empty where nothing is theirs. At ROWS the highest of any site."""
    if person.sites is None:
        return person.role
    found = {
        COMMON: [person.sites[""]],
        ROWS: [role for key, role in person.sites.items() if key],
        HERE: [role for key, role in person.sites.items() if key == config.site.key and key],
        FLEET: [],
    }[kind(path)]
    return max(found, key=ROLES.index, default="")


def may(person: Person, path: str, needs: str, config: Config) -> bool:
    counts = role(person, path, config)
    return bool(counts) and ROLES.index(counts) >= ROLES.index(needs)


def may_of(person: Person, config: Config) -> Callable[[str, str], bool]:
    """By an address and the role that it needs; nothing for nobody."""
    return lambda path, needs: bool(person.name) and may(person, path, needs, config)


def too_little(person: Person, path: str, needs: str) -> str:
    """Why not, in a line."""
    if person.sites is None:
        return f"This needs the role {needs}; yours is {person.role}"
    whose = {COMMON: "for what is common", ROWS: "at a site", HERE: "at this appliance's site"}
    where = whose.get(kind(path), "everywhere, and you are limited to some sites")
    return f"This needs the role {needs} {where}"


def at(person: Person, path: str, config: Config) -> Person:
    """The same, with the role that counts there."""
    return replace(person, role=role(person, path, config) or person.role)


def is_here(person: Person, config: Config) -> bool:
    """Whether what is told of this appliance is for them."""
    return person.sites is None or config.site.key in sites(person, ROLES[0])


def modules_of(person: Person, config: Config, of: Iterable[Module]) -> list[Module]:
    """Those that tell and find things for them: all rows of the hotspot's are of sites, or common."""
    if person.sites is None:
        return list(of)
    names = ("hotspot", "netbackup") if is_here(person, config) else ("hotspot",)
    return [module for module in of if module.name in names]


def groups_of(person: Person, of: Iterable[Group]) -> list[Group]:
    """Without the settings that are everybody's, for who is limited."""
    if person.sites is None:
        return list(of)
    return [replace(g, settings=tuple(s for s in g.settings if not s.key.startswith(EVERYBODYS))) for g in of]


@contextmanager
def limited(person: Person, needs: str) -> Iterator[None]:
    """Rows of sites are those where this role is theirs."""
    token = models.reach.set(None if person.sites is None else sites(person, needs))
    try:
        yield
    finally:
        models.reach.reset(token)
