# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files and folders as one tar stream. For trees that are small or must be readable with a public key's owner only;
restic is for those that are large and change little.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import renames
from .commands import output
from .errors import BackupError, DrillError, SettingsError, SourceError
from .kinds import Backup, Check, Command, Context, Stream, options
from .manifest import Manifest
from .names import STAMP
from .tar_listing import SAME_NUMBERS, Owners, TarListing, listing_of, owners_here

OPTIONS: Mapping[str, Any] = {
    # Absolute paths of files and folders.
    "paths": [],
    # Shell patterns; with a slash at the beginning a whole path, else a name anywhere.
    "exclude": [],
    # Leaves out what is mounted below a path.
    "one_file_system": False,
}
REQUIRED = ("paths",)
RESTORE: Mapping[str, str] = {
    "only": "one file or folder of the backup, as an absolute path",
    "path": "an empty folder to restore into, in place of where the files came from",
}
MEMBER = "files.tar"
COMMON = ("--xattrs", "--xattrs-include=*", "--acls", "--sparse")
# What tar says of a file that was written to, cut or removed while it read; the backup is good all the same.
MOVED = re.compile(r"tar: .*: (?:file changed as we read it|File removed before we read it|File shrank by .*)")
CHANGED_STATUS = 1


def streams(context: Context) -> Iterator[Stream]:
    wanted = options(context.job)
    yield from tree(context, wanted["paths"], wanted["exclude"], wanted["one_file_system"])


def tree(context: Context, paths: list[str], exclude: list[str], one_file_system: bool) -> Iterator[Stream]:
    """The stream of some paths, with what it held as evidence.

    The sums are taken as the stream passes: a second read would find other content in files that change, and cost
    as much again.
    """
    for path in paths:
        check_path(context.job.name, path)
    listing = TarListing()
    expected = output(size(paths, exclude), ok_status=(0, 1)).rsplit("\n", 2)[-2].partition("\t")[0]
    stream = Stream(MEMBER, pack(paths, exclude, one_file_system), int(expected), ok_status=(0, CHANGED_STATUS))
    stream.tap = listing.feed
    yield stream
    stream.evidence.update(listing.evidence(), paths=list(paths))
    moved = MOVED.findall(stream.said)
    if moved:
        stream.evidence["changed_while_read"] = len(moved)
        context.say(f"{len(moved)} files changed while they were read: {moved[0]}")


def check_path(job: str, path: str) -> None:
    if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
        raise SettingsError(f"Job {job}: {path!r} must be an absolute path without .., doubled or trailing slashes.")
    if os.path.islink(path):
        raise SettingsError(f"Job {job}: {path} is a link; give what it leads to, {os.path.realpath(path)}.")
    if not os.path.exists(path):
        raise SourceError(f"Job {job}: {path} does not exist.")


def pack(paths: Iterable[str], exclude: Iterable[str], one_file_system: bool) -> Command:
    # Access times and tar's own process id would make every stream of the same tree another one.
    fixed = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
    patterns: list[str] = []
    for pattern in exclude:
        whole = pattern.startswith("/")
        patterns += ["--anchored" if whole else "--no-anchored", f"--exclude={pattern[1:] if whole else pattern}"]
    return Command(
        (
            *("tar", "--create", "--file=-", "--format=posix", fixed, "--sort=name", *COMMON),
            *(["--one-file-system"] if one_file_system else []),
            *(*patterns, "--directory=/", "--", *(path[1:] for path in paths)),
        )
    )


def size(paths: Iterable[str], exclude: Iterable[str]) -> Command:
    return Command(("du", "-scb", *(f"--exclude={pattern}" for pattern in exclude), "--", *paths))


def unpack(folder: str, names: Iterable[str] = (), suffix: str = "") -> Command:
    """Unpacks what the names say, or everything, below a folder.

    @param suffix: is put to the end of each of the names, so that they come to lie beside what is there. Only then are
        the owners those of the same name here; in a folder apart they keep their numbers
    """
    names = list(names)
    moves = [moved(name, suffix) for name in names] if suffix else ["--numeric-owner"]
    words = ("--same-permissions", "--same-owner", "--delay-directory-restore")
    return Command(("tar", "--extract", "--file=-", *COMMON, *words, *moves, f"--directory={folder}", "--", *names))


def moved(name: str, suffix: str) -> str:
    """The option that puts a suffix to the end of a name and leaves what links point to; see GNU tar, 6.7."""
    pattern = re.sub(r"([][\\.^$*+?(){}|,])", r"\\\1", name)
    replacement = re.sub(r"([\\&,])", r"\\\1", name)
    return f"--transform=s,^{pattern}(/|$),{replacement}{suffix}\\1,xS"


