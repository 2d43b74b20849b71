#!/bin/sh
# Install the programs that tests, demo and bench call, where they are missing.
#
#   scripts/deps.sh           for the tests: a Docker engine and its image, an SSH server, packet tools
#   scripts/deps.sh capture   for a capture alone: what the demo needs
set -eu
PATH=$PATH:/usr/sbin:/sbin

# Program = Debian package, where the names differ.
packages="ip=iproute2 nsenter=util-linux umount=mount tcpdump"
if [ "${1:-}" != capture ]; then
    packages="$packages dockerd=docker.io docker=docker-cli iptables busybox=busybox-static sshd=openssh-server ssh=openssh-client
        sudo tshark capinfos=wireshark-common ethtool git"
fi

missing=
for pair in $packages; do
    command -v "${pair%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
# The distribution's own libraries, with which the modules are tested as on a node that the role prepare has prepared.
if [ "${1:-}" != capture ] && ! /usr/bin/python3 -c 'import docker, pyroute2' 2>/dev/null; then missing="$missing python3-docker python3-pyroute2"; fi
# A busybox linked to libraries is of no use in an image without any.
if [ "${1:-}" != capture ] && ldd "$(command -v busybox)" >/dev/null 2>&1; then missing="$missing busybox-static"; fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing here, and known by these names on Debian:$missing. Install them with this system's package manager." >&2
    exit 1
elif [ "$(id -u)" != 0 ]; then
    echo "Missing:$missing. Run this as root: apt-get install$missing" >&2
    exit 1
fi
echo "Installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# The package list of a fresh machine is empty, and an old one can name files that are gone.
apt-get update -qq
# Up to Debian 12 the client is in docker.io.
apt-cache show docker-cli >/dev/null 2>&1 || missing=$(echo "$missing" | sed 's/docker-cli/docker.io/')
# shellcheck disable=SC2086  # a list of package names
apt-get install -qq --no-install-recommends $missing >/dev/null
