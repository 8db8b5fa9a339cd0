"""PostgreSQL behaves: settings in effect, who gets in, objects, restarts only when needed."""

from __future__ import annotations

import pytest

PASSWORDS = {"app": "correct-horse-battery", "report": "grüne Wiese, it's"}
DESIGN = {
    "shared_buffers": "1GB",
    "effective_cache_size": "3GB",
    "work_mem": "16MB",
    "max_connections": "100",
    "maintenance_work_mem": "256MB",
    "wal_buffers": "16MB",
    "max_wal_size": "2GB",
    "min_wal_size": "1GB",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "200",
    "checkpoint_completion_target": "0.9",
    "log_min_duration_statement": "1s",
    "password_encryption": "scram-sha-256",
    "shared_preload_libraries": "pg_stat_statements",
    "huge_pages": "off",
    "listen_addresses": "localhost",
    "data_checksums": "on",
    "server_encoding": "UTF8",
}
STARTED = "select pg_postmaster_start_time()"


@pytest.fixture
def version(host):
    return {"12": "15", "13": "17"}[host.system_info.release.split(".")[0]]


@pytest.fixture
def admin(run):
    """Runs SQL as the superuser."""
    return lambda sql, database="postgres": run(f'psql -XAtq -U postgres -d {database} -c "{sql}"').strip()


@pytest.fixture
def login(run):
    """Runs SQL over TCP with a password, as an application does."""

    def _login(sql, user="app", database="app", password=None, address="127.0.0.1", ok=True):
        secret = PASSWORDS[user] if password is None else password
        command = f'PGPASSWORD="{secret}" psql -XAtq -v ON_ERROR_STOP=1 -h {address} -U {user} -d {database} -c "{sql}"'
        return run(command, ok=ok).strip()

    return _login


def test_settings_are_in_effect(admin):
    shown = admin("; ".join(f"show {name}" for name in DESIGN)).splitlines()
    assert dict(zip(DESIGN, shown, strict=True)) == DESIGN


def test_server_starts_at_boot(running, run, version):
    running("postgresql.service")
    running(f"postgresql@{version}-main.service", enabled=False)
    assert f"postgresql@{version}-main.service" in run("systemctl list-dependencies --plain postgresql.service")


def test_listens_on_loopback_only(run):
    listening = {line.split()[3].rsplit(":", 1)[0] for line in run("ss -Hltn sport = :5432").splitlines()}
    assert listening
    assert listening <= {"127.0.0.1", "[::1]"}


def test_owner_makes_tables_over_tcp(login):
    assert login("drop table if exists t; create table t (n int); insert into t values (7); select n from t") == "7"


@pytest.mark.parametrize("password", ["wrong-horse-battery", "correct-horse-battery ", ""])
def test_wrong_password_is_refused(login, password):
    answer = login("select 1", password=password, ok=False)
    assert "authentication failed" in answer or "no password supplied" in answer


def test_password_beyond_ascii(login):
    assert login("select 1", user="report", database="my-archive") == "1"


def test_passwords_are_stored_as_scram(admin):
    stored = admin("select distinct split_part(rolpassword, chr(36), 1) from pg_authid where rolpassword is not null")
    assert stored == "SCRAM-SHA-256"


def test_socket_asks_for_a_password_and_other_users_are_not_postgres(run):
    assert "no password supplied" in run("psql -w -XAtq -U app -d app -c 'select 1'", ok=False)
    assert "Peer authentication failed" in run("runuser -u nobody -- psql -w -XAtq -U postgres -c 'select 1'", ok=False)


def test_members_read_and_do_not_write(login):
    login("drop table if exists shared; create table shared (n int); insert into shared values (1)")
    assert login("select n from shared", user="report") == "1"
    assert "permission denied" in login("insert into shared values (2)", user="report", ok=False)


def test_extensions(admin):
    assert int(admin("select count(*) from pg_stat_statements")) > 0
    assert admin("select extname from pg_extension where extname = 'pg_trgm'", "app") == "pg_trgm"


