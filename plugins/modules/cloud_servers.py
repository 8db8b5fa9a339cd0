#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_servers
short_description: Create the servers of a site at four clouds, with all that belongs to them
description:
  - Brings accounts at Hetzner Cloud, DigitalOcean, Vultr and Linode to what is declared. That is servers with their
    keys, private networks, firewalls and volumes, load balancers, and DNS records in zones that are there.
  - Check mode gives the plan, with the monthly cost from the provider's price list.
  - Nothing is remembered between runs. What is there is all that counts, so a run that was killed is finished by
    the next.
  - Nothing is destroyed unless O(destroy) names it, and nothing is replaced. What cannot be changed in place is left
    as it is, and the plan says so.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._cloud_account]
options:
  servers:
    description: The servers that are to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, which is also its name in the inventory.
        type: str
        required: true
      provider:
        description: Where it is.
        type: str
        choices: [digitalocean, hetzner, linode, vultr]
        required: true
      region:
        description: The region as the provider writes it.
        type: str
        required: true
      plan:
        description: The size as the provider writes it. Another one later needs O(restart).
        type: str
        required: true
      image:
        description:
          - V(debian-12), V(debian-13), V(ubuntu-22.04) and V(ubuntu-24.04) mean the same everywhere; any other name
            is the provider's own. Counts when the server is made.
        type: str
        default: debian-12
      roles:
        description: Groups that the inventory plugins put it into.
        type: list
        elements: str
        default: []
      labels:
        description: Further labels; tags C(key:value) where the provider has no labels.
        type: dict
        default: {}
      networks:
        description: Private networks out of O(networks).
        type: list
        elements: str
        default: []
      volumes:
        description: Volumes that are attached to it. They stay when it goes.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The name of the volume.
            type: str
            required: true
          size_gb:
            description: Its size. A volume grows and never shrinks.
            type: int
            required: true
      dns:
        description: Domain names that point at it, in zones that are at the same provider.
        type: list
        elements: str
        default: []
      firewall_rules:
        description: Who may reach it, as the role P(bulwark.stack.base_hardening#role) has it. All else is closed.
        type: list
        elements: dict
        default: []
        suboptions: &rule
          port:
            description: A port, or a range like V(30000:32767).
            type: str
            required: true
          proto:
            description: The protocol.
            type: str
            choices: [tcp, udp]
            default: tcp
          from:
            description: Addresses and networks, or V(any).
            type: list
            elements: str
            default: []
          name:
            description: Who asks for it.
            type: str
            required: true
          action:
            description: Without a meaning here; the firewall of the host may limit.
            type: str
  networks:
    description: The private networks that servers name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the network.
        type: str
        required: true
      range:
        description: A private IPv4 network from /16 to /28.
        type: str
        required: true
  load_balancers:
    description: Load balancers, which pass TCP on and leave TLS to the servers.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      provider:
        description: Where it is.
        type: str
        choices: [digitalocean, hetzner, linode, vultr]
        required: true
      region:
        description: The region, which is that of its servers.
        type: str
        required: true
      plan:
        description: The size, where the provider has more than one.
        type: str
        default: ""
      roles:
        description: The servers of the region with one of these roles are behind it.
        type: list
        elements: str
        required: true
      ports:
        description: The ports that it passes on.
        type: list
        elements: int
        default: [80, 443]
      proxy_protocol:
        description: Whether the servers are told the address of the client by the PROXY protocol.
        type: bool
        default: false
      dns:
        description: Domain names that point at it.
        type: list
        elements: str
        default: []
  admin_users:
    description: Who may log in to a new server; the role P(bulwark.stack.base_hardening#role) has the same list.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      keys:
        description: Public keys.
        type: list
        elements: str
        default: []
      sudo:
        description: Whether sudo asks for the password. Such a user is left to the role.
        type: str
        choices: [nopasswd, password]
      password_hash:
        description: Left to the role.
        type: str
      home:
        description: Home directory.
        type: str
      state:
        description: V(absent) leaves the user out.
        type: str
        choices: [present, absent]
        default: present
  destroy:
    description:
      - What goes. A server by its name, anything else as C(kind/name) such as V(volume/media), and V(web1@4711) with an
        id where two have one name. Only what is not declared any more.
    type: list
    elements: str
    default: []
  restart:
    description: The servers that may be restarted because their O(servers[].plan) changed.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the plan and its cost
  bulwark.stack.cloud_servers:
    servers:
      - {name: web1, provider: hetzner, region: fsn1, plan: cpx22, roles: [web, workers], firewall_rules: "{{ rules }}"}
    admin_users: "{{ bulwark_admin_users }}"
  check_mode: true
  delegate_to: localhost
"""

RETURN = r"""
actions:
  description: What was or would be done, and with V(note) what is only said.
  returned: always
  type: list
  elements: dict
  sample: [{verb: create, kind: server, name: web1, provider: hetzner, text: ""}]
table:
  description: The same for people, with the monthly cost before and after.
  returned: always
  type: list
  elements: str
monthly:
  description: Currency to the monthly cost of all that is ours, without VAT, before and after.
  returned: always
  type: dict
  sample: {EUR: {now: "0.00", then: "6.49", unknown: []}}
servers:
  description: Declared server to its provider, id, status, addresses and volumes; those that are there.
  returned: always
  type: dict
"""

from decimal import Decimal
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cloud.build import Builder, Cloud, summary
from ..module_utils._cloud.plan import Resource, bills, table
from ..module_utils._cloud.wish import Declared, desired, wish_problems
from ..module_utils._cloud_module import CLOUDS, SPEC, open_clouds

TEXTS = {"type": "list", "elements": "str", "default": []}
TEXT = {"type": "str", "required": True}
PROVIDER = {**TEXT, "choices": sorted(CLOUDS)}


def entries(**options: dict[str, Any]) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


ARGUMENTS: dict[str, Any] = {
    **SPEC,
    "servers": entries(
        name=TEXT,
        provider=PROVIDER,
        region=TEXT,
        plan=TEXT,
        image={"type": "str", "default": "debian-12"},
        roles=TEXTS,
        labels={"type": "dict", "default": {}},
        networks=TEXTS,
        volumes=entries(name=TEXT, size_gb={"type": "int", "required": True}),
        dns=TEXTS,
        firewall_rules=entries(
            port=TEXT,
            proto={"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            **{"from": TEXTS},
            name=TEXT,
            action={"type": "str"},
        ),
    ),
    "networks": entries(name=TEXT, range=TEXT),
    "load_balancers": entries(
        name=TEXT,
        provider=PROVIDER,
        region=TEXT,
        plan={"type": "str", "default": ""},
        roles={"type": "list", "elements": "str", "required": True},
        ports={"type": "list", "elements": "int", "default": [80, 443]},
        proxy_protocol={"type": "bool", "default": False},
        dns=TEXTS,
    ),
    "admin_users": entries(
        name=TEXT,
        keys={**TEXTS, "no_log": False},
        sudo={"type": "str", "choices": ["nopasswd", "password"]},
        password_hash={"type": "str", "no_log": True},
        home={"type": "str"},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    ),
    "destroy": TEXTS,
    "restart": TEXTS,
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    data = Declared(
        servers=given["servers"],
        networks=given["networks"],
        load_balancers=given["load_balancers"],
        admin_users=given["admin_users"],
    )
    problems = wish_problems(data)
    if problems:
        module.fail_json(msg=" ".join(problems) + " Nothing was changed.")
    needed = {one["provider"] for one in [*given["servers"], *given["load_balancers"]]}
    with open_clouds(module, needed, more=bool(given["destroy"])) as clouds:
        result = run(module, clouds, desired(data))
    module.exit_json(**result)


def run(module: AnsibleModule, clouds: dict[str, Cloud], wanted: list[Resource]) -> dict[str, Any]:
    given = module.params
    clock = next(iter(clouds.values())).clock if clouds else None
    if clock is None:
        return {"changed": False, "actions": [], "table": ["Nothing is declared."], "monthly": {}, "servers": {}}
    builder = Builder(clouds, wanted, given["destroy"], given["restart"], clock)
    plan, there = builder.plan()
    if plan.problems:
        module.fail_json(msg=" ".join(plan.problems) + " Nothing was changed.")

    def price(resource: Resource) -> Decimal | None:
        return clouds[resource.provider].price(resource)

    costs = bills(plan.actions, price, lambda provider: clouds[provider].currency)
    lines = table(plan.actions, price, lambda provider: clouds[provider].currency)
    if plan.todo and not module.check_mode:
        there = builder.build()
    return {
        "changed": bool(plan.todo),
        "actions": [
            {
                "verb": action.verb,
                "kind": action.resource.kind,
                "name": action.resource.name,
                "provider": action.resource.provider,
                "text": action.text,
            }
            for action in plan.actions
            if action.verb != "keep"
        ],
        "table": lines,
        "monthly": {
            currency: {"now": f"{bill.now:.2f}", "then": f"{bill.then:.2f}", "unknown": bill.unknown}
            for currency, bill in costs.items()
        },
        "servers": summary(there, [one["name"] for one in given["servers"]]),
        "diff": {"prepared": "\n".join(lines) + "\n"} if plan.todo else {},
    }


if __name__ == "__main__":
    main()
