"""Many accounts that appear all at once or not at all, though they are written in short pieces.

They hang on a batch that has a name which nobody can type and an `unused_until` in 1970, so that none of them
is good yet. One short write then gives all batches of the work their names. What a killed command leaves is
removed by whoever comes next, or brought to its end when that write had been done.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import peewee

from appliance.accounts.models import Account, Plan, VoucherBatch, core_db
from appliance.accounts.pieces import delete_accounts, execute, in_pieces, marks
from appliance.errors import UserError

HIDDEN = "~"  # begins the name of what isn't complete; no name that people give can
SETTLED = "+"  # a batch that only held accounts together: complete, and about to let go of them
NOT_YET = 0  # `unused_until` of a batch that isn't complete
SILENT_S = 60  # work that nobody has written to for so long is abandoned

_LATE = "this took so long that it was taken for abandoned, and removed: try again"


def hide(name: str) -> str:
    return f"{HIDDEN}{secrets.token_hex(4)} {name}"


def begin(name: str, plan: Any) -> Any:
    """An empty batch that isn't there yet for anyone but its maker."""
    return VoucherBatch.create(name=hide(name), plan=plan, unused_until=NOT_YET, created_at=int(time.time()))


def still_here(batches: Sequence[Any]) -> None:
    """Tells others that the maker lives; raises UserError when the work was taken for abandoned."""
    now = int(time.time())
    for batch in batches:
        if now - batch.created_at < SILENT_S // 6:
            continue
        if not execute("UPDATE voucher_batch SET created_at = ? WHERE id = ?", now, batch.id).rowcount:
            raise UserError(_LATE)
        batch.created_at = now


def finish(batches: Mapping[Any, Mapping[str, Any]], plans: Mapping[int, str] | None = None) -> None:
    """The one write after which all is there: the final columns of each batch, and names of plans by their ids."""
    now = int(time.time())
    with core_db.atomic():
        for plan_id, name in (plans or {}).items():
            Plan.update(name=name).where(Plan.id == plan_id).execute()
        for batch, values in batches.items():
            if not VoucherBatch.update(created_at=now, **values).where(VoucherBatch.id == batch.id).execute():
                raise UserError(_LATE)


def settle(batch: Any) -> None:
    """Lets go of a complete batch's accounts, which are no vouchers."""
    ids = [row.id for row in Account.select(Account.id).where(Account.batch == batch)]
    for piece in in_pieces(ids):
        execute(f"UPDATE account SET batch_id = NULL WHERE id IN ({marks(piece)})", *piece)
    execute("DELETE FROM voucher_batch WHERE id = ?", batch.id)


def remove(batch: Any) -> None:
    delete_accounts("batch_id = ?", batch.id)
    execute("DELETE FROM voucher_batch WHERE id = ?", batch.id)


def remove_plans(ids: Sequence[int]) -> None:
    """Plans that nobody has; another one stays."""
    for plan_id in ids:
        try:
            execute("DELETE FROM plan WHERE id = ?", plan_id)
        except peewee.IntegrityError:
            continue


def sweep() -> None:
    """Removes or completes what killed commands left."""
    silent = VoucherBatch.created_at < int(time.time()) - SILENT_S
    for batch in list(VoucherBatch.select().where(VoucherBatch.name.startswith(HIDDEN), silent)):
        remove(batch)
    for batch in list(VoucherBatch.select().where(VoucherBatch.name.startswith(SETTLED), silent)):
        settle(batch)
    if not VoucherBatch.select().where(VoucherBatch.name.startswith(HIDDEN)).exists():
        remove_plans([plan.id for plan in Plan.select().where(Plan.name.startswith(HIDDEN))])
