# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suricata's events, one JSON object each (docs.suricata.io, "EVE JSON format"), and the form in which modules return them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import ipaddress
import json
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _clock

Event = dict[str, t.Any]
# The first service link at the engine: packets that the engine reads there come from a container, those on the second go to one.
FROM_CONTAINER = "vth0"
_TEXT = 512  # most characters kept of a value that a sender of packets can choose
_APPLICATION = {
    "http": {"hostname": "hostname", "url": "url", "http_method": "method", "http_user_agent": "user_agent", "status": "status"},
    "tls": {"sni": "sni", "subject": "subject", "version": "version"},
    "dns": {"rrname": "name", "rrtype": "type"},
}


@dataclasses.dataclass
class KnownContainer:
    """A container that events can concern: its name, and the MAC and the addresses of its packets."""

    name: str
    mac: str = ""
    addresses: t.Sequence[str] = ()


class Names:
    """The known containers, from which an event gets the name of its container."""

    def __init__(self, containers: t.Sequence[KnownContainer]) -> None:
        self._macs = {container.mac.lower(): container.name for container in containers if container.mac}
        self._addresses = {_address(address): container.name for container in containers for address in container.addresses}

    def of(self, event: Event) -> str | None:
        """Return the sender's name for packets from a container, the receiver's for packets to one. If that is not known, return the other one."""
        sides = [self._side(event, "src"), self._side(event, "dest")]
        if event.get("in_iface") != FROM_CONTAINER:
            sides.reverse()
        return sides[0] or sides[1]

    def _side(self, event: Event, side: str) -> str | None:
        ether = _dictionary(event, "ether")
        # A flow with several MACs (such as after a restart of its container) lists them.
        for mac in [ether.get(f"{side}_mac"), *(ether.get(f"{side}_macs") or ())]:
            if isinstance(mac, str) and mac.lower() in self._macs:
                return self._macs[mac.lower()]
        return self._addresses.get(_address(event.get(f"{side}_ip", ""))) if self._addresses else None


def parse(line: bytes) -> Event | None:
    """Return the JSON object in a line, None if the line holds none."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def moment_of(event: Event) -> float:
    """Return the time of an event, in seconds since the epoch; 0 if the event has none."""
    try:
        text = event["timestamp"]  # 2026-01-31T03:00:00.000123+0000, in which fromisoformat needs a colon; strptime is ten times slower
        return datetime.datetime.fromisoformat(f"{text[:-2]}:{text[-2:]}").timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


def kind(event: Event, names: Names) -> tuple[str | None, int, str, str]:
    """Return the key by which alerts are counted: container, signature's ID, action and signature."""
    about = _dictionary(event, "alert")
    return names.of(event), about.get("signature_id", 0), about.get("action", ""), _text(about.get("signature", ""))


def alert(event: Event, moment: float, names: Names) -> Event:
    """Return an alert as modules return it. moment is its time, in seconds since the epoch."""
    about = _dictionary(event, "alert")
    return {
        "time": _clock.timestamp(moment),
        "container": names.of(event),
        "action": about.get("action"),
        "signature": _text(about.get("signature")),
        "sid": about.get("signature_id"),
        "severity": about.get("severity"),
        "source": _address(event.get("src_ip", "")),
        "source_port": event.get("src_port"),
        "destination": _address(event.get("dest_ip", "")),
        "destination_port": event.get("dest_port"),
        "protocol": event.get("proto"),
        "application": _application(event),
    }


def _application(event: Event) -> Event:
    """Return the application's protocol and request, as the engine read them."""
    protocol = event.get("app_proto")
    if not isinstance(protocol, str) or protocol == "failed":
        return {}
    found: Event = {"protocol": protocol}
    about = event.get(protocol)
    if protocol == "dns" and isinstance(about, dict) and isinstance(about.get("query"), list) and about["query"]:
        about = about["query"][0]
    if isinstance(about, dict):
        found.update((name, _text(about[key])) for key, name in _APPLICATION.get(protocol, {}).items() if key in about)
    return found


def figures(event: Event) -> Event:
    """Return the figures of a stats event."""
    stats = _dictionary(event, "stats")
    decisions, capture = _dictionary(stats, "ips"), _dictionary(stats, "capture")
    return {
        "time": _clock.timestamp(moment_of(event)),
        "uptime": stats.get("uptime", 0),
        "accepted": decisions.get("accepted", 0),
        "blocked": decisions.get("blocked", 0),
        "drop_reasons": {name: count for name, count in (decisions.get("drop_reason") or {}).items() if count},
        "kernel_packets": capture.get("kernel_packets", 0),
        "kernel_drops": capture.get("kernel_drops", 0),
        "alerts_suppressed": (stats.get("detect") or {}).get("alerts_suppressed", 0),
    }


def _dictionary(event: Event, key: str) -> Event:
    value = event.get(key)
    return value if isinstance(value, dict) else {}


def _address(text: t.Any) -> str:
    return _written(text) if isinstance(text, str) else ""


@functools.lru_cache(maxsize=4096)
def _written(address: str) -> str:
    """Return an address in its usual form. Suricata writes all zeros of IPv6 addresses."""
    try:
        return str(ipaddress.ip_interface(address).ip)
    except ValueError:
        return address


def _text(value: t.Any) -> t.Any:
    return value[:_TEXT] if isinstance(value, str) else value
