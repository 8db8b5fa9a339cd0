#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: bucket_policy
short_description: Make a bucket private, versioned, locked, and let old things in it go by themselves
description:
  - Makes the bucket if it is not there. An object lock can be had for a new bucket only, with most providers.
  - The bucket's default lock is as long as O(store.lock_days); V(0) leaves it as it is. A lock turns versions on.
  - Lifecycle rules of other origin stay; with B2, those for other prefixes.
  - Needs credentials that may change the bucket, which those of a host that backs up should not be.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes, bulwark.stack._backup_store]
options:
  private:
    description: Whether nobody may read the bucket without a key. V(false) leaves that as it is.
    type: bool
    default: true
  versioned:
    description: Whether replaced and deleted objects are kept as old versions. As it is unless given.
    type: bool
  lock_mode:
    description: V(governance) can be lifted by the account's owner, V(compliance) by nobody before its time.
    type: str
    choices: [governance, compliance]
    default: governance
  abort_unfinished_days:
    description: After how many days the parts of an upload that was never completed go. V(0) for no such rule.
    type: int
    default: 7
  delete_old_versions_days:
    description: For how many days old versions are kept. V(0) for no such rule.
    type: int
    default: 0
  expire_days:
    description:
      - Prefix to the number of days after which what is below it goes, such as temporary files of an application.
      - Never for backups; what their retention is, the role says.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: A bucket that keeps backups for 30 days at least, whoever has the keys
  bulwark.stack.bucket_policy:
    store: "{{ backups_store | combine({'lock_days': 30}) }}"
    delete_old_versions_days: 7
  delegate_to: localhost

- name: A bucket for an application's files
  bulwark.stack.bucket_policy:
    store: "{{ media_store }}"
    expire_days: {tmp/: 1, outputs/: 30}
  delegate_to: localhost
"""

RETURN = r"""
bucket:
  description: What the bucket is now, or would be. V(unsupported) is what this store does not have.
  returned: success
  type: dict
  sample:
    exists: true
    public_acl: false
    public_access_blocked: true
    public_policy: false
    versioned: true
    lock: {mode: governance, days: 30}
    rules: {unfinished: {prefix: "", abort_unfinished_days: 7}}
"""

import dataclasses
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._backup.bucket import MODES, Policy, check_policy, open_bucket
from ..module_utils._backup.errors import SettingsError
from ..module_utils._backup_module import SPEC, failures, store_settings


def whole_days(given: dict[str, Any]) -> dict[str, int]:
    """The dictionary with numbers, as templates give texts."""
    try:
        return {str(prefix): int(days) for prefix, days in given.items()}
    except (TypeError, ValueError) as error:
        raise SettingsError("expire_days must be a dictionary of prefixes to days.") from error


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "private": {"type": "bool", "default": True},
            "versioned": {"type": "bool"},
            "lock_mode": {"type": "str", "choices": list(MODES), "default": MODES[0]},
            "abort_unfinished_days": {"type": "int", "default": 7},
            "delete_old_versions_days": {"type": "int", "default": 0},
            "expire_days": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    with failures(module):
        settings = store_settings(module)
        words = {one.name: module.params[one.name] for one in dataclasses.fields(Policy) if one.name in module.params}
        words["expire_days"] = whole_days(module.params["expire_days"])
        policy = Policy(**words, lock_days=settings.lock_days)
        check_policy(settings, policy)
        bucket = open_bucket(settings)
        before = bucket.look()
        after = bucket.wanted(policy, before)
        if before != after and not module.check_mode:
            bucket.apply(before, after)
            after = bucket.look()
            # Once more, for what the old state has hidden.
            bucket.wanted(policy, after)
    module.exit_json(changed=before != after, bucket=after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
