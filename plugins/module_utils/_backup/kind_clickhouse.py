# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ClickHouse databases: the statements that make them, and the rows of each table in the server's own format.

One way for all versions since 18.16. BACKUP of newer servers wants a disk for a second copy of everything, or writes
to the store by itself, unencrypted, and may leave the store's keys there. Each table is of one moment, two tables
are not of the same one. Users and settings are files in /etc: kind system has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

from .commands import Process, output
from .errors import BackupError, DrillError, SettingsError, SourceError
from .kinds import Backup, Check, Command, Context, Stream, options
from .manifest import Manifest
from .names import STAMP

OPTIONS: Mapping[str, Any] = {
    # All but the server's own, if none are given.
    "databases": [],
    "address": "127.0.0.1",
    "port": 9000,
    "tls": False,
    "user": "default",
    "password": "",
    # Runs the server of a drill.
    "account": "clickhouse",
}
REQUIRED: tuple[str, ...] = ()
RESTORE: Mapping[str, str] = {
    "database": "only this one of the backup's databases",
    "as": "the name of a new database for it, in place of the old one",
}
SCHEMA = "schema.jsonl"
OWN = ("system", "INFORMATION_SCHEMA", "information_schema", "_temporary_and_external_tables")
ROWS = re.compile(r"\w*MergeTree|(Tiny|Stripe)?Log|Memory")
NAME = r"(?:`(?:[^`\\]|\\.)*`|\w+)"
HEAD = re.compile(rf"CREATE TABLE (?:IF NOT EXISTS )?{NAME}\.{NAME}(?: UUID '[^']*')?")
REPLICATED = re.compile(r"(ENGINE = )Replicated(\w*MergeTree)(\()?(?:'[^']*'\s*,\s*'[^']*'(?:\s*,\s*)?)?")
# The table of a materialized view in newer servers. It is named after the view's number, which a new view has not.
INNER = ".inner_id."
START_SECONDS = 60
POLL_SECONDS = 0.1


class Table(NamedTuple):
    """A table or a view, as system.tables has it; C(sql) makes it."""

    database: str
    name: str
    engine: str
    sql: str

    @property
    def has_rows(self) -> bool:
        return bool(ROWS.fullmatch(self.engine))

    @property
    def replicated(self) -> bool:
        return self.engine.startswith("Replicated")

    @property
    def member(self) -> str:
        return f"{quote(self.database, safe='')}.{quote(self.name, safe='')}.native"

    @property
    def full_name(self) -> str:
        return f"{quoted(self.database)}.{quoted(self.name)}"

    def made_in(self, database: str) -> str:
        """The statement that makes it in another database, and not as a replica of the table that it was."""
        alone = REPLICATED.sub(r"\1\2\3", self.sql)
        return HEAD.sub(lambda _match: f"CREATE TABLE {quoted(database)}.{quoted(self.name)}", alone, count=1)


Ask = Callable[..., Command]


def quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def client(folder: Path, wanted: Mapping[str, Any]) -> Ask:
    """A function that makes commands of clickhouse-client. User and password are in a file that only root can read."""
    file = folder / f"client-{secrets.token_hex(4)}.xml"
    words = f"<user>{escape(wanted['user'])}</user><password>{escape(wanted['password'])}</password>"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(f"<config>{words}</config>\n")
    place = ("--host", wanted["address"], "--port", str(wanted["port"]), *(["--secure"] if wanted["tls"] else []))

    def ask(query: str = "") -> Command:
        # Without a query, it is read from stdin.
        return Command(("clickhouse-client", f"--config-file={file}", *place, *(["--query", query] if query else [])))

    return ask


def rows_of(ask: Ask, query: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(ask(f"{query} FORMAT JSONEachRow")).splitlines()]


def do(ask: Ask, statement: str) -> None:
    """Statements go by stdin: some name the keys of other stores, and command lines can be read by everybody."""
    output(ask(), statement)


def schema(databases: list[str]) -> str:
    which = f"IN ({', '.join(map(text, databases))})" if databases else f"NOT IN ({', '.join(map(text, OWN))})"
    what = "SELECT database, name, engine, create_table_query FROM system.tables"
    return f"{what} WHERE database {which} ORDER BY database, name"


def tables_of(lines: str) -> list[Table]:
    found = [json.loads(line) for line in lines.splitlines()]
    return [Table(one["database"], one["name"], one["engine"], one["create_table_query"]) for one in found]


