# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that steered containers are still reached, through the engine: what passed between the host and them before must pass afterwards."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp, _policy
from ansible_collections.nettap.containers.plugins.module_utils._steering import _ping
from ansible_collections.nettap.containers.plugins.module_utils._steering._bench import Bench, container
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._probe import CONNECTION, FULL_SIZE, UDP, Probe, Probes
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

# Seconds to wait for answers before and after the change. After a takeover, the carrier comes back within one second.
_ANSWER_SECONDS, _AGAIN_SECONDS = 0.5, 5.0
_PING = "pings"


class Verification:
    """Traffic between the host and newly steered interfaces, to use as a context manager.

    control is the path of NeuVector dp's socket, None for another engine: what dp's policy denies is not expected to pass. Without traffic,
    only pings are sent.
    """

    def __init__(self, bench: Bench, records: t.Sequence[SteeringRecord], control: str | None, traffic: bool) -> None:
        self._bench = bench
        self._records = records
        self._control = control
        self._probes = Probes([])
        answered = _ping.answering(bench.host_fd, {address for record in records for address in _addresses(record)}, _ANSWER_SECONDS)
        foreign = _ping.of_others(bench.host_fd, {one: [record.mac for record in records if one in _addresses(record)] for one in answered})
        self._wanted = {address: {_PING} for address in sorted(answered - foreign)}
        if traffic:
            self._open()

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._probes.close()

    def before(self) -> None:
        """See what passes before anything is changed. Raise NettapError."""
        kinds = (UDP, FULL_SIZE, CONNECTION)
        for address, found in self._probes.passing({probe.address: kinds for probe in self._probes.probes}, _ANSWER_SECONDS).items():
            self._wanted[address] |= found
        policy = _dp.told(self._control, within=self._bench.inode) if self._control else None
        if policy is not None:
            for record in self._records:
                for address in self._wanted.keys() & set(_addresses(record)):
                    self._wanted[address] -= self._denied(policy, record, address)

    def after(self) -> None:
        """Check that all of it still passes, through the engine. Raise SteeringError."""
        pinged = {address for address, kinds in self._wanted.items() if _PING in kinds}
        answering = _ping.answering(self._bench.host_fd, pinged, _AGAIN_SECONDS)
        passing = self._probes.passing({address: kinds - {_PING} for address, kinds in self._wanted.items()}, _AGAIN_SECONDS)
        for record in self._records:
            mine = sorted(self._wanted.keys() & set(_addresses(record)))
            silent = [address for address in mine if address in pinged and address not in answering]
            if silent:
                raise SteeringError(f"{record.where()} does not answer pings to {', '.join(silent)} any more through the dataplane {self._bench.name}, "
                                    "so the steering was undone: look whether its engine passes them on, or give verify: false if a rule drops pings.")
            lost = [kind for kind in (UDP, FULL_SIZE, CONNECTION) if any(kind in self._wanted[one] and kind not in passing.get(one, ()) for one in mine)]
            if lost:
                raise SteeringError(f"{record.where()} is not reached by {', nor by '.join(lost)} any more through the dataplane {self._bench.name}, "
                                    "so the steering was undone: look what its engine drops, or give verify_traffic: false if a rule drops that "
                                    "between the host and any port of the container.")
            with self._bench.topology(record) as topology:
                counters = topology.counters()
            if any(self._wanted[address] for address in mine) and not counters.get("in", {}).get("returned"):
                raise SteeringError(f"{record.where()} answers, but its traffic does not go through the dataplane {self._bench.name} (counters: {counters}), "
                                    "so the steering was undone: somebody's filters or another network path take it past.")

    def _open(self) -> None:
        for record in self._records:
            namespace = container(record)
            if namespace is None:
                continue
            try:
                for address in self._wanted.keys() & set(_addresses(record)):
                    with contextlib.suppress(OSError):  # no free port, or no such address any more
                        self._probes.probes.append(Probe(self._bench.host_fd, namespace.fd, address, record.mtu))
            finally:
                namespace.close()

    def _denied(self, policy: _policy.Config, record: SteeringRecord, address: str) -> set[str]:
        """Return what dp's policy denies of that between the host and an IPv4 address."""
        if ":" in address:
            return set()
        source, ports = self._source(address), next((one.ports for one in self._probes.probes if one.address == address), {})
        denied = set()
        for kind, names in (("icmp", [_PING]), ("udp", [UDP, FULL_SIZE]), ("tcp", [CONNECTION])):
            decided = _policy.decide(policy, record.mac, "ingress", source, address, ports.get(kind, 0), kind)[1]
            denied |= set(names) if decided == "deny" else set()
        return denied

    def _source(self, address: str) -> str:
        """Return the host's own address on the way to an IPv4 address."""
        with _netns.entered(self._bench.host_fd), socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
            one.connect((address, 9))  # sends nothing
            return str(one.getsockname()[0])


def _addresses(record: SteeringRecord) -> list[str]:
    """Return the addresses of an interface at which it can be reached after the change."""
    found = [address.partition("/")[0] for address in record.addresses]
    return [address for address in found if record.ipv6 != "drop" or ipaddress.ip_address(address).version == 4]
