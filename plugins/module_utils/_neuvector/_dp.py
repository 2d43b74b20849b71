# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a running NeuVector dp, and the proof that dp has taken it.

dp does not return its configuration. So the configuration that was sent is recorded, and compared with what can be read:
whether dp knows each workload, how many rules are in force and, from the kernel, whether dp listens on the service
link. Where these differ from the record, the whole configuration is sent again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._sockets import Sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _joining, _link, _refusal, _sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _policy as model
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._record import DataplaneRecord, Store, sweep
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._session import SOCKET, NotRunning, Session


@dataclasses.dataclass
class ConfigurationOutcome:
    """The result of a change (in check mode: of a planned one).

    reason is one sentence that says why something was changed, None where nothing was. before and after are configurations (the keys
    of _policy.EMPTY, and in_force). statistics are dp's figures. pid is None where no dp runs.
    """

    reason: str | None
    before: dict[str, t.Any]
    after: dict[str, t.Any]
    pid: int | None = None
    statistics: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Return whether anything was changed."""
        return self.reason is not None


Users = t.Callable[[int], t.Mapping[str, str]]  # from a network namespace's inode number to the steered interfaces: their names, by their MACs


def alive(path: str = SOCKET, timeout: float = 10, within: int | None = None) -> int:
    """Return the PID of the dp that answers at path within timeout seconds. Raise NotRunning when there is none, DataplaneError when it does not answer.

    Here and below, within is the inode number of the network namespace in which dp must be, None for any.
    """
    with Session(path, timeout, within) as session:
        return session.namespace.pid or 0


def told(path: str = SOCKET, timeout: float = 10, within: int | None = None) -> model.Config | None:
    """Return the recorded configuration of the dp that answers at path, None if it is empty or not sure. Raise DataplaneError."""
    with Session(path, timeout, within) as session:
        record = _store(session).load()
        return record.config if record.sure and record.config != model.EMPTY else None


def returns_beats(path: str = SOCKET, timeout: float = 10, within: int | None = None) -> bool:
    """Return whether the dp that answers at path was told the workload of the heartbeats. Raise DataplaneError."""
    with Session(path, timeout, within) as session:
        record = _store(session).load()
        return record.sure and protocol.BEAT_MAC in record.macs


def statistics(path: str = SOCKET, timeout: float = 10, sessions: bool = False, within: int | None = None) -> dict[str, t.Any]:
    """Return dp's pid and its present figures, and with sessions also a list of all sessions (session_list). Raise DataplaneError."""
    with Session(path, timeout, within) as session:
        told = {"pid": session.namespace.pid, **_statistics(session, _store(session).load().config)}
        if sessions:
            bodies = session.ask(protocol.list_session(), protocol.SESSION_LIST)
            told["session_list"] = [one for body in bodies for one in protocol.parse_sessions(body)]
        return told


def configure(options: t.Mapping[str, t.Any], path: str = SOCKET, timeout: float = 10, check: bool = False, *, within: int | None = None,
              join: bool = False, users: Users | None = None) -> ConfigurationOutcome:
    """Bring dp to its recorded configuration with these options in place of its own. Options that are missing or None stay as they are.

    options are those of _policy.EMPTY. timeout is the time that dp has for each batch, in seconds. With check, dp is
    queried but not configured. With join, workloads that the options do not name stay, with their rules. A configuration that would cut off
    the users, whose packets go through dp, is refused. Raise DataplaneError.
    """
    with Session(path, timeout, within) as session, _held(session, check) as store:
        record = store.load()
        config = model.merged(record.config, _joining.joined(record.config, options) if join else options)
        _refusal.outside(config)
        if users and not check:  # in check mode, an earlier task that undoes the steering has not done so
            _refusal.cut_off(record.config, config, users(session.namespace.inode))
        return Change(session, record, config, timeout).reach(store, check)


def withdraw(macs: list[str] | None, path: str = SOCKET, timeout: float = 10, check: bool = False, *, within: int | None = None,
             users: Users | None = None) -> ConfigurationOutcome:
    """Remove these workloads (None: everything) from dp's configuration, unless they are users'. Where no dp runs, remove its record. Raise DataplaneError."""
    try:
        with Session(path, timeout, within) as session, _held(session, check) as store:
            record = store.load()
            config = dict(model.EMPTY) if macs is None else _without(record.config, {mac.lower() for mac in macs})
            if users and not check:
                _refusal.cut_off(record.config, config, _taken(users(session.namespace.inode), macs))
            # dp must forget them even if they are not in the record.
            record.macs = sorted({*record.macs, *(mac.lower() for mac in macs or [])})
            return Change(session, record, config, timeout).reach(store, check)
    except NotRunning:
        if not check:
            sweep()
        return ConfigurationOutcome(None, {}, {})


