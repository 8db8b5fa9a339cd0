"""PostgreSQL: what is decided without a server. The rest is in tests/backups/test_postgres.py."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import kind_pgbackrest, kind_postgres, postgres, postgres_globals
from plugins.module_utils._backup.errors import BackupError, SettingsError, SourceError
from plugins.module_utils._backup.postgres import Server, Table

NOW = datetime(2026, 11, 20, 16, 0, 0, tzinfo=timezone.utc)
# As pg_dumpall 17 writes it, with names and texts that have everything in them.
GLOBALS = r"""--
-- PostgreSQL database cluster dump; isn't SQL
--

\restrict aBc;'

SET default_transaction_read_only = off;

--
-- Roles
--

CREATE ROLE "Odd ""Role; x";
ALTER ROLE "Odd ""Role; x" WITH NOSUPERUSER NOLOGIN;
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a==$b=:c=';
COMMENT ON ROLE app IS 'the app''s;
-- role';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:d==$e=:f=';

ALTER ROLE app SET work_mem TO '8MB';

GRANT "Odd ""Role; x" TO app WITH ADMIN OPTION GRANTED BY postgres;
GRANT pg_monitor TO postgres GRANTED BY postgres;

CREATE TABLESPACE fast OWNER postgres LOCATION '/mnt/fast';
GRANT ALL ON TABLESPACE fast TO app;

