"""Many accounts that appear all at once or not at all, though they are written in short pieces.

Vouchers hang on their batch, which has a name that nobody can type and an `unused_until` in 1970 until its last one
is written: none of them is good before. Imported accounts are blocked for so long, and hang by their `changed_at` on
an empty batch that stands for the import. One short write then gives all batches of the work their names. What a
killed command leaves is removed by whoever comes next, or brought to its end when that write had been done.
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
SETTLING = "+"  # of an import: all of it is written, and its accounts are being unblocked
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


def await_writers() -> None:
    """Returns when no `finish` is under way that began before: it has taken place, or never will.

    Changes nothing, but waits for SQLite's one writer, and for PostgreSQL's locks of the rows.
    """
    execute("UPDATE voucher_batch SET created_at = created_at WHERE name LIKE ?", f"{HIDDEN}%")


def mark(work: Any, enabled: bool) -> int:
    """For `changed_at` of an account that an import made: below zero, and it tells what `enabled` will be."""
    return -2 * int(work.id) - enabled


def settle(work: Any) -> None:
    """Unblocks the accounts of a complete import."""
    for enabled in (False, True):
        ids = [row.id for row in Account.select(Account.id).where(Account.changed_at == mark(work, enabled))]
        for piece in in_pieces(ids):
            changes = (enabled, int(time.time()))
            execute(f"UPDATE account SET enabled = ?, changed_at = ? WHERE id IN ({marks(piece)})", *changes, *piece)
    execute("DELETE FROM voucher_batch WHERE id = ?", work.id)


def remove(work: Any) -> None:
    delete_accounts("batch_id = ? OR changed_at IN (?, ?)", work.id, mark(work, False), mark(work, True))
    execute("DELETE FROM voucher_batch WHERE id = ?", work.id)


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
    for batch in list(VoucherBatch.select().where(VoucherBatch.name.startswith(SETTLING), silent)):
        settle(batch)
    if not VoucherBatch.select().where(VoucherBatch.name.startswith(HIDDEN)).exists():
        remove_plans([plan.id for plan in Plan.select().where(Plan.name.startswith(HIDDEN))])