def streams(context: Context) -> Iterator[Stream]:
    wanted = options(context.job)
    ask = client(context.scratch, wanted)
    query = f"{schema(wanted['databases'])} FORMAT JSONEachRow"
    tables = tables_of(output(ask(query)))
    missing = set(wanted["databases"]) - {table.database for table in tables}
    if missing:
        raise SourceError(f"Job {context.job.name}: there is no database {', '.join(sorted(missing))}, or it is empty.")
    version = output(ask("SELECT version()")).strip()
    evidence = {"version": version, "tables": len(tables), "databases": sorted({table.database for table in tables})}
    yield Stream(SCHEMA, ask(query), evidence=evidence)
    sizes = {
        (one["database"], one["table"]): int(one["bytes"])
        for one in rows_of(
            ask,
            "SELECT database, table, sum(data_uncompressed_bytes) AS bytes FROM system.parts WHERE active "
            "GROUP BY database, table",
        )
    }
    for table in tables:
        if not table.has_rows:
            continue
        before = count(ask, table.full_name)
        expected = sizes.get((table.database, table.name), 0)
        stream = Stream(table.member, ask(f"SELECT * FROM {table.full_name} FORMAT Native"), expected)  # noqa: S608
        yield stream
        # What is inserted while the rows are read may or may not be among them.
        stream.evidence["rows"] = [before, count(ask, table.full_name)]


def count(ask: Ask, full_name: str) -> int:
    return int(output(ask(f"SELECT count() FROM {full_name}")))  # noqa: S608


def read_schema(context: Context, backup: Backup) -> list[Table]:
    path = context.scratch / SCHEMA
    backup.feed(SCHEMA, Command(("dd", f"of={path}", "status=none")))
    return tables_of(path.read_text(encoding="utf-8"))


def check_rows(table: Table, rows: list[int], found: int) -> Check:
    """Where rows came, went or were merged while they were read, their number is only about right."""
    low, high = min(rows), max(rows)
    slack = 0 if low == high else high // 100 + high - low
    amount = str(low) if low == high else f"{low} to {high}"
    name = f"{table.database}.{table.name}"
    return Check(name, low - slack <= found <= high + slack, f"{found} rows, {amount} when it was backed up")


def needed_bytes(manifest: Manifest) -> int:
    return manifest.plain_bytes


def drill(context: Context, backup: Backup) -> list[Check]:
    tables = read_schema(context, backup)
    expected = backup.manifest.member(SCHEMA).evidence["tables"]
    checks = [Check("schema", len(tables) == expected, f"{len(tables)} tables and views, {expected} expected")]
    with private_server(context, options(context.job)["account"]) as ask:
        checks += [load(backup, ask, table, table.database) for table in tables if table.has_rows]
    return checks


