"""What the molecule scenarios `node` and `vm` look at inside the machine, where nothing but Python is: as root, with PYTHONPATH leading to ansible_collections.

    python3 vm_checks.py CHECK…

An AssertionError says what is not as it should be. The machine is slow, so what takes its time is waited for.
"""

from __future__ import annotations

import glob
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import typing as t

from steering_tools import command, differences, get, own_filters, settle, snapshot
from waiting import wait_for

SERVER, CLIENT = "nettap-web", "nettap-client"
ENGINE, WATCHDOG = "nettap-engine-nettap.service", "nettap-watchdog-nettap.service"
PAGE, EVIL = "/", "/evil"  # a rule drops requests for the latter, which is not there
SECONDS = 120
DROPPED_SECONDS = 2  # of no answer to a request: one that passes is answered in milliseconds
REMEMBERED = pathlib.Path("/root/networks.json")


def inspect(name: str) -> t.Any:
    """Return what Docker knows of a container."""
    return json.loads(command("docker", "inspect", name))[0]


def address(name: str) -> str:
    """Return the address of a container."""
    (network,) = inspect(name)["NetworkSettings"]["Networks"].values()
    return network["IPAddress"]


def pid(name: str) -> int:
    """Return the PID of a container's first process."""
    return inspect(name)["State"]["Pid"]


def links(*namespace: str) -> list[str]:
    """Return the names of the links here, or with -n NAME in a named namespace."""
    return [link["ifname"] for link in json.loads(command("ip", *namespace, "-j", "link"))]


