# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of objects in the store: C(prefix/host/job/backup/file), both directions, no input or output.

A backup is a folder: its members, then, written last, its manifest. Only what has a manifest exists.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import NamedTuple

MANIFEST = "manifest.json"
STAMP = "%Y%m%dT%H%M%SZ"
WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
BACKUP = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}")
KEY = re.compile(rf"(?P<host>{WORD})/(?P<job>{WORD})/(?P<backup>\d{{8}}T\d{{6}}Z-[0-9a-f]{{8}})/(?P<file>[^/]+)")
DRILL = re.compile(r"drill-\d{8}T\d{6}(\.\d{6})?Z\.json")


class Name(NamedTuple):
    """One object of a backup."""

    host: str
    job: str
    backup: str
    file: str


def backup_id(now: datetime, random_bytes: bytes) -> str:
    """The name of a new backup. Unique without a look at the store: stores cannot be trusted to refuse a second one.

    @param random_bytes: four of them
    """
    return f"{now.astimezone(timezone.utc).strftime(STAMP)}-{random_bytes.hex()}"


def taken_at(backup: str) -> datetime:
    """When a backup was begun, to the second, in UTC.

    @raises ValueError: if this is not the name of a backup
    """
    match = BACKUP.fullmatch(backup)
    if not match:
        raise ValueError(f"{backup!r} is not the name of a backup")
    return datetime.strptime(match[1], STAMP).replace(tzinfo=timezone.utc)


def folder(prefix: str, *parts: str) -> str:
    """The beginning that all names of a host, a job or a backup share; with the slash at its end, or ""."""
    whole = "/".join(part.strip("/") for part in (prefix, *parts) if part.strip("/"))
    return f"{whole}/" if whole else ""


def key(prefix: str, name: Name) -> str:
    return folder(prefix, name.host, name.job, name.backup) + name.file


def parse(prefix: str, object_key: str) -> Name | None:
    """What a key names, or None for one that is not ours."""
    start = folder(prefix)
    match = KEY.fullmatch(object_key[len(start) :]) if object_key.startswith(start) else None
    return Name(**match.groupdict()) if match else None


def drill_file(now: datetime) -> str:
    """To the microsecond: two drills may end in one second, and none replaces the other's result."""
    return f"drill-{now.astimezone(timezone.utc).strftime('%Y%m%dT%H%M%S.%fZ')}.json"
