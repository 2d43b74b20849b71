# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog of a dataplane: the program of a process of its own.

The watchdog bypasses an engine that is dead or hangs (fail_mode: open), and resumes steering when the engine forwards
again. It undoes steering that was not confirmed in time, and clears up after containers that have ended. It ends by itself when
nothing is steered any more.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _engine
from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _socket
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._events import EventLog
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._record import Busy as Occupied
from ansible_collections.nettap.containers.plugins.module_utils._steering import _followed
from ansible_collections.nettap.containers.plugins.module_utils._steering._bench import Bench, going_on
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._filters import Filter
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._topology import InPlace
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import Busy, SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog._listener import Listener
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog._processes import Processes
from ansible_collections.nettap.containers.plugins.module_utils._system import _files, _inotify, _process

STATE = "watchdog"  # file beside the records, whose names end in .json

# Seconds. An engine under full load drops packets, and heartbeats among them. Ten lost in a row are no coincidence.
_BEAT = 0.2
_BEAT_DOWN = 0.05
_HUNG = 2.0
_LINGER = 5.0
_RETRY, _LONGEST_RETRY = 0.5, 8.0  # after each failure, the time to the next attempt doubles
_SETTLE = 0.2
_CONTROL = 1.0
_ANSWER = 0.5
_HEARD_AGAIN = 3  # heartbeats in a row that an engine which was down has to let through


def main() -> None:
    """Run the watchdog of the dataplane that the first argument names. The second argument is the path of dp's socket, or empty."""
    try:
        with Bench(sys.argv[1]) as bench:
            if bench.dataplane is not None:
                Watchdog(bench, bench.dataplane, sys.argv[2] or None).run()
    except NettapError as error:
        raise SystemExit(str(error)) from error


