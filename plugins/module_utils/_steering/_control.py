# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of container_steering: bringing targets into the wanted state, journal first, verified, undone on any error."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _engine
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering import _followed, _journal, _outcome
from ansible_collections.nettap.containers.plugins.module_utils._steering._bench import Bench, going_on
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import Journal, SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._outcome import SteeringOutcome
from ansible_collections.nettap.containers.plugins.module_utils._steering._verification import Verification
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog import _watch
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import abbreviates
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import Target

# "NeuV": NeuVector's dp recognises a tag by it (agent/pipe and dp/apis.h); the last two bytes number the containers.
_TAG_PREFIX = "4e:65:75:56"
_CONTROL_SECONDS = 10.0  # for NeuVector's dp to be told the containers' sockets


@dataclasses.dataclass(frozen=True)
class Request:
    """The wanted steering of all interfaces: see container_steering's options."""

    dataplane: str
    topology: str
    mode: str
    interface: t.Sequence[str] | None
    ipv6: str
    fail_mode: str
    confirm_timeout: float
    engine_timeout: float
    engine_socket: str | None
    drop: t.Sequence[str] = ()
    verify: bool = True
    verify_traffic: bool = True


def steer(targets: t.Sequence[Target], request: Request, check: bool) -> SteeringOutcome:
    """Steer all interfaces of the targets through the dataplane, or none. Raise NettapError."""
    outcome = SteeringOutcome()
    with Bench(request.dataplane) as bench, _locked(bench.journal, check):
        _collect_gone(bench, check)
        wanted = [_wanted(target, link, request) for target, link in _chosen(targets, request)]
        if bench.dataplane is None:
            if not check:
                raise SteeringError(f"There is no dataplane {request.dataplane} on this host: make it with nettap.containers.container_dataplane and start its "
                                    "engine in it first (the role nettap.containers.inline_protect does both).")
            # Its links have no indices yet, so the filters are not known.
            for record in wanted:
                outcome.because("not steered", record)
            outcome.interfaces = [_describe(record, "steered") for record in wanted]
            return outcome
        if (bench.dataplane.topology, bench.dataplane.mode) != (request.topology, request.mode):
            raise SteeringError(f"The dataplane {request.dataplane} is made for topology {bench.dataplane.topology}, mode {bench.dataplane.mode}, "
                                f"not {request.topology}, {request.mode}: give these, or another dataplane_netns.")
        known = {record.key: record for record in bench.journal.records()}
        todo, planned = [], {}
        for record in wanted:
            before = known.get(record.key)
            if before is None:
                _refuse(record, list(known.values()), request)
            record.tag = before.tag if before else _free_tag(known.values()) if request.mode == "tag" else None
            record.deadline = time.time() + request.confirm_timeout if request.confirm_timeout else None
            if before is not None:
                record = _merge(before, record, request)
            known[record.key] = record
            with bench.topology(record) as topology:
                steered = before is not None and before.status == "steered" and topology.steered()
                reason = topology.refusal() if not steered else None
                if reason:
                    raise SteeringError(reason)
                outcome.before += topology.filters() if before else []
                planned[record.key] = topology.filters() if steered and record == before else topology.planned()
                outcome.warnings += topology.warnings()
            if not steered or record != before:
                outcome.because(_outcome.difference(before, record), record)
                todo.append((record, before, steered))
        if todo and not check:
            if not all(steered for _record, _before, steered in todo):
                mtu = max(record.mtu for record, _before, steered in todo if not steered)
                _engine.check(bench.dataplane, bench.steering_fd, request.engine_timeout, request.engine_socket, mtu)
            _put_in(bench, todo, request)
            planned = {record.key: _filters(bench, record) for record in wanted}
        outcome.after = [one for filters in planned.values() for one in filters]
        expected = {record.key: {**_describe(record, "steered"), "filters": planned[record.key]} for record, _before, _steered in todo} if check else {}
        outcome.interfaces = [expected.get(record.key) or report(bench, known[record.key]) for record in wanted]
    return outcome


def release(targets: t.Sequence[Target], patterns: t.Sequence[str], request: Request, check: bool) -> SteeringOutcome:
    """Undo the steering of all interfaces of the targets, and of containers that are gone by now. Raise NettapError."""
    outcome = SteeringOutcome()
    with Bench(request.dataplane) as bench, _locked(bench.journal, check):
        records = _steered(bench, targets, patterns, request)
        for record in records:
            outcome.before += _filters(bench, record)
            outcome.interfaces.append(_describe(record, "absent"))
            outcome.because(_outcome.standing(record), record)
        if not check:
            bench.undo(records)
    return outcome


