# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers the target options choose, and what is said when they choose none."""

from __future__ import annotations

import dataclasses
import os
import socket
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, EngineError, NamespaceError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import RUNTIMES, _docker
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container


def container(name: str, start: str, runtime: str = "docker", state: str = "running", **labels: str) -> Container:
    return Container(runtime=runtime, id=start + "0" * (64 - len(start)), name=name, labels=labels, state=state)


WEB1 = container("web-1", "abc1", app="shop", tier="front")
WEB2 = container("web-2", "abc2", app="shop", tier="front", ready="true", replicas="2")
DB = container("db", "def3", app="shop", tier="back")
HEX = container("abc", "0124", app="other")  # its name could be the start of an ID
PAUSED = container("paused", "0123", state="paused")
OLD = container("web-old", "fff0", state="exited", app="shop")
NEW = container("web-new", "fff1", state="created")
GLOB = container("a[b]", "9999")
ALL = [WEB1, WEB2, DB, HEX, PAUSED, OLD, NEW, GLOB]
HOST = socket.gethostname()


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        # by name: named, so a container that then stops is an error
        ({"container": ["web-1"]}, {"web-1": True}),
        ({"container": ["db", "web-1"]}, {"db": True, "web-1": True}),
        ({"container": ["web-1", "web-1"]}, {"web-1": True}),
        ({"container": ["paused"]}, {"paused": True}),
        ({"container": ["a[b]"]}, {"a[b]": True}),
        # by ID and the unique start of one
        ({"container": [WEB2.id]}, {"web-2": True}),
        ({"container": ["abc2"]}, {"web-2": True}),
        ({"container": ["d"]}, {"db": True}),
        ({"container": ["def300"]}, {"db": True}),
        ({"container": ["0123"]}, {"paused": True}),
        # a name comes before the start of an ID, as engines have it
        ({"container": ["abc"]}, {"abc": True}),
        # by glob: not named
        ({"container": ["web-*"]}, {"web-1": False, "web-2": False}),
        ({"container": ["web-?"]}, {"web-1": False, "web-2": False}),
        ({"container": ["web-[13]"]}, {"web-1": False}),
        ({"container": ["*"]}, {"web-1": False, "web-2": False, "db": False, "abc": False, "paused": False, "a[b]": False}),
        ({"container": ["web-*", "web-1"]}, {"web-1": True, "web-2": False}),
        ({"container": ["web-1", "*-1"]}, {"web-1": True}),
        # by labels: all of them must match
        ({"labels": {"app": "shop"}}, {"web-1": False, "web-2": False, "db": False}),
        ({"labels": {"app": "shop", "tier": "back"}}, {"db": False}),
        ({"container": ["web-*"], "labels": {"ready": "true"}}, {"web-2": False}),
        ({"container": ["web-2"], "labels": {"app": "shop"}}, {"web-2": True}),
        # YAML makes true and 2 of what Docker keeps as text
        ({"labels": {"ready": True}}, {"web-2": False}),
        ({"labels": {"replicas": 2}}, {"web-2": False}),
        # nothing found, and that is all right
        ({"container": ["nope"], "allow_missing": True}, {}),
        ({"container": ["nope", "db"], "allow_missing": True}, {"db": True}),
        ({"container": ["web-old"], "allow_missing": True}, {}),
        ({"labels": {"app": "none"}, "allow_missing": True}, {}),
        ({"container": [""], "allow_missing": True}, {}),
    ],
)
def test_select(options: dict[str, t.Any], chosen: dict[str, bool]) -> None:
    found = _target.select(ALL, options)
    assert {(known.runtime, known.id): named for name, named in chosen.items() for known in ALL if known.name == name} == found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"container": ["wep-1"]}, [f"No container on {HOST} matches 'wep-1'", "the nearest of 6 running: web-1, web-2"]),
        ({"container": ["zzzzzzzz"]}, ["of 6 running: a[b], abc, db, paused, web-1)"]),
        ({"container": ["db", "nope"]}, ["matches 'nope'"]),
        ({"container": ["nope-*"]}, ["matches 'nope-*'"]),
        ({"container": ["WEB-1"]}, ["matches 'WEB-1'"]),
        ({"container": [""]}, ["matches ''"]),
        ({"container": ["web-old"]}, [f"No running container on {HOST} matches 'web-old': web-old (docker) is exited; start it first."]),
        ({"container": ["web-[on]*"]}, ["web-old (docker) is exited, web-new (docker) is created; start it first."]),
        ({"container": ["fff0"]}, ["web-old (docker) is exited"]),
        ({"container": ["web-1"], "labels": {"app": "blog"}}, ["matches 'web-1' with labels app=blog"]),
        ({"labels": {"app": "blog", "x": True}}, ["matches '*' with labels app=blog, x=true"]),
        ({"labels": {"app": "SHOP"}}, ["app=SHOP"]),
        ({"container": ["abc1", "fff"]},
         ["'fff' is the start of several containers' IDs: web-old (fff000000000), web-new (fff100000000); give more digits, or the name."]),
        ({"container": ["012"], "allow_missing": True}, ["'012' is the start of several"]),
    ],
)
def test_select_finds_nothing(options: dict[str, t.Any], words: list[str]) -> None:
    with pytest.raises(TargetError) as caught:
        _target.select(ALL, options)
    for part in words:
        assert part in str(caught.value)
    assert str(caught.value).endswith((".", "first."))


