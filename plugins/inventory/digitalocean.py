# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: digitalocean
short_description: Droplets of a DigitalOcean account as hosts
version_added: 0.2.0
author: the bulwark.stack maintainers (@bulwark-stack)
description:
  - Lists all Droplets of an account, also those with a GPU, with the same variables and groups as the other cloud
    plugins of this collection.
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
    choices: [bulwark.stack.digitalocean, digitalocean]
  api_token:
    description:
      - The token of the account, with the scopes C(droplet:read), C(tag:read), C(image:read) and C(vpc:read). It may be
        a template, such as a lookup.
    type: str
    env:
      - name: DIGITALOCEAN_TOKEN
      - name: DIGITALOCEAN_ACCESS_TOKEN
      - name: DO_API_TOKEN
      - name: DO_API_KEY
  api_url:
    description: Another address of the API, its version included.
    type: str
    default: https://api.digitalocean.com/v2
    env:
      - name: DIGITALOCEAN_API_URL
"""

EXAMPLES = r"""
# prod.digitalocean.yml, with the token in DIGITALOCEAN_TOKEN: every Droplet, by public IPv4 or else IPv6.
plugin: bulwark.stack.digitalocean

---
# Running Droplets in two regions that are tagged env:prod.
plugin: bulwark.stack.digitalocean
api_token_file: ~/.config/digitalocean.token
filters:
  status: running
  region: [fra1, ams3]
  labels: {env: prod}
"""

from typing import Any

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
    text,
    texts,
    utc,
)

STATUSES = {"active": RUNNING, "off": STOPPED, "new": PENDING}


def to_server(entry: dict[str, Any], networks: dict[str, str | None], raw: bool) -> Server:
    """@param networks: the names of the networks by their ids"""
    addresses, image, tags = inner(entry.get("networks")), inner(entry.get("image")), texts(entry.get("tags"))
    network = text(entry.get("vpc_uuid"))

    def found(version: str, kind: str) -> list[str]:
        entries = objects(addresses.get(version))
        return [str(one.get("ip_address")) for one in entries if one.get("type") == kind and one.get("ip_address")]

    name = " ".join(filter(None, (text(image.get("distribution")), text(image.get("name")))))
    return Server(
        id=str(entry["id"]),
        name=text(entry.get("name")) or str(entry["id"]),
        region=text(inner(entry.get("region")).get("slug")),
        plan=text(entry.get("size_slug")),
        image=text(image.get("slug")) or text(name),
        status=STATUSES.get(str(entry.get("status")), OTHER),
        provider_status=text(entry.get("status")),
        public_ipv4=next((one for one in map(ipv4, found("v4", "public")) if one), None),
        public_ipv6=next((one for one in map(host_ipv6, found("v6", "public")) if one), None),
        private_networks=[
            Network(id=network, name=networks.get(network or ""), address=one) for one in found("v4", "private")
        ],
        tags=tags,
        labels=labels_of(tags),
        created=utc(entry.get("created_at")),
        provider_data=entry if raw else None,
    )


class InventoryModule(CloudInventory):
    NAME = "bulwark.stack.digitalocean"
    provider = "digitalocean"
    fetch_options = ("provider_data", "network_names")

    def fetch(self, account: Account) -> list[Server]:
        droplets, with_gpu, networks = account.side_by_side(
            [
                lambda: account.list_all("/droplets", "droplets", self.query()),
                lambda: account.list_all("/droplets", "droplets", {"type": "gpus"}),
                lambda: self.network_names(account, "/vpcs", "vpcs", "name"),
            ]
        )
        # A filter by tag gives both kinds.
        entries = {entry["id"]: entry for entry in [*droplets, *with_gpu]}
        return [to_server(one, networks, self.get_option("provider_data")) for one in entries.values()]

    def query(self) -> dict[str, Any]:
        """What the API can filter by: one tag or one name."""
        names, tags = self.filters.exact("name"), self.filters.exact("tags")
        tags = tags or [
            f"{key}:{one}" for key, values in self.filters.labels().items() if len(values) == 1 for one in values
        ]
        if len(names) == 1:
            return {"name": names[0]}
        return {"tag_name": tags[0]} if len(tags) == 1 else {}
