# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: linode
short_description: Linodes of an Akamai account as hosts
version_added: 0.2.0
author: the bulwark.stack maintainers (@bulwark-stack)
description:
  - Lists all Linodes of an account with the same variables and groups as the other cloud plugins of this collection,
    their addresses in VPCs included, without a request for each of them.
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
    choices: [bulwark.stack.linode, linode]
  api_token:
    description:
      - The token of the account, with the scopes C(linodes:read_only) and C(vpc:read_only). It may be a template, such
        as a lookup.
    type: str
    env:
      - name: LINODE_TOKEN
      - name: LINODE_API_TOKEN
      - name: LINODE_CLI_TOKEN
  api_url:
    description: Another address of the API, its version included.
    type: str
    default: https://api.linode.com/v4
"""

EXAMPLES = r"""
# prod.linode.yml, with the token in LINODE_TOKEN: every Linode, by public IPv4 or else IPv6.
plugin: bulwark.stack.linode

---
# Linodes with the tag env:prod in Frankfurt, but no nodes of Kubernetes clusters.
plugin: bulwark.stack.linode
api_token: "{{ lookup('file', '~/.config/linode.token') }}"
filters:
  region: [eu-central, de-fra-2]
  labels: {env: prod}
exclude:
  - name: lke*
"""

import json
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
    ipv4,
    labels_of,
    public_ipv4,
    text,
    texts,
    utc,
)

STATUSES = {
    "running": RUNNING,
    "offline": STOPPED,
    "stopped": STOPPED,
    **dict.fromkeys(("booting", "busy", "rebooting", "shutting_down", "provisioning", "resizing"), PENDING),
    **dict.fromkeys(("migrating", "rebuilding", "cloning", "restoring"), PENDING),
}


def to_server(entry: dict[str, Any], networks: list[Network], raw: bool) -> Server:
    """@param networks: the VPCs that it is in; the private address of old is in its own list of addresses"""
    tags, addresses = texts(entry.get("tags")), list(filter(None, map(ipv4, texts(entry.get("ipv4")))))
    public = [address for address in addresses if public_ipv4(address)]
    private = [Network(id=None, name="private", address=address) for address in addresses if address not in public]
    return Server(
        id=str(entry["id"]),
        name=text(entry.get("label")) or str(entry["id"]),
        region=text(entry.get("region")),
        plan=text(entry.get("type")),
        image=text(entry.get("image")),
        status=STATUSES.get(str(entry.get("status")), OTHER),
        provider_status=text(entry.get("status")),
        public_ipv4=public[0] if public else None,
        public_ipv6=host_ipv6(entry.get("ipv6")),
        private_networks=[*networks, *private],
        tags=tags,
        labels=labels_of(tags),
        created=utc(entry.get("created")),
        provider_data=entry if raw else None,
    )


class InventoryModule(CloudInventory):
    NAME = "bulwark.stack.linode"
    provider = "linode"
    fetch_options = ("provider_data", "network_names")

    def fetch(self, account: Account) -> list[Server]:
        linodes, addresses, names = account.side_by_side(
            [
                lambda: account.list_all("/linode/instances", "data", headers={"X-Filter": json.dumps(self.query())}),
                lambda: self.addresses(account),
                lambda: self.network_names(account, "/vpcs", "data", "label"),
            ]
        )
        networks: dict[str, list[Network]] = {}
        for one in addresses:
            address = ipv4(one.get("address"))
            # A Linode may have several configurations; only the one that it runs with counts, if it runs.
            if address and one.get("active") is not False:
                network = Network(id=text(one.get("vpc_id")), name=names.get(str(one.get("vpc_id"))), address=address)
                networks.setdefault(str(one.get("linode_id")), []).append(network)
        return [to_server(one, networks.get(str(one["id"]), []), self.get_option("provider_data")) for one in linodes]

    def addresses(self, account: Account) -> list[dict[str, Any]]:
        """The addresses of all Linodes in all VPCs.

        @raises CloudError: if the token may not read them although somebody asks for private addresses
        """
        try:
            return account.list_all("/vpcs/ips", "data", identity=lambda entry: json.dumps(entry, sort_keys=True))
        except CloudError as error:
            private = any(kind == "private_ipv4" for kind, _network in self.connecting.wanted)
            if private or "networks" in self.filters.wanted or error.status not in (401, 403, 404):
                raise
            self.display.warning(f"{error} The private addresses in VPCs are missing.")
            return []

    def query(self) -> dict[str, Any]:
        """What the API can filter by. Newest first: what is added meanwhile then cannot hide what was there."""
        wanted = []
        for word, field in (("region", "region"), ("name", "label"), ("image", "image")):
            values = self.filters.exact(word)
            if values:
                wanted.append({"+or": [{field: value} for value in values]})
        for key, values in self.filters.labels().items():
            if values:
                wanted.append({"+or": [{"tags": f"{key}{sign}{value}"} for value in values for sign in ":="]})
        tags = self.filters.exact("tags")
        if tags:
            wanted.append({"+or": [{"tags": tag} for tag in tags]})
        return {**({"+and": wanted} if wanted else {}), "+order_by": "id", "+order": "desc"}
