# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fails when a variable carries a role's prefix and no role knows it, or when its value has the wrong type.

A typo would otherwise do nothing, and a wrong type would end the run half way.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ..plugin_utils._cloud_schema import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def role_options(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Role name to the options that its specs know."""
    roles: dict[str, dict[str, Any]] = {}
    for spec in sorted(root.glob("roles/*/meta/argument_specs.yml")):
        with spec.open(encoding="utf-8") as handle:
            entries = yaml.load(handle, Loader=LOADER)["argument_specs"].values()  # noqa: S506 - a safe loader, in C
        roles[spec.parts[-3]] = {
            name: option for entry in entries for name, option in (entry.get("options") or {}).items()
        }
    return roles


def shared_names(root: Path = ROOT) -> set[str]:
    """The C(bulwark_*) names that role defaults and playbooks read, and those that the cloud inventories set."""
    paths = [*root.glob("roles/*/defaults/main.yml"), *root.glob("playbooks/*.yml")]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    listed = {f"bulwark_{name}" for name in VARIABLES}
    return listed.union(re.findall(r"\bbulwark_[a-z0-9_]+", "\n".join(texts)))


def unknown_variables(names: list[str], roles: dict[str, Any], shared: set[str]) -> list[str]:
    """One sentence for each name that looks like ours and is not."""
    known = shared.union(*roles.values())
    prefixes = (*(f"{role}_" for role in roles), "bulwark_")
    problems = []
    for name in sorted(names):
        if name in known or not name.startswith(prefixes):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        problems.append(
            f"'{name}' is not a variable of this collection." + (f" Did you mean '{near[0]}'?" if near else "")
        )
    return problems


def wrong_values(variables: dict[str, Any], roles: dict[str, dict[str, Any]]) -> list[str]:
    """One sentence for each literal value that its spec refuses; what is still a template is checked by its role."""
    problems = []
    for options in roles.values():
        for name in sorted(options.keys() & variables.keys()):
            if "{{" in str(variables[name]) or "{%" in str(variables[name]):
                continue
            result = ArgumentSpecValidator({name: bare(options[name])}).validate({name: variables[name]})
            if result.error_messages:
                # The message may quote the value.
                hidden = "no_log" in str(options[name])
                problems.append(
                    f"'{name}' wants {options[name]['type']}." if hidden else f"{result.error_messages[0]}."
                )
    return problems


def bare(option: dict[str, Any]) -> dict[str, Any]:
    """An option as ArgumentSpecValidator takes it, without the prose and without what would make it required."""
    kept = {key: value for key, value in option.items() if key in ("type", "elements", "choices", "no_log")}
    if option.get("options"):
        nested = {
            name: {**bare(inner), "required": inner.get("required", False)} for name, inner in option["options"].items()
        }
        kept["options"] = nested
    return kept


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("ignore",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        ignore = self._task.args.get("ignore") or []
        variables = {name: value for name, value in (task_vars or {}).items() if name not in ignore}
        roles = role_options()
        problems = unknown_variables(list(variables), roles, shared_names()) + wrong_values(variables, roles)
        if problems:
            result.update(failed=True, msg=" ".join(problems))
        return {**result, "changed": False}
