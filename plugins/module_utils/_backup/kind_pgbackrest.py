# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A whole PostgreSQL cluster by pgBackRest, which has to be configured on this host, with the archiving of WAL.

pgBackRest keeps the data in a repository of its own, encrypted by its own key. Its backups build on each other, so one
that our retention drops goes only when nothing is left that builds on it. Its own retention runs, too: let
repo1-retention-full be larger than what the job keeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from . import postgres
from .commands import output
from .errors import BackupError, BusyError, DrillError, SettingsError, SourceError
from .kinds import Backup, Check, Command, Context, options
from .manifest import Manifest
from .names import STAMP
from .postgres import Cluster, Server

OPTIONS: Mapping[str, Any] = {
    "stanza": "",
    # full, diff, incr, or auto: a full one every so many days, a diff once a day, else incr.
    "type": "auto",
    "full_every_days": 7,
    "user": "postgres",
    # Further settings of the throw-away server.
    "drill_settings": {},
    # Whether the drill also reads all tables and B-tree indexes by pg_amcheck.
    "drill_amcheck": True,
}
REQUIRED = ("stanza",)
RESTORE: Mapping[str, str] = {
    "time": "a moment after the backup, such as 2026-11-20 15:04:05+00, or backup, for its own end; now unless given",
    "cluster": "where to, such as 17/main; the cluster of this host unless it has several",
    "undo": "restores nothing: a kept data directory, which takes its place again",
}
TYPES = ("auto", "full", "diff", "incr")
# A timer that fires a little earlier than the last time is not to skip a day.
SLACK = timedelta(hours=1)
RECOVERY_SECONDS = 4 * 3600
CLUSTER_BYTES = 300 * 2**20
LIST = "SELECT jsonb_agg(datname) FROM pg_catalog.pg_database WHERE datallowconn"
# What the production server has in its postgresql.auto.conf counts, unless it is said here.
RECOVERING = {
    "wal_level": "replica",
    "hot_standby": "off",
    "recovery_target_timeline": "current",
    "max_prepared_transactions": "100",
    "primary_conninfo": "",
    "synchronous_standby_names": "",
    "unix_socket_group": "",
    "archive_command": "false",
}
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2


# --- the repository ----------------------------------------------------------------------------------------------


def pgbackrest(wanted: Mapping[str, Any], *words: str) -> Command:
    """With messages on stderr, so that stdout is what was asked for."""
    general = (f"--stanza={wanted['stanza']}", "--log-level-console=off", "--log-level-stderr=warn")
    return Command(("pgbackrest", *general, *words), wanted["user"])