def bypass(targets: t.Sequence[Target], patterns: t.Sequence[str], request: Request, check: bool) -> SteeringOutcome:
    """Let the traffic of the steered interfaces take its original path until they are steered again. Everything else stays prepared. Raise NettapError."""
    outcome = SteeringOutcome()
    with Bench(request.dataplane) as bench, _locked(bench.journal, check):
        for record in _steered(bench, targets, patterns, request):
            outcome.before += _filters(bench, record)
            with bench.topology(record) as topology:
                planned = topology.planned(bypassed=True)
                outcome.after += planned
                if record.status != "bypassed" or topology.steered():
                    outcome.because("steered", record)
                    if not check:
                        _watch.renew(bench.name)
                        record.status = "bypassed"
                        bench.journal.save(record)  # first, or the watchdog would add the filters again
                        topology.bypass()
            outcome.interfaces.append({**_describe(record, "bypassed"), "filters": planned} if check else report(bench, record))
    return outcome


def describe_all(name: str) -> list[dict[str, t.Any]]:
    """Return all interfaces that one dataplane steers, as container_steering_info returns them. Raise NettapError."""
    with Bench(name) as bench:
        return [report(bench, record) for record in bench.journal.records()]


def report(bench: Bench, record: SteeringRecord) -> dict[str, t.Any]:
    """Return one interface with its present status, counters and filters in the kernel."""
    if bench.gone(record):
        return _describe(record, "gone")
    try:
        with bench.topology(record) as topology:
            status = record.status
            if status == "steered" and not topology.steered():
                status = "bypassed"
            return {**_describe(record, status), "counters": topology.counters(), "filters": topology.filters()}
    except SteeringError:
        return _describe(record, "lost")


def _put_in(bench: Bench, todo: t.Sequence[tuple[SteeringRecord, SteeringRecord | None, bool]], request: Request) -> None:
    """Write the journal, start the watchdog and add the filters, in this order. On any error, undo the changes of this call and raise the error."""
    done: list[tuple[SteeringRecord, SteeringRecord | None]] = []
    try:
        for record, before, steered in todo:
            done.append((record, before))
            record.status = "steered" if steered else "applying"
            bench.journal.save(record)
        # A task that does not name the socket does not take it from those that did.
        control = request.engine_socket or next((one.engine_socket for one in bench.journal.records() if one.engine_socket), None)
        _watch.start(bench.name, control)
        new = [record for record, _before, steered in todo if not steered]
        told = control if request.mode == "tag" else None
        verified = Verification(bench, new if request.verify else [], told, request.verify_traffic)
        with verified:
            if told and new:
                _followed.follow(new, told, _CONTROL_SECONDS, True, _journal.PATIENCE, bench.inode)
            verified.before()
            for record, _before, _steered in todo:
                with bench.topology(record) as topology:
                    topology.apply()
                record.status = "steered"
                bench.journal.save(record)
            verified.after()
    except BaseException as error:
        failures: dict[str, str] = {}
        for dummy, before in done:
            if before is not None:
                with going_on(before, failures):
                    bench.journal.save(before)
                    with bench.topology(before) as topology:
                        (topology.apply if before.status == "steered" else topology.bypass)()
        try:
            bench.undo([record for record, before in done if before is None])
        except NettapError as failure:
            failures["undo"] = str(failure)
        if failures:
            raise SteeringError(f"{error} Moreover, not all could be undone: {' '.join(failures.values())} Run state: absent.") from error
        raise


def _chosen(targets: t.Sequence[Target], request: Request) -> t.Iterator[tuple[Target, _links.Link]]:
    """Yield the interfaces to steer, each with its target. Raise SteeringError."""
    for target in targets:
        if target.host_network:
            raise SteeringError(f"{target.container.name} shares the host's network: steering it would steer the host. It cannot be steered.")
    for target, links in zip(targets, _links.interfaces([target.namespace for target in targets])):
        by_name = {link["name"]: link for link in links}
        if request.interface:
            for name in request.interface:
                if name not in by_name:
                    raise SteeringError(f"{target.container.name} has no interface {name} (it has {', '.join(sorted(by_name))}).")
                yield target, by_name[name]
            continue
        takeover = request.topology == "takeover"
        usable = [link for link in links if link["addresses"] and (link["kind"] in _links.PAIRS or takeover and link["kind"] != "loopback")]
        if not usable:
            kinds = ", ".join(f"{link['name']} ({link['kind']})" for link in links)
            raise SteeringError(f"{target.container.name} has no veth or netkit with an address, which steering in place needs (it has {kinds}): "
                                "use topology: takeover, or name an interface.")
        for link in usable:
            yield target, link


