"""A block of records into an array of FLOW, column by column."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.decoding.fields import ADDRESSES, NUMBERS, SAMPLER_IDS, Layout, Piece
from collector.decoding.records import Array, Flows, Numbers, Records, Sets
from collector.decoding.times import Times
from collector.flows import MARK_REVERSE, MARK_SUSPECT

BYTES_PER_MS: Final = 12_500_000  # 100 Gbit/s: no flow of ours is faster
PACKETS_PER_MS: Final = 200_000
GRACE_MS: Final = 100  # durations are coarse


def fill(out: Flows, layout: Layout, data: bytes, sets: Sets) -> NDArray[np.bool_]:
    """Writes a block of records into `out`, which is all 0 and as long as there are records.

    Returns which of them are empty: padding longer than a record looks like that.
    """
    records = Records(data, layout.size, len(out))
    pieces = layout.pieces
    for column in ("received", "exporter", "domain"):
        out[column] = sets.of_records(column)
    for column, numbers in NUMBERS.items():
        present = [pieces[number] for number in numbers if number in pieces]
        if present:
            out[column] = _first_set(records, present)
    _addresses(out, pieces, records)
    _icmp(out, pieces, records)
    if 61 in pieces:
        out["direction"] = np.minimum(records.number(pieces[61]), 2) + 1
        out["direction"][out["direction"] == 3] = 0
    out["sampling"] = sampling(pieces, records, sets)
    times = Times(pieces, records, sets)
    out["first"], out["last"] = times.first, times.last
    out["marks"] = times.marks | _suspect(out, pieces, times)
    return _empty(out)


def _first_set(records: Records, pieces: list[Piece]) -> Numbers:
    value = records.number(pieces[0])
    for piece in pieces[1:]:
        value = np.where(value != 0, value, records.number(piece))
    return value


def _addresses(out: Flows, pieces: Mapping[int, Piece], records: Records) -> None:
    """A record of a template for both families has 0 in the other one's fields."""
    out["family"] = 4
    for name, (four, six) in ADDRESSES.items():
        fours = [pieces[number] for number in four if number in pieces]
        sixes = [pieces[number] for number in six if number in pieces]
        if fours:
            out[f"{name}_lo"] = _first_set(records, fours)
        if not sixes:
            continue
        hi, lo = records.wide(sixes[0])
        if not fours:
            out[f"{name}_hi"], out[f"{name}_lo"] = hi, lo
            if name in ("src", "dst"):
                out["family"] = 6
            continue
        is_six = (hi != 0) | (lo != 0)
        out[f"{name}_hi"] = hi
        out[f"{name}_lo"] = np.where(is_six, lo, out[f"{name}_lo"])
        if name in ("src", "dst"):
            out["family"] = np.where(is_six, 6, out["family"])


def _icmp(out: Flows, pieces: Mapping[int, Piece], records: Records) -> None:
    for protocol, both, kind, code in ((1, 32, 176, 177), (58, 139, 178, 179)):
        if both not in pieces and kind not in pieces:
            continue
        where = np.flatnonzero(out["protocol"] == protocol)
        if both in pieces:
            value = records.number(pieces[both])[where].astype(np.int64) & 0xFFFF
        else:
            value = (records.number(pieces[kind])[where].astype(np.int64) & 0xFF) << 8
            if code in pieces:
                value |= records.number(pieces[code])[where].astype(np.int64) & 0xFF
        out["dst_port"][where] = np.where(value != 0, value, out["dst_port"][where])


def sampling(pieces: Mapping[int, Piece], records: Records, sets: Sets) -> Array:
    """One packet in so many: of the record itself, else of the exporter's options."""
    rate: Numbers | Array = sets.of_records("sampling")
    for number in SAMPLER_IDS:
        if number in pieces:
            theirs = sets.sampled(records.number(pieces[number]))
            rate = np.where(theirs > 0, theirs, rate)
            break
    if 305 in pieces and 306 in pieces:
        interval, space = (records.number(pieces[number]).astype(np.int64) for number in (305, 306))
        ours = (interval + space) // np.maximum(interval, 1)
        rate = np.where(interval > 0, ours, rate)
    for number in (34, 50):
        if number in pieces:
            value = records.number(pieces[number]).astype(np.uint32)
            if number == 34 and pieces[number].length == 4:
                value = _upright(value, sets)
            rate = np.where(value > 0, value, rate)
            break
    return np.clip(rate.astype(np.int64), 0, 0xFFFFFFFF)


def _upright(rates: NDArray[np.uint32], sets: Sets) -> NDArray[np.uint32]:
    """RouterOS sends 34 in records, and on x86 and ARM with the lowest octet first."""
    other = rates.byteswap()
    turned = other < rates
    if turned.any():
        sets.swapped.update(np.unique(sets.of_records("exporter")[turned]).tolist())
    return np.minimum(rates, other)


def _suspect(out: Flows, pieces: Mapping[int, Piece], times: Times) -> NDArray[np.uint8]:
    """Counters that can't be: more octets than packets carry, or more than a line carries in the flow's time."""
    packets, octets = out["packets"].copy(), out["bytes"].copy()
    ms = (times.last - times.first + GRACE_MS).astype(np.uint64)
    sampling = out["sampling"].copy()
    if (sampling > 1).any():
        ms //= np.maximum(sampling, 1)  # what was looked at stands for so many times more
        ms += 1
    wrong = (octets > ms * BYTES_PER_MS) | (packets > ms * PACKETS_PER_MS)
    if any(number in pieces for number in NUMBERS["packets"]):
        wrong |= octets > np.minimum(packets, 2**47) * 65_535
    return np.where(wrong, np.uint8(MARK_SUSPECT), np.uint8(0))


def _empty(out: Flows) -> NDArray[np.bool_]:
    """A flow has at least one of these."""
    nothing: NDArray[np.bool_] = (out["src_lo"] | out["dst_lo"]) == 0
    if nothing.any():
        for column in ("src_hi", "dst_hi", "packets", "bytes", "src_mac", "dst_mac", "nat_src_lo", "nat_dst_lo"):
            nothing &= out[column] == 0
    return nothing


def turned(flows: Flows) -> Flows:
    """Records decoded with the layout of the way back: each end in the other's place; without the empty ones."""
    flows = flows[(flows["packets"] > 0) | (flows["bytes"] > 0)]
    for one, other in (("src", "dst"), ("nat_src", "nat_dst")):
        for half in ("hi", "lo"):
            _swap(flows, f"{one}_{half}", f"{other}_{half}")
    for one, other in (("in_if", "out_if"), ("src_as", "dst_as"), ("src_mac", "dst_mac")):
        _swap(flows, one, other)
    icmp = np.isin(flows["protocol"], (1, 58))  # has its type where the port is
    ports = flows["src_port"].copy()
    flows["src_port"] = np.where(icmp, ports, flows["dst_port"])
    flows["dst_port"] = np.where(icmp, flows["dst_port"], ports)
    _swap(flows, "nat_src_port", "nat_dst_port")
    for unknown in ("direction", "hop_hi", "hop_lo"):
        flows[unknown] = 0
    flows["marks"] |= MARK_REVERSE
    return flows


def _swap(flows: Flows, one: str, other: str) -> None:
    flows[one], flows[other] = flows[other].copy(), flows[one].copy()
