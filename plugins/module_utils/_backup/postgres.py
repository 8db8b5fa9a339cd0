# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL servers, by their own programs: sessions, what a database holds, and a throw-away cluster for drills.

No driver is needed: psql is there wherever the server is, and it logs in as the account that may, over the socket.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pwd
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .commands import Process, last_lines, output
from .errors import BackupError, DrillError, SourceError
from .kinds import Check, Command, Context

PROGRAMS = Path("/usr/lib/postgresql")
START_SECONDS = 300
PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
# An assertion may begin with the database that it is about; SQL never begins so.
ABOUT = re.compile(r'("(?:[^"]|"")+"|[^\s:"]+):\s+(.*)', re.DOTALL)
# How many differences a person wants to read.
EXAMPLES = 5
# What a cluster that nobody keeps can do without.
THROW_AWAY = {
    "listen_addresses": "",
    "port": "5432",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "archive_mode": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "64MB",
    "max_parallel_maintenance_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "huge_pages": "off",
    # A whole database is restored in one transaction, which locks all that it makes.
    "max_locks_per_transaction": "4096",
    "max_connections": "20",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "fatal",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "ssl": "off",
}


# --- words of SQL ------------------------------------------------------------------------------------------------


def literal(text: str) -> str:
    """A text as SQL has it, whatever standard_conforming_strings says."""
    doubled = text.replace("'", "''")
    return " E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def label(*names: str) -> str:
    """How a person names it. Not by the server's own rule, which depends on its version."""
    return ".".join(name if PLAIN_NAME.fullmatch(name) else identifier(name) for name in names)


# --- programs and sessions ---------------------------------------------------------------------------------------


def installed(name: str) -> dict[int, str]:
    """The versions of a program on this host: major -> path."""
    paths = PROGRAMS.glob(f"*/bin/{name}")
    return dict(sorted((int(path.parts[-3]), str(path)) for path in paths if path.parts[-3].isdigit()))


def program(name: str, major: int) -> str:
    """The program of this major, else of the next one above, which reads everything that older ones wrote.

    @raises SourceError: if there is none
    """
    found = installed(name)
    for candidate, path in found.items():
        if candidate >= major:
            return path
    here = f"it has {', '.join(map(str, found))}" if found else "it has none"
    raise SourceError(f"{name} of PostgreSQL {major} or later is needed, and this host does not have it ({here}).")


def newest(name: str) -> str:
    """The program of the newest major; clients talk to all older servers."""
    return (list(installed(name).values()) or [name])[-1]


