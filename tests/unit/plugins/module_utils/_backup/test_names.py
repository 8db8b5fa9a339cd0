"""Names of objects: both directions, and what is not ours."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._backup import names
from plugins.module_utils._backup.names import Name

words = st.from_regex(rf"\A{names.WORD}\Z", fullmatch=True)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(timezone.utc))
backups = st.builds(names.backup_id, moments, st.binary(min_size=4, max_size=4))
files = st.text(st.characters(blacklist_characters="/\n", blacklist_categories=["Cs"]), min_size=1)
prefixes = st.lists(words, max_size=3).map("/".join)


@given(prefixes, st.builds(Name, words, words, backups, files))
def test_a_key_names_what_it_was_made_of(prefix: str, name: Name) -> None:
    assert names.parse(prefix, names.key(prefix, name)) == name


@given(moments, st.binary(min_size=4, max_size=4))
def test_the_time_of_a_backup_is_in_its_name(moment: datetime, random: bytes) -> None:
    assert names.taken_at(names.backup_id(moment, random)) == moment.replace(microsecond=0)


@given(moments, moments, st.binary(min_size=4, max_size=4))
def test_names_are_in_the_order_of_time(first: datetime, second: datetime, random: bytes) -> None:
    if second - first >= timedelta(seconds=1):
        assert names.backup_id(first, random) < names.backup_id(second, random)


@pytest.mark.parametrize(
    "key",
    [
        "elsewhere/h1/shop/20260301T020000Z-00000000/manifest.json",
        "p/h1/shop/manifest.json",
        "p/h1/shop/20260301T020000Z-00000000/",
        "p/h1/shop/20260301T020000Z-00000000/a/b",
        "p/h1/shop/20260301T020000Z-0000000/manifest.json",
        "p/h1/../20260301T020000Z-00000000/manifest.json",
        "p/h1/probe-0011223344556677",
        "ph1/shop/20260301T020000Z-00000000/manifest.json",
    ],
)
def test_what_is_not_ours_has_no_name(key: str) -> None:
    assert names.parse("p", key) is None


def test_a_time_that_is_none_is_no_name_of_a_backup() -> None:
    assert re.fullmatch(names.BACKUP, "20261301T020000Z-00000000")
    with pytest.raises(ValueError, match="does not match"):
        names.taken_at("20261301T020000Z-00000000")
