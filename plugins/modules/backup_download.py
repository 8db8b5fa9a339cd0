#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_download
short_description: Get one member of a backup as it was
description:
  - Decrypts, decompresses and compares with the checksums of the manifest. The file appears only when it is whole.
  - A file that is there and equal is left as it is.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._backup_store]
attributes:
  diff_mode:
    support: none
    description: Shows nothing; what is in a backup may be secret.
options:
  job:
    description: Name of the job.
    type: str
    required: true
  host:
    description: Whose backup. The name that the host gives itself unless given.
    type: str
  backup:
    description: Name of the backup, as M(bulwark.stack.backup_info) returns it.
    type: str
    default: latest
  member:
    description: Which of its members, such as V(shop.dump). Needed where it has several.
    type: str
    default: ""
  dest:
    description: The new file.
    type: path
    required: true
  replace:
    description: Whether a file that is there and differs is replaced.
    type: bool
    default: false
  identity_file:
    description: The private key, in a file on the host.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Get yesterday's dump
  bulwark.stack.backup_download:
    store: "{{ backups_store }}"
    host: db1
    job: postgres
    member: shop.dump
    dest: /root/shop.dump
    identity_file: /root/backup.key
"""

RETURN = r"""
backup: {description: Name of the backup., returned: success, type: str}
member:
  description: What the manifest says of the member.
  returned: success
  type: dict
  sample: {name: shop.dump, plain_bytes: 1048576, plain_sha256: e3b0c442, stored_bytes: 524288}
"""

import dataclasses
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._backup import catalogue, jobs
from ..module_utils._backup.errors import BackupError
from ..module_utils._backup.manifest import Manifest, Member
from ..module_utils._backup.settings import Job
from ..module_utils._backup_module import HOST, SPEC, agent_of, failures


def chosen(manifest: Manifest, name: str) -> Member:
    """The named member, or the only one."""
    if name or len(manifest.members) != 1:
        return manifest.member(name)
    return manifest.members[0]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            **HOST,
            "job": {"type": "str", "required": True},
            "backup": {"type": "str", "default": "latest"},
            "member": {"type": "str", "default": ""},
            "dest": {"type": "path", "required": True},
            "replace": {"type": "bool", "default": False},
            "identity_file": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    given, dest = module.params, module.params["dest"]
    with failures(module):
        agent = agent_of(module, identity_file=given["identity_file"])
        job = Job(given["job"], "files")
        record = jobs.find(agent, job, given["backup"])
        member = chosen(catalogue.manifest(agent.store, record), given["member"])
        there = os.path.lexists(dest)
        changed = not there or module.sha256(dest) != member.plain_sha256
        if changed and there and not given["replace"]:
            raise BackupError(f"{dest} exists and differs; say replace: true to replace it, or name another dest.")
        if changed and not module.check_mode:
            partial = f"{dest}.bulwark-new"
            if os.path.lexists(partial):
                os.unlink(partial)
            jobs.fetch(agent, job, record.backup, member.name, partial)
            os.replace(partial, dest)
    module.exit_json(changed=changed, backup=record.backup, member=dataclasses.asdict(member))


if __name__ == "__main__":
    main()
