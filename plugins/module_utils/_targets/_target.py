# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets: from the target options to open, verified network namespaces. Every module starts here."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fnmatch
import os
import socket
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import (
    DependencyError,
    EngineError,
    IdentityError,
    MissingError,
    NamespaceError,
    NettapError,
    TargetError,
)
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ansible_collections.nettap.containers.plugins.module_utils._system._names import names
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import RUNTIMES, _rootless
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container, Runtime, abbreviates, shows_processes
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._docker import Docker

_GLOB = "*?["
_TRIES = 5  # looks at a container that keeps restarting
Warn = t.Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Target:
    """A container (or a process or namespace that no runtime knows) and its open network namespace."""

    container: Container
    namespace: _netns.Namespace

    @property
    def host_network(self) -> bool:
        """Return whether the target shares the host's network namespace."""
        return self.namespace.host

    def describe(self) -> dict[str, t.Any]:
        """Return the fields that every module returns for a target."""
        return {
            "runtime": self.container.runtime,
            "id": self.container.id,
            "name": self.container.name,
            "image": self.container.image,
            "pod": self.container.pod,
            "labels": dict(self.container.labels),
            "pid": self.namespace.pid,
            "host_network": self.host_network,
            "netns": {"path": self.namespace.path, "inode": self.namespace.inode},
        }


@contextlib.contextmanager
def resolved(options: t.Mapping[str, t.Any], warn: Warn = lambda _text: None, coming: list[Container] | None = None) -> t.Iterator[list[Target]]:
    """Yield the targets that the options name, in the order of their names, open for the block.

    options holds the keys of _arguments._target.TARGET. warn takes a sentence about what a glob or labels may have left out.
    Where coming is given, append to it the containers that do not run now, and that their runtime will start again.
    Raise TargetError, EngineError, DependencyError or NamespaceError.
    """
    options = {**options, **{kind: names(options.get(kind)) for kind in ("container", "pod")}}
    with contextlib.ExitStack() as stack:
        targets = []
        for target in _open_all(options, warn, coming):
            stack.callback(target.namespace.close)
            targets.append(target)
        yield sorted(targets, key=lambda target: (target.container.name, target.container.id))


