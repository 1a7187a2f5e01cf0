"""Selling vouchers from a phone: plans, how many, and then the code as large as it gets; what was sold, and back."""

import secrets
from typing import Any
from urllib.parse import quote

import peewee

from appliance.accounts import sheets, vouchers, wording
from appliance.accounts.web_parts import local
from appliance.admin import audit
from appliance.admin.frame import Ask, Page
from appliance.admin.lists import Column, List
from appliance.admin.paths import part
from appliance.dealers import selling
from appliance.dealers.models import Attribution
from appliance.dealers.money import text as amount
from appliance.dealers.own import Batch, Own, Voucher
from appliance.dealers.selling_models import OPEN, SOLD
from appliance.dealers.web_own import BASE, around, mine, page, who
from appliance.errors import Missing, UserError

QUICK = (1, 2, 3, 5, 10, 20)
PRINTED = 240  # in one file
FORMATS = {"58mm": "58 mm slips", "80mm": "80 mm slips", "a4": "A4 cards"}
_BUSY = "The sale couldn’t be recorded, so don’t hand anything out yet: press again, it is sold once however often."


def sell(ask: Ask, own: Own) -> Any:
    offers = [(offer, wording.plan(offer.plan)) for offer in own.offers()]
    return page(ask, own, "own_sell.html", "sell", offers=offers, available=own.available())


def plan(ask: Ask, own: Own, plan: str) -> Any:
    return _form(ask, own, plan, secrets.token_urlsafe(16))


def _form(ask: Ask, own: Own, plan: str, key: str, error: str = "", typed: str = "") -> Any:
    offer = next((one for one in own.offers() if one.plan.name == plan), None)
    if offer is None:
        raise Missing("that can't be sold now" if own.may_sell else "selling is stopped by your provider")
    counts = [count for count in QUICK if count <= offer.most]
    return page(
        ask,
        own,
        "own_sell_plan.html",
        "sell",
        400 if error else 200,
        offer=offer,
        words=wording.plan(offer.plan),
        counts=counts,
        key=key,
        error=error,
        typed=typed,
    )


def make(ask: Ask, own: Own, plan: str) -> Any:
    """Once, however often the form comes."""
    form = ask.form()
    key, typed = form.get("key", ""), form.get("count") or form.get("other", "")
    try:
        wish = selling.Wish(plan, _count(typed), _count(form.get("price", "")), key)
        again = selling.was_asked(own.dealer, wish.key)
        sale = selling.sell(ask.config, own.dealer, wish, ask.now)
    except (peewee.OperationalError, OSError):
        return _form(ask, own, plan, key, _BUSY, typed)
    except UserError as error:
        return _form(ask, own, plan, secrets.token_urlsafe(16), str(error), typed)
    if sale.state == SOLD and not again:
        what = {"vouchers": sale.count, "plan": sale.plan, "amount_minor": sale.amount_minor}
        audit.record(who(own.dealer), "sold", f"batch {sale.batch}", {}, what)
    return _shown(ask, own, sale, again)


