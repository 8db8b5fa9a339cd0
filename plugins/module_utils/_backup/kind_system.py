# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes a host itself again: its configuration, certificates and crontabs as files, and which packages it had."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import kind_files
from .errors import SettingsError
from .kinds import Backup, Check, Command, Context, Stream, options
from .names import STAMP
from .settings import did_you_mean

OPTIONS: Mapping[str, Any] = {
    # Beside PATHS; these must exist.
    "paths": [],
    "exclude": [],
}
REQUIRED: tuple[str, ...] = ()
RESTORE: Mapping[str, str] = {
    "only": "one file or folder, in its place: an absolute path, or letsencrypt, crontabs, units",
    "path": "an empty folder to restore into; one below the agent's state unless given",
}
# In /etc: units of systemd, sources of apt, certificates. Those that a host does not have are left out.
PATHS = ("/etc", "/usr/local/etc", "/usr/local/bin", "/usr/local/sbin", "/var/spool/cron")
PLACES = {"letsencrypt": "/etc/letsencrypt", "crontabs": "/var/spool/cron", "units": "/etc/systemd/system"}
PACKAGES = "packages.txt"
# Four lists, each with a headline. What dpkg --set-selections and apt-mark read again.
LISTING = """\
echo '# dpkg --get-selections'; dpkg --get-selections
echo '# apt-mark showmanual'; apt-mark showmanual
echo '# apt-mark showhold'; apt-mark showhold
echo '# dpkg-query --show'; dpkg-query --show
"""


def streams(context: Context) -> Iterator[Stream]:
    wanted = options(context.job)
    paths = [path for path in PATHS if os.path.isdir(path) and not os.path.islink(path)]
    yield from kind_files.tree(context, paths + wanted["paths"], wanted["exclude"], one_file_system=False)
    stream = Stream(PACKAGES, Command(("sh", "-ec", LISTING)))
    lines = 0

    def tap(piece: bytes | memoryview) -> None:
        nonlocal lines
        lines += bytes(piece).count(b"\n")

    stream.tap = tap
    yield stream
    stream.evidence["lines"] = lines


needed_bytes = kind_files.needed_bytes


def drill(context: Context, backup: Backup) -> list[Check]:
    path = context.scratch / PACKAGES
    backup.feed(PACKAGES, Command(("dd", f"of={path}", "status=none")))
    found, expected = path.read_bytes().count(b"\n"), backup.manifest.member(PACKAGES).evidence["lines"]
    packages = Check("packages", found == expected, f"{found} lines about packages, {expected} expected")
    return [*kind_files.drill(context, backup), packages]


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    """Into a folder, to look at; in its place only what is named. A whole /etc of another moment breaks a host."""
    only, folder = target.get("only", ""), target.get("path", "")
    if only and not only.startswith("/"):
        if only not in PLACES:
            raise SettingsError(f"There is no {only!r} to restore{did_you_mean(only, list(PLACES))}.")
        only = PLACES[only]
    if only and not folder:
        return kind_files.restore_tree(context, backup, only, "")
    stamp = datetime.now(timezone.utc).strftime(STAMP)
    place = Path(folder or f"{context.settings.state_dir}/restored-{stamp}")
    said = kind_files.restore_tree(context, backup, only, str(place))
    if not only:
        backup.feed(PACKAGES, Command(("dd", f"of={place / PACKAGES}", "status=none")))
        said.append(f"The list of packages is {place / PACKAGES}.")
    return said


tools = kind_files.tools