def test_select_where_nothing_runs() -> None:
    for containers in ([], [OLD]):
        with pytest.raises(TargetError, match=r"matches 'x' \(no container runs there\)\.$"):
            _target.select(containers, {"container": ["x"]})
    with pytest.raises(TargetError, match="no container runs there"):
        _target.select([], {"container": ["*"]})


def test_select_keeps_engines_apart() -> None:
    """The same name, and even the same ID, in two engines are two containers."""
    twin = container("web-1", "abc1", runtime="podman")
    chosen = _target.select([WEB1, twin], {"container": ["web-1"]})
    assert chosen == {("docker", WEB1.id): True, ("podman", WEB1.id): True}


def test_nobody_hides_another_s_container() -> None:
    """What a user's Podman tells is the user's to write, an ID too; and of two ways to one engine one is enough."""
    fake = dataclasses.replace(WEB1, runtime="podman", identity=Identity(WEB1.id, owner=1000))
    twin = dataclasses.replace(WEB1, runtime="podman")
    engine = FakeEngine(None)
    for given in ([fake, WEB1, DB], [WEB1, fake, DB], [WEB1, twin, DB]):
        assert [one for _engine, one in _target._unique([(engine, one) for one in given])] == [WEB1, DB]


def test_nobody_hides_another_s_container_by_its_name() -> None:
    """A user's container that is named as another's, or as its ID is, is not the one that is meant, nor is one of two."""
    mine = Identity("e" * 64, owner=1000)
    for name in (WEB1.name, WEB1.id):
        fake = dataclasses.replace(container(name, "eee", runtime="podman"), identity=mine)
        for given in ([fake, WEB1, DB], [WEB1, DB, fake]):
            assert _target.select(given, {"container": [name]}) == {("docker", WEB1.id): True}
            assert _target.select(given, {"container": ["eee"]}) == {("podman", fake.id): True}
    start = dataclasses.replace(container("x", "abc1f", runtime="podman"), identity=mine)
    assert _target.select([start, WEB1], {"container": ["abc1"]}) == {("docker", WEB1.id): True}
    joined = dataclasses.replace(container("x", "eee", runtime="podman"), identity=mine, pod=SANDBOX.pod, pod_container="app")
    for pod, chosen in ((SANDBOX.pod, SANDBOX), (APP.name, APP)):
        assert _target.select([joined, SANDBOX, APP], {"pod": [pod]}) == {("containerd", chosen.id): True}
    assert _target.select([joined], {"pod": [SANDBOX.pod]}) == {("podman", joined.id): True}


