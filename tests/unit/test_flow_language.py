"""The filter language: what each condition means, how one is refused, and which addresses a filter can be about."""

import pytest

from appliance.errors import UserError
from collector.filters.conditions import Among, Named, clients, exporters, names, resolve, sql
from collector.filters.language import MOST_CONDITIONS, MOST_DEPTH, parse


def meaning(text: str) -> str:
    return sql(parse(text).root)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", "true"),
        ("any", "true"),
        ("src port 25", "src_port = 25"),
        ("dst port http", "dst_port = 80"),
        ("dst port ftp-data", "dst_port = 20"),
        ("port 80-90", "(src_port BETWEEN 80 AND 90 OR dst_port BETWEEN 80 AND 90)"),
        ("dst port in [80, 443 8000-8100]", "(dst_port IN (80, 443) OR dst_port BETWEEN 8000 AND 8100)"),
        ("dst port != 80", "(dst_port BETWEEN 0 AND 79 OR dst_port >= 81)"),
        ("dst port >= 1024", "dst_port >= 1024"),
        ("dst port < 0", "false"),
        ("PROTO TCP", "protocol = 6"),
        ("udp", "protocol = 17"),
        ("flags SA", "(flags & 18) = 18"),
        ("flags = S", "flags = 2"),
        ("flags S and not flags A", "((flags & 2) = 2 AND NOT ((flags & 16) = 16))"),
        ("bytes > 1M", "bytes >= 1000001"),
        ("bytes>1.5k", "bytes >= 1501"),
        ("bytes <= 2G", "bytes BETWEEN 0 AND 2000000000"),
        ("bytes 18446744073709551615", "bytes = 18446744073709551615::UBIGINT"),
        ("duration > 5s", "(greatest(last - first, 0)) >= 5001"),
        ("in if 3", "in_if = 3"),
        ("src as 3320", "src_as = 3320"),
        ("vlan 10", "vlan = 10"),
        ("tos 0x10", "tos = 16"),
        ("src mac 0:1b:44:11:3a:B7", "src_mac = 117106096823"),
        ("icmp type echo", "(protocol IN (1, 58) AND (dst_port >> 8) = 8)"),
        ("icmp-code 3", "(protocol IN (1, 58) AND (dst_port & 255) = 3)"),
        ("icmp", "protocol = 1"),
        ("nat event add", "nat_event = 1"),
        ("nat dst port 80", "nat_dst_port = 80"),
        ("src nat host 1.2.3.4", "(family = 4 AND (nat_src_lo = 16909060 AND nat_src_hi = 0))"),
        ("next hop 1.2.3.4", "(family = 4 AND (hop_lo = 16909060 AND hop_hi = 0))"),
        ("src net 10/8", "(family = 4 AND (src_hi = 0 AND src_lo BETWEEN 167772160 AND 184549375))"),
        ("src host ::ffff:1.2.3.4", "(family = 4 AND (src_lo = 16909060 AND src_hi = 0))"),
        ("src net 2001:db8::/32", "(family = 6 AND (src_hi BETWEEN 2306139568115548160 AND 2306139572410515455))"),
        ("src host ::1", "(family = 6 AND (src_lo = 1 AND src_hi = 0))"),
        ("ipv6 or inet", "(family = 6 OR family = 4)"),
        ("marked suspect", "(marks & 2) = 2"),
        ("udp and dst port 53 or tcp", "((protocol = 17 AND dst_port = 53) OR protocol = 6)"),
        ("udp && !(dst port 53 || tcp)", "(protocol = 17 AND NOT ((dst_port = 53 OR protocol = 6)))"),
    ],
)
def test_conditions(text: str, meant: str) -> None:
    assert meaning(text) == meant


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("10.1.2.3", "position 1: a condition is expected here, not '10.1.2.3': perhaps host 10.1.2.3"),
        ("10.0.0.0/8", "perhaps net 10.0.0.0/8"),
        ("tcp and 443", "position 9: a condition is expected here, not '443': perhaps port 443"),
        ("prto tcp", "perhaps proto"),
        ("tcp and", "position 8: a condition is expected here, but the filter ends"),
        ("host 1.2.3.4 port 25", "position 14: 'and' or 'or' is expected here, not 'port': join conditions"),
        ("host 1.2.3", "position 6: an address or a network is expected here, not '1.2.3'"),
        ("port 70000", "a number from 0 to 65535"),
        ("port 90-80", "the smaller one first"),
        ("port > http-alt-", "a number or a name is expected here"),
        ("port in [80", "but the filter ends"),
        ("port in []", "something in the list"),
        ("src bytes > 1", "another word after 'src' is expected here, not 'bytes'"),
        ("(tcp", "position 5: ')' is expected here, but the filter ends: close each ( once"),
        ("tcp)", "position 4: 'and' or 'or' is expected here, not ')'"),
        ("host 'x", 'position 6: "\'" means nothing here: close the quotes'),
        ("tcp; DROP TABLE x", "position 4: ';' means nothing here"),
        ("account ''", "the name of an account"),
        ("flags Q", "letters of UAPRSFEC"),
        ("bytes > 99999999999999999999999", "a number"),
        ("port " + "9" * 5000, "is expected here"),
        ("(" * (MOST_DEPTH + 2), f"more than {MOST_DEPTH} ( or not within each other"),
        ("not " * 1000, f"more than {MOST_DEPTH}"),
        (" or ".join(["tcp"] * (MOST_CONDITIONS + 1)), f"more than {MOST_CONDITIONS} conditions"),
        ("x" * 10_000, "too long"),
        ("port in [" + "1 " * 1001, "at most 1000"),
        ('account "a\nb', "means nothing here"),
        ("tcp 'a\nb'", "not 'a\\nb'"),
    ],
)
def test_refusals_are_one_line_that_says_where_and_what(text: str, refusal: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert refusal in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_replaced_by_what_they_are_and_never_reach_sql() -> None:
    filter_ = parse("tcp and not (exporter 'gw; 1' or account \"Jo O'Neil\")")
    found = [(named.kind, named.name) for named in names(filter_.root)]
    assert found == [("exporter", "gw; 1"), ("account", "Jo O'Neil")]
    with pytest.raises(ValueError, match="not resolved"):
        sql(filter_.root)
    numbers = {"exporter": 7, "account": 9}
    known = resolve(filter_, lambda named: Among(("exporter",), ((numbers[named.kind],) * 2,)))
    assert sql(known.root) == "(protocol = 6 AND NOT ((exporter = 7 OR exporter = 9)))"
    assert isinstance(filter_.root, type(known.root))
    assert not [node for node in names(known.root) if isinstance(node, Named)]


A, B = 0x0A000001, 0x0A000002


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("", None),
        ("tcp", None),
        ("host 10.0.0.1", ((0, A, A),)),
        ("tcp and src host 10.0.0.1", ((0, A, A),)),
        ("net 10.0.0.0/8 and host 10.0.0.1", ((0, A, A),)),
        ("host 10.0.0.1 or host 10.0.0.2", ((0, A, A), (0, B, B))),
        ("host in [10.0.0.2 10.0.0.1 10.0.0.2]", ((0, A, A), (0, B, B))),
        ("host 10.0.0.1 or tcp", None),
        ("not host 10.0.0.1", None),
        ("not not host 10.0.0.1", None),
        ("nat host 10.0.0.1", None),
        ("host 2001:db8::/64", ((0x20010DB800000000, 0, 2**64 - 1),)),
        ("host 2001:db8::/63", None),
        ("src host 10.0.0.1 and (dst host 10.0.0.2 or tcp)", ((0, A, A),)),
    ],
)
def test_which_addresses_a_flow_that_fits_must_have(text: str, possible: object) -> None:
    assert clients(parse(text).root) == possible


def test_which_routers_a_flow_that_fits_must_be_of() -> None:
    known = resolve(parse("tcp and exporter a"), lambda named: Among(("exporter",), ((7, 7),)))
    assert exporters(known.root) == (7,)
    assert exporters(parse("tcp or udp").root) is None
