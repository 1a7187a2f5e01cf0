"""Transfers for the bank: ISO 20022 pain.001.001.09, as SEPA has it (EPC132-08). Pure.

Addresses are structured: since 15 November 2026 SEPA takes no others (EPC121-16).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from xml.etree.ElementTree import Element

from appliance.dealers import money
from appliance.dealers.document import Party
from appliance.dealers.elements import document, element
from appliance.dealers.latin import latin

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
_NAME, _TEXT, _ID = 70, 140, 35


@dataclass(frozen=True)
class Transfer:
    """`end_to_end` comes back in the bank's statement."""

    end_to_end: str
    to: Party
    iban: str
    bic: str
    amount_minor: int
    text: str


@dataclass(frozen=True)
class Order:
    """All in one currency, from one account, on one day."""

    message_id: str
    created_at: int
    execute_on: date
    by: Party
    iban: str
    bic: str
    currency: str
    transfers: Sequence[Transfer]


def pain001(order: Order) -> bytes:
    totals = (
        element("NbOfTxs", str(len(order.transfers))),
        element("CtrlSum", money.plain(sum(each.amount_minor for each in order.transfers), order.currency)),
    )
    name = element("Nm", latin(order.by.name, _NAME))
    root = element(
        "Document",
        element(
            "CstmrCdtTrfInitn",
            element(
                "GrpHdr",
                element("MsgId", order.message_id),
                element("CreDtTm", f"{datetime.fromtimestamp(order.created_at, UTC):%Y-%m-%dT%H:%M:%SZ}"),
                *totals,
                element("InitgPty", name),
            ),
            element(
                "PmtInf",
                element("PmtInfId", order.message_id),
                element("PmtMtd", "TRF"),
                *totals,
                element("PmtTpInf", element("SvcLvl", element("Cd", "SEPA"))) if order.currency == "EUR" else None,
                element("ReqdExctnDt", element("Dt", f"{order.execute_on}")),
                _party("Dbtr", order.by),
                _account("DbtrAcct", order.iban),
                _agent("DbtrAgt", order.bic, True),
                element("ChrgBr", "SLEV") if order.currency == "EUR" else None,
                *(_transfer(each, order.currency) for each in order.transfers),
            ),
        ),
    )
    return document(root, {"": NAMESPACE})


def _transfer(transfer: Transfer, currency: str) -> Element | None:
    return element(
        "CdtTrfTxInf",
        element("PmtId", element("EndToEndId", transfer.end_to_end)),
        element("Amt", element("InstdAmt", money.plain(transfer.amount_minor, currency), Ccy=currency)),
        _agent("CdtrAgt", transfer.bic, False),
        _party("Cdtr", transfer.to),
        _account("CdtrAcct", transfer.iban),
        element("RmtInf", element("Ustrd", latin(transfer.text, _TEXT))),
    )


def _party(tag: str, party: Party) -> Element | None:
    return element(
        tag,
        element("Nm", latin(party.name, _NAME)),
        element(
            "PstlAdr",
            element("StrtNm", latin(party.street, 70)),
            element("BldgNb", latin(party.house, 16)),
            element("PstCd", latin(party.postcode, 16)),
            element("TwnNm", latin(party.city, 35)),
            element("Ctry", party.country),
        ),
    )


def _account(tag: str, iban: str) -> Element | None:
    return element(tag, element("Id", element("IBAN", iban)))


def _agent(tag: str, bic: str, needed: bool) -> Element | None:
    """The bank; the payer's own has to stand there, known or not."""
    unknown = element("Othr", element("Id", "NOTPROVIDED")) if needed and not bic else None
    return element(tag, element("FinInstnId", element("BICFI", bic), unknown))