def load(backup: Backup, ask: Ask, table: Table, database: str) -> Check:
    """Makes a table in a database and fills it."""
    do(ask, f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    do(ask, table.made_in(database))
    place = f"{quoted(database)}.{quoted(table.name)}"
    member = backup.manifest.member(table.member)
    if member.plain_bytes:
        backup.feed(table.member, ask(f"INSERT INTO {place} FORMAT Native"))
    return check_rows(table, member.evidence["rows"], count(ask, place))


CONFIG = """\
<{root}>
 <logger><level>warning</level><console>1</console></logger>
 <tcp_port>{port}</tcp_port>
 <listen_host>127.0.0.1</listen_host>
 <path>{folder}/data/</path>
 <tmp_path>{folder}/tmp/</tmp_path>
 <user_files_path>{folder}/files/</user_files_path>
 <format_schema_path>{folder}/schemas/</format_schema_path>
 <users_config>{folder}/users.xml</users_config>
 <default_profile>default</default_profile>
 <default_database>default</default_database>
 <mark_cache_size>67108864</mark_cache_size>
</{root}>
"""
USERS = """\
<{root}>
 <profiles><default/></profiles>
 <quotas><default/></quotas>
 <users><default>
  <password_sha256_hex>{password}</password_sha256_hex>
  <networks><ip>127.0.0.1</ip></networks>
  <profile>default</profile>
  <quota>default</quota>
 </default></users>
</{root}>
"""


@contextmanager
def private_server(context: Context, account: str) -> Iterator[Ask]:
    """An empty server of our own. It has no unix socket, so it has a port of the loopback and a password.

    @raises DrillError: if it does not start
    """
    folder = context.scratch / "clickhouse"
    folder.mkdir(mode=0o700)
    password, port = secrets.token_hex(16), free_port()
    # The name that the oldest and the newest know is that of the oldest.
    values = {
        "root": "yandex",
        "folder": folder,
        "port": port,
        "password": hashlib.sha256(password.encode()).hexdigest(),
    }
    for name, content in (("config.xml", CONFIG), ("users.xml", USERS)):
        (folder / name).write_text(content.format(**values), encoding="utf-8")
    try:
        entry = pwd.getpwnam(account)
    except KeyError as error:
        raise SettingsError(f"This host has no account {account}: install clickhouse-server.") from error
    for path in (folder, *folder.iterdir()):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    ask = client(context.scratch, {**OPTIONS, "port": port, "password": password})
    server = Process(Command(("clickhouse-server", f"--config-file={folder}/config.xml"), account, cwd=str(folder)))
    try:
        wait_for(server, ask)
        yield ask
    finally:
        server.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(server: Process, ask: Ask) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.popen.poll() is not None:
            raise DrillError(f"A private ClickHouse did not start: {server.failure()}.")
        with suppress(SourceError):
            output(ask("SELECT 1"))
            return
        time.sleep(POLL_SECONDS)
    raise DrillError(f"A private ClickHouse did not answer within {START_SECONDS} s.")


def restore(context: Context, backup: Backup, target: Mapping[str, str]) -> list[str]:
    """Loads each database beside, then exchanges its tables by one statement; views stay as they are."""
    ask = client(context.scratch, options(context.job))
    tables = read_schema(context, backup)
    databases = sorted({table.database for table in tables})
    only, new = target.get("database", ""), target.get("as", "")
    if only and only not in databases:
        raise SettingsError(f"Backup {backup.manifest.backup} holds {', '.join(databases)}, but not {only!r}.")
    chosen = [only] if only else databases
    if new and len(chosen) != 1:
        raise SettingsError(f"Say which of the databases is to be {new}, by database=: {', '.join(databases)}.")
    there = {one["name"] for one in rows_of(ask, "SELECT name FROM system.databases")}
    if new in there:
        raise SettingsError(f"There is a database {new}; name one that does not exist.")
    replicas = [table.full_name for table in tables if table.replicated and table.database in chosen]
    if replicas and not new:
        raise SettingsError(
            f"{replicas[0]} is replicated, which cannot be exchanged; restore it to another name by as=."
        )
    stamp = datetime.now(timezone.utc).strftime(STAMP)
    said: list[str] = []
    for database in chosen:
        own = [table for table in tables if table.database == database]
        beside = new or f"{database}_restored_{stamp}"
        load_beside(backup, ask, [table for table in own if table.has_rows], beside)
        if new:
            said.append(f"The tables of {database} are in {new}; views are not.")
        else:
            said += exchange(ask, database, own, beside, f"{database}_before_{stamp}")
    return said


def load_beside(backup: Backup, ask: Ask, tables: list[Table], beside: str) -> None:
    try:
        do(ask, f"CREATE DATABASE {quoted(beside)}")
        wrong = [check for table in tables if not (check := load(backup, ask, table, beside)).ok]
        if wrong:
            raise DrillError(f"{wrong[0].name} has {wrong[0].text}. Nothing was replaced.")
    except BackupError:
        do(ask, f"DROP DATABASE IF EXISTS {quoted(beside)}")
        raise


def exchange(ask: Ask, database: str, tables: list[Table], beside: str, before: str) -> list[str]:
    do(ask, f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    known = rows_of(ask, "SELECT database, name FROM system.tables")
    there = {one["name"] for one in known if one["database"] == database}
    rows = [table.name for table in tables if table.has_rows and not table.name.startswith(INNER)]
    inner = [table.name for table in tables if table.name.startswith(INNER)]
    old = [name for name in rows if name in there]
    if old:
        do(ask, f"CREATE DATABASE {quoted(before)}")
    moves = [move(name, database, before) for name in old] + [move(name, beside, database) for name in rows]
    if moves:
        do(ask, f"RENAME TABLE {', '.join(moves)}")
    said = [f"{database}: {len(rows)} tables are restored."]
    if inner:
        said.append(
            f"Rows of materialized views are in {beside}; bring them in by INSERT INTO … SELECT: {', '.join(inner)}."
        )
    else:
        do(ask, f"DROP DATABASE {quoted(beside)}")
    if old:
        undo = [move(name, database, beside) for name in rows] + [move(name, before, database) for name in old]
        words = f"CREATE DATABASE IF NOT EXISTS {quoted(beside)}; RENAME TABLE {', '.join(undo)};"
        said.append(f"What was there is in {before}. Way back: {words}")
    for table in tables:
        if not table.has_rows and table.name not in there:
            said.append(make_view(ask, table, rows))
    return said


def move(name: str, old: str, new: str) -> str:
    return f"{quoted(old)}.{quoted(name)} TO {quoted(new)}.{quoted(name)}"


def make_view(ask: Ask, table: Table, rows: list[str]) -> str:
    """Whatever else there was: views, dictionaries, connections to other servers. One that fails keeps no data back."""
    own_rows = f".inner.{table.name}" in rows
    try:
        # The rows of a materialized view are there already.
        do(ask, table.sql.replace("CREATE", "ATTACH", 1) if own_rows else table.sql)
    except SourceError as error:
        return f"{table.full_name} could not be made; its statement is in {SCHEMA}: {error}"
    return f"{table.full_name} ({table.engine}) was made."


def tools() -> Mapping[str, Command]:
    return {}
