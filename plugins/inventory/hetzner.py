# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: hetzner
short_description: Servers of a Hetzner Cloud project as hosts
version_added: 0.2.0
author: the bulwark.stack maintainers (@bulwark-stack)
description:
  - Lists all servers of a project with the same variables and groups as the other cloud plugins of this collection.
  - A project is a file; several projects are several files in one directory.
extends_documentation_fragment:
  - constructed
  - inventory_cache
  - bulwark.stack._cloud_inventory
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [bulwark.stack.hetzner, hetzner]
  api_token:
    description: The token of the project, with permission to read. It may be a template, such as a lookup.
    type: str
    env:
      - name: HCLOUD_TOKEN
  api_url:
    description: Another address of the API, its version included.
    type: str
    default: https://api.hetzner.cloud/v1
    env:
      - name: HCLOUD_ENDPOINT
"""

EXAMPLES = r"""
# prod.hetzner.yml, with the token in HCLOUD_TOKEN: every server, by public IPv4 or else IPv6.
plugin: bulwark.stack.hetzner

---
# Only running servers with the label env=prod, reached in the private network "backend".
plugin: bulwark.stack.hetzner
api_token: "{{ lookup('env', 'HCLOUD_TOKEN_PROD') }}"
connect_with: [private_ipv4:backend, public_ipv4]
filters:
  status: running
  labels: {env: prod}
"""

import re
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
    objects,
    tags_of,
    text,
    utc,
)

STATUSES = {
    "running": RUNNING,
    "off": STOPPED,
    "initializing": PENDING,
    "starting": PENDING,
    "stopping": PENDING,
    "migrating": PENDING,
    "rebuilding": PENDING,
}
VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
KEY = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


def to_server(entry: dict[str, Any], networks: dict[str, str | None], raw: bool) -> Server:
    """@param networks: the names of the networks by their ids"""
    public, image = inner(entry.get("public_net")), inner(entry.get("image"))
    labels = {str(key): str(value or "") for key, value in inner(entry.get("labels")).items()}
    # The location was below the datacenter until July 2026.
    location = inner(entry.get("location")) or inner(inner(entry.get("datacenter")).get("location"))
    private = [
        Network(id=text(one.get("network")), name=networks.get(str(one.get("network"))), address=address)
        for one in objects(entry.get("private_net"))
        if (address := ipv4(one.get("ip")))
    ]
    return Server(
        id=str(entry["id"]),
        name=text(entry.get("name")) or str(entry["id"]),
        region=text(location.get("name")),
        plan=text(inner(entry.get("server_type")).get("name")),
        image=text(image.get("name")) or text(image.get("description")),
        status=STATUSES.get(str(entry.get("status")), OTHER),
        provider_status=text(entry.get("status")),
        public_ipv4=ipv4(inner(public.get("ipv4")).get("ip")),
        public_ipv6=host_ipv6(inner(public.get("ipv6")).get("ip")),
        private_networks=private,
        tags=tags_of(labels),
        labels=labels,
        created=utc(entry.get("created")),
        provider_data=entry if raw else None,
    )


class InventoryModule(CloudInventory):
    NAME = "bulwark.stack.hetzner"
    provider = "hetzner"

    def fetch(self, account: Account) -> list[Server]:
        servers, networks = account.side_by_side(
            [
                lambda: account.list_all("/servers", "servers", self.query()),
                lambda: account.list_all("/networks", "networks"),
            ]
        )
        names = {str(one["id"]): text(one.get("name")) for one in networks}
        return [to_server(one, names, self.get_option("provider_data")) for one in servers]

    def query(self) -> dict[str, Any]:
        """What the API can filter by. Newest first: what is added meanwhile then cannot hide what was there."""
        query: dict[str, Any] = {"sort": "id:desc"}
        names, statuses = self.filters.exact("name"), self.filters.exact("status")
        if len(names) == 1:
            query["name"] = names[0]
        if statuses and OTHER not in statuses:
            query["status"] = [word for word, status in STATUSES.items() if status in statuses]
        selectors = []
        for key, values in self.filters.labels().items():
            # An empty value is a value here, but not in a list of them.
            if not KEY.fullmatch(key) or not all(VALUE.fullmatch(value) for value in values):
                continue
            selectors.append(f"{key} in ({','.join(values)})" if len(values) > 1 else "=".join([key, *values]))
        if selectors:
            query["label_selector"] = ",".join(selectors)
        return query