def backups(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the repository holds of this stanza, the oldest first.

    @raises SourceError: if pgBackRest says that the stanza is not usable
    """
    [found] = json.loads(output(pgbackrest(wanted, "--output=json", "info"))) or [{}]
    status = found.get("status", {"code": 1, "message": "unknown"})
    # 2: there is none yet.
    if status["code"] not in (0, 2):
        raise SourceError(f"pgBackRest, stanza {wanted['stanza']}: {status['message']}.")
    return list(found.get("backup", []))


def next_type(present: Sequence[Mapping[str, Any]], full_every_days: int, now: datetime) -> str:
    """By age and not by the day of the week: a full one that was missed is made up for."""

    def age(*types: str) -> timedelta:
        starts = [int(one["timestamp"]["start"]) for one in present if one["type"] in types and not one.get("error")]
        return now - datetime.fromtimestamp(max(starts, default=0), timezone.utc)

    if age("full") >= timedelta(days=full_every_days) - SLACK:
        return "full"
    return "diff" if age("full", "diff") >= timedelta(days=1) - SLACK else "incr"


def snapshot(context: Context) -> Mapping[str, Any]:
    wanted = options(context.job)
    if wanted["type"] not in TYPES:
        raise SettingsError(f"Job {context.job.name}: type must be one of {', '.join(TYPES)}, not {wanted['type']!r}.")
    before = backups(wanted)
    kind = wanted["type"]
    if kind == "auto":
        kind = next_type(before, wanted["full_every_days"], datetime.now(timezone.utc))
    context.say(f"pgBackRest makes a backup of type {kind}.")
    output(pgbackrest(wanted, f"--type={kind}", "backup"))
    known = {one["label"] for one in before}
    made = [one for one in backups(wanted) if one["label"] not in known]
    if len(made) != 1:
        raise SourceError(f"pgBackRest ended well, but {len(made)} backups are new in stanza {wanted['stanza']}.")
    if made[0].get("error"):
        raise SourceError(
            f"pgBackRest found pages with wrong checksums while it made {made[0]['label']}: the data on this host is "
            f"damaged. 'pgbackrest --stanza={wanted['stanza']} --set={made[0]['label']} info' names the files."
        )
    return described(wanted["stanza"], made[0])


def described(stanza: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest keeps of an entry of C(info)."""

    def when(which: str) -> str:
        return datetime.fromtimestamp(int(made["timestamp"][which]), timezone.utc).isoformat()

    return {
        "stanza": stanza,
        "label": made["label"],
        "type": made["type"],
        "prior": made.get("prior"),
        "plain_bytes": int(made["info"]["size"]),
        "stored_bytes": int(made["info"]["repository"]["delta"]),
        "started": when("start"),
        "stopped": when("stop"),
        "archive_start": made["archive"]["start"],
        "archive_stop": made["archive"]["stop"],
        "lsn_stop": (made.get("lsn") or {}).get("stop"),
    }


# --- retention ---------------------------------------------------------------------------------------------------


def forget(context: Context, dropped: list[Manifest]) -> None:
    """Expires what nothing builds on; the rest is remembered and goes with the last that does."""
    wanted = options(context.job)
    note = Path(context.settings.state_dir) / f"{context.job.name}.pgbackrest.json"
    waiting = set(json.loads(note.read_text(encoding="utf-8"))) if note.exists() else set()
    waiting |= {one.engine["label"] for one in dropped}
    present = backups(wanted)
    gone = expirable(present, waiting)
    for label in gone:
        output(pgbackrest(wanted, f"--set={label}", "expire"))
    waiting = (waiting & {one["label"] for one in present}) - set(gone)
    new = note.with_suffix(".new")
    new.write_text(json.dumps(sorted(waiting)), encoding="utf-8")
    new.replace(note)
    if waiting:
        context.say(f"{context.job.name}: {', '.join(sorted(waiting))} stay in pgBackRest while others build on them.")


def expirable(present: Iterable[Mapping[str, Any]], unwanted: set[str]) -> list[str]:
    """The unwanted backups that no wanted one builds on, the newest first; the last full one stays in any case."""
    left = {one["label"]: one for one in present}
    gone = []
    for label in sorted(unwanted & left.keys(), reverse=True):
        builds_on_it = any(label == one.get("prior") or label in (one.get("reference") or []) for one in left.values())
        fulls = [one for one in left.values() if one["type"] == "full"]
        if not builds_on_it and not (left[label]["type"] == "full" and len(fulls) == 1):
            del left[label]
            gone.append(label)
    return gone


# --- drill -------------------------------------------------------------------------------------------------------


def needed_bytes(manifest: Manifest) -> int:
    return CLUSTER_BYTES + manifest.plain_bytes * 11 // 10


def fetch(wanted: Mapping[str, Any], label: str, data: Path, *words: str) -> Command:
    """Restores into an empty folder, tablespaces beside it."""
    places = (f"--pg1-path={data}", f"--tablespace-map-all={data}.tablespaces")
    return pgbackrest(wanted, f"--set={label}", *places, *words, "restore")


def drill(context: Context, backup: Backup) -> list[Check]:
    wanted = options(context.job)
    label = still_there(wanted, backup.manifest)
    cluster = Cluster(context, wanted["user"], {**RECOVERING, **wanted["drill_settings"]})
    began = time.monotonic()
    # Nothing of it may reach the archive of the cluster that it comes from.
    end = ("--type=immediate", "--target-action=promote", "--archive-mode=off")
    output(fetch(wanted, label, cluster.data, *end))
    with cluster:
        cluster.own_files()
        cluster.start("SELECT NOT pg_is_in_recovery()", RECOVERY_SECONDS)
        seconds = time.monotonic() - began
        server = cluster.server
        databases = [name for name in server.ask("template1", LIST) if name != "template1"]
        size = backup.manifest.plain_bytes / 1e6
        checks = [Check("restore", True, f"{label}, {size:.0f} MB, recovered to its end in {seconds:.1f} s")]
        if wanted["drill_amcheck"]:
            checks.append(amcheck(server, cluster.major))
        return checks + postgres.assert_all(server, backup.manifest.assertions, databases)


def still_there(wanted: Mapping[str, Any], manifest: Manifest) -> str:
    label = str(manifest.engine["label"])
    if label not in {one["label"] for one in backups(wanted)}:
        raise DrillError(
            f"pgBackRest does not have {label} any more: its own retention removed it. Let repo1-retention-full be "
            f"larger than what the job {manifest.job} keeps."
        )
    return label


def amcheck(server: Server, major: int) -> Check:
    """Reads every table and B-tree index, with the checksums of their pages."""
    where = ("-w", "-h", server.socket_dir, "-p", str(server.port), "-U", server.user, "--maintenance-db=template1")
    argv = (postgres.program("pg_amcheck", major), "--all", "--install-missing", *where)
    try:
        output(Command(argv, server.user))
    except SourceError as error:
        return Check("pg_amcheck", False, str(error))
    return Check("pg_amcheck", True, "tables and B-tree indexes of all databases are sound")


# --- restore -----------------------------------------------------------------------------------------------------


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    """Restores beside, stops the cluster, lets the two data directories change places, and starts it again."""
    wanted = options(context.job)
    cluster = find_cluster(target.get("cluster", ""))
    data = Path(cluster["pgdata"])
    if target.get("undo"):
        return exchange(wanted, cluster, Path(target["undo"]), context)
    label = still_there(wanted, backup.manifest)
    fresh = data.with_name(f"{data.name}.restored-{datetime.now(timezone.utc).strftime(STAMP)}")
    needed, left = backup.manifest.plain_bytes, shutil.disk_usage(data.parent).free
    if left < needed:
        raise BusyError(
            f"The restore needs {needed / 1e6:.0f} MB beside {data}, and {left / 1e6:.0f} MB are left there."
        )
    if any(data.glob("pg_tblspc/*")):
        raise BackupError(
            f"{data} has tablespaces, which cannot change places by a rename; stop the cluster and use "
            f"'pgbackrest --stanza={wanted['stanza']} --set={label} --delta restore'."
        )
    end = [f'--recovery-option=restore_command=pgbackrest --stanza={wanted["stanza"]} archive-get %f "%p"']
    if target.get("time") == "backup":
        end += ["--type=immediate", "--target-action=promote"]
    else:
        end.append(f"--target-timeline={timeline(server_of(wanted, cluster))}")
    if target.get("time", "backup") != "backup":
        end += ["--type=time", f"--target={target['time']}", "--target-action=promote"]
    try:
        output(fetch(wanted, label, fresh, *end))
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return exchange(wanted, cluster, fresh, context)


def find_cluster(name: str) -> dict[str, Any]:
    """An entry of pg_lsclusters.

    @param name: such as C(17/main); "" = the only one
    """
    found = {
        f"{one['version']}/{one['cluster']}": one for one in json.loads(output(Command(("pg_lsclusters", "--json"))))
    }
    if not name and len(found) == 1:
        return dict(next(iter(found.values())))
    if name not in found:
        raise SettingsError(f"cluster={name} is none of this host's: {', '.join(found) or 'it has none'}.")
    return dict(found[name])


def exchange(wanted: Mapping[str, Any], cluster: Mapping[str, Any], other: Path, context: Context) -> list[str]:
    """Lets a data directory and that of the cluster change places; what was in use keeps the other's name."""
    data = Path(cluster["pgdata"])
    if other.parent != data.parent or not (other / "PG_VERSION").is_file():
        kept = ", ".join(map(str, sorted(data.parent.glob(f"{data.name}.*")))) or "none"
        raise SettingsError(f"{other} is not a data directory beside {data}; there are {kept}.")
    unit = f"postgresql@{cluster['version']}-{cluster['cluster']}.service"
    server = server_of(wanted, cluster)
    output(Command(("systemctl", "stop", unit)))
    try:
        swap(data, other)
        try:
            start(unit, server)
        except BaseException:
            output(Command(("systemctl", "stop", unit)))
            swap(data, other)
            raise
    except BaseException as error:
        # What was damaged before may not start either.
        with contextlib.suppress(BackupError):
            start(unit, server)
        if isinstance(error, BackupError):
            raise DrillError(f"{other} does not run, so {data} is what it was before: {error}") from error
        raise
    kept_as = other.with_name(other.name.replace(".restored-", ".before-"))
    if not kept_as.exists():
        other.rename(kept_as)
    return [
        f"Cluster {cluster['version']}/{cluster['cluster']} is restored; what was there is {kept_as}.",
        f"The way back: bulwark-backup restore {context.job.name} --to undo={kept_as} --yes",
        f"When nobody needs it any more: rm -r {kept_as}",
    ]


def start(unit: str, server: Server) -> None:
    """Starts a cluster and waits until it is recovered."""
    output(Command(("systemctl", "start", unit)))
    postgres.wait_for(lambda: recovered(unit, server), RECOVERY_SECONDS)


def server_of(wanted: Mapping[str, Any], cluster: Mapping[str, Any]) -> Server:
    return Server(cluster["socketdir"], int(cluster["port"]), wanted["user"])


def timeline(server: Server) -> str:
    """The one that the cluster is on: after an undo that is not the latest in the archive."""
    try:
        return str(server.ask("template1", "SELECT to_jsonb(timeline_id) FROM pg_control_checkpoint()"))
    except SourceError:
        return "latest"


def recovered(unit: str, server: Server) -> bool:
    """@raises DrillError: if it has ended, which the unit does not tell while it starts"""
    try:
        return bool(server.ask("template1", "SELECT to_jsonb(NOT pg_is_in_recovery())"))
    except SourceError as error:
        if output(Command(("systemctl", "is-active", unit)), ok_status=(0, 3)).strip() == "failed":
            raise DrillError(f"{unit} failed; its log is in /var/log/postgresql.") from error
        return False


def swap(one: Path, other: Path) -> None:
    """In one step, so that there is a data directory at any moment."""
    paths = [os.fsencode(path) for path in (one, other)]
    if LIBC.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise BackupError(f"{one} and {other} could not change places: {os.strerror(number)}.")


def tools() -> Mapping[str, Command]:
    return {"pgbackrest": Command(("pgbackrest", "version"))}
