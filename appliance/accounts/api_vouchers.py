"""Vouchers and their batches as programs see them. Codes let in whoever reads them: that takes an operator's token."""

from collections.abc import Sequence
from typing import Any

from appliance.accounts import manage, terms, vouchers
from appliance.accounts.models import Account, Plan, VoucherBatch
from appliance.api.resources import Call, Field, Resource, Values
from appliance.api.shapes import TIME, Flag, Maybe, Number, Object, Part, Text
from appliance.api.web import routes
from appliance.crypto import load_box
from appliance.errors import UserError

NAME = Text(max=63)


def _key(state: str) -> str:
    return state.replace(" ", "_")


# Batches


def _batches(call: Call, asked: Values) -> Any:
    return VoucherBatch.select(VoucherBatch, Plan).join(Plan).where(vouchers.complete())


def _find_batch(call: Call, key: str) -> Any:
    return VoucherBatch.get_or_none((VoucherBatch.name == key) & vouchers.complete())


def _show_batches(call: Call, rows: Sequence[Any]) -> list[Values]:
    counts = vouchers.counts(call.now, [row.id for row in rows])
    none = dict.fromkeys(vouchers.STATES, 0)
    return [
        {
            "name": row.name,
            "plan": row.plan.name,
            "price_minor": row.price_minor,
            "currency": row.currency,
            "unused_until": row.unused_until,
            "created_at": row.created_at,
            "vouchers": {_key(state): count for state, count in counts.get(row.id, none).items()},
        }
        for row in rows
    ]


def _add_batch(call: Call, given: Values) -> tuple[str, Values]:
    if ("price" in given) != ("currency" in given):
        raise UserError("price, currency: give both or neither")
    order = vouchers.Order(
        batch=given["name"],
        plan=given["plan"],
        count=given["count"],
        prefix=given.get("prefix", ""),
        length=given.get("length", vouchers.LENGTH),
        price_minor=vouchers.parse_price(given["price"], given["currency"]) if "price" in given else 0,
        currency=given.get("currency", ""),
        unused_until=_to_come(given.get("unused_until"), call),
    )
    after = {"plan": order.plan, "count": order.count, "price_minor": order.price_minor}
    box = load_box(call.config.paths.state)
    vouchers.make(order, box, lambda: call.record("added", f"batch {order.batch}", {}, after))
    return order.batch, {}


def _to_come(at: int | None, call: Call) -> int | None:
    if at is not None and at <= call.now:
        raise UserError("unused_until: that is over: give a time to come")
    return at


def _change_batch(call: Call, row: Any, given: Values) -> Values:
    if "unused_until" in given:
        until = _to_come(given["unused_until"], call)
        vouchers.extend(row.name, until)
        call.record("changed", f"batch {row.name}", {"unused_until": row.unused_until}, {"unused_until": until})
    if "revoked" in given:
        count, _ = vouchers.revoke(row.name)
        call.record("revoked", f"batch {row.name}", {}, {"vouchers": count})
    return {}


def _remove_batch(call: Call, row: Any) -> Values:
    removed, stay = vouchers.remove(row.name)
    call.record("removed", f"batch {row.name}", {"vouchers": removed + stay}, {"vouchers": stay})
    return {"removed": removed, "stay": stay}


COUNTS = Object(tuple(Part(_key(state), Number()) for state in vouchers.STATES))

BATCHES = Resource(
    name="voucher-batches",
    one="batch",
    about="Vouchers that were made together. Removing one removes what nobody has used; used ones stay.",
    fields=(
        Field("name", NAME, "what it is called", new=True, needed=True),
        Field("plan", NAME, "its plan's name", new=True, needed=True),
        Field("count", Number(1, vouchers.MAX_COUNT), "how many", new=True, needed=True, shown=False),
        Field("prefix", Text(min=0, max=12), "what each code begins with", new=True, shown=False),
        Field("length", Number(1, vouchers.MAX_LENGTH), "characters after the prefix", new=True, shown=False),
        Field("price", Text(max=16), "such as 5.00, with a currency", new=True, shown=False),
        Field("price_minor", Number(), "in cents, or whatever is smallest"),
        Field("currency", Text(min=0, max=3), "its three letters, such as EUR", new=True),
        Field("unused_until", Maybe(TIME), "no first login from then on", new=True, change=True),
        Field("created_at", TIME, "when it was made"),
        Field("vouchers", COUNTS, "how many in each state"),
        Field("revoked", Flag(only=True), "make all of them useless", change=True, shown=False),
    ),
    sample={"name": "may", "plan": "home", "count": 20, "price": "5.00", "currency": "EUR"},
    query=_batches,
    order=(VoucherBatch.id,),
    find=_find_batch,
    show=_show_batches,
    add=_add_batch,
    change=_change_batch,
    remove=_remove_batch,
    removed=(Part("removed", Number(), "vouchers"), Part("stay", Number(), "vouchers that have been used")),
    records=True,
)


# Vouchers


def _query(call: Call) -> Any:
    columns = (Account, VoucherBatch, Plan, vouchers.state(call.now).alias("state"))
    return vouchers.select(*columns).where(vouchers.complete())


def _vouchers(call: Call, asked: Values) -> Any:
    query = _query(call)
    if "state" in asked and "batch" not in asked:
        raise UserError("state: only with a batch")  # states are worked out, a batch at most at a time
    if "batch" in asked:
        query = query.where(Account.batch == vouchers.get_batch(asked["batch"]))
    if "state" in asked:
        query = query.where(vouchers.state(call.now) == asked["state"].replace("_", " "))
    return query


def _find_voucher(call: Call, key: str) -> Any:
    return _query(call).where(Account.name == terms.voucher_code(key)).first()


def _show_vouchers(call: Call, rows: Sequence[Any]) -> list[Values]:
    return [
        {
            "code": row.name,
            "batch": row.batch.name,
            "plan": row.plan.name,
            "state": _key(row.state),
            "enabled": bool(row.enabled),
            "valid_until": row.valid_until,
            "first_login_at": row.first_login_at,
        }
        for row in rows
    ]


def _change_voucher(call: Call, row: Any, given: Values) -> Values:
    manage.change_account(row, {"overrides": terms.overrides(row.overrides), **given})
    return {}


VOUCHERS = Resource(
    name="vouchers",
    one="voucher",
    about="Codes, in the order in which they are printed; one is found in any spelling.",
    key="code",
    fields=(
        Field("code", Text(), "as it is stored"),
        Field("batch", NAME, "its batch's name"),
        Field("plan", NAME, "its plan's name"),
        Field("state", Text(choices=tuple(map(_key, vouchers.STATES))), "what became of it"),
        Field("enabled", Flag(), "false: revoked", change=True),
        Field("valid_until", Maybe(TIME), "no login from then on"),
        Field("first_login_at", Maybe(TIME), "null: never yet"),
    ),
    filters=(
        Part("batch", NAME, "of this batch"),
        Part("state", Text(choices=tuple(map(_key, vouchers.STATES))), "only with a batch"),
    ),
    query=_vouchers,
    order=(Account.id,),
    find=_find_voucher,
    show=_show_vouchers,
    change=_change_voucher,
    reads="operator",
)

RESOURCES = (BATCHES, VOUCHERS)
PAGES = routes(*RESOURCES)
