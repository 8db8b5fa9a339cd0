# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names the source of a release on the controller and ships its files, once, to a host that lacks it."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils.release_source import SourceError, describe, pack


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if args.get("state") not in ("described", "built"):
            return {**result, **self._execute_module(module_args=args, task_vars=task_vars)}
        source = self._source(args.get("source") or {})
        try:
            if args["state"] == "described":
                return {**result, "changed": False, "digest": describe(source)}
            args["source"] = source
            result.update(self._execute_module(module_args=args, task_vars=task_vars))
            if result.pop("needs_archive", False):
                result.update(self._ship(source, args, task_vars))
        except SourceError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return result

    def _source(self, source: dict[str, Any]) -> dict[str, Any]:
        """The source with all its keys and with paths from where the playbook is."""
        done = {
            **dict.fromkeys(("directory", "repository", "wheel", "requirements", "digest"), ""),
            "excludes": [],
            **source,
        }
        for key in ("directory", "wheel"):
            if done[key] and "://" not in done[key]:
                done[key] = self._loader.path_dwim(done[key])
        if done["wheel"] and done["requirements"]:
            done["requirements"] = self._loader.path_dwim(done["requirements"])
        return done

    def _ship(self, source: dict[str, Any], args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        remote = self._make_tmp_path()
        path = self._connection._shell.join_path(remote, "release.tar.gz")
        descriptor, local = tempfile.mkstemp(dir=constants.DEFAULT_LOCAL_TMP)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(pack(source))
            self._transfer_file(local, path)
            return self._execute_module(module_args={**args, "archive": path}, task_vars=task_vars)
        finally:
            os.unlink(local)
            self._remove_tmp_path(remote)