def _wanted(target: Target, link: _links.Link, request: Request) -> SteeringRecord:
    container, namespace, peer = target.container, target.namespace, link["host_peer"]
    return SteeringRecord(
        runtime=container.runtime, id=container.id, name=container.name, pid=namespace.pid, started=namespace.started, netns_path=namespace.path,
        inode=namespace.inode, interface=link["name"], ifindex=link["ifindex"], mac=link["mac"], mtu=link["mtu"], topology=request.topology,
        mode=request.mode, ipv6=request.ipv6, fail_mode=request.fail_mode, drop=sorted(set(request.drop)), engine_socket=request.engine_socket,
        addresses=link["addresses"], peer=peer["name"] if peer else None, peer_ifindex=peer["ifindex"] if peer else None,
    )


def _merge(before: SteeringRecord, wanted: SteeringRecord, request: Request) -> SteeringRecord:
    """Return a steered interface's record with the wanted options. An unconfirmed one keeps its deadline, or is confirmed now."""
    deadline = before.deadline if request.confirm_timeout else None
    return dataclasses.replace(before, ipv6=wanted.ipv6, drop=wanted.drop, fail_mode=wanted.fail_mode, deadline=deadline, status="steered",
                               engine_socket=wanted.engine_socket or before.engine_socket)


def _refuse(record: SteeringRecord, known: t.Sequence[SteeringRecord], request: Request) -> None:
    """Raise SteeringError if this interface, which is not steered yet, cannot be steered."""
    for name in os.listdir(_journal.ROOT) if os.path.isdir(_journal.ROOT) else []:
        if name != request.dataplane and any((other.inode, other.interface) == (record.inode, record.interface) for other in Journal(name).records()):
            raise SteeringError(f"{record.where()} is steered by the dataplane {name} already: take it out there first.")
    for other in known:
        if other.mac == record.mac:
            raise SteeringError(f"{record.where()} has the MAC {record.mac}, as {other.where()} has, by which the dataplane {request.dataplane} would "
                                "take one for the other: give another dataplane_netns.")


def _free_tag(known: t.Iterable[SteeringRecord]) -> str:
    taken = {record.tag for record in known}
    tags = (f"{_TAG_PREFIX}:{number >> 8:02x}:{number & 255:02x}" for number in range(1, 0x10000))
    return next(tag for tag in tags if tag not in taken)


def _steered(bench: Bench, targets: t.Sequence[Target], patterns: t.Sequence[str], request: Request) -> list[SteeringRecord]:
    """Return the records of the targets, and of containers that the patterns name, also of those that are gone by now."""
    inodes = {target.namespace.inode for target in targets}
    return [
        record for record in bench.journal.records()
        if (record.inode in inodes or any(record.name == one or abbreviates(one, record.id) or fnmatch.fnmatchcase(record.name, one) for one in patterns))
        and (not request.interface or record.interface in request.interface)
    ]


def _collect_gone(bench: Bench, check: bool) -> None:
    """Undo the remaining steering of containers that have ended and of tasks that were killed, except in check mode."""
    if not check:
        bench.undo([record for record in bench.journal.records() if record.status in ("applying", "restoring") or bench.gone(record)])


def _filters(bench: Bench, record: SteeringRecord) -> list[dict[str, t.Any]]:
    """Return the filters of a record in the kernel; none where its steering is half done."""
    try:
        with bench.topology(record) as topology:
            return topology.filters()
    except SteeringError:
        return []


@contextlib.contextmanager
def _locked(journal: Journal, check: bool) -> t.Iterator[None]:
    if check:  # check mode makes no folder
        yield
        return
    with journal.locked():
        yield


def _describe(record: SteeringRecord, status: str) -> dict[str, t.Any]:
    return {
        "container": record.name, "id": record.id, "runtime": record.runtime, "interface": record.interface, "mac": record.mac, "tag": record.tag,
        "host_peer": record.peer, "addresses": record.addresses, "topology": record.topology, "mode": record.mode, "ipv6": record.ipv6, "drop": record.drop,
        "fail_mode": record.fail_mode, "engine_socket": record.engine_socket, "status": status, "since": timestamp(record.since),
        "confirm_before": timestamp(record.deadline) if record.deadline is not None else None, "counters": {}, "filters": [],
    }
