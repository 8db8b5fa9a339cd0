"""PostgreSQL on real hosts: what a dump holds, drills that notice, restores that leave a whole database at any moment.

The odd names are on purpose. BULWARK_FULL=1 runs everything on both systems; else Debian 12 gets the way through and
pgBackRest, and Debian 13 the faults.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backups.agent_host import ROOT, STORE, AgentHost

FULL = bool(os.environ.get("BULWARK_FULL"))
SEED = int(os.environ.get("BULWARK_SEED") or time.time() % 100_000)
KILLS = 8 if FULL else 2
ODD = "Odd 'name\\x=1/ü"
PROPERTIES = """
SELECT datname, datdba::regrole, pg_encoding_to_char(encoding), datcollate, datconnlimit, datacl,
 shobj_description(d.oid, 'pg_database'), (SELECT string_agg(setrole::regrole || array_to_string(setconfig, ' '), ';')
 FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname !~ '_(before|restore)_' ORDER BY 1
"""
PGBACKREST = """[global]
repo1-path=/var/lib/pgbackrest
repo1-retention-full=9
start-fast=y
log-level-file=off
[main]
pg1-path=/var/lib/postgresql/{major}/main
"""
DUMPING = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ '^COPY.*bulk'"
DATA = r"""
CREATE ROLE app LOGIN PASSWORD 'correct-horse-battery';
CREATE ROLE "Odd Role; x" NOLOGIN;
GRANT "Odd Role; x" TO app WITH ADMIN OPTION;
ALTER ROLE app SET search_path TO '$user', "Mixed", public;
COMMENT ON ROLE app IS 'the app''s;
-- role';
CREATE DATABASE shop OWNER app TEMPLATE template0 ENCODING UTF8 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';
CREATE DATABASE "Odd 'name\x=1/ü" OWNER "Odd Role; x";
CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE shop SET app.key TO 'it''s \ kept';
ALTER DATABASE shop SET search_path TO "$user", public, "Mixed";
ALTER ROLE app IN DATABASE shop SET statement_timeout TO '1s';
ALTER DATABASE shop CONNECTION LIMIT 55;
COMMENT ON DATABASE shop IS 'the shop';
REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO "Odd Role; x" WITH GRANT OPTION;
\c shop
-- As people leave it: dropped, made again, and no longer the one of template0.
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE SCHEMA "Mixed";
CREATE EXTENSION pg_trgm;
CREATE TABLE public.jobs (id serial PRIMARY KEY, name text, at timestamptz DEFAULT now());
INSERT INTO public.jobs (name) SELECT 'job ' || n FROM generate_series(1, 1000) n;
CREATE INDEX ON public.jobs USING gin (name gin_trgm_ops);
CREATE TABLE "Mixed"."Order" ("Id" bigint GENERATED ALWAYS AS IDENTITY, "user" text);
INSERT INTO "Mixed"."Order" ("user") SELECT 'u' FROM generate_series(1, 77);
CREATE TABLE public.parts (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE public.parts_a PARTITION OF public.parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE public.parts_b PARTITION OF public.parts FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
INSERT INTO public.parts SELECT n, '2026-01-01'::date + n FROM generate_series(0, 300) n;
CREATE MATERIALIZED VIEW public.job_count AS SELECT count(*) FROM public.jobs;
SELECT count(lo_from_bytea(0, decode(md5(n::text), 'hex'))) FROM generate_series(1, 5) n;
CREATE SEQUENCE public.unused;
CREATE UNLOGGED TABLE public.cache (k text);
INSERT INTO public.cache VALUES ('x');
-- Takes the dump a second or two.
CREATE TABLE public.bulk AS SELECT n AS id, repeat(md5(n::text), 20) AS text FROM generate_series(1, 150000) n;
\c latin
SET client_encoding = UTF8;
CREATE TABLE t (x text);
INSERT INTO t VALUES ('größe');
"""


class Server(AgentHost):
    """A host with PostgreSQL and a job of all its databases."""

    def prepare(self) -> None:
        self.up("postgresql", "python3-zstandard")
        # As the role makes them.
        self.sh("install -d -m 711 /var/lib/bulwark-backup /var/lib/bulwark-backup/scratch")
        self.major = self.sh("ls /usr/lib/postgresql").strip()
        self.unit = f"postgresql@{self.major}-main"
        self.write("/root/data.sql", DATA)
        self.sh("pg_isready -q -t 30")
        if "shop" not in self.sql("SELECT datname FROM pg_database"):
            self.sh("cd / && su postgres -c 'psql -qXv ON_ERROR_STOP=1 -f -' < /root/data.sql")
        self.job("pg", "postgres", assertions=["shop: SELECT count(*) >= 1000 FROM public.jobs"])

    def backup(self, *words: str, ok: bool = True) -> str:
        """As its units run it, with files that nobody else may read."""
        call = f"umask 077; cd /usr/local/lib/bulwark-backup && python3 -m bulwark_backup.cli {shlex.join(words)}"
        return self.sh(call, ok)

    def sql(self, sql: str, database: str = "postgres", ok: bool = True) -> str:
        return self.sh(f"cd / && su postgres -c 'psql -qXAtv ON_ERROR_STOP=1 -d {database} -f -'", ok, sql).strip()

    def jobs_count(self) -> int:
        return int(self.sql("SELECT count(*) FROM public.jobs", "shop"))

    def kept(self, what: str = "before") -> list[str]:
        found = self.sql(f"SELECT datname FROM pg_database WHERE datname ~ '_{what}_' ORDER BY 1")
        return found.splitlines()

    def backups(self) -> int:
        return int(self.sh(f"ls {STORE}/{self.name}/pg/*/manifest.json 2>/dev/null | wc -l"))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Runs bulwark-backup beside the test; it can be killed by its number."""
        call = (
            "cd /usr/local/lib/bulwark-backup && echo $$ > /run/agent.pid && exec python3 -m bulwark_backup.cli "
            + " ".join(words)
        )
        command = ["docker", "exec", self.name, "bash", "-c", call]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def background(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(["docker", "exec", self.name, "bash", "-c", command], text=True)

    def wait_for(self, sql: str, then: str = "true") -> None:
        """Until a query gives true, then runs a command; all on the host, so that a short moment is not missed."""
        loop = 'q=$(cat); for n in $(seq 300); do [ "$(psql -XAtc "$q")" = t ] && exit; sleep 0.02; done; exit 1'
        self.sh(f"cd / && su postgres -c {shlex.quote(loop)} && {then}", text_in=sql)

    def tamper(self, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.sh(f"ls -d {STORE}/{self.name}/pg/*/manifest.json | tail -1").strip()
        manifest = json.loads(self.sh(f"cat {path}"))
        change(manifest)
        self.write(path, json.dumps(manifest))


def evidence(manifest: dict[str, Any], database: str) -> dict[str, Any]:
    return next(one["evidence"] for one in manifest["members"] if one["evidence"].get("database") == database)


def serve(image: str) -> Iterator[Server]:
    server = Server(f"bulwark-backups-pg-{image}", image)
    if not os.environ.get("BULWARK_KEEP"):
        server.down()
    server.prepare()
    yield server
    if not os.environ.get("BULWARK_KEEP"):
        server.down()


@pytest.fixture(scope="module")
def debian13() -> Iterator[Server]:
    yield from serve("debian13")


@pytest.fixture(scope="module")
def debian12() -> Iterator[Server]:
    yield from serve("debian12")


@pytest.fixture(params=["debian12", "debian13"] if FULL else ["debian12"])
def both(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["debian13", "debian12"] if FULL else ["debian13"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


# --- the way through ---------------------------------------------------------------------------------------------


def test_everything_is_in_the_backup_and_comes_back_in_the_drill(both: Server) -> None:
    both.backup("run", "pg")
    manifest = both.manifest("pg")
    names = [one["name"] for one in manifest["members"]]
    assert names[:2] == ["globals.sql", "databases.json"]
    assert {"shop.dump", "latin.dump", "Odd~20~27name~5cx~3d1~2f~c3~bc.dump"} < set(names)
    shop = evidence(manifest, "shop")
    assert shop["tables"] == {
        "public.jobs": 1000,
        '"Mixed"."Order"': 77,
        "public.parts_a": 181,
        "public.parts_b": 120,
        "public.cache": 1,
        "public.bulk": 150000,
    }
    assert shop["large_objects"] == 5
    assert set(shop["extensions"]) == {"pg_trgm", "plpgsql"}
    assert shop["sequences"]["public.jobs_id_seq"] == [1000, 1000]
    assert evidence(manifest, "latin")["encoding"] == "LATIN1"
    assert "kept" not in json.dumps(manifest)
    report = json.loads(both.backup("drill", "pg", "--json"))["pg"]
    assert report["ok"], report
    assert {check["name"] for check in report["checks"]} > {"roles", "rows shop", "sequences shop", "extensions shop"}
    assert report["checks"][-1]["text"] == "holds"


def test_a_restore_replaces_the_database_and_leaves_the_way_back(both: Server) -> None:
    before = both.sql(PROPERTIES)
    both.sql("DELETE FROM public.jobs WHERE id > 10", "shop")
    said = both.backup("restore", "pg", "--to", "database=shop", "--yes")
    assert both.jobs_count() == 1000
    assert both.sql(PROPERTIES) == before
    assert both.sql("SELECT count FROM public.job_count", "shop") == "1000"
    [kept] = both.kept()
    assert f"--to undo={kept}" in said
    both.backup("restore", "pg", "--to", f"undo={kept}", "--yes")
    assert both.jobs_count() == 10
    [kept] = both.kept()
    both.backup("restore", "pg", "--to", f"undo={kept}", "--yes")
    assert both.jobs_count() == 1000
    [kept] = both.kept()
    # A kept database is not backed up again.
    assert f"{kept}.dump" not in both.backup("run", "pg", ok=False)
    both.backup("restore", "pg", "--to", f"drop={kept}", "--yes")
    assert both.kept() == []
    assert "not a database that a restore has kept" in both.backup(
        "restore", "pg", "--to", "drop=shop", "--yes", ok=False
    )
    assert both.jobs_count() == 1000


@pytest.fixture
def cluster(both: Server) -> Server:
    """With pgBackRest, its repository and archiving, and a job for it."""
    if "cluster" not in both.jobs:
        both.up("pgbackrest")
        both.write("/etc/pgbackrest.conf", PGBACKREST.format(major=both.major))
        both.sql("ALTER SYSTEM SET archive_mode = on")
        both.sql("ALTER SYSTEM SET archive_command = 'pgbackrest --stanza=main archive-push %p'")
        both.sh(f"systemctl restart {both.unit} && pg_isready -q -t 30")
        both.sh("cd / && su postgres -c 'pgbackrest --stanza=main stanza-create'")
        both.job("cluster", "pgbackrest", stanza="main", keep={"daily": 1, "weekly": 0, "monthly": 0})
    return both


def test_pgbackrest_is_driven_drilled_and_restored(cluster: Server) -> None:
    cluster.backup("run", "cluster")
    assert cluster.manifest("cluster")["engine"]["type"] == "full"
    cluster.backup("run", "cluster")
    engine = cluster.manifest("cluster")["engine"]
    assert (engine["type"], engine["prior"]) == ("incr", engine["label"].split("_")[0])
    report = json.loads(cluster.backup("drill", "cluster", "--json"))["cluster"]
    assert report["ok"], report
    assert [check["name"] for check in report["checks"]] == ["restore", "pg_amcheck"]
    cluster.sql("DELETE FROM public.jobs WHERE id > 3", "shop")
    said = cluster.backup("restore", "cluster", "--to", "time=backup", "--yes")
    assert cluster.jobs_count() == 1000
    undo = re.search(r"undo=(\S+)", said)
    assert undo, said
    cluster.backup("restore", "cluster", "--to", f"undo={undo[1]}", "--yes")
    assert cluster.jobs_count() == 3
    assert "is not a data directory beside" in cluster.backup(
        "restore", "cluster", "--to", "undo=/etc", "--yes", ok=False
    )
    said = cluster.backup("restore", "cluster", "--to", "time=2099-01-01 00:00:00+00", "--yes", ok=False)
    assert "does not run, so" in said
    assert cluster.jobs_count() == 3
    # Without a time it is all that was archived.
    cluster.sql("DELETE FROM public.jobs WHERE id > 2; SELECT pg_switch_wal()", "shop")
    cluster.backup("restore", "cluster", "--yes")
    assert cluster.jobs_count() == 2
    # As it was, for the tests after this one.
    cluster.backup("restore", "pg", "--to", "database=shop", "--yes")
    for kept in cluster.kept():
        cluster.backup("restore", "pg", "--to", f"drop={kept}", "--yes")


def test_pgbackrest_keeps_what_others_build_on(cluster: Server) -> None:
    said = cluster.backup("prune", "cluster", ok=False)
    full = cluster.manifest("cluster")["engine"]["prior"]
    assert f"{full} stay in pgBackRest while others build on them" in said
    assert full in cluster.sh("cd / && su postgres -c 'pgbackrest --stanza=main info'")
    assert json.loads(cluster.backup("drill", "cluster", "--json"))["cluster"]["ok"]


def test_a_damaged_table_fails_the_drill_of_pgbackrest(cluster: Server) -> None:
    path = cluster.sql("CHECKPOINT; SELECT pg_relation_filepath('t')", "latin")
    cluster.sh(f"systemctl stop {cluster.unit}")
    # The pointer to the only row, eight bytes before the data.
    data = f"/var/lib/postgresql/{cluster.major}/main/{path}"
    cluster.sh(f"cp -p {data} /tmp/whole")
    cluster.sh(f"printf '\\xff\\x7f\\xff\\x7f' | dd of={data} bs=1 seek=24 conv=notrunc status=none")
    cluster.sh(f"systemctl start {cluster.unit} && pg_isready -q -t 30")
    cluster.backup("run", "cluster")
    said = cluster.backup("drill", "cluster", ok=False)
    cluster.sh(f"systemctl stop {cluster.unit} && cp -p /tmp/whole {data}")
    cluster.sh(f"systemctl start {cluster.unit} && pg_isready -q -t 30")
    assert "FAILED pg_amcheck" in said, said


# --- the dump ----------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_dump_while_others_write(server: Server) -> None:
    writer = server.background(
        "cd / && su postgres -c 'for n in $(seq 1 400); do psql -qX -d shop -c \"INSERT INTO public.jobs (name) "
        "SELECT md5(random()::text) FROM generate_series(1, 50); DELETE FROM public.cache; "
        "INSERT INTO public.cache SELECT 1 FROM generate_series(1, 100 * random()::int)\" || exit; done'"
    )
    server.wait_for("SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'shop'")
    try:
        server.backup("run", "pg")
        assert writer.poll() is None
    finally:
        writer.terminate()
        server.sh("pkill -u postgres -f 'seq 1 400' || true")
    assert json.loads(server.backup("drill", "pg", "--json"))["pg"]["ok"]


def test_a_table_that_is_dropped_meanwhile_is_in_the_backup(server: Server) -> None:
    server.sql("CREATE TABLE public.short_lived AS SELECT generate_series(1, 7)", "shop")
    run = server.start("run", "pg")
    server.wait_for(DUMPING)
    server.sql("DROP TABLE public.short_lived", "shop")
    assert run.wait(60) == 0, run.stdout
    assert evidence(server.manifest("pg"), "shop")["tables"]["public.short_lived"] == 7
    assert json.loads(server.backup("drill", "pg", "--json"))["pg"]["ok"]


def test_a_change_of_the_schema_is_waited_for(server: Server) -> None:
    """The table's rows must be in the dump: TRUNCATE and rewrites show an empty table to older snapshots."""
    server.sql("CREATE TABLE public.rewritten AS SELECT generate_series(1, 9) AS id", "shop")
    change = server.background(
        "cd / && su postgres -c \"psql -qX -d shop -c 'BEGIN; ALTER TABLE public.rewritten ALTER id TYPE bigint; "
        "DROP TABLE public.cache; SELECT pg_sleep(2); COMMIT'\" > /dev/null"
    )
    server.wait_for(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ 'rewritten.*pg_sleep' AND pid <> pg_backend_pid()"
    )
    server.backup("run", "pg")
    assert change.wait(30) == 0
    found = evidence(server.manifest("pg"), "shop")["tables"]
    assert found["public.rewritten"] == 9
    assert "public.cache" not in found
    assert json.loads(server.backup("drill", "pg", "--json"))["pg"]["ok"]


@pytest.mark.parametrize("how", ["restart", "terminate pg_dump", "terminate the counting session"])
def test_a_dump_that_is_cut_off_is_no_backup(server: Server, how: str) -> None:
    before = server.backups()
    run = server.start("run", "pg")
    if how == "restart":
        then = f"systemctl kill -s QUIT {server.unit}; sleep 0.5; systemctl restart {server.unit}; pg_isready -q -t 30"
        server.wait_for(DUMPING, then)
    else:
        who = "pg_dump" if "pg_dump" in how else "bulwark-backup"
        server.wait_for(
            "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE datname = 'shop' "
            f"AND application_name = '{who}' AND ({DUMPING})"
        )
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 1, said
    assert server.backups() == before
    assert re.search(r"pg_dump failed|database shop", said), said


def test_a_database_that_is_not_there_is_said(server: Server) -> None:
    server.job("typo", "postgres", databases=["shpo"])
    assert "no database 'shpo'" in server.backup("run", "typo", ok=False)


# --- drills that notice ------------------------------------------------------------------------------------------


def test_a_drill_notices_what_is_wrong(server: Server) -> None:
    server.backup("run", "pg")

    def change(manifest: dict[str, Any]) -> None:
        evidence(manifest, "shop")["tables"]["public.jobs"] += 1
        evidence(manifest, "shop")["sequences"]["public.unused"] = [5, 6]
        evidence(manifest, "latin")["large_objects"] = 3
        manifest["assertions"] = ["shop: SELECT count(*) = 7 FROM public.jobs", "shop: SELECT nonsense", "SELECT true"]

    server.tamper(change)
    said = server.backup("drill", "pg", ok=False)
    for part in (
        r"FAILED rows shop: public.jobs has \d+ rows, \d+ are in the backup",
        r"FAILED sequences shop: public.unused is at None, it was between 5 and 6",
        r"FAILED large objects latin: large objects: 0, but 3 in the backup",
        r"FAILED assertion shop: SELECT count\(\*\) = 7 FROM public.jobs: gives f; ",
        r"FAILED assertion shop: SELECT nonsense: .*column .nonsense. does not exist",
        r"FAILED assertion SELECT true: .*does not say which of the databases",
        r"ok     rows latin",
    ):
        assert re.search(part, said), part + said
    server.backup("run", "pg")


def test_an_extension_that_is_not_installed_is_said_with_its_package(server: Server) -> None:
    path = f"/usr/share/postgresql/{server.major}/extension/pg_trgm.control"
    server.sh(f"mv {path} {path}.away")
    try:
        said = server.backup("drill", "pg", ok=False)
        assert "uses the extensions pg_trgm, which this host does not have" in said
        assert f"postgresql-{server.major}-pg_trgm" in said
        assert "uses the extensions pg_trgm" in server.backup(
            "restore", "pg", "--to", "database=shop", "--yes", ok=False
        )
    finally:
        server.sh(f"mv {path}.away {path}")
    assert server.kept("restore") == []


def test_a_wrong_key_is_said(server: Server) -> None:
    key = "/etc/bulwark-backup/age.key"
    server.sh(f"mv {key} {key}.right; age-keygen -o {key} 2> /dev/null")
    try:
        assert "but the backup was encrypted for" in server.backup("drill", "pg", ok=False)
    finally:
        server.sh(f"mv {key}.right {key}")


def test_a_killed_drill_leaves_no_server(server: Server) -> None:
    drill = server.start("drill", "pg")
    server.sh("for n in $(seq 200); do pgrep -u postgres -f 'pg_restore.*shop' && exit; sleep 0.05; done; exit 1")
    server.sh("kill -KILL $(cat /run/agent.pid)")
    drill.wait(30)
    server.sh("for n in $(seq 50); do pgrep -f '[b]ulwark-backup/scratch' || exit 0; sleep 0.1; done; exit 1")
    assert json.loads(server.backup("drill", "pg", "--json"))["pg"]["ok"]
    assert server.sh("find /var/lib/bulwark-backup/scratch -mindepth 1 -name postgres") == ""


# --- restores ----------------------------------------------------------------------------------------------------


def test_missing_roles_are_made_and_others_left_alone(server: Server) -> None:
    password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"
    before = server.sql(password)
    server.sql('ALTER ROLE app RENAME TO renamed; ALTER ROLE "Odd Role; x" CREATEDB;')
    said = server.backup("restore", "pg", "--yes")
    assert "Made the roles that were missing: app." in said
    assert server.sql(password) == before
    assert (
        server.sql(
            "SELECT pg_has_role('app', 'Odd Role; x', 'MEMBER'), rolcreatedb FROM pg_roles WHERE rolname ~ '^Odd'"
        )
        == "t|t"
    )
    assert len(server.kept()) == 3
    for kept in server.kept():
        assert "is removed" in server.sh(
            'cd /usr/local/lib/bulwark-backup && python3 -m bulwark_backup.cli restore pg --yes --to drop="$(cat)"',
            text_in=kept,
        )
    server.sql("REASSIGN OWNED BY renamed TO app; DROP OWNED BY renamed; DROP ROLE renamed")


def test_a_restore_under_another_name_replaces_nothing(server: Server) -> None:
    said = server.backup("restore", "pg", "--to", "database=shop", "--to", "as=Shop 2", "--yes")
    assert "nothing was replaced" in said
    assert server.sql("SELECT count(*) FROM pg_database WHERE datname IN ('shop', 'Shop 2')") == "2"
    assert server.kept() == []
    assert "is a database 'Shop 2' already" in server.backup(
        "restore", "pg", "--to", "database=shop", "--to", "as=Shop 2", "--yes", ok=False
    )
    server.sql('DROP DATABASE "Shop 2"')


def test_a_database_that_was_lost_comes_back(server: Server) -> None:
    server.sql("DROP DATABASE latin")
    said = server.backup("restore", "pg", "--to", "database=latin", "--yes")
    assert "nothing was replaced" in said
    assert server.sql("SET client_encoding = UTF8; SELECT x FROM t", "latin") == "größe"


def test_clients_find_a_whole_database_while_it_is_replaced(server: Server) -> None:
    """A client that connects in the moment of the change may be refused once; it never sees something half."""
    loop = "while [ ! -e /tmp/enough ]; do psql -XAt -d shop -c 'SELECT count(*) FROM public.jobs'; done"
    clients = server.background(f"cd / && su postgres -c {shlex.quote(loop)} > /tmp/seen 2> /tmp/refused")
    sleeper = server.background("cd / && su postgres -c \"psql -X -d shop -c 'SELECT pg_sleep(600)'\" 2> /dev/null")
    server.wait_for(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ 'pg_sleep.600' AND pid <> pg_backend_pid()"
    )
    old = server.jobs_count()
    server.sql("INSERT INTO public.jobs (name) VALUES ('too late')", "shop")
    server.backup("restore", "pg", "--to", "database=shop", "--yes")
    server.sh("touch /tmp/enough")
    clients.wait(20)
    sleeper.wait(20)
    server.sh("rm /tmp/enough")
    seen = server.sh("cat /tmp/seen").split()
    assert set(seen) <= {str(old), str(old + 1), str(server.jobs_count())}
    assert server.jobs_count() == evidence(server.manifest("pg"), "shop")["tables"]["public.jobs"]
    refused = server.sh("grep -c FATAL /tmp/refused || true").strip()
    assert int(refused) <= 3, server.sh("cat /tmp/refused")
    [kept] = server.kept()
    server.backup("restore", "pg", "--to", f"drop={kept}", "--yes")


def test_a_restore_may_be_killed_at_any_moment(server: Server) -> None:
    dice = random.Random(SEED)
    print(f"BULWARK_SEED={SEED}")
    whole = evidence(server.manifest("pg"), "shop")["tables"]["public.jobs"]
    server.sql("INSERT INTO public.jobs (name) VALUES ('since')", "shop")
    known = {whole, server.jobs_count()}
    began = time.monotonic()
    server.backup("restore", "pg", "--to", "database=shop", "--yes")
    seconds = time.monotonic() - began
    for _number in range(KILLS):
        restore = server.start("restore", "pg", "--to", "database=shop", "--yes")
        time.sleep(dice.uniform(0.3, seconds))
        server.sh("kill -KILL $(cat /run/agent.pid) || true")
        restore.wait(30)
        assert server.jobs_count() in known
    server.wait_for("SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'")
    server.backup("restore", "pg", "--to", "database=shop", "--yes")
    assert server.jobs_count() == whole
    assert server.kept("restore") == []
    for kept in server.kept():
        server.backup("restore", "pg", "--to", f"drop={kept}", "--yes")


def test_a_backup_of_a_newer_major_is_refused(server: Server) -> None:
    server.backup("run", "pg")
    server.tamper(lambda manifest: evidence(manifest, "shop").update(major=99))
    said = server.backup("restore", "pg", "--to", "database=shop", "--yes", ok=False)
    assert "The backup is of PostgreSQL 99 and this server is" in said
    assert "initdb of PostgreSQL 99 or later is needed" in server.backup("drill", "pg", ok=False)


# --- the runbook -------------------------------------------------------------------------------------------------


def test_the_runbook_stops_the_workers_and_finds_its_way_back(server: Server, tmp_path: Path) -> None:
    """Last, because the role takes the host over."""
    server.write("/etc/systemd/system/celery-worker@.service", "[Service]\nExecStart=/bin/sleep 1d\n")
    server.sh("systemctl daemon-reload; systemctl start celery-worker@upload")
    started = "systemctl show -P ActiveEnterTimestampMonotonic celery-worker@upload"
    variables = {
        "backups_store": {"kind": "local", "path": STORE},
        "backups_recipients": [server.public_key],
        "backups_identity": server.sh("grep AGE-SECRET /etc/bulwark-backup/age.key").strip(),
        "backups_published_jobs": [{"name": "pg", "kind": "postgres"}],
    }
    playbook = functools.partial(server.playbook, state=tmp_path, host=variables)
    play = [{"hosts": "all", "become": True, "gather_facts": False, "roles": ["bulwark.stack.backups"]}]
    (tmp_path / "play.json").write_text(json.dumps(play), encoding="utf-8")

    playbook(tmp_path / "play.json")
    server.sh("systemctl start bulwark-backup@pg")
    whole = server.jobs_count()
    server.sql("DELETE FROM public.jobs WHERE id > 3", "shop")
    before = server.sh(started)
    runbook = ROOT / "playbooks/restore_postgres.yml"
    target = {"database": "shop"}
    assert "backups_restore_confirmed=yes" in playbook(runbook, ok=False, backups_restore_target=target)
    assert (server.jobs_count(), server.sh(started), server.kept()) == (3, before, [])
    said = playbook(runbook, backups_restore_target=target, backups_restore_confirmed="yes")
    [kept] = server.kept()
    assert kept in said
    assert server.jobs_count() == whole
    assert int(server.sh(started)) > int(before)
    assert server.sh("systemctl is-active celery-worker@upload").strip() == "active"
    if not FULL:
        return
    playbook(
        runbook,
        backups_restore_target={"undo": kept},
        backups_restore_confirmed="yes",
        restore_safety_backup=False,
        restore_stop_units=[],
    )
    assert server.jobs_count() == 3
