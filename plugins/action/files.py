# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Renders the templates of a ``files`` task on the controller, then places all files in one round trip."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars, trust_as_template


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("files", "purge", "validate", "guard_seconds"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        files = args.get("files") or []
        if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
            raise AnsibleActionFail("files: this wants a list of dictionaries, each with a path.")
        args["files"] = [self._resolve(dict(entry), task_vars or {}) for entry in files]
        result.update(self._execute_module("bulwark.stack.files", module_args=args, task_vars=task_vars))
        return result

    def _resolve(self, entry: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Turns C(template), C(src) and C(secret) of one entry into plain content for the module."""
        path = entry.get("path", "?")
        sources = [key for key in ("template", "src", "content") if entry.get(key) is not None]
        if len(sources) > 1:
            raise AnsibleActionFail(f"files: {path} has {' and '.join(sources)}; give one of them.")
        content = entry.pop("content", None)
        secret = boolean(entry.pop("secret", False))
        if entry.get("template") is not None:
            content = self._render(entry.pop("template"), path, entry.pop("vars", None) or {}, task_vars)
        elif entry.get("src") is not None:
            with open(self._needle("files", entry.pop("src"), path), encoding="utf-8") as handle:
                content = handle.read()
        if content is not None:
            entry["secret_content" if secret else "content"] = content
        return entry

    def _needle(self, folder: str, name: str, path: str) -> str:
        try:
            return self._find_needle(folder, name)
        except AnsibleError as exc:
            raise AnsibleActionFail(f"files: {path} wants {name}, which is not in the role's {folder}/.") from exc

    def _render(self, name: str, path: str, extra: dict[str, Any], task_vars: dict[str, Any]) -> str:
        source = self._needle("templates", name, path)
        roots = [*task_vars.get("ansible_search_path", []), os.path.dirname(source)]
        searchpath = [p for root in roots for p in (os.path.join(root, "templates"), root)]
        variables = {
            **task_vars,
            **generate_ansible_template_vars(path=name, fullpath=source, dest_path=path),
            **extra,
        }
        templar = self._templar.copy_with_new_env(searchpath=searchpath, available_variables=variables)
        text = trust_as_template(self._loader.get_text_file_contents(source))
        return templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True}) or ""
