"""Dumps of PostgreSQL: what is chosen, locked, named and replaced. The rest is in tests/backups/test_postgres.py."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from plugins.module_utils._backup import kind_postgres
from plugins.module_utils._backup.errors import SettingsError, SourceError
from plugins.module_utils._backup.postgres import Table

NOW = datetime(2026, 11, 20, 16, 0, 0, tzinfo=timezone.utc)


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


def test_kept_databases_are_not_backed_up_unless_named() -> None:
    present = ["postgres", "shop", "shop_before_20261120t160000z", "shop_restore_20261120t160000z"]
    assert kind_postgres.chosen("pg", [], present) == ["postgres", "shop"]
    assert kind_postgres.chosen("pg", [present[2]], present) == [present[2]]


def test_a_database_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match=r"no database 'shpo'.*did you mean 'shop'"):
        kind_postgres.chosen("pg", ["shpo"], ["shop"])


def test_locks_are_taken_before_anything_is_read() -> None:
    sql = kind_postgres.lock_sql([Table("public", "jobs", 0), Table("Mixed", "Or der", 0)]).splitlines()
    assert sql[1] == "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    assert sql[2:] == ['LOCK TABLE ONLY "public"."jobs", ONLY "Mixed"."Or der" IN ACCESS SHARE MODE;']


def test_many_tables_are_locked_in_statements_of_bearable_length() -> None:
    sql = kind_postgres.lock_sql(Table("public", f"t{n}", 0) for n in range(1201))
    assert sql.count("LOCK TABLE") == 3
    assert sql.count("ONLY ") == 1201


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
