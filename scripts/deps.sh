#!/bin/sh
# Install the programs that tests, demo and bench call, where they are missing.
#
#   scripts/deps.sh           for the tests: a Docker engine and its image, an SSH server, packet tools, Suricata, nodes and virtual machines
#   scripts/deps.sh capture   for a capture alone: what the demo needs
set -eu
PATH=$PATH:/usr/sbin:/sbin

# Program = Debian package, where the names differ.
packages="ip=iproute2 nsenter=util-linux umount=mount tcpdump"
if [ "${1:-}" != capture ]; then
    packages="$packages dockerd=docker.io docker=docker-cli iptables nft=nftables busybox=busybox-static sshd=openssh-server ssh=openssh-client
        sudo openssl tshark capinfos=wireshark-common ethtool git suricata logrotate
        podman systemd-nspawn=systemd-container slirp4netns newuidmap=uidmap rootlesskit lxc-start=lxc /usr/lib/podman/netavark=netavark conmon runc containerd
        qemu-system-x86_64=qemu-system-x86 mmdebstrap mke2fs=e2fsprogs"
fi

missing=
for pair in $packages; do
    command -v "${pair%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
# The distribution's own libraries, with which the modules are tested as on a node that the role prepare has prepared.
if [ "${1:-}" != capture ] && ! /usr/bin/python3 -c 'import docker, pyroute2' 2>/dev/null; then missing="$missing python3-docker python3-pyroute2"; fi
# Debian has the keys of its packages, with which mmdebstrap makes the virtual machine; Ubuntu need not.
if [ "${1:-}" != capture ] && ! [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then missing="$missing debian-archive-keyring"; fi
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
# Another one may be at work, such as that of scripts/venv.sh.
apt_get() { apt-get -qq -o DPkg::Lock::Timeout=-1 "$@"; }
# The package list of a fresh machine is empty, and an old one can name files that are gone.
apt_get update
# Up to Debian 12 the client is in docker.io.
apt-cache show docker-cli >/dev/null 2>&1 || missing=$(echo "$missing" | sed 's/docker-cli/docker.io/')
# Debian 12 has Suricata in its backports only, and there what it needs of them.
case $missing in *suricata*)
    backports=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)-backports
    if ! apt-cache policy suricata | grep -q 'Candidate: [0-9]'; then
        printf '%s\n' 'Types: deb' 'URIs: http://deb.debian.org/debian' "Suites: $backports" 'Components: main' \
            'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >/etc/apt/sources.list.d/nettap-backports.sources
        apt_get update
    fi
    release=
    if apt-cache policy suricata | grep -q 'Candidate: .*~bpo'; then release="-t $backports"; fi
    # shellcheck disable=SC2086  # an option and its argument, or nothing
    apt_get install --no-install-recommends $release suricata >/dev/null
    # The tests run their own; the package's would listen on eth0.
    systemctl disable --now suricata >/dev/null 2>&1 || :
    ;;
esac
# shellcheck disable=SC2086  # a list of package names
apt_get install --no-install-recommends $missing >/dev/null
