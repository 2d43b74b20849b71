"""Record what a release leaves on a host, for tests that later releases can still work with it.

    python tests/support/own_machine.py tests/support/record_release.py FOLDER

runs in a checkout of that release, in which this file may be a copy. FOLDER gets

    sessions.tar.xz    the storage path with the sessions `ended` (a container was restarted meanwhile), `ring` (files of 1 MB) and
                      `killed` (its supervisor by SIGKILL), as they lie on the disk
    captures.json     what container_capture_info returns of them
    steering-*.json   the record of the steering journal, by topology and mode, while the interface is steered
    watchdog.json     what its watchdog says of itself
    service.json      what the keeper of an engine is known by
    neuvector.json    the record of a configured NeuVector dp (of tests/support/dp_peer.py)
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import typing as t

import ansible_cli
import capture_tools
import dp_peer
import engine
import steering_tools
from ssh_server import wait_for

LINKS = {"bridge": ["vth0", "vth1"], "tag": ["vth"]}
WORKLOAD = {"mac": "02:42:0a:63:00:02", "tag_mac": "4e:65:75:56:00:01", "addresses": ["10.99.0.2"]}


def done(module: str, **options: t.Any) -> dict[str, t.Any]:
    """Run a module, which must not fail."""
    return capture_tools.succeeded(ansible_cli.run_module(module, options))


def keep(path: str, copy: pathlib.Path) -> None:
    """Copy a JSON file."""
    copy.write_text(pathlib.Path(path).read_text() + "\n")


def sessions(folder: pathlib.Path, web: t.Any) -> None:
    """Record the sessions."""
    path = pathlib.Path("/var/lib/nettap/captures")
    captures = capture_tools.Captures(path)
    address = capture_tools.reach(web)
    for name in ("ended", "killed"):
        captures.start(web, name=name, interface=["any", "eth0"], vantage="both", filter=f"icmp or {capture_tools.TRAFFIC}", live=True)
        capture_tools.send(address, range(10, 15))
        captures.until(lambda capture: all(one["packets_captured"] for one in capture["segments"]), name)
        if name == "ended":
            web.restart()
            captures.until(lambda capture: [one["packets_captured"] is not None for one in capture["segments"]] == [True] * 6, name)
            capture_tools.send(capture_tools.reach(web), range(20, 25))
            captures.until(lambda capture: all(one["packets_captured"] for one in capture["segments"]), name)
            captures.stop(name)
        else:
            supervisor = captures.info(name)["supervisor"]["pid"]
            os.kill(supervisor, signal.SIGKILL)
            assert wait_for(lambda: not captures.processes())
    captures.start(web, name="ring", interface=["eth0"], filter=capture_tools.TRAFFIC, file_size=1, file_count=2)
    capture_tools.flood(capture_tools.reach(web), 3.2)
    captures.stop("ring")
    (folder / "captures.json").write_text(json.dumps(done("container_capture_info")["captures"], indent=1) + "\n")
    subprocess.run(["tar", "--create", "--xz", f"--file={folder}/sessions.tar.xz", f"--directory={path}", "--sort=name", "."], check=True)


def steering(folder: pathlib.Path, web: t.Any) -> None:
    """Record the journal of each topology and mode that this kernel can do."""
    for topology, mode in (("inplace", "bridge"), ("inplace", "tag"), ("takeover", "bridge"), ("takeover", "tag")):
        done("container_dataplane", topology=topology, mode=mode, engine=[*steering_tools.FORWARDER, *LINKS[mode]])
        capture_tools.reach(web)
        tried = ansible_cli.run_module("container_steering", {"container": [web.name], "topology": topology, "mode": mode, "interface": ["eth0"]})
        if tried.get("failed"):
            print(f"{topology} {mode}: {tried['msg']}")
        else:
            (record,) = glob.glob("/run/nettap/steering/nettap/*.json")
            keep(record, folder / f"steering-{topology}-{mode}.json")
            keep("/run/nettap/steering/nettap/watchdog", folder / "watchdog.json")
            keep("/run/nettap/services/engine-nettap.json", folder / "service.json")
            done("container_steering", container=[web.name], topology=topology, state="absent")
        done("container_dataplane", state="absent")


def neuvector(folder: pathlib.Path) -> None:
    """Record what is kept of a dp."""
    with contextlib.ExitStack() as undo:
        place = tempfile.mkdtemp(dir="/tmp")
        undo.callback(shutil.rmtree, place)
        engine.ip("link", "add", "vbr", "type", "veth", "peer", "name", "vth")
        undo.callback(engine.ip, "link", "delete", "vbr")
        for link in ("vbr", "vth"):
            engine.ip("link", "set", link, "up", "mtu", "9000")
        path = f"{place}/dp.sock"
        dp = undo.enter_context(subprocess.Popen([sys.executable, dp_peer.__file__, "--socket", path]))
        undo.callback(dp.terminate)
        assert wait_for(lambda: os.path.exists(path))
        rule = {"workloads": [WORKLOAD["mac"]], "direction": "ingress", "protocol": "tcp", "port": "80", "action": "allow"}
        done("neuvector_dataplane", socket=path, internal_networks=["10.99.0.0/24"], service_port="vth", workloads=[WORKLOAD], policy=[rule])
        (record,) = glob.glob("/run/nettap/dataplane/neuvector-*.json")
        keep(record, folder / "neuvector.json")


def main() -> None:
    """Record all."""
    folder = pathlib.Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with engine.engine() as client, engine.image(client) as image:
        web = client.containers.run(image, name="web", detach=True, stop_signal="SIGKILL")
        try:
            sessions(folder, web)
            steering(folder, web)
        finally:
            web.remove(force=True)
    neuvector(folder)


if __name__ == "__main__":
    main()
