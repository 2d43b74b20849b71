# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration of NeuVector's dp: checked as the user wrote it, and translated into dp's terms."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol
from ansible_collections.nettap.containers.plugins.module_utils._system._names import names

Config = dict[str, t.Any]
Rule = dict[str, t.Any]
Span = tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]

# The configuration of a dp that has just been started.
EMPTY: Config = {
    "internal_networks": [], "service_port": None, "jumbo_frames": None, "icmp_policy": False, "workloads": [], "policy": [],
    "default_action": "allow",
}
# dp looks a peer outside the internal networks up again as 0.0.0.0 (dpi_policy.c, dpi_policy_lookup_by_key), which must match no rule.
ANY: Span = (ipaddress.IPv4Address(1), ipaddress.IPv4Address(0xFFFFFFFF))
_LINK_LOCAL = ipaddress.IPv4Network("169.254.0.0/16")
LAST_ID = 0xFFFFFFF0  # of the rules that replace the default action; the ids above are dp's own
_LARGEST_NETWORK = 1024  # addresses; networks up to this size are sent to dp address by address
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}$")  # unicast: the lowest bit of the first byte is 0
_INTERFACE = re.compile(r"[^\s/]{1,15}$")


def merged(config: Config, options: t.Mapping[str, t.Any]) -> Config:
    """Return the configuration with the given options (not None) in place of its own, checked. Raise DataplaneError."""
    new = {**config, **{name: options[name] for name in EMPTY if options.get(name) is not None}}
    new["internal_networks"] = [str(_network(text)) for text in names(new["internal_networks"])]
    new["workloads"] = _workloads(new["workloads"])
    new["policy"] = _policy(new["policy"], {workload["mac"] for workload in new["workloads"]})
    if new["service_port"] == "":
        new["service_port"] = None
    if new["service_port"] and not _INTERFACE.match(new["service_port"]):
        raise DataplaneError(f"service_port is no name of a link: {new['service_port']!r} (at most 15 characters, no blanks).")
    if new["workloads"] and not new["service_port"]:
        raise DataplaneError("Workloads need a service_port: name the link on which their frames reach dp, such as vth.")
    return new


def networks(config: Config) -> list[dict[str, str]]:
    """Return the internal networks as dp takes them."""
    return [_told(ipaddress.IPv4Network(text)) for text in config["internal_networks"]]


def addresses(config: Config) -> list[dict[str, str]]:
    """Return the addresses for which the default action is to hold at once, as dp takes them.

    When the default action would stop a peer that dp does not know, dp still lets it pass for a minute or more: an internal
    peer if its own address is not among these, an outside one (newer releases) if the workload's is not. dp compares
    single addresses (dpi_entry.c, dpi_is_policy_addr), so networks are sent address by address.
    """
    known: dict[str, dict[str, str]] = {}
    if config["default_action"] != "allow":
        for text in config["internal_networks"]:
            network = ipaddress.IPv4Network(text)
            for one in network if network.num_addresses <= _LARGEST_NETWORK else ():
                known[str(one)] = _told(ipaddress.IPv4Network(one))
        own = [text for workload in config["workloads"] for text in workload["addresses"]]
        sides = [span[0] for rule in config["policy"] for span in (_span(rule["source"]), _span(rule["destination"])) if span[0] == span[1]]
        for one in [*map(ipaddress.IPv4Address, own), *sides]:
            known[str(one)] = _told(ipaddress.IPv4Network(one))
    return list(known.values())


def hesitant(config: Config) -> list[str]:
    """Return the workloads for which the default action will not hold at once: they have too many peers to send, and no addresses for rules."""
    return [workload["mac"] for workload in config["workloads"] if _peers_unnamed(config) and not workload["addresses"]]


def _peers_unnamed(config: Config) -> bool:
    """Return whether there are internal peers whose addresses are not sent to dp, although the default action is for them."""
    known = [ipaddress.IPv4Network(text).num_addresses <= _LARGEST_NETWORK for text in config["internal_networks"]]
    return config["default_action"] != "allow" and not (known and all(known))


def policies(config: Config) -> dict[str, list[Rule]]:
    """Return the rules of each workload (by MAC address), in order, as dp takes them. Raise DataplaneError.

    dp finds a rule by the workload's own address and then checks the peer (dpi_policy.c, get_range_key). So a rule whose
    own side is a range never matches anything. Such a rule becomes one rule for each address of the workload in that range.
    Where peers cannot be sent (see addresses), last rules for all of them replace the default action.
    """
    last = {"id": LAST_ID, "action": config["default_action"], "source": "any", "destination": "any", "port": "any", "protocol": "any"}
    found = {}
    for workload in config["workloads"]:
        rules: list[Rule] = []
        for number, rule in enumerate(config["policy"], 1):
            if not rule["workloads"] or workload["mac"] in rule["workloads"]:
                rules += [_rule(rule, own) for own in _own(rule, number, workload)]
        if _peers_unnamed(config) and workload["addresses"]:
            for direction in ("ingress", "egress"):
                rule = {**last, "direction": direction}
                rules += [_rule(rule, own) for own in _own(rule, 0, workload)]
        found[workload["mac"]] = rules
    return found


