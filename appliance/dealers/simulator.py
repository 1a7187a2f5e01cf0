"""What other terms would have brought dealers for sales that were made: by the code that earns, in memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appliance.accounts.models import core_db
from appliance.config import Config
from appliance.dealers import earning, schemes
from appliance.dealers.earning import Sale, Standing
from appliance.dealers.ledger_db import ledger_sql
from appliance.dealers.models import Attribution, Dealer
from appliance.dealers.schemes import Terms

_PAGE = 5000  # payments read at once


class Row(NamedTuple):
    """Of one dealer in one currency: payments of that time, their money, what they brought, and what they would."""

    dealer: str
    currency: str
    payments: int
    received_minor: int
    then_minor: int
    now_minor: int


@dataclass
class _Book:
    """A ledger in memory: charges by their source, and each dealer's payments by time."""

    terms: Terms
    config: Config
    charges: dict[str, Standing] = field(default_factory=dict)
    volumes: dict[tuple[int, str, int], int] = field(default_factory=lambda: defaultdict(int))

    def take(self, sale: Sale, dealer: int) -> int:
        """What the payment brings."""
        since, _ = schemes.volume_span(self.terms, sale.paid_at, self.config.site.timezone)
        key = (dealer, sale.currency, since)
        standing = self.charges.get(sale.charge)
        if standing is None:
            standing = earning.begin(self.terms, earning.facts(sale, self.config), self.volumes[key])
        amount, self.charges[sale.charge] = earning.step(standing, sale.amount_minor, sale.paid_minor)
        self.volumes[key] += sale.paid_minor
        return amount


def simulate(config: Config, terms: Terms, since: int, until: int, dealers: Iterable[Any] | None = None) -> list[Row]:
    """For payments of that half-open time (UTC seconds), as if the terms had always held for all of these dealers.

    All payments before them are gone through too, as they make the volume and are part of what charges had. Customers
    who left are not taken back.
    """
    chosen = {row.id: row.name for row in (Dealer.select() if dealers is None else dealers)}
    owners, book = _Owners(set(chosen)), _Book(terms, config)
    found: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for sale in _sales(until):
        dealer = owners.of(sale)
        if dealer is None:
            continue
        amount = book.take(sale, dealer)
        if sale.paid_at >= since:
            sums = found[dealer, sale.currency]
            sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + sale.paid_minor, sums[2] + amount
    then = _then(set(chosen), since, until)
    rows = []
    for key in {*found, *then}:
        payments, received, now = found[key]
        rows.append(Row(chosen[key[0]], key[1], payments, received, then.get(key, 0), now))
    return sorted(rows)


def _sales(until: int) -> Iterator[Sale]:
    """In the order in which they are taken over."""
    after = 0
    text = f"{earning.SALE} WHERE p.id > ? AND p.at < ? ORDER BY p.id LIMIT {_PAGE}"
    while rows := core_db.execute_sql(text.replace("?", core_db.param), (after, until)).fetchall():
        yield from (Sale(*row) for row in rows)
        after = rows[-1][0]


class _Owners:
    """Attributions of some dealers, read once; the rule is that of earning.owner."""

    def __init__(self, chosen: set[int]) -> None:
        self._spans: dict[tuple[str, Any], list[tuple[int, int, int]]] = defaultdict(list)
        columns = (Attribution.dealer, Attribution.kind, Attribution.ref, Attribution.name)
        query: Any = Attribution.select(*columns, Attribution.valid_from, Attribution.valid_to).order_by(Attribution.id)
        for dealer, kind, ref, name, since, until in query.tuples():
            if dealer in chosen:
                span = (since, 2**62 if until is None else until, dealer)
                self._spans[kind, ref].append(span)
                self._spans[kind, name].append(span)

    def of(self, sale: Sale) -> int | None:
        for kind, ref in earning.holders(sale):
            for since, until, dealer in self._spans.get((kind, ref), ()):
                if since <= sale.at < until:
                    return dealer
        return None


def _then(chosen: set[int], since: int, until: int) -> dict[tuple[int, str], int]:
    """What the ledger has for payments of that time."""
    text = (
        "SELECT dealer_id, currency, sum(amount_minor) FROM posting WHERE at >= ? AND at < ?"
        " AND kind IN ('commission', 'refund') GROUP BY dealer_id, currency"
    )
    rows = ledger_sql(text, (since, until)).fetchall()
    return {(dealer, currency): int(amount) for dealer, currency, amount in rows if dealer in chosen}
