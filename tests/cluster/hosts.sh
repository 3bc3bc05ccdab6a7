#!/usr/bin/env bash
# Run a command on a machine of its own, with four hosts: hosts.sh COMMAND ...
#
# In namespaces of mounts, network and processes, node1 to node4 are the addresses 10.9.0.1 to 10.9.0.4. Nothing
# outside is reached or changed, and whatever the command has started ends with it. Needs root.
set -euo pipefail
if [ -z "${ERPRM_CLUSTER:-}" ]; then
    exec env ERPRM_CLUSTER=1 unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" "$@"
fi
ip link set lo up
mount -t tmpfs tmpfs /run # sockets of daemons
hosts=$(mktemp)
trap 'rm -f "$hosts"' EXIT
{
    echo "127.0.0.1 localhost"
    echo "10.9.0.1 $(hostname)"
    for number in 1 2 3 4; do echo "10.9.0.$number node$number"; done
} > "$hosts"
# Addresses that are not 127.*: with those alone, a name is not looked up at all (AI_ADDRCONFIG).
for number in 1 2 3 4; do ip address add "10.9.0.$number" dev lo; done
mount --bind "$hosts" /etc/hosts
"$@"
