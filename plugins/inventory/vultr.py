# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: vultr
short_description: Instances of a Vultr account as hosts
version_added: 0.2.0
author: the bulwark.stack maintainers (@bulwark-stack)
description:
  - Lists all instances and bare metal servers of an account with the same variables and groups as the other cloud
    plugins of this collection.
  - The name of a host is the label, without one the hostname, without both the id.
  - An account is a file; several accounts are several files in one directory.
extends_documentation_fragment:
  - constructed
  - inventory_cache
  - bulwark.stack._cloud_inventory
  - bulwark.stack._cloud_inventory.networks
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [bulwark.stack.vultr, vultr]
  api_token:
    description:
      - The API key of the account, which must allow the address of this machine. It may be a template, such as a
        lookup.
    type: str
    env:
      - name: VULTR_API_KEY
  api_url:
    description: Another address of the API, its version included.
    type: str
    default: https://api.vultr.com/v2
    env:
      - name: VULTR_API_ENDPOINT
  bare_metal:
    description: Whether to list bare metal servers too, with one request more.
    type: bool
    default: true
"""

EXAMPLES = r"""
# prod.vultr.yml, with the key in VULTR_API_KEY: every instance, by public IPv4 or else IPv6.
plugin: bulwark.stack.vultr

---
# Instances in Frankfurt, reached in their VPC; those that are not in it keep their public address.
plugin: bulwark.stack.vultr
connect_with: [private_ipv4:backend, public_ipv4]
filters:
  region: fra
"""

from typing import Any

from ..module_utils._cloud.errors import CloudError
from ..module_utils._cloud.http import Account
from ..plugin_utils._cloud_inventory import CloudInventory
from ..plugin_utils._cloud_schema import (
    OTHER,
    PENDING,
    RUNNING,
    STOPPED,
    Network,
    Server,
    host_ipv6,
    inner,
    ipv4,
    labels_of,
    objects,
    public_ipv4,
    text,
    texts,
    utc,
)


def status_of(entry: dict[str, Any]) -> str:
    """Three fields together; a bare metal server has only the first."""
    if entry.get("status") in ("pending", "resizing") or entry.get("server_status") == "installingbooting":
        return PENDING
    if entry.get("status") != "active":
        return OTHER
    return {"running": RUNNING, "stopped": STOPPED}.get(str(entry.get("power_status") or "running"), OTHER)


def own_status(entry: dict[str, Any]) -> str | None:
    """Active alone does not say whether it runs."""
    power = text(entry.get("power_status"))
    return f"active/{power}" if entry.get("status") == "active" and power else text(entry.get("status"))


def private_networks(entry: dict[str, Any], networks: dict[str, str | None]) -> list[Network]:
    """The field subnet has the address of the host; internal_ip is from before there were several networks."""
    found = []
    for one in objects(entry.get("vpcs")):
        address = ipv4(one.get("subnet"))
        if address and ":" not in address:
            found.append(Network(id=text(one.get("id")), name=networks.get(str(one.get("id"))), address=address))
    internal = ipv4(entry.get("internal_ip"))
    if internal and internal not in [one["address"] for one in found]:
        found.append(Network(id=None, name=None, address=internal))
    return found


def to_server(entry: dict[str, Any], networks: dict[str, str | None], raw: bool) -> Server:
    """@param networks: the names of the networks by their ids"""
    tags = texts(entry.get("tags")) or texts([entry.get("tag") or None])
    v6_networks = objects(entry.get("v6_networks"))
    secret = [key for key in entry if "password" in key]
    return Server(
        id=str(entry["id"]),
        name=text(entry.get("label")) or text(entry.get("hostname")) or str(entry["id"]),
        region=text(entry.get("region")),
        plan=text(entry.get("plan")),
        image=text(entry.get("os")),
        status=status_of(entry),
        provider_status=own_status(entry),
        public_ipv4=public_ipv4(entry.get("main_ip")),
        public_ipv6=host_ipv6(entry.get("v6_main_ip") or inner(next(iter(v6_networks), None)).get("main_ip")),
        private_networks=private_networks(entry, networks),
        tags=tags,
        labels=labels_of(tags),
        created=utc(entry.get("date_created")),
        provider_data={key: value for key, value in entry.items() if key not in secret} if raw else None,
    )


class InventoryModule(CloudInventory):
    NAME = "bulwark.stack.vultr"
    provider = "vultr"
    fetch_options = ("provider_data", "network_names", "bare_metal")

    def fetch(self, account: Account) -> list[Server]:
        regions = self.filters.exact("region") or [""]
        *instances, metal, networks = account.side_by_side(
            [
                *(lambda region=region: self.instances(account, region) for region in regions),
                lambda: self.metal(account),
                lambda: self.network_names(account, "/vpcs", "vpcs", "description"),
            ]
        )
        entries = [entry for part in [*instances, metal] for entry in part]
        return [to_server(one, networks, self.get_option("provider_data")) for one in entries]

    def instances(self, account: Account, region: str) -> list[dict[str, Any]]:
        """Pages have no numbers here, so many of them are read region by region side by side."""
        if region:
            return account.list_all("/instances", "instances", {"region": region})
        return account.list_all("/instances", "instances", chains="region")

    def metal(self, account: Account) -> list[dict[str, Any]]:
        """@raises CloudError: if the key may not list them"""
        if not self.get_option("bare_metal"):
            return []
        try:
            return account.list_all("/bare-metals", "bare_metals")
        except CloudError as error:
            if error.status != 404:
                raise
            self.display.warning(f"{error} There are no bare metal servers at this address.")
            return []
