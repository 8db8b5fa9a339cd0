"""The textfile for node_exporter: what it says, that it can be read, and that nobody ever reads half of it."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.module_utils._backup import errors, metrics
from plugins.module_utils._backup.settings import Job, Settings, StoreSettings

ROOT = Path(__file__).resolve().parents[5]
NOW = 1_795_000_000.5
SHOP = {
    "last_attempt": NOW - 60,
    "error": "",
    "last_success": NOW - 50,
    "seconds": 10.0,
    "plain_bytes": 700,
    "stored_bytes": 100,
    "last_drill_attempt": NOW - 40,
    "drill_error": "rows differ",
    "last_good_drill": NOW - 900,
    "drill_seconds": 4.5,
    "last_prune_attempt": NOW - 30,
    "prune_error": "",
    "clock_skew_seconds": -2.5,
    "backups": 2,
    "backup_bytes": 300,
    "tier_bytes": {"weekly": 200, "daily": 100},
    "unfinished": 1,
    "errors": {"denied": 3},
}
REASONS = {f"errors_total {name}": 0 for name in (*(name for _kind, name in metrics.REASONS), "other")}
SAMPLE = re.compile(r"(\w+)(?:\{((?:\w+=\"(?:[^\"\\\n]|\\[\\\"n])*\",?)*)\})? (-?[0-9.e+]+)")


def settings(**more):
    jobs = (Job("shop", "postgres"), Job("crm", "redis", host="db2"))
    return Settings("web1", StoreSettings("s3"), **{"jobs": jobs, **more})


def samples(text: str, job: str = "shop") -> dict[str, float]:
    """The values of one job, by metric and further labels."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))
            if pairs.pop("backup_job", "") == job:
                pairs.pop("host"), pairs.pop("kind")
                found[" ".join([name.removeprefix("bulwark_backup_"), *pairs.values()])] = float(value)
    return found


def test_all_that_is_known_of_a_job():
    assert samples(metrics.lines(settings(), {"shop": SHOP}, NOW)) == {
        "info s3": 1,
        "max_age_seconds": 26 * 3600,
        "max_drill_age_seconds": 8 * 86400,
        "last_attempt_timestamp_seconds": NOW - 60,
        "last_attempt_success": 1,
        "last_success_timestamp_seconds": NOW - 50,
        "duration_seconds": 10,
        "throughput_bytes_per_second": 70,
        "plain_bytes": 700,
        "stored_bytes": 100,
        "last_drill_timestamp_seconds": NOW - 40,
        "last_drill_success": 0,
        "last_good_drill_timestamp_seconds": NOW - 900,
        "drill_duration_seconds": 4.5,
        "last_prune_timestamp_seconds": NOW - 30,
        "last_prune_success": 1,
        "unfinished_uploads": 1,
        "catalogue_backups": 2,
        "catalogue_bytes": 300,
        "tier_bytes daily": 100,
        "tier_bytes weekly": 200,
        **REASONS,
        "errors_total denied": 3,
        "clock_skew_seconds": -2.5,
    }


def test_a_job_that_never_ran_says_so():
    """Its limits and two zeros: what never was is as loud as what is too old."""
    assert samples(metrics.lines(settings(), {}, NOW)) == {
        **REASONS,
        "info s3": 1,
        "max_age_seconds": 26 * 3600,
        "max_drill_age_seconds": 8 * 86400,
        "last_success_timestamp_seconds": 0,
        "last_good_drill_timestamp_seconds": 0,
    }


def test_a_drill_host_says_nothing_of_the_runs_elsewhere():
    """But of its drills and, where it prunes, of what the store holds."""
    known = samples(metrics.lines(settings(), {"crm": SHOP}, NOW), "crm")
    assert set(known) == {
        *("info s3", "max_drill_age_seconds", "drill_duration_seconds", *REASONS),
        *("last_drill_timestamp_seconds", "last_drill_success", "last_good_drill_timestamp_seconds"),
        *("last_prune_timestamp_seconds", "last_prune_success", "unfinished_uploads"),
        *("catalogue_backups", "catalogue_bytes", "tier_bytes daily", "tier_bytes weekly"),
    }
    assert 'backup_job="crm",host="db2",kind="redis"' in metrics.lines(settings(), {}, NOW)


