"""Schemes, their versions, and who sells under which."""

import re
import time
from typing import Any

from appliance.dealers import schemes
from appliance.dealers.ledger_db import ledger_sql, writing
from appliance.dealers.models import DealerScheme, Scheme, SchemeVersion
from appliance.errors import Conflict, UserError


def add_scheme(name: str, terms: schemes.Terms, valid_from: int) -> Any:
    """The first SchemeVersion of a new scheme."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise UserError(f"{name!r} can't name a scheme: use up to 63 letters, digits, '.', '_' and '-'")
    with writing():
        if Scheme.get_or_none(Scheme.name == name):
            raise Conflict(f"scheme {name!r} exists already: make another version of it")
        Scheme.create(name=name, created_at=int(time.time()))
        return add_version(name, terms, valid_from)


def add_version(name: str, terms: schemes.Terms, valid_from: int) -> Any:
    """For sales from then on, which is after the version before: what was earned stays as it is."""
    with writing():
        scheme = get(name)
        newest = SchemeVersion.select().where(SchemeVersion.scheme == scheme)
        newest = newest.order_by(SchemeVersion.number.desc()).first()
        if newest is not None and valid_from <= newest.valid_from:
            raise UserError("a version begins after the one before it: write a later day")
        return SchemeVersion.create(
            scheme=scheme,
            number=newest.number + 1 if newest else 1,
            valid_from=valid_from,
            terms=schemes.dump(schemes.checked(terms)),
            created_at=int(time.time()),
        )


def get(name: str) -> Any:
    row = Scheme.get_or_none(Scheme.name == name)
    if row is None:
        raise UserError(f"there is no scheme {name!r}: see `gatehouse dealer scheme list`")
    return row


def versions(name: str) -> list[Any]:
    """The newest first."""
    query = SchemeVersion.select().where(SchemeVersion.scheme == get(name))
    return list(query.order_by(SchemeVersion.number.desc()))


def assign(dealer: Any, scheme: Any, from_: int, to: int | None = None) -> Any:
    """In place of the scheme that goes on at that time. Raises UserError where another one is in the way.

    What was sold since then, if it has passed, is taken over by the next earning.take_over.
    """
    if to is not None and to <= from_:
        raise UserError("it would end before it begins: write a later end")
    with writing():
        for other in DealerScheme.select().where(DealerScheme.dealer == dealer):
            if other.valid_to is None and other.valid_from < from_:
                DealerScheme.update(valid_to=from_).where(DealerScheme.id == other.id).execute()
            elif from_ < (other.valid_to or 2**62) and other.valid_from < (to or 2**62):
                raise Conflict(f"dealer {dealer.name} sells under scheme {other.scheme.name} in that time")
        return DealerScheme.create(dealer=dealer, scheme=scheme, valid_from=from_, valid_to=to)


def version_at(dealer: Any, at: int) -> Any:
    """The SchemeVersion for a sale of that time (UTC seconds), or None."""
    found = version_id_at(int(getattr(dealer, "id", dealer)), at)
    return None if found is None else SchemeVersion.get_by_id(found)


def version_id_at(dealer: int, at: int) -> int | None:
    """In plain SQL, as each sale asks it."""
    row = ledger_sql(
        "SELECT v.id FROM dealer_scheme d JOIN scheme_version v ON v.scheme_id = d.scheme_id AND v.valid_from <= ?"
        " WHERE d.dealer_id = ? AND d.valid_from <= ? AND (d.valid_to IS NULL OR d.valid_to > ?)"
        " ORDER BY v.number DESC LIMIT 1",
        (at, dealer, at, at),
    ).fetchone()
    return int(row[0]) if row else None
