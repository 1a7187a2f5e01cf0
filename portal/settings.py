"""What an owner may change of the hotspot on the admin's pages; see Setting for what may stand here."""

from appliance.service import Group, Setting

GROUPS = (
    Group(
        "network",
        "Network",
        (
            Setting("gateway.wan", "To the provider", "The network device that leads to the Internet", "device"),
            Setting("gateway.lan", "To the guests", "The network device with the access points", "device"),
            Setting("gateway.address", "Guests' network", "The gateway's own address in it, with its prefix"),
            Setting("gateway.addresses", "Public addresses", "Networks routed here, given to guests one-to-one"),
            Setting("dhcp.first", "First address for guests", "Empty: the one after the gateway's"),
            Setting("dhcp.last", "Last address for guests", "Empty: the last of the network"),
            Setting("dhcp.lease_s", "Lease, seconds", "How long an address is lent"),
            Setting("dhcp.dns", "Name servers", "Empty: those of this machine"),
            Setting("portal.hostname", "Name of the login page", "What guests see in their browser"),
        ),
    ),
    Group(
        "radius",
        "RADIUS",
        (
            Setting("radius.public_address", "Address for routers", "Where they reach this machine behind a NAT"),
            Setting("radius.interim_interval_s", "Report interval, seconds", "How often routers report each session"),
            Setting("radius.radsec_port", "RadSec port", "Routers that come over TLS; 0 is nowhere", "0|2083"),
            Setting("radius.log_logins", "Note each login", "In the log, not only those that were refused"),
            Setting("tunnel.enabled", "Tunnels", "WireGuard for routers that can't be reached otherwise"),
        ),
    ),
    Group(
        "privacy",
        "Privacy",
        (Setting("privacy.keep_sessions_days", "Keep sessions, days", "What the law asks for where you are"),),
    ),
)
