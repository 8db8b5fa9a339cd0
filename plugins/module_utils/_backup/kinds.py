# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every kind of backup can do, and the table of kinds. A kind is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .errors import SettingsError
from .manifest import Manifest
from .settings import Job, Settings, did_you_mean


@dataclass(frozen=True)
class Command:
    """A program to run; nothing is run by making one.

    @param user: the account that it runs as, "" = the agent's own
    """

    argv: tuple[str, ...]
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"


@dataclass
class Stream:
    """One member in the making: a command whose output is stored.

    @param name: such as C(shop.dump)
    @param expected_bytes: about how many bytes it will give, for progress and the size of parts; 0 = not known
    @param evidence: goes to the manifest, which everybody who sees the store can read: numbers and sums, nothing from
        the data itself; the kind may still add to it until its generator ends
    @param ok_status: exit statuses that mean success
    @param tap: sees every piece of the output as it passes, in order, in the thread that reads it
    @param status: how the command ended, set by the flow before the kind goes on
    @param said: the end of what it wrote to stderr, set likewise
    """

    name: str
    command: Command
    expected_bytes: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)
    ok_status: tuple[int, ...] = (0,)
    tap: Callable[[bytes | memoryview], object] | None = None
    status: int = 0
    said: str = ""


@dataclass(frozen=True)
class Check:
    """One thing that a drill looked at; C(text) says what was expected and what was found."""

    name: str
    ok: bool
    text: str


class Backup(Protocol):
    """A backup that is being read: C(jobs) makes it for drills and restores."""

    manifest: Manifest

    def feed(self, member: str, command: Command) -> None:
        """Runs a command with the member's plain bytes as its input, and checks the sums of both forms of it.

        @raises IntegrityError: if the store holds other bytes than were stored; the command was ended then
        @raises DrillError: if the command failed, with the end of what it said
        """


@dataclass(frozen=True)
class Context:
    """What a kind gets from the flow.

    @param scratch: an empty folder of this run, 0711, removed after it; only drills and restores write there
    @param say: one line for the journal or the terminal
    """

    settings: Settings
    job: Job
    scratch: Path
    say: Callable[[str], None]


class Kind(Protocol):
    """The functions of a C(kind_*.py). All are plain functions of the module.

    A kind of streams has C(streams), an engine (restic, pgbackrest) has C(snapshot) and C(forget) in its place.
    """

    # option -> its default; the default's type is the option's type. REQUIRED names those that must be given.
    OPTIONS: Mapping[str, Any]
    REQUIRED: tuple[str, ...]
    # What a restore may be told by --to, and what that means, a line each.
    RESTORE: Mapping[str, str]

    def streams(self, context: Context) -> Iterator[Stream]:
        """The members; each is stored before the next is asked for, so a snapshot may be held between them."""

    def snapshot(self, context: Context) -> Mapping[str, Any]:
        """Runs the engine; what names the snapshot there, with C(plain_bytes) and C(stored_bytes)."""

    def forget(self, context: Context, dropped: list[Manifest]) -> None:
        """Removes snapshots from the engine's repository, and what only they needed."""

    def needed_bytes(self, manifest: Manifest) -> int:
        """About how much room a drill takes below the scratch folder."""

    def drill(self, context: Context, backup: Backup) -> list[Check]:
        """Restores into a throw-away place, looks, and removes it."""

    def restore(self, context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
        """Restores for real; what it replaces is kept beside.

        @param target: of the kind's own C(RESTORE), such as C(database=shop); checked by C(target_of)
        @return: what was done and where the replaced data is, a line each
        """

    def tools(self) -> Mapping[str, Command]:
        """Programs whose versions go to the manifest."""


KINDS = {
    name: f"kind_{name}"
    for name in ("postgres", "redis", "clickhouse", "files", "system", "command", "restic", "pgbackrest")
}


def kind_of(job: Job) -> Any:
    """The module of a job's kind, its options checked.

    @raises SettingsError: if the kind or one of the options is not known
    """
    if job.kind not in KINDS:
        raise SettingsError(f"Job {job.name} has kind {job.kind!r}{did_you_mean(job.kind, list(KINDS))}.")
    kind = importlib.import_module(f".{KINDS[job.kind]}", __package__)
    for name, value in job.options.items():
        if name not in kind.OPTIONS:
            raise SettingsError(f"Job {job.name} ({job.kind}) has no {name!r}{did_you_mean(name, list(kind.OPTIONS))}.")
        if type(value) is not type(kind.OPTIONS[name]):
            raise SettingsError(f"Job {job.name}: {name} must be of type {type(kind.OPTIONS[name]).__name__}.")
    for name in kind.REQUIRED:
        if not job.options.get(name):
            raise SettingsError(f"Job {job.name} ({job.kind}) needs {name}.")
    return kind


def options(job: Job) -> dict[str, Any]:
    """The options of a job, completed by the defaults of its kind."""
    return {**kind_of(job).OPTIONS, **job.options}


def target_of(job: Job, target: Mapping[str, str]) -> dict[str, str]:
    """The target of a restore, refused if the kind does not know a part of it."""
    known = kind_of(job).RESTORE
    for name in target:
        if name not in known:
            raise SettingsError(
                f"A restore of {job.name} ({job.kind}) has no {name!r}{did_you_mean(name, list(known))}."
            )
    return dict(target)