def needed_bytes(manifest: Manifest) -> int:
    return manifest.plain_bytes


def drill(context: Context, backup: Backup) -> list[Check]:
    folder = context.scratch / "tree"
    # Nobody else may run what has a setuid bit in there.
    folder.mkdir(mode=0o700)
    backup.feed(MEMBER, unpack(str(folder)))
    evidence = backup.manifest.member(MEMBER).evidence
    names = [path[1:] for path in evidence["paths"]]
    return compare(evidence, listing_of({name: str(folder / name) for name in names}, evidence["samples"]))


def compare(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[Check]:
    """Whether a tree is what the stream held."""

    def same(*names: str) -> bool:
        return all(expected[name] == found[name] for name in names)

    def amount(of: Mapping[str, Any]) -> str:
        return f"{of['files']} files, {of['folders']} folders, {of['others']} others, {of['bytes']} bytes"

    counts, entries = same("files", "folders", "others", "bytes"), same("entries")
    contents = same("samples", "contents")
    return [
        Check("counts", counts, amount(found) if counts else f"{amount(expected)} expected, {amount(found)} found"),
        Check("entries", entries, "names, owners and modes " + ("are equal" if entries else "differ")),
        Check(
            "contents",
            contents,
            f"the contents of {len(expected['samples'])} files "
            + ("are equal" if contents else "differ, or some of them are missing"),
        ),
    ]


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    return restore_tree(context, backup, target.get("only", ""), target.get("path", ""))


def restore_tree(context: Context, backup: Backup, only: str, folder: str) -> list[str]:
    evidence = backup.manifest.member(MEMBER).evidence
    paths = [only] if only else list(evidence["paths"])
    if only and not any(only == path or only.startswith(f"{path}/") for path in evidence["paths"]):
        raise SettingsError(f"Backup {backup.manifest.backup} holds {', '.join(evidence['paths'])}, but not {only!r}.")
    if folder:
        return elsewhere(backup, paths, folder)
    for path in paths:
        refuse_mount_point(path)
    owners = owners_here(evidence)
    stamp = datetime.now(timezone.utc).strftime(STAMP)
    beside = {path: f"{path}.restored-{stamp}" for path in paths}
    try:
        for path in paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        backup.feed(MEMBER, unpack("/", [path[1:] for path in paths], f".restored-{stamp}"))
        if not only:
            refuse_difference(evidence, {path[1:]: place for path, place in beside.items()}, owners)
    except BackupError:
        for place in beside.values():
            remove(place)
        raise
    return exchange(beside, f".before-{stamp}")


def refuse_mount_point(path: str) -> None:
    if os.path.ismount(path):
        raise SettingsError(f"{path} is a mount point, which cannot be renamed; restore it elsewhere by path=.")


def elsewhere(backup: Backup, paths: list[str], folder: str) -> list[str]:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.listdir(folder):
        raise SettingsError(f"{folder} is not empty; name one that is, or that does not exist.")
    names = [path[1:] for path in paths]
    backup.feed(MEMBER, unpack(folder, names))
    evidence = backup.manifest.member(MEMBER).evidence
    if paths == evidence["paths"]:
        refuse_difference(evidence, {name: os.path.join(folder, name) for name in names})
    return [f"{path} of {backup.manifest.backup} is in {folder}{path}." for path in paths]


def refuse_difference(evidence: Mapping[str, Any], places: Mapping[str, str], owners: Owners = SAME_NUMBERS) -> None:
    """@raises DrillError: if what was unpacked is not what was packed; nothing has been replaced then"""
    wrong = [check.text for check in compare(evidence, listing_of(places, evidence["samples"], owners)) if not check.ok]
    if wrong:
        raise DrillError(f"What was unpacked differs from the backup: {'; '.join(wrong)}. Nothing was replaced.")


def exchange(beside: Mapping[str, str], suffix: str) -> list[str]:
    """Puts each restored path in the place of the old one, which gets a new name; all or, if one fails, none."""
    done: list[tuple[str, bool]] = []
    try:
        for path, place in beside.items():
            done.append((path, renames.replace(place, path, path + suffix)))
    except OSError as error:
        for path, replaced in reversed(done):
            os.rename(path, beside[path])
            if replaced:
                os.rename(path + suffix, path)
        raise DrillError(f"{error.filename} cannot be renamed: {error.strerror}. Everything is as it was.") from error
    return [
        f"{path} is restored; " + (f"what was there is {path}{suffix}." if replaced else "nothing was there.")
        for path, replaced in done
    ]


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def tools() -> Mapping[str, Command]:
    return {"tar": Command(("tar", "--version"))}
