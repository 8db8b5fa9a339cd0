# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL, logically: roles with their passwords, what databases are like, and a dump of each database.

The rows are counted in the dump's own snapshot, in a second session while the dump is on its way. That session locks
the tables first and takes the snapshot then, so a TRUNCATE or a rewrite cannot slip between the two and leave an empty
table in a dump that looks good.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from . import postgres, postgres_globals
from .commands import output
from .errors import BackupError, BusyError, DrillError, SettingsError, SourceError
from .kinds import Backup, Check, Command, Context, Stream, options
from .manifest import Manifest
from .postgres import Cluster, Server, Session, identifier, label, literal
from .settings import did_you_mean

OPTIONS: Mapping[str, Any] = {
    # All but templates unless given.
    "databases": [],
    # The account of the system that is the superuser in the server, by peer authentication.
    "user": "postgres",
    "socket_dir": "/var/run/postgresql",
    "port": 5432,
    # Larger tables are not counted; the drill looks whether they are there.
    "count_up_to_mb": 16384,
    # Further settings of the throw-away server, such as shared_preload_libraries for extensions that need it.
    "drill_settings": {},
}
REQUIRED: tuple[str, ...] = ()
RESTORE: Mapping[str, str] = {
    "database": "one database of the backup; all of them unless given",
    "as": "a new name for it, so that nothing is replaced",
    "port": "the port of another server on this host",
    "undo": "restores nothing: the name of a kept database, such as shop_before_…, which takes its place again",
    "drop": "restores nothing: the name of a kept database, which is removed for good",
}
GLOBALS = "globals.sql"
DATABASES = "databases.json"
# A lock that is not there after this time is held by a change of the schema, which waits for us in turn.
LOCK_SECONDS = 10
LOCK_TRIES = 30
PAUSE_SECONDS = 1
SWAP_SECONDS = 60
# What an empty cluster takes, with the WAL that it keeps.
CLUSTER_BYTES = 600 * 2**20
KEPT = re.compile(r"(?P<name>.+)_(?P<what>restore|before)_\d{8}t\d{6}z")
NAME_BYTES = 63
RESTORE_LOCK = "SELECT to_jsonb(pg_try_advisory_lock(hashtext('bulwark-backup restore')));"
LIST = """
SELECT jsonb_agg(datname ORDER BY datname) FROM pg_catalog.pg_database
WHERE NOT datistemplate AND datallowconn AND datconnlimit <> -2;
"""


# --- backup ------------------------------------------------------------------------------------------------------


def streams(context: Context) -> Iterator[Stream]:
    wanted = options(context.job)
    server = Server(wanted["socket_dir"], wanted["port"], wanted["user"])
    with Session(server, "template1") as session:
        databases = chosen(context.job.name, wanted["databases"], session.one(LIST))
        major = int(session.one(postgres.ABOUT_DATABASE)["major"])
    for assertion in context.job.assertions:
        postgres.place_assertion(assertion, databases)
    yield Stream(GLOBALS, dump_globals(server, major))
    yield Stream(DATABASES, server.psql("template1", "-c", postgres_globals.DATABASES))
    for name in databases:
        with contextlib.closing(Snapshot(context, server, name, wanted["count_up_to_mb"] * 2**20)) as snapshot:
            about = snapshot.about
            stream = Stream(member_of(name), dump(server, major, name, snapshot.id), about["database_bytes"])
            yield stream
            stream.evidence.update(snapshot.evidence())