def test_memory_limits_and_oom_protection(run, version, host):
    unit = f"postgresql@{version}-main.service"
    names = "MemoryHigh,MemoryMax,OOMScoreAdjust,OOMPolicy,CPUWeight"
    shown = dict(line.split("=") for line in run(f"systemctl show -p {names} {unit}").splitlines())
    assert int(shown["MemoryHigh"]) == 4096 << 20
    assert int(shown["MemoryMax"]) == (4096 * 3 // 2 + 256) << 20
    assert (shown["OOMScoreAdjust"], shown["OOMPolicy"]) == ("-900", "continue")
    assert int(shown["CPUWeight"]) >= 1
    # A backend gives the protection back: the environment tells it so.
    main = run(f"systemctl show -p MainPID --value {unit}").strip()
    assert "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj" in run(f"tr '\\0' '\\n' </proc/{main}/environ")


def test_second_run_takes_foreign_changes_back_and_restarts_nothing(admin, login, converge):
    kept = "select rolpassword from pg_authid where rolname = 'report'"
    before = admin(STARTED), admin(kept)
    admin("alter role app password 'something-else-here' createdb")
    admin("alter database app owner to postgres")
    assert "changed=2" in converge()
    assert login("select 1") == "1"
    assert admin("select rolcreatedb from pg_roles where rolname = 'app'") == "f"
    assert admin("select pg_get_userbyid(datdba) from pg_database where datname = 'app'") == "app"
    assert (admin(STARTED), admin(kept)) == before


def test_reload_is_enough_for_most_and_no_secret_is_shown(admin, login, run, converge, version):
    started = admin(STARTED)
    roles = [{"name": "app", "password": "a-new-and-better-one"}, {"name": "report"}, {"name": "readers"}]
    settings = {"work_mem": "17MB", "max_worker_processes": 8}
    output = converge(
        "-vvv", "--diff", postgres_tuned_settings=settings, postgres_tuned_roles=roles, postgres_tuned_cpus=3
    )
    # The command line in the output of -vvv is that of this test; the play itself starts after it.
    output = output[output.index("PLAY [") :]
    assert admin("show work_mem") == "17MB"
    assert run(f"systemctl show -p CPUWeight --value postgresql@{version}-main").strip() == "300"
    assert admin(STARTED) == started
    assert login("select 1", password="a-new-and-better-one") == "1"
    for secret in [*PASSWORDS.values(), "a-new-and-better-one", "SCRAM-SHA-256$"]:
        assert secret not in output


def test_restart_waits_until_it_is_allowed(admin, converge):
    started, settings = admin(STARTED), {"max_locks_per_transaction": 65}
    output = converge(postgres_tuned_settings=settings, postgres_tuned_restart_allowed=False)
    assert "wait for a restart of PostgreSQL: max_locks_per_transaction" in " ".join(output.split())
    assert admin(STARTED) == started
    # As after a run that was killed before its restart: no file changes any more, and it is still done.
    converge(postgres_tuned_settings=settings)
    assert admin("show max_locks_per_transaction") == "65"
    assert admin(STARTED) != started


def test_refused_setting_leaves_the_old_ones(admin, run, converge):
    output = converge(postgres_tuned_settings={"work_men": "1MB"}, ok=False)
    assert "work_men" in output
    assert "work_men" not in run("cat /etc/postgresql/*/main/conf.d/bulwark.conf")
    assert admin("select 1") == "1"


def test_other_major_with_data_is_refused(converge, run, version):
    output = converge(postgres_tuned_version="16", postgres_tuned_source="pgdg", ok=False)
    assert f"This host has data of PostgreSQL {version}" in " ".join(output.split())
    assert "changed=0" in output
    assert run("ls /var/lib/postgresql").split() == [version]


def test_killed_server_comes_back(run, admin, version):
    pid = run(f"head -1 /var/lib/postgresql/{version}/main/postmaster.pid").strip()
    run(f"kill -KILL {pid}; for i in $(seq 60); do sleep 0.5; pg_isready -q && break; done")
    assert run(f"head -1 /var/lib/postgresql/{version}/main/postmaster.pid").strip() != pid
    assert admin("select n from t", "app") == "7"