def selection(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options that choose containers of runtimes, as select() takes them. Raise TargetError for a target that no runtime knows."""
    if not (options.get("container") or options.get("labels") or options.get("pod")):
        raise TargetError("New containers can only be told by container, labels or pod.")
    return {**{key: names(options.get(key)) for key in ("container", "pod")}, **{key: options.get(key) for key in ("labels", "runtime", "docker_host")}}


def _open_all(options: t.Mapping[str, t.Any], warn: Warn, coming: list[Container] | None) -> t.Iterator[Target]:
    if options.get("netns") or options.get("pid"):
        try:
            yield _open_unknown(options)
        except MissingError:
            if not options["allow_missing"]:
                raise
    elif options.get("container") or options.get("labels") or options.get("pod"):
        yield from _open_containers(options, warn, coming)
    else:
        raise TargetError("No target was given: name one with container, labels, pod, pid or netns (container: '*' is every running container).")


def _open_unknown(options: t.Mapping[str, t.Any]) -> Target:
    """Open the namespace or process that the options name, which no runtime has to know. Raise NamespaceError."""
    if options.get("netns"):
        namespace = _netns.open_path(options["netns"])
        # The path is the identity: a namespace of the same name, made again, is the same target.
        return Target(Container(runtime="netns", id=options["netns"], name=options["netns"].rpartition("/")[2]), namespace)
    namespace = _netns.open_process(options["pid"])
    return Target(Container(runtime="process", id=f"{namespace.pid}-{namespace.started}", name=f"pid-{namespace.pid}", pid=options["pid"]), namespace)


def _open_containers(options: t.Mapping[str, t.Any], warn: Warn, coming: list[Container] | None) -> t.Iterator[Target]:
    wanted = options["runtime"]
    engines = [RUNTIMES[name](options.get("docker_host")) for name in RUNTIMES if wanted in ("auto", name)]
    if wanted in ("auto", "docker") and not options.get("docker_host"):
        engines += [Docker(found=address) for address in _rootless.addresses()]
    present = [engine for engine in engines if engine.present() or wanted != "auto"]
    if not present and not options["allow_missing"]:
        looked = ", ".join(f"{engine.name} at {engine.address}" for engine in engines)
        raise TargetError(f"No container engine was found on {socket.gethostname()} (looked for {looked}): install or start one, or give docker_host."
                          f"{_unprivileged()}")
    known, problems = _ask(present)
    silent = [f"The runtime {engine.name} did not answer: {problem}" for engine, problem in problems]
    try:
        # What is not found need not be missing where a runtime is silent.
        chosen = select([container for _engine, container in known], {**options, "allow_missing": options["allow_missing"] and not silent},
                        ("restarting",) if coming is not None else ())
    except TargetError as error:
        for engine, problem in problems:
            if engine.name == "docker" and options.get("docker_host"):  # the user looks for the container there
                raise problem from error
        raise TargetError(" ".join([str(error), *silent])) from error
    if not all(chosen.values()):
        for words in silent:
            warn(f"{words} Its containers are left out.")
    opened, skipped = 0, []
    for engine, container in known:
        named = chosen.get((container.runtime, container.id))
        if named is not None:
            try:
                target = _open_container(engine, container, named, coming)
            except (EngineError, NamespaceError) as error:
                if named:
                    raise
                skipped.append((container, error))
                continue
            if target is not None:
                opened += 1
                yield target
    if skipped and not opened:
        raise skipped[0][1]
    for container, problem in skipped:
        warn(f"Container {container.name} ({container.runtime}) is left out: {problem}")


def _ask(engines: t.Sequence[Runtime]) -> tuple[list[tuple[Runtime, Container]], list[tuple[Runtime, NettapError]]]:
    """Return all containers, and each runtime that did not answer with its error. Raise the first one's error if none answers."""
    known: list[tuple[Runtime, Container]] = []
    problems: list[tuple[Runtime, NettapError]] = []
    for engine in engines:
        try:
            known += [(engine, container) for container in engine.containers()]
        except (EngineError, DependencyError) as error:
            problems.append((engine, error))
    if problems and len(problems) == len(engines):
        raise problems[0][1]
    return _unique(known), problems


def _unique(known: t.Sequence[tuple[Runtime, Container]]) -> list[tuple[Runtime, Container]]:
    """Return each ID once: a runtime may be found in two ways (Podman also over a Docker socket).

    Containers that only a user's own files describe come last, so that no user hides another's container by claiming its ID.
    """
    found: dict[str, tuple[Runtime, Container]] = {}
    for entry in sorted(known, key=lambda entry: entry[1].told_by_user):
        found.setdefault(entry[1].id, entry)
    return list(found.values())


def _open_container(engine: Runtime, container: Container, named: bool, coming: list[Container] | None = None) -> Target | None:
    """Open one container. If it stops between look-up and entry, raise TargetError if it was named, else return None: it does not run.
    Where coming is given, append it there instead if its runtime will start it again.

    Raise EngineError, NamespaceError.
    """
    problem: NamespaceError | None = None
    for _try in range(_TRIES):
        found = engine.inspect(container)
        try:
            if found is None or not found.running:
                raise NamespaceError("it is not running any more.")
            return Target(found, _netns.open_bound(found.bound) if found.bound else _netns.open_process(found.pid, found.identity))
        except NamespaceError as error:
            problem = error if found is None or shows_processes(found.handler) else NamespaceError(_hidden(found))
            again = engine.inspect(container)
            if again is not None and again.coming and coming is not None:
                coming.append(again)
                return None
            if again is None or not again.running:
                break
            # The container runs, and yet cannot be entered. The user must learn of that, unless only another user's files claim the container.
            if found is not None and again.pid == found.pid and again.bound == found.bound and (named or not container.told_by_user):
                if problem is error and isinstance(error, (MissingError, IdentityError)) and not found.bound:
                    problem = _elsewhere(engine, found, error)
                raise problem from None
    if named:
        raise TargetError(f"Container {container.name} ({engine.name}) stopped between look-up and entry ({problem}): "
                          "start it, then run the task again.") from problem
    return None


def _elsewhere(engine: Runtime, container: Container, error: NamespaceError) -> NamespaceError:
    """Return the error for a container of which its engine names a process that is not there, or another's."""
    return NamespaceError(f"Container {container.name} runs, as {engine.name} tells, but process {container.pid} of this host is not the container's "
                          f"({str(error).partition(':')[0].rstrip('.')}): the engine runs on another host, or in a PID namespace of its own (Docker in Docker, "
                          "kind). Run the task where the engine runs, or name a process of the container's on this host with pid.")


def select(containers: t.Sequence[Container], options: t.Mapping[str, t.Any], coming: t.Collection[str] = ()) -> dict[tuple[str, str], bool]:
    """Return the containers that the options choose: (runtime, id) to whether it was named (not only matched by a glob or labels).
    Include those that do not run, but are in one of the states coming.

    This function is pure. options are as in resolved(). Raise TargetError with the name looked for, the host, and the nearest names.
    """
    # Labels are text in every runtime. YAML may have made a boolean or a number of one.
    labels = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in (options.get("labels") or {}).items()}
    chosen: dict[tuple[str, str], bool] = {}
    pods = options.get("pod")
    for pattern in pods or options.get("container") or ["*"]:
        matches, named = _match_pod(pattern, containers) if pods else _match(pattern, containers)
        matches = [container for container in matches if all(container.labels.get(key) == value for key, value in labels.items())]
        running = [container for container in matches if container.running or container.state in coming]
        if pods and pattern.count("/") == 1:
            running = _holders(running)
        if not running and not options.get("allow_missing"):
            raise TargetError(_nothing(pattern, labels, containers, matches, bool(pods)))
        for container in running:
            key = (container.runtime, container.id)
            chosen[key] = chosen.get(key, False) or named
    return chosen