class Watchdog:
    """The watchdog's one thread with its one poll(2). Only changes of more than filters take the journal's lock.

    Once it watches, no error ends it. It logs each failure and tries again, and everything else goes on.
    """

    def __init__(self, bench: Bench, dataplane: Dataplane, control: str | None) -> None:
        self._bench = bench
        self._dataplane = dataplane
        self._control = control
        self._heartbeat = _engine.Heartbeat(self._dataplane, bench.steering_fd)
        self._changes = _inotify.NewFiles(bench.journal.path)
        self._link_sockets = [_socket.link_events(fd) for fd in sorted({bench.host_fd, bench.steering_fd})]
        self._poller = select.poll()
        for fd in (*self._heartbeat.filenos(), self._changes.fd, *(one.fileno() for one in self._link_sockets)):
            self._poller.register(fd, select.POLLIN)
        self._processes = Processes(dataplane, self._poller)
        self._listener = self._listen()
        self._records: list[SteeringRecord] = []
        self._filters: dict[str, list[Filter]] = {}  # of each record, by its key
        self._complaints: set[str] = set()  # logged already
        self._retry = _RETRY
        self._unsaid: tuple[str, bool] | None = None
        self._told: dict[str, t.Any] | None = None  # NeuVector's configuration
        self._healthy = True
        self._passes_beats = False
        self._heard = self._beat = self._row = 0
        now = time.monotonic()
        self._heard_at = self._empty_since = now
        self._next_beat = self._next_control = now
        self._next_review: float | None = now

    def run(self) -> None:
        """Watch until nothing is steered any more."""
        self._say("watching", True)
        while True:
            events = {fd for fd, dummy in self._poller.poll(max(0.0, (self._wake() - time.monotonic()) * 1000))}
            with self._surviving():
                # Heartbeats under way, or an engine of two processes, do not show that packets are still read.
                if self._processes.ended(events) and self._healthy:
                    self._down("the engine's process has ended, or is about to")
            with self._surviving():
                if events.intersection(self._heartbeat.filenos()):
                    self._hear()
            self._heed_changes(events)
            with self._surviving():
                if self._listener is not None and self._listener.fd in events:
                    self._listener.take({record.mac: record.name for record in self._records})
            with self._surviving():
                if time.monotonic() >= self._next_beat:
                    self._send()
            with self._surviving():
                if self._next_review is not None and time.monotonic() >= self._next_review:
                    self._review()

    def _listen(self) -> Listener | None:
        """Open the socket for what dp reports. Without it, the watchdog goes on."""
        if self._control is None:
            return None
        try:
            listener = Listener(EventLog(self._bench.name), self._control)
        except NettapError as error:
            self._note(str(error))
            return None
        self._poller.register(listener.fd, select.POLLIN)
        return listener

    def _heed_changes(self, events: t.Collection[int]) -> None:
        """Schedule a review: now if a record has changed, after a moment if links have come or gone."""
        if self._changes.fd in events:
            with contextlib.suppress(OSError):
                self._changes.names()
            self._next_review = time.monotonic()
        for one in self._link_sockets:
            with contextlib.suppress(OSError):
                while True:
                    one.recv(1 << 16)
                    # Keep an earlier time: on a busy host links come and go all the time.
                    self._next_review = self._next_review or time.monotonic() + _SETTLE

    @contextlib.contextmanager
    def _surviving(self) -> t.Iterator[None]:
        failures: dict[str, str] = {}
        try:
            yield
        except (NettapError, OSError) as error:
            failures[""] = str(error)
        self._complain(failures)

    def _complain(self, failures: t.Mapping[str, str]) -> None:
        """Log each failure once, and schedule another attempt."""
        for text in failures.values():
            if text not in self._complaints:
                self._complaints.add(text)
                self._note(text)
        if failures:
            again = time.monotonic() + self._retry
            self._next_review = again if self._next_review is None else min(again, self._next_review)

    def _wake(self) -> float:
        times = [self._next_beat, *([self._next_review] if self._next_review is not None else [])]
        pending = [record.deadline for record in self._records if record.deadline is not None]
        if pending:
            times.append(time.monotonic() + min(pending) - time.time())
            if min(pending) <= time.time() and self._next_review is None:
                self._next_review = time.monotonic()
        return min(times)

    # --- The engine

    def _send(self) -> None:
        now = time.monotonic()
        self._beat = self._heartbeat.send()
        self._next_beat = now + (_BEAT if self._healthy else _BEAT_DOWN)
        if self._dataplane.mode == "tag" and now >= self._next_control:
            self._next_control = now + (_CONTROL if self._healthy else _BEAT_DOWN)
            self._ask()
        if self._healthy and now - self._heard_at > _HUNG:
            self._down(f"nothing has come through the engine for {_HUNG:g} s")
        if self._healthy and self._processes and not self._processes.reads():
            self._down("the engine has closed its sockets")
        if not self._processes:
            self._processes.look()

    def _hear(self) -> None:
        heard = self._heartbeat.hear()
        if heard > self._heard:
            self._passes_beats = True
            self._alive(self._row + 1 if heard == self._heard + 1 else 1)
            self._heard = heard

    def _ask(self) -> None:
        """Keep NeuVector's dp current. Check an engine that passes no heartbeats, because nobody told it their tag, by control socket and processes."""
        try:
            if self._control:
                self._tell(self._control)
                if self._healthy:
                    with self._surviving(), contextlib.suppress(Occupied):  # in a second again
                        _followed.follow(self._records, self._control, _ANSWER, False, 0, self._dataplane.inode)
            if self._passes_beats or (self._control and _dp.returns_beats(self._control, _ANSWER, self._dataplane.inode)):
                return
            if not self._processes:
                self._processes.look()
            if not self._processes.reads():
                return
            self._alive(self._row + 1)
        except NettapError:
            self._row = 0

    def _tell(self, control: str) -> None:
        """Send a dp that was started again the configuration of the one before: such a dp answers, but has no configuration."""
        told = _dp.told(control, _ANSWER, self._dataplane.inode)
        if self._healthy:
            self._told = told
        elif told is None and self._told is not None:
            _dp.configure(self._told, control, within=self._dataplane.inode)
            self._note("the engine was told its configuration again")

    def _alive(self, row: int) -> None:
        self._heard_at = time.monotonic()
        self._row = row
        if not self._healthy and row >= _HEARD_AGAIN:
            self._processes.look()
            if self._control:
                _followed.follow(self._records, self._control, _ANSWER, True, 0, self._dataplane.inode)  # connections go on that it has not seen
            self._healthy = True
            self._say("the engine forwards again", True)
            self._next_review = time.monotonic()

    def _down(self, reason: str) -> None:
        self._healthy = False
        self._row = 0
        self._heard = self._beat  # heartbeats sent before now do not count
        self._bypass()
        self._say(reason, False)
        self._next_beat = time.monotonic()

    # --- The steered interfaces

    def _bypass(self) -> None:
        """Bypass the engine at once, without the journal's lock. Its holder can at worst add filters, and then this method is called again."""
        todo = [record for record in self._records if record.fails_open()]
        for record in todo:  # known filters are deleted first, without reading anything
            with contextlib.suppress(NettapError, OSError):
                self._bench.host.delete(self._filters.get(record.key, []))
        failures: dict[str, str] = {}
        for record in todo:
            with going_on(record, failures), self._bench.topology(record) as topology:
                topology.bypass()
        self._complain(failures)

    def _review(self) -> None:
        """Bring all steering in line with the journal and the engine's health. End this process when there is nothing left to do."""
        self._next_review = None
        failures: dict[str, str] = {}
        try:
            with self._bench.journal.locked(0):
                self._settle(failures)
                if not failures and self._idle():
                    self._end()
        except Busy:  # a task is at work: try again soon
            self._next_review = time.monotonic() + _RETRY
            with contextlib.suppress(NettapError):
                self._read({})
            if not self._healthy:
                self._bypass()
        except NettapError as error:
            failures[""] = str(error)
            if not self._healthy:
                self._bypass()
        if self._unsaid is not None:
            self._say(*self._unsaid)
        if failures:
            self._complain(failures)
            self._retry = min(2 * self._retry, _LONGEST_RETRY)
        else:
            self._complaints.clear()
            self._retry = _RETRY

    def _read(self, failures: dict[str, str]) -> list[SteeringRecord]:
        """Read the records, and return those that can be read. Keep the earlier content of a damaged one: its interface is steered as before."""
        damaged: dict[str, str] = {}
        found = self._bench.journal.records(damaged)
        self._records = found + [record for record in self._records if record.key in damaged]
        failures.update(damaged)
        return found

    def _settle(self, failures: dict[str, str]) -> None:
        """Undo the steering that is over, and bypass or resume the rest. Record an error of one in failures, and go on. The caller holds the lock."""
        over: dict[str, tuple[SteeringRecord, str]] = {}
        for record in self._read(failures):
            with going_on(record, failures):
                late = record.deadline is not None and record.deadline <= time.time()
                if late or record.status in ("applying", "restoring") or self._bench.gone(record):
                    over[record.key] = record, "not confirmed in time, undone" if late else "removed"
        try:
            self._bench.undo([record for record, dummy in over.values()])
        except NettapError as error:
            failures["undo"] = str(error)
        left = {record.key for record in self._read(failures)}
        for record, what in over.values():
            if record.key not in left:
                self._note(f"{record.where()}: {what}")
        self._filters = {}
        for record in self._records:
            if record.fails_open():
                with going_on(record, failures), self._bench.topology(record) as topology:
                    if not self._healthy:
                        topology.bypass()
                    elif not topology.steered():
                        topology.resume()
                    if isinstance(topology, InPlace):
                        self._filters[record.key] = topology.redirecting()

    def _idle(self) -> bool:
        """Return whether nothing has been steered for some seconds."""
        if self._records:
            self._empty_since = time.monotonic()
            return False
        if time.monotonic() - self._empty_since < _LINGER:
            self._next_review = self._empty_since + _LINGER
            return False
        return True

    def _end(self) -> t.NoReturn:
        """End this process while it holds the lock, so that the next task, which takes the lock, sees that it has ended."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._bench.journal.path, STATE))
        os._exit(0)  # pylint: disable=protected-access

    # --- Reports

    def _say(self, reason: str, healthy: bool) -> None:
        """Write a report for container_steering_info and for the log. Raise StorageError; then the next review writes it again."""
        path = os.path.join(self._bench.journal.path, STATE)
        self._unsaid = reason, healthy
        _files.replace_json(path, {"pid": os.getpid(), "started": _process.start_time(os.getpid()), "healthy": healthy, "reason": reason, "since": time.time()})
        self._unsaid = None
        self._note(reason)

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # such as a full disk
            sys.stdout.write(f"{time.strftime('%FT%T%z')} {self._bench.name}: {text}\n")
            sys.stdout.flush()