def decide(config: Config, mac: str, direction: str, source: str, destination: str, port: int, kind: str) -> tuple[int, str]:
    """Return id and action of the first rule that matches a connection of a workload, or LAST_ID and the default action. kind is tcp, udp or icmp."""
    sides = [ipaddress.IPv4Address(source), ipaddress.IPv4Address(destination)]
    if not any(one in _LINK_LOCAL for one in sides):
        for rule in config["policy"]:
            kinds = (kind, "any") if kind != "icmp" or config["icmp_policy"] else (kind,)
            if (rule["workloads"] and mac not in rule["workloads"]) or rule["direction"] != direction or rule["protocol"] not in kinds:
                continue
            first, last = port_span(rule["port"], rule["protocol"])
            within = all(low <= one <= high for (low, high), one in zip((_span(rule["source"]), _span(rule["destination"])), sides))
            if within and first <= port <= last:
                return rule["id"], rule["action"]
        if kind != "icmp" or config["icmp_policy"]:
            return LAST_ID, config["default_action"]
    return LAST_ID, "allow"


def members(config: Config) -> dict[str, Config]:
    """Return by their MAC all workloads that dp is to know: those of the configuration, and with them the one of the watchdog's heartbeats."""
    beat = {"mac": protocol.BEAT_MAC, "tag_mac": protocol.BEAT_TAG, "tap": False, "addresses": []}
    return {one["mac"]: one for one in [*config["workloads"], *([beat] if config["workloads"] else [])]}


def groups(rules_of: dict[str, list[Rule]], macs: t.Iterable[str]) -> list[tuple[list[str], list[Rule]]]:
    """Return the workloads grouped by equal rules, since dp takes one policy for several workloads at once."""
    together: list[tuple[list[str], list[Rule]]] = []
    for mac in macs:
        for group, rules in together:
            if rules == rules_of[mac] and len(group) < protocol.MAX_MACS:
                group.append(mac)
                break
        else:
            together.append(([mac], rules_of[mac]))
    return together


def _own(rule: Rule, number: int, workload: Config) -> list[Span]:
    """Return the workload's side of a rule, as single addresses. Raise DataplaneError."""
    side = "destination" if rule["direction"] == "ingress" else "source"
    low, high = _span(rule[side])
    if low == high:
        return [(low, high)]
    if not workload["addresses"]:
        raise DataplaneError(
            f"Rule {number} ({rule['direction']}) has {rule[side]} as {side}, and dp finds a rule only by a single address of the workload: "
            f"give that as {side}, or tell the addresses of workload {workload['mac']} (workloads, addresses).")
    return [(one, one) for one in map(ipaddress.IPv4Address, workload["addresses"]) if low <= one <= high]


def _rule(rule: Rule, own: Span) -> Rule:
    """Return a rule in dp's terms (dp_apis.go DPPolicyIPRule). Only true ranges have the upper ends of addresses."""
    ingress = rule["direction"] == "ingress"
    source, destination = (_span(rule["source"]), own) if ingress else (own, _span(rule["destination"]))
    first, last = port_span(rule["port"], rule["protocol"])
    told = {"id": rule["id"], "sip": str(source[0]), "dip": str(destination[0]), "port": first, "portr": last,
            "proto": protocol.PROTOCOLS[rule["protocol"]], "action": protocol.ACTIONS[rule["action"]], "ingress": ingress}
    if source[0] != source[1]:
        told["sipr"] = str(source[1])
    if destination[0] != destination[1]:
        told["dipr"] = str(destination[1])
    return told


