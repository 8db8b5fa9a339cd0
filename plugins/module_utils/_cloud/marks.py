# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How roles, labels and "this is ours" are written on a server: as labels where there are some, else as tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

MARK = "bulwark-managed"
ROLE = "bulwark-role"
OWN = (MARK, ROLE, "bulwark-server")


def to_labels(roles: Sequence[str], labels: Mapping[str, str]) -> dict[str, str]:
    return {**labels, MARK: "", **({ROLE: ".".join(roles)} if roles else {})}


def from_labels(labels: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Roles, and the labels that are not ours."""
    roles = sorted(filter(None, (labels.get(ROLE) or "").split(".")))
    return roles, {key: value for key, value in labels.items() if key not in OWN}


def to_tags(roles: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    others = [f"{key}:{value}" if value else key for key, value in labels.items()]
    return sorted([MARK, *(f"role:{role}" for role in roles), *others])


def from_tags(tags: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    roles, labels = [], {}
    for tag in tags:
        key, _sep, value = tag.partition(":")
        if key == "role" and value:
            roles.append(value)
        elif tag not in OWN:
            labels[key] = value
    return sorted(roles), labels
