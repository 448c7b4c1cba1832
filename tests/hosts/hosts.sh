#!/usr/bin/env bash
# Hosts on one machine, as root: network namespaces on a bridge, each with an address and a host name of its own.
#
#   hosts.sh up 2                   make host1 (10.77.0.11) and host2 (10.77.0.12); this machine is 10.77.0.1
#   hosts.sh run 1 COMMAND ...      run a command on host1
#   hosts.sh cut 1 | mend 1         take the network of host1 away, give it back
#   hosts.sh down 2                 remove all of it
#
# A host has a network and a host name of its own. File system, kernel and process ids are those of this machine, so
# `run` goes through nsenter: `ip netns exec` would mount /sys anew and hide the control groups.
set -euo pipefail
bridge=runmemtest0

case ${1:-} in
up)
    ip link add "$bridge" type bridge
    ip addr add 10.77.0.1/24 dev "$bridge"
    ip link set "$bridge" up
    for n in $(seq "$2"); do
        ip netns add "runmemtest$n"
        ip link add "runmemtest$n" type veth peer name eth0 netns "runmemtest$n"
        ip link set "runmemtest$n" master "$bridge" up
        ip -n "runmemtest$n" addr add "10.77.0.1$n/24" dev eth0
        ip -n "runmemtest$n" link set eth0 up
        ip -n "runmemtest$n" link set lo up
    done
    ;;
run)
    n=$2
    shift 2
    exec nsenter --net="/run/netns/runmemtest$n" unshare --uts bash -c 'hostname "$1"; shift; exec "$@"' _ "host$n" "$@"
    ;;
cut) ip link set "runmemtest$2" down ;;
mend) ip link set "runmemtest$2" up ;;
down)
    for n in $(seq "$2"); do
        ip netns pids "runmemtest$n" 2>/dev/null | xargs --no-run-if-empty kill -9 || true
        ip netns del "runmemtest$n" || true
    done
    ip link del "$bridge" || true
    ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
