# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Snapshots of servers: which are due, and which are too many. Pure.

A snapshot of ours is known by its name, which holds the server and the time: the one thing that every provider keeps.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta, timezone

from .build import Snapshot

NAME = re.compile(r"bulwark-(?P<server>.+)-(?P<time>\d{8}T\d{6}Z)")
STAMP = "%Y%m%dT%H%M%SZ"
# What comes every week does not come to the second.
TOLERANCE = timedelta(hours=12)


def snapshot_name(server: str, now: datetime) -> str:
    return f"bulwark-{server}-{now.astimezone(timezone.utc).strftime(STAMP)}"


def taken(snapshots: Iterable[Snapshot], server: str) -> list[tuple[datetime, Snapshot]]:
    """Our snapshots of a server, the newest first."""
    found = []
    for one in snapshots:
        match = NAME.fullmatch(one.name or "")
        if match and match["server"] == server:
            found.append((datetime.strptime(match["time"], STAMP).replace(tzinfo=timezone.utc), one))
    return sorted(found, key=lambda pair: (pair[0], pair[1].id), reverse=True)


def is_due(snapshots: Collection[Snapshot], server: str, now: datetime, every_days: int) -> bool:
    """Whether a snapshot is to be taken; one from the future was made by a wrong clock and does not count."""
    moments = [moment for moment, _one in taken(snapshots, server) if moment <= now]
    return not moments or now - moments[0] >= timedelta(days=every_days) - TOLERANCE


def too_many(snapshots: Collection[Snapshot], server: str, keep: int) -> list[Snapshot]:
    """What goes so that so many stay; nothing where C(keep) is 0."""
    return [one for _moment, one in taken(snapshots, server)[keep:]] if keep else []