\unrestrict aBc;'
"""
ABOUT: dict[str, Any] = {
    "name": "shop",
    "owner": "app",
    "encoding": "UTF8",
    "collate": "C.UTF-8",
    "ctype": "C.UTF-8",
    "provider": "c",
    "locale": None,
    "icu_rules": None,
    "connection_limit": -1,
    "comment": None,
    "tablespace": "pg_default",
    "tablespaces": ["pg_default"],
    "acl": None,
    "settings": [],
}


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sql"), [("plain", "'plain'"), ("it's", "'it''s'"), ("a\\b'c", " E'a\\\\b''c'"), ("", "''")]
)
def test_texts_are_quoted(text: str, sql: str) -> None:
    assert postgres.literal(text) == sql


def test_names_are_quoted_the_same_whatever_the_version_of_the_server() -> None:
    assert postgres.label("public", "jobs") == "public.jobs"
    assert postgres.label("public", "user") == "public.user"
    assert postgres.label("Mixed", 'a"b.c') == '"Mixed"."a""b.c"'


def test_a_name_cannot_add_words_to_a_connection() -> None:
    info = Server("/run/pg", 5433, "postgres").conninfo("x' host='evil\\")
    assert info == "host='/run/pg' port='5433' user='postgres' dbname='x\\' host=\\'evil\\\\'"


@pytest.mark.parametrize(
    ("database", "member"),
    [
        ("shop", "shop.dump"),
        ("my-archive_2", "my-archive_2.dump"),
        ("../etc/passwd", "~2e.~2fetc~2fpasswd.dump"),
        ("größe", "gr~c3~b6~c3~9fe.dump"),
        ("a~b c", "a~7eb~20c.dump"),
    ],
)
def test_members_have_names_that_every_store_takes(database: str, member: str) -> None:
    assert kind_postgres.member_of(database) == member
    assert "/" not in kind_postgres.member_of(database)


def test_different_databases_have_different_members() -> None:
    names = ["a b", "a~20b", "a_b", "A b", "a  b", ".a", "~2ea"]
    assert len({kind_postgres.member_of(name) for name in names}) == len(names)


# --- what is chosen ----------------------------------------------------------------------------------------------


def test_kept_databases_are_not_backed_up_unless_named() -> None:
    present = ["postgres", "shop", "shop_before_20261120t160000z", "shop_restore_20261120t160000z"]
    assert kind_postgres.chosen("pg", [], present) == ["postgres", "shop"]
    assert kind_postgres.chosen("pg", [present[2]], present) == [present[2]]


def test_a_database_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match=r"no database 'shpo'.*did you mean 'shop'"):
        kind_postgres.chosen("pg", ["shpo"], ["shop"])


def test_the_program_is_that_of_the_major_or_of_the_next_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for major in ("9.6", "14", "16", "17"):
        path = tmp_path / major / "bin/initdb"
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(postgres, "PROGRAMS", tmp_path)
    assert postgres.program("initdb", 14).endswith("/14/bin/initdb")
    assert postgres.program("initdb", 15).endswith("/16/bin/initdb")
    with pytest.raises(SourceError, match=r"initdb of PostgreSQL 18 or later .*it has 14, 16, 17"):
        postgres.program("initdb", 18)
    assert postgres.newest("initdb").endswith("/17/bin/initdb")
    assert postgres.newest("pg_dump") == "pg_dump"
    with pytest.raises(SourceError, match="it has none"):
        postgres.program("pg_dump", 14)


def test_locks_are_taken_before_anything_is_read() -> None:
    sql = kind_postgres.lock_sql([Table("public", "jobs", 0), Table("Mixed", "Or der", 0)]).splitlines()
    assert sql[1] == "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    assert sql[2:] == ['LOCK TABLE ONLY "public"."jobs", ONLY "Mixed"."Or der" IN ACCESS SHARE MODE;']


def test_many_tables_are_locked_in_statements_of_bearable_length() -> None:
    sql = kind_postgres.lock_sql(Table("public", f"t{n}", 0) for n in range(1201))
    assert sql.count("LOCK TABLE") == 3
    assert sql.count("ONLY ") == 1201


# --- roles -------------------------------------------------------------------------------------------------------


def test_the_statements_of_a_script_are_told_apart() -> None:
    found = list(postgres_globals.statements(GLOBALS))
    assert found[0] == "SET default_transaction_read_only = off;"
    assert found[1] == 'CREATE ROLE "Odd ""Role; x";'
    assert "COMMENT ON ROLE app IS 'the app''s;\n-- role';" in found
    assert len(found) == 13
    assert not [one for one in found if "restrict" in one]


def test_a_new_cluster_gets_all_roles_but_its_own_and_no_tablespaces() -> None:
    script = postgres_globals.for_new_cluster(GLOBALS, "postgres")
    assert "CREATE ROLE app;" in script
    assert "CREATE ROLE postgres;" not in script
    assert "ALTER ROLE postgres WITH" in script
    assert "TABLESPACE" not in script


def test_only_missing_roles_are_made_with_what_belongs_to_them() -> None:
    made, script = postgres_globals.for_missing_roles(GLOBALS, {"postgres", "pg_monitor", "app"})
    assert made == ['Odd "Role; x']
    assert script.splitlines() == [
        'CREATE ROLE "Odd ""Role; x";',
        'ALTER ROLE "Odd ""Role; x" WITH NOSUPERUSER NOLOGIN;',
        'GRANT "Odd ""Role; x" TO app WITH ADMIN OPTION GRANTED BY postgres;',
    ]


def test_no_role_is_touched_when_all_are_there() -> None:
    assert postgres_globals.for_missing_roles(GLOBALS, {"postgres", "pg_monitor", "app", 'Odd "Role; x'}) == ([], "")


# --- databases ---------------------------------------------------------------------------------------------------


def test_a_database_is_made_like_that_of_the_backup() -> None:
    assert postgres_globals.create({**ABOUT, "tablespace": ""}, "new", 14) == (
        'CREATE DATABASE "new" TEMPLATE template0 OWNER "app" ENCODING \'UTF8\' '
        "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
    )
    icu = {**ABOUT, "provider": "i", "locale": "de-DE", "icu_rules": "&a < b"}
    assert postgres_globals.create(icu, "shop", 17).endswith(
        "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' ICU_RULES '&a < b' TABLESPACE \"pg_default\""
    )
    builtin = {**ABOUT, "provider": "b", "locale": "C.UTF-8"}
    assert "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'" in postgres_globals.create(builtin, "shop", 17)


def test_rights_and_settings_of_a_database_come_back() -> None:
    about = {
        **ABOUT,
        "comment": "it's",
        "connection_limit": 5,
        "acl": [["app", "CREATE", False], [None, "CONNECT", False], ["Odd", "CONNECT", True]],
        "settings": [
            [None, "app.Key=a=b'c"],
            [None, 'search_path="$user", public, "Mi,""xed"'],
            ["app", "search_path="],
            ["app", 'search_path=""'],
        ],
    }
    assert postgres_globals.finish(about, "new").splitlines() == [
        'ALTER DATABASE "new" CONNECTION LIMIT 5;',
        "COMMENT ON DATABASE \"new\" IS 'it''s';",
        'REVOKE ALL ON DATABASE "new" FROM PUBLIC, "app";',
        'GRANT CREATE ON DATABASE "new" TO "app";',
        'GRANT CONNECT ON DATABASE "new" TO PUBLIC;',
        'GRANT CONNECT ON DATABASE "new" TO "Odd" WITH GRANT OPTION;',
        'ALTER DATABASE "new" SET "app"."Key" TO \'a=b\'\'c\';',
        "ALTER DATABASE \"new\" SET \"search_path\" TO '$user', 'public', 'Mi,\"xed';",
        'ALTER ROLE "app" IN DATABASE "new" SET "search_path" TO \'\';',
        'ALTER ROLE "app" IN DATABASE "new" SET "search_path" TO \'\';',
    ]


# --- comparison --------------------------------------------------------------------------------------------------


def rows(found: dict[str, int], present: set[str] | None = None, not_counted: tuple[str, ...] = ()) -> Any:
    expected = {"tables": {"public.a": 1, "public.b": 2}, "not_counted": list(not_counted)}
    return postgres.compare_rows("shop", expected, found, set(found) if present is None else present)[0]


def test_equal_rows_pass_and_say_how_many() -> None:
    check = rows({"public.a": 1, "public.b": 2})
    assert check.ok
    assert check.text == "2 tables with 3 rows, as in the dump's own snapshot"


def test_what_differs_is_named() -> None:
    assert rows({"public.a": 1, "public.b": 3}).text == "public.b has 3 rows, 2 are in the backup"
    assert rows({"public.a": 1}).text == "public.b is missing"
    more = rows({"public.a": 1, "public.b": 2}, {"public.a", "public.b", "public.c"})
    assert (more.ok, more.text) == (False, "public.c is not in the backup")


def test_a_table_that_was_too_large_to_count_must_be_there() -> None:
    both = {"public.a": 1, "public.b": 2}
    assert rows(both, {*both, "public.huge"}, ("public.huge",)).ok
    assert rows(both, {*both}, ("public.huge",)).text == "public.huge is missing"


def test_a_long_list_of_differences_is_cut() -> None:
    assert postgres.few([str(n) for n in range(8)]) == "0; 1; 2; 3; 4; and 3 more"


def test_a_sequence_may_have_moved_while_the_dump_ran() -> None:
    expected = postgres.spans({"a": 5, "b": None, "c": 9, "gone": 1}, {"a": 8, "b": None, "c": 2, "new": 1})
    assert expected == {"a": [5, 8], "b": [0, 0], "c": None}
    assert postgres.compare_sequences("shop", expected, {"a": 6, "b": None, "c": 400}).ok
    check = postgres.compare_sequences("shop", expected, {"a": 9, "c": 1})
    assert check.text == "b is missing; a is at 9, it was between 5 and 8"


@pytest.mark.parametrize(
    ("assertion", "databases", "expected"),
    [
        ("SELECT true", ["postgres", "shop"], ("shop", "SELECT true")),
        ("SELECT true", ["postgres"], ("postgres", "SELECT true")),
        ("shop: SELECT true", ["shop", "crm"], ("shop", "SELECT true")),
        ('"My Shop": SELECT 1 = 1', ["My Shop", "crm"], ("My Shop", "SELECT 1 = 1")),
        ("SELECT a::text = 'x: y' FROM t", ["shop"], ("shop", "SELECT a::text = 'x: y' FROM t")),
    ],
)
def test_assertions_find_their_database(assertion: str, databases: list[str], expected: tuple[str, str]) -> None:
    assert postgres.place_assertion(assertion, databases) == expected


def test_an_assertion_that_could_be_about_two_databases_is_refused() -> None:
    with pytest.raises(BackupError, match="does not say which of the databases shop, crm"):
        postgres.place_assertion("SELECT true", ["shop", "crm"])


# --- restore -----------------------------------------------------------------------------------------------------


def content(**tables: dict[str, int]) -> kind_postgres.Content:
    evidence = {name: {"tables": held, "major": 17} for name, held in tables.items()}
    return kind_postgres.Content("", {}, evidence)


def test_what_is_restored() -> None:
    found = content(shop={"public.a": 1}, postgres={})
    assert kind_postgres.to_restore(found, "", "") == {"shop": "shop"}
    assert kind_postgres.to_restore(found, "postgres", "") == {"postgres": "postgres"}
    assert kind_postgres.to_restore(found, "shop", "new") == {"shop": "new"}
    assert kind_postgres.to_restore(found, "", "new") == {"shop": "new"}
    assert kind_postgres.to_restore(content(postgres={"public.a": 1}), "", "") == {"postgres": "postgres"}


def test_wrong_targets_are_refused() -> None:
    found = content(shop={}, crm={})
    with pytest.raises(SettingsError, match=r"no database 'shp'.*did you mean 'shop'"):
        kind_postgres.to_restore(found, "shp", "")
    with pytest.raises(SettingsError, match="as=new needs one database"):
        kind_postgres.to_restore(found, "", "new")
    with pytest.raises(SettingsError, match="too long"):
        kind_postgres.to_restore(found, "shop", "x" * 64)
    with pytest.raises(SettingsError, match="port=x is not a number"):
        kind_postgres.port_of({"port": "x"}, 5432)


def test_a_long_name_keeps_the_time_and_loses_its_end() -> None:
    assert kind_postgres.beside("shop", "before", NOW) == "shop_before_20261120t160000z"
    name = kind_postgres.beside("ü" * 31, "restore", NOW)
    assert len(name.encode()) <= 63
    assert kind_postgres.KEPT.fullmatch(name)


def test_old_and_new_change_places_in_an_order_that_never_takes_a_name_twice() -> None:
    fresh = {"shop": "shop_restore_1", "crm": "crm_restore_1"}
    names = {"shop", "shop_restore_1", "crm_restore_1"}
    for old, new in kind_postgres.moves(fresh, {"shop": "shop_before_1"}):
        assert old in names
        assert new not in names
        names = names - {old} | {new}
    assert names == {"shop", "crm", "shop_before_1"}


def test_the_way_back_is_said_with_what_has_to_be_typed() -> None:
    said = kind_postgres.report("pg", "B", {"shop": "shop"}, {"shop": "shop_before_20261120t160000z"})
    assert said[1].endswith("restore pg --to undo=shop_before_20261120t160000z --yes")
    odd = kind_postgres.report("pg", "B", {"a b": "a b"}, {"a b": "a_before_20261120t160000z"})
    assert odd[1].endswith("--to undo=a_before_20261120t160000z --to 'database=a b' --yes")


# --- pgBackRest --------------------------------------------------------------------------------------------------


def made(kind: str, hours: float, **more: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": {"start": (NOW - timedelta(hours=hours)).timestamp()}, **more}


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], "full"),
        ([made("full", 2)], "incr"),
        ([made("full", 24)], "diff"),
        ([made("full", 23.2)], "diff"),
        ([made("full", 50), made("incr", 2)], "diff"),
        ([made("full", 50), made("diff", 2)], "incr"),
        ([made("full", 167.5), made("diff", 2)], "full"),
        # A week in which nothing ran.
        ([made("full", 400)], "full"),
        # One with damaged pages is none to build on.
        ([made("full", 200), made("full", 2, error=True)], "full"),
    ],
)
def test_the_type_goes_by_the_age_of_what_is_there(present: list[dict[str, Any]], expected: str) -> None:
    assert kind_pgbackrest.next_type(present, 7, NOW) == expected


def chain(*labels: str) -> list[dict[str, Any]]:
    """Backups by pgBackRest's own labels: C(1F), C(1F_2D), C(1F_3I); each I builds on the one before."""
    kinds = {"F": "full", "D": "diff", "I": "incr"}
    found: list[dict[str, Any]] = []
    for label in labels:
        kind = kinds[label[-1]]
        full = label.split("_")[0]
        prior = None if kind == "full" else full if kind == "diff" else found[-1]["label"]
        found.append({"label": label, "type": kind, "prior": prior, "reference": [prior] if prior else None})
    return found