def test_somebody_s_own_id_is_a_name() -> None:
    """containerd's IDs are chosen: web is no abbreviation of web-admin."""
    admin = Container("containerd", "web-admin", "web-admin")
    assert _target.select([admin], {"container": ["web"], "allow_missing": True}) == {}
    assert _target.select([admin, Container("containerd", "web", "web")], {"container": ["web"]}) == {("containerd", "web"): True}


# --- pods

SANDBOX = Container("containerd", "5a" * 32, "shop/web-1", pod="shop/web-1", sandbox=True)
APP = Container("containerd", "a0" * 32, "shop/web-1/app", pod="shop/web-1", pod_container="app", labels={"app": "web"})
LOG = Container("containerd", "a1" * 32, "shop/web-1/log", pod="shop/web-1", pod_container="log")
LOG_BEFORE = Container("containerd", "a2" * 32, "shop/web-1/log", pod="shop/web-1", pod_container="log", state="exited")
BARE = Container("crio", "b0" * 32, "shop/web-2/app", pod="shop/web-2", pod_container="app")
BARE_TOO = Container("crio", "b1" * 32, "shop/web-2/log", pod="shop/web-2", pod_container="log")
ENDED = Container("crio", "c0" * 32, "dev/job/app", pod="dev/job", pod_container="app", state="exited")
NODE = [WEB1, APP, LOG_BEFORE, LOG, SANDBOX, BARE_TOO, BARE, ENDED]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"pod": ["shop/web-1"]}, {SANDBOX.id: True}),
        ({"pod": ["shop/web-2"]}, {BARE.id: True}),
        ({"pod": ["shop/web-*"]}, {SANDBOX.id: False, BARE.id: False}),
        ({"pod": ["*/*"]}, {SANDBOX.id: False, BARE.id: False}),
        ({"pod": ["shop/web-1", "shop/web-2"]}, {SANDBOX.id: True, BARE.id: True}),
        ({"pod": ["shop/web-1/app"]}, {APP.id: True}),
        ({"pod": ["shop/web-1/log"]}, {LOG.id: True}),
        ({"pod": ["shop/*/log"]}, {LOG.id: False, BARE_TOO.id: False}),
        ({"pod": ["shop/web-1/*"]}, {APP.id: False, LOG.id: False}),
        ({"pod": ["shop/web-1/*"], "labels": {"app": "web"}}, {APP.id: False}),
        ({"pod": ["dev/job"], "allow_missing": True}, {}),
        ({"pod": ["web-1/app"], "allow_missing": True}, {}),
        # The sandbox is nobody's container, unless it is named.
        ({"container": ["shop/*"]}, {APP.id: False, LOG.id: False, BARE.id: False, BARE_TOO.id: False}),
        ({"container": ["shop/web-1"]}, {SANDBOX.id: True}),
        ({"container": ["5a5a"]}, {SANDBOX.id: True}),
        ({"container": ["shop/web-1/app"]}, {APP.id: True}),
    ],
)
def test_select_pods(options: dict[str, t.Any], chosen: dict[str, bool]) -> None:
    assert {name: named for (_runtime, name), named in _target.select(NODE, options).items()} == chosen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pod": ["shop/web-9"]}, f"No pod on {HOST} matches 'shop/web-9' (the nearest of 2 running: shop/web-2, shop/web-1)."),
        ({"pod": ["shop/web-1/none"]}, f"No pod on {HOST} matches 'shop/web-1/none' (the nearest of 2 running: shop/web-1, shop/web-2)."),
        ({"pod": ["dev/job"]}, f"No running pod on {HOST} matches 'dev/job': dev/job/app (crio) is exited; start it first."),
        ({"pod": ["web-1"], "allow_missing": True}, "'web-1' names no pod: give NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER."),
        ({"pod": ["shop/"], "allow_missing": True}, "'shop/' names no pod: give NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER."),
    ],
)
def test_select_finds_no_pod(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(TargetError) as caught:
        _target.select(NODE, options)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("state", "running"),
    [("running", True), ("paused", True), ("exited", False), ("created", False), ("restarting", False), ("dead", False)],
)
def test_running(state: str, running: bool) -> None:
    assert container("x", "1", state=state).running is running


