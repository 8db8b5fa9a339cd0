#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: sysctls
short_description: Set many kernel parameters, now and for every boot, in one round trip
description:
  - Writes one C(sysctl.d) file and brings the running kernel to its values.
  - A key that this kernel lacks, or that a container may not set, is reported and does not fail the run.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  path:
    description: The file below C(/etc/sysctl.d).
    type: path
    required: true
  values:
    description: Key to value. Keys in dotted form, see C(sysctl.d(5)).
    type: dict
    required: true
  guard_seconds:
    description:
      - Keep how each parameter was before its first change.
      - A change of the network is put back after so many seconds, unless M(bulwark.stack.guard)
        has confirmed it by then. V(0) keeps nothing.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Let Redis fork
  bulwark.stack.sysctls:
    path: /etc/sysctl.d/60-redis.conf
    values: {vm.overcommit_memory: 1}
"""

RETURN = r"""
unavailable: {description: Keys that this kernel lacks., returned: always, type: list, elements: str}
refused: {description: Keys that the kernel did not let us set., returned: always, type: list, elements: str}
armed: {description: Whether the change waits for its confirmation., returned: always, type: bool}
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._guard import Guard


def kernel_path(key: str) -> str:
    """The file of a key. A slash inside a key stands for a dot in an interface name, as in sysctl.d(5)."""
    return "/proc/sys/" + key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def kernel_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def write_file(module: AnsibleModule, path: str, text: str) -> None:
    try:
        with open(path + ".new", "w", encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(path + ".new", 0o644)
        os.replace(path + ".new", path)
    except OSError as exc:
        module.fail_json(msg=f"sysctls: {path} cannot be written: {exc.strerror}.")


def set_key(key: str, value: str, before: str) -> bool:
    """Whether the kernel took the value; one that it rounds counts when it moved."""
    try:
        with open(kernel_path(key), "w", encoding="utf-8") as handle:
            handle.write(value)
        with open(kernel_path(key), encoding="utf-8") as handle:
            return not same(handle.read(), before)
    except OSError:
        return False


def in_order(values: dict[str, str]) -> list[tuple[str, str]]:
    """By name, forwarding first: a change of it sets many other parameters of the network back, see ip-sysctl."""
    return sorted(values.items(), key=lambda item: (not item[0].endswith(("ip_forward", "forwarding")), item[0]))


def same(first: str, second: str) -> bool:
    return first.split() == second.split()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "values": {"type": "dict", "required": True},
            "guard_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    guard = Guard(module, module.params["guard_seconds"])
    path = module.params["path"]
    values = {key: kernel_text(value) for key, value in module.params["values"].items()}
    text = "# Managed by Ansible (bulwark.stack).\n" + "".join(f"{key} = {value}\n" for key, value in in_order(values))
    before = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as handle:
            before = handle.read()
    diffs = []
    if before != text:
        diffs.append({"before_header": path, "after_header": path, "before": before, "after": text})
        if not module.check_mode:
            # All at once: forwarding changes others. A key that drifted goes back to what was confirmed once.
            guard.before(path)
            guard.before_sysctls(values)
            write_file(module, path, text)
    unavailable, refused = [], []
    for key, value in in_order(values):
        try:
            with open(kernel_path(key), encoding="utf-8") as handle:
                now = handle.read().strip()
        except OSError:
            unavailable.append(key)
            continue
        if same(now, value):
            continue
        taken = os.access(kernel_path(key), os.W_OK) if module.check_mode else set_key(key, value, now)
        if not taken:
            refused.append(key)
            continue
        diffs.append({"before_header": key, "after_header": key, "before": now + "\n", "after": value + "\n"})
    module.exit_json(
        changed=bool(diffs),
        diff=diffs if module._diff else [],
        unavailable=unavailable,
        refused=refused,
        armed=guard.armed,
    )


if __name__ == "__main__":
    main()
