# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in a container while it is captured from inside: shell, for there may be nothing else.

Each is given to `sh -c` with the folder that all is in as its first argument; they need mkdir, rm, chmod and sleep, as in
any busybox. What they say is lines that begin with MARK.
"""

from __future__ import annotations

import shlex

MARK = "nettap:"
PACKETS = "out.pcap"  # the file in the folder that the command writes
LEASE = 15  # seconds that a capture lives without a beat

# Arguments: the folder's name, the shell, then folders to try. Says the machine, what is missing, and the first folder
# in which files can be made and run.
PROBE = """
umask 077
name=$1 shell=$2
shift 2
echo "nettap: machine $(uname -m 2>/dev/null)"
[ ! -e /etc/passwd ] || echo "nettap: passwd"
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

# Says the user that the connection logs in as, whose the folder has to be where another one (become) runs the rest.
USER = """
echo "nettap: user $(id -u)"
"""

# Arguments: the folder, whose it is to be if not its maker's, LEASE, then the command. Makes the folder, runs the command once `go` is there, ends it and
# removes everything once `leave` is there or nobody has written `beat` for the lease.
#
# It stays in the foreground of its connection, and the command is its child: processes that lose their parent are left
# to the container's first process, which often reaps nobody, and would stay as zombies. It needs no connection to go on.
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

# Argument: the folder. Beats, and says how it stands: gone, ready, running or ended with a code; then the command's words;
# and that this was all.
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

# Argument: the folder, then names in it. Makes them programs and lets the command begin.
GO = """
cd "$1" || exit
shift
chmod 700 "$@" && echo >go && echo "nettap: gone on"
"""

# Argument: the folder. Ends the command, whose number is forgotten then: run again, it must not end another process of that number.
STOP = """
if ! [ -e "$1/rc" ] && read -r pid 2>/dev/null <"$1/pid"; then
    kill "$pid"
    rm -f "$1/pid"
fi
"""

# Argument: the folder. Has everything removed, and says gone once it is.
LEAVE = """
if ! [ -e "$1" ]; then
    echo "nettap: gone"
elif ! [ -e "$1/leave" ]; then
    echo 2>/dev/null >"$1/leave"
fi
"""


def script(shell: str, text: str, *arguments: str) -> str:
    """A command line that runs one of these."""
    return shlex.join([shell, "-c", text, "nettap", *arguments])
