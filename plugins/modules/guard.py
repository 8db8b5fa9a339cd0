#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: Confirm a change of SSH, accounts or firewall over a new connection, or have it put back
description:
  - The modules M(bulwark.stack.files), M(bulwark.stack.units), M(bulwark.stack.ufw_rules) and M(bulwark.stack.sysctls)
    arm the guard before they change what decides who comes in, if they have C(guard_seconds). The host then puts the
    state before back when nobody has confirmed the change in that time, and right after a restart. It needs nobody
    for that.
  - V(confirmed) opens a connection of its own, past any that is shared, and becomes root. That alone confirms.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  state:
    description:
      - V(armed) prepares the way back before O(users) come, go or change.
      - V(extended) gives a change that an earlier run left behind the full time once more.
      - V(confirmed) comes in anew and keeps the change.
      - V(restored) puts it back at once. Where nobody comes in any more, it waits until the host has done so by itself.
      - V(recorded) keeps how O(paths) and O(units) are before their first change, and which O(packages) come.
      - V(read) tells what is; V(told) forgets the last rollback.
      - V(unhardened) brings back how everything was before the first change, armed.
      - V(forgotten) removes all records.
    type: str
    choices: [armed, extended, confirmed, restored, recorded, read, told, unhardened, forgotten]
    required: true
  seconds:
    description: The time in which a change has to be confirmed.
    type: int
    default: 120
  port:
    description: The port to come in over, that of the inventory unless given. For V(confirmed).
    type: int
  reason:
    description: Why it is put back. For V(restored).
    type: str
    default: somebody asked for it
  users:
    description: Accounts that are to come, go or change, each with its home directory. For V(armed).
    type: dict
    default: {}
  paths: {description: Files to keep. For V(recorded)., type: list, elements: path, default: []}
  units: {description: Units to keep. For V(recorded)., type: list, elements: str, default: []}
  packages:
    description: Packages that are about to be installed. For V(recorded).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Place the configuration of SSH
  bulwark.stack.files:
    files:
      - {path: /etc/ssh/sshd_config.d/00-mine.conf, content: "AllowGroups admins\n"}
    validate: [/usr/sbin/sshd -t]
    guard_seconds: 60

- name: Reload SSH
  ansible.builtin.systemd_service: {name: ssh.service, state: reloaded}

- name: Come in anew, and keep the change
  bulwark.stack.guard:
    state: confirmed
"""

RETURN = r"""
armed: {description: Whether a change waits for its confirmation., returned: always, type: bool}
put_back: {description: "What the last rollback did and why, in sentences.", returned: always, type: str}
put_back_paths:
  description: What the last rollback brought back; files, units and kernel parameters.
  returned: always
  type: list
  elements: str
confirmed: {description: Whether the change is kept., returned: for V(confirmed), type: bool}
changed_paths:
  description: What was brought back; files, units and kernel parameters.
  returned: for V(unhardened)
  type: list
  elements: str
problems: {description: What could not be brought back., returned: for V(unhardened), type: list, elements: str}
left: {description: What stays as it is., returned: for V(unhardened), type: list, elements: str}
packages: {description: Packages that were installed., returned: for V(unhardened), type: list, elements: str}
port: {description: The port of sshd., returned: for V(unhardened), type: int}
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _guard

SPEC = {
    "state": {
        "type": "str",
        "required": True,
        "choices": [
            "armed",
            "extended",
            "confirmed",
            "restored",
            "recorded",
            "read",
            "told",
            "unhardened",
            "forgotten",
        ],
    },
    "seconds": {"type": "int", "default": 120},
    "port": {"type": "int"},
    "reason": {"type": "str", "default": "somebody asked for it"},
    "users": {"type": "dict", "default": {}},
    "paths": {"type": "list", "elements": "path", "default": []},
    "units": {"type": "list", "elements": "str", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
}


def armed(module: AnsibleModule) -> dict[str, Any]:
    users = module.params["users"]
    guard = _guard.Guard(module, module.params["seconds"])
    guard.before_users(users, users.values())
    return {"changed": bool(users)}


def extended(module: AnsibleModule) -> dict[str, Any]:
    with _guard.locked():
        if _guard.status()["armed"]:
            _guard.arm(module.params["seconds"])
    return {"changed": False}


def confirmed(module: AnsibleModule) -> dict[str, Any]:
    done = _guard.confirm()
    return {"changed": done, "confirmed": done}


def restored(module: AnsibleModule) -> dict[str, Any]:
    return {"changed": bool(_guard.put_back(module.params["reason"].rstrip(".")))}


def recorded(module: AnsibleModule) -> dict[str, Any]:
    with _guard.locked():
        kept = _guard.Kept("first")
        kept.data["packages"] = sorted({*kept.data["packages"], *module.params["packages"]})
        kept.add(module.params["paths"], module.params["units"])
    return {"changed": False}


def told(module: AnsibleModule) -> dict[str, Any]:
    _guard.forget_report()
    return {"changed": False}


def ssh_port() -> int:
    """Where sshd listens; where a socket listens for it, what sshd itself says does not count."""
    socket = _guard.unit_states(["ssh.socket"])["ssh.socket"]["active"] == "active"
    words = ("systemctl", "show", "-p", "Listen", "ssh.socket") if socket else ("/usr/sbin/sshd", "-T")
    found = re.search(r"^(?:port |Listen=\S*:)(\d+)", _guard.call(*words), re.MULTILINE)
    return int(found.group(1)) if found else 22


def unhardened(module: AnsibleModule) -> dict[str, Any]:
    first = _guard.Kept("first")
    if not first.exists:
        module.fail_json(msg="Nothing is recorded on this host: it was not hardened, or it is unhardened already.")
    if module.check_mode:
        return {"changed": True, **_guard.foretell()}
    done = _guard.unharden(module.params["seconds"])
    return {"changed": bool(done["changed_paths"]), **done, "port": ssh_port()}


def forgotten(module: AnsibleModule) -> dict[str, Any]:
    _guard.forget()
    return {"changed": True}


STATES = {
    "armed": armed,
    "extended": extended,
    "confirmed": confirmed,
    "restored": restored,
    "recorded": recorded,
    "told": told,
    "unhardened": unhardened,
    "forgotten": forgotten,
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    work = STATES.get(module.params["state"])
    result: dict[str, Any] = {"changed": False}
    if work and (not module.check_mode or work is unhardened):
        try:
            result = work(module)
        except (OSError, _guard.GuardError) as exc:
            module.fail_json(msg=f"guard: {exc}.")
    module.exit_json(**_guard.status(), **result)


if __name__ == "__main__":
    main()
