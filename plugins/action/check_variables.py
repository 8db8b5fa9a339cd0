# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fails when a variable carries a role's prefix and no role knows it: a typo that would otherwise do nothing."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[2]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def role_options(root: Path = ROOT) -> dict[str, set[str]]:
    """Role name to the names that its specs know."""
    roles: dict[str, set[str]] = {}
    for spec in sorted(root.glob("roles/*/meta/argument_specs.yml")):
        with spec.open(encoding="utf-8") as handle:
            entries = yaml.load(handle, Loader=LOADER)["argument_specs"].values()  # noqa: S506 - a safe loader, in C
        roles[spec.parts[-3]] = {name for entry in entries for name in entry.get("options") or {}}
    return roles


def shared_names(root: Path = ROOT) -> set[str]:
    """The C(bulwark_*) names that role defaults read, which is where they all are."""
    texts = [path.read_text(encoding="utf-8") for path in root.glob("roles/*/defaults/main.yml")]
    return set(re.findall(r"\bbulwark_[a-z0-9_]+", "\n".join(texts)))


def unknown_variables(names: list[str], roles: dict[str, set[str]], shared: set[str]) -> list[str]:
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


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("ignore",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        ignore = self._task.args.get("ignore") or []
        names = [name for name in task_vars or {} if name not in ignore]
        problems = unknown_variables(names, role_options(), shared_names())
        if problems:
            result.update(failed=True, msg=" ".join(problems))
        return {**result, "changed": False}
