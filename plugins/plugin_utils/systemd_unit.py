# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unit files from data, see systemd.syntax(7)."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

ORDER = ("Unit", "Service", "Socket", "Timer", "Slice", "Mount", "Path", "Install")


def text_of(section: str, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if "\n" in str(value):
        raise AnsibleFilterError(
            f"systemd_unit: {section}.{key} has a line break, which would start another setting; use a list."
        )
    return str(value)


def render(sections: dict[str, dict[str, Any]]) -> str:
    """The text of a unit: a list gives one line per item, null leaves a key out."""
    unknown = sorted(set(sections) - set(ORDER))
    if unknown:
        raise AnsibleFilterError(f"systemd_unit: unknown section {unknown[0]}; known are {', '.join(ORDER)}.")
    lines = ["# Managed by Ansible (bulwark.stack)."]
    for section in ORDER:
        if not sections.get(section):
            continue
        lines += ["", f"[{section}]"]
        for key, value in sections[section].items():
            for item in value if isinstance(value, list) else [value]:
                if item is not None:
                    lines.append(f"{key}={text_of(section, key, item)}")
    return "\n".join(lines) + "\n"


def systemd_units(units: list[dict[str, Any]], sandbox: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the module C(units) from entries with C(sections).

    A service of our own gets the sandbox under its C(Service) section, so that the caller sees each line
    that it relaxes; C(sandbox: false) takes none, and drop-ins take it only when they say so.
    """
    done = []
    for unit in units:
        entry = {key: value for key, value in unit.items() if key not in ("sections", "sandbox")}
        sections = dict(unit.get("sections") or {})
        own_service = unit["name"].endswith(".service") and "Service" in sections and not unit.get("drop_in")
        if unit.get("sandbox", own_service):
            sections["Service"] = {**sandbox, **(sections.get("Service") or {})}
        if sections:
            entry["content"] = render(sections)
        done.append(entry)
    return done
