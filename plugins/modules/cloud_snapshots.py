#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_snapshots
short_description: Take snapshots of servers and remove old ones
description:
  - Takes a snapshot of each server whose newest one is old enough, and then removes its oldest ones.
  - Looks at all accounts that there is a token for. Only snapshots that this module has taken count and go; those of
    servers that are gone stay.
  - A snapshot holds the disk as after a power cut, and no volumes. It is no backup, because it is at the same provider.
  - At Linode it is an image of the largest disk, of which the service takes up to 6 GB.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._cloud_account]
options:
  servers:
    description: Names of the servers.
    type: list
    elements: str
    required: true
  every_days:
    description: How old the newest snapshot may be before another one is taken, with a tolerance of half a day.
    type: int
    default: 7
  keep:
    description: How many snapshots of each server stay. V(0) removes none.
    type: int
    default: 4
"""

EXAMPLES = r"""
- name: A snapshot a week, four of them
  bulwark.stack.cloud_snapshots:
    servers: "{{ bulwark_servers | map(attribute='name') }}"
  delegate_to: localhost
"""

RETURN = r"""
taken:
  description: The snapshots that were or would be taken.
  returned: success
  type: list
  elements: str
  sample: [bulwark-web1-20261120T020000Z]
removed:
  description: Those that were or would be removed.
  returned: success
  type: list
  elements: str
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cloud import build
from ..module_utils._cloud.build import Cloud, uncertain
from ..module_utils._cloud.http import CloudError
from ..module_utils._cloud.plan import Resource
from ..module_utils._cloud.snapshots import is_due, snapshot_name, too_many
from ..module_utils._cloud_module import SPEC, open_clouds


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "servers": {"type": "list", "elements": "str", "required": True},
            "every_days": {"type": "int", "default": 7},
            "keep": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
    )
    now = datetime.now(timezone.utc)
    taken: list[str] = []
    removed: list[str] = []
    with open_clouds(module, [], more=True) as clouds:
        found = {name: [one for one in cloud.servers() if one.name in wanted(module)] for name, cloud in clouds.items()}
        missing = wanted(module) - {one.name for ones in found.values() for one in ones}
        if missing:
            raise CloudError(
                f"There is no server {', '.join(sorted(missing))} at {', '.join(clouds) or 'any provider'}; correct "
                "the name, or give the token of its account."
            )
        for name, servers in found.items():
            new, old = keep_up(module, clouds[name], servers, now)
            taken += new
            removed += old
    module.exit_json(changed=bool(taken or removed), taken=taken, removed=removed)


def wanted(module: AnsibleModule) -> set[str]:
    return set(module.params["servers"])


def keep_up(module: AnsibleModule, cloud: Cloud, servers: list[Resource], now: datetime) -> tuple[list[str], list[str]]:
    """Takes what is due, and removes what is too much once the new ones are complete."""
    if not servers:
        return [], []
    there = cloud.snapshots()
    due = [one for one in servers if is_due(there, one.name, now, module.params["every_days"])]
    names = [snapshot_name(one.name, now) for one in due]
    if not module.check_mode:
        for server, name in zip(due, names):
            take(cloud, server, name)
        cloud.settle()
        there = cloud.snapshots() if due else there
    else:
        there = [*there, *(build.Snapshot("", name) for name in names)]
    old = [snapshot for one in servers for snapshot in too_many(there, one.name, module.params["keep"])]
    for snapshot in old:
        if not module.check_mode:
            cloud.drop_snapshot(snapshot)
    return names, [snapshot.name for snapshot in old]


def take(cloud: Cloud, server: Resource, name: str) -> None:
    """One snapshot; where the answer is lost, a look shows whether it was begun."""
    try:
        cloud.take_snapshot(server, name)
    except CloudError as error:
        if not uncertain(error):
            raise
        cloud.clock.sleep(build.LAG_SECONDS)
        if name not in [one.name for one in cloud.snapshots()]:
            raise


if __name__ == "__main__":
    main()
