# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers from what the run already knows of a host, so that twelve roles cost one look at it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("known",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        known = self._task.args.get("known") or {}
        if known.get("packages"):
            return {**known, "changed": False}
        result.update(self._execute_module("bulwark.stack.host_facts", module_args={}, task_vars=task_vars))
        result.pop("invocation", None)
        return result
