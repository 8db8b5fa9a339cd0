# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The flow: run, prune, drill, restore, verify, fetch, probe.

Each may be killed anywhere; the next one finds nothing half done that counts, and sweeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from . import catalogue, crypto, metrics, names, retention, state
from .catalogue import Record
from .commands import output
from .errors import (
    BackupError,
    BusyError,
    DeniedError,
    DrillError,
    ExistsError,
    IntegrityError,
    SettingsError,
    SourceError,
    StoreError,
)
from .kinds import Check, Command, Context, Stream, kind_of, target_of
from .manifest import Manifest, Member
from .pipeline import Reading, Sealing, Sum, store_stream
from .progress import Progress
from .settings import Job, Settings
from .stores import Store, open_store
from .table import bytes_text

# Members without a manifest may belong to a run that is still going on, for so long.
ORPHAN_AGE = timedelta(hours=48)
SKEW_SECONDS = 300
# How much of the disk a drill leaves free for everything else.
RESERVE_BYTES = 2**30
RESERVE_SHARE = 20
DROPPED = "dropped.json"


class Action(NamedTuple):
    """How the state calls the begin and the error of something."""

    begun: str
    error: str


RUN = Action("last_attempt", "error")
PRUNE = Action("last_prune_attempt", "prune_error")
DRILL = Action("last_drill_attempt", "drill_error")


