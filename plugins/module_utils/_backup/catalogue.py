# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which backups there are: read from one listing of the store, in constant memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import names
from .errors import IntegrityError, NotFoundError
from .manifest import Manifest, from_json
from .stores import Entry, Store


@dataclass
class Record:
    """A backup as the listing shows it.

    @param stored_bytes: of all its objects
    @param modified: when its newest object was stored, by the store's clock
    @param complete: whether it has a manifest; without one it does not exist
    @param drills: the names of its drill results, oldest first
    """

    host: str
    job: str
    backup: str
    taken_at: datetime
    stored_bytes: int
    modified: datetime
    complete: bool = False
    drills: list[str] = field(default_factory=list)


def catalogue(store: Store, host: str = "", job: str = "") -> Iterator[Record]:
    """The backups by host, job and time, also the incomplete ones; no manifest is read."""
    prefix = store.settings.prefix
    start = names.folder(prefix, host, *([job] if host else []))
    ours = ((name, entry) for entry in store.list(start) if (name := names.parse(prefix, entry.key)))
    for (its_host, its_job, backup), group in itertools.groupby(ours, key=lambda pair: pair[0][:3]):
        if (host and its_host != host) or (job and its_job != job):
            continue
        yield record(its_host, its_job, backup, [(name.file, entry) for name, entry in group])


def record(host: str, job: str, backup: str, files: list[tuple[str, Entry]]) -> Record:
    return Record(
        host,
        job,
        backup,
        names.taken_at(backup),
        sum(entry.size for _file, entry in files),
        max(entry.modified for _file, entry in files),
        any(file == names.MANIFEST for file, _entry in files),
        sorted(file for file, _entry in files if names.DRILL.fullmatch(file)),
    )


def manifest(store: Store, found: Record, file: str = names.MANIFEST) -> Manifest:
    """@raises IntegrityError: if the object is missing, or is not a manifest, or that of another backup"""
    key = key_of(store, found, file)
    try:
        read = from_json(b"".join(store.read(key)), key)
    except NotFoundError as error:
        raise IntegrityError(
            f"{key} is missing, so nobody can say whether this backup is whole; take another one."
        ) from error
    if (read.host, read.job, read.backup) != (found.host, found.job, found.backup):
        raise IntegrityError(f"{key} is the manifest of {read.host}/{read.job}/{read.backup}: it was swapped.")
    return read


def last_drill(store: Store, found: Record) -> dict[str, Any] | None:
    """The result of the newest drill of this backup, whichever host ran it."""
    if not found.drills:
        return None
    key = key_of(store, found, found.drills[-1])
    try:
        result: dict[str, Any] = json.loads(b"".join(store.read(key)))
    except ValueError as error:
        raise IntegrityError(f"{key} is not the result of a drill: it was cut off or overwritten.") from error
    return result


def key_of(store: Store, found: Record, file: str) -> str:
    return names.key(store.settings.prefix, names.Name(found.host, found.job, found.backup, file))
