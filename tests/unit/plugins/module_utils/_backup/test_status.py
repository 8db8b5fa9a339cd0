"""What people see: the whole table as it is printed, at 80 columns, and each problem in its own words."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from plugins.module_utils._backup import status
from plugins.module_utils._backup.catalogue import Record
from plugins.module_utils._backup.settings import Job, Settings, StoreSettings

NOW = 1_795_000_000.0
HOUR = 3600
GOOD = {
    "last_attempt": NOW - 10 * HOUR,
    "last_success": NOW - 10 * HOUR,
    "error": "",
    "seconds": 12.3,
    "plain_bytes": 737e6,
    "stored_bytes": 102e6,
    "last_good_drill": NOW - 50 * HOUR,
    "drill_error": "",
    "drill_seconds": 41,
}


def settings(*jobs):
    return Settings("web1", StoreSettings("s3"), jobs=jobs)


def shown(how, states, **next_runs):
    return status.status(status.overview(how, states, NOW, next_runs), "web1", NOW, timezone.utc)


def problems(job=None, **changes):
    state = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    job = job or Job("shop", "postgres")
    return status.problems(settings(job), job, state, NOW)


def test_the_table_has_problems_first_and_says_what_to_do():
    jobs = [
        Job("shop", "postgres"),
        Job("media", "restic"),
        Job("analytics", "clickhouse"),
        Job("crm", "redis", host="db2"),
    ]
    media = {**GOOD, "drill_error": "2 files differ", "stored_bytes": 3e6, "seconds": 754, "drill_seconds": 1900}
    crm = {"last_good_drill": NOW - 50 * HOUR, "drill_seconds": 77, "drill_error": ""}
    states = {"shop": GOOD, "media": media, "crm": crm}
    lines = shown(settings(*jobs), states, shop=NOW + 14 * HOUR, media=NOW - 1)
    assert lines == [
        "   job        kind        last backup    age     size    took  drilled     RTO  next",
        "!  media      restic      18 Nov 01:06  10 h  2.9 MiB  13 min  failed   32 min   0 s",
        "!  analytics  clickhouse  never                                never",
        "   shop       postgres    18 Nov 01:06  10 h   97 MiB    12 s  2 d        41 s  14 h",
        "   db2/crm    redis                                            2 d        77 s",
        "",
        "! media",
        "  The last drill failed: 2 files differ",
        "",
        "! analytics",
        "  There is no backup yet: bulwark-backup run analytics",
    ]


def test_what_goes_well_is_silent():
    assert not problems()
    assert len(shown(settings(Job("shop", "postgres")), {"shop": GOOD})) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"error": "The key has ended."}, "The last run failed: The key has ended."),
        ({"last_success": None}, "There is no backup yet"),
        ({"last_success": NOW - 27 * HOUR}, "The newest backup is 27 h old, 26 h are allowed: bulwark-backup run shop"),
        ({"prune_error": "Denied."}, "The last prune failed: Denied."),
        ({"clock_skew_seconds": -1200}, "This host's clock and the store's differ by 20 min: timedatectl"),
        ({"drill_error": "No room."}, "The last drill failed: No room."),
        ({"last_good_drill": NOW - 9 * 86400}, "The newest good drill is 9 d old, 8 d are allowed"),
        ({"last_good_drill": None, "since": NOW - 9 * 86400}, "It was never restored: bulwark-backup drill shop"),
    ],
)
def test_each_problem(changes, words):
    [sentence] = problems(**changes)
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"last_success": NOW - 25 * HOUR},
        {"last_good_drill": NOW - 7 * 86400},
        {"last_good_drill": None},
        {"last_good_drill": None, "since": NOW - 7 * 86400},
        {"clock_skew_seconds": None},
        {"clock_skew_seconds": 60},
    ],
)
def test_limits_are_not_reached_yet(changes):
    assert not problems(**changes)


def test_limits_that_nobody_set():
    assert not problems(Job("shop", "postgres", max_age_hours=0), last_success=1.0)
    assert not problems(Job("shop", "postgres", on_calendar=""), last_success=1.0)
    assert not problems(Job("shop", "postgres", max_drill_age_days=0), last_good_drill=None)


def test_a_drill_host_judges_drills_only():
    assert not problems(Job("crm", "postgres", host="db2"), last_success=None, error="y")
    assert problems(Job("crm", "postgres", host="db2"), last_good_drill=None, since=1.0)


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    def make(text):
        program = tmp_path / "systemctl"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_the_timers_are_those_of_the_jobs(systemctl):
    systemctl(
        json.dumps(
            [
                {"unit": "bulwark-backup@shop.timer", "next": 1_795_050_000_000_000},
                {"unit": "bulwark-backup@notes.timer", "next": None},
            ]
        )
    )
    assert status.timers() == {"shop": 1_795_050_000.0}


@pytest.mark.parametrize("text", ["", "0 timers listed.", "{}", '["x"]'])
def test_without_timers(systemctl, text):
    systemctl(text)
    assert status.timers() == {}


def test_without_systemd(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert status.timers() == {}


def test_listing():
    taken = datetime(2026, 11, 17, 2, tzinfo=timezone.utc)
    records = [
        Record(
            "web1", "shop", f"202611{day}T020000Z-1a2b3c4d", taken + timedelta(days=day - 17), 102 * 2**20, taken, True
        )
        for day in (17, 18)
    ]
    records[0].drills.append("drill-20261117T040000Z.json")
    now = (taken + timedelta(days=1, hours=10)).timestamp()
    assert status.listing(records, now, timezone(timedelta(hours=1))) == [
        "host  job   backup                     taken          age     size  drilled",
        "web1  shop  20261117T020000Z-1a2b3c4d  17 Nov 03:00  34 h  102 MiB  yes",
        "web1  shop  20261118T020000Z-1a2b3c4d  18 Nov 03:00  10 h  102 MiB",
    ]
    assert len(status.listing([], now, timezone.utc)) == 1
