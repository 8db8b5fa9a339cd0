from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from plugins.module_utils._backup import kind_clickhouse
from plugins.module_utils._backup.kind_clickhouse import Table

EVENTS = "CREATE TABLE shop.events ( d Date,  id UInt64) ENGINE = MergeTree ORDER BY id"


def test_user_and_password_are_in_a_file_for_root(tmp_path: Path) -> None:
    ask = kind_clickhouse.client(tmp_path, {**kind_clickhouse.OPTIONS, "password": "a<b&c", "tls": True})
    command = ask("SELECT 1")
    assert command.argv[2:] == ("--host", "127.0.0.1", "--port", "9000", "--secure", "--query", "SELECT 1")
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "<password>a&lt;b&amp;c</password>" in file.read_text()
    assert "--query" not in ask().argv


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (EVENTS, EVENTS.replace("shop.events", "`new`.`events`")),
        (
            "CREATE TABLE shop.`.inner.mv` ( d Date) ENGINE = Log",
            "CREATE TABLE `new`.`events` ( d Date) ENGINE = Log",
        ),
        (
            "CREATE TABLE `od``d`.events UUID '1-2' (x Int8 DEFAULT 1, shop.events Int8) ENGINE = Log",
            "CREATE TABLE `od``d`.events UUID '1-2' (x Int8 DEFAULT 1, shop.events Int8) ENGINE = Log",
        ),
        (
            "CREATE TABLE shop.events UUID 'ab-c' (s String DEFAULT 'CREATE TABLE a.b') ENGINE = Log",
            "CREATE TABLE `new`.`events` (s String DEFAULT 'CREATE TABLE a.b') ENGINE = Log",
        ),
        (
            "CREATE TABLE shop.events (d Date) ENGINE = ReplicatedReplacingMergeTree('/t/{s}', '{r}', v) ORDER BY d",
            "CREATE TABLE `new`.`events` (d Date) ENGINE = ReplacingMergeTree(v) ORDER BY d",
        ),
        (
            "CREATE TABLE shop.events (d Date) ENGINE = ReplicatedMergeTree('/t/{shard}', '{replica}') ORDER BY d",
            "CREATE TABLE `new`.`events` (d Date) ENGINE = MergeTree() ORDER BY d",
        ),
        (
            "CREATE TABLE shop.events (d Date) ENGINE = ReplicatedMergeTree ORDER BY d",
            "CREATE TABLE `new`.`events` (d Date) ENGINE = MergeTree ORDER BY d",
        ),
    ],
)
def test_a_table_in_another_database(sql: str, expected: str) -> None:
    assert Table("shop", "events", "MergeTree", sql).made_in("new") == expected


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        *[
            (name, True)
            for name in ("MergeTree", "ReplicatedSummingMergeTree", "Log", "TinyLog", "StripeLog", "Memory")
        ],
        *[(name, False) for name in ("View", "MaterializedView", "Distributed", "Kafka", "Null", "Dictionary", "S3")],
    ],
)
def test_which_tables_have_rows_of_their_own(engine: str, expected: bool) -> None:
    assert Table("shop", "t", engine, "").has_rows is expected


def test_names_that_would_be_something_else() -> None:
    table = Table("a/b", "x`y\\z", "Log", "")
    assert table.full_name == "`a/b`.`x\\`y\\\\z`"
    assert table.member == "a%2Fb.x%60y%5Cz.native"
    assert kind_clickhouse.schema(["it's"]).count("'it\\'s'") == 1


def test_the_schema_is_read_as_it_was_written() -> None:
    line = {"database": "shop", "name": "events", "engine": "MergeTree", "create_table_query": EVENTS}
    assert kind_clickhouse.tables_of(json.dumps(line) + "\n") == [Table("shop", "events", "MergeTree", EVENTS)]


@pytest.mark.parametrize(
    ("rows", "found", "ok"),
    [
        ([10, 10], 10, True),
        ([10, 10], 9, False),
        ([10, 20], 15, True),
        ([1000, 1100], 1300, False),
        ([20, 10], 5, True),
    ],
)
def test_rows(rows: list[int], found: int, ok: bool) -> None:
    assert kind_clickhouse.check_rows(Table("shop", "events", "Log", ""), rows, found).ok is ok