def _workloads(given: list[Config]) -> list[Config]:
    found: list[Config] = []
    for workload in given:
        mac, tag = workload["mac"].lower(), (workload.get("tag_mac") or "").lower()
        if not tag:
            raise DataplaneError(f"Workload {mac} has no tag_mac: dp knows its frames on the service link by that alone.")
        for address in (mac, tag):
            if not _MAC.match(address):
                raise DataplaneError(f"{address!r} is no unicast MAC address: give six pairs of hexadecimal digits with colons between.")
        if not tag.startswith(protocol.TAG_PREFIX):
            raise DataplaneError(f"The tag_mac {tag} does not begin with {protocol.TAG_PREFIX[:-1]}, by which alone dp knows a tag: "
                                 "choose the last two bytes only.")
        if mac == protocol.BEAT_MAC or tag == protocol.BEAT_TAG:
            raise DataplaneError(f"Workload {mac} has the MAC or the tag ({tag}) of the watchdog's heartbeats: choose another tag_mac.")
        for other in found:
            if mac == other["mac"] or tag == other["tag_mac"]:
                raise DataplaneError(f"The workloads {other['mac']} and {mac} have the same MAC address or tag ({tag}): each needs its own.")
        own = [str(_span(text)[0]) for text in workload.get("addresses") or [] if _single(text)]
        found.append({"mac": mac, "tag_mac": tag, "tap": bool(workload.get("tap")), "addresses": own})
    return found


def _policy(given: list[Rule], known: set[str]) -> list[Rule]:
    taken = {rule["id"] for rule in given if rule.get("id")}
    free = (number for number in range(1, len(given) + len(taken) + 1) if number not in taken)
    found = []
    for number, rule in enumerate(given, 1):
        macs = [mac.lower() for mac in rule.get("workloads") or []]
        strangers = [mac for mac in macs if mac not in known]
        if strangers:
            raise DataplaneError(f"Rule {number} is for {strangers[0]}, which is not among the workloads ({', '.join(sorted(known)) or 'none'}).")
        rule = {
            "id": rule.get("id"), "action": rule["action"], "source": str(rule.get("source") or "any"),
            "destination": str(rule.get("destination") or "any"), "port": str(rule.get("port") or "any"),
            "protocol": rule.get("protocol") or "any", "direction": rule.get("direction") or "ingress", "workloads": macs,
        }
        if rule["id"] is not None and not 0 < rule["id"] < LAST_ID:
            raise DataplaneError(f"Rule {number} has the id {rule['id']}: give one from 1 to {LAST_ID - 1}.")
        rule["id"] = rule["id"] or next(free)
        for side in ("source", "destination"):
            low, high = _span(rule[side])
            if rule["action"] != "allow" and low in _LINK_LOCAL and high in _LINK_LOCAL:
                raise DataplaneError(f"Rule {number} ({rule['action']}) has {rule[side]} as {side}, and dp lets link-local addresses ({_LINK_LOCAL}) pass "
                                     "before any rule: leave the rule out, and have the steering drop them (container_steering, drop: [link_local]).")
        port_span(rule["port"], rule["protocol"])
        found.append(rule)
    return found


def _span(text: str) -> Span:
    """Return the first and last address of a single address, a network in CIDR notation, a range A-B or any. Raise DataplaneError."""
    if text == "any":
        return ANY
    try:
        if "-" in text:
            first, last = (ipaddress.IPv4Address(part.strip()) for part in text.split("-"))
        else:
            network = ipaddress.IPv4Network(text.strip(), strict=False)
            first, last = network[0], network[-1]
    except ValueError as error:
        raise DataplaneError(f"{text!r} is no IPv4 address, network or range FIRST-LAST, and dp has rules for IPv4 only ({error}).") from error
    if first > last:
        raise DataplaneError(f"The range {text} ends before it begins.")
    if last < ANY[0]:
        raise DataplaneError(f"{text!r} is no address of a peer, and dp would take every outside peer for it: write any, or the addresses that are meant.")
    return max(first, ANY[0]), last


def _single(text: str) -> bool:
    first, last = _span(text)
    if first != last:
        raise DataplaneError(f"A workload's addresses are single ones, not {text}.")
    return True


def _network(text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text, strict=False)  # dp compares with the network's own address, so host bits would match nothing
    except ValueError as error:
        raise DataplaneError(f"{text!r} in internal_networks is no IPv4 network in CIDR notation, such as 10.0.0.0/8 ({error}).") from error


def port_span(text: str, kind: str) -> tuple[int, int]:
    """Return the first and last port of a rule. ICMP has none, which dp writes as 0. Raise DataplaneError."""
    if kind == "icmp":
        if text != "any":
            raise DataplaneError(f"A rule for icmp has no port: leave {text} out.")
        return 0, 0
    if text == "any":
        return 0, 65535
    try:
        numbers = [int(part) for part in text.split("-")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < 1 << 16 for number in numbers) or numbers[0] > numbers[-1]:
        raise DataplaneError(f"{text!r} is no port: give a number from 1 to 65535 or a range FIRST-LAST.")
    return numbers[0], numbers[-1]


def _told(network: ipaddress.IPv4Network) -> dict[str, str]:
    return {"ip": str(network.network_address), "mask": str(network.netmask)}