@pytest.mark.parametrize(
    ("job", "gone"),
    [
        (Job("shop", "postgres", on_calendar=""), "max_age_seconds"),
        (Job("shop", "postgres", max_age_hours=0), "max_age_seconds"),
        (Job("shop", "postgres", max_drill_age_days=0), "max_drill_age_seconds"),
    ],
)
def test_no_limit_no_alert(job, gone):
    assert gone not in samples(metrics.lines(settings(jobs=(job,)), {}, NOW))


def test_what_is_not_known_is_left_out():
    known = samples(metrics.lines(settings(), {"shop": {"clock_skew_seconds": None, "seconds": 0}}, NOW))
    assert not {"clock_skew_seconds", "throughput_bytes_per_second"} & set(known)


@example('a "\\\n', {})
@given(st.text(max_size=20), st.dictionaries(st.sampled_from(sorted(SHOP)), st.sampled_from([None, 0, 1.5, -1])))
def test_any_state_makes_a_file_that_can_be_read(name, state):
    """Labels with quotes and line ends, and a state of another release."""
    state = {key: value for key, value in state.items() if key not in ("tier_bytes", "errors")}
    text = metrics.lines(settings(jobs=(Job(name, "postgres"),)), {name: state}, NOW)
    lines = text.removesuffix("\n").split("\n")
    assert all(line.startswith("# ") or SAMPLE.fullmatch(line) for line in lines)
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert families == [line.split()[2] for line in lines if line.startswith("# HELP")]


def test_the_reasons_cover_every_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BackupError)]
    unknown = {kind.__name__ for kind in kinds if metrics.reason(kind("x")) == "other"}
    assert unknown == {"BackupError"}
    assert metrics.reason(errors.DeniedError("x")) == "denied"
    assert metrics.reason(MemoryError()) == "other"


def test_holdings():
    found = metrics.holdings({"a": 1, "b": 2, "c": 4}, {"a": "daily", "b": "daily"}, 3)
    assert found == {"backups": 3, "backup_bytes": 7, "tier_bytes": {"daily": 3, "dropped": 4}, "unfinished": 3}


def test_a_job_that_never_ran_is_known_from_the_first_file_on(tmp_path):
    """So that one that never runs is missed in time, and not before."""
    how = settings(state_dir=str(tmp_path), metrics_file=str(tmp_path / "x.prom"))
    for now in (NOW, NOW + 100):
        metrics.publish(how, pytest.fail, lambda now=now: now)
        assert samples((tmp_path / "x.prom").read_text())["since_timestamp_seconds"] == NOW
    assert samples((tmp_path / "x.prom").read_text(), "crm")["since_timestamp_seconds"] == NOW


def test_publish_is_for_everybody_to_read(tmp_path):
    """Whatever the mask of the unit says."""
    target = tmp_path / "bulwark-backup.prom"
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    (tmp_path / "crm.json").write_text("{ half a fi")
    old = os.umask(0o077)
    try:
        metrics.publish(settings(state_dir=str(tmp_path), metrics_file=str(target)), pytest.fail, lambda: NOW)
    finally:
        os.umask(old)
    assert target.stat().st_mode & 0o777 == 0o644
    assert samples(target.read_text())["stored_bytes"] == 100
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".prom" and path != target]


def test_a_reader_never_finds_half_a_file(tmp_path):
    target = tmp_path / "bulwark-backup.prom"
    how = settings(state_dir=str(tmp_path), metrics_file=str(target))
    metrics.publish(how, pytest.fail)
    writers = [
        threading.Thread(target=lambda: [metrics.publish(how, pytest.fail) for _ in range(20)]) for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert target.read_text().splitlines()[-1].startswith("bulwark_backup_written_timestamp_seconds ")
    for writer in writers:
        writer.join()


def test_a_folder_that_is_gone_fails_nothing(tmp_path):
    said: list[str] = []
    metrics.publish(settings(state_dir=str(tmp_path), metrics_file=str(tmp_path / "gone/x.prom")), said.append)
    assert len(said) == 1
    assert said[0].startswith("The metrics were not written: ")


def test_no_file_wanted(tmp_path):
    metrics.publish(settings(state_dir=str(tmp_path / "gone")), pytest.fail)


def test_alerts_look_at_metrics_that_there_are():
    text = (ROOT / "roles/backups/files/bulwark_backup.rules.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"\bbulwark_backup_(\w+)(?=[\s{\[)])", text))
    assert used > {"info", "written_timestamp_seconds", "plain_bytes"}
    assert used <= {*metrics.METRICS, "written_timestamp_seconds"}
