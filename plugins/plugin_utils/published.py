# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What roles publish for their neighbours, picked by the groups of a host."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any


def published(lists: dict[str, list[dict[str, Any]]], group_names: list[str]) -> list[dict[str, Any]]:
    """The entries of the groups that the host is in, one after the other; C(all) counts for every host."""
    groups = ["all", *group_names]
    return [entry for group, entries in lists.items() if group in groups for entry in entries]


def port_conflicts(rules: list[dict[str, Any]]) -> list[str]:
    """One sentence for each port that two different services of a host want."""
    owners: dict[tuple[int, str], str] = {}
    problems = []
    for rule in rules:
        key = (int(rule["port"]), rule.get("proto", "tcp"))
        other = owners.setdefault(key, rule["name"])
        if other != rule["name"]:
            problems.append(
                f"port {key[0]}/{key[1]} is wanted by both {other} and {rule['name']}; give one of them another port."
            )
    return problems


def addresses_of(host: str, values: Mapping[str, Any]) -> list[str]:
    """What a host says of its addresses, else the one that the controller uses; C(host:NAME) when that is a name."""
    told = values.get("bulwark_addresses") or []
    used = str(values.get("ansible_host") or host)
    try:
        return [str(one) for one in told] or [str(ipaddress.ip_address(used))]
    except ValueError:
        return [f"host:{host}"]


def mentioned_groups(
    rules: list[dict[str, Any]], groups: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """The addresses of the inventory groups that rules mention as C(group:NAME); others are not even looked at."""
    peers = [text for rule in rules for key in ("from", "to") for text in rule.get(key) or []]
    names = {text[6:] for text in peers if text.startswith("group:")} & set(groups)
    return {
        name: [address for host in groups[name] for address in addresses_of(host, hostvars[host])]
        for name in sorted(names)
    }
