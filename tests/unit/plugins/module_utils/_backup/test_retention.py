"""Retention: its examples to the day, and its laws over all schedules, time zones and clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._backup.retention import PERIODS, dropped, local_zone, tiers
from plugins.module_utils._backup.settings import Keep

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)

# Half an hour of summer, quarters of an hour, a midnight that came twice, a day that never came.
zones = st.sampled_from(
    [UTC, BERLIN, *map(ZoneInfo, ("Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"))]
)
moments = st.one_of(
    st.datetimes(datetime(2009, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    # Many in few periods.
    st.integers(0, 60 * 24 * 40).map(lambda minutes: NOW - timedelta(minutes=minutes)),
    # The hour that comes twice in Berlin.
    st.integers(0, 240).map(lambda minutes: datetime(2026, 10, 24, 23, tzinfo=UTC) + timedelta(minutes=minutes)),
)
counts = st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 100))
keeps = st.builds(Keep, hourly=counts, daily=counts, weekly=counts, monthly=counts, yearly=counts)
backups = st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=4), moments, max_size=30)
settings = st.tuples(keeps, zones)


def every(hours: float, count: int, until: datetime = NOW) -> dict[str, datetime]:
    return {
        f"{until - timedelta(hours=hours * n):%Y-%m-%dT%H:%M}": until - timedelta(hours=hours * n) for n in range(count)
    }


def kept(taken, keep, now=NOW, zone=UTC, proved=()):
    return set(taken) - dropped(taken, keep, now, zone, proved)


# -- examples ---------------------------------------------------------------------------------------------------------


def test_the_default_over_two_years_of_nights():
    found = tiers(every(24, 730), Keep(), NOW, UTC)
    by_tier = {tier: sorted(name[:10] for name in found if found[name] == tier) for tier in set(found.values())}
    assert by_tier == {
        "daily": [f"2026-11-{day}" for day in range(14, 21)],
        # The newest of this week and the last one are daily ones already.
        "weekly": ["2026-11-01", "2026-11-08"],
        "monthly": [
            *("2025-12-31", "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"),
            *("2026-06-30", "2026-07-31", "2026-08-31", "2026-09-30", "2026-10-31"),
        ],
    }


def test_a_job_that_paused_for_a_month_loses_nothing():
    before = every(24, 7, until=NOW - timedelta(days=40))
    assert kept(before, Keep(daily=7, weekly=0, monthly=0)) == set(before)
    # Then one comes after another, and each pushes out one.
    after = {**before, **every(24, 2)}
    assert dropped(after, Keep(daily=7, weekly=0, monthly=0), NOW, UTC) == set(sorted(before)[:2])


def test_a_clock_that_was_set_back():
    """What was made while it was ahead neither goes nor pushes out the good ones."""
    good, ahead = every(24, 7), every(24, 3, until=NOW + timedelta(days=3650))
    assert kept({**good, **ahead}, Keep(daily=7, weekly=0, monthly=0)) == {*good, *ahead}
    assert set(tiers(ahead, Keep(), NOW, UTC).values()) == {"future"}


def test_a_clock_at_1970_drops_nothing():
    assert not dropped(every(1, 500), Keep(), datetime(1970, 1, 1, tzinfo=UTC), UTC)


def test_days_are_those_of_the_host():
    """Two backups of one day in Berlin, on two days in UTC; the later one stays."""
    taken = {name: datetime(2026, 7, *when, tzinfo=UTC) for name, when in (("a", (1, 22, 30)), ("b", (2, 1, 0)))}
    keep = Keep(daily=7, weekly=0, monthly=0)
    assert kept(taken, keep, zone=BERLIN) == {"b"}
    assert kept(taken, keep, zone=UTC) == {"a", "b"}


def test_the_hour_that_autumn_repeats_is_two_hours():
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    taken = {"summer": first, "winter": first + timedelta(hours=1)}
    assert {when.astimezone(BERLIN).hour for when in taken.values()} == {2}
    assert kept(taken, Keep(hourly=24, daily=0, weekly=0, monthly=0), zone=BERLIN) == set(taken)


def test_hours_are_not_days():
    found = kept(every(0.5, 96), Keep(hourly=24, daily=0, weekly=0, monthly=0))
    assert found == {"2026-11-20T12:00", *(f"{NOW - timedelta(minutes=30 + 60 * n):%Y-%m-%dT%H:%M}" for n in range(23))}


def test_a_week_of_last_year_is_another_one():
    taken = {"now": NOW, "then": NOW - timedelta(weeks=52)}
    assert len({when.isocalendar()[1] for when in taken.values()}) == 1
    assert kept(taken, Keep(daily=0, weekly=60, monthly=0)) == set(taken)


def test_a_week_belongs_to_one_year():
    """The last days of 2024 are in the first week of 2025."""
    taken = {"monday": datetime(2024, 12, 30, tzinfo=UTC), "sunday": datetime(2025, 1, 5, tzinfo=UTC)}
    assert kept(taken, Keep(daily=0, weekly=4, monthly=0)) == {"sunday"}


def test_nothing_to_keep_keeps_the_newest_and_the_proved():
    none = Keep(daily=0, weekly=0, monthly=0)
    names = sorted(every(24, 5))
    assert tiers(every(24, 5), none, NOW, UTC, proved=names[1:3]) == {names[-1]: "newest", names[2]: "proved"}


@pytest.mark.parametrize("content", [None, b"", b"not a time zone"])
def test_a_host_without_a_time_zone_has_utc(tmp_path, content):
    if content is not None:
        (tmp_path / "localtime").write_bytes(content)
    assert local_zone(tmp_path / "localtime") is UTC


def test_the_zone_of_the_host_knows_its_summer(tmp_path):
    """As from the link that the installer makes."""
    for folder in ("/usr/share/zoneinfo", "/usr/lib/zoneinfo"):
        (tmp_path / "localtime").unlink(missing_ok=True)
        (tmp_path / "localtime").symlink_to(f"{folder}/Europe/Berlin")
        if (tmp_path / "localtime").exists():
            break
    else:
        pytest.skip("this machine has no time zones")
    zone = local_zone(tmp_path / "localtime")
    assert NOW.replace(month=7).astimezone(zone).hour - NOW.astimezone(zone).hour == 1


# -- laws -------------------------------------------------------------------------------------------------------------


@given(backups, settings, moments, st.data())
def test_what_is_newest_stays(taken, how, now, data):
    proved = data.draw(st.sets(st.sampled_from(sorted(taken)))) if taken else set()
    gone = dropped(taken, how[0], now, how[1], proved)
    assert gone <= set(taken)
    assert not {name for name, when in taken.items() if when > now} & gone
    past = {name: when for name, when in taken.items() if when <= now}
    for group in (set(past), set(past) & proved):
        newest = max((past[name] for name in group), default=None)
        assert newest is None or {name for name in group if past[name] == newest} - gone


@given(backups, settings, moments)
def test_each_tier_has_its_number_or_all_there_are(taken, how, now):
    keep, zone = how
    past = {name: when.astimezone(zone) for name, when in taken.items() if when <= now}
    left = kept(taken, keep, now, zone)
    for tier, period in PERIODS.items():
        there = {period(when) for when in past.values()}
        assert len({period(past[name]) for name in left if name in past}) >= min(getattr(keep, tier), len(there))
    assert len(left & set(past)) <= sum(vars(keep).values()) + 1


@given(backups, settings, moments)
def test_twice_is_once(taken, how, now):
    left = {name: taken[name] for name in kept(taken, how[0], now, how[1])}
    assert not dropped(left, how[0], now, how[1])
    assert tiers(left, how[0], now, how[1]) == tiers(taken, how[0], now, how[1])


@given(backups, settings, st.lists(moments, min_size=1, max_size=6))
def test_pruning_often_keeps_what_pruning_once_keeps(taken, how, times):
    """Backups come when their time has come; what is dropped on the way stays dropped."""
    times = sorted(times)
    there: dict[str, datetime] = {}
    gone: set[str] = set()
    for now in times:
        there.update({name: when for name, when in taken.items() if when <= now and name not in gone})
        gone |= dropped(there, how[0], now, how[1])
        there = {name: when for name, when in there.items() if name not in gone}
    once = {name: when for name, when in taken.items() if when <= times[-1]}
    assert set(there) == kept(once, how[0], times[-1], how[1])


@given(backups, settings, st.tuples(moments, moments).map(sorted))
def test_what_is_dropped_stays_dropped(taken, how, times):
    """Also where the clock was wrong and some are from the future."""
    early, late = (dropped(taken, how[0], now, how[1]) for now in times)
    assert early <= late


@given(backups, settings, moments, st.sampled_from(sorted(PERIODS)), st.integers(1, 9))
def test_a_larger_number_keeps_no_less(taken, how, now, tier, more):
    keep, zone = how
    larger = Keep(**{**vars(keep), tier: getattr(keep, tier) + more})
    # "Newest" is the one exception: a tier that keeps anything keeps it anyway.
    assert kept(taken, keep, now, zone) <= kept(taken, larger, now, zone)
