# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whatever a command prints: the way for what has no kind of its own, such as the datastore of a MicroK8s node."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import SettingsError, SourceError
from .kinds import Backup, Check, Command, Context, Stream, options
from .manifest import Manifest

OPTIONS: Mapping[str, Any] = {
    # Prints the data, and nothing else, to stdout.
    "command": [],
    "member": "output",
    # The account that all three commands run as.
    "user": "",
    # Get the data on stdin and end with 0 if all is well; the drill's runs in an empty folder of its own.
    "drill_command": [],
    "restore_command": [],
}
REQUIRED = ("command",)
RESTORE: Mapping[str, str] = {}
READ_ALL = ("sh", "-c", "exec cat > /dev/null")


def streams(context: Context) -> Iterator[Stream]:
    wanted = options(context.job)
    seen = 0

    def tap(piece: bytes | memoryview) -> None:
        nonlocal seen
        seen += len(piece)

    yield Stream(wanted["member"], Command(tuple(wanted["command"]), wanted["user"]), tap=tap)
    if not seen:
        raise SourceError(f"Job {context.job.name}: {wanted['command'][0]} ended well but printed nothing.")


def needed_bytes(manifest: Manifest) -> int:
    return manifest.plain_bytes


def drill(context: Context, backup: Backup) -> list[Check]:
    wanted = options(context.job)
    member = backup.manifest.members[0].name
    if not wanted["drill_command"]:
        backup.feed(member, Command(READ_ALL))
        return [Check("read", True, "all bytes are as stored; drill_command would look into them")]
    folder = context.scratch / "work"
    folder.mkdir(mode=0o700)
    if wanted["user"]:
        os.chown(folder, pwd.getpwnam(wanted["user"]).pw_uid, -1)
    backup.feed(member, Command(tuple(wanted["drill_command"]), wanted["user"], cwd=str(folder)))
    return [Check("drill_command", True, f"{wanted['drill_command'][0]} read the data and ended with 0")]


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    wanted = options(context.job)
    if not wanted["restore_command"]:
        raise SettingsError(
            f"Job {context.job.name} has no restore_command; give it one, or take the data by 'bulwark-backup fetch'."
        )
    member = backup.manifest.members[0].name
    backup.feed(member, Command(tuple(wanted["restore_command"]), wanted["user"]))
    return [f"{wanted['restore_command'][0]} was given {member} of {backup.manifest.backup} and ended with 0."]


def tools() -> Mapping[str, Command]:
    return {}
