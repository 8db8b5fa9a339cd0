#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_prune
short_description: Remove the backups of a job that need not be kept
description:
  - Keeps the newest backup of each of the last hours, days, weeks, months and years. The newest one is always kept.
  - Also removes what interrupted uploads left two days ago or earlier.
  - What restic or pgBackRest made is pruned by C(bulwark-backup prune) on its host, which knows their repository.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._backup_store]
options:
  job:
    description: Name of the job.
    type: str
    required: true
  host:
    description: Whose backups. The name that the host gives itself unless given.
    type: str
  keep:
    description: How many are kept.
    type: dict
    default: {}
    suboptions:
      hourly:
        description: Of so many hours.
        type: int
        default: 0
      daily:
        description: Of so many days.
        type: int
        default: 7
      weekly:
        description: Of so many weeks.
        type: int
        default: 4
      monthly:
        description: Of so many months.
        type: int
        default: 12
      yearly:
        description: Of so many years.
        type: int
        default: 0
"""

EXAMPLES = r"""
- name: Keep a week of what this playbook uploads
  bulwark.stack.backup_prune:
    store: "{{ backups_prune_store }}"
    job: media-before-migration
    keep: {daily: 7, weekly: 0, monthly: 0}
"""

RETURN = r"""
dropped:
  description: Names of the backups that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
"""

import dataclasses
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._backup import catalogue, jobs
from ..module_utils._backup.errors import SettingsError
from ..module_utils._backup.jobs import Agent
from ..module_utils._backup.settings import Job, Keep
from ..module_utils._backup_module import HOST, SPEC, agent_of, failures

ENGINES = ("restic", "pgbackrest")


def keep_spec() -> dict[str, Any]:
    return {field.name: {"type": "int", "default": field.default} for field in dataclasses.fields(Keep)}


def refuse_engines(agent: Agent, job: Job) -> None:
    """@raises SettingsError: if an engine's own repository holds the backups"""
    for record in catalogue.catalogue(agent.store, agent.settings.host, job.name):
        if record.complete:
            kind = catalogue.manifest(agent.store, record).kind
            if kind in ENGINES:
                raise SettingsError(
                    f"The backups of {job.name} are in a repository of {kind}: prune them on their host."
                )
            return


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            **HOST,
            "job": {"type": "str", "required": True},
            "keep": {"type": "dict", "default": {}, "options": keep_spec()},
        },
        supports_check_mode=True,
    )
    with failures(module):
        # What made the streams does not matter when they go.
        job = {"name": module.params["job"], "kind": "command", "command": ["true"]}
        agent = agent_of(module, jobs=[job], keep=module.params["keep"], encrypted=False)
        refuse_engines(agent, agent.settings.jobs[0])
        dropped = jobs.prune(agent, agent.settings.jobs, dry_run=module.check_mode)
    diff = {"before": "".join(f"{name}\n" for name in dropped), "after": ""}
    module.exit_json(changed=bool(dropped), dropped=dropped, diff=diff)


if __name__ == "__main__":
    main()
