# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting, stopping and removing sessions: the calls of the modules, with the reason for a change decided in one place."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import itertools
import json
import os
import signal
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arrivals import _watch
from ansible_collections.nettap.containers.plugins.module_utils._capture import (
    _launch,
    _plan,
    _programs,
    _session,
    _staging,
    _storage,
    _tcpdump,
    _transport,
    _waiting,
)
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment, Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._listing import Listing
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request, check_new_name
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Clock, Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, StorageError
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.plugins.module_utils._system._runner import Runner
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import Target

_TERM_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL for a tcpdump whose supervisor was killed


class _TakenError(CaptureError):
    """A name that another owner's session has."""


@dataclasses.dataclass(frozen=True)
class CaptureOutcome:
    """The outcome of a task or, in check mode, the outcome that it would have.

    reason is one sentence that says why something is done, None where nothing is to be done. capture is as modules return
    it, None when there is no such session any more. before is the status that the session had (absent for none). kept is
    the name under which an earlier capture of the same name is kept.
    """

    reason: str | None
    before: str
    capture: dict[str, t.Any] | None
    kept: str | None = None

    @property
    def changed(self) -> bool:
        """Return whether anything was done."""
        return self.reason is not None

    @property
    def after(self) -> str:
        """Return the status of the session now, absent for none."""
        return self.capture["status"] if self.capture else "absent"


