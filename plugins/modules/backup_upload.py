#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_upload
short_description: Back up a file, a directory or the output of a command
description:
  - Compressed, encrypted and streamed to the store; nothing lies on the disk meanwhile.
  - The backup is in the same catalogue as those of the role P(bulwark.stack.backups#role), so it is listed, verified
    and pruned in the same ways.
  - A source that fails leaves no backup.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._backup_store]
attributes:
  diff_mode:
    support: none
    description: Shows nothing; a new backup is not a change of an old one.
  idempotent:
    support: none
    description: Every call makes a backup.
options:
  job:
    description: What the backup is called in the catalogue.
    type: str
    required: true
  host:
    description: Whose backup it is. The name that the host gives itself unless given.
    type: str
  paths:
    description: Files and directories.
    type: list
    elements: path
  exclude:
    description: Shell patterns of what to leave out; with a slash at the beginning a whole path, else a name anywhere.
    type: list
    elements: str
    default: []
  command:
    description: A program with its arguments, which prints the data. There is no shell.
    type: list
    elements: str
  user:
    description: The account that O(command) runs as. The one that the module runs as unless given.
    type: str
    default: ""
  recipients:
    description: Public keys (C(age1…)) that may read the backup.
    type: list
    elements: str
    default: []
  encrypted:
    description: V(false) stores it so that everybody who reads the store can read it.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Keep the media before the migration touches them
  bulwark.stack.backup_upload:
    store: "{{ backups_store }}"
    recipients: "{{ backups_recipients }}"
    job: media-before-migration
    paths: [/srv/shop/shared/media]

- name: Keep what the cluster knows
  bulwark.stack.backup_upload:
    store: "{{ backups_store }}"
    recipients: "{{ backups_recipients }}"
    job: cluster
    command: [kubectl, get, all, --all-namespaces, --output=yaml]
"""

RETURN = r"""
backup:
  description: The manifest of the new backup, with its name, times, sizes and checksums. Without members in check mode.
  returned: success
  type: dict
  sample: {backup: 20260101T020000Z-5f2c81aa, job: media, kind: files, host: web1}
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._backup import jobs
from ..module_utils._backup_module import HOST, SPEC, agent_of, failures


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            **HOST,
            "job": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "command": {"type": "list", "elements": "str"},
            "user": {"type": "str", "default": ""},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "encrypted": {"type": "bool", "default": True},
        },
        required_one_of=[("paths", "command")],
        mutually_exclusive=[("paths", "command"), ("exclude", "command"), ("user", "paths")],
        supports_check_mode=True,
    )
    given = module.params
    if given["command"]:
        job = {"name": given["job"], "kind": "command", "command": given["command"], "user": given["user"]}
    else:
        job = {"name": given["job"], "kind": "files", "paths": given["paths"], "exclude": given["exclude"]}
    with failures(module):
        agent = agent_of(module, jobs=[job], recipients=given["recipients"], encrypted=given["encrypted"])
        manifest = jobs.run(agent, agent.settings.jobs[0], dry_run=module.check_mode)
        module.exit_json(changed=True, backup=dataclasses.asdict(manifest))


if __name__ == "__main__":
    main()