@pytest.mark.parametrize(("kind", "value"), [("container", []), ("container", None), ("labels", {}), ("netns", ""), ("pid", None)])
def test_no_target(kind: str, value: object) -> None:
    """An empty list, from a variable say, must not become every container."""
    with pytest.raises(TargetError, match="No target was given"), _target.resolved({"runtime": "auto", "allow_missing": False, kind: value}):
        pass


# --- engines

class FakeEngine:
    """An engine with no connection; `there` is whether the host seems to have it."""

    name = "fake"
    there = True
    known: t.Sequence[Container] = ()

    def __init__(self, docker_host: str | None) -> None:
        self.address = docker_host or "unix:///fake.sock"

    def present(self) -> bool:
        return self.there

    def containers(self) -> list[Container]:
        if not self.there:
            raise EngineError(f"{self.name} is not there.")
        return list(self.known)

    def inspect(self, container: Container) -> Container | None:
        return container

    def signs(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("there", "options", "words"),
    [
        (False, {}, f"No container engine was found on {HOST} (looked for fake at unix:///fake.sock): install or start one, or give docker_host."),
        (False, {"docker_host": "unix:///mine.sock"}, "looked for fake at unix:///mine.sock"),
        (False, {"runtime": "fake"}, "fake is not there."),
        (False, {"runtime": "fake", "allow_missing": True}, "fake is not there."),
        (False, {"allow_missing": True}, None),
        (True, {"allow_missing": True}, None),
        (True, {}, f"No container on {HOST} matches 'web-1' (no container runs there)."),
    ],
)
def test_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch, there: bool, options: dict[str, t.Any], words: str | None) -> None:
    monkeypatch.setattr(_target, "RUNTIMES", {"fake": FakeEngine})
    monkeypatch.setattr(FakeEngine, "there", there)
    options = {"runtime": "auto", "allow_missing": False, "container": ["web-1"], **options}
    if words is None:
        with _target.resolved(options) as targets:
            assert targets == []
    else:
        with pytest.raises((TargetError, EngineError)) as caught, _target.resolved(options):
            pass
        assert words in str(caught.value)


def engines(monkeypatch: pytest.MonkeyPatch, **answers: t.Any) -> None:
    """Have engines that are there, each with the containers it knows, or with the error that it answers."""

    class Answering(FakeEngine):
        def __init__(self, name: str, answer: t.Any) -> None:
            super().__init__(None)
            self.name, self.answer = name, answer

        def containers(self) -> list[Container]:
            if isinstance(self.answer, Exception):
                raise self.answer
            return list(self.answer)

        def inspect(self, container: Container) -> Container | None:
            if container.labels.get("broken"):
                raise EngineError(f"{self.name} answered with an error.")
            return container

    monkeypatch.setattr(_target, "RUNTIMES", {name: lambda _host, name=name, answer=answer: Answering(name, answer) for name, answer in answers.items()})
    monkeypatch.setattr(_netns, "open_process", lambda *_arguments: _netns.Namespace(os.open("/proc/self/ns/net", os.O_RDONLY), "x"))


def opened(**options: t.Any) -> tuple[list[str], list[str]]:
    """The names of the targets, and the warnings."""
    warnings: list[str] = []
    with _target.resolved({"runtime": "auto", "allow_missing": False, **options}, warnings.append) as targets:
        return [target.container.name for target in targets], warnings


SILENT = [EngineError("Docker at unix:///x does not answer."), DependencyError("The Docker SDK for Python is missing on the host.")]