def chosen(job: str, wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    """The databases of a job; those that a restore has left beside count only if they are named."""
    for name in wanted:
        if name not in present:
            raise SourceError(f"Job {job}: there is no database {name!r}{did_you_mean(name, list(present))}.")
    return list(wanted) or [name for name in present if not KEPT.fullmatch(name)]


def member_of(database: str) -> str:
    """The name of a dump. What a store may not like in a name is written as ~ and the code of each byte."""
    safe = re.sub(rb"[^A-Za-z0-9._-]|^[._-]", lambda found: b"~%02x" % found[0][0], database.encode())
    return f"{safe.decode()}.dump"


def dump(server: Server, major: int, database: str, snapshot: str) -> Command:
    words = ("-Fc", "-Z0", "-w", f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_SECONDS * 1000}")
    return Command((postgres.program("pg_dump", major), *words, "-d", server.conninfo(database)), server.user)


def dump_globals(server: Server, major: int) -> Command:
    words = ("--globals-only", "-w", "-d", server.conninfo("template1"))
    return Command((postgres.program("pg_dumpall", major), *words), server.user, {"PGCLIENTENCODING": "UTF8"})


class Snapshot:
    """A moment of one database, held open while it is dumped, and what was in it."""

    def __init__(self, context: Context, server: Server, database: str, count_up_to: int) -> None:
        self.context = context
        self.session = self.locked(server, database)
        try:
            [self.id] = self.session.ask("SELECT pg_export_snapshot();")
            self.about: dict[str, Any] = self.session.one(postgres.ABOUT_DATABASE)
            present = postgres.tables(self.session)
            # What was made since the locks were taken may be locked by somebody else, and a count would wait.
            counted = [one for name, one in present.items() if name in self.held and one.bytes <= count_up_to]
            self.not_counted = sorted(present.keys() - {table.label for table in counted})
            self.session.send(postgres.count_sql(counted))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.session.close()

    def locked(self, server: Server, database: str) -> Session:
        """A session that holds a shared lock on every table and has not looked at one yet."""
        for tries_left in reversed(range(LOCK_TRIES)):
            session = Session(server, database)
            try:
                self.before = postgres.sequences(session)
                self.held = postgres.tables(session)
                session.ask(lock_sql(self.held.values()))
                return session
            except SourceError as error:
                session.close()
                # Dropped since we read its name, or being changed: both are over soon.
                if not tries_left or not re.search(r"lock timeout|does not exist|could not open relation", str(error)):
                    raise
                self.context.say(f"{label(database)}: the schema is being changed, trying again ({error}).")
                time.sleep(PAUSE_SECONDS)
            except BaseException:
                session.close()
                raise
        raise SourceError(f"{label(database)} could not be locked.")

    def evidence(self) -> dict[str, Any]:
        """What the snapshot held; waits for the counts."""
        counted = postgres.counts(self.session.receive())
        # Sequences are not part of a snapshot; those of today are asked for.
        self.session.ask("ROLLBACK;")
        return {
            **self.about,
            "database": self.session.database,
            "tables": counted,
            "not_counted": self.not_counted,
            "sequences": postgres.spans(self.before, postgres.sequences(self.session)),
        }


def lock_sql(tables: Iterable[postgres.Table]) -> str:
    names = [f"ONLY {table.sql}" for table in tables]
    locks = [f"LOCK TABLE {', '.join(names[at : at + 500])} IN ACCESS SHARE MODE;" for at in range(0, len(names), 500)]
    return "\n".join(
        [f"SET lock_timeout = '{LOCK_SECONDS}s';", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;", *locks]
    )


# --- what drill and restore share --------------------------------------------------------------------------------


@dataclass
class Content:
    """What a backup holds beside the dumps, and what is known of the dumps."""

    globals: str
    databases: dict[str, dict[str, Any]]
    evidence: dict[str, Mapping[str, Any]]

    @property
    def major(self) -> int:
        return max((int(one["major"]) for one in self.evidence.values()), default=0)


def content(context: Context, backup: Backup) -> Content:
    texts = {}
    for name in (GLOBALS, DATABASES):
        path = context.scratch / name
        backup.feed(name, Command(("sh", "-c", 'umask 077; cat > "$0"', str(path))))
        texts[name] = path.read_text(encoding="utf-8", errors="surrogateescape")
        path.unlink()
    dumps = [member.evidence for member in backup.manifest.members if member.name.endswith(".dump")]
    described = {one["name"]: one for one in json.loads(texts[DATABASES])}
    return Content(texts[GLOBALS], described, {one["database"]: one for one in dumps})


def make_database(server: Server, major: int, about: Mapping[str, Any], name: str) -> None:
    """An empty database like the one of the backup."""
    try:
        output(server.psql("template1", "-c", postgres_globals.create(about, name, major)))
    except SourceError as error:
        if re.search(r"locale|encoding|collation", str(error)):
            raise DrillError(
                f"Database {label(about['name'])} has the locale {about['collate']}, which this host does not have or "
                f"which does not fit; make it (locale-gen) and restart PostgreSQL: {error}"
            ) from error
        raise


def load(server: Server, major: int, backup: Backup, database: str, name: str, *words: str) -> None:
    """Restores a dump into an empty database; any error ends it.

    Whatever the dump makes that a new database already has is removed first, so that no message has to be passed over.
    """
    argv = (postgres.program("pg_restore", major), "-w", "--exit-on-error", "--clean", "--if-exists", *words)
    # Its statements need not be on the disk one by one: the rename at the end is waited for, and all before it with it.
    env = {"PGOPTIONS": "-c synchronous_commit=off"}
    backup.feed(member_of(database), Command((*argv, "-d", server.conninfo(name)), server.user, env))


def missing_extensions(server: Server, evidence: Mapping[str, Any]) -> list[str]:
    available = server.ask("template1", "SELECT jsonb_agg(name) FROM pg_catalog.pg_available_extensions") or []
    return sorted(set(evidence["extensions"]) - set(available))


def refuse_missing_extensions(server: Server, evidence: Mapping[str, Any]) -> None:
    missing = missing_extensions(server, evidence)
    if missing:
        raise DrillError(
            f"Database {label(evidence['database'])} uses the extensions {', '.join(missing)}, which this host does "
            f"not have for PostgreSQL; install their packages, such as postgresql-{evidence['major']}-{missing[0]}."
        )


# --- drill -------------------------------------------------------------------------------------------------------


def needed_bytes(manifest: Manifest) -> int:
    databases = sum(int(member.evidence.get("database_bytes", 0)) for member in manifest.members)
    return CLUSTER_BYTES + databases * 6 // 5


def drill(context: Context, backup: Backup) -> list[Check]:
    wanted = options(context.job)
    found = content(context, backup)
    with Cluster(context, wanted["user"], wanted["drill_settings"]) as cluster:
        cluster.make(found.major)
        cluster.start()
        server, major = cluster.server, cluster.major
        roles = postgres_globals.for_new_cluster(found.globals, wanted["user"])
        output(server.psql("template1", "-f", "-"), roles)
        checks = [Check("roles", True, f"{roles.count('CREATE ROLE')} roles with their passwords and memberships")]
        # Made like every other, with the properties of the backup.
        output(server.psql("template1", "-c", "DROP DATABASE postgres"))
        for name, evidence in found.evidence.items():
            checks += drill_database(server, major, backup, found.databases[name], evidence)
        return checks + postgres.assert_all(server, backup.manifest.assertions, list(found.evidence))


def drill_database(
    server: Server, major: int, backup: Backup, about: Mapping[str, Any], evidence: Mapping[str, Any]
) -> list[Check]:
    name = evidence["database"]
    began = time.monotonic()
    try:
        refuse_missing_extensions(server, evidence)
        make_database(server, major, {**about, "tablespace": ""}, name)
        load(server, major, backup, name, name, "--single-transaction", "--no-tablespaces")
        output(server.psql(name, "-f", "-"), postgres_globals.finish(about, name))
    except (DrillError, SourceError) as error:
        return [Check(f"restore {label(name)}", False, str(error))]
    seconds = time.monotonic() - began
    with Session(server, name) as session:
        size = evidence["database_bytes"] / 1e6
        return [
            Check(f"restore {label(name)}", True, f"{size:.0f} MB in {seconds:.1f} s"),
            *postgres.compare(session, evidence),
        ]


# --- restore -----------------------------------------------------------------------------------------------------


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    wanted = options(context.job)
    server = Server(wanted["socket_dir"], port_of(target, wanted["port"]), wanted["user"])
    if target.get("drop"):
        return drop(server, target["drop"])
    if target.get("undo"):
        return undo(context, server, target["undo"], target.get("database", ""))
    found = content(context, backup)
    names = to_restore(found, target.get("database", ""), target.get("as", ""))
    with contextlib.closing(Place(context, server, [*names, *names.values()])) as place:
        return place.restore(backup, found, names)


def port_of(target: Mapping[str, str], port: int) -> int:
    text = target.get("port", str(port))
    if not text.isdigit():
        raise SettingsError(f"port={text} is not a number.")
    return int(text)


def to_restore(found: Content, database: str, new_name: str) -> dict[str, str]:
    """Database of the backup -> the name that it gets.

    C(postgres) is left alone unless it is named or somebody keeps tables there: monitoring lives in it.
    """
    names = list(found.evidence)
    if database and database not in names:
        raise SettingsError(f"The backup has no database {database!r}{did_you_mean(database, names)}.")
    if not database:
        names = [name for name in names if name != "postgres" or found.evidence[name]["tables"]]
    else:
        names = [database]
    if new_name and len(names) != 1:
        raise SettingsError(f"as={new_name} needs one database; name it by database=, one of {', '.join(names)}.")
    if len(new_name.encode()) > NAME_BYTES:
        raise SettingsError(f"as={new_name} is too long; PostgreSQL's names have at most {NAME_BYTES} bytes.")
    return {name: new_name or name for name in names}


def stamp(now: datetime) -> str:
    return now.strftime("%Y%m%dt%H%M%Sz")


def beside(name: str, what: str, now: datetime) -> str:
    """C(shop_before_20261120t160000z): a long name loses its end."""
    suffix = f"_{what}_{stamp(now)}"
    return name.encode()[: NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


class Place:
    """The server that is restored into; one restore at a time."""

    def __init__(self, context: Context, server: Server, busy: Iterable[str]) -> None:
        self.context, self.server = context, server
        self.now = datetime.now(timezone.utc)
        # Where we are connected cannot be renamed.
        self.maintenance = "template1" if "postgres" in busy else "postgres"
        self.session = Session(server, self.maintenance)
        try:
            if self.session.one(RESTORE_LOCK) is not True:
                raise BusyError("Another restore into this server is running; wait for its end.")
            self.about = self.session.one(postgres.ABOUT_DATABASE)
            self.present = set(self.session.one(LIST))
            # A kept database may have the name that this second gives.
            while any(name.endswith(stamp(self.now)) for name in self.present):
                self.now += timedelta(seconds=1)
            self.sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.session.close()

    def sweep(self) -> None:
        """Removes what a restore left that was killed; nobody else makes such databases while we hold the lock."""
        for name in sorted(self.present):
            match = KEPT.fullmatch(name)
            if match and match["what"] == "restore":
                self.context.say(f"Removing {label(name)}, which a restore left that did not end.")
                self.remove([name])
                self.present.discard(name)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            output(self.server.psql(self.maintenance, "-c", f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)"))

    def restore(self, backup: Backup, found: Content, names: Mapping[str, str]) -> list[str]:
        major = int(self.about["major"])
        self.refuse(found, names, major)
        said = self.make_roles(found.globals)
        fresh: dict[str, str] = {}
        try:
            for source, name in names.items():
                fresh[name] = beside(name, "restore", self.now)
                said += self.fill(backup, found, source, fresh[name], major)
            kept = {name: beside(name, "before", self.now) for name in names.values() if name in self.present}
            swap(self.server, self.maintenance, moves(fresh, kept))
        except BaseException:
            # If the server does not answer, the next restore removes them.
            with contextlib.suppress(BackupError):
                self.remove(fresh.values())
            raise
        return said + report(self.context.job.name, backup.manifest.backup, names, kept)

    def refuse(self, found: Content, names: Mapping[str, str], major: int) -> None:
        """What would fail half way is refused before anything is done."""
        if major < found.major:
            raise SettingsError(
                f"The backup is of PostgreSQL {found.major} and this server is {major}: "
                f"restore it into {found.major} or later."
            )
        for source, name in names.items():
            if source != name and name in self.present:
                raise SettingsError(f"There is a database {name!r} already; choose another name for as=.")
            refuse_missing_extensions(self.server, found.evidence[source])
        needed = sum(int(found.evidence[name]["database_bytes"]) for name in names)
        folder = self.session.ask("SHOW data_directory;")[0]
        left = shutil.disk_usage(folder).free
        if left < needed:
            raise BusyError(
                f"The restore needs {needed / 1e6:.0f} MB beside what is there, and {folder} has {left / 1e6:.0f} MB "
                "left; make room, for example by drop=… of an older kept database."
            )

    def make_roles(self, globals_sql: str) -> list[str]:
        present = set(self.session.one("SELECT jsonb_agg(rolname) FROM pg_roles;"))
        made, script = postgres_globals.for_missing_roles(globals_sql, present)
        if not made:
            return []
        output(self.server.psql(self.maintenance, "-f", "-"), script)
        return [
            f"Made the roles that were missing: {', '.join(map(label, made))}. Existing roles were left as they are."
        ]

    def fill(self, backup: Backup, found: Content, source: str, fresh: str, major: int) -> list[str]:
        """Restores one database under a name that nobody uses yet, and compares it with the backup."""
        about, evidence = found.databases[source], found.evidence[source]
        spaces = set(self.session.one("SELECT jsonb_agg(spcname) FROM pg_tablespace;"))
        lost = sorted(set(about["tablespaces"]) - spaces)
        said = (
            [f"{label(source)}: the tablespaces {', '.join(lost)} are not here; all is in the default one."]
            if lost
            else []
        )
        if lost:
            about = {**about, "tablespace": ""}
        make_database(self.server, major, about, fresh)
        load(self.server, major, backup, source, fresh, *(["--no-tablespaces"] if lost else []))
        # Without statistics the first queries would be slow ones.
        output(self.server.psql(fresh, "-f", "-"), f"{postgres_globals.finish(about, fresh)}\nANALYZE;\n")
        with Session(self.server, fresh) as session:
            wrong = [check.text for check in postgres.compare(session, evidence) if not check.ok]
        if wrong:
            raise DrillError(
                f"The restored {label(source)} is not what was backed up: {'; '.join(wrong)}. Nothing was replaced."
            )
        for assertion in backup.manifest.assertions:
            if postgres.place_assertion(assertion, list(found.evidence))[0] == source:
                sql = postgres.place_assertion(assertion, list(found.evidence))[1]
                check = postgres.assertion_check(self.server, sql, [fresh])
                said.append(f"{label(source)}: {check.name}: {check.text}.")
        return said


def moves(fresh: Mapping[str, str], kept: Mapping[str, str]) -> list[tuple[str, str]]:
    """The renames that put restored databases in the place of old ones, in order."""
    found = []
    for name, new in fresh.items():
        if name in kept:
            found.append((name, kept[name]))
        found.append((new, name))
    return found


def swap(server: Server, maintenance: str, renames: Sequence[tuple[str, str]]) -> None:
    """Renames databases, all of them in one transaction: whatever is killed, each name leads to a whole database.

    A rename locks its database against new connections and waits five seconds for the old ones to go; those are
    ended meanwhile. A client that connects in this moment waits, is refused once, and finds the new one.
    """
    script = ["BEGIN;", *(f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)};" for old, new in renames)]
    names = ", ".join(literal(old) for old, _new in renames)
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({names}) \\g /dev/null"  # noqa: S608
    deadline = time.monotonic() + SWAP_SECONDS
    while True:
        with Session(server, maintenance) as mover, Session(server, maintenance) as killer:
            mover.send("\n".join([*script, "COMMIT;"]))
            while not mover.answered(0.1):
                killer.ask(terminate)
            try:
                mover.receive()
                return
            except SourceError as error:
                if "being accessed by other users" not in str(error) or time.monotonic() > deadline:
                    raise BackupError(f"The databases could not change places, all is as it was: {error}") from error


def report(job: str, what: str, names: Mapping[str, str], kept: Mapping[str, str]) -> list[str]:
    """What a person has to know afterwards.

    @param what: what the databases come from
    @param names: database there -> database here
    @param kept: database here -> the name that the replaced one has now
    """
    said = []
    for source, name in names.items():
        if name not in kept:
            said.append(f"Database {label(name)} is {label(source)} of {what}; nothing was replaced.")
            continue
        said += [
            f"Database {label(name)} is restored from {what}; what was there is {label(kept[name])}.",
            f"The way back: {command(job, 'undo', kept[name], name)}",
            f"When nobody needs it any more: {command(job, 'drop', kept[name], name)}",
        ]
    return said


def command(job: str, word: str, kept: str, name: str) -> str:
    """What to type; a name that lost its end has to be given, too."""
    match = KEPT.fullmatch(kept)
    also = ["--to", f"database={name}"] if word == "undo" and (not match or match["name"] != name) else []
    return shlex.join(["bulwark-backup", "restore", job, "--to", f"{word}={kept}", *also, "--yes"])


def kept_database(server: Server, name: str) -> str:
    """The name that a kept database had.

    @raises SettingsError: if it is none, or not there
    """
    match = KEPT.fullmatch(name)
    present = server.ask("template1", LIST) or []
    if not match or match["what"] != "before" or name not in present:
        kept = [one for one in present if "_before_" in one and KEPT.fullmatch(one)]
        raise SettingsError(
            f"{name!r} is not a database that a restore has kept; there are {', '.join(kept) or 'none'}."
        )
    return match["name"]


def drop(server: Server, name: str) -> list[str]:
    kept_database(server, name)
    output(server.psql("template1", "-c", f"DROP DATABASE {identifier(name)} WITH (FORCE)"))
    return [f"Database {label(name)} is removed."]


def undo(context: Context, server: Server, kept: str, database: str) -> list[str]:
    name = database or kept_database(server, kept)
    with contextlib.closing(Place(context, server, [name])) as place:
        if kept not in place.present:
            kept_database(server, kept)
        now = {name: beside(name, "before", place.now)} if name in place.present else {}
        swap(server, place.maintenance, moves({name: kept}, now))
    return report(context.job.name, "what was kept", {kept: name}, now)


def tools() -> Mapping[str, Command]:
    return {"pg_dump": Command((postgres.newest("pg_dump"), "--version"))}
