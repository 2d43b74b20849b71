# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations of dp that would break what is in use: refused before dp is told anything."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._policy import Config


def outside(config: Config) -> None:
    """Raise DataplaneError if a workload has an address outside of the internal networks.

    dp takes such a workload for an outside host, so a default action does not hold for the connections that it opens (dpi_policy.c).
    """
    networks = [ipaddress.IPv4Network(text) for text in config["internal_networks"]]
    for workload in config["workloads"] if networks else ():
        for address in workload["addresses"]:
            if not any(ipaddress.IPv4Address(address) in network for network in networks):
                raise DataplaneError(f"Workload {workload['mac']} has the address {address}, which is in none of the internal_networks "
                                     f"({', '.join(config['internal_networks'])}), and dp would not hold its outgoing connections to the policy: "
                                     "add its network.")


def cut_off(old: Config, new: Config, steered: t.Mapping[str, str]) -> None:
    """Raise DataplaneError if dp would not forward any more for a workload that is steered through it.

    steered has the names of the steered interfaces, by their MAC addresses. dp drops the frames of workloads that it does not know, and
    of those in tap mode.
    """
    served = {one["mac"] for one in new["workloads"] if not one["tap"]} if new["service_port"] == (old["service_port"] or new["service_port"]) else set()
    lost = [where for mac, where in sorted(steered.items()) if mac not in served]
    if lost:
        raise DataplaneError(f"dp would forward no more packets for {', '.join(lost)}, steered through it: take them out first "
                             "(container_steering, state: absent), or name them among the workloads, without tap, on the same service_port.")
