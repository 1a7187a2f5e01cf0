"""Names of protocols, services, TCP flags and ICMP types; of several for one number the first is shown."""

PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6-encap": 41,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmp6": 58,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "eigrp": 88,
    "ospf": 89,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
}

SERVICES = {
    "ftp-data": 20,
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "dns": 53,
    "domain": 53,
    "bootps": 67,
    "dhcp": 67,
    "bootpc": 68,
    "tftp": 69,
    "http": 80,
    "kerberos": 88,
    "pop3": 110,
    "sunrpc": 111,
    "ident": 113,
    "ntp": 123,
    "msrpc": 135,
    "netbios-ns": 137,
    "netbios-dgm": 138,
    "netbios-ssn": 139,
    "imap": 143,
    "snmp": 161,
    "snmp-trap": 162,
    "bgp": 179,
    "ldap": 389,
    "https": 443,
    "smb": 445,
    "smtps": 465,
    "isakmp": 500,
    "ike": 500,
    "syslog": 514,
    "printer": 515,
    "dhcpv6-client": 546,
    "dhcpv6": 547,
    "rtsp": 554,
    "submission": 587,
    "ipp": 631,
    "ldaps": 636,
    "dns-tls": 853,
    "rsync": 873,
    "ftps": 990,
    "imaps": 993,
    "pop3s": 995,
    "socks": 1080,
    "openvpn": 1194,
    "mssql": 1433,
    "l2tp": 1701,
    "pptp": 1723,
    "radius": 1812,
    "radius-acct": 1813,
    "mqtt": 1883,
    "nfs": 2049,
    "netflow": 2055,
    "radsec": 2083,
    "stun": 3478,
    "mysql": 3306,
    "rdp": 3389,
    "ipsec-nat-t": 4500,
    "sip": 5060,
    "sips": 5061,
    "xmpp": 5222,
    "mdns": 5353,
    "postgresql": 5432,
    "vnc": 5900,
    "winbox": 8291,
    "http-alt": 8080,
    "https-alt": 8443,
    "wireguard": 51820,
}

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}

ICMP_TYPES = {"echo-reply": 0, "unreachable": 3, "redirect": 5, "echo": 8, "time-exceeded": 11}
EVENTS = {"create": 1, "add": 1, "delete": 2}
DIRECTIONS = {"ingress": 1, "egress": 2}


def name_of(names: dict[str, int], number: int) -> str | None:
    return next((name for name, value in names.items() if value == number), None)


def service_text(protocol: int, port: int) -> str:
    """`https (tcp/443)`; `tcp/12345` where it has no name."""
    what = name_of(PROTOCOLS, protocol) or str(protocol)
    name = name_of(SERVICES, port) if what in ("tcp", "udp") else None
    numbers = f"{what}/{port}" if what in ("tcp", "udp", "sctp", "dccp", "udplite") else what
    return f"{name} ({numbers})" if name else numbers
