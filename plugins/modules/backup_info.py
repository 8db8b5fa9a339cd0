#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List backups, with what was found when they were drilled
description:
  - Reads the catalogue of a store. Each backup costs a request for its manifest, and one for its last drill.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._backup_store]
attributes:
  check_mode:
    support: full
    description: Changes nothing anyway.
options:
  host:
    description: Whose backups. Everybody's unless given.
    type: str
    default: ""
  job:
    description: Name of the job. All unless given.
    type: str
    default: ""
  newest:
    description: Only so many of each job, the newest. V(0) for all.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Look for the newest backup of each job
  bulwark.stack.backup_info:
    store: "{{ backups_store }}"
    newest: 1
  register: catalogue

- name: Refuse to migrate without a backup of today
  ansible.builtin.assert:
    that: catalogue.backups | selectattr('job', 'eq', 'postgres') | selectattr('age_seconds', 'lt', 86400)
"""

RETURN = r"""
backups:
  description: The backups by host, job and time.
  returned: success
  type: list
  elements: dict
  contains:
    host: {description: Whose backup it is., type: str}
    job: {description: Name of the job., type: str}
    kind: {description: Kind of the job., type: str}
    backup: {description: Name of the backup., type: str}
    started: {description: "When it was begun, in UTC as ISO 8601. What was written later is not in it.", type: str}
    finished: {description: When it was done., type: str}
    age_seconds: {description: How long ago it was begun., type: int}
    plain_bytes: {description: What the source gave., type: int}
    stored_bytes: {description: What it takes in the store., type: int}
    members: {description: "Its streams, each with sizes and checksums.", type: list, elements: dict}
    last_drill:
      description: The result of its last drill, with C(ok), C(seconds) and C(checks); null if there was none.
      type: dict
"""

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._backup.catalogue import Record, catalogue, last_drill, manifest
from ..module_utils._backup.stores import Store
from ..module_utils._backup_module import SPEC, agent_of, failures


def latest(records: Iterable[Record], count: int) -> Iterator[Record]:
    """The newest of each job, all for 0; of those that exist."""
    for _job, group in groupby((one for one in records if one.complete), key=lambda one: (one.host, one.job)):
        yield from list(group)[-count:]


def described(store: Store, record: Record, now: datetime) -> dict[str, Any]:
    found = manifest(store, record)
    return {
        **{name: getattr(found, name) for name in ("host", "job", "kind", "backup", "started", "finished")},
        "age_seconds": int((now - record.taken_at).total_seconds()),
        "plain_bytes": found.plain_bytes,
        "stored_bytes": found.stored_bytes,
        "members": [dataclasses.asdict(member) for member in found.members],
        "last_drill": last_drill(store, record),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "host": {"type": "str", "default": ""},
            "job": {"type": "str", "default": ""},
            "newest": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    given = module.params
    with failures(module):
        agent = agent_of(module)
        records = latest(catalogue(agent.store, given["host"], given["job"]), given["newest"])
        backups = [described(agent.store, record, agent.clock()) for record in records]
    module.exit_json(changed=False, backups=backups)


if __name__ == "__main__":
    main()
