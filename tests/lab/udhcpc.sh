#!/bin/sh
# What udhcpc calls on each DHCP event, with the lease in variables: address, route and resolver of a guest's
# namespace. GUEST_RESOLV_CONF and GUEST_LEASE come from tests/lab/guest.py.
set -eu

case "$1" in
deconfig)
    ip -4 address flush dev "$interface"
    ip link set "$interface" up
    : > "$GUEST_RESOLV_CONF"
    rm -f "$GUEST_LEASE"
    ;;
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "${router:-}" ] || ip route replace default via "${router%% *}" dev "$interface"
    # written in place: running processes have this very file mounted over /etc/resolv.conf
    {
        echo "options timeout:1 attempts:2"
        for server in ${dns:-}; do echo "nameserver $server"; done
    } > "$GUEST_RESOLV_CONF"
    {
        echo "ip=$ip"
        echo "prefix=$mask"
        echo "server=${serverid:-}"
        echo "router=${router:-}"
        echo "dns=${dns:-}"
        echo "lease_s=${lease:-0}"
        echo "captive_portal=${opt114:-}"
    } > "$GUEST_LEASE.new"
    mv "$GUEST_LEASE.new" "$GUEST_LEASE"
    ;;
esac