def _match(pattern: str, containers: t.Sequence[Container]) -> tuple[list[Container], bool]:
    """Return the containers that match a pattern, and whether it names them: by name, else by ID, else by unique ID prefix, else by glob.

    Runtimes follow this order, too. Containers that only a user's own files describe are looked at last, because a user
    may give a container the name of another user's. Raise TargetError for a prefix of several IDs.
    """
    trusted = [container for container in containers if not container.told_by_user]
    for some in (trusted, containers):
        for naming in ("name", "id"):
            exact = [container for container in some if getattr(container, naming) == pattern]
            if exact:
                return exact, True
    for some in (trusted, containers):
        prefixed = [container for container in some if abbreviates(pattern, container.id)]
        if len(prefixed) > 1:
            several = ", ".join(f"{container.name} ({container.id[:12]})" for container in prefixed)
            raise TargetError(f"{pattern!r} is the start of several containers' IDs: {several}; give more digits, or the name.")
        if prefixed:
            return prefixed, True
    if any(character in pattern for character in _GLOB):
        # A glob does not mean a sandbox: its network is that of the other containers of its pod.
        return [container for container in containers if fnmatch.fnmatchcase(container.name, pattern) and not container.sandbox], False
    return [], True


def _match_pod(pattern: str, containers: t.Sequence[Container]) -> tuple[list[Container], bool]:
    """Return the containers that match NAMESPACE/NAME (all of a pod) or NAMESPACE/NAME/CONTAINER (one of it), and whether it has no glob.

    Each part may be a glob. A pod that only a user's own files describe does not join another pod of that name. Raise TargetError.
    """
    parts = pattern.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise TargetError(f"{pattern!r} names no pod: give NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER.")
    real = {container.pod for container in containers if not container.told_by_user}
    found = []
    for container in containers:
        known = [*container.pod.split("/"), container.pod_container or ""] if container.pod else []
        claimed = container.told_by_user and container.pod in real
        if known and not claimed and all(fnmatch.fnmatchcase(*pair) for pair in zip(known, parts)) and not (len(parts) == 3 and container.sandbox):
            found.append(container)
    return found, not any(character in pattern for character in _GLOB)


def _holders(running: t.Sequence[Container]) -> list[Container]:
    """Return one container of each pod, whose namespace is that of all its containers.

    This is the pod's sandbox, which stays when others restart. Where it cannot be opened, it is another container.
    """
    found: dict[tuple[str, str | None], Container] = {}
    for container in sorted(running, key=lambda container: (not container.sandbox, container.name, container.id)):
        found.setdefault((container.runtime, container.pod), container)
    return list(found.values())


def _nothing(pattern: str, labels: t.Mapping[str, str], containers: t.Sequence[Container], stopped: t.Sequence[Container], pods: bool = False) -> str:
    host = socket.gethostname()
    kind = "pod" if pods else "container"
    hidden = [container for container in stopped if not shows_processes(container.handler)]
    if hidden:
        return _hidden(hidden[0])
    if stopped:
        several = ", ".join(f"{container.name} ({container.runtime}) is {container.state}" for container in stopped[:5])
        return f"No running {kind} on {host} matches {pattern!r}: {several}; start it first."
    looked = f"{pattern!r}" + (f" with labels {', '.join(f'{key}={value}' for key, value in labels.items())}" if labels else "")
    running = sorted({(container.pod if pods else container.name) or "" for container in containers if container.running} - {""})
    near = difflib.get_close_matches(pattern, running, n=3, cutoff=0.5) or running[:5]
    hint = f"the nearest of {len(running)} running: {', '.join(near)}" if near else f"no {kind} runs there"
    return f"No {kind} on {host} matches {looked} ({hint}).{_unprivileged()}"


def _hidden(container: Container) -> str:
    """Return the sentence for a container of which the host sees no process, perhaps because its OCI runtime gives it a kernel of its own."""
    remedy = (f"name its pod (pod: {container.pod}), whose network namespace is the host's to see" if container.pod and not container.sandbox else
              "name the network namespace that it uses (netns), or a process in it (pid), such as that of its virtual machine")
    return (f"{container.name} ({container.runtime}) has no process on {socket.gethostname()} that can be shown to be its own. "
            f"Its OCI runtime, {container.handler}, may run it in a virtual machine or under a kernel of its own: {remedy}.")


def _unprivileged() -> str:
    """Return a hint at missing root rights for a user whose look-up found nothing; "" for root."""
    return " Only root sees the containers of Podman, containerd and CRI-O: use become: true." if os.geteuid() else ""