@dataclass(frozen=True)
class Server:
    """A running server on this host.

    @param user: the account of the system and, by peer authentication, the superuser in the server
    """

    socket_dir: str
    port: int
    user: str

    def conninfo(self, database: str) -> str:
        """How libpq is told where to connect; the name of a database may hold anything."""
        words = {"host": self.socket_dir, "port": str(self.port), "user": self.user, "dbname": database}
        quoted = {key: word.replace("\\", "\\\\").replace("'", "\\'") for key, word in words.items()}
        return " ".join(f"{key}='{word}'" for key, word in quoted.items())

    def psql(self, database: str, *words: str) -> Command:
        argv = (newest("psql"), "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(database), *words)
        return Command(argv, self.user, {"PGCLIENTENCODING": "UTF8", "PGAPPNAME": "bulwark-backup"})

    def ask(self, database: str, sql: str) -> Any:
        """The one value of a query, of type jsonb; None if it gives none."""
        answer = output(self.psql(database, "-c", sql)).strip()
        return json.loads(answer) if answer else None


# What an administrator may have set for everybody must not end a long backup; a count is not worth many processors.
CALM = """
SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',
 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout', 'jit',
 'max_parallel_workers_per_gather') \\g /dev/null
SELECT set_config(name, '10s', false) FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'
 \\g /dev/null
SET client_min_messages = error;
SET search_path = pg_catalog;
SET row_security = off;
"""


class Session:
    """One connection, held by a psql of its own, which ends with it and rolls back."""

    def __init__(self, server: Server, database: str) -> None:
        self.database = database
        self.process = Process(server.psql(database), subprocess.PIPE, subprocess.PIPE)
        self.answers = io.BufferedReader(self.process.stdout)  # type: ignore[type-var]
        self.numbers = itertools.count(1)
        self.sent = 0
        try:
            self.ask(CALM)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.process.end()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, sql: str) -> None:
        """Sends statements and does not wait; C(receive) has their answers."""
        self.sent = next(self.numbers)
        with contextlib.suppress(BrokenPipeError):
            # Whatever ended psql is said when the answer is read.
            data = memoryview(f"{sql}\n\\echo answered {self.sent}\n".encode(errors="surrogateescape"))
            while data:
                data = data[self.process.stdin.write(data) :]

    def answered(self, seconds: float) -> bool:
        """Whether there is something to read within this time; the end of psql counts."""
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def receive(self) -> list[str]:
        """The lines that the statements gave.

        @raises SourceError: if one of them failed or the connection was lost
        """
        lines: list[str] = []
        for line in self.answers:
            text = line.decode(errors="surrogateescape").rstrip("\n")
            if text == f"answered {self.sent}":
                return lines
            lines.append(text)
        said = last_lines(self.process.tail.decode(errors="replace")) if self.process.wait() else "it ended"
        raise SourceError(f"PostgreSQL, database {label(self.database)}: {said}")

    def ask(self, sql: str) -> list[str]:
        self.send(sql)
        return self.receive()

    def one(self, sql: str) -> Any:
        """The one value of a query, of type jsonb."""
        lines = self.ask(sql)
        return json.loads(lines[-1]) if lines and lines[-1] else None


# --- what a database holds ---------------------------------------------------------------------------------------

# Not what extensions bring: that comes back with them.
TABLES = """
SELECT jsonb_agg(jsonb_build_array(n.nspname, c.relname, pg_relation_size(c.oid)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_depend d
 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');
"""
SEQUENCES = """
SELECT jsonb_agg(jsonb_build_array(schemaname, sequencename, last_value)) FROM pg_sequences;
"""
ABOUT_DATABASE = """
SELECT jsonb_build_object(
 'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
 'extensions', (SELECT jsonb_object_agg(extname, extversion) FROM pg_extension),
 'encoding', (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()),
 'collation', (SELECT datcollate FROM pg_database WHERE datname = current_database()),
 'database_bytes', pg_database_size(current_database()),
 'server_version', current_setting('server_version'),
 'major', current_setting('server_version_num')::int / 10000);
"""


@dataclass(frozen=True)
class Table:
    schema: str
    name: str
    bytes: int

    @property
    def label(self) -> str:
        return label(self.schema, self.name)

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"


def tables(session: Session) -> dict[str, Table]:
    """All tables whose rows a dump holds, by label."""
    found = (Table(schema, name, size or 0) for schema, name, size in session.one(TABLES) or [])
    return {table.label: table for table in found}


def sequences(session: Session) -> dict[str, int | None]:
    """The last value of each, None = never used."""
    return {label(schema, name): value for schema, name, value in session.one(SEQUENCES) or []}


def count_sql(wanted: Iterable[Table]) -> str:
    """One statement for each table: its label and its rows, as an array."""
    return "\n".join(
        f"SELECT jsonb_build_array({literal(table.label)}::text, count(*)) FROM ONLY {table.sql};"  # noqa: S608
        for table in wanted
    )


def counts(lines: Iterable[str]) -> dict[str, int]:
    return dict(json.loads(line) for line in lines)