@pytest.mark.parametrize("error", SILENT)
def test_runtime_that_is_silent(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The others are asked. What is not found may be the silent one's, and then that is what has to be known."""
    words = f"The runtime docker did not answer: {error}"
    engines(monkeypatch, docker=error, podman=[WEB1, WEB2], crio=[DB])
    assert opened(container=["db", "web-1"]) == (["db", "web-1"], [])
    for options in ({"container": ["web-*"]}, {"container": ["web-1", "web-*"]}, {"labels": {"tier": "front"}}):
        assert opened(**options)[1] == [f"{words} Its containers are left out."]
    for allow in (False, True):
        with pytest.raises(TargetError) as caught:
            opened(container=["db", "nope"], allow_missing=allow)
        assert str(caught.value).startswith(f"No container on {HOST} matches 'nope' (") and str(caught.value).endswith(f". {words}")


@pytest.mark.parametrize("error", SILENT)
def test_no_runtime_answers(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The first one's reason is told: with runtime, too, one alone is asked."""
    engines(monkeypatch, docker=error, podman=EngineError("Podman's database cannot be read."))
    for runtime in ("auto", "docker"):
        with pytest.raises(type(error)) as caught:
            opened(container=["web-1"], runtime=runtime)
        assert caught.value is error


BROKEN = dataclasses.replace(DB, name="web-3", labels={"app": "shop", "broken": "1"})


@pytest.mark.parametrize("options", [{"container": ["web-*"]}, {"labels": {"app": "shop"}}, {"container": ["web-1", "web-*"]}, {"container": ["*"]}])
def test_container_that_cannot_be_inspected(monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]) -> None:
    engines(monkeypatch, docker=[WEB1, BROKEN, WEB2])
    assert opened(**options) == (["web-1", "web-2"], ["Container web-3 (docker) is left out: docker answered with an error."])


@pytest.mark.parametrize("options", [{"container": ["web-3"]}, {"container": ["web-*", "web-3"]}, {"container": [DB.id]}, {"container": ["web-[34]"]}])
def test_container_that_cannot_be_inspected_and_is_wanted(monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]) -> None:
    """It is named, or nothing else is left."""
    engines(monkeypatch, docker=[WEB1, BROKEN, WEB2])
    for allow in (False, True):
        with pytest.raises(EngineError, match=r"docker answered with an error\."):
            opened(**options, allow_missing=allow)


@pytest.mark.parametrize("kind", ["container", "pod"])
@pytest.mark.parametrize("typed", [["web-1", " db"], ["web-1\ndb"], ["web-1 db", ""]])
def test_names_that_somebody_typed(monkeypatch: pytest.MonkeyPatch, kind: str, typed: list[str]) -> None:
    """Ansible splits one text at its commas only."""
    asked: list[t.Any] = []

    def open_all(options: t.Mapping[str, t.Any], *_others: object) -> t.Iterator[_target.Target]:
        asked.append(options[kind])
        return iter(())

    monkeypatch.setattr(_target, "_open_all", open_all)
    with _target.resolved({"runtime": "auto", "allow_missing": False, kind: typed}):
        assert asked == [["web-1", "db"]]


@pytest.mark.parametrize(("owner", "named", "words"), [(1000, False, None), (1000, True, "doubtful"), (None, False, "doubtful")])
def test_container_that_runs_and_cannot_be_entered(monkeypatch: pytest.MonkeyPatch, owner: int | None, named: bool, words: str | None) -> None:
    """That is an error, unless nobody but a user has told of it: a claim must not spoil everybody's glob."""
    claimed = dataclasses.replace(WEB1, pid=1, identity=Identity(WEB1.id, owner=owner))

    def refuse(*_arguments: object) -> None:
        raise NamespaceError("doubtful")

    monkeypatch.setattr(_netns, "open_process", refuse)
    if words is None:
        assert _target._open_container(FakeEngine(None), claimed, named) is None
    else:
        with pytest.raises(NamespaceError, match=words):
            _target._open_container(FakeEngine(None), claimed, named)


