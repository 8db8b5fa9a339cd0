# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest: what a backup holds and how to know that it is unharmed. JSON, in the clear, written last."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from .errors import IntegrityError, SettingsError
from .settings import from_dict

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Member:
    """One stream of a backup.

    @param name: such as C(shop.dump); kinds choose it
    @param file: the object's name in the backup's folder: the name and what was done to it, C(shop.dump.zst.age)
    @param plain_sha256: of the bytes that the source gave
    @param stored_sha256: of the bytes in the store
    @param evidence: what the kind found out in the same moment, such as row counts by table
    """

    name: str
    file: str
    plain_bytes: int
    plain_sha256: str
    stored_bytes: int
    stored_sha256: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A backup that exists.

    @param started: of the first stream, UTC, ISO 8601; what was written to the source later is not in the backup
    @param tools: versions by program
    @param engine: for restic and pgbackrest, what names the snapshot there; empty for streams of our own
    @param assertions: SQL that must hold in the restored data
    @param recipients: the public keys that the members are encrypted for; empty = not encrypted
    """

    host: str
    job: str
    kind: str
    backup: str
    started: str
    finished: str
    members: tuple[Member, ...] = ()
    tools: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    engine: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    assertions: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def stored_bytes(self) -> int:
        return sum(member.stored_bytes for member in self.members) or int(self.engine.get("stored_bytes", 0))

    @property
    def plain_bytes(self) -> int:
        return sum(member.plain_bytes for member in self.members) or int(self.engine.get("plain_bytes", 0))

    def member(self, name: str) -> Member:
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.members)
        raise IntegrityError(f"Backup {self.backup} of {self.job} has no member {name!r}; it has {known or 'none'}.")

    def to_json(self) -> bytes:
        return (json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n").encode()


def from_json(data: bytes, where: str) -> Manifest:
    """A manifest as it was stored; older formats are brought up to this one.

    @param where: the object, for messages
    @raises IntegrityError: if it is no manifest, or of a format that this release does not know
    """
    try:
        plain = json.loads(data)
        number = plain["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{where} is not a manifest: it was cut off or overwritten.") from error
    if not isinstance(number, int) or number > FORMAT:
        raise IntegrityError(
            f"{where} has format {number}, this agent reads up to {FORMAT}: update the collection on this host."
        )
    try:
        # A later release may add a field without a new format; what is not known is not needed.
        return from_dict(Manifest, plain, where, lenient=True)
    except SettingsError as error:
        raise IntegrityError(f"{where} is not a manifest: {error}") from error