def compare(session: Session, expected: Mapping[str, Any]) -> list[Check]:
    """Whether a restored database holds what the evidence of its dump says."""
    name = label(session.database if not expected.get("database") else expected["database"])
    present = tables(session)
    wanted = expected["tables"]
    found = counts(session.ask(count_sql(table for key, table in present.items() if key in wanted)))
    about = session.one(ABOUT_DATABASE)
    return [
        *compare_rows(name, expected, found, set(present)),
        compare_sequences(name, expected["sequences"], sequences(session)),
        same(f"large objects {name}", expected["large_objects"], about["large_objects"], "large objects"),
        same(f"encoding {name}", expected["encoding"], about["encoding"], "encoding"),
        compare_names(f"extensions {name}", set(expected["extensions"]), set(about["extensions"]), "extension"),
    ]


def compare_rows(name: str, expected: Mapping[str, Any], found: Mapping[str, int], present: set[str]) -> list[Check]:
    wanted: Mapping[str, int] = expected["tables"]
    wrong = [
        f"{table} has {found[table]} rows, {rows} are in the backup" if table in found else f"{table} is missing"
        for table, rows in wanted.items()
        if found.get(table) != rows
    ]
    wrong += [f"{table} is missing" for table in expected["not_counted"] if table not in present]
    wrong += [f"{table} is not in the backup" for table in present - set(wanted) - set(expected["not_counted"])]
    good = f"{len(wanted)} tables with {sum(wanted.values())} rows, as in the dump's own snapshot"
    if expected["not_counted"]:
        good += f"; {len(expected['not_counted'])} large tables are there and were not counted"
    return [Check(f"rows {name}", not wrong, few(wrong) if wrong else good)]


def compare_sequences(name: str, expected: Mapping[str, Any], found: Mapping[str, int | None]) -> Check:
    """A sequence is not part of a snapshot: its value lies between those before and after the dump."""
    wrong = [f"{sequence} is missing" for sequence in expected if sequence not in found]
    for sequence, span in expected.items():
        if sequence in found and span and not span[0] <= (found[sequence] or 0) <= span[1]:
            wrong.append(f"{sequence} is at {found[sequence]}, it was between {span[0]} and {span[1]}")
    return Check(f"sequences {name}", not wrong, few(wrong) if wrong else f"{len(expected)} sequences")