def _count(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UserError(f"{text[:20]!r} is no number of vouchers")
    return int(text)


def _shown(ask: Ask, own: Own, sale: Any, again: bool) -> Any:
    """What was sold, or what has become of it."""
    if sale.state != SOLD:
        return ask.done(f"{BASE}/sale/{sale.id}")
    at = local(ask)(sale.at)[11:]
    notice = (
        f"That form had been sent before: this was sold at {at}, and nothing was sold a second time." if again else ""
    )
    codes = own.codes(own.batch(str(sale.batch_ref)))
    if len(codes) == 1:
        return ask.done(f"{BASE}/voucher/{part(codes[0][0])}", notice)
    return ask.done(f"{BASE}/vouchers/{sale.batch_ref}", notice or f"{sale.count} vouchers are sold.")


def sale(ask: Ask, own: Own, sale: str) -> Any:
    """Of one that hasn't ended well, or not yet."""
    found = own.sale(sale)
    if found.state == SOLD:
        return _shown(ask, own, found, False)
    return page(ask, own, "own_sale.html", "sell", sale=found, is_open=found.state == OPEN)


# What was sold


def batches(ask: Ask, own: Own) -> Any:
    of = List(
        title="Sold vouchers",
        query=own.batches(),
        columns=(
            Column(
                "valid_from",
                "When",
                Attribution.valid_from,
                show=local(ask),
                link=lambda row: f"{BASE}/vouchers/{row['ref']}",
            ),
            Column("plan", "Plan"),
            *(Column(key, key.capitalize(), number=True) for key in ("made", "unused", "used")),
            Column("price", "Price each", number=True),
            Column("name", "Batch", Attribution.name),
            Column("by", "From"),
        ),
        order="-valid_from",
        empty="Nothing is sold yet. Choose a plan under Sell.",
        fill=own.with_counts,
    )
    return of.respond(ask, "own_vouchers.html", **around(own, "vouchers"), code="", error="")


def find(ask: Ask, own: Own) -> Any:
    """However it is typed."""
    code = ask.query().get("code", "")[:64]
    return ask.done(f"{BASE}/voucher/{part(own.voucher(code).account.name)}")


def batch(ask: Ask, own: Own, batch: str) -> Any:
    found = own.batch(batch)
    codes = own.codes(found)
    unused = sum(state == "unused" for _, state, _ in codes)
    return page(
        ask,
        own,
        "own_batch.html",
        "vouchers",
        batch=found,
        codes=codes[: 2 * PRINTED],
        more=max(0, len(codes) - 2 * PRINTED),
        count=len(codes),
        unused=unused,
        words=wording.plan(found.row.plan),
        grouped=vouchers.grouped,
        when=local(ask),
        formats=FORMATS,
        starts=range(0, unused, PRINTED),
        printed=PRINTED,
        recallable=own.may_sell and found.sale is not None and unused > 0,
        back_amount=amount(unused * found.sale.price_minor, found.sale.currency) if found.sale else "",
    )


def voucher(ask: Ask, own: Own, code: str) -> Any:
    found = own.voucher(code)
    name, row = str(found.account.name), found.batch.row
    url = vouchers.login_url(ask.config, name)
    moves, side = sheets.qr_path(url)
    return page(
        ask,
        own,
        "own_voucher.html",
        "vouchers",
        voucher=found,
        code=vouchers.grouped(name),
        moves=moves,
        side=side,
        sheet=sheets.of(row, ask.config),
        when=local(ask),
        formats=FORMATS,
        share=quote(_message(ask, name, url)),
        plain=_message(ask, name, url),
        recallable=_is_recallable(own, found),
    )


def _message(ask: Ask, code: str, url: str) -> str:
    link = f"\n{url}" if url != code else ""
    return f"{ask.config.site.name}: your code is {vouchers.grouped(code)}{link}"


def print_batch(ask: Ask, own: Own, batch: str) -> Any:
    """What is unused of it, PRINTED at a time."""
    found, asked = own.batch(batch), ask.query()
    begin = _count(asked.get("from", "0"))
    codes = [code for code, state, _ in own.codes(found) if state == "unused"][begin : begin + PRINTED]
    return _paper(ask, own, found, codes)


def print_voucher(ask: Ask, own: Own, code: str) -> Any:
    found = own.voucher(code)
    return _paper(ask, own, found.batch, [found.account.name] if found.state in ("unused", "active") else [])


def _paper(ask: Ask, own: Own, batch: Batch, codes: list[str]) -> Any:
    form = ask.query().get("format", "58mm")
    if form not in FORMATS:
        raise UserError(f"{form[:20]!r} is no paper: {', '.join(FORMATS)}")
    if not codes:
        raise UserError("nothing of that is unused any more: nothing to print")
    audit.record(who(own.dealer), "printed", f"batch {batch.row.name}", {}, {"vouchers": len(codes)})
    return ask.file(sheets.pdf(batch.row, codes, form, ask.config), f"{batch.row.name}-{form}.pdf", "application/pdf")


# Taken back


def recall_voucher(ask: Ask, own: Own, code: str) -> Any:
    found = own.voucher(code)
    _recall(ask, own, found.batch, str(found.account.name))
    return ask.done(f"{BASE}/voucher/{part(found.account.name)}", "It can’t be used any more, and its price is credit.")


def recall_batch(ask: Ask, own: Own, batch: str) -> Any:
    found = own.batch(batch)
    count = _recall(ask, own, found, "")
    said = f"{count} can’t be used any more; {amount(count * found.sale.price_minor, found.sale.currency)} are credit."
    return ask.done(f"{BASE}/vouchers/{batch}", said)


def _recall(ask: Ask, own: Own, batch: Batch, code: str) -> int:
    if not own.may_sell:
        raise UserError("nothing can be taken back while selling is stopped by your provider")
    if batch.sale is None:
        raise UserError("these are from your provider: only they can take them back")
    count = selling.recall(batch.sale, ask.now, code)
    audit.record(who(own.dealer), "recalled", f"batch {batch.row.name}", {}, {"vouchers": count})
    return count


def _is_recallable(own: Own, voucher: Voucher) -> bool:
    return own.may_sell and voucher.batch.sale is not None and voucher.state == "unused"


PAGES = (
    Page(f"{BASE}/sell", mine(sell), open=True),
    Page(f"{BASE}/sell/<plan>", mine(plan), open=True),
    Page(f"{BASE}/sell/<plan>", mine(make, form=True), "POST", open=True),
    Page(f"{BASE}/sale/<sale>", mine(sale), open=True),
    Page(f"{BASE}/vouchers", mine(batches), open=True),
    Page(f"{BASE}/find", mine(find), open=True),
    Page(f"{BASE}/vouchers/<batch>", mine(batch), open=True),
    Page(f"{BASE}/vouchers/<batch>/print", mine(print_batch), open=True),
    Page(f"{BASE}/vouchers/<batch>/recall", mine(recall_batch, form=True), "POST", open=True),
    Page(f"{BASE}/voucher/<code>", mine(voucher), open=True),
    Page(f"{BASE}/voucher/<code>/print", mine(print_voucher), open=True),
    Page(f"{BASE}/voucher/<code>/recall", mine(recall_voucher, form=True), "POST", open=True),
)