@dataclass
class Agent:
    """Who works on backups, and with what.

    @param clock: the time, with a time zone
    @param say: a line for the journal or the terminal
    @param passphrase: asks for it; None = there is nobody to ask
    """

    settings: Settings
    store: Store
    clock: Callable[[], datetime]
    say: Callable[[str], None]
    progress: Progress
    passphrase: Callable[[], str] | None = None

    @property
    def prune_store(self) -> Store:
        return open_store(self.settings.prune_store) if self.settings.prune_store else self.store

    def lock(self, name: str, what: str, **options: Any) -> contextlib.AbstractContextManager[None]:
        return state.lock(self.settings.state_dir, name, what, say=self.say, **options)

    def alone(self, what: str, job: Job, *names: str) -> contextlib.ExitStack:
        """Nobody else runs, drills or restores the job, whichever is named; nothing is pruned in the meantime."""
        stack = contextlib.ExitStack()
        try:
            for name in names:
                stack.enter_context(self.lock(f"{job.name}.{name}", f"{what} of {job.name}"))
            stack.enter_context(self.reading(f"{what} of {job.name}"))
        except BaseException:
            stack.close()
            raise
        return stack

    def reading(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Nothing is pruned in the meantime; waits while it is."""
        return self.lock(store_lock(self.settings), what, shared=True, wait_seconds=state.WAIT_SECONDS)

    def remember(self, job: Job, **values: Any) -> None:
        try:
            state.remember(self.settings.state_dir, job.name, **values)
        except OSError as error:
            # A disk that is full is when a backup is needed most; it takes no room there.
            self.say(f"The state of {job.name} was not written: {error.strerror}.")

    def context(self, job: Job, scratch: Path) -> Context:
        return Context(self.settings, job, scratch, self.say)


@dataclass(frozen=True)
class DrillReport:
    """@param seconds: from the first byte read to the last check: what a restore takes at least"""

    backup: str
    checks: list[Check]
    seconds: float

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)


class StoredBackup:
    """A backup that is being read: what kinds get for drills and restores."""

    def __init__(self, agent: Agent, record: Record, manifest: Manifest) -> None:
        self.agent, self.record, self.manifest = agent, record, manifest
        settings = agent.settings
        self.identity = (
            crypto.unlock(settings, manifest.recipients, agent.passphrase)
            if manifest.recipients and manifest.members
            else ""
        )

    def reading(self, member: Member) -> Reading:
        key = catalogue.key_of(self.agent.store, self.record, member.file)
        return Reading(self.agent.store, key, member, self.identity, self.agent.progress.advance)

    def feed(self, member: str, command: Command) -> None:
        found = self.manifest.member(member)
        self.agent.progress.stage(f"read {member}", found.stored_bytes)
        self.reading(found).feed(command)
        self.agent.progress.done()


def run(agent: Agent, job: Job, dry_run: bool = False) -> Manifest:
    """Makes a backup.

    @raises BackupError: if there is none now; nothing of it is visible then
    """
    settings = agent.settings
    check_job(settings, job)
    if settings.host_of(job) != settings.host:
        raise SettingsError(f"Job {job.name} is that of host {job.host}: run it there; this host can only drill it.")
    kind = kind_of(job)
    started = agent.clock()
    manifest = Manifest(
        host=settings.host,
        job=job.name,
        kind=job.kind,
        backup=names.backup_id(started, secrets.token_bytes(4)),
        started=text_of(started),
        finished="",
        assertions=job.assertions,
        recipients=settings.recipients if settings.encrypted else (),
    )
    if dry_run:
        return manifest
    with agent.alone("The backup", job, "run"), recorded(agent, job, RUN):
        begun = time.monotonic()
        look_back(agent, job, started)
        with state.scratch(settings.scratch_dir, f"{job.name}.run") as scratch:
            context = agent.context(job, scratch)
            if hasattr(kind, "streams"):
                manifest = replace(manifest, members=store_members(agent, manifest, kind.streams(context)))
            else:
                manifest = replace(manifest, engine=kind.snapshot(context))
        manifest = replace(manifest, finished=text_of(agent.clock()), tools=versions(kind.tools()))
        key = key_in(agent.store, manifest, names.MANIFEST)
        agent.store.put(key, manifest.to_json())
        agent.remember(
            job,
            last_success=started.timestamp(),
            backup=manifest.backup,
            seconds=round(time.monotonic() - begun, 3),
            plain_bytes=manifest.plain_bytes,
            stored_bytes=manifest.stored_bytes,
            **skew(agent, key),
        )
    return manifest


def store_members(agent: Agent, manifest: Manifest, streams: Iterator[Stream]) -> tuple[Member, ...]:
    """Stores each stream before the next is asked for. What kinds add to the evidence until the end is in it."""
    sealing = Sealing(manifest.recipients, agent.settings.zstd_level)
    done: list[tuple[Stream, Sum, Sum]] = []
    with contextlib.closing(streams) as members:  # type: ignore[type-var]
        for stream in members:
            agent.progress.stage(stream.name, stream.expected_bytes)
            key = key_in(agent.store, manifest, sealing.file(stream.name))
            done.append((stream, *store_stream(agent.store, key, stream, sealing, agent.progress.advance)))
            agent.progress.done()
    if not done:
        raise SourceError(f"Job {manifest.job} has nothing to back up.")
    return tuple(
        Member(
            stream.name,
            sealing.file(stream.name),
            plain.bytes,
            plain.sha256,
            stored.bytes,
            stored.sha256,
            dict(stream.evidence),
        )
        for stream, plain, stored in done
    )


def look_back(agent: Agent, job: Job, now: datetime) -> None:
    """Says what an earlier run left, and what a wrong clock did. A key that may only write cannot look: then not."""
    store, settings = agent.store, agent.settings
    folder = names.folder(store.settings.prefix, settings.host, job.name)
    later = (now + timedelta(seconds=1)).strftime(names.STAMP)
    with contextlib.suppress(DeniedError):
        future = next(iter(store.list(folder, after=folder + later)), None)
        if future:
            agent.say(
                f"The clock of this host was set back, or was ahead before: {future.key} is from the future. "
                "It is kept until its time has come; look at timedatectl."
            )
        # The lock of this job is ours, so nobody is working on these.
        for upload in store.unfinished(folder):
            store.abort(upload)
            agent.say(f"Aborted the unfinished upload of {upload.key}.")


def skew(agent: Agent, key: str) -> dict[str, float]:
    """C(clock_skew_seconds): how far this host's clock is ahead of the store's; nothing if the store does not say."""
    with contextlib.suppress(StoreError):
        for entry in agent.store.list(key):
            seconds = round((agent.clock() - entry.modified).total_seconds(), 1)
            if abs(seconds) > SKEW_SECONDS:
                agent.say(f"The clock of this host differs from the store's by {seconds:.0f} s: look at timedatectl.")
            return {"clock_skew_seconds": seconds}
    return {}


def prune(agent: Agent, jobs: Iterable[Job], dry_run: bool = False) -> list[str]:
    """Drops what the retention does not keep, and sweeps what no run will finish; the backups dropped.

    Of the jobs of other hosts only those with a C(keep) of their own: what that host keeps is not known here.

    @raises BackupError: if the store refused; what was not dropped is dropped next time
    """
    settings = agent.settings
    gone: list[str] = []
    errors = []
    ours = [job for job in jobs if settings.host_of(job) == settings.host or job.keep]
    for job in ours:
        check_job(settings, job)
    with agent.lock(store_lock(settings), "The pruning", wait_seconds=state.WAIT_SECONDS):
        store = agent.prune_store
        for job in ours:
            try:
                with contextlib.nullcontext() if dry_run else recorded(agent, job, PRUNE):
                    gone += prune_job(agent, store, job, dry_run)
            except BackupError as error:
                # The other jobs need their room, too.
                errors.append(f"{job.name}: {error}")
    if errors:
        raise BackupError(" ".join(errors))
    return gone


def prune_job(agent: Agent, store: Store, job: Job, dry_run: bool) -> list[str]:
    settings, now = agent.settings, agent.clock()
    # The whole listing before the first deletion: half of one would make old backups look like the newest.
    records = list(catalogue.catalogue(store, settings.host_of(job), job.stored_name))
    complete = {record.backup: record for record in records if record.complete}
    taken = {backup: record.taken_at for backup, record in complete.items()}
    proved = next((record.backup for record in reversed(records) if passed(store, record)), "")
    kept = retention.tiers(taken, settings.keep_of(job), now, retention.local_zone(), [proved])
    gone = []
    for backup in sorted(set(taken) - set(kept)):
        record = complete[backup]
        locked_until = record.modified + timedelta(days=store.settings.lock_days)
        if store.settings.lock_days and locked_until > now:
            agent.say(f"{job.name}: {backup} waits for its lock until {locked_until:%Y-%m-%d %H:%M} UTC.")
            continue
        if not dry_run:
            drop_backup(store, job, record)
            finish_drop(agent, store, job, record)
            agent.say(f"{job.name}: dropped {backup} ({bytes_text(record.stored_bytes)}).")
        gone.append(backup)
    if not dry_run:
        unfinished = sweep(agent, store, job, [record for record in records if not record.complete])
        sizes = {backup: record.stored_bytes for backup, record in complete.items() if backup not in gone}
        agent.remember(job, last_prune=now.timestamp(), **metrics.holdings(sizes, kept, unfinished))
        left = [record for record in records if record.backup not in gone]
        agent.remember(job, **drilled_elsewhere(agent, store, job, left))
    return gone


def drilled_elsewhere(agent: Agent, store: Store, job: Job, records: list[Record]) -> dict[str, Any]:
    """What a drill host found out about the backups of this one since it last drilled itself."""
    known = state.read_states(agent.settings.state_dir).get(job.name, {}).get("last_drill_attempt", 0)
    after = names.drill_file(datetime.fromtimestamp(known, timezone.utc))
    newer = [record for record in records if record.complete and record.drills and record.drills[-1] > after]
    found: dict[str, Any] = {}
    for record in sorted(newer, key=lambda one: one.drills[-1]):
        with contextlib.suppress(IntegrityError, KeyError, ValueError):
            result = catalogue.last_drill(store, record) or {}
            moment = datetime.fromisoformat(result["finished"]).timestamp()
            if result["host"] != agent.settings.host:
                error = "" if result["ok"] else f"on {result['host']}; 'bulwark-backup status' there says why"
                found.update(last_drill_attempt=moment, drill_error=error, drill_seconds=result["seconds"])
                found.update({} if error else {"last_good_drill": moment})
    return found


def passed(store: Store, record: Record) -> bool:
    """Whether the newest drill of a backup was good; a result that cannot be read proves nothing."""
    with contextlib.suppress(IntegrityError):
        return record.complete and bool((catalogue.last_drill(store, record) or {}).get("ok"))
    return False


def drop_backup(store: Store, job: Job, record: Record) -> None:
    """Removes the manifest: from then on the backup does not exist, whatever happens.

    The drills go before it, so what has drills and no manifest has lost it by other means; see C(sweep).
    """
    key = catalogue.key_of(store, record, names.MANIFEST)
    if hasattr(kind_of(job), "forget"):
        # What the engine has to forget must not be forgotten with the manifest.
        with contextlib.suppress(ExistsError):
            store.put(catalogue.key_of(store, record, DROPPED), b"".join(store.read(key)))
    if record.drills:
        store.delete([catalogue.key_of(store, record, drill) for drill in record.drills])
    store.delete([key])


def finish_drop(agent: Agent, store: Store, job: Job, record: Record) -> None:
    """Removes what is left of a backup that does not exist any more."""
    folder = names.folder(store.settings.prefix, record.host, record.job, record.backup)
    keys = [entry.key for entry in store.list(folder)]
    note = folder + DROPPED
    if note in keys:
        from_note = catalogue.manifest(store, record, DROPPED)
        with state.scratch(agent.settings.scratch_dir, f"{job.name}.prune") as scratch:
            kind_of(job).forget(agent.context(job, scratch), [from_note])
    store.delete([key for key in keys if key != note])
    store.delete([key for key in keys if key == note])


def sweep(agent: Agent, store: Store, job: Job, incomplete: list[Record]) -> int:
    """How many unfinished uploads are left, because they may still be worked on."""
    now = agent.clock()
    known = state.read_states(agent.settings.state_dir).get(job.name, {})
    for record in incomplete:
        if record.drills or record.backup == known.get("backup"):
            agent.say(
                f"{job.name}: the manifest of {record.backup} is lost. What else there is of it is left alone: put the "
                "manifest back from another copy of the store, or delete the rest."
            )
        elif now - max(record.modified, record.taken_at) > ORPHAN_AGE:
            finish_drop(agent, store, job, record)
            agent.say(f"{job.name}: removed what is left of {record.backup}, which was never finished or is dropped.")
    folder = names.folder(store.settings.prefix, agent.settings.host_of(job), job.stored_name)
    left = 0
    for upload in store.unfinished(folder):
        if now - upload.started > ORPHAN_AGE:
            store.abort(upload)
            agent.say(f"{job.name}: aborted the unfinished upload of {upload.key}.")
        else:
            left += 1
    return left


def drill(agent: Agent, job: Job, backup: str = "") -> DrillReport:
    """Restores a backup into a throw-away place and looks at it.

    @raises BusyError: if there is no room for it now
    """
    check_job(agent.settings, job)
    kind = kind_of(job)
    with (
        agent.alone("The drill", job, "drill"),
        recorded(agent, job, DRILL),
        state.scratch(agent.settings.scratch_dir, f"{job.name}.drill") as scratch,
    ):
        record = find(agent, job, backup)
        manifest = catalogue.manifest(agent.store, record)
        check_room(scratch, kind.needed_bytes(manifest), f"The drill of {job.name}")
        begun = time.monotonic()
        try:
            checks = kind.drill(agent.context(job, scratch), StoredBackup(agent, record, manifest))
        except StoreError:
            raise
        except BackupError as error:
            # Also a result: the next one who looks at this backup is to know.
            checks = [Check("restore", False, str(error))]
        report = DrillReport(record.backup, checks, round(time.monotonic() - begun, 3))
        keep_report(agent, job, record, report)
        if not report.ok:
            failed = (
                "; ".join(f"{check.name}: {check.text}" for check in checks if not check.ok) or "nothing was checked"
            )
            raise DrillFailedError(report, f"The drill of {job.name} {record.backup} failed: {failed}")
    return report


def keep_report(agent: Agent, job: Job, record: Record, report: DrillReport) -> None:
    now = agent.clock()
    good = {"last_good_drill": now.timestamp()} if report.ok else {}
    agent.remember(job, drilled=record.backup, drill_seconds=report.seconds, **good)
    plain = {**asdict(report), "ok": report.ok, "host": agent.settings.host, "finished": text_of(now)}
    try:
        agent.store.put(
            catalogue.key_of(agent.store, record, names.drill_file(now)), (json.dumps(plain, indent=1) + "\n").encode()
        )
    except DeniedError:
        agent.say("The store's key may not write, so the result of the drill is known to this host only.")


class DrillFailedError(DrillError):
    """A drill that ran and found something."""

    def __init__(self, report: DrillReport, text: str) -> None:
        super().__init__(text)
        self.report = report


def restore(agent: Agent, job: Job, backup: str, target: Mapping[str, str]) -> list[str]:
    """Restores for real; what was done and where the replaced data is, a line each."""
    check_job(agent.settings, job)
    kind, wanted = kind_of(job), target_of(job, target)
    with (
        # Not while it is backed up: that backup would hold a half of each.
        agent.alone("The restore", job, "run", "drill"),
        state.scratch(agent.settings.scratch_dir, f"{job.name}.drill") as scratch,
    ):
        record = find(agent, job, backup)
        manifest = catalogue.manifest(agent.store, record)
        lines: list[str] = kind.restore(agent.context(job, scratch), StoredBackup(agent, record, manifest), wanted)
    return lines


def verify(agent: Agent, job: Job, backup: str = "") -> list[Check]:
    """Reads every byte of a backup. Without a private key only the stored form is looked at."""
    check_job(agent.settings, job)
    with agent.reading(f"The reading of {job.name}"):
        record = find(agent, job, backup)
        manifest = catalogue.manifest(agent.store, record)
        if not manifest.members:
            return [Check(job.kind, True, f"{job.kind} keeps the sums of its own repository; a drill looks at them.")]
        if crypto.identity_path(agent.settings) is None and not agent.passphrase:
            agent.say("No private key here: the stored bytes are compared, what is in them is not looked at.")
            stored = StoredBackup(agent, record, replace(manifest, recipients=()))
            looks = [stored.reading(member).check_stored for member in manifest.members]
        else:
            stored = StoredBackup(agent, record, manifest)
            looks = [stored.reading(member).check for member in manifest.members]
        return [check_member(agent, member, look) for member, look in zip(manifest.members, looks)]


def check_member(agent: Agent, member: Member, look: Callable[[], None]) -> Check:
    agent.progress.stage(f"verify {member.name}", member.stored_bytes)
    try:
        look()
    except IntegrityError as error:
        return Check(member.name, False, str(error))
    finally:
        agent.progress.done()
    return Check(member.name, True, f"{bytes_text(member.stored_bytes)} are what was stored.")


def fetch(agent: Agent, job: Job, backup: str, member: str, output: str) -> None:
    """The plain bytes of one member, into a new file or C(-); a file appears only when it is whole."""
    with agent.reading(f"The reading of {job.name}"):
        record = find(agent, job, backup)
        stored = StoredBackup(agent, record, catalogue.manifest(agent.store, record))
        found = stored.manifest.member(member)
        if output == "-":
            for piece in stored.reading(found).pieces():
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        path = Path(output)
        if path.exists():
            raise SettingsError(f"{path} exists; it is not replaced.")
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        agent.progress.stage(f"fetch {member}", found.stored_bytes)
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                for piece in stored.reading(found).pieces():
                    handle.write(piece)
                os.fsync(handle.fileno())
            os.link(partial, path)
        except OSError as error:
            raise BackupError(f"{path} could not be written: {error.strerror}.") from error
        finally:
            partial.unlink(missing_ok=True)
            agent.progress.done()


def probe(agent: Agent) -> list[Check]:
    """What the store's keys may do, tried; and whether the clocks agree."""
    store, host = agent.store, agent.settings.host
    key = names.folder(store.settings.prefix, host) + f"probe-{secrets.token_hex(8)}"
    data = secrets.token_bytes(64)
    try:
        store.put(key, data)
    except StoreError as error:
        return [Check("write", False, str(error))]
    checks = [Check("write", True, f"{store.settings.label} takes objects.")]
    checks.append(tried("read", lambda: b"".join(store.read(key)) == data, "gives back what it took"))
    checks.append(tried("list", lambda: any(entry.key == key for entry in store.list(key)), "lists it"))
    for seconds in skew(agent, key).values():
        text = f"This host's clock and the store's differ by {abs(seconds):.0f} s."
        checks.append(Check("clock", abs(seconds) <= SKEW_SECONDS, text))
    try:
        store.put(key, data[::-1])
        checks.append(Check("keep", False, "A second object replaced the first of the same name."))
    except ExistsError:
        checks.append(Check("keep", True, "An object is not replaced by another of the same name."))
    except StoreError as error:
        checks.append(Check("keep", False, str(error)))
    return [*checks, *probe_deletion(agent, key)]


def probe_deletion(agent: Agent, key: str) -> list[Check]:
    apart = agent.settings.prune_store is not None
    checks = []
    try:
        agent.store.delete([key])
        text = "The key can delete." + (" It should not: there is another one for that." if apart else "")
        checks.append(Check("delete", not apart, text))
    except DeniedError:
        text = "The key can write, but not delete." + (
            "" if apart else " Another host has to prune, see docs/backups.md."
        )
        checks.append(Check("delete", True, text))
    except StoreError as error:
        checks.append(Check("delete", False, str(error)))
    if apart:
        checks.append(tried("prune", lambda: deleted(agent.prune_store, key), "lets the key of prune_store delete"))
    return checks


def deleted(store: Store, key: str) -> bool:
    store.delete([key])
    return not any(store.list(key))


def tried(name: str, work: Callable[[], bool], text: str) -> Check:
    try:
        ok = work()
    except StoreError as error:
        return Check(name, False, str(error))
    return Check(name, ok, f"The store {text}." if ok else f"It does not hold that the store {text}.")


def find(agent: Agent, job: Job, backup: str = "") -> Record:
    """A backup of a job by its name; "" or C(latest) = the newest.

    @raises BackupError: if there is none, with those that there are
    """
    host = agent.settings.host_of(job)
    records = [record for record in catalogue.catalogue(agent.store, host, job.stored_name) if record.complete]
    if not records:
        raise BackupError(f"There is no backup of {host}/{job.stored_name} in {agent.store.settings.label}.")
    if backup in ("", "latest"):
        return records[-1]
    for record in records:
        if record.backup == backup:
            return record
    newest = ", ".join(record.backup for record in records[:-4:-1])
    raise BackupError(f"There is no backup {backup!r} of {host}/{job.stored_name}; the newest are {newest}.")


def check_job(settings: Settings, job: Job) -> None:
    """@raises SettingsError: if the job cannot work as it is set"""
    kind_of(job)
    crypto.check_recipients(settings)


def check_room(folder: Path, needed: int, who: str) -> None:
    """@raises BusyError: if the disk would be too full"""
    usage = shutil.disk_usage(folder)
    reserve = min(RESERVE_BYTES, usage.total // RESERVE_SHARE)
    if usage.free - reserve < needed:
        raise BusyError(
            f"{who} was skipped: it needs {bytes_text(needed)} below {folder.parents[1]}, where "
            f"{bytes_text(usage.free)} are free and {bytes_text(reserve)} must stay so. Make room, "
            "or set scratch_dir to another disk."
        )


@contextlib.contextmanager
def recorded(agent: Agent, job: Job, action: Action) -> Iterator[None]:
    """Remembers when something was begun, and why it failed, or that it did not."""
    agent.remember(job, **{action.begun: agent.clock().timestamp()})
    try:
        yield
    except BaseException as error:
        errors = dict(state.read_states(agent.settings.state_dir).get(job.name, {}).get("errors", {}))
        why = metrics.reason(error)
        errors[why] = errors.get(why, 0) + 1
        agent.remember(job, **{action.error: str(error) or type(error).__name__}, errors=errors)
        raise
    agent.remember(job, **{action.error: ""})


def versions(tools: Mapping[str, Command]) -> dict[str, str]:
    """The first line that each program says of itself; a program that cannot say it fails nothing."""
    found = {}
    for name, command in {**tools, "age": Command(("age", "--version"))}.items():
        with contextlib.suppress(SourceError):
            found[name] = (output(command).strip().splitlines() or [""])[0]
    return found


def store_lock(settings: Settings) -> str:
    """One lock for all jobs that share a place in the store."""
    return "store-" + hashlib.sha256(settings.store.label.encode()).hexdigest()[:12]


def key_in(store: Store, manifest: Manifest, file: str) -> str:
    return names.key(store.settings.prefix, names.Name(manifest.host, manifest.job, manifest.backup, file))


def text_of(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
