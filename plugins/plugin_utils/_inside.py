# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that run in a container while it is captured from inside. They are shell, because there may be nothing else.

`sh -c` runs each script, in general with the folder that holds all files as its first argument. The scripts need mkdir, rm,
chmod and sleep, as in any busybox. They answer with lines that begin with MARK.
"""

from __future__ import annotations

import shlex

MARK = "nettap:"
PACKETS = "out.pcap"  # the file that the command writes, in the folder
LEASE = 15  # seconds that a capture lives without a beat
_SETGID, _SETUID = 1 << 6, 1 << 7  # linux/capability.h

# Arguments: the folder's name, the shell, then folders to try. Prints the machine, whether there is a passwd, the capabilities, the missing
# programs, and the first folder in which files can be made and run.
PROBE = """
umask 077
name=$1 shell=$2
shift 2
echo "nettap: machine $(uname -m 2>/dev/null)"
[ ! -e /etc/passwd ] || echo "nettap: passwd"
while read -r key value; do
    [ "$key" != CapEff: ] || echo "nettap: capabilities $value"
done 2>/dev/null </proc/self/status
for program in mkdir rm chmod sleep; do
    command -v "$program" >/dev/null || echo "nettap: missing $program"
done
for place in "$@"; do
    if mkdir "$place/$name" 2>/dev/null; then
        echo "#!$shell" 2>/dev/null >"$place/$name/try" && chmod 700 "$place/$name/try" && "$place/$name/try" 2>/dev/null && found=$place
        rm -rf "$place/$name"
        [ -z "$found" ] || break
    fi
done
echo "nettap: place $found"
"""

# Prints the user that the connection logs in as. This user must own the folder where another user (become) runs the rest.
USER = """
echo "nettap: user $(id -u)"
"""

# The keeper. Arguments: the folder, its owner if that is not its maker, LEASE, then the command. Makes the folder, and runs the
# command once `go` exists. Ends the command and removes everything once `leave` exists, or no `beat` was written for the lease.
#
# The script stays in the foreground of its connection, and the command is its child. Processes that lose their parent go to the
# container's first process, which often reaps no children: they would stay as zombies. The script does not need the connection to go on.
KEEP = """
umask 077
trap '' HUP INT PIPE
folder=$1 owner=$2 lease=$3 left=$3 pid=
shift 3
mkdir "$folder" || exit 1
[ -z "$owner" ] || chown "$owner" "$folder"
while [ "$left" -gt 0 ] && ! [ -e "$folder/leave" ]; do
    if [ -e "$folder/beat" ]; then
        left=$lease
        rm -f "$folder/beat"
    fi
    if [ -e "$folder/go" ]; then
        rm -f "$folder/go"
        "$@" </dev/null >/dev/null 2>"$folder/log" &
        pid=$!
        echo "$pid" >"$folder/pid"
    fi
    if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
        wait "$pid"
        code=$?
        [ -z "$owner" ] || chown "$owner" "$folder/out.pcap"
        echo "$code" >"$folder/rc"
        pid=
    fi
    sleep 1
    left=$((left - 1))
done
[ -z "$pid" ] || kill "$pid"
wait
rm -rf "$folder" || rm -rf "$folder"  # a beat may have come in between
"""

# Argument: the folder. Beats, and prints the state: gone, ready, running, or ended with a code. Then prints the command's
# messages, and a line that ends the answer.
BEAT = """
umask 077
if ! echo 2>/dev/null >"$1/beat"; then
    echo "nettap: gone"
elif [ -e "$1/rc" ]; then
    read -r rc <"$1/rc"
    echo "nettap: ended $rc"
elif [ -e "$1/pid" ]; then
    echo "nettap: running"
else
    echo "nettap: ready"
fi
if [ -e "$1/log" ]; then
    while IFS= read -r line; do
        echo "$line"
    done <"$1/log"
fi
echo "nettap: all"
"""

# Arguments: the folder, then names of files in it. Makes these executable and lets the command begin.
GO = """
cd "$1" || exit
shift
chmod 700 "$@" && echo >go && echo "nettap: gone on"
"""

# Argument: the folder. Ends the command and removes its PID: run again, the script must not end another process with that PID.
STOP = """
if ! [ -e "$1/rc" ] && read -r pid 2>/dev/null <"$1/pid"; then
    kill "$pid"
    rm -f "$1/pid"
fi
"""

# Argument: the folder. Has everything removed, and prints gone once it is.
LEAVE = """
if ! [ -e "$1" ]; then
    echo "nettap: gone"
elif ! [ -e "$1/leave" ]; then
    echo 2>/dev/null >"$1/leave"
fi
"""


def changes_user(known: dict[str, list[str]]) -> bool:
    """Return whether tcpdump can change its user and groups, given the answer of PROBE, even if only to those that it has."""
    capabilities = "".join(known.get("capabilities", []))
    may = not capabilities or int(capabilities, 16) & (_SETGID | _SETUID) == _SETGID | _SETUID
    return may and "passwd" in known  # where users have no names, root is not to be found either


def script(shell: str, text: str, *arguments: str) -> str:
    """Return the command line that runs one of these scripts."""
    return shlex.join([shell, "-c", text, "nettap", *arguments])