class Sessions(Listing):
    """The capture sessions of this host under one storage path, which can be started, stopped and removed."""

    # --- start

    def start(self, name: str, request: Request, targets: t.Sequence[Target], start_at: float | None = None, force: bool = False,
              allow_host_network: bool = False, check: bool = False, owner: str | None = None, clock: Clock | None = None,
              coming: t.Sequence[Container] = (), arrivals: dict[str, t.Any] | None = None) -> CaptureOutcome:
        """Start a session unless the same one runs, and record clock in it. It waits for the containers coming and, with the options arrivals, for
        those that match them.

        Return once every tcpdump has its socket open or, for a start_at in the future, once all is checked and the supervisor
        waits for that instant. Keep an ended session of that name under another name. When the session cannot start whole,
        leave nothing behind and raise CaptureError.

        With an owner, never join or wait for the session of another one: while that runs, or is being started or fetched, take the
        next of the names NAME, NAME-2, NAME-3 that is free.
        """
        check_new_name(name)
        start = functools.partial(self._start, request=request, targets=targets, start_at=start_at, force=force, allow_host_network=allow_host_network,
                                  check=check, owner=owner, clock=clock, coming=coming, arrivals=arrivals)
        if owner is None or force:
            return start(name)
        for number in itertools.count(1):
            ending = f"-{number}" if number > 1 else ""
            with contextlib.suppress(_TakenError, _storage.BusyError):
                return start(name[: 64 - len(ending)] + ending, spare=number > 1)
        raise AssertionError  # count() has no end

    def _start(self, name: str, request: Request, targets: t.Sequence[Target], start_at: float | None, force: bool, allow_host_network: bool,
               check: bool, owner: str | None, clock: Clock | None, coming: t.Sequence[Container], arrivals: dict[str, t.Any] | None,
               spare: bool = False) -> CaptureOutcome:
        """Start a session of this very name. Raise _TakenError if it is another owner's; a spare name must be free. Raise CaptureError, BusyError."""
        directory = self.storage.directory(name)
        patience = None if owner is None or force else 0
        with self.storage.locked(name, create=not check, patience=patience) as there:
            try:
                session = _storage.load(directory) if there else None
                before = _session.tell(directory, session)["status"] if session else "absent"
                containers = [*(target.container for target in targets), *coming]
                others = session and before == "running" and session.owner != owner or spare and there and os.listdir(directory)
                if owner is not None and not force and others:
                    raise _TakenError
                reason = reason_to_start(name, before, session, request, containers, force, arrivals)
                if reason is None:
                    return CaptureOutcome(None, before, _session.tell(directory, session) if session else None)
                if arrivals is not None:
                    _watch.check(arrivals)
                tcpdump = _tcpdump.program()
                notes: list[str] = []
                taps = _plan.check(targets, request, tcpdump, allow_host_network, notes.append)
                assignment = self._assignment(directory, request, targets, taps, tcpdump, start_at, coming, arrivals)
                assignment.session.owner, assignment.session.clock = owner, clock
                assignment.session.left_out = notes + assignment.session.left_out
                if check:
                    return CaptureOutcome(reason, before, _preview(directory, assignment.session), self._name_to_keep(name) if there else None)
                if before == "running" and session:
                    self._end(name, session)
                kept = self._name_to_keep(name)
                if kept:
                    self.storage.rename(name, kept)
                return CaptureOutcome(reason, before, self._launch(name, assignment, kept, patience), kept)
            finally:
                if there:
                    with contextlib.suppress(OSError):
                        os.rmdir(directory)  # succeeds only if it is empty: a start that failed leaves no folder

    def _assignment(self, directory: str, request: Request, targets: t.Sequence[Target], taps: list[list[_plan.Tap]], tcpdump: str,
                    start_at: float | None, coming: t.Sequence[Container], arrivals: dict[str, t.Any] | None) -> Assignment:
        """Return the assignment of the supervisor. Its descriptors are those of the targets' open namespaces. Raise StorageError."""
        free, total = self.storage.free()
        least_free = request.least_free(total)
        if free <= least_free:
            raise StorageError(f"Only {free >> 20} MiB are free for {self.storage.path}, and min_free keeps {least_free >> 20} MiB: "
                               "make room, set path to another file system, or lower min_free.")
        buffer_size = request.buffer(sum(map(len, taps)))
        transport = _transport.found() if request.exclude_own_connection else None
        containers: list[Watched] = []
        segments: list[Segment] = []
        notes: list[str] = []
        for sharing, places in zip(_plan.by_namespace(targets), taps):
            names = [target.container.name for target in sharing]
            left_out, note = _transport.left_out(transport, names[0], sharing[0].namespace, request.live and not request.filter)
            notes += [*([note] if note else []), *_programs.notes(names[0], places)]
            containers += [Watched.of_target(target, left_out) for target in sharing]
            container = containers[-len(sharing)]
            for tap in places:
                argv_of = functools.partial(_tcpdump.command, tcpdump, request, buffer_size=buffer_size, link_type=tap.link_type, left_out=left_out)
                segments.append(_plan.segment(len(segments), container, tap, argv_of, directory, names))
        known = [*(target.container for target in targets), *coming]
        session = Session("running", request, targets=_identities(known, arrivals), buffer_size=buffer_size, least_free=least_free, segments=segments,
                          start_at=None if start_at is None else timestamp(start_at), left_out=notes)
        order = None if arrivals is None else {"options": arrivals, "known": [one.id for one in known], "environment": _watch.environment()}
        return Assignment(directory, tcpdump, start_at, [*containers, *map(_awaited, coming)], session, arrivals=order)

    def _name_to_keep(self, name: str) -> str | None:
        """Return the name under which a session's captures are kept when another session takes its name; None where it has left none."""
        if not os.listdir(self.storage.directory(name)):
            return None
        moment = datetime.datetime.fromtimestamp(os.stat(self.storage.directory(name)).st_mtime, datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        for number in itertools.count(1):
            ending = f".{moment}" + (f".{number}" if number > 1 else "")
            kept = name[: 64 - len(ending)] + ending
            if not os.path.lexists(self.storage.directory(kept)):
                return kept
        raise AssertionError  # count() has no end

    def _launch(self, name: str, assignment: Assignment, kept: str | None, patience: float | None) -> dict[str, t.Any]:
        # After a rename there is no folder of this name any more, and so no lock: make the folder and take the lock again.
        with self.storage.locked(name, create=True, patience=patience) if kept else contextlib.nullcontext():
            if os.listdir(self.storage.directory(name)):
                raise _TakenError(f"Another task has started session {name} at the same time: run the task again.")
            try:
                _launch.launch(name, assignment)
            except BaseException:
                self._abandon(name)
                if kept:
                    self.storage.rename(kept, name)
                raise
            return self._about(name)

    def _abandon(self, name: str) -> None:
        """End and remove a session that could not start."""
        session = _storage.load(self.storage.directory(name))
        if session:
            self._end(name, session)
        self.storage.remove(name)

    # --- stop, remove, wait

    def stop(self, name: str, check: bool = False, owner: str | None = None, force: bool = False) -> CaptureOutcome:
        """End a session and keep its captures; changed if anything of it was running.

        Raise CaptureError if there is none (of the owner, where one is given), or if another run waits for it, unless forced.
        """
        with self.storage.held(name, owner) as found:
            directory = self.storage.directory(found or name)
            session = _storage.load(directory) if found else None
            if session is None or found is None:
                raise self.storage.missing(name, owner)
            before = _session.tell(directory, session)["status"]
            changed = session.status == "running"
            reason = (f"Session {found} was running." if before == "running" else _orphaned(found)) if changed else None
            if changed and not force:
                _waiting.refuse(directory, owner, "stopped")
            if check:
                told = _session.tell(directory, session)
                return CaptureOutcome(reason, before, {**told, "status": "stopped"} if before == "running" else told)
            if changed:
                self._end(found, session)
            if owner is not None:
                _waiting.withdraw_owner(directory, owner)
            return CaptureOutcome(reason, before, self._about(found))

    def remove(self, name: str, check: bool = False, owner: str | None = None, force: bool = False) -> CaptureOutcome:
        """End a session and delete its captures; changed if it was there (and the owner's, where one is given).

        Raise CaptureError if another run waits for it, unless forced. What a fetch under way has staged is the fetch's to remove.
        """
        with self.storage.held(name, owner) as found:
            if found is None:
                return CaptureOutcome(None, "absent", None)
            directory = self.storage.directory(found)
            if not force:
                _waiting.refuse(directory, owner, "removed")
            session = None
            with contextlib.suppress(StorageError):  # a damaged session.json must not keep its session from being removed
                session = _storage.load(directory)
            before = _session.tell(directory, session)["status"] if session else "failed"
            if not check:
                if session and session.status == "running":
                    self._end(found, session)
                _staging.clear(directory)
                self.storage.remove(found)
            return CaptureOutcome(f"Session {found} was there ({before}).", before, None)

    def wait(self, name: str, owner: str | None = None) -> dict[str, t.Any]:
        """Wait for the end of a session. Return it with its final figures. Raise CaptureError if it was removed meanwhile."""
        directory = self.storage.directory(name)
        session = _storage.load(directory)
        supervisor = _session.supervisor(session) if session else None
        if supervisor:
            runner = Runner.of(os.getpid())
            _waiting.note(directory, runner, owner, 0)
            supervisor.wait(None)
            _waiting.withdraw(directory, runner)
        told = self.about(name, owner)
        if not told:
            raise CaptureError(f"Session {name} was removed by another task while this one waited for its end.")
        return told[0]

    def _end(self, name: str, session: Session) -> None:
        """End the processes of a session, and make sure that session.json holds the final figures. Raise CaptureError."""
        directory = self.storage.directory(name)
        supervisor = _session.supervisor(session)
        if supervisor:
            supervisor.send(signal.SIGTERM)
            supervisor.wait(None)  # it kills a tcpdump that does not end, and a slow disk is waited for
        left = [process for process in map(_session.tcpdump, session.segments) if process]
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _TERM_TIMEOUT
            left = [process for process in left if process.send(number)]
            left = [process for process in left if not process.wait(max(0.0, deadline - time.monotonic()))]
        final = _storage.load(directory)
        if final:
            _session.conclude_killed(directory, final)


def reason_to_start(name: str, status: str, session: Session | None, request: Request, containers: t.Sequence[Container], force: bool,
                    arrivals: dict[str, t.Any] | None = None) -> str | None:
    """Return one sentence that says why a session has to be (re)started; None if it runs as requested. Raise CaptureError if it runs otherwise."""
    if session is None:
        return f"There was no session {name}."
    if status != "running":
        return f"Session {name} has {status}."
    if _session.supervisor(session) is None:
        return _orphaned(name)
    differences = request.differences(session.request)
    if session.targets != _identities(containers, arrivals):
        theirs = ", ".join(sorted({name for segment in session.segments for name in segment.containers}))
        ours = ", ".join(sorted(container.name for container in containers))
        differences.append(f"containers: {theirs}, not {ours}" + (" made anew since" if theirs == ours else ""))
    if not differences:
        return None
    if force:
        return f"Session {name} was running with other arguments ({'; '.join(differences)})."
    raise CaptureError(f"Session {name} is running with other arguments ({'; '.join(differences)}): use another name, or force: true to restart it.")


def _orphaned(name: str) -> str:
    return f"The supervisor of session {name} was killed."


def _preview(directory: str, session: Session) -> dict[str, t.Any]:
    """Return the session as it would run. Files of an earlier session of that name are not its own."""
    told = _session.tell(directory, session)
    segments = [{**segment, "status": "running", "files": [], "bytes": 0, "first_packet": None} for segment in told["segments"]]
    return {**told, "status": "running", "error": None, "segments": segments}


def _identities(containers: t.Sequence[Container], arrivals: dict[str, t.Any] | None) -> list[str]:
    """Return what a session captures: its containers or, where it takes in new ones, the options that they have to match."""
    if arrivals is not None:
        return [json.dumps({name: value for name, value in arrivals.items() if value}, sort_keys=True)]
    return sorted(f"{container.runtime}:{container.id}" for container in containers)


def _awaited(container: Container) -> Watched:
    return Watched(container.id, container.name, container.image, identity=container.identity, cgroup=container.cgroup, record=container.record,
                   final=container.final, runtime=container.runtime, docker_host=container.docker_host,
                   pod=None if container.told_by_user else container.pod_name)
