"""Tables, sizes and times as people read them."""

from __future__ import annotations

import pytest

from plugins.module_utils._backup.table import bytes_text, seconds_text, table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1023, "1.0 KiB"), (10_200, "10 KiB"), (1_023_000, "999 KiB")),
        *((1_023_999, "1.0 MiB"), (107_000_000, "102 MiB"), (5 * 2**30, "5.0 GiB"), (10**18, "888 PiB")),
    ],
)
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.44, "0.4 s"),
        (1.5, "1.5 s"),
        (2.4, "2 s"),
        (41, "41 s"),
        (119, "119 s"),
        (121, "2 min"),
        (10_000, "3 h"),
        (777_777, "9 d"),
    ],
)
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


def test_table():
    rows = [["shop", "102 MiB", ""], ["media", "1.2 GiB", "never"]]
    assert table(["job", "size", "drill"], rows, right={"size"}) == [
        "job       size  drill",
        "shop   102 MiB",
        "media  1.2 GiB  never",
    ]
    assert table(["job", "size"], []) == ["job  size"]
