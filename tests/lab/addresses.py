"""Who is where in the lab: RFC 5737 blocks, 10.10.0.0/20 for guests.

The far web server is of RFC 2544: dnsmasq takes a name that leads to 203.0.113.0/24 for a rebind attack.
"""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

PROVIDER = IPv4Address("198.51.100.1")
WAN = IPv4Interface("198.51.100.2/24")
POOL = IPv4Network("198.51.100.16/28")
WEB = IPv4Address("198.18.0.80")
GARDEN = IPv4Address("198.18.0.81")  # of pay.example, which guests reach before they log in
GARDEN_NETWORK = IPv4Network("198.18.1.0/30")
CARRIER = IPv4Interface("100.64.0.1/24")  # RFC 6598
LAN = IPv4Interface("10.10.0.1/20")
