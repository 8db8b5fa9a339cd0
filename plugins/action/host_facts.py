# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the host, and takes a host that lets nobody in for an answer where one is asked for."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("contact_required",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            done = self._execute_module("bulwark.stack.host_facts", module_args={}, task_vars=task_vars)
        except AnsibleConnectionFailure as exc:
            if boolean(self._task.args.get("contact_required", True)):
                raise
            return {**result, "changed": False, "no_contact": str(exc)}
        return {**result, **done}
