# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The point of it all: a request between two containers, captured in each of the ways there are, is found in the file."""

from __future__ import annotations

import pytest
from capture_tools import count, tshark
from engine import address, execute


def by_module(captures, cli, options, traffic):
    captures.start(container=options["container"], filter=options["filter"])
    traffic()
    captures.stop()
    return cli.ansible("container_capture_fetch", {"path": str(captures.path), "dest": options["dest"]})


def by_command(captures, cli, options, traffic):
    """Ad hoc, by short names, from the checkout."""
    words = f"container={options['container'][0]} filter='{options['filter']}' duration=15 wait=true path={captures.path}"
    running = cli.start(["ansible", "all", "-m", "container_capture", "-a", words])
    captures.until_started()
    traffic()
    done = running.wait()
    assert done.rc == 0 and done.result()["changed"], done.output
    return cli.ansible("container_capture_fetch", f"path={captures.path} dest={options['dest']} remove=true")


def by_playbook(captures, cli, options, traffic):
    names = ("container", "filter", "dest")
    variables = {"capture_path": str(captures.path), "capture_duration": 15, "capture_interval": 1, **{f"capture_{name}": options[name] for name in names}}
    running = cli.start_playbook("capture.yml", extra_vars=variables)
    captures.until_started()
    traffic()
    return running.wait()


def by_full_name(captures, cli, options, traffic):
    """The playbook of the collection, over ssh."""
    variables = {"capture_path": str(captures.path), "capture_packet_count": 8, "capture_duration": 60, "capture_interval": 1, "target_hosts": "all"}
    variables.update({f"capture_{name}": options[name] for name in ("container", "filter", "dest")})
    running = cli.start_playbook("nettap.containers.capture", extra_vars=variables, hosts=options["hosts"])
    captures.until_started()
    while (captures.find() or {}).get("status") == "running":  # a request has some ten packets
        traffic()
    return running.wait()


@pytest.mark.parametrize("way", [by_module, by_command, by_playbook, by_full_name])
def test_http_between_containers(captures, cli, container, network, sshd, tmp_path, way):
    own = network()
    web, client = container(network=own.name), container(["sleep", "600"], network=own.name)
    page = f"http://{address(web)}/index.html?{way.__name__}"
    options = {"container": [web.name], "filter": "tcp port 80", "dest": str(tmp_path / "here"), "hosts": {"node": sshd.host_vars}}

    def traffic() -> None:
        assert execute(client, "wget", "-q", "-O", "-", page.replace("/index", ":81/index"))[0] == 1  # left out by the filter
        code, text = execute(client, "wget", "-q", "-O", "-", page)
        assert code == 0 and "nettap" in text, text

    done = way(captures, cli, options, traffic)
    assert done.rc == 0, done.output
    fetched = done.result("container_capture_fetch")
    [file], [segment] = fetched["files"], fetched["capture"]["segments"]
    # Exactly what tcpdump counted, and nothing was dropped.
    assert count(file["dest"]) == file["packets"] == segment["packets_captured"] >= 8
    assert segment["packets_dropped"] == 0
    if way is not by_full_name:  # there, requests go on after its last packet
        assert segment["packets_received"] == segment["packets_captured"]
    requests = tshark(file["dest"], "http.request.method", "http.request.uri", expression="http.request")
    assert requests[0] == f"GET\t/index.html?{way.__name__}"
    assert all("80" in line.split(",") for line in tshark(file["dest"], "tcp.port"))
