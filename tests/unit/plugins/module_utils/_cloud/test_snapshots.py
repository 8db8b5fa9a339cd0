"""Snapshots: when one is due, and which go."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._cloud.build import Snapshot
from plugins.module_utils._cloud.snapshots import is_due, snapshot_name, taken, too_many

NOW = datetime(2026, 11, 20, 2, 0, tzinfo=timezone.utc)


def shot(days: float, server: str = "web1") -> Snapshot:
    name = snapshot_name(server, NOW - timedelta(days=days))
    return Snapshot(f"id {name}", name)


def test_the_name_holds_server_and_time():
    assert shot(0).name == "bulwark-web1-20261120T020000Z"
    assert [one.name for _moment, one in taken([shot(0), shot(1, "web1-old"), Snapshot("1", "by hand")], "web1")] == [
        "bulwark-web1-20261120T020000Z"
    ]


def test_one_is_due_after_a_week():
    assert is_due([], "web1", NOW, 7)
    assert not is_due([shot(6)], "web1", NOW, 7)
    # A timer is never exact.
    assert is_due([shot(6.9)], "web1", NOW, 7)
    assert is_due([shot(1, "web2")], "web1", NOW, 7)
    assert is_due([shot(0.01)], "web1", NOW, 0)


def test_one_from_the_future_does_not_count():
    assert is_due([shot(-400)], "web1", NOW, 7)


def test_what_others_made_stays():
    others = [Snapshot("1", "before the upgrade"), shot(30, "web2")]
    assert too_many([*others, shot(14), shot(7), shot(0)], "web1", 2) == [shot(14)]


def test_zero_keeps_all():
    assert too_many([shot(14), shot(7)], "web1", 0) == []


@given(st.lists(st.integers(0, 400), unique=True), st.integers(1, 5))
def test_the_newest_stay(ages: list[int], keep: int):
    gone = too_many([shot(age) for age in ages], "web1", keep)
    assert gone == [shot(age) for age in sorted(ages)[keep:]]
