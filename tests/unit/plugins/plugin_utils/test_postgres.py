"""PostgreSQL: the design's numbers, laws over all sizes, SCRAM by its RFC, sentences for bad input, what is lacking."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.plugin_utils import postgres

PASSWORD = "correct-horse-battery"
DESIGN = {
    "shared_buffers": "1GB",
    "effective_cache_size": "3GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "wal_buffers": "16MB",
    "max_wal_size": "2GB",
    "min_wal_size": "1GB",
    "random_page_cost": 1.1,
    "effective_io_concurrency": 200,
    "checkpoint_completion_target": 0.9,
    "log_min_duration_statement": 1000,
    "max_connections": 100,
    "huge_pages": "off",
}
GIVEN = {
    "version": "",
    "distribution_version": "17",
    "source": "distro",
    "memory_mb": 4096,
    "cpus": 1.0,
    "max_connections": 100,
    "settings": {},
    "listen_addresses": [],
    "allow_from": [],
    "hba": postgres.postgres_hba([]),
    "hba_open_to_world": False,
    "roles": [{"name": "app", "password": PASSWORD}],
    "databases": [{"name": "app", "owner": "app"}],
    "extensions": [{"name": "pg_stat_statements"}],
    "grants": [],
}
HOST: dict[str, Any] = {"distribution": "debian", "version": "13", "postgres_clusters": [], "packages": {}}
sizes = st.integers(80, 1 << 20)
MEMORY = ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "wal_buffers")


def plan(**more: Any) -> dict[str, Any]:
    return postgres.postgres_plan({**GIVEN, **more})


def problems(host: dict[str, Any] | None = None, **more: Any) -> list[str]:
    return postgres.postgres_problems(plan(**more), {**HOST, **(host or {})})


def kilobytes(value: str) -> int:
    factors = {"kB": 1, "MB": 1 << 10, "GB": 1 << 20}
    return int(value[:-2]) * factors[value[-2:]]


# settings


def test_the_design():
    settings = postgres.postgres_settings(4096, 1, 100)
    assert {name: settings[name] for name in DESIGN} == DESIGN


@given(sizes, st.integers(1, 128))
def test_settings_fit(memory_mb, cpus):
    connections = postgres.postgres_connections(memory_mb)
    settings = postgres.postgres_settings(memory_mb, cpus, connections)
    total, used = memory_mb * 1024, {name: kilobytes(settings[name]) for name in MEMORY}
    assert used["shared_buffers"] + used["work_mem"] * connections <= total * 0.66
    assert used["shared_buffers"] + used["maintenance_work_mem"] <= total / 2
    # What the server itself refuses, see the ranges in pg_settings.
    assert used["shared_buffers"] >= 128
    assert used["work_mem"] >= 64
    assert used["maintenance_work_mem"] >= 1024
    assert 32768 <= kilobytes(settings["min_wal_size"]) <= kilobytes(settings["max_wal_size"])
    assert settings["max_parallel_workers_per_gather"] <= settings["max_parallel_workers"]
    assert settings["max_parallel_workers"] <= settings["max_worker_processes"]


@given(sizes, sizes)
def test_more_memory_never_gives_less(one, other):
    less, more = (postgres.postgres_settings(mb, 4, 100) for mb in sorted((one, other)))
    for name in (*MEMORY, "max_wal_size", "min_wal_size"):
        assert kilobytes(less[name]) <= kilobytes(more[name])


@pytest.mark.parametrize(("memory_mb", "connections"), [(80, 20), (448, 56), (800, 100), (1 << 20, 100)])
def test_connections(memory_mb, connections):
    assert postgres.postgres_connections(memory_mb) == connections


@pytest.mark.parametrize(("memory_mb", "pages"), [(4096, 0), (32767, 0), (32768, 4292)])
def test_huge_pages_by_size(memory_mb, pages):
    done = plan(memory_mb=memory_mb)
    assert done["huge_pages"] == pages
    assert done["final_settings"]["huge_pages"] == ("try" if pages else "off")


def test_huge_pages_follow_the_users_own_buffers():
    assert plan(settings={"shared_buffers": "16GB", "huge_pages": "try"})["huge_pages"] > 8192
    assert plan(memory_mb=65536, settings={"shared_buffers": "1GB"})["huge_pages"] == 0
    assert plan(memory_mb=65536, settings={"huge_pages": "off"})["huge_pages"] == 0


@pytest.mark.parametrize(("text", "mb"), [("8GB", 8192), ("512MB", 512), ("1048576kB", 1024), (131072, 1024), ("x", 0)])
def test_setting_mb(text, mb):
    assert postgres.setting_mb(text) == mb


@pytest.mark.parametrize(("value", "text"), [(True, "on"), (False, "off"), (1.1, "'1.1'"), ("it's", "'it''s'")])
def test_setting_text(value, text):
    assert postgres.setting_text(value) == text


def test_own_settings_win():
    settings = plan(settings={"work_mem": "64MB"}, listen_addresses=["10.0.0.5"])["final_settings"]
    assert (settings["work_mem"], settings["listen_addresses"]) == ("64MB", "localhost, 10.0.0.5")


# passwords


def test_scram_by_the_example_of_rfc_7677():
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    verifier = postgres.scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    stored, server = (base64.b64decode(part) for part in verifier.split("$")[2].split(":"))
    signature = hmac.digest(server, message, "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client = bytes(a ^ b for a, b in zip(proof, hmac.digest(stored, message, "sha256")))
    assert hashlib.sha256(client).digest() == stored


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40))
def test_a_verifier_fits_its_password_and_no_other(password):
    verifier = postgres.scram_verifier(password, b"0123456789abcdef", 16)
    assert postgres.scram_matches(password, verifier)
    assert not postgres.scram_matches(password + "x", verifier)


@pytest.mark.parametrize("verifier", [None, "", "md5" + 32 * "0", "SCRAM-SHA-256$broken"])
def test_other_verifiers_do_not_fit(verifier):
    assert not postgres.scram_matches(PASSWORD, verifier)


def test_each_verifier_has_its_own_salt():
    one, other = postgres.postgres_scram(PASSWORD), postgres.postgres_scram(PASSWORD)
    assert one != other
    assert postgres.scram_matches(PASSWORD, one)
    assert postgres.scram_matches(PASSWORD, other)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # The examples of RFC 4013, chapter 3; what it forbids PostgreSQL takes as it is.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007\u00aa", "\u0007\u00aa"),
        ("\u06271", "\u06271"),
        ("a\u00a0b", "a b"),
        ("\u00ad", "\u00ad"),
    ],
)
def test_saslprep(text, prepared):
    assert postgres.saslprep(text) == prepared


# bad input


def test_the_defaults_are_fine():
    assert problems() == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"version": "seventeen"}, "not a major version"),
        ({"version": "16"}, "debian 13 has PostgreSQL 17, not 16; set postgres_tuned_source: pgdg"),
        ({"settings": {"port": 5433}}, "PostgreSQL stays on 5432"),
        ({"settings": {"listen_addresses": "*"}}, "use postgres_tuned_listen_addresses"),
        ({"settings": {"a = 1\nb": 1}}, "is not the name of a setting"),
        ({"listen_addresses": ["0.0.0.0"]}, "name the private addresses"),
        ({"allow_from": ["10.0.0.0/24"]}, "listens on loopback only"),
        ({"memory_mb": 20, "max_connections": 20}, "too few"),
        ({"max_connections": 5}, "too few"),
        ({"hba": [{"address": "0.0.0.0/0"}]}, "postgres_tuned_hba_open_to_world"),
        ({"hba": [{"address": "::/0"}]}, "postgres_tuned_hba_open_to_world"),
        ({"hba": [{"address": "all"}]}, "postgres_tuned_hba_open_to_world"),
        ({"hba": [{"address": "128.0.0.0/1"}]}, "postgres_tuned_hba_open_to_world"),
        ({"hba": postgres.postgres_hba(["any"])}, "postgres_tuned_hba_open_to_world"),
        ({"hba": [{"address": "10.0.0.5"}]}, "needs an address like 10.0.0.0/24"),
        ({"hba": [{"address": "10.0.0.5/24"}]}, "needs an address like 10.0.0.0/24"),
        ({"hba": [{}]}, "needs an address"),
        ({"hba": [{"type": "hostsssl", "address": "10.0.0.0/24"}]}, "has no type of"),
        ({"hba": [{"type": "local", "address": "10.0.0.0/24"}]}, "cannot have an address"),
        ({"hba": [{"type": "local", "method": "trust"}]}, "It asks for no secret"),
        ({"hba": [{"type": "local", "users": ["a\nb"]}]}, "line break"),
        ({"roles": [{"name": "app", "password": ""}]}, "bulwark_postgres_password (openssl rand -hex 24 makes one)"),
        ({"roles": [{"name": "app", "password": "short"}]}, "12 characters or more"),
        ({"roles": [{"name": "app", "password": PASSWORD, "flags": ["CREATEBD"]}]}, "'CREATEBD' of role 'app'"),
        ({"roles": [{"name": "a"}, {"name": "a"}]}, "the name 'a' is there twice"),
        ({"roles": [{"name": "a", "member_of": ["b;"]}]}, "'b;' cannot be a name"),
        ({"databases": [{"name": "my db"}]}, "'my db' cannot be a name"),
        ({"databases": [{"name": "db", "owner": "o'neill"}]}, "cannot be a name"),
        ({"extensions": [{"name": "x'y"}]}, "cannot be a name"),
        ({"grants": [{"role": "r", "database": "d", "privs": ["SELCT"], "type": "table"}]}, "not 'SELCT'"),
        ({"grants": [{"role": "r", "database": "d", "privs": []}]}, "needs privs of CONNECT, CREATE, TEMPORARY or ALL"),
        ({"grants": [{"role": "r", "database": "d", "privs": ["ALL"], "type": "view"}]}, "has the type 'view'"),
        ({"grants": [{"role": "r", "database": "d", "privs": ["ALL"], "type": "default_privs"}]}, "needs an owner"),
        ({"grants": [{"role": "r", "database": "d", "privs": ["ALL"], "type": "schema", "objs": ["a'"]}]}, "a name"),
    ],
)
def test_bad_input_ends_in_one_sentence(more, words):
    found = problems(**more)
    assert len(found) == 1, found
    assert words in found[0]


def test_no_sentence_shows_a_password():
    assert "pa55" not in " ".join(problems(roles=[{"name": "app", "password": "pa55"}]))


def test_another_major_with_data_is_refused():
    found = problems({"postgres_clusters": ["15/main"]})
    assert len(found) == 1
    assert "data of PostgreSQL 15 in /var/lib/postgresql/15/main" in found[0]
    assert "postgres_tuned_version: '15'" in found[0]


@pytest.mark.parametrize(
    ("version", "host"),
    [
        ("", {"postgres_clusters": ["17/main"]}),
        ("", {"postgres_clusters": ["15/main", "17/main"]}),
        ("15", {"postgres_clusters": ["15/main"], "packages": {"postgresql-15": "15.4-1"}}),
    ],
)
def test_the_same_major_with_data_is_fine(version, host):
    assert problems(host, version=version) == []


def test_open_to_the_world_when_asked_for():
    assert problems(hba=[{"address": "all"}], hba_open_to_world=True) == []
    assert problems(hba=[{"address": "all", "method": "reject"}]) == []


# files and units


def test_hba_lines():
    one = {"type": "hostssl", "databases": ["app", "my db"], "users": ["app"], "address": "10.0.0.0/24"}
    done = plan(hba=[one, {"type": "local", "method": "peer", "options": "map=x"}])
    assert [postgres.hba_line(line) for line in done["hba"]] == [
        'hostssl app,"my db" app 10.0.0.0/24 scram-sha-256',
        "local all all peer map=x",
    ]


def test_other_hosts_come_with_tls():
    assert postgres.postgres_hba(["10.0.0.0/24"])[-1] == {"type": "hostssl", "address": "10.0.0.0/24"}


def test_firewall_rules():
    rule = {"port": 5432, "from": ["10.0.0.0/24"], "name": "postgresql"}
    assert postgres.postgres_firewall_rules(["10.0.0.0/24"]) == [rule]


def test_files_hold_no_secret():
    assert PASSWORD not in json.dumps(postgres.postgres_files(plan()))


def test_the_unit_reloads_and_never_restarts_by_files():
    unit = postgres.postgres_units(plan(cpus=2.5))[-1]
    assert unit["name"] == "postgresql@17-main.service"
    assert "restart_on" not in unit
    assert unit["live"]
    assert "/etc/postgresql/17/main/pg_hba.conf" in unit["reload_on"]
    assert unit["sections"]["Unit"] == {}
    assert (unit["sections"]["Service"]["MemoryHigh"], unit["sections"]["Service"]["CPUWeight"]) == ("4096M", 250)


def test_libraries_are_looked_for_before_a_restart():
    commands = postgres.postgres_validations(plan(settings={"shared_preload_libraries": "pg_cron, /opt/x/own"}))
    assert commands[1:] == ["test -e /usr/lib/postgresql/17/lib/pg_cron.so"]
    assert "--config-file=/etc/postgresql/17/main/postgresql.conf" in commands[0]
    assert len(postgres.postgres_validations(plan(settings={"shared_preload_libraries": ""}))) == 1


def test_a_private_address_is_waited_for():
    unit = postgres.postgres_units(plan(listen_addresses=["10.0.0.5"]))[-1]
    assert unit["sections"]["Unit"]["After"] == "network-online.target"


# what the server lacks

ROLE = dict(postgres.FLAGS.values())


def server(password: str = PASSWORD, **more: Any) -> str:
    """What the script prints on a server that has all that GIVEN asks for."""
    role = {**ROLE, "password": postgres.scram_verifier(password, b"salt", 16), "member_of": []}
    state = {
        "pending": [],
        "errors": [],
        "hba_errors": [],
        "overridden": [],
        "checksums": "on",
        "huge_pages": None,
        "databases": {"app": "app", "postgres": "postgres"},
        "roles": {"app": role},
    }
    database = {"database": "postgres", "extensions": ["plpgsql", "pg_stat_statements"], "grants": {}}
    return "\n".join([json.dumps({**state, **more}), json.dumps(database)])


def lacking(output: str, **more: Any) -> dict[str, list[Any]]:
    return {kind: found for kind, found in postgres.postgres_changes(plan(**more), output).items() if found}


def test_a_new_server_lacks_all():
    found = lacking("")
    assert [one["name"] for one in found["roles"]] == ["app"]
    assert [one["name"] for one in found["databases"]] == ["app"]
    assert found["extensions"] == [{"name": "pg_stat_statements", "database": "postgres"}]


def test_a_complete_server_lacks_nothing():
    assert lacking(server()) == {}


def test_a_changed_password():
    assert list(lacking(server("another-password"))) == ["roles"]


def test_no_change_shows_a_password():
    assert PASSWORD not in json.dumps(lacking(server("another-password")))
    assert "SCRAM" not in json.dumps(lacking(server("another-password")))


@pytest.mark.parametrize("flags", [["CREATEDB"], ["NOLOGIN"], ["createdb", "nologin"]])
def test_changed_flags(flags):
    found = lacking(server(), roles=[{"name": "app", "password": PASSWORD, "flags": flags}])
    assert set(map(str.upper, flags)) <= set(found["roles"][0]["flags"].split(","))


def test_a_role_without_a_password_keeps_what_it_has():
    assert lacking(server(), roles=[{"name": "app"}]) == {}


def test_memberships():
    found = lacking(server(), roles=[{"name": "app", "password": PASSWORD, "member_of": ["readers"]}])
    assert found == {"memberships": [{"role": "app", "group": "readers"}]}


def test_another_owner():
    assert lacking(server(databases={"app": "postgres"})) == {"databases": [{"name": "app", "owner": "app"}]}
    assert lacking(server(databases={"app": "postgres"}), databases=[{"name": "app"}]) == {}


def test_grants_are_told_apart_by_their_place():
    grants = [{"role": "r", "database": "app", "privs": [priv]} for priv in ("CONNECT", "CREATE")]
    output = server() + "\n" + json.dumps({"database": "app", "extensions": [], "grants": {"0": True, "1": False}})
    assert [one["privs"] for one in lacking(output, grants=grants)["grants"]] == [["CREATE"]]


def test_the_script_looks_into_each_database_once():
    grants = [{"role": "r", "database": "app", "privs": ["ALL"], "type": kind} for kind in ("database", "table")]
    script = postgres.postgres_state_sql(plan(grants=grants, extensions=[{"name": "pg_trgm", "database": "app"}]))
    assert script.count('\\connect "app"') == 1
    for word in ("has_database_privilege", "'CREATE'", "has_table_privilege", "'TRUNCATE'"):
        assert word in script


def test_complaints():
    assert postgres.postgres_complaints(server()) == []
    assert "include_dir" in postgres.postgres_complaints(server(included=False))[0]
    assert postgres.postgres_complaints(server(errors=["a"], hba_errors=["b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("state", "more", "words"),
    [
        ({"pending": ["shared_buffers"]}, {}, "wait for a restart of PostgreSQL: shared_buffers."),
        ({"overridden": ["work_mem", "jit"]}, {}, "what the role sets: work_mem."),
        ({"checksums": "off"}, {}, "pg_checksums --enable"),
        ({"huge_pages": "off"}, {"memory_mb": 65536}, "without huge pages"),
    ],
)
def test_notes(state, more, words):
    (note,) = postgres.postgres_notes(plan(**more), server(**state), False)
    assert words in note


def test_a_restart_that_was_allowed_is_no_news():
    assert postgres.postgres_notes(plan(), server(pending=["shared_buffers"]), True) == []