def asked_by_client(path: str, seconds: int = 5) -> bool:
    """Return whether the server answers the client in time, with whatever status."""
    asked = ["docker", "exec", CLIENT, "timeout", str(seconds), "wget", "-q", "-O", "/dev/null", f"http://{address(SERVER)}{path}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.returncode == 0 or "server returned error" in done.stderr


def inspected() -> None:
    """The engine drops the bad request and passes the good one, from the host and from another container."""
    server = address(SERVER)
    # A bypass may just be ending: on a busy machine, heartbeats of this slow one can be late.
    assert wait_for(lambda: get(server, EVIL, DROPPED_SECONDS) == 0 and get(server, PAGE) == 200, SECONDS), "from the host"
    assert wait_for(lambda: not asked_by_client(EVIL, DROPPED_SECONDS) and asked_by_client(PAGE), SECONDS), "from a container"


def killed() -> None:
    """The engine is killed: traffic passes by, then through the new engine that systemd has started; the watchdog stays."""
    before = {unit: main_pid(unit) for unit in (ENGINE, WATCHDOG)}
    command("systemctl", "kill", "--kill-who=main", "--signal=KILL", ENGINE)
    killed_at = time.monotonic()
    server = address(SERVER)
    assert wait_for(lambda: get(server, EVIL, 0.5) == 404, SECONDS), "nothing passes by a dead engine"
    print(f"traffic flows {time.monotonic() - killed_at:.1f} s after the engine was killed")
    inspected()
    print(f"and is inspected again after {time.monotonic() - killed_at:.1f} s")
    after = {unit: main_pid(unit) for unit in before}
    assert after[ENGINE] not in (0, before[ENGINE]) and after[WATCHDOG] == before[WATCHDOG], (before, after)


def units_run() -> None:
    """The engine and the watchdog are units of systemd, and run."""
    assert all(main_pid(unit) for unit in (ENGINE, WATCHDOG))


def main_pid(unit: str) -> int:
    """Return the PID of a unit's main process, 0 when there is none."""
    return int(command("systemctl", "show", "--property=MainPID", "--value", unit))


def nothing_left() -> None:
    """Nothing of ours is left."""
    # The watchdog clears up after containers that have ended, and ends when nothing is steered any more.
    assert wait_for(lambda: not left(), SECONDS), left()


def clean() -> None:
    """Nothing of ours is left, and all requests are answered."""
    nothing_left()
    if command("docker", "ps", "--quiet", "--filter", f"name={SERVER}"):
        server = address(SERVER)
        assert wait_for(lambda: (get(server, PAGE), get(server, EVIL)) == (200, 404), SECONDS), "the server does not answer"
        assert wait_for(lambda: asked_by_client(PAGE), SECONDS), "the server does not answer the client"


def removed() -> None:
    """A container that ends while it is steered leaves nothing but the dataplane."""
    (record,) = glob.glob("/run/nettap/steering/nettap/*.json")
    subprocess.run(["docker", "rm", "--force", "--volumes", SERVER], check=True, capture_output=True)  # however long that takes
    assert wait_for(lambda: not os.path.exists(record), SECONDS), record
    assert sorted(links("-n", "nettap")) == ["lo", "vbr", "vth"]
    assert shown_filters("vbr") == []


def left() -> list[str]:
    """Return what is left of steering: files, namespaces, units, links, filters, qdiscs."""
    names = links()
    found = [path for folder in ("/run/nettap/steering", "/run/netns") for path in map(str, pathlib.Path(folder).glob("**/*"))]
    found += glob.glob("/run/systemd/system/nettap-*")
    found += command("systemctl", "list-units", "--all", "--plain", "--no-legend", "nettap-*").splitlines()
    found += [name for name in names if re.match("v(br|th|ex|in|nw)", name)]
    found += [one for name in names for one in own_filters(name)]
    return found + [line for line in command("tc", "qdisc", "show").splitlines() if "clsact" in line or "ingress" in line]


def remember() -> None:
    """Write down the network of the host and of both containers."""
    settle()
    REMEMBERED.write_text(json.dumps(networks()))


def restored() -> None:
    """The networks are as they were written down."""
    clean()
    found = differences(json.loads(REMEMBERED.read_text()), networks())
    assert not found, "\n".join(found)


def networks() -> list[t.Any]:
    """Return the state of the network of the host and of both containers."""
    return [snapshot(), *(snapshot(pid(name)) for name in (SERVER, CLIENT))]


def served() -> None:
    """The server answers the host."""
    server = address(SERVER)
    assert wait_for(lambda: get(server, PAGE) == 200, SECONDS), "from the host"


def answers() -> None:
    """The server answers the host and another container."""
    served()
    assert wait_for(lambda: asked_by_client(PAGE), SECONDS), "from a container"


# --- Takeover, mode tag

class Found(t.NamedTuple):
    pref: int
    protocol: str
    match: dict[int, str]
    rewrite: dict[int, str]
    action: str


def taken_over() -> None:
    """The filters of the one container that is taken over are NeuVector's, by what tc(8) shows."""
    (path,) = glob.glob("/run/nettap/steering/nettap/*.json")
    record = json.loads(pathlib.Path(path).read_text())
    names = links("-n", "nettap")
    (vex,), (vin,) = ([name for name in names if name.startswith(start)] for start in ("vex", "vin"))
    mac, tag = record["mac"].split(":"), record["tag"].split(":")
    assert tag[:4] == ["4e", "65", "75", "56"], tag

    def at(offset: int, six: list[str]) -> dict[int, str]:
        return {offset + number: byte for number, byte in enumerate(six)}

    to, source = -14, -8  # where the header has the two MACs
    unicast = {to: "00/01"}
    wanted = {
        vex: [Found(10000, "ipv6", at(to, mac), {}, "drop"), Found(10001, "ip", at(to, mac), at(to, tag), "vbr"), Found(10002, "all", {}, {}, vin)],
        vin: [Found(10000, "ipv6", {**unicast, **at(source, mac)}, {}, "drop"), Found(10001, "ip", {**unicast, **at(source, mac)}, at(source, tag), "vbr"),
              Found(10002, "all", {}, {}, vex)],
        "vbr": [Found(10001, "all", at(to, tag), at(to, mac), vin), Found(10001, "all", at(source, tag), at(source, mac), vex)],
    }
    found = {link: shown_filters(link) for link in wanted}
    assert found == wanted, f"{found}\nare not\n{wanted}"


def shown_filters(link: str) -> list[Found]:
    """Return the filters of a link's ingress, byte by byte, as `tc -s filter show` prints them."""
    found = []
    for text in re.split(r"^filter ", command("tc", "-n", "nettap", "-s", "filter", "show", "dev", link, "ingress"), flags=re.MULTILINE):
        if "  match " not in text:
            continue  # the head of a pref, or a hash table
        head = re.match(r"(?:parent \S+ )?protocol (\S+) pref (\d+) u32 ", text)
        assert head, text
        protocol, pref = head.groups()
        match: dict[int, str] = {}
        for value, mask, offset in re.findall(r"match (\w{8})/(\w{8}) at (-?\d+)", text):
            for number in range(4):
                one, bits = value[2 * number:2 * number + 2], mask[2 * number:2 * number + 2]
                if bits != "00":
                    match[int(offset) + number] = one if bits == "ff" else f"{one}/{bits}"
        rewrite: dict[int, str] = {}
        for offset, value, kept in re.findall(r"key #\d+ +at (-?\d+): val (\w{8}) mask (\w{8})", text):
            for number in range(4):
                if kept[2 * number:2 * number + 2] == "00":
                    rewrite[int(offset) + number] = value[2 * number:2 * number + 2]
        (action,) = re.findall(r"mirred \(Egress (?:Redirect|Mirror) to device (\S+)\)", text) or re.findall(r"gact action (\S+)", text)
        found.append(Found(int(pref), protocol, match, rewrite, action))
    return found


CHECKS: dict[str, t.Callable[..., None]] = {
    one.__name__: one
    for one in (inspected, killed, units_run, clean, nothing_left, removed, remember, restored, served, answers, taken_over)
}  # fmt: skip

if __name__ == "__main__":
    for name in sys.argv[1:]:
        CHECKS[name]()
