"""Datagrams into the decoder and out as flows, in a line."""

from ipaddress import ip_address

import numpy as np

from collector.decode import Decoder
from collector.decoding.batch import Decoded

EXPORT_S = 1_700_000_000
EXPORT_MS = EXPORT_S * 1000
EXPORTER = 7


def feed(decoder: Decoder, *payloads: bytes, at: int = EXPORT_MS, exporter: int = EXPORTER) -> Decoder:
    decoder.feed(exporter, [(at, "192.0.2.1", payload) for payload in payloads])
    return decoder


def decoded(*payloads: bytes, at: int = EXPORT_MS) -> Decoded:
    return feed(Decoder(), *payloads, at=at).take()


def only(found: Decoded) -> np.void:
    """Its one flow."""
    assert len(found.flows) == 1, found
    flow: np.void = found.flows[0]
    return flow


def address(flow: np.void, name: str) -> str:
    hi, lo = int(flow[f"{name}_hi"]), int(flow[f"{name}_lo"])
    four = flow["family"] == 4 or (hi == 0 and lo < 2**32)
    return str(ip_address(lo if four else (hi << 64 | lo).to_bytes(16, "big")))