def _taken(users: t.Mapping[str, str], macs: list[str] | None) -> dict[str, str]:
    """Return those of the users whose workloads are to be removed; another one may never have been configured here."""
    return {mac: where for mac, where in users.items() if macs is None or mac in {one.lower() for one in macs}}


def _store(session: Session) -> Store:
    return Store(session.namespace.pid, session.namespace.started)


@contextlib.contextmanager
def _held(session: Session, check: bool) -> t.Iterator[Store]:
    store = _store(session)
    with contextlib.nullcontext() if check else store.locked():
        yield store


def _without(config: model.Config, gone: set[str]) -> model.Config:
    rules = []
    for rule in config["policy"]:
        left = [mac for mac in rule["workloads"] if mac not in gone]
        if left or not rule["workloads"]:  # a rule that was only for withdrawn workloads would become one for all
            rules.append({**rule, "workloads": left})
    return {**config, "workloads": [one for one in config["workloads"] if one["mac"] not in gone], "policy": rules}


class Change:
    """The change of one dp from its recorded configuration to a new one."""

    def __init__(self, session: Session, record: DataplaneRecord, config: model.Config, timeout: float, found: t.Mapping[str, Sockets] | None = None) -> None:
        self._session, self._record, self._timeout = session, record, timeout
        self._config = config
        self._ifindex, mtu = _link.find(session.namespace, config["service_port"])
        self._jumbo = _link.jumbo(config["service_port"], mtu, config["jumbo_frames"])
        before = _sockets.load(record.sockets)
        self._sockets = {mac: one for mac, one in (before if found is None else found).items() if mac in model.members(config)}
        # An older release told nothing of the heartbeats' workload.
        own = [one["mac"] for one in record.config["workloads"]]
        self._old = {mac: one for mac, one in model.members(record.config).items() if mac in own or mac in record.macs}
        self._new = model.members(config)
        # A workload with another tag is removed and added again: two that swap their tags would collide in dp.
        self._kept = {mac: one for mac, one in self._old.items() if mac in self._new and self._new[mac]["tag_mac"] == one["tag_mac"]}
        self._rules = _rules(config, self._sockets)  # raises an error for rules that dp cannot take, before anything is sent
        self._old_rules = _rules(record.config, before)
        self._ports = {mac: _sockets.ports(config, mac, self._sockets.get(mac)) for mac in self._new}
        self._old_ports = {mac: _sockets.ports(record.config, mac, before.get(mac)) for mac in self._old}
        self._doubt = self._deviation()

    def reach(self, store: Store, check: bool) -> ConfigurationOutcome:
        """Make the change, unless dp has the configuration already. Return the outcome. Raise DataplaneError."""
        record, config = self._record, self._config
        before = {**record.config, "jumbo_frames": record.jumbo, "in_force": not self._doubt}
        after = {**config, "jumbo_frames": self._jumbo, "in_force": True}
        outcome = ConfigurationOutcome(self._reason(), before, after, self._session.namespace.pid)
        if outcome.changed and not check:
            more = record.icmp or config["icmp_policy"], {mac: list(one) for mac, one in self._sockets.items()}, self._jumbo
            store.save(DataplaneRecord(config, False, sorted({*record.macs, *self._old, *self._new}), [], *more))
            self._tell()
            self._verify()
            if config == model.EMPTY:
                store.remove()
            else:
                store.save(DataplaneRecord(config, True, sorted(self._new), _rule_counters(self._session), *more))
        if outcome.changed:
            outcome.warnings += [outcome.reason] if self._doubt and outcome.reason else []
            outcome.warnings += [f"For workload {mac} the default action can take eleven minutes to hold for new peers, unless dp knows its strict group mode: "
                                 "there are too many to name them, so tell its addresses (workloads, addresses)." for mac in model.hesitant(config)]
        outcome.statistics = _statistics(self._session, record.config if check else config)
        return outcome

    def _reason(self) -> str | None:
        """Return one sentence that says why dp must be configured, None where it has the configuration."""
        if self._doubt:
            return f"dp was not as it had been left: {self._doubt}."
        different = [name for name in self._config if name != "jumbo_frames" and self._config[name] != self._record.config[name]]
        different += ["jumbo_frames"] if self._jumbo != self._record.jumbo and "service_port" not in different else []
        if not different and (self._ports != self._old_ports or self._rules != self._old_rules):
            return "The ports that workloads serve or their connections have changed."
        return f"Not as asked for: {', '.join(different)}." if different else None

    def _deviation(self) -> str:
        """Return how dp differs from its record, "" where it does not."""
        record, port = self._record, self._record.config["service_port"]
        if not record.sure:
            return "the last task that configured it was interrupted"
        for mac in sorted({*record.macs, *self._old}):
            if _knows(self._session, mac) != (mac in self._old):
                return f"it {'does not know' if mac in self._old else 'knows'} workload {mac}"
        rules = _rule_counters(self._session)
        if record.rules and rules != record.rules:
            return f"{sum(rules)} rules are in force, not {sum(record.rules)}"
        if port and port == self._config["service_port"] and not _link.listening(self._session.namespace, self._ifindex):
            return f"it does not listen on {port}"
        return ""

    def _differs(self, *names: str) -> bool:
        return bool(self._doubt) or any(self._record.config[name] != self._config[name] for name in names)

    def _tell(self) -> None:
        """Send the changes: networks first, and policies before workloads leave tap mode, so that nothing passes because a rule is missing."""
        session, config, record = self._session, self._config, self._record
        if self._differs("internal_networks"):
            session.send(protocol.internal_networks(model.networks(config)))
        if self._doubt or model.addresses(record.config) != model.addresses(config):
            session.send(protocol.policy_addresses(model.addresses(config)))
        if self._differs("default_action") and (record.config["default_action"] != "allow" or config["default_action"] != "allow"):
            session.send([protocol.strict_group_mode(config["default_action"] != "allow")])
        if self._differs("icmp_policy") and (record.icmp or config["icmp_policy"]):
            session.send([protocol.icmp_policy(config["icmp_policy"])])
        gone = sorted(mac for mac in {*record.macs, *self._old} - self._kept.keys() if _knows(session, mac))
        if gone:
            session.send([protocol.delete_mac(record.config["service_port"] or config["service_port"] or "", mac) for mac in gone])
        self._tell_port()
        added = [mac for mac in self._new if self._differs("service_port") or mac not in self._kept]
        if added:
            session.send([protocol.add_mac(config["service_port"], mac, self._new[mac]["tag_mac"]) for mac in added])
        self._tell_policies()
        self._tell_ports()

    def _tell_ports(self) -> None:
        """Switch workloads to tap mode or out of it, and replace the ports on which they serve."""
        alike: dict[tuple[bool, tuple[_sockets.Port, ...]], list[str]] = {}
        for mac, one in self._new.items():
            if self._doubt or mac not in self._kept or one["tap"] != self._kept[mac]["tap"] or self._ports[mac] != self._old_ports[mac]:
                alike.setdefault((one["tap"], tuple(self._ports[mac])), []).append(mac)
        gone = max((len(set(self._old_ports.get(mac, ())).difference(self._ports[mac])) for macs in alike.values() for mac in macs), default=0)
        for (tap, ports), macs in sorted(alike.items(), key=lambda item: not item[0][0]):
            # The limit of ports that one message removes is for all its workloads together.
            groups = [[mac] for mac in macs] if gone else [macs]
            self._session.send([message for group in groups for message in protocol.configure_mac(group, tap, ports) * (1 + gone // protocol.MAX_FORGOTTEN)])

    def _tell_port(self) -> None:
        record, port = self._record, self._config["service_port"]
        reopen = not record.sure or record.config["service_port"] != port or record.jumbo != self._jumbo
        old = record.config["service_port"] or (port if not record.sure else None)
        if reopen and old:
            self._session.send([protocol.delete_service_port(old)])
        if not port:
            return
        before = _link.listening(self._session.namespace, self._ifindex)
        if before and not reopen:
            return
        needed = before + 1 if old or not before else before  # dp keeps a closed link open for some seconds
        deadline = time.monotonic() + self._timeout
        while True:
            self._session.send([protocol.add_service_port(port, self._jumbo)])
            if _link.listening(self._session.namespace, self._ifindex) >= needed:
                return
            if time.monotonic() > deadline:
                raise DataplaneError(f"dp (process {self._session.namespace.pid}) was told to serve {port} and does not listen there: "
                                     "it serves another link already, or could not open this one (see its own output); start it again.")
            time.sleep(0.1)  # a dp that has just been started skips the message until its threads run (pkt.c, dp_data_add_port)

    def _tell_policies(self) -> None:
        default = protocol.ACTIONS[self._config["default_action"]]
        old_rules = self._old_rules
        same = not self._differs("default_action", "icmp_policy")  # dp reads icmp_policy when it takes a policy
        had = {mac for mac in self._kept if mac in old_rules and not self._doubt and not _bare(self._record.config, old_rules[mac])}
        due = [mac for mac in self._rules if not (same and mac in self._kept and old_rules[mac] == self._rules[mac])]
        bare = [mac for mac in due if _bare(self._config, self._rules[mac])]
        for command, macs in (
            (protocol.CFG_ADD, [mac for mac in due if mac not in bare and mac not in had]),
            (protocol.CFG_MODIFY, [mac for mac in due if mac not in bare and mac in had]),
            (protocol.CFG_DELETE, [mac for mac in bare if self._doubt or mac in had]),
        ):
            for group, rules in model.groups(self._rules, macs):
                self._session.send(protocol.policy(command, default, group, rules))

    def _verify(self) -> None:
        """Raise DataplaneError unless dp's own figures show the configuration."""
        process = f"dp (process {self._session.namespace.pid})"
        for mac in {*self._old, *self._new, *self._record.macs}:
            if _knows(self._session, mac) != (mac in self._new):
                raise DataplaneError(f"{process} {'did not take' if mac in self._new else 'did not forget'} workload {mac}: see its own output.")
        bare = self._config["icmp_policy"]  # without it, dp adds a rule for ICMP to each policy
        distinct = {str(rules) for rules in self._rules.values() if rules or not (bare or _bare(self._config, rules))}
        count = sum(_rule_counters(self._session))
        if count < len(distinct):  # each policy has at least its first rule, or the rule for ICMP that dp adds
            raise DataplaneError(f"{process} was given {len(distinct)} policies and has {count} rules in force: see its own output.")


def _rules(config: model.Config, sockets: t.Mapping[str, Sockets]) -> dict[str, list[model.Rule]]:
    """Return the rules of each workload: those for its connections in mid-stream, then those of the policy. Raise DataplaneError."""
    return {mac: [*_sockets.rules(config, mac, sockets.get(mac)), *rules] for mac, rules in model.policies(config).items()}


def _bare(config: model.Config, rules: list[model.Rule]) -> bool:
    """Return whether a workload needs no policy. Without one, dp lets everything pass."""
    return not rules and config["default_action"] == "allow"


def _knows(session: Session, mac: str) -> bool:
    return protocol.parse_stats(session.ask(protocol.stats_macs([mac]), protocol.MAC_STATS)[0])[0]


def _counters(session: Session) -> dict[str, int]:
    return protocol.parse_counters(session.ask(protocol.counter_device(), protocol.DEVICE_COUNTER)[0])


def _rule_counters(session: Session) -> list[int]:
    counters = _counters(session)
    return [counters["policy_exact_rules"], counters["policy_range_rules"]]


def _statistics(session: Session, config: model.Config) -> dict[str, t.Any]:
    workloads = []
    for one in config["workloads"]:
        found, figures = protocol.parse_stats(session.ask(protocol.stats_macs([one["mac"]]), protocol.MAC_STATS)[0])
        workloads.append({**one, "known": found, **figures, "sessions": figures["current_sessions_in"] + figures["current_sessions_out"]})
    device, beats = (protocol.parse_stats(session.ask(message, kind)[0])[1] for message, kind in (
        (protocol.stats_device(), protocol.DEVICE_STATS), (protocol.stats_macs([protocol.BEAT_MAC]), protocol.MAC_STATS)))
    counts = protocol.parse_session_count(session.ask(protocol.count_session(), protocol.SESSION_COUNT)[0])
    return {
        "counters": _counters(session), "workloads": workloads, "sessions": counts["total"], "session_counts": counts,
        "stats": {name: max(0, value - beats[name]) for name, value in device.items()},
    }
