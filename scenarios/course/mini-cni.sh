#!/bin/bash
# Exercise 3 of docs/course.md.
# A network plugin: a veth pair to the bridge mini0, and an address from host-local.
set -eu
conf=$(cat)
ipam() { CNI_COMMAND=$1 "$CNI_PATH/host-local" <<<"$conf"; }
ns() { nsenter --net="$CNI_NETNS" "$@"; }
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
ADD)
    ip link show mini0 >/dev/null 2>&1 || {
        ip link add mini0 type bridge
        ip addr add 10.9.0.1/24 dev mini0
        ip link set mini0 up
    }
    result=$(ipam ADD)
    address=$(grep -om1 '10\.9\.0\.[0-9]*/24' <<<"$result")
    ip link add "m$CNI_CONTAINERID" type veth peer name "$CNI_IFNAME" netns "$CNI_NETNS"
    ip link set "m$CNI_CONTAINERID" master mini0 up
    ns ip link set "$CNI_IFNAME" up
    ns ip addr add "$address" dev "$CNI_IFNAME"
    ns ip route add default via 10.9.0.1
    echo "$result" ;;
CHECK) ns ip addr show dev "$CNI_IFNAME" | grep -q 'inet 10\.9\.0\.' ;;
DEL)
    ipam DEL
    ip link del "m$CNI_CONTAINERID" 2>/dev/null || true ;;
esac