def spans(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> dict[str, list[int] | None]:
    """Between which values a sequence was; None for one that was set back meanwhile, which could be anywhere."""
    found: dict[str, list[int] | None] = {}
    for name in before.keys() & after.keys():
        low, high = before[name] or 0, after[name] or 0
        found[name] = [low, high] if low <= high else None
    return found


def same(name: str, expected: Any, found: Any, what: str) -> Check:
    ok = bool(expected == found)
    return Check(name, ok, f"{what}: {found}" if ok else f"{what}: {found}, but {expected} in the backup")


def compare_names(name: str, expected: set[str], found: set[str], what: str) -> Check:
    wrong = [f"{what} {one} is missing" for one in sorted(expected - found)]
    return Check(name, not wrong, few(wrong) if wrong else f"{what}s: {', '.join(sorted(expected)) or 'none'}")


def few(lines: Sequence[str]) -> str:
    more = len(lines) - EXAMPLES
    return "; ".join(lines[:EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


# --- assertions --------------------------------------------------------------------------------------------------


def place_assertion(assertion: str, databases: Sequence[str]) -> tuple[str, str]:
    """The database that an assertion is about, and its SQL: C(shop: SELECT count(*) > 0 FROM jobs).

    Without a name it is about the only database, C(postgres) not counted.

    @raises BackupError: if that is not clear
    """
    match = ABOUT.fullmatch(assertion.strip())
    if match and any(match[1] in (name, identifier(name)) for name in databases):
        return next(name for name in databases if match[1] in (name, identifier(name))), match[2]
    own = [name for name in databases if name != "postgres"] or list(databases)
    if len(own) == 1:
        return own[0], assertion
    raise BackupError(
        f"The assertion {assertion!r} does not say which of the databases {', '.join(map(label, own))} it is about; "
        f"write it as '{own[0] if own else 'name'}: SELECT …'."
    )


def assert_all(server: Server, assertions: Iterable[str], databases: Sequence[str]) -> list[Check]:
    return [assertion_check(server, assertion, databases) for assertion in assertions]


def assertion_check(server: Server, assertion: str, databases: Sequence[str]) -> Check:
    """One row, one column, true."""
    name = f"assertion {' '.join(assertion.split())[:60]}"
    try:
        database, sql = place_assertion(assertion, databases)
        said = output(server.psql(database), f"SET default_transaction_read_only = on;\n{sql.rstrip().rstrip(';')};\n")
    except BackupError as error:
        return Check(name, False, str(error))
    lines = said.splitlines()
    if lines == ["t"]:
        return Check(name, True, "holds")
    return Check(name, False, f"gives {few(lines) or 'nothing'}; one row with one column that is true was expected")


# --- a throw-away cluster ----------------------------------------------------------------------------------------


class Cluster:
    """A cluster below the scratch folder, on a private socket; it ends with the process that started it."""

    def __init__(self, context: Context, user: str, settings: Mapping[str, Any]) -> None:
        self.folder = context.scratch / "postgres"
        self.data = self.folder / "data"
        self.settings = {**THROW_AWAY, **{key: str(value) for key, value in settings.items()}}
        self.server = Server(str(self.folder), int(self.settings["port"]), user)
        self.process: Process | None = None
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise DrillError(
                f"A drill of PostgreSQL needs its server on this host (package postgresql), with its user {user}."
            ) from None
        self.folder.mkdir(mode=0o700)
        os.chown(self.folder, account.pw_uid, account.pw_gid)

    def make(self, major: int) -> None:
        """An empty cluster of the dump's major, or of the next one above that this host has."""
        words = ("-A", "peer", "-U", self.server.user, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        output(Command((program("initdb", major), "-D", str(self.data), *words), self.server.user))

    @property
    def major(self) -> int:
        return int((self.data / "PG_VERSION").read_text(encoding="ascii"))

    def start(self, ready: str = "SELECT true;", seconds: float = START_SECONDS) -> None:
        """Starts it and waits until a query gives true.

        @raises DrillError: if it does not, with what the server said
        """
        settings = {**self.settings, "unix_socket_directories": str(self.folder)}
        words = itertools.chain.from_iterable(("-c", f"{key}={value}") for key, value in settings.items())
        # Killed with us, whatever kills us; by a signal that its children hear of.
        argv = ("setpriv", "--pdeathsig", "QUIT", "--", program("postgres", self.major), "-D", str(self.data), *words)
        self.process = Process(Command(argv, self.server.user))
        wait_for(lambda: self.answers(ready), seconds)

    def own_files(self) -> None:
        """For data that has no configuration files in it, as on Debian, or those of another server."""
        texts = {"postgresql.conf": "", "pg_hba.conf": "local all all peer\n", "pg_ident.conf": ""}
        for name, text in texts.items():
            path = self.folder / name
            path.write_text(text, encoding="ascii")
            # Whatever our mask is; the folder is the server's alone.
            path.chmod(0o644)
        self.settings["config_file"] = str(self.folder / "postgresql.conf")
        self.settings["hba_file"] = str(self.folder / "pg_hba.conf")
        self.settings["ident_file"] = str(self.folder / "pg_ident.conf")

    def answers(self, question: str) -> bool:
        if self.process and self.process.popen.poll() is not None:
            raise DrillError(f"The throw-away server ended: {self.process.failure()}.")
        with contextlib.suppress(SourceError):
            return output(self.server.psql("template1", "-c", question)).strip() == "t"
        return False

    def stop(self) -> None:
        if self.process:
            self.process.signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.popen.wait(10)
            self.process.end()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_for(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not done():
        if time.monotonic() > deadline:
            raise DrillError(f"The throw-away server was not ready within {seconds:.0f} s.")
        time.sleep(pause)
        pause = min(pause * 1.5, 1)