@pytest.mark.parametrize("handler", ["io.containerd.kata.v2", "runsc"])
def test_container_without_a_process_on_the_host(monkeypatch: pytest.MonkeyPatch, handler: str) -> None:
    """Whether its runtime knows of no process, or of one that is not the container's: its OCI runtime is named, and what can be done."""
    remedies = {"shop/vm": "name its pod (pod: shop/vm), whose network namespace is the host's to see.", None: "name the network namespace that it uses"}
    for pod, remedy in remedies.items():
        hidden = dataclasses.replace(WEB1, pod=pod, pod_container="app", state="created", handler=handler)
        with pytest.raises(TargetError) as caught:
            _target.select([hidden], {"container": ["web-1"]})
        words = f"web-1 (docker) has no process on {HOST} that can be shown to be its own. Its OCI runtime, {handler}, may run it in a virtual machine"
        assert str(caught.value).startswith(words) and remedy in str(caught.value)

        def refuse(*_arguments: object) -> None:
            raise NamespaceError("its cgroup names another")

        monkeypatch.setattr(_netns, "open_process", refuse)
        with pytest.raises(NamespaceError) as refused:
            _target._open_container(FakeEngine(None), dataclasses.replace(hidden, state="running", pid=1), True)
        assert str(refused.value).startswith(words) and remedy in str(refused.value)


def test_container_that_keeps_restarting(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(None)
    pids = iter(range(1, 1000))
    monkeypatch.setattr(engine, "inspect", lambda one: dataclasses.replace(one, pid=next(pids)))

    def refuse(*_arguments: object) -> None:
        raise NamespaceError("ended.")

    monkeypatch.setattr(_netns, "open_process", refuse)
    with pytest.raises(TargetError, match=r"Container web-1 \(fake\) stopped between look-up and entry \(ended\.\)"):
        _target._open_container(engine, WEB1, True)
    assert _target._open_container(engine, WEB1, False) is None


def test_becoming_root_that_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TargetError, match="use become: true"):
        _target.select([WEB1], {"container": ["x"]})


@pytest.mark.parametrize(
    ("argument", "environment", "address", "present"),
    [
        (None, None, "unix:///var/run/docker.sock", None),
        (None, "tcp://other:2376", "tcp://other:2376", True),
        ("unix:///x.sock", "tcp://other:2376", "unix:///x.sock", True),
        ("", "", "unix:///var/run/docker.sock", None),
    ],
)
def test_address_of_docker(monkeypatch: pytest.MonkeyPatch, argument: str | None, environment: str | None, address: str, present: bool | None) -> None:
    """The option before DOCKER_HOST before the default, which alone is looked for."""
    if environment is None:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
    else:
        monkeypatch.setenv("DOCKER_HOST", environment)
    engine = _docker.Docker(argument)
    assert engine.address == address
    for there in (True, False):
        monkeypatch.setattr(os.path, "exists", lambda path, there=there: {"/var/run/docker.sock": there}[path])
        monkeypatch.setattr(os.path, "realpath", lambda path: path)
        assert engine.present() is (there if present is None else present)
    assert set(RUNTIMES) == {"docker", "podman", "containerd", "crio", "lxc", "incus", "nspawn"}


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"Names": ["/web"]}, "web"),
        ({"Names": ["/other/alias", "/web"]}, "web"),
        ({"Names": []}, "abc100000000"),
        ({"Names": None}, "abc100000000"),
    ],
)
def test_container_as_docker_lists_it(monkeypatch: pytest.MonkeyPatch, item: dict[str, t.Any], name: str) -> None:
    """A container that others --link to has their names for it too; one that is being removed may have none."""
    listed = {"Id": WEB1.id, "Image": "i:1", "Labels": None, "State": "running", **item}
    engine = _docker.Docker("unix:///x")
    monkeypatch.setattr(engine, "_ask", lambda _question: [listed])
    assert engine.containers() == [Container(runtime="docker", id=WEB1.id, name=name, image="i:1", labels={}, state="running", docker_host="unix:///x")]