@pytest.mark.parametrize(
    ("unwanted", "gone"),
    [
        ({"1F_2D"}, ["1F_2D"]),
        ({"1F"}, []),
        ({"1F", "1F_2D", "1F_3I"}, ["1F_2D"]),
        ({"1F", "1F_2D", "1F_3I", "1F_4I"}, ["1F_4I", "1F_3I", "1F_2D", "1F"]),
        ({"5F", "unknown"}, ["5F"]),
    ],
)
def test_only_what_nothing_builds_on_is_expired(unwanted: set[str], gone: list[str]) -> None:
    present = chain("1F", "1F_2D")
    present += [
        {"label": "1F_3I", "type": "incr", "prior": "1F", "reference": ["1F"]},
        {"label": "1F_4I", "type": "incr", "prior": "1F_3I", "reference": ["1F", "1F_3I"]},
        *chain("5F"),
    ]
    assert kind_pgbackrest.expirable(present, unwanted) == gone


def test_the_last_full_backup_stays() -> None:
    assert kind_pgbackrest.expirable(chain("1F", "1F_2D"), {"1F", "1F_2D"}) == ["1F_2D"]


def test_an_entry_of_info_is_what_the_manifest_keeps() -> None:
    entry = json.loads(
        '{"archive":{"start":"A4","stop":"A6"},"error":false,"info":{"delta":8457,"repository":{"delta":384,'
        '"size":8532103},"size":69826000},"label":"20261120-165237F_20261120-165245I","lsn":{"start":"0/5","stop":"0/6"},'
        '"prior":"20261120-165237F","timestamp":{"start":1795193565,"stop":1795193567},"type":"incr"}'
    )
    found = kind_pgbackrest.described("main", entry)
    assert found["plain_bytes"] == 69826000
    assert found["stored_bytes"] == 384
    assert found["started"] == "2026-11-20T16:52:45+00:00"
    assert json.loads(json.dumps(found)) == found


def test_two_directories_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was_{name}").touch()
    kind_pgbackrest.swap(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/was_b").exists()
    assert (tmp_path / "b/was_a").exists()
    with pytest.raises(BackupError, match="could not change places: No such file"):
        kind_pgbackrest.swap(tmp_path / "a", tmp_path / "c")
