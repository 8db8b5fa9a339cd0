"""PostgreSQL servers: quoting, programs, comparisons, assertions. With a server: tests/backups/test_postgres.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import postgres
from plugins.module_utils._backup.errors import BackupError, SourceError
from plugins.module_utils._backup.postgres import Server


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
